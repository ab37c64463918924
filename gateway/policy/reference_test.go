package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// reference answers what Plan and Decide answer, from the words of the policy
// and by looking at clocks, without any of the cleverness: a local time is
// found by watching a clock tick through the days around it, a window is open
// if one of its spans says so and its local date is not cut, and the reason is
// the first of the list that applies.
type reference struct {
	policy *Policy
	tick   time.Duration          // divides every offset and every transition of the zone
	shut   map[Scope]map[Key]bool // what is shut, and the keys that were of it meanwhile
	rules  map[*Rule]*obviousRule

	from, until time.Time
	edges       []time.Time        // every instant in [from, until) at which anything may change
	spans       map[*Window][]Span // as the schedule says, uncut
	pieces      map[*Window][]Span // what is left of them

	now    time.Time // the instant last asked for, and what is so then
	opened map[*Window]bool
	known  map[*Window][]Span
}

func newReference(p *Policy, rules map[*Rule]*obviousRule, tick time.Duration, from, until time.Time) *reference {
	r := &reference{
		policy: p, tick: tick, shut: map[Scope]map[Key]bool{}, rules: rules, from: from, until: until,
		spans: map[*Window][]Span{}, pieces: map[*Window][]Span{},
	}
	edges := map[int64]bool{}
	for t := from; t.Before(until); t = t.Add(tick) { // midnights and set clocks
		before, now := t.Add(-time.Second).In(p.Zone), t.In(p.Zone)
		_, a := before.Zone()
		_, b := now.Zone()
		if DateOf(before) != DateOf(now) || a != b {
			edges[t.Unix()] = true
		}
	}
	for _, v := range p.Vendors {
		for _, w := range v.Windows {
			r.spans[w] = r.scheduled(w)
			for _, s := range r.spans[w] {
				edges[s.From.Unix()], edges[s.Until.Unix()] = true, true
			}
		}
	}
	for unix := range edges {
		if t := time.Unix(unix, 0).In(p.Zone); !t.Before(from) && t.Before(until) {
			r.edges = append(r.edges, t)
		}
	}
	slices.SortFunc(r.edges, time.Time.Compare)
	for w, spans := range r.spans {
		r.pieces[w] = r.cut(w, spans)
	}
	return r
}

// shown watches the clock from 16 h before to 16 h after the instant at which
// a clock in Greenwich would show the time, and gives every instant at which
// this one does; none: the first instant at which it shows a later time.
func (r *reference) shown(d Date, at TimeOfDay) (instants []time.Time, passed time.Time) {
	want := time.Date(d.Year, d.Month, d.Day, 0, 0, int(at), 0, time.UTC)
	looks := func(t time.Time) time.Time { // what the clock shows at t, as if in Greenwich
		t = t.In(r.policy.Zone)
		return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
	}
	for t := want.Add(-16 * time.Hour); !t.After(want.Add(16 * time.Hour)); t = t.Add(r.tick) {
		if looks(t).Equal(want) {
			instants = append(instants, t)
		}
		if len(instants) == 0 && passed.IsZero() && looks(t).After(want) {
			for passed = t; looks(passed.Add(-time.Second)).After(want); {
				passed = passed.Add(-time.Second)
			}
		}
	}
	return instants, passed
}

func (r *reference) opens(d Date, at TimeOfDay) time.Time {
	if instants, passed := r.shown(d, at); len(instants) == 0 {
		return passed
	} else {
		return instants[len(instants)-1]
	}
}

func (r *reference) closes(d Date, at TimeOfDay) time.Time {
	if instants, passed := r.shown(d, at); len(instants) == 0 {
		return passed
	} else {
		return instants[0]
	}
}

// exists reports whether any minute of the date was ever shown.
func (r *reference) exists(d Date) bool {
	for t := d.utc().Add(-16 * time.Hour); t.Before(d.utc().Add(40 * time.Hour)); t = t.Add(r.tick) {
		if DateOf(t.In(r.policy.Zone)) == d {
			return true
		}
	}
	return false
}

// scheduled gives the spans of a window's schedule that touch [from, until).
func (r *reference) scheduled(w *Window) []Span {
	if o, ok := w.Schedule.(*Once); ok {
		s := Span{r.opens(o.From.Date, o.From.Time), r.closes(o.Until.Date, o.Until.Time)}
		if s.From.Before(s.Until) {
			return []Span{s}
		}
		return nil
	}
	var all []Span
	for d := DateOf(r.from).AddDays(-15); d.Compare(DateOf(r.until).AddDays(15)) <= 0; d = d.AddDays(1) {
		var s Span
		switch x := w.Schedule.(type) {
		case *Days:
			on := x.Weekdays[d.Weekday()]
			for _, c := range x.Calendars {
				on = on || c.Covers(d)
			}
			if !on || !r.exists(d) {
				continue
			}
			s.From, s.Until = r.opens(d, x.From), r.closes(d, x.To)
			if x.To <= x.From {
				s.Until = r.closes(d.AddDays(1), x.To)
			}
		case *Rule:
			if !r.rules[x].occurs(d) || !r.exists(d) {
				continue
			}
			s.From = r.opens(d, x.At)
			s.Until = s.From.Add(x.Duration)
		}
		if s.From.Before(s.Until) {
			all = append(all, s)
		}
	}
	return all
}

