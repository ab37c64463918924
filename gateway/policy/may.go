package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// RefusedError says why an operator may not give an event of a request.
type RefusedError struct {
	Code  string // of the message
	ID    string // the request; empty: it is about none
	Name  string // the operator, vendor or right that the message names
	Names []string
	Stage Stage
	Until time.Time
	Count int
	// Near is an id that may be meant.
	Near        string
	Differences []Difference
}

// Difference is a field of a request's terms that is not as it was shown.
type Difference struct {
	Field string `json:"field"`
	Was   string `json:"was"`
	Is    string `json:"is"`
}

func (e *RefusedError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s %s", e.Code, e.ID, e.Name, e.Stage))
}

// revocable reports whether a request can be revoked. A revocation does not look at the policy, so
// that it works in every doubt. Before the first policy every request can be, also one of which a
// damaged journal says nothing.
func (s *State) revocable(scope Scope) error {
	if s.policy != nil && s.requests[string(scope)] == nil {
		return s.NoRequest(string(scope))
	}
	return nil
}

// NoRequest is the error of an id that no request has.
func (s *State) NoRequest(id string) error {
	return &RefusedError{Code: "no_request", ID: id, Near: Nearest(id, slices.Sorted(maps.Keys(s.requests)))}
}

// otherDigest says what differs between terms and those that a digest names.
func (r *Request) otherDigest(digest string, now Terms) error {
	e := &RefusedError{Code: "request_other", ID: r.ID}
	for _, t := range r.Versions() {
		if t.Digest() == digest {
			e.Differences = t.Differences(now)
		}
	}
	return e
}

// Differences lists the fields in which newer terms differ.
func (t Terms) Differences(now Terms) (all []Difference) {
	add := func(field string, was, is any) {
		if a, b := fmt.Sprint(was), fmt.Sprint(is); a != b {
			all = append(all, Difference{field, a, b})
		}
	}
	add("version", t.Version, now.Version)
	add("vendor", t.Vendor, now.Vendor)
	add("engineers", t.Engineers, now.Engineers)
	add("targets", t.Targets, now.Targets)
	add("sources", t.Sources, now.Sources)
	add("from", t.From.Format(time.RFC3339), now.From.Format(time.RFC3339))
	add("until", t.Until.Format(time.RFC3339), now.Until.Format(time.RFC3339))
	add("for", t.For, now.For)
	add("emergency", t.Emergency, now.Emergency)
	add("purpose", t.Purpose, now.Purpose)
	add("ticket", t.Ticket, now.Ticket)
	return all
}

// String is as in "sato (key)".
func (a AskedEngineer) String() string { return a.Name + " " + a.Key.String() }

// String is as in "ehr-db 10.1.0.5 tcp/22".
func (a AskedTarget) String() string {
	return a.Name + " " + Short(a.Prefix) + " " + strings.Join(a.Services, " ")
}

// Bounds of requests.
const (
	undecidedAVendor = 20 // and so many emergencies that are not ratified
	undecidedInAll   = 200
	// saidMost bounds the extensions, shortenings, reports and reviews of one request.
	saidMost = 100
)

// May reports whether an operator may give an event now. The error is a *RefusedError. A revocation
// is a Shut, which needs no right.
func (s *State) May(now time.Time, by string, e RequestEvent) error {
	if s.policy == nil {
		return &RefusedError{Code: "request_no_policy"}
	}
	err := s.may(now, by, e)
	if refused := (*RefusedError)(nil); errors.As(err, &refused) && !refused.Until.IsZero() {
		refused.Until = refused.Until.In(s.policy.Zone)
	}
	return err
}

func (s *State) may(now time.Time, by string, e RequestEvent) error {
	o := s.policy.Operator(by)
	if o == nil {
		return &RefusedError{Code: "no_operator", Names: s.policy.who("")}
	}
	if q, ok := e.(Requested); ok {
		return s.mayRequest(now, o, q)
	}
	d, _ := e.(Verdict)
	r := s.requests[d.ID]
	if r == nil {
		return s.NoRequest(d.ID)
	}
	x := s.Stands(r, now)
	on := s.policy.onRequest(r.Vendor)
	late := func() error {
		return &RefusedError{Code: "request_stage", ID: r.ID, Stage: x.Stage}
	}
	lacks := func(right Right) error {
		if !o.May(right) {
			return &RefusedError{Code: "operator_may_not", Name: string(right), Names: s.policy.who(right)}
		}
		return nil
	}
	if said := len(r.Ends) + len(r.Reports) + len(r.Reviews); said >= saidMost && slices.Contains([]Verb{AskExtension, Extend, Report, Review}, d.Verb) {
		return &RefusedError{Code: "request_full", ID: r.ID, Count: saidMost}
	}
	switch d.Verb {
	case Approve:
		if x.Stage != Undecided {
			return late()
		}
		if err := mayApprove(on, o, r); err != nil {
			return err
		}
		approved := *r
		sign := o.sign()
		sign.At = now
		approved.Approvals = append(slices.Clip(r.Approvals), sign)
		return s.mayOpenAs(&approved)
	case Deny:
		if x.Stage != Undecided {
			return late()
		}
		return approver(on, o)
	case Withdraw:
		switch {
		case x.Stage != Undecided:
			return late()
		case r.own(o.sign()):
			return nil
		}
		return approver(on, o)
	case AskExtension, Extend:
		if x.Stage != Scheduled && x.Stage != StageOpen && x.Stage != StageFrozen {
			return late()
		}
		err := lacks(MayRecord)
		if d.Verb == Extend {
			err = mayApprove(on, o, r)
		}
		if err != nil {
			return err
		}
		if err := mayExtend(now, r, on, x, d.Until); err != nil {
			return err
		}
		longer := *x.Window
		longer.Schedule = exactly{x.From, d.Until}
		return s.mayOpen(&longer)
	case Shorten:
		switch {
		case x.Stage != Scheduled && x.Stage != StageOpen:
			return late()
		case !d.Until.After(now) || !d.Until.Before(x.Until) || !d.Until.After(x.From):
			return &RefusedError{Code: "shorten_when", ID: r.ID, Until: x.Until}
		}
	case Ratify:
		return s.mayRatify(o, on, r, x, d.Digest)
	case Report:
		if x.Stage != StageOpen && x.Stage != StageFrozen && x.Stage != StageClosed && x.Stage != StageRevoked {
			return late()
		}
	case Review:
		switch {
		case x.Stage != StageClosed && x.Stage != StageRevoked:
			return late()
		case r.own(o.sign()):
			return &RefusedError{Code: "own_request", ID: r.ID, Name: o.Name}
		}
		return lacks(MayReview)
	}
	return nil
}

