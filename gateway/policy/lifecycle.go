package policy

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Stage is where a request stands.
type Stage string

// The stages of a request.
const (
	Undecided       Stage = "requested"
	Scheduled       Stage = "scheduled"
	StageOpen       Stage = "open"
	StageFrozen     Stage = "frozen"
	StageClosed     Stage = "closed"
	StageDenied     Stage = "denied"
	StageWithdrawn  Stage = "withdrawn"
	StageRevoked    Stage = "revoked"
	StageExpired    Stage = "expired"
	StageVoid       Stage = "void"
	stageUnapproved Stage = "" // not approved yet, or not any more
)

// Stages lists all stages.
func Stages() []Stage {
	return []Stage{Undecided, Scheduled, StageOpen, StageFrozen, StageClosed, StageDenied, StageWithdrawn, StageRevoked, StageExpired, StageVoid}
}

// Standing is where a request stands at an instant.
type Standing struct {
	Stage    Stage
	Span               // as approved and allowed now; before the approval as asked
	MaxUntil time.Time // how far one approver can extend it
	Needed   int       // how many approvals it needs
	Counted  []Sign    // the approvals that count now
	Stale    bool      // the policy allows less than the terms say
	Window   *Window   // what it opens; nil: nothing
	Self     bool      // the recorder approved it or an extension, and nobody else has signed it
	Pending  *End      // an extension that waits for approvals
	extended []Sign    // the approvals of extensions that count now
	// ExtensionNeeded is how many approvals Pending needs.
	ExtensionNeeded int
	RatifyBy        time.Time  // until when an emergency is to be ratified; zero: it is none, or is ratified
	Overdue         bool       // it is later than that
	Why             Disallowed // of StageVoid and a stale request: what the policy lacks
	bridge          *Bridge    // of LacksZones, with a window of the policy
}

// Disallowed is what a policy lacks of a request's terms.
type Disallowed string

// What a policy may lack.
const (
	LacksPolicy    Disallowed = "no_policy"
	LacksVendor    Disallowed = "vendor"    // or its on_request
	LacksEmergency Disallowed = "emergency" // emergencies of the vendor, or the operator who declared it
	LacksEngineers Disallowed = "engineers" // with these keys
	LacksSources   Disallowed = "sources"
	LacksTargets   Disallowed = "targets" // with these addresses and services
	LacksTime      Disallowed = "time"    // valid, contract or max_duration
	LacksZones     Disallowed = "zones"   // an engineer would reach two zones
)

// Disalloweds lists all of them.
func Disalloweds() []Disallowed {
	return []Disallowed{LacksPolicy, LacksVendor, LacksEmergency, LacksEngineers, LacksSources, LacksTargets, LacksTime, LacksZones}
}

// Stands works out where a request stands.
func (s *State) Stands(r *Request, now time.Time) Standing {
	x := r.allowed(s.policy)
	if s.bridges[r.ID] != nil && x.Window != nil {
		x.Window, x.Stale, x.Why = nil, true, LacksZones
	}
	if r.Emergency && r.Ratified == nil {
		if x.RatifyBy = r.RatifyBy; x.RatifyBy.IsZero() { // its entry tells no deadline: it is due at once
			x.RatifyBy = r.From
		}
		x.Overdue = !now.Before(x.RatifyBy)
	}
	x.Stage = s.stage(r, &x, now)
	return x
}

func (s *State) stage(r *Request, x *Standing, now time.Time) Stage {
	_, revoked := s.shut[r.Scope()]
	approved := len(x.Counted) >= x.Needed
	switch {
	case revoked:
		return StageRevoked
	case r.Denied != nil:
		return StageDenied
	case r.Withdrawn != nil:
		return StageWithdrawn
	case r.Over && !now.Before(x.Until.Add(x.grace())):
		return StageClosed
	case x.Window == nil && s.policy != nil && r.Opened && !now.Before(x.Until):
		return StageClosed
	case x.Window == nil:
		return StageVoid
	case !approved && !now.Before(x.From.Add(s.policy.onRequest(r.Vendor).Undecided)):
		return StageExpired
	case !approved && !now.Before(x.Until) && (r.For == 0 || r.Opened): // else it counts from the approval
		return StageExpired
	case !approved:
		return Undecided
	case now.Before(x.From):
		return Scheduled
	case now.Before(x.Until):
		return StageOpen
	case now.Before(x.Until.Add(x.grace())):
		return StageFrozen
	}
	return StageClosed
}

// approved is the window if there are enough approvals, else nil.
func (x Standing) approved() *Window {
	if len(x.Counted) < x.Needed {
		return nil
	}
	return x.Window
}

func (x *Standing) grace() time.Duration {
	if x.Window == nil {
		return 0
	}
	return x.Window.Grace
}

// onRequest finds what may be requested of a vendor, or returns nil.
func (p *Policy) onRequest(vendor string) *OnRequest {
	if p == nil {
		return nil
	}
	if v := p.Vendor(vendor); v != nil {
		return v.OnRequest
	}
	return nil
}