// open reports whether a window is open at an instant.
func (r *reference) open(w *Window, now time.Time) bool {
	return r.holds(w, DateOf(now.In(r.policy.Zone))) && slices.ContainsFunc(r.spans[w], func(s Span) bool { return s.Contains(now) })
}

// holds reports whether a window is not cut on a date.
func (r *reference) holds(w *Window, d Date) bool {
	if !w.ValidFrom.IsZero() && d.Compare(w.ValidFrom) < 0 ||
		!w.ValidUntil.IsZero() && d.Compare(w.ValidUntil) > 0 || ended(w.Vendor, d) {
		return false
	}
	return !slices.ContainsFunc(w.Except, func(c *Calendar) bool { return c.Covers(d) })
}

// ended reports whether on a date a contract or a consent is over: of the vendor, or of one above it.
func ended(v *Vendor, d Date) bool {
	over := func(last Date) bool { return !last.IsZero() && d.Compare(last) > 0 }
	return over(v.ContractUntil) || v.Consent != nil && over(v.Consent.Until) || v.Under != nil && ended(v.Under, d)
}

// below reports whether a scope names a vendor or one above it.
func below(scope Scope, v *Vendor) bool {
	return string(scope) == v.Name || v.Under != nil && below(scope, v.Under)
}

// cut gives the stretches between edges in which the window is open, joined
// where no span begins.
func (r *reference) cut(w *Window, spans []Span) []Span {
	var all []Span
	was := false
	for i, edge := range r.edges[:len(r.edges)-1] {
		is := r.open(w, edge)
		begins := slices.ContainsFunc(spans, func(s Span) bool { return s.From.Equal(edge) })
		switch next := r.edges[i+1]; {
		case is && was && !begins:
			all[len(all)-1].Until = next
		case is:
			all = append(all, Span{edge, next})
		}
		was = is
	}
	return all
}

// look works out, once for an instant, which windows are open, and which
// spans a plan has to know: those that are open and those that open within Lead.
func (r *reference) look(now time.Time) {
	if r.opened != nil && now.Equal(r.now) {
		return
	}
	r.now, r.opened, r.known = now, map[*Window]bool{}, map[*Window][]Span{}
	for w := range r.pieces {
		r.opened[w], r.known[w] = r.open(w, now), r.grants(w, now)
	}
}

// grants gives the spans that a plan at an instant has to know of a window:
// the one that is open, and the next one if it opens within Lead.
func (r *reference) grants(w *Window, now time.Time) (spans []Span) {
	for _, s := range r.pieces[w] {
		if s.Contains(now) {
			spans = append(spans, s)
		} else if s.From.After(now) {
			if !s.From.After(now.Add(Lead)) {
				spans = append(spans, s)
			}
			break
		}
	}
	return spans
}

// shuts reports whether a scope of a kind closes an engineer, by name or key.
func (r *reference) shuts(e *Engineer, kind func(scope string) bool) bool {
	for scope, keys := range r.shut {
		named := scope == "all" || below(scope, e.Vendor) || string(scope) == e.Vendor.Name+"/"+e.Name
		if kind(string(scope)) && (named || keys[e.Key]) {
			return true
		}
	}
	return false
}

// comes notes the keys that are of each shut scope now.
func (r *reference) comes() {
	for scope, keys := range r.shut {
		for _, v := range r.policy.Vendors {
			for _, e := range v.Engineers {
				if below(scope, v) || string(scope) == v.Name+"/"+e.Name {
					keys[e.Key] = true
				}
			}
		}
	}
}

