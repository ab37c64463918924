package api

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"kidoban/gateway"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// ask is the body of a request.
type ask struct {
	Vendor    string   `json:"vendor"`          // the short name
	Engineers []string `json:"engineers"`       // short names, or vendor/engineer
	Targets   []string `json:"targets"`         // names
	From      string   `json:"from,omitempty"`  // a time; empty: now
	Until     string   `json:"until,omitempty"` // a time; empty: the duration counts
	For       string   `json:"for,omitempty"`   // a duration, as in 90m; without from it counts from the last approval
	Purpose   string   `json:"purpose"`         // why; operators read it when they decide
	Ticket    string   `json:"ticket,omitempty"`
	Source    string   `json:"source,omitempty"`    // the one address to come from
	Emergency bool     `json:"emergency,omitempty"` // it opens at once, and somebody else signs it afterwards
}

// approval states the digest of the terms that were shown.
type approval struct {
	ID     string `json:"id"`
	Digest string `json:"digest"`
}

// refusal ends a request.
type refusal struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// ending asks for another end.
type ending struct {
	ID     string `json:"id"`
	Until  string `json:"until"`
	Reason string `json:"reason"`
}

// extension approves a later end.
type extension struct {
	ID     string `json:"id"`
	Until  string `json:"until"`
	Digest string `json:"digest"`
}

// finding signs a request afterwards.
type finding struct {
	ID      string `json:"id"`
	Digest  string `json:"digest"`
	Finding string `json:"finding"`
}

// report says what the work was.
type report struct {
	ID     string `json:"id"`
	Text   string `json:"text"`
	Files  string `json:"files,omitempty"`
	Result string `json:"result,omitempty"`
}

// verdict signs the work.
type verdict struct {
	ID      string `json:"id"`
	Verdict string `json:"verdict"`
	Note    string `json:"note,omitempty"`
}

// Recorded answers a new request.
type Recorded struct {
	Request view.Request    `json:"request"`
	Outcome gateway.Outcome `json:"outcome"`
}

func init() {
	for path, r := range map[string]route{
		"/v1/request":  command(func(ask) error { return nil }, request.ask).upTo(longMost).with(http.StatusCreated),
		"/v1/requests": question(request.requests, append([]string{"id", "state", "vendor"}, pages...)...),
		"/v1/approve": command(approval.check, func(r request, b approval) (Recorded, error) {
			return r.decide(b.ID, policy.Verdict{Verb: policy.Approve, Digest: b.Digest})
		}),
		"/v1/deny":          command(refusal.check, func(r request, b refusal) (Recorded, error) { return r.refuse(policy.Deny, b) }),
		"/v1/withdraw":      command(refusal.check, func(r request, b refusal) (Recorded, error) { return r.refuse(policy.Withdraw, b) }),
		"/v1/revoke":        command(refusal.check, request.revoke),
		"/v1/ask-extension": command(ending.check, func(r request, b ending) (Recorded, error) { return r.end(policy.AskExtension, b) }),
		"/v1/shorten":       command(ending.check, func(r request, b ending) (Recorded, error) { return r.end(policy.Shorten, b) }),
		"/v1/extend": command(extension.check, func(r request, b extension) (Recorded, error) {
			until, err := r.time(b.Until)
			if err != nil {
				return Recorded{}, err
			}
			return r.decide(b.ID, policy.Verdict{Verb: policy.Extend, Digest: b.Digest, Until: until})
		}),
		"/v1/ratify": command(finding.check, func(r request, b finding) (Recorded, error) {
			return r.decide(b.ID, policy.Verdict{Verb: policy.Ratify, Digest: b.Digest, Reason: b.Finding})
		}),
		"/v1/report": command(report.check, func(r request, b report) (Recorded, error) {
			return r.decide(b.ID, policy.Verdict{Verb: policy.Report, Reason: b.Text, Files: b.Files, Result: b.Result})
		}),
		"/v1/review": command(verdict.check, func(r request, b verdict) (Recorded, error) {
			return r.decide(b.ID, policy.Verdict{Verb: policy.Review, Reason: b.Verdict, Result: b.Note})
		}),
	} {
		routes[path] = r
	}
}

// idLetters have no letter that looks like another. Six of them make an id: of 900 million.
const idLetters = "23456789abcdefghjkmnpqrstuvwxyz"

