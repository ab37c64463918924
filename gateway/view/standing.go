package view

import (
	"slices"
	"time"

	"kidoban/gateway/policy"
)

// Standing is a request with where it stands now.
type Standing struct {
	*policy.Request
	Now policy.Standing
}

// Standings lists all requests as they stand at an instant, the oldest first.
func (s *Snapshot) Standings(now time.Time) (all []Standing) {
	for _, r := range s.Base.Requests() {
		all = append(all, Standing{r, s.Base.Stands(r, now)})
	}
	return all
}

// live reports whether the request is approved and not over.
func (x Standing) live() bool {
	return slices.Contains([]policy.Stage{policy.Scheduled, policy.StageOpen, policy.StageFrozen}, x.Now.Stage)
}

// Unratified reports whether the request is an emergency that nobody else has signed.
func (x Standing) Unratified() bool { return x.Emergency && x.Ratified == nil }

// SelfApproved reports whether the recorder's own approval opened the request, and nobody else has
// signed it.
func (x Standing) SelfApproved() bool {
	return x.Now.Self && (x.live() || x.Now.Stage == policy.StageClosed || x.Now.Stage == policy.StageRevoked && x.Opened)
}

// ToReview reports whether somebody has to sign the request afterwards: it is self-approved, or an
// emergency that is over.
func (x Standing) ToReview() bool {
	return x.SelfApproved() || x.Unratified() && !x.live()
}

// RequestCounts says how many requests stand where.
type RequestCounts struct {
	Undecided    int `json:"undecided"`
	Scheduled    int `json:"scheduled"`
	Open         int `json:"open"`
	Frozen       int `json:"frozen"`
	Unratified   int `json:"unratified"`    // emergencies
	Overdue      int `json:"overdue"`       // of these; no other emergency of the vendor can be declared
	SelfApproved int `json:"self_approved"` // that nobody else has signed
}

// requests counts the requests.
func (s *Snapshot) requests(now time.Time) (c RequestCounts) {
	for _, x := range s.Standings(now) {
		for _, is := range []struct {
			yes   bool
			count *int
		}{
			{x.Now.Stage == policy.Undecided, &c.Undecided}, {x.Now.Stage == policy.Scheduled, &c.Scheduled},
			{x.Now.Stage == policy.StageOpen, &c.Open}, {x.Now.Stage == policy.StageFrozen, &c.Frozen},
			{x.Unratified(), &c.Unratified}, {x.Now.Overdue, &c.Overdue}, {x.SelfApproved(), &c.SelfApproved},
		} {
			if is.yes {
				*is.count++
			}
		}
	}
	return c
}

const (
	requestsNamed = 5              // hints of one kind, and requests of one engineer
	waitsSoon     = time.Hour      // before its beginning an undecided request is a hint
	lately        = 24 * time.Hour // for how long explain names a request that has ended
)

// requestHints has hints about requests that somebody has to do something about.
func (s *Snapshot) requestHints(now time.Time) (hints []Message) {
	said := map[Code]int{}
	for _, x := range s.Standings(now) {
		for _, m := range []Message{s.waits(x, now), s.unsigned(x), s.opensLess(x, now), s.extends(x)} {
			if m.Empty() {
				continue
			}
			if said[m.Code]++; said[m.Code] <= requestsNamed {
				hints = append(hints, m)
			}
		}
	}
	more := 0
	for _, n := range said {
		more += max(n-requestsNamed, 0)
	}
	if more > 0 {
		hints = append(hints, Say("hint_requests_more", Args{"count": more}))
	}
	return hints
}