// rename puts another policy in the place of the reference's: with the same
// windows, but vendors and engineers may have other names, each other's too,
// and keys other owners.
func (r *reference) rename(pick func(int) int) *Policy {
	p := *r.policy
	p.Vendors = nil
	number := pick(1000)
	spans, pieces := map[*Window][]Span{}, map[*Window][]Span{}
	renamed := map[*Vendor]*Vendor{}
	var everybody []*Engineer
	for i, old := range r.policy.Vendors {
		v := *old
		switch pick(4) {
		case 0:
			v.Name = fmt.Sprintf("vendor%d-%d", i, number)
		case 1:
			v.Name = fmt.Sprintf("vendor%d", i) // as in the beginning
		}
		v.Engineers, v.Windows = nil, nil
		now := map[*Engineer]*Engineer{}
		for j, old := range old.Engineers {
			e := *old
			if pick(4) == 0 {
				e.Name = fmt.Sprintf("engineer%d-%d", j, number)
			}
			e.Vendor, now[old] = &v, &e
			v.Engineers = append(v.Engineers, &e)
		}
		everybody = append(everybody, v.Engineers...)
		for _, old := range old.Windows {
			w := *old
			w.Vendor, w.Engineers = &v, nil
			for _, e := range old.Engineers {
				w.Engineers = append(w.Engineers, now[e])
			}
			spans[&w], pieces[&w] = r.spans[old], r.pieces[old]
			v.Windows = append(v.Windows, &w)
		}
		slices.SortFunc(v.Engineers, func(a, b *Engineer) int { return strings.Compare(a.Name, b.Name) })
		p.Vendors = append(p.Vendors, &v)
		renamed[old] = &v
	}
	for _, v := range p.Vendors {
		if bound := v.LastDay(); bound.IsZero() && pick(3) == 0 {
			v.Under = nil
		}
		v.Under = renamed[v.Under]
	}
	if pick(2) == 0 {
		a, b := everybody[pick(len(everybody))], everybody[pick(len(everybody))]
		a.Key, b.Key = b.Key, a.Key
	}
	slices.SortFunc(p.Vendors, func(a, b *Vendor) int { return strings.Compare(a.Name, b.Name) })
	r.policy, r.spans, r.pieces, r.opened = &p, spans, pieces, nil
	r.comes()
	return &p
}

// decide gives the first reason that applies, and until when it admits.
func (r *reference) decide(q Query, now time.Time) (reason Reason, engineer *Engineer, until time.Time) {
	for _, v := range r.policy.Vendors {
		for _, e := range v.Engineers {
			if e.Key == q.Key && q.Proven {
				engineer = e
			}
		}
	}
	if q.Fault == Malformed || q.Fault == RateLimited && engineer == nil {
		return q.Fault, nil, until
	}
	if q.Key == (Key{}) {
		return UnlistedSource, nil, until
	}
	if engineer == nil {
		return UnknownKey, nil, until
	}
	e := engineer
	r.look(now)
	var admitting []Span // every span of a window that admits, that a plan knows now
	anyOpen := false
	for _, w := range e.Vendor.Windows {
		if !slices.Contains(w.Engineers, e) {
			continue
		}
		anyOpen = anyOpen || r.opened[w]
		lists := !q.To.IsValid()
		for _, t := range w.Targets {
			for _, s := range t.Services {
				port := s.First <= q.To.Port() && q.To.Port() <= s.Last || s.Protocol == ICMP || s.Protocol == ICMPv6
				inside := slices.ContainsFunc(e.Addresses, func(a netip.Addr) bool { return a.BitLen() == q.To.Addr().BitLen() })
				lists = lists || inside && t.Prefix.Contains(q.To.Addr()) && s.Protocol == q.Proto && port
			}
		}
		if lists {
			admitting = append(admitting, r.known[w]...)
		}
	}
	for grown := true; grown; {
		grown = false
		for _, s := range admitting {
			if (s.Contains(now) || !until.IsZero() && !s.From.After(until)) && s.Until.After(until) {
				until, grown = s.Until, true
			}
		}
	}
	wrongSource := q.Source.IsValid()
	for _, p := range e.Sources {
		wrongSource = wrongSource && !p.Contains(q.Source)
	}
	today := DateOf(now.In(r.policy.Zone))
	applies := [reasons]bool{
		RateLimited:     q.Fault == RateLimited,
		Replayed:        q.Fault == Replayed,
		FutureTimestamp: q.Fault == FutureTimestamp,
		GatewayShut:     r.shuts(e, func(scope string) bool { return scope == "all" }),
		VendorShut:      r.shuts(e, func(scope string) bool { return scope != "all" && !strings.Contains(scope, "/") }),
		EngineerShut:    r.shuts(e, func(scope string) bool { return strings.Contains(scope, "/") }),
		WrongSource:     wrongSource,
		ContractEnded:   !anyOpen && ended(e.Vendor, today),
		OutsideWindow:   !anyOpen,
		UnlistedTarget:  until.IsZero(),
		Admitted:        true,
	}
	for _, reason := range Reasons() {
		if applies[reason] {
			if reason != Admitted {
				until = time.Time{}
			}
			return reason, e, until
		}
	}
	panic("no reason applies")
}

