package policy

import (
	"net/netip"
	"slices"
	"time"
)

// Lead is how long before its opening a grant appears in the plan, so that journal entry and peer
// are ready in time.
const Lead = 10 * time.Second

// Span is the time [From, Until).
type Span struct{ From, Until time.Time }

// Contains reports whether the instant lies in the span.
func (s Span) Contains(t time.Time) bool { return !t.Before(s.From) && t.Before(s.Until) }

// IsZero reports whether s is no span.
func (s Span) IsZero() bool { return s.Until.IsZero() }

// Grant is one opening for one engineer. A narrowed grant has copies of engineer and window that
// list less.
type Grant struct {
	Span
	ID       string // vendor/engineer/window@from, unique and the same after a restart
	Engineer *Engineer
	Window   *Window
}

// WindowState is where a window stands at the instant of a plan.
type WindowState struct {
	Window  *Window
	Current Span // zero: not open
	Next    Span // the opening after that; zero: none within 400 days
}

// Plan has everything that is open at one instant, or opens within Lead of it. It is immutable.
type Plan struct {
	At         time.Time
	Policy     *Policy   // nil before the first one
	Doubt      string    // the reason that keeps everyone out; empty: none
	NextChange time.Time // the next instant at which a grant opens or closes; zero: none within 400 days
	Wake       time.Time // the next instant at which Plan gives other grants: NextChange, or a grant's Lead before it
	Grants     []*Grant  // sorted by engineer, then by From
	Windows    []WindowState
	Frozen     []Frozen // grants that ended a short while ago; State.Plan knows of none

	index    *index
	shut     map[Scope]ShutRecord
	switched *ShutRecord
	access   []access // by engineer, in the order of index.engineers
	listed   sourceTable
}

// access is one engineer's part of a plan.
type access struct {
	grants []*Grant // sorted by From
	shut   Reason   // GatewayShut, VendorShut, EngineerShut; Admitted: not shut
}

// index finds things of one policy.
type index struct {
	engineers []*Engineer
	names     []string  // of engineers: vendor/engineer
	windows   []*Window // of the policy, then of requests
	listed    int       // how many of them are the policy's
	members   [][]int   // of windows: which engineers, by their place above
	byKey     map[Key]int
	byAddress map[netip.Addr]int
	order     map[*Engineer]int
}

func newIndex(p *Policy) *index {
	x := &index{byKey: map[Key]int{}, byAddress: map[netip.Addr]int{}, order: map[*Engineer]int{}}
	for _, v := range p.Vendors {
		for _, e := range v.Engineers {
			n := len(x.engineers)
			x.byKey[e.Key], x.order[e] = n, n
			for _, a := range e.Addresses {
				x.byAddress[a] = n
			}
			x.engineers = append(x.engineers, e)
			x.names = append(x.names, e.String())
		}
		for _, w := range v.Windows {
			x.add(w)
		}
	}
	x.listed = len(x.windows)
	return x
}

// add adds a window. A request's may have narrower copies of engineers, so their keys count.
func (x *index) add(w *Window) {
	members := make([]int, len(w.Engineers))
	for i, e := range w.Engineers {
		members[i] = x.byKey[e.Key]
	}
	x.windows = append(x.windows, w)
	x.members = append(x.members, members)
}

// with is the index with the windows of requests in place of those that it has.
func (x *index) with(requests []*Window) *index {
	c := *x
	c.windows, c.members = slices.Clip(x.windows[:x.listed]), slices.Clip(x.members[:x.listed])
	for _, w := range requests {
		c.add(w)
	}
	return &c
}

// windowCursor caches the result of Window.around. known is the time in which it holds.
type windowCursor struct {
	known         Span
	current, next opened
}

// opened is a span of a window with its grants, one for each of the window's engineers, shut or
// not. All plans share the grants.
type opened struct {
	Span
	grants []Grant
}

