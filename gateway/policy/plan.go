package policy

import (
	"net/netip"
	"slices"
	"time"
)

// Lead is how long before its opening a grant appears in the plan, so that
// its journal entry is on disk and its peer known when the time comes.
const Lead = 10 * time.Second

// Span is the time [From, Until).
type Span struct{ From, Until time.Time }

// Contains reports whether the instant lies in the span.
func (s Span) Contains(t time.Time) bool { return !t.Before(s.From) && t.Before(s.Until) }

// IsZero reports whether s is no span.
func (s Span) IsZero() bool { return s.Until.IsZero() }

// Grant is one concrete opening.
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

// Plan is everything that is open at one instant or opens within Lead of it.
// It is immutable.
type Plan struct {
	At         time.Time
	Policy     *Policy   // nil before the first one
	Doubt      string    // not empty: nobody may enter, and this is why
	NextChange time.Time // the next instant at which a grant opens or closes; zero: none within 400 days
	Wake       time.Time // the next instant at which Plan gives other grants: NextChange, or a grant's Lead before it
	Grants     []*Grant  // sorted by engineer, then by From
	Windows    []WindowState

	index  *index
	shut   map[Scope]ShutRecord
	access []access // by engineer, in the order of index.engineers
	listed sourceTable
}

// access is one engineer's part of a plan.
type access struct {
	grants []*Grant // sorted by From
	shut   Reason   // GatewayShut, VendorShut, EngineerShut; Admitted: not shut
}

// index finds things of one policy.
type index struct {
	engineers []*Engineer
	windows   []*Window
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
		}
		x.windows = append(x.windows, v.Windows...)
	}
	return x
}

// windowCursor remembers what around said of a window, and for how long that
// holds: from the instant it was asked until the next edge.
type windowCursor struct {
	known         Span
	current, next Span
}

// Plan works out every grant at an instant. Instants may come in any order;
// going forward is what it is fast at.
func (s *State) Plan(at time.Time) *Plan {
	p := &Plan{At: at, Policy: s.policy, index: s.index, shut: s.shut}
	if s.policy == nil {
		p.Doubt = "no policy is loaded"
		return p
	}
	p.access = make([]access, len(s.index.engineers))
	for i, e := range s.index.engineers {
		p.access[i].shut = p.shutReason(e)
	}
	p.Windows = make([]WindowState, len(s.index.windows))
	for i, w := range s.index.windows {
		c := &s.windows[i]
		if !c.known.Contains(at) {
			// The horizon moves once a day, so that a plan is the same
			// whether or not another one came before it.
			today := at.UTC().Truncate(24 * time.Hour)
			c.current, c.next = w.around(s.policy.Zone, at, today.Add(Horizon))
			c.known = Span{at, today.Add(24 * time.Hour)}
			if !c.next.IsZero() {
				c.known.Until = c.next.From
			}
			if !c.current.IsZero() {
				c.known.Until = earlier(c.known.Until, c.current.Until)
			}
		}
		p.Windows[i] = WindowState{w, c.current, c.next}
		if !c.current.IsZero() {
			p.soon(c.current.Until)
		}
		if !c.next.IsZero() {
			p.soon(c.next.From)
			if early := c.next.From.Add(-Lead); early.After(at) {
				p.wake(early)
			}
		}
	}
	p.grant()
	return p
}

func (p *Plan) soon(t time.Time) {
	if p.NextChange.IsZero() || t.Before(p.NextChange) {
		p.NextChange = t
	}
	p.wake(t)
}

func (p *Plan) wake(t time.Time) {
	if p.Wake.IsZero() || t.Before(p.Wake) {
		p.Wake = t
	}
}

// grant fills Grants, access and listed from Windows.
func (p *Plan) grant() {
	horizon := p.At.Add(Lead)
	total := 0
	each := func(f func(*Window, Span)) {
		for _, w := range p.Windows {
			if !w.Current.IsZero() {
				f(w.Window, w.Current)
			}
			if !w.Next.IsZero() && !w.Next.From.After(horizon) {
				f(w.Window, w.Next)
			}
		}
	}
	each(func(w *Window, _ Span) { total += len(w.Engineers) })
	made := make([]Grant, 0, total)
	each(func(w *Window, s Span) {
		at := "@" + s.From.UTC().Format("20060102T150405Z")
		for _, e := range w.Engineers {
			a := &p.access[p.index.order[e]]
			if a.shut != Admitted {
				continue
			}
			made = append(made, Grant{s, e.String() + "/" + w.Name + at, e, w})
			a.grants = append(a.grants, &made[len(made)-1])
		}
	})
	p.collect(len(made))
}

