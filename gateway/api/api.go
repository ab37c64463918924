// Package api is the operators' interface: HTTP and JSON under /v1, errors as
// problem details (RFC 9457). It serves any transport that can name the client.
package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"kidoban/gateway"
	"kidoban/gateway/policy"
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
}

// request is a question (GET) or a command (POST).
type request struct {
	*Handler
	ctx   context.Context
	actor policy.Actor
	snap  *view.Snapshot
	now   time.Time
	query url.Values
	order order
}

type route struct {
	method string
	fields []string // of the query of a question, or of a command's order
	policy bool     // the answer needs a policy in force
	serve  func(request) (any, error)
}

// routes are all paths. A path is compared as it is, without cleaning or redirects.
// The body of a command is {"scope": "...", "reason": "..."}.
var routes = map[string]route{
	"/v1/status":   {method: "GET", serve: func(r request) (any, error) { return r.snap.StatusAt(r.now), nil }},
	"/v1/sessions": {method: "GET", serve: func(r request) (any, error) { return r.snap.Sessions, nil }},
	"/v1/grants":   {method: "GET", serve: func(r request) (any, error) { return r.snap.GrantsAt(r.now), nil }},
	"/v1/refusals": {method: "GET", serve: func(r request) (any, error) { return r.snap.RefusalsLocal(), nil }},
	"/v1/explain": {"GET", []string{"engineer", "from", "to", "at"}, false, func(r request) (any, error) {
		return explain(r.snap, r.query, r.now)
	}},
	"/v1/calendar": {"GET", []string{"from", "until", "vendor", "engineer"}, true, func(r request) (any, error) {
		return Calendar(r.snap.Plan.Policy, r.query, r.now)
	}},
	"/v1/policy": {method: "GET", policy: true, serve: func(r request) (any, error) { return inForce(r.snap), nil }},
	"/v1/client-config": {"GET", []string{"engineer", "mtu"}, true, func(r request) (any, error) {
		text, err := clientConfig(r.snap.Plan.Policy, r.query, r.snap.Key)
		return map[string]string{"config": text}, err
	}},
	"/v1/close": {"POST", []string{"scope", "reason"}, false, func(r request) (any, error) {
		return r.Gateway.Do(r.ctx, r.actor, policy.Shut{Scope: r.order.Scope, Reason: r.order.Reason})
	}},
	"/v1/reopen": {"POST", []string{"scope", "reason"}, false, func(r request) (any, error) {
		return r.Gateway.Do(r.ctx, r.actor, policy.Reopened{Scope: r.order.Scope, Reason: r.order.Reason})
	}},
	"/v1/recover": {"POST", []string{"reason"}, false, func(r request) (any, error) { return r.Gateway.Recover(r.ctx, r.actor, r.order.Reason) }},
	"/v1/reload":  {method: "POST", serve: func(r request) (any, error) { return r.Gateway.Reload(r.ctx, r.actor) }},
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	answer, err := h.answer(w, r)
	respond(w, answer, err)
}

// Offline gives the JSON of the answer to a question where no gateway runs.
func Offline(s *view.Snapshot, path string, query url.Values, now time.Time) ([]byte, error) {
	answer, err := routes[path].serve(request{snap: s, now: now, query: query})
	if err != nil {
		return nil, err
	}
	return encoded(answer)
}