// at updates the cursor to an instant.
func (c *windowCursor) at(w *Window, zone *time.Location, at time.Time) {
	if c.known.Contains(at) {
		return
	}
	// The horizon moves once a day, so that a plan does not depend on the plans before it.
	today := at.UTC().Truncate(24 * time.Hour)
	old := *c
	current, next := w.around(zone, at, today.Add(Horizon))
	for _, o := range []struct {
		to *opened
		s  Span
	}{{&c.current, current}, {&c.next, next}} {
		switch o.s {
		case old.current.Span:
			*o.to = old.current
		case old.next.Span:
			*o.to = old.next
		default:
			*o.to = opened{Span: o.s}
		}
	}
	c.known = Span{at, today.Add(24 * time.Hour)}
	if !next.IsZero() {
		c.known.Until = next.From
	}
	if !current.IsZero() {
		c.known.Until = earlier(c.known.Until, current.Until)
	}
}

// make makes the grants of the span, if there is one that has none yet.
func (o *opened) make(w *Window, members []int, names []string) {
	if o.grants != nil || o.IsZero() {
		return
	}
	o.grants = make([]Grant, len(members))
	after := "/" + w.Name + "@" + o.From.UTC().Format("20060102T150405Z")
	for i, e := range w.Engineers {
		o.grants[i] = Grant{o.Span, names[members[i]] + after, e, w}
	}
}

// Plan computes every grant at an instant. Instants may come in any order; it is fast going
// forward.
func (s *State) Plan(at time.Time) *Plan {
	p := &Plan{At: at, Policy: s.policy, index: s.index, shut: s.shut, switched: s.switched}
	if s.policy == nil {
		p.Doubt = "no policy is loaded"
		return p
	}
	p.access = make([]access, len(s.index.engineers))
	for i := range p.access {
		p.access[i].shut = Admitted
		if s.closed != nil {
			p.access[i].shut = s.closed[i]
		}
	}
	horizon := at.Add(Lead)
	p.Windows = make([]WindowState, len(s.index.windows))
	for i, w := range s.index.windows {
		c := &s.windows[i]
		c.at(w, s.policy.Zone, at)
		p.Windows[i] = WindowState{w, c.current.Span, c.next.Span}
		if !c.current.IsZero() {
			sooner(&p.NextChange, c.current.Until)
			c.current.make(w, s.index.members[i], s.index.names)
		}
		if c.next.IsZero() {
			continue
		}
		sooner(&p.NextChange, c.next.From)
		if c.next.From.After(horizon) {
			sooner(&p.Wake, c.next.From.Add(-Lead))
		} else {
			c.next.make(w, s.index.members[i], s.index.names)
		}
	}
	if !p.NextChange.IsZero() {
		sooner(&p.Wake, p.NextChange)
	}
	p.grant(s.windows)
	return p
}

func byFrom(g, h *Grant) int { return g.From.Compare(h.From) }

// sooner sets an instant to an earlier one; a zero instant is none yet.
func sooner(to *time.Time, t time.Time) {
	if to.IsZero() || t.Before(*to) {
		*to = t
	}
}

// grant fills Grants, access and listed.
func (p *Plan) grant(windows []windowCursor) {
	horizon := p.At.Add(Lead)
	each := func(f func(engineer int, g *Grant)) {
		for i := range windows {
			c := &windows[i]
			for j := range c.current.grants {
				f(p.index.members[i][j], &c.current.grants[j])
			}
			if c.next.From.After(horizon) {
				continue // made for a plan of later, if at all
			}
			for j := range c.next.grants {
				f(p.index.members[i][j], &c.next.grants[j])
			}
		}
	}
	// Counted first, so that every engineer's grants are a part of Grants.
	ends := make([]int, len(p.access))
	each(func(e int, _ *Grant) {
		if p.access[e].shut == Admitted {
			ends[e]++
		}
	})
	total := 0
	for i, n := range ends {
		ends[i] = total
		total += n
	}
	p.Grants = make([]*Grant, total)
	each(func(e int, g *Grant) {
		if p.access[e].shut == Admitted {
			p.Grants[ends[e]] = g
			ends[e]++
		}
	})
	from := 0
	for i, end := range ends {
		grants := p.Grants[from:end:end]
		slices.SortStableFunc(grants, byFrom)
		p.access[i].grants = grants
		from = end
	}
	p.listed = newSourceTable(p.Grants)
}

// Restrict gives a plan in which narrow has replaced each grant: by itself, by a narrower copy, or
// by nil for none. See Replace.
func (p *Plan) Restrict(narrow func(*Grant) *Grant) *Plan {
	return p.Replace(func(to, grants []*Grant) []*Grant {
		for _, g := range grants {
			if g = narrow(g); g != nil {
				to = append(to, g)
			}
		}
		return to
	})
}