// randomPolicy makes a policy from random numbers: three vendors, their
// engineers, and windows of every form, cut in every way, around a date.
func randomPolicy(pick func(int) int, zone *time.Location, around Date) (*Policy, map[*Rule]*obviousRule) {
	p := &Policy{Site: "site", Zone: zone}
	rules := map[*Rule]*obviousRule{}
	date := func() Date { return around.AddDays(pick(365)) }
	at := func() TimeOfDay {
		switch pick(6) {
		case 0:
			return 0
		case 1:
			return TimeOfDay(pick(86400))
		case 2:
			return TimeOfDay(9*3600 + pick(3)*1800) // so that windows touch
		}
		return TimeOfDay(pick(16) * 900) // the small hours, where clocks are set
	}
	for i := range 3 {
		c := &Calendar{Name: fmt.Sprintf("calendar%d", i), Country: []string{"", "JP", "GB"}[pick(3)]}
		for range pick(8) {
			first := date()
			c.Dates = append(c.Dates, DateRange{first, first.AddDays(pick(9) / 3)})
		}
		slices.SortFunc(c.Dates, func(a, b DateRange) int { return a.First.Compare(b.First) })
		p.Calendars = append(p.Calendars, c)
	}
	calendars := func(oneIn int) (some []*Calendar) {
		for _, c := range p.Calendars {
			if pick(oneIn) == 0 {
				some = append(some, c)
			}
		}
		return some
	}
	for i, services := range [][]Service{
		{{TCP, 22, 22}, {TCP, 5900, 5910}, {ICMP, 0, 0}},
		{{UDP, 161, 161}},
		{{ICMP, 0, 0}},
		{{TCP, 443, 443}, {ICMPv6, 0, 0}},
	} {
		prefix := netip.MustParsePrefix([]string{"10.1.0.5/32", "10.1.2.0/28", "10.1.0.0/24", "fd00:1::/64"}[i])
		p.Targets = append(p.Targets, &Target{Name: fmt.Sprintf("target%d", i), Prefix: prefix, Services: services})
	}
	for i := range 1 + pick(3) {
		v := &Vendor{Name: fmt.Sprintf("vendor%d", i), Sources: []netip.Prefix{
			netip.MustParsePrefix(fmt.Sprintf("203.0.113.%d/30", 16*i)), netip.MustParsePrefix(fmt.Sprintf("2001:db8:%d::/64", i)),
		}}
		if pick(3) == 0 {
			v.ContractUntil = date()
		}
		if i > 0 && pick(2) == 0 {
			v.Under = p.Vendors[pick(i)]
			if pick(2) == 0 {
				v.Consent = &Consent{Until: date()}
			}
		}
		for j := range 1 + pick(3) {
			e := &Engineer{
				Vendor: v, Name: fmt.Sprintf("engineer%d", j), Sources: v.Sources,
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 99, byte(i), byte(j)})},
			}
			if j != 1 { // who has both families
				e.Addresses = append(e.Addresses, netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(i), 15: byte(j)}))
			}
			e.Key[0], e.Key[1] = byte(i+1), byte(j+1)
			if pick(3) == 0 {
				e.Sources = []netip.Prefix{netip.PrefixFrom(v.Sources[0].Addr().Next(), 32)}
			}
			v.Engineers = append(v.Engineers, e)
		}
		for j := range 1 + pick(4) {
			w := &Window{Vendor: v, Name: fmt.Sprintf("window%d", j), Engineers: v.Engineers, Except: calendars(4)}
			switch pick(4) {
			case 0:
				o := randomRule(pick)
				duration := time.Duration(1+pick(30*3600)) * time.Second
				if pick(4) == 0 {
					duration = time.Duration(1+pick(13*24)) * time.Hour
				}
				r, err := NewRule(o.text(), at(), duration, o.anchor)
				if err != nil { // it matches no date
					o = &obviousRule{freq: "DAILY", interval: 1, weekStart: time.Monday}
					r, _ = NewRule(o.text(), at(), 25*time.Hour, Date{})
				}
				w.Schedule, rules[r] = r, o
			case 1:
				from := LocalTime{date(), at()}
				w.Schedule = &Once{from, LocalTime{from.Date.AddDays(pick(5)), at()}}
			default:
				d := &Days{From: at(), To: at(), Calendars: calendars(3)}
				for i := range d.Weekdays {
					d.Weekdays[i] = pick(2) == 0
				}
				if pick(6) == 0 {
					d.To = 86400
				}
				w.Schedule = d
			}
			if pick(3) == 0 {
				w.ValidFrom = date()
			}
			if pick(3) == 0 {
				w.ValidUntil = date()
			}
			if pick(3) == 0 {
				w.Engineers = v.Engineers[:1]
			}
			for _, t := range p.Targets {
				if pick(2) == 0 {
					w.Targets = append(w.Targets, t)
				}
			}
			v.Windows = append(v.Windows, w)
		}
		p.Vendors = append(p.Vendors, v)
	}
	return p, rules
}