// allowed is the part of the request that a policy allows, without a look at the clock.
func (r *Request) allowed(p *Policy) Standing {
	x := Standing{Span: Span{r.From, r.Until}, MaxUntil: r.Until}
	o := p.onRequest(r.Vendor)
	if o == nil {
		if x.Why = LacksVendor; p == nil {
			x.Why = LacksPolicy
		}
		x.Self = r.Opened && !r.Emergency && r.alone(r.Approvals) // no policy hides it
		return x
	}
	x.Counted = o.counted(r, r.Approvals)
	longest := o.MaxDuration
	if x.Needed = max(o.Approvals, r.Needed); r.Emergency {
		x.Needed = 0
		if o.Emergency == nil || !p.Operator(r.By).May(MayRecord) {
			x.Why = LacksEmergency
			return x
		}
		longest = o.Emergency.MaxDuration
	}
	if r.For > 0 && x.Needed > 0 && len(x.Counted) >= x.Needed {
		x.From = x.Counted[x.Needed-1].At.Truncate(time.Second).UTC()
		x.Until = x.From.Add(time.Duration(r.For) * time.Second)
	}
	asked := x.Until
	x.MaxUntil = x.From.Add(longest)
	x.Until = earlier(x.Until, x.MaxUntil)
	if !r.Ended.IsZero() {
		x.Until = earlier(x.Until, r.Ended) // a policy that allows more again opens nothing again
	}
	x.Self = r.alone(x.Counted)
	x.Pending = r.ends(o, &x)
	x.Self = x.Self && (!r.Emergency || r.Ratified != nil)
	r.open(p, o, &x)
	if x.Window != nil && asked.After(x.Until) && len(r.Ends) == 0 {
		x.Stale, x.Why = true, LacksTime
	}
	return x
}

// counted are the signs of operators who may approve this request, one of each person.
func (o *OnRequest) counted(r *Request, signs []Sign) (all []Sign) {
	for _, sign := range signs {
		may := slices.ContainsFunc(o.Approvers, func(a *Operator) bool { return a.Name == sign.By })
		if may && (!r.own(sign) || o.SelfApproval) && !slices.ContainsFunc(all, sign.same) {
			all = append(all, sign)
		}
	}
	return all
}

// alone reports whether the recorder is among those who signed, and nobody else has ratified or
// reviewed the request since.
func (r *Request) alone(signs []Sign) bool {
	return slices.ContainsFunc(signs, func(s Sign) bool {
		later := func(other Sign) bool { return !other.At.Before(s.At) }
		return r.own(s) && (r.Ratified == nil || !later(*r.Ratified)) && !slices.ContainsFunc(r.Reviews, later)
	})
}

// ends applies the later and earlier ends in their order. It returns the last extension if that
// still waits for approvals.
func (r *Request) ends(o *OnRequest, x *Standing) (pending *End) {
	for i := range r.Ends {
		e := &r.Ends[i]
		if e.Shortened != nil { // an extension that waited needs another version
			x.Until, pending = earlier(x.Until, e.Until), nil
			continue
		}
		needed, last := r.extending(o, x, e.Until)
		needed = max(needed, e.Needed)
		counted := o.counted(r, e.Approvals)
		if pending = nil; len(counted) >= needed {
			x.Until = earlier(e.Until, last)
			x.Self = x.Self || r.alone(counted)
			x.extended = append(x.extended, counted...)
		} else {
			pending, x.ExtensionNeeded = e, needed
		}
	}
	return pending
}

// extending is how many approvals an extension until an instant needs, and how far these reach.
func (r *Request) extending(o *OnRequest, x *Standing, until time.Time) (needed int, last time.Time) {
	if until.After(x.MaxUntil) && !r.Emergency {
		return o.Approvals, x.From.Add(o.MaxTotal)
	}
	return 1, x.MaxUntil
}

// open makes the window that the request opens under a policy.
func (r *Request) open(p *Policy, o *OnRequest, x *Standing) {
	v := p.Vendor(r.Vendor)
	w := &Window{Vendor: v, Name: r.ID, Schedule: exactly(x.Span), ValidFrom: o.ValidFrom, ValidUntil: o.ValidUntil, Ticket: r.Ticket, Section: o.Section, Grace: o.Grace, ApprovedBy: r.approvers(x)}
	for _, asked := range r.Engineers {
		e := engineerNamed(o.Engineers, asked)
		if e == nil {
			x.Stale, x.Why = true, LacksEngineers
			continue
		}
		sources := r.sources(o, e, asked)
		if len(sources) == 0 {
			x.Stale, x.Why = true, LacksSources
			continue
		}
		if !slices.Equal(sources, e.Sources) {
			narrower := *e
			narrower.Sources = sources
			e = &narrower
			if r.Source == nil && len(sources) < len(asked.Sources) {
				x.Stale, x.Why = true, LacksSources
			}
		}
		w.Engineers = append(w.Engineers, e)
	}
	if len(w.Engineers) == 0 {
		return
	}
	for _, asked := range r.Targets {
		found, whole := commonTargets(asked, o.Targets)
		if w.Targets = append(w.Targets, found...); !whole {
			x.Stale, x.Why = true, LacksTargets
		}
	}
	w.Targets = slices.CompactFunc(w.Targets, func(a, b *Target) bool { return a == b })
	if len(w.Targets) == 0 {
		return
	}
	spans := w.Spans(p.Zone, x.From, x.Until)
	if len(spans) == 0 {
		x.Stale, x.Why = true, LacksTime
		return
	}
	if first, last := spans[0].From, spans[len(spans)-1].Until; first.After(x.From) || last.Before(x.Until) {
		x.Stale, x.Why = true, LacksTime
		x.Span = Span{first, last}
	}
	if x.bridge = p.bridging(w, v.Windows); x.bridge != nil {
		x.Stale, x.Why = true, LacksZones
		return
	}
	x.Window = w
}

