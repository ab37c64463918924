package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// opening is what the journal says of a grant.
type opening struct {
	grant              *policy.Grant // as much of it as the entry covers and the policy still opens
	approvedBy, ticket string
}

// narrow leaves of a grant what its entry on disk covers. Of the entry it
// forgets what the policy no longer opens: should a later policy open it
// again, that is a new opening and recorded anew. So is what opens again for who
// was out.
func (l *loop) narrow(g *policy.Grant) *policy.Grant {
	if l.narrowing.keepsOut(g.Engineer.Key) {
		return nil
	}
	o := l.recorded[g.ID]
	if o == nil {
		o = l.instead(g)
	}
	if o == nil {
		return nil
	}
	c := covered(o.grant, g)
	if c == nil {
		return nil
	}
	o.grant = c
	until := l.bounded(c.ID, c.Until)
	if !until.After(l.now) {
		return nil
	}
	if until.Equal(c.Until) {
		return c
	}
	shorter := *c
	shorter.Until = until
	return &shorter
}

// instead finds the entry by which a grant is open that has no entry of its
// own yet, because its window now begins at another time: that of the same
// engineer and window as they were.
func (l *loop) instead(g *policy.Grant) *opening {
	if !g.Contains(l.now) {
		return nil
	}
	if l.openNow == nil {
		l.openNow = map[string]*opening{}
		for id, o := range l.recorded {
			if o.grant.Contains(l.now) {
				l.openNow[withoutInstant(id)] = o
			}
		}
	}
	return l.openNow[withoutInstant(g.ID)]
}

// withoutInstant is the part of a grant's name that says who and by what window.
func withoutInstant(id string) string {
	name, _, _ := strings.Cut(id, "@")
	return name
}

// covers reports whether the entry says all that is to be said of the grant.
func (o *opening) covers(g *policy.Grant) bool {
	return o != nil && o.approvedBy == g.Window.ApprovedBy && o.ticket == g.Window.Ticket && covered(o.grant, g) == g
}

// occupied reports whether the ruleset may still have an engineer's tunnel
// address for somebody else, whose flows the kernel has not forgotten. Until
// it has, the gate lets nobody else use the address.
func (l *loop) occupied(e *policy.Engineer) bool {
	return slices.ContainsFunc(e.Addresses, func(a netip.Addr) bool {
		key, known := l.tenants[a]
		return known && key != e.Key
	})
}

// settled takes note that the ruleset has a policy's engineers, and what was
// open for those before them is not any more.
func (l *loop) settled(p *policy.Policy) {
	if p == nil || p == l.settledOn {
		return
	}
	l.settledOn = p
	for _, v := range p.Vendors {
		for _, e := range v.Engineers {
			l.replan = l.replan || l.occupied(e)
			for _, a := range e.Addresses {
				l.tenants[a] = e.Key
			}
		}
	}
}

// openGrants sends to the journal what is to open and is not there yet.
func (l *loop) openGrants() {
	for _, g := range l.raw.Grants {
		if l.occupied(g.Engineer) || l.narrowing.keepsOut(g.Engineer.Key) {
			continue
		}
		if l.recorded[g.ID].covers(g) {
			delete(l.pending, g.ID) // of a policy that is not in force any more
			continue
		}
		if l.pending[g.ID].covers(g) {
			continue
		}
		if !l.bounded(g.ID, g.Until).After(l.now) {
			continue
		}
		o := &opening{grant: g, approvedBy: g.Window.ApprovedBy, ticket: g.Window.Ticket}
		l.pending[g.ID] = o
		l.add(record{entries: []journal.Entry{grantEntry(journal.WindowOpened, g)}, done: func(l *loop, err error) {
			if l.pending[g.ID] != o {
				return // the policy changed meanwhile, and a later entry says what opens
			}
			if errors.Is(err, errRefused) {
				return // it would be refused again; TestTheGreatestEntriesFit: no policy's is
			}
			delete(l.pending, g.ID)
			if err == nil {
				l.recorded[g.ID] = o
			}
			l.replan = true
		}})
	}
}

// closeGrants records what was open and no longer is.
func (l *loop) closeGrants() {
	still := make(map[string]bool, len(l.plan.Grants))
	for _, g := range l.plan.Grants {
		still[g.ID] = true
	}
	var entries []journal.Entry
	for id, o := range l.recorded {
		if still[id] {
			continue
		}
		end := l.bounded(id, o.grant.Until)
		delete(l.recorded, id)
		delete(l.pending, id) // of a wider opening: the closing follows it into the journal
		e := grantEntry(journal.WindowClosed, o.grant)
		e.Reason = string(whyEnded(l.plan, o.grant.Engineer, nil, end, l.now, l.stopping()))
		entries = append(entries, e)
		if end.After(l.now) {
			end = l.now
		}
		if end.Before(l.setForward) { // the clock jumped over it, and nothing was late
			end = l.setForward
		}
		l.closings = append(l.closings, end)
	}
	slices.SortFunc(entries, func(a, b journal.Entry) int { return strings.Compare(a.Grant, b.Grant) })
	l.record(entries...)
}

func grantEntry(kind journal.Kind, g *policy.Grant) journal.Entry {
	e := journal.Entry{Kind: kind, Actor: "gateway", Vendor: g.Engineer.Vendor.Name, Engineer: g.Engineer.Name, Window: g.Window.Name,
		Grant: g.ID, From: g.From, Until: g.Until}
	if kind == journal.WindowOpened {
		e.Text = clip(strings.TrimSpace("approved by " + g.Window.ApprovedBy + " " + g.Window.Ticket))
		for i, t := range g.Window.Targets {
			if i == targetsMax {
				e.Text += fmt.Sprintf("; and %d more targets, as the policy names them", len(g.Window.Targets)-targetsMax)
				break
			}
			e.Targets = append(e.Targets, t.Name)
		}
		for i, s := range g.Engineer.Sources {
			if i == sourcesMax {
				e.Text += fmt.Sprintf("; and from %d more sources, as the policy names them", len(g.Engineer.Sources)-sourcesMax)
				break
			}
			e.Sources = append(e.Sources, s.String())
		}
	}
	return e
}

// How many targets, sources and grants an entry names: a target's name has up
// to 63 bytes, a source up to 43, a grant's id up to 208, and an entry fits into
// 64 KiB.
const targetsMax, sourcesMax, grantsMax = 500, 100, 200