// waits is the hint about a request that nobody has decided, shortly before it begins and after.
func (s *Snapshot) waits(x Standing, now time.Time) Message {
	if x.Now.Stage != policy.Undecided || x.Now.From.Sub(now) >= waitsSoon {
		return Message{}
	}
	code, missing, names := Code("hint_waits"), x.Now.Needed-len(x.Now.Counted), s.approvers(x, x.Now.Counted)
	switch {
	case len(names) < missing:
		return Say("hint_waits_vain", Args{"id": x.ID, "vendor": x.Vendor, "count": missing})
	case x.Current().For > 0:
		code = "hint_waits_now"
	case !x.Now.From.After(now):
		code = "hint_waits_begun"
	}
	return Say(code, Args{"id": x.ID, "vendor": x.Vendor, "at": s.moment(x.Now.From), "count": missing, "names": Few(names, requestsNamed)})
}

// unsigned is the hint about a request that somebody else has to sign afterwards.
func (s *Snapshot) unsigned(x Standing) Message {
	switch {
	case x.Now.Overdue:
		return Say("hint_emergency_late", Args{"id": x.ID, "vendor": x.Vendor, "name": x.By, "at": s.moment(x.Now.RatifyBy), "names": s.ratifiers(x)})
	case !x.Now.RatifyBy.IsZero():
		return Say("hint_emergency", Args{"id": x.ID, "vendor": x.Vendor, "name": x.By, "at": s.moment(x.Now.RatifyBy), "names": s.ratifiers(x)})
	case x.SelfApproved():
		return Say("hint_self_approved", Args{"id": x.ID, "vendor": x.Vendor, "name": x.By, "names": s.ratifiers(x)})
	}
	return Message{}
}

// opensLess is the hint about an approved request that opens less than its terms, or nothing.
func (s *Snapshot) opensLess(x Standing, now time.Time) Message {
	code := Code("hint_stale")
	switch {
	case x.Now.Stage == policy.StageVoid && x.Now.Until.After(now) && (x.Emergency || len(x.Approvals) > 0):
		code = "hint_void"
	case !x.Now.Stale || !x.live():
		return Message{}
	}
	return Say(code, Args{"id": x.ID, "vendor": x.Vendor, "why": Lacks(x.Now.Why)})
}

// extends is the hint about an extension that waits for approvals.
func (s *Snapshot) extends(x Standing) Message {
	if !x.live() || x.Now.Pending == nil {
		return Message{}
	}
	return Say("hint_extends", Args{"id": x.ID, "vendor": x.Vendor, "at": s.moment(x.Now.Until), "until": s.moment(x.Now.Pending.Until),
		"names": Few(s.approvers(x, x.Now.Pending.Approvals), requestsNamed)})
}

// Asked tells of an engineer's requests at an instant: of an admission by which one it is, of a
// refusal which ones would lead in.
func (s *Snapshot) Asked(d policy.Decision, e *policy.Engineer, at time.Time) (all []Message) {
	switch d.Reason {
	case policy.Admitted:
		if r := s.Base.Request(string(policy.RequestOf(d.Grant.ID))); r != nil {
			all = append(all, Say("asked_admits", Args{"id": r.ID, "names": d.Grant.Window.ApprovedBy, "purpose": r.Purpose}))
			if r.Source != nil {
				all = append(all, Say("asked_source", Args{"id": r.ID, "source": *r.Source}))
			}
		}
		return all
	case policy.OutsideWindow, policy.WrongSource, policy.WrongLine, policy.UnlistedTarget, policy.ContractEnded:
	default:
		return nil
	}
	more := 0
	for _, x := range slices.Backward(s.Standings(at)) {
		m := s.asked(x, at)
		switch {
		case !x.names(e) || m.Empty():
		case len(all) == requestsNamed:
			more++
		default:
			all = append(all, m)
		}
	}
	if more > 0 {
		all = append(all, Say("hint_requests_more", Args{"count": more}))
	}
	return all
}

// names reports whether the request names the engineer.
func (x Standing) names(e *policy.Engineer) bool {
	return x.Vendor == e.Vendor.Name && slices.ContainsFunc(x.Engineers, func(a policy.AskedEngineer) bool { return a.Name == e.Name })
}