// approvers are the names of those who approved, in the order of their approvals.
func (r *Request) approvers(x *Standing) string {
	var names []string
	if r.Emergency {
		names = append(names, r.By)
	}
	for _, a := range x.Counted {
		names = append(names, a.By)
	}
	for _, a := range x.extended {
		if !slices.Contains(names, a.By) {
			names = append(names, a.By)
		}
	}
	return strings.Join(names, ", ")
}

// engineerNamed finds the engineer with the name and the key, or returns nil.
func engineerNamed(all []*Engineer, asked AskedEngineer) *Engineer {
	i := slices.IndexFunc(all, func(e *Engineer) bool { return e.Name == asked.Name && e.Key == asked.Key })
	if i < 0 {
		return nil
	}
	return all[i]
}

// sources are where an engineer may come from: what was shown, as far as the policy has it.
func (r *Request) sources(o *OnRequest, e *Engineer, asked AskedEngineer) (all []netip.Prefix) {
	if r.Source != nil {
		one := netip.PrefixFrom(*r.Source, r.Source.BitLen())
		if slices.ContainsFunc(o.OneTimeSource, func(p netip.Prefix) bool { return Within(one, p) }) {
			return []netip.Prefix{one}
		}
		return nil
	}
	for _, now := range e.Sources {
		for _, then := range asked.Sources {
			switch {
			case Within(now, then) && !slices.Contains(all, now):
				all = append(all, now)
			case Within(then, now) && !slices.Contains(all, then):
				all = append(all, then)
			}
		}
	}
	return all
}

// commonTargets are the parts of a policy's targets that an asked target has, whatever their names.
// Whole says that together they are all of it.
func commonTargets(asked AskedTarget, all []*Target) (found []*Target, whole bool) {
	services := make([]Service, 0, len(asked.Services))
	for _, text := range asked.Services {
		if s, ok := parseService(text, asked.Prefix.Addr()); ok {
			services = append(services, s)
		}
	}
	for _, t := range all {
		prefix := t.Prefix
		switch {
		case Within(asked.Prefix, t.Prefix):
			prefix = asked.Prefix
		case !Within(t.Prefix, asked.Prefix):
			continue
		}
		var common []Service
		for _, s := range t.Services {
			for _, a := range services {
				if c, ok := s.common(a); ok && !slices.Contains(common, c) {
					common = append(common, c)
				}
			}
		}
		switch {
		case len(common) == 0:
			continue
		case prefix == t.Prefix && slices.Equal(common, t.Services):
			found = append(found, t)
		default:
			part := *t
			part.Prefix, part.Services = prefix, common
			found = append(found, &part)
		}
		last := found[len(found)-1]
		whole = whole || last.Prefix == asked.Prefix && !slices.ContainsFunc(services, func(a Service) bool {
			return !slices.ContainsFunc(last.Services, func(s Service) bool { c, ok := s.common(a); return ok && c == a })
		})
	}
	return found, whole
}

// common is the part that two services have in common.
func (s Service) common(o Service) (Service, bool) {
	c := Service{s.Protocol, max(s.First, o.First), min(s.Last, o.Last)}
	return c, s.Protocol == o.Protocol && c.First <= c.Last
}

// parseService reads Service.String for a target's address family.
func parseService(text string, of netip.Addr) (Service, bool) {
	name, ports, _ := strings.Cut(text, "/")
	first, last, ranged := strings.Cut(ports, "-")
	from, err := strconv.ParseUint(first, 10, 16)
	to := from
	if ranged && err == nil {
		to, err = strconv.ParseUint(last, 10, 16)
	}
	s := Service{First: uint16(from), Last: uint16(to)}
	switch {
	case text == "icmp" && of.Is4():
		return Service{Protocol: ICMP}, true
	case text == "icmp":
		return Service{Protocol: ICMPv6}, true
	case name == "tcp":
		s.Protocol = TCP
	case name == "udp":
		s.Protocol = UDP
	}
	return s, s.Protocol != 0 && err == nil
}

// exactly is the schedule of a request.
type exactly Span

func (x exactly) spans(_ *time.Location, from, until time.Time) []Span {
	return overlapping([]Span{Span(x)}, from, until)
}
