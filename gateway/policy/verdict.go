package policy

import (
	"slices"
	"time"
)

// RequestEvent is an event of one request: Requested or Verdict.
type RequestEvent interface {
	Event
	// Request is the request's id.
	Request() string
}

// Requested records a request. In an emergency it opens at once.
type Requested struct {
	Terms
	By string `json:"by"` // the operator's name
	// Login is the operator's login then: one person under two names is one.
	Login string `json:"login,omitempty"`
	// Needed is how many approvals it needed then. It never needs fewer: whoever approved did not
	// mean to be the last.
	Needed int `json:"needed,omitempty"`
	// RatifyBy is until when an emergency is to be ratified.
	RatifyBy time.Time `json:"ratify_by,omitzero"`
	// Idempotency is the hash of the actor and the idempotency key; Body is that of what was asked.
	Idempotency string `json:"idempotency,omitempty"`
	Body        string `json:"body,omitempty"`
	// Given is when it was recorded. The journal's own time may be later, where the clock was set back.
	Given time.Time `json:"given,omitzero"`
}

// Verb is what a decision does to a request. It is the kind of its journal entry.
type Verb string

// The verbs. Whatever closes needs no digest.
const (
	Approve      Verb = "approved"        // the terms with the digest
	Deny         Verb = "denied"          // for good
	Withdraw     Verb = "withdrawn"       // before it is approved
	AskExtension Verb = "extension_asked" // until; takes the place of an extension that is not approved
	Extend       Verb = "extended"        // until; the digest is that of the terms with that end
	Shorten      Verb = "shortened"       // until
	Ratify       Verb = "ratified"        // an emergency, or a request that its recorder approved; Reason is the finding
	Report       Verb = "reported"        // Reason is what the work was
	Review       Verb = "reviewed"        // Reason is the verdict
)

// Verbs lists all verbs.
func Verbs() []Verb {
	return []Verb{Approve, Deny, Withdraw, AskExtension, Extend, Shorten, Ratify, Report, Review}
}

// Closes reports whether the verb can only close: then it counts before it is recorded.
func (v Verb) Closes() bool { return v == Deny || v == Withdraw || v == Shorten }

// Verdict is a decision about a request.
type Verdict struct {
	Verb   Verb      `json:"-"`
	ID     string    `json:"id"`
	By     string    `json:"by"`              // the operator's name
	Login  string    `json:"login,omitempty"` // as Requested.Login
	Via    string    `json:"via,omitempty"`
	Digest string    `json:"digest,omitempty"`
	Needed int       `json:"needed,omitempty"` // of an extension, as Requested.Needed
	Until  time.Time `json:"until,omitzero"`
	Reason string    `json:"reason,omitempty"`
	Files  string    `json:"files,omitempty"`  // of a report: what was brought in or taken out
	Result string    `json:"result,omitempty"` // of a report; of a review the note
	Given  time.Time `json:"given,omitzero"`   // as Requested.Given

	// later is how many shortenings count already that were decided after this.
	later int
}

func (Requested) event() {}
func (Verdict) event()   {}

// Request is the request's id.
func (e Requested) Request() string { return e.ID }

// Request is the request's id.
func (e Verdict) Request() string { return e.ID }

// Signed gives the event with the operator who gives it, the login and the way by which it came, and
// when.
func Signed(e RequestEvent, operator string, a Actor, at time.Time) RequestEvent {
	switch e := e.(type) {
	case Requested:
		e.By, e.Login, e.Given = operator, a.ID, at.UTC()
		return e
	case Verdict:
		e.By, e.Login, e.Via, e.Given = operator, a.ID, a.Via, at.UTC()
		return e
	}
	return e
}

// Needing gives the event with what it needs by the policy now: how many approvals a request or an
// extension needs, and until when an emergency is to be ratified. A later policy does not ease that.
func (s *State) Needing(e RequestEvent) RequestEvent {
	switch e := e.(type) {
	case Requested:
		if o := s.policy.onRequest(e.Vendor); o != nil {
			e.Needed = o.Approvals
			if e.Emergency && o.Emergency != nil {
				e.RatifyBy = e.From.Add(o.Emergency.RatifyWithin)
			}
		}
		return e
	case Verdict:
		if r := s.requests[e.ID]; r != nil && (e.Verb == AskExtension || e.Verb == Extend) {
			if o := s.policy.onRequest(r.Vendor); o != nil {
				x := r.allowed(s.policy)
				e.Needed, _ = r.extending(o, &x, e.Until)
			}
		}
		return e
	}
	return e
}

// Shortenings counts the shortenings of a request.
func (s *State) Shortenings(id string) (n int) {
	if r := s.requests[id]; r != nil {
		for _, e := range r.Ends {
			if e.Shortened != nil {
				n++
			}
		}
	}
	return n
}