func newID() string {
	id := []byte(policy.RequestMark)
	for raw := make([]byte, 1); len(id) < 7; {
		_, _ = rand.Read(raw) // never fails
		if n := int(raw[0]); n < 256/len(idLetters)*len(idLetters) {
			id = append(id, idLetters[n%len(idLetters)])
		}
	}
	return string(id)
}

// idOf reads an id with or without its mark, which a shell may take for a home folder.
func idOf(text string) string {
	return policy.RequestMark + strings.TrimPrefix(text, policy.RequestMark)
}

// ask records a request.
func (r request) ask(b ask) (Recorded, error) {
	return inPolicy(func(r request, p *policy.Policy) (Recorded, error) {
		if x := r.snap.Base.Repeated(r.key, r.now); x != nil { // its answer was lost, perhaps with the process
			if x.Body != r.digest {
				return Recorded{}, otherBody()
			}
			return Recorded{Request: r.snap.RequestAt(x, r.now), Outcome: gateway.Outcome{Scope: x.Scope(), Applied: true, Recorded: true, Shut: []string{}}}, nil
		}
		a := policy.Ask{Vendor: b.Vendor, Targets: b.Targets, Purpose: b.Purpose, Ticket: b.Ticket, Source: b.Source, Emergency: b.Emergency}
		for _, name := range b.Engineers {
			a.Engineers = append(a.Engineers, strings.TrimPrefix(name, b.Vendor+"/"))
		}
		var mistakes []error
		for _, t := range []struct {
			name, text string
			to         *time.Time
		}{{"from", b.From, &a.From}, {"until", b.Until, &a.Until}} {
			var err error
			if *t.to, err = ParseTime(t.text, p.Zone, time.Time{}); err != nil {
				mistakes = append(mistakes, errors.New(t.name+": "+err.Error()))
			}
		}
		if b.For != "" {
			var ok bool
			if a.For, ok = policy.ParseElapsed(b.For); !ok || a.For <= 0 {
				mistakes = append(mistakes, fmt.Errorf("for: %q is not a duration: allowed is as in 90m, 2h, 1h30m or 1d", b.For))
			}
		}
		id := newID()
		for r.snap.Base.Request(id) != nil {
			id = newID()
		}
		terms, err := p.Resolve(a, id, r.now)
		if refused := (*policy.RefusedError)(nil); errors.As(err, &refused) {
			return Recorded{}, refused
		}
		if err = errors.Join(append(mistakes, err)...); err != nil {
			return Recorded{}, several(err)
		}
		return r.do(id, policy.Requested{Terms: terms, Idempotency: r.key, Body: r.digest})
	})(r)
}

// several refuses a request for several mistakes.
func several(err error) error {
	p := problem(http.StatusBadRequest, "%v", err)
	p.Errors = strings.Split(err.Error(), "\n")
	return p
}

// decide gives a decision.
func (r request) decide(id string, v policy.Verdict) (Recorded, error) {
	v.ID = idOf(id)
	return r.do(v.ID, v)
}

func (r request) refuse(verb policy.Verb, b refusal) (Recorded, error) {
	return r.decide(b.ID, policy.Verdict{Verb: verb, Reason: b.Reason})
}

func (r request) end(verb policy.Verb, b ending) (Recorded, error) {
	until, err := r.time(b.Until)
	if err != nil {
		return Recorded{}, err
	}
	return r.decide(b.ID, policy.Verdict{Verb: verb, Until: until, Reason: b.Reason})
}

// revoke closes a request for good. It takes the way of a close, so that it works in every doubt.
func (r request) revoke(b refusal) (Recorded, error) {
	return r.do(idOf(b.ID), policy.Shut{Scope: policy.RequestScope(idOf(b.ID)), Reason: b.Reason})
}

func (r request) do(id string, event policy.Event) (Recorded, error) {
	outcome, err := r.Gateway.Do(r.ctx, r.actor, event)
	if err != nil {
		return Recorded{}, err
	}
	answer := Recorded{Outcome: outcome}
	snap := r.Gateway.Snapshot()
	x := snap.Base.Request(id)
	if x == nil { // the disk is slow: it may still come
		return Recorded{}, problem(http.StatusConflict, "%s", cmp.Or(outcome.Problem, "the request is not there"))
	}
	answer.Request = snap.RequestAt(x, r.Gateway.Now())
	return answer, nil
}