func (h *Handler) answer(w http.ResponseWriter, r *http.Request) (any, error) {
	actor, err := h.Who(r)
	there, ok := routes[r.URL.Path]
	get := there.method == http.MethodGet
	switch {
	case err != nil:
		return nil, problem(http.StatusForbidden, "%v", err)
	case !ok:
		return nil, problem(http.StatusNotFound, "%s is not there: allowed is %s", r.URL.Path, strings.Join(slices.Sorted(maps.Keys(routes)), ", "))
	case r.Method != there.method && (r.Method != http.MethodHead || !get):
		w.Header().Set("Allow", there.method)
		return nil, problem(http.StatusMethodNotAllowed, "%s %s: allowed is %s", r.Method, r.URL.Path, there.method)
	}
	// A command takes effect whether or not its client waits.
	q := request{Handler: h, ctx: context.WithoutCancel(r.Context()), actor: actor, snap: h.Gateway.Snapshot(), now: h.Gateway.Now()}
	p, doubt := q.snap.Plan.Policy, q.snap.Plan.Doubt
	if p != nil {
		w.Header().Set(ZoneHeader, p.Zone.String())
	}
	if get {
		q.query, err = queryOf(r, there.fields)
	} else if _, err = queryOf(r, nil); err == nil {
		q.order, err = readOrder(http.MaxBytesReader(w, r.Body, bodyMost), there.fields)
	}
	switch {
	case err != nil:
		return nil, err
	case p != nil || !there.policy:
		return there.serve(q)
	case q.snap.Has(view.NoPolicy):
		return nil, errors.New(doubt) // it says so itself
	}
	return nil, fmt.Errorf("there is no policy in force: %s", doubt)
}

// Problem is an error as in RFC 9457.
type Problem struct {
	Type   string   `json:"type"`
	Title  string   `json:"title"`
	Status int      `json:"status"`
	Detail string   `json:"detail"`
	Errors []string `json:"errors,omitempty"` // of a policy file, one each

	Code view.Code `json:"code,omitempty"` // of Detail, where it is a message
	Args view.Args `json:"args,omitempty"`
	// Suggestion is the vendor, engineer or scope that may be meant.
	Suggestion string `json:"suggestion,omitempty"`
}

func (p *Problem) Error() string { return p.Detail }

// In gives the detail in a language, where it is a message that is known.
func (p *Problem) In(l view.Language) string { return cmp.Or(view.Say(p.Code, p.Args).In(l), p.Detail) }

func problem(status int, format string, a ...any) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, a...)}
}

// noMatch is the problem of a name that matches nothing; near is the name that may be
// meant, or empty.
func noMatch(m view.Message, near string) *Problem {
	p := problem(http.StatusNotFound, "%s", m)
	p.Code, p.Args, p.Suggestion = m.Code, m.Args, near
	return p
}

// didYouMean ends the text of a noMatch.
func didYouMean(near string) any {
	if near == "" {
		return ""
	}
	return view.Say("did_you_mean", view.Args{"name": near})
}

// invalid refuses a badly formed question or command.
func invalid(format string, a ...any) error { return problem(http.StatusBadRequest, format, a...) }

// problemOf gives an error its status.
func problemOf(err error) *Problem {
	var p *Problem
	var large *http.MaxBytesError
	var none *policy.NoMatchError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &large):
		return problem(http.StatusRequestEntityTooLarge, "the body is too large: allowed are %d bytes", large.Limit)
	case errors.As(err, &none) && !none.Reopen:
		return noMatch(view.Say("no_scope", view.Args{"scope": string(none.Scope), "near": didYouMean(none.Near)}), none.Near)
	case errors.As(err, &none) && none.Held.Engineer != "":
		return noMatch(view.Say("not_shut_itself", view.Args{"scope": string(none.Scope), "engineer": none.Held.Engineer, "closed": string(none.Held.Scope)}), string(none.Held.Scope))
	case errors.As(err, &none) && none.Around != "":
		return noMatch(view.Say("not_shut_around", view.Args{"scope": string(none.Scope), "closed": string(none.Around)}), string(none.Around))
	case errors.As(err, &none):
		return noMatch(view.Say("not_shut", view.Args{"scope": string(none.Scope), "near": didYouMean(none.Near)}), none.Near)
	}
	p = problem(http.StatusConflict, "%v", err)
	var message *view.Error
	if errors.As(err, &message) {
		p.Code, p.Args = message.Code, message.Args
	}
	var several interface{ Unwrap() []error }
	if errors.As(err, &several) {
		for _, e := range several.Unwrap() {
			p.Errors = append(p.Errors, strings.Split(e.Error(), "\n")...)
		}
	}
	return p
}

func respond(w http.ResponseWriter, answer any, err error) {
	status, kind := http.StatusOK, "application/json"
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