// Late gives an event whose record took long: the request had so many shortenings when it was
// decided. Those that came since count already, and are after it in the journal. So the event
// changes the state as it does in a replay.
func (s *State) Late(e RequestEvent, shortenings int) RequestEvent {
	if d, ok := e.(Verdict); ok {
		d.later = s.Shortenings(d.ID) - shortenings
		return d
	}
	return e
}

// TermsOf are the terms that an event is about: those of a new request, or the first ones of its
// request.
func (s *State) TermsOf(e RequestEvent) Terms {
	if q, ok := e.(Requested); ok {
		return q.Terms
	}
	if r := s.requests[e.Request()]; r != nil {
		return r.Terms
	}
	return Terms{}
}

// applyRequest changes a request by an event. It looks at the request alone, and not at the policy:
// a replay has none. May has looked at the policy before the event was recorded; what the request
// opens is worked out with the policy in force whenever that changes.
func (s *State) applyRequest(at time.Time, e RequestEvent) error {
	if q, ok := e.(Requested); ok {
		if s.requests[q.ID] != nil {
			return &RefusedError{Code: "request_twice", ID: q.ID}
		}
		if !q.Given.IsZero() {
			at = q.Given
		}
		if first := s.Repeated(q.Idempotency, at); first != nil { // its record took long, and the client asked again
			return &RefusedError{Code: "request_twice", ID: first.ID}
		}
		s.put(&Request{Requested: q, At: at})
		s.forget(at)
		return nil
	}
	d, _ := e.(Verdict)
	r := s.requests[d.ID]
	if r == nil {
		return s.NoRequest(d.ID)
	}
	if n := len(r.Ends) - d.later; d.later > 0 {
		late := r.Ends[n:]
		d.later = 0
		s.change(d.ID, func(r *Request) { r.Ends = slices.Clip(r.Ends[:n]) })
		err := s.applyRequest(at, d)
		s.change(d.ID, func(r *Request) { r.Ends = append(slices.Clip(r.Ends), late...) })
		return err
	}
	if !d.Given.IsZero() {
		at = d.Given
	}
	sign := Sign{By: d.By, Login: d.Login, At: at, Via: d.Via, Reason: d.Reason}
	switch d.Verb {
	case Approve:
		if d.Digest != r.Terms.Digest() {
			return r.otherDigest(d.Digest, r.Terms)
		}
		return s.sign(r, r.Approvals, sign, func(r *Request, all []Sign) { r.Approvals = all })
	case AskExtension:
		s.addEnd(r, End{Version: r.Current().Version + 1, Until: d.Until, Needed: d.Needed, Asked: &sign})
	case Extend:
		return s.applyExtended(r, d, sign)
	case Shorten:
		s.addEnd(r, End{Until: d.Until, Shortened: &sign})
	default:
		s.change(r.ID, func(r *Request) {
			switch d.Verb {
			case Deny:
				r.Denied = &sign
			case Withdraw:
				r.Withdrawn = &sign
			case Ratify:
				r.Ratified = &sign
			case Report:
				r.Reports = append(slices.Clip(r.Reports), sign)
			case Review:
				r.Reviews = append(slices.Clip(r.Reviews), sign)
			}
		})
	}
	return nil
}

// sign adds a sign of an operator who has not signed yet.
func (s *State) sign(r *Request, have []Sign, sign Sign, set func(*Request, []Sign)) error {
	if slices.ContainsFunc(have, sign.same) {
		return &RefusedError{Code: "request_signed", ID: r.ID, Name: sign.By}
	}
	all := append(slices.Clip(have), sign)
	s.change(r.ID, func(r *Request) { set(r, all) })
	return nil
}

func (s *State) addEnd(r *Request, e End) {
	s.change(r.ID, func(r *Request) { r.Ends = append(slices.Clip(r.Ends), e) })
}

// applyExtended signs the extension that was asked for, or a new one.
func (s *State) applyExtended(r *Request, d Verdict, sign Sign) error {
	next := r.Next(d.Until)
	if next.Digest() != d.Digest {
		return r.otherDigest(d.Digest, next)
	}
	if e := r.Extending(); e != nil && e.Version == next.Version {
		at := slices.IndexFunc(r.Ends, func(x End) bool { return x.Version == next.Version })
		return s.sign(r, e.Approvals, sign, func(r *Request, all []Sign) {
			r.Ends = slices.Clone(r.Ends)
			r.Ends[at].Approvals = all
		})
	}
	s.addEnd(r, End{Version: next.Version, Until: d.Until, Needed: d.Needed, Approvals: []Sign{sign}})
	return nil
}

// Next are the terms of an extension until an instant: those of the newest version if that is an
// extension with this end, and no shortening came after it; else those of the next version.
func (r *Request) Next(until time.Time) Terms {
	t := r.Current()
	if last := len(r.Ends) - 1; last >= 0 && r.Ends[last].Shortened == nil && t.Until.Equal(until) {
		return t
	}
	return r.version(End{Version: t.Version + 1, Until: until})
}