// time reads a time of an order, to the second.
func (r request) time(text string) (time.Time, error) {
	zone := time.Local
	if p := r.snap.Plan.Policy; p != nil {
		zone = p.Zone
	}
	t, err := ParseTime(text, zone, time.Time{})
	return t.UTC().Truncate(time.Second), err
}

// requests lists requests, the newest first.
func (r request) requests() (Page[view.Request], error) {
	state, vendor, all := r.query.Get("state"), r.query.Get("vendor"), r.snap.Base.Requests()
	if state != "" && !slices.Contains(policy.Stages(), policy.Stage(state)) {
		return Page[view.Request]{}, invalid("--state: %q is none: allowed is %s", state, joined(policy.Stages()))
	}
	if p := r.snap.Plan.Policy; vendor != "" && p != nil {
		if _, err := vendorOf(p, vendor); err != nil {
			return Page[view.Request]{}, err
		}
	}
	if id := r.query.Get("id"); id != "" {
		x := r.snap.Base.Request(idOf(id))
		if x == nil {
			return Page[view.Request]{}, r.snap.Base.NoRequest(idOf(id))
		}
		all = []*policy.Request{x}
	}
	shown := []view.Request{}
	for _, x := range all {
		if v := r.snap.RequestAt(x, r.now); (state == "" || v.State == policy.Stage(state)) && (vendor == "" || v.Vendor == vendor) {
			shown = append(shown, v)
		}
	}
	return pageOf(r.query, shown, func(v view.Request) string { return v.RecordedAt.UTC().Format("20060102T150405.000") + v.ID })
}

func joined[T ~string](all []T) string {
	texts := make([]string, len(all))
	for i, x := range all {
		texts[i] = string(x)
	}
	return strings.Join(texts, ", ")
}

func (b approval) check() error {
	return errors.Join(checkID(b.ID), checkDigest(b.Digest))
}

func (b refusal) check() error {
	return errors.Join(checkID(b.ID), checkText("reason", b.Reason))
}

func (b ending) check() error {
	return errors.Join(checkID(b.ID), checkUntil(b.Until), checkText("reason", b.Reason))
}

func (b extension) check() error {
	return errors.Join(checkID(b.ID), checkUntil(b.Until), checkDigest(b.Digest))
}

func (b finding) check() error {
	return errors.Join(checkID(b.ID), checkDigest(b.Digest), checkText("finding", b.Finding))
}

// reportMost is how long a report may be, in bytes.
const reportMost = 4000

func (b report) check() error {
	err := checkID(b.ID)
	for _, t := range []struct{ name, text string }{{"text", b.Text}, {"files", b.Files}, {"result", b.Result}} {
		if len(t.text) > reportMost {
			err = errors.Join(err, invalid("the %s has %d bytes: allowed are %d", t.name, len(t.text), reportMost))
		}
	}
	if strings.TrimSpace(b.Text) == "" {
		err = errors.Join(err, invalid("no text: say what the work was"))
	}
	return err
}

func (b verdict) check() error {
	err := errors.Join(checkID(b.ID), checkText("verdict", b.Verdict))
	if len(b.Note) > gateway.ReasonMax {
		err = errors.Join(err, invalid("the note has %d bytes: allowed are %d", len(b.Note), gateway.ReasonMax))
	}
	return err
}

func checkID(id string) error {
	if name := strings.TrimPrefix(id, policy.RequestMark); name == "" || len(name) > 16 {
		return invalid("%.40q is not the id of a request: allowed is as in ~7k2m9x", id)
	}
	return nil
}

func checkDigest(digest string) error {
	if len(digest) != 64 || strings.Trim(digest, "0123456789abcdef") != "" {
		return invalid("%.80q is not a digest: allowed are 64 hex digits, as the request shows them", digest)
	}
	return nil
}

func checkUntil(until string) error {
	if until == "" {
		return invalid("no until: allowed is a time, as in 2026-12-01T23:30")
	}
	return nil
}

func checkText(name, text string) error {
	switch {
	case strings.TrimSpace(text) == "":
		return invalid("no %s: it is kept in the journal", name)
	case len(text) > gateway.ReasonMax:
		return invalid("the %s has %d bytes: allowed are %d", name, len(text), gateway.ReasonMax)
	}
	return nil
}