// Replace gives a plan with other grants. For each engineer who has any, with appends the grants in
// their place to a slice, and returns it. They may be copies that end earlier, have fewer targets or
// sources, and, if they are open, have another id and begin at another time.
func (p *Plan) Replace(with func(to, grants []*Grant) []*Grant) *Plan {
	r := *p
	r.access = make([]access, len(p.access))
	r.Grants = make([]*Grant, 0, len(p.Grants))
	for i, a := range p.access {
		from := len(r.Grants)
		if len(a.grants) > 0 {
			r.Grants = with(r.Grants, a.grants)
		}
		grants := slices.DeleteFunc(r.Grants[from:], func(g *Grant) bool { return !g.Until.After(g.From) })
		end := from + len(grants)
		r.Grants, grants = r.Grants[:end], grants[:len(grants):len(grants)]
		slices.SortStableFunc(grants, byFrom)
		r.access[i] = access{grants: grants, shut: a.shut}
	}
	r.listed = newSourceTable(r.Grants)
	return &r
}

// Doubted gives the plan without any grant, frozen ones included, and why.
func (p *Plan) Doubted(why string) *Plan {
	r := p.Restrict(func(*Grant) *Grant { return nil })
	r.Doubt, r.Frozen = why, nil
	return r
}

// Changed lists the engineers whose grants are not the very same as in another plan of the same policy.
func (p *Plan) Changed(before *Plan) (changed []*Engineer) {
	for i, a := range p.access {
		if !slices.Equal(a.grants, before.access[i].grants) {
			changed = append(changed, p.index.engineers[i])
		}
	}
	return changed
}

// Listed reports whether an open grant lists the source of a packet that came by an interface. Every
// packet from outside is asked about.
func (p *Plan) Listed(source netip.Addr, ingress string, now time.Time) bool {
	return p.listed.open(source, ingress, now)
}

// ByKey finds the engineer with a key, or returns nil.
func (p *Plan) ByKey(key Key) *Engineer {
	if i, ok := p.index.byKey[key]; ok {
		return p.index.engineers[i]
	}
	return nil
}

// ByAddress finds the engineer with a tunnel address, or returns nil.
func (p *Plan) ByAddress(inner netip.Addr) *Engineer {
	if i, ok := p.index.byAddress[inner]; ok {
		return p.index.engineers[i]
	}
	return nil
}

// GrantsOf lists an engineer's grants, sorted by From, including those that open within Lead. An
// engineer of another policy with the same name and key is the same. The slice must not be changed.
func (p *Plan) GrantsOf(e *Engineer) []*Grant {
	if i, ok := p.find(e); ok {
		return p.access[i].grants
	}
	return nil
}

func (p *Plan) find(e *Engineer) (int, bool) {
	if p.access == nil {
		return 0, false
	}
	if i, ok := p.index.order[e]; ok {
		return i, true
	}
	i, ok := p.index.byKey[e.Key]
	if ok && p.index.engineers[i].String() == e.String() {
		return i, true
	}
	return 0, false
}

// Until is when everything of the engineer stops: the end of the contiguous union of grants that is
// open now. It is zero if no grant is open.
func (p *Plan) Until(e *Engineer, now time.Time) time.Time {
	return ContiguousEnd(p.GrantsOf(e), now)
}

// ContiguousEnd is the end of the contiguous union that contains now. grants are sorted by From. It
// is zero if none contains now.
func ContiguousEnd(grants []*Grant, now time.Time) time.Time {
	var end time.Time
	for _, g := range grants {
		if g.From.After(now) && (end.IsZero() || g.From.After(end)) {
			break
		}
		if g.Until.After(now) && g.Until.After(end) {
			end = g.Until
		}
	}
	return end
}

// Access is an engineer with the grants that a plan has for the engineer.
type Access struct {
	Engineer *Engineer
	Grants   []*Grant
}

// Accesses lists the engineers with a grant, in the order of the policy.
func (p *Plan) Accesses() []Access {
	var all []Access
	for i := range p.access {
		if len(p.access[i].grants) > 0 {
			all = append(all, Access{p.index.engineers[i], p.access[i].grants})
		}
	}
	return all
}
