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
	"time"

	"kidoban/gateway"
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

	streams                streams
	beatEvery, takenWithin time.Duration // of a stream; 0: the constants of these names
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	status, answer, err := h.answer(w, r)
	if s, ok := answer.(*stream); ok && err == nil {
		s.send(w, r, h)
		return
	}
	respond(w, status, answer, err)
}

// Offline gives the JSON of the answer to a question where no gateway runs.
func Offline(s *view.Snapshot, path string, query url.Values, now time.Time) ([]byte, error) {
	answer, err := routes[path].serve(request{snap: s, now: now, query: query}, nil)
	if err != nil {
		return nil, err
	}
	return encoded(answer)
}

func (h *Handler) answer(w http.ResponseWriter, r *http.Request) (status int, answer any, err error) {
	actor, err := h.Who(r)
	there, ok := routes[r.URL.Path]
	get := there.method == http.MethodGet
	switch {
	case err != nil:
		return 0, nil, problem(http.StatusForbidden, "%v", err)
	case !ok:
		return 0, nil, problem(http.StatusNotFound, "%s is not there: allowed is %s", r.URL.Path, strings.Join(slices.Sorted(maps.Keys(routes)), ", "))
	case r.Method != there.method && (r.Method != http.MethodHead || !get):
		w.Header().Set("Allow", there.method)
		return 0, nil, problem(http.StatusMethodNotAllowed, "%s %s: allowed is %s", r.Method, r.URL.Path, there.method)
	}
	// A command takes effect whether or not its client waits.
	q := request{Handler: h, ctx: context.WithoutCancel(r.Context()), actor: actor, header: r.Header, snap: h.Gateway.Snapshot(), now: h.Gateway.Now()}
	if p := q.snap.Plan.Policy; p != nil {
		w.Header().Set(ZoneHeader, p.Zone.String())
	}
	if q.query, err = queryOf(r, there.parameters); err != nil {
		return 0, nil, err
	}
	var body []byte
	if !get {
		if body, err = read(http.MaxBytesReader(w, r.Body, there.most)); err != nil {
			return 0, nil, err
		}
	}
	answer, err = there.serve(q, body)
	return there.status, answer, err
}

func respond(w http.ResponseWriter, status int, answer any, err error) {
	kind := "application/json"
	text, unfit := encoded(answer)
	if unfit != nil {
		err = problem(http.StatusInternalServerError, "the answer cannot be written as JSON: %v", unfit)
	}
	if err != nil {
		p := problemOf(err)
		status, kind = p.Status, "application/problem+json"
		text, _ = encoded(p) // texts and a number are always JSON
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = w.Write(text) // an error means that the client went away
}

func encoded(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}