// asked tells how a request of a refused engineer stands; empty: it tells nothing new.
func (s *Snapshot) asked(x Standing, at time.Time) Message {
	from, until := s.moment(x.Now.From), s.moment(x.Now.Until)
	switch recent := at.Sub(x.Now.Until) < lately; x.Now.Stage {
	case policy.Undecided:
		return Say("asked_undecided", Args{"id": x.ID, "at": from, "until": until, "names": Few(s.approvers(x, x.Now.Counted), requestsNamed)})
	case policy.Scheduled:
		return Say("asked_scheduled", Args{"id": x.ID, "at": from, "until": until})
	case policy.StageOpen:
		if x.Source != nil {
			return Say("asked_source", Args{"id": x.ID, "source": *x.Source})
		}
	case policy.StageFrozen:
		return Say("asked_frozen", Args{"id": x.ID, "at": until, "until": s.moment(x.Now.Until.Add(x.Now.Window.Grace))})
	case policy.StageVoid:
		if recent {
			return Say("asked_void", Args{"id": x.ID, "vendor": x.Vendor, "why": Lacks(x.Now.Why)})
		}
	case policy.StageExpired:
		if at.Sub(s.expired(x)) < lately {
			return Say("asked_expired", Args{"id": x.ID, "vendor": x.Vendor})
		}
	case policy.StageDenied, policy.StageWithdrawn, policy.StageRevoked:
		if by := s.endedBy(x.Request); at.Sub(by.At) < lately {
			return Say("asked_ended", Args{"id": x.ID, "stage": StageName(x.Now.Stage), "name": by.By, "at": s.moment(by.At), "reason": by.Reason})
		}
	}
	return Message{}
}

// expired is when a request expired.
func (s *Snapshot) expired(x Standing) time.Time {
	last := x.Now.From.Add(s.Base.Policy().Vendor(x.Vendor).OnRequest.Undecided)
	if x.For == 0 && x.Now.Until.Before(last) {
		return x.Now.Until
	}
	return last
}

// endedBy is who denied, withdrew or revoked a request.
func (s *Snapshot) endedBy(r *policy.Request) policy.Sign {
	if shut, revoked := s.Base.Shut(r.Scope()); revoked {
		return policy.Sign{By: shut.Actor, At: shut.At, Reason: shut.Reason}
	}
	for _, by := range []*policy.Sign{r.Denied, r.Withdrawn} {
		if by != nil {
			return *by
		}
	}
	return policy.Sign{}
}

// Lacks says what a policy lacks of a request's terms. It is empty if the policy lacks nothing.
func Lacks(why policy.Disallowed) Message {
	if why == "" {
		return Message{}
	}
	return Say("lacks_"+Code(why), nil)
}

func (s *Snapshot) moment(t time.Time) string { return s.Local(t).Format(Moment) }

// approvers are the operators whose approval a request may still get.
func (s *Snapshot) approvers(x Standing, signed []policy.Sign) []string {
	on := s.Base.Policy().Vendor(x.Vendor).OnRequest
	return named(on.Approvers, func(o *policy.Operator) bool {
		return (o.Name != x.By || on.SelfApproval) && !slices.ContainsFunc(signed, func(sign policy.Sign) bool { return sign.By == o.Name })
	})
}

// ratifiers are the operators who may sign a request afterwards.
func (s *Snapshot) ratifiers(x Standing) any {
	p := s.Base.Policy()
	if p == nil {
		return Few([]string{}, requestsNamed)
	}
	all, may := p.Operators, func(o *policy.Operator) bool { return o.Name != x.By && o.May(policy.MayRatify) }
	if v := p.Vendor(x.Vendor); x.Emergency && v != nil && v.OnRequest != nil && v.OnRequest.Emergency != nil {
		all, may = v.OnRequest.Emergency.Ratifiers, func(o *policy.Operator) bool { return o.Name != x.By }
	}
	return Few(named(all, may), requestsNamed)
}

func named(all []*policy.Operator, may func(*policy.Operator) bool) []string {
	names := []string{}
	for _, o := range all {
		if may(o) {
			names = append(names, o.Name)
		}
	}
	return names
}