// who lists the operators with a right; an empty right means all.
func (p *Policy) who(right Right) (names []string) {
	for _, o := range p.Operators {
		if right == "" || o.May(right) {
			names = append(names, o.Name)
		}
	}
	return names
}

func approver(on *OnRequest, o *Operator) error {
	if on != nil && slices.Contains(on.Approvers, o) {
		return nil
	}
	e := &RefusedError{Code: "operator_may_not", Name: string(MayApprove)}
	if on != nil {
		for _, a := range on.Approvers {
			e.Names = append(e.Names, a.Name)
		}
	}
	return e
}

// sign is a sign of the operator, as one of the policy now.
func (o *Operator) sign() Sign { return Sign{By: o.Name, Login: o.User} }

// mayApprove reports whether the approval of an operator counts.
func mayApprove(on *OnRequest, o *Operator, r *Request) error {
	if err := approver(on, o); err != nil {
		return err
	}
	if r.own(o.sign()) && !on.SelfApproval {
		return &RefusedError{Code: "own_request", ID: r.ID, Name: o.Name}
	}
	return nil
}

func mayExtend(now time.Time, r *Request, on *OnRequest, x Standing, until time.Time) error {
	last := x.From.Add(on.MaxTotal)
	if r.Emergency {
		last = x.MaxUntil
	}
	if !until.After(x.Until) || !until.After(now) || until.After(last) {
		return &RefusedError{Code: "extend_when", ID: r.ID, Until: last}
	}
	return nil
}

func (s *State) mayRatify(o *Operator, on *OnRequest, r *Request, x Standing, digest string) error {
	var who []*Operator
	if on != nil && on.Emergency != nil && r.Emergency {
		who = on.Emergency.Ratifiers
	}
	switch {
	case !r.Emergency && !x.Self && r.Ratified == nil:
		return &RefusedError{Code: "ratify_nothing", ID: r.ID}
	case r.Ratified != nil && !x.Self:
		return &RefusedError{Code: "ratified_already", ID: r.ID, Name: r.Ratified.By}
	case r.own(o.sign()):
		return &RefusedError{Code: "own_request", ID: r.ID, Name: o.Name}
	case who != nil && !slices.Contains(who, o), who == nil && !o.May(MayRatify):
		return &RefusedError{Code: "operator_may_not", Name: string(MayRatify), Names: s.policy.who(MayRatify)}
	case digest != r.Current().Digest():
		return r.otherDigest(digest, r.Current())
	}
	return nil
}

// mayRequest reports whether a request may be recorded. Its terms are those that Resolve gave.
func (s *State) mayRequest(now time.Time, o *Operator, q Requested) error {
	on := s.policy.onRequest(q.Vendor)
	switch {
	case on == nil:
		return &RefusedError{Code: "no_requests", Name: q.Vendor, Names: s.policy.requestable()}
	case !o.May(MayRecord):
		return &RefusedError{Code: "operator_may_not", Name: string(MayRecord), Names: s.policy.who(MayRecord)}
	case s.requests[q.ID] != nil:
		return &RefusedError{Code: "request_twice", ID: q.ID}
	}
	ofVendor, all := 0, 0
	for _, r := range s.requests {
		x := s.Stands(r, now)
		waits := x.Stage == Undecided
		if q.Emergency {
			waits = !x.RatifyBy.IsZero() // another emergency waits for no approval
		}
		if waits {
			if all++; r.Vendor == q.Vendor {
				ofVendor++
			}
		}
		if q.Emergency && x.Overdue && r.Vendor == q.Vendor {
			return &RefusedError{Code: "emergency_overdue", ID: r.ID, Name: q.Vendor, Until: x.RatifyBy}
		}
	}
	switch {
	case ofVendor >= undecidedAVendor:
		return &RefusedError{Code: "requests_many", Name: q.Vendor, Count: undecidedAVendor}
	case all >= undecidedInAll && !q.Emergency:
		return &RefusedError{Code: "requests_many", Count: undecidedInAll}
	}
	return s.mayOpenAs(&Request{Requested: q, At: now})
}

// requestable lists the vendors with on_request.
func (p *Policy) requestable() (names []string) {
	for _, v := range p.Vendors {
		if v.OnRequest != nil {
			names = append(names, v.Name)
		}
	}
	return names
}
