package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"time"

	"kidoban/gateway"
	"kidoban/gateway/evidence"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// request is a question (GET) or a command (POST).
type request struct {
	*Handler
	ctx    context.Context
	actor  policy.Actor
	snap   *view.Snapshot
	now    time.Time
	query  url.Values
	header http.Header
	// Of a command with an Idempotency-Key: idempotencyHash, and the hex SHA-256 of the body.
	// The journal may keep them, so that they hold over a restart.
	key, digest string
}

// route answers one method of one path.
type route struct {
	method     string
	parameters []string     // of the query of a question
	most       int64        // bytes of a command's body
	body       reflect.Type // of a command; nil: a question
	answer     reflect.Type
	status     int // of a success
	serve      func(request, []byte) (any, error)
}

// question is a route of GET. Its answer is an A.
func question[A any](serve func(request) (A, error), parameters ...string) route {
	return route{method: http.MethodGet, parameters: parameters, answer: reflect.TypeFor[A](), status: http.StatusOK,
		serve: func(r request, _ []byte) (any, error) { return serve(r) }}
}

// command is a route of POST. Its body is a B that check takes, its answer an A.
func command[B, A any](check func(B) error, serve func(request, B) (A, error)) route {
	return route{method: http.MethodPost, most: bodyMost, body: reflect.TypeFor[B](), answer: reflect.TypeFor[A](), status: http.StatusOK,
		serve: func(r request, text []byte) (any, error) {
			body, err := bodyOf[B](text)
			if err == nil {
				err = check(body)
			}
			if err != nil {
				return nil, err
			}
			return serve(r, body)
		}}
}

// upTo lets the body have so many bytes.
func (r route) upTo(most int64) route {
	r.most = most
	return r
}

// with gives the status of a success.
func (r route) with(status int) route {
	r.status = status
	return r
}

// as names the type of which the answer's JSON is.
func as[A any](r route) route {
	r.answer = reflect.TypeFor[A]()
	return r
}

// inPolicy is for answers that need a policy in force.
func inPolicy[A any](serve func(request, *policy.Policy) (A, error)) func(request) (A, error) {
	return func(r request) (answer A, err error) {
		switch p, doubt := r.snap.Plan.Policy, r.snap.Plan.Doubt; {
		case p != nil:
			return serve(r, p)
		case r.snap.Has(view.NoPolicy):
			return answer, errors.New(doubt) // it says so itself
		default:
			return answer, fmt.Errorf("there is no policy in force: %s", doubt)
		}
	}
}

// Config is the answer of `kidoban client-config`.
type Config struct {
	Config string `json:"config"` // the text for the engineer
}

// routes are all paths. A path is compared as it is, without cleaning or redirects.
var routes = map[string]route{
	"/v1/status":   question(func(r request) (view.Status, error) { return r.snap.StatusAt(r.now), nil }),
	"/v1/sessions": question(func(r request) ([]view.SessionStatus, error) { return r.snap.Sessions, nil }),
	"/v1/grants":   question(func(r request) ([]view.GrantStatus, error) { return r.snap.GrantsAt(r.now), nil }),
	"/v1/refusals": question(func(r request) ([]view.Refusal, error) { return r.snap.RefusalsLocal(), nil }),
	"/v1/explain": question(func(r request) (Explanation, error) {
		return explain(r.snap, r.query, r.now)
	}, "engineer", "from", "line", "to", "at"),
	"/v1/calendar": question(inPolicy(planned), "from", "until", "vendor", "engineer"),
	"/v1/policy":   question(inPolicy(func(r request, _ *policy.Policy) (InForce, error) { return inForce(r.snap, r.now), nil })),
	"/v1/client-config": question(inPolicy(func(r request, p *policy.Policy) (Config, error) {
		text, err := clientConfig(p, r.query, r.snap.Key)
		return Config{text}, err
	}), "engineer", "mtu"),
	"/v1/notify":               question(inPolicy(settings)),
	"/v1/events":               question(events, "after", "kinds"),
	"/v1/journal":              as[Page[Entry]](question(entries, append([]string{"after", "kinds", "vendor", "request"}, pages...)...)),
	"/v1/evidence/month":       question(month, "month", "vendor"),
	"/v1/evidence/inspection":  question(inspection, "tier", "vendor"),
	"/v1/evidence/answer":      command(func(evidence.Answer) error { return nil }, answerControl),
	"/v1/evidence/incidents":   question(incidents),
	"/v1/evidence/review":      command(checkReview, review).upTo(longMost),
	"/v1/evidence/work-report": command(checkWork, reportWork),
	"/v1/evidence/reported":    command(checkReported, madeReport),
	"/v1/evidence/mirrored":    command(checkMirrored, mirrored),
	"/v1/evidence/incident":    command(checkIncident, tell),
	"/v1/evidence/probe":       command(checkProbed, probed).upTo(longMost),
	"/v1/evidence/sent":        command(checkSent, sent),
	"/v1/openapi.json":         question(func(request) (json.RawMessage, error) { return OpenAPI, nil }),
	"/v1/close": command(checkScoped, func(r request, o order) (gateway.Outcome, error) {
		return r.Gateway.Do(r.ctx, r.actor, policy.Shut{Scope: o.Scope, Reason: o.Reason})
	}),
	"/v1/reopen": command(checkScoped, func(r request, o order) (gateway.Outcome, error) {
		return r.Gateway.Do(r.ctx, r.actor, policy.Reopened{Scope: o.Scope, Reason: o.Reason})
	}),
	"/v1/recover": command(checkReason, func(r request, o order) (gateway.Outcome, error) {
		return r.Gateway.Recover(r.ctx, r.actor, o.Reason)
	}),
	"/v1/reload": command(checkReload, func(r request, _ order) (gateway.Outcome, error) { return r.Gateway.Reload(r.ctx, r.actor) }),
}
