// Package api is the operators' interface: HTTP and JSON under /v1, errors as
// problem details (RFC 9457). It serves any transport that can name the client.
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"kidoban/gateway"
	"kidoban/gateway/evidence/catalogue"
	"kidoban/gateway/evidence/desk"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
	"kidoban/gateway/view"
)

// ZoneHeader names the site's time zone beside an answer. The times in the
// answer carry their offset only.
const ZoneHeader = "Kidoban-Timezone"

// Handler serves the routes.
type Handler struct {
	Gateway *gateway.Gateway
	// Who names the client's user. An error refuses the request.
	Who func(*http.Request) (policy.Actor, error)
	// Entries are those of the journal; nil: none can be asked for.
	Entries *store.Feed
	// Evidence is the record of the journal in use.
	Evidence *desk.Desk
	// Live is what only a running gateway knows of itself.
	Live func() catalogue.Live
	// Reports are those about notices.
	Reports *Reports

	memory                 memory
	opening                sync.Mutex       // held while an incident is opened
	table                  map[string]route // nil: routes
	streamsMost            int              // of one person; 0: the constant of this name
	streams                streams
	beatEvery, takenWithin time.Duration // of a stream; 0: the constants of these names
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	answer, err := h.answer(w, r)
	if err != nil {
		answer = replyOf(0, nil, err)
	}
	switch a := answer.(type) {
	case *stream:
		a.send(w, r, h)
	case reply:
		a.write(w)
	}
}

// Offline gives the JSON of the answer to a question where no gateway runs.
func Offline(s *view.Snapshot, path string, query url.Values, now time.Time) ([]byte, error) {
	answer, err := routes[path].serve(request{snap: s, now: now, query: query}, nil)
	if err != nil {
		return nil, err
	}
	return encoded(answer)
}

// answer gives a reply, a *stream, or an error.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request) (any, error) {
	actor, err := h.Who(r)
	table := h.table
	if table == nil {
		table = routes
	}
	there, ok := table[r.URL.Path]
	get := there.method == http.MethodGet
	switch {
	case err != nil:
		return nil, problem(http.StatusForbidden, "%v", err)
	case !ok:
		return nil, problem(http.StatusNotFound, "%s is not there: allowed is %s", r.URL.Path, strings.Join(slices.Sorted(maps.Keys(table)), ", "))
	case r.Method != there.method && (r.Method != http.MethodHead || !get):
		w.Header().Set("Allow", there.method)
		return nil, problem(http.StatusMethodNotAllowed, "%s %s: allowed is %s", r.Method, r.URL.Path, there.method)
	}
	// A command takes effect whether or not its client waits.
	q := request{Handler: h, ctx: context.WithoutCancel(r.Context()), actor: actor, header: r.Header, snap: h.Gateway.Snapshot(), now: h.Gateway.Now()}
	if p := q.snap.Plan.Policy; p != nil {
		w.Header().Set(ZoneHeader, p.Zone.String())
	}
	if q.query, err = queryOf(r, there.parameters); err != nil {
		return nil, err
	}
	if h.Evidence != nil && strings.HasPrefix(r.URL.Path, "/v1/evidence/") {
		h.Evidence.Await(r.Context())
	}
	if !get {
		return h.command(q, there, w, r)
	}
	answer, err := there.serve(q, nil)
	if s, ok := answer.(*stream); ok && err == nil {
		return s, nil
	}
	return replyOf(there.status, answer, err), nil
}

// command does a command, once for each key.
func (h *Handler) command(q request, there route, w http.ResponseWriter, r *http.Request) (any, error) {
	key, err := keyOf(r.Header)
	if err != nil {
		return nil, err
	}
	body, err := read(http.MaxBytesReader(w, r.Body, there.most))
	if err != nil {
		return nil, err
	}
	do := func() reply {
		answer, err := there.serve(q, body)
		return replyOf(there.status, answer, err)
	}
	if key == "" {
		return do(), nil
	}
	q.key, q.digest = idempotencyHash(q.actor, r.URL.Path, key), digestOf(body)
	return h.memory.once(q.key, q.digest, do)
}

// reply is an answer, ready to be sent.
type reply struct {
	status int
	kind   string // of the text
	text   []byte
}

// replyOf is the reply with an answer, or with the problem that an error is.
func replyOf(status int, answer any, err error) reply {
	text, unfit := encoded(answer)
	if unfit != nil {
		err = problem(http.StatusInternalServerError, "the answer cannot be written as JSON: %v", unfit)
	}
	if err == nil {
		return reply{status, "application/json", text}
	}
	p := problemOf(err)
	text, _ = encoded(p) // texts and a number are always JSON
	return reply{p.Status, "application/problem+json", text}
}

func (r reply) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", r.kind)
	w.WriteHeader(r.status)
	_, _ = w.Write(r.text) // an error means that the client went away
}

func encoded(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}