// collect makes Grants and listed out of access.
func (p *Plan) collect(total int) {
	p.Grants = make([]*Grant, 0, total)
	for i := range p.access {
		a := &p.access[i]
		slices.SortFunc(a.grants, func(g, h *Grant) int { return g.From.Compare(h.From) })
		p.Grants = append(p.Grants, a.grants...)
	}
	p.listed = newSourceTable(p.Grants)
}

// Restrict gives the plan with only what narrow makes of each grant: the
// grant itself, a narrower copy with the same From, or nil for none. The loop
// uses it to hold back what is not on disk yet and to end what the boot clock
// says is over.
func (p *Plan) Restrict(narrow func(*Grant) *Grant) *Plan {
	r := *p
	r.access = make([]access, len(p.access))
	total := 0
	for i, a := range p.access {
		r.access[i].shut = a.shut
		for _, g := range a.grants {
			if g = narrow(g); g != nil && g.Until.After(g.From) {
				r.access[i].grants = append(r.access[i].grants, g)
				total++
			}
		}
	}
	r.collect(total)
	return &r
}

// Doubted gives the plan without any grant, and why.
func (p *Plan) Doubted(why string) *Plan {
	r := p.Restrict(func(*Grant) *Grant { return nil })
	r.Doubt = why
	return r
}

func (p *Plan) shutReason(e *Engineer) Reason {
	if len(p.shut) == 0 {
		return Admitted
	}
	for _, c := range [...]struct {
		scope  Scope
		reason Reason
	}{{All, GatewayShut}, {Scope(e.Vendor.Name), VendorShut}, {Scope(e.String()), EngineerShut}} {
		if _, ok := p.shut[c.scope]; ok {
			return c.reason
		}
	}
	return Admitted
}

// Shut finds the record that closes a scope itself (not one around it).
func (p *Plan) Shut(scope Scope) (ShutRecord, bool) {
	r, ok := p.shut[scope]
	return r, ok
}

// Listed reports whether an open grant lists the source. It is the first
// question about every packet from outside.
func (p *Plan) Listed(source netip.Addr, now time.Time) bool {
	return p.listed.open(source, now)
}

// ByKey finds the engineer who owns a key, or returns nil.
func (p *Plan) ByKey(key Key) *Engineer {
	if i, ok := p.index.byKey[key]; ok {
		return p.index.engineers[i]
	}
	return nil
}

// ByAddress finds the engineer to whom a tunnel address belongs, or returns nil.
func (p *Plan) ByAddress(inner netip.Addr) *Engineer {
	if i, ok := p.index.byAddress[inner]; ok {
		return p.index.engineers[i]
	}
	return nil
}

// GrantsOf lists an engineer's grants, sorted by From, those that open within
// Lead among them. An engineer of another policy of the same name and key
// counts as the same. The slice must not be changed.
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

// Until is the end of the contiguous union of the engineer's grants that is
// open now: the instant at which everything of this engineer stops. Zero: no
// grant is open.
func (p *Plan) Until(e *Engineer, now time.Time) time.Time {
	return ContiguousEnd(p.GrantsOf(e), now)
}

// ContiguousEnd is the end of the contiguous union of grants, sorted by From,
// that contains now; zero if none does.
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

// Access is what one engineer holds in a plan.
type Access struct {
	Engineer *Engineer
	Grants   []*Grant
}

// Accesses lists the engineers who hold a grant, in the order of the policy.
func (p *Plan) Accesses() []Access {
	var all []Access
	for i := range p.access {
		if len(p.access[i].grants) > 0 {
			all = append(all, Access{p.index.engineers[i], p.access[i].grants})
		}
	}
	return all
}
