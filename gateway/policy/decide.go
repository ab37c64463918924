package policy

import (
	"net/netip"
	"slices"
	"time"
)

// Query asks whether a packet may pass: a real one, or one that an operator asks about.
type Query struct {
	Key    Key        // the static key that the initiation carries; zero: none could be read
	Proven bool       // the key's owner is proven: the timestamp opened under the static-static secret
	Fault  Reason     // Malformed, RateLimited, Replayed or FutureTimestamp, as the gate found it; any other: none
	Source netip.Addr // unmapped; the zero Addr leaves the source out of the question
	// Ingress is the name of the interface by which the packet came, UnknownIngress if that cannot be
	// told; empty leaves it out of the question.
	Ingress string
	To      netip.AddrPort // the zero AddrPort asks for the tunnel only
	Proto   uint8          // IANA protocol number, with To
}

// Decision is the answer to a Query.
type Decision struct {
	Reason   Reason
	Engineer *Engineer // nil unless the key is proven
	Grant    *Grant    // nil unless admitted; of several the grant that ends last
	Until    time.Time // the end of the contiguous union of the plan's grants that admit; a grant joins it within Lead of opening
}

// Decide answers a query at an instant. It neither allocates nor locks. The gate, the kernel's
// copies of dropped packets and `explain` all call it, so all give the same reason.
func (p *Plan) Decide(q Query, now time.Time) Decision {
	if p.Doubt != "" {
		d := Decision{Reason: NotReady}
		if q.Proven {
			d.Engineer = p.ByKey(q.Key)
		}
		return d
	}
	if q.Fault == Malformed || q.Fault == RateLimited && !q.Proven {
		return Decision{Reason: q.Fault}
	}
	if q.Key == (Key{}) {
		return Decision{Reason: UnlistedSource}
	}
	i, known := p.index.byKey[q.Key]
	if !known || !q.Proven {
		return Decision{Reason: UnknownKey}
	}
	e, a := p.index.engineers[i], &p.access[i]
	d := Decision{Engineer: e}
	switch {
	case q.Fault == RateLimited || q.Fault == Replayed || q.Fault == FutureTimestamp:
		d.Reason = q.Fault
		return d
	case a.shut != Admitted:
		d.Reason = a.shut
		return d
	case q.Source.IsValid() && !e.MayComeFrom(q.Source) && !a.mayComeFrom(q.Source, now):
		d.Reason = WrongSource
		return d
	case q.Ingress != "" && !e.Line.Takes(q.Ingress):
		d.Reason = WrongLine
		return d
	}
	// Grants are sorted by From, so one pass finds the contiguous union.
	open, reaches := false, !q.To.IsValid() || e.Reaches(q.To.Addr())
	for _, g := range a.grants {
		if g.From.After(now) && (d.Until.IsZero() || g.From.After(d.Until)) {
			break
		}
		if !g.Until.After(now) {
			continue
		}
		if !g.Engineer.enters(&q) {
			continue // narrowed, or a request has a source of its own
		}
		if !g.From.After(now) {
			open = true
		}
		if !reaches || q.To.IsValid() && !g.allows(q.To, q.Proto) {
			continue
		}
		if d.Grant == nil || g.Until.After(d.Grant.Until) && g.Contains(now) {
			d.Grant = g
		}
		if g.Until.After(d.Until) {
			d.Until = g.Until
		}
	}
	switch {
	case d.Grant != nil:
		d.Reason = Admitted
	case open:
		d.Reason = UnlistedTarget
	case contractOver(e.Vendor, p.Policy.Zone, now):
		d.Reason = ContractEnded
	default:
		d.Reason = OutsideWindow
	}
	return d
}

// mayComeFrom reports whether an open grant lists a source that the engineer's own do not have: the
// one-time source of a request.
func (a *access) mayComeFrom(source netip.Addr, now time.Time) bool {
	return slices.ContainsFunc(a.grants, func(g *Grant) bool { return g.Contains(now) && g.Engineer.MayComeFrom(source) })
}

// MayComeFrom reports whether the source of a query is one of the engineer's with its key, or one of a
// grant of the engineer that the plan has, perhaps for a moment later; and whether its interface is
// the vendor's line.
func (p *Plan) MayComeFrom(q Query) bool {
	i, ok := p.index.byKey[q.Key]
	return ok && (p.index.engineers[i].enters(&q) ||
		p.access != nil && slices.ContainsFunc(p.access[i].grants, func(g *Grant) bool { return g.Engineer.enters(&q) }))
}

func (g *Grant) allows(to netip.AddrPort, protocol uint8) bool {
	return slices.ContainsFunc(g.Window.Targets, func(t *Target) bool { return t.Allows(to, protocol) })
}
