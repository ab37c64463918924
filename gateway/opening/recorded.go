package opening

import (
	"net/netip"
	"slices"

	"kidoban/gateway/policy"
)

// A journal entry lets a grant open: for an engineer, from sources, to targets,
// until an end. A later policy may mean more or less by the same grant. While the
// entry of the new meaning is on its way to the disk, the smaller meaning stays
// open, if one contains the other.

// covered returns as much of a grant as the recorded one lets open. Of sources,
// and of targets, the smaller list counts where one list contains the other;
// else there are none. Without sources the result is nil.
func covered(recorded, g *policy.Grant) *policy.Grant {
	if recorded == g {
		return g
	}
	if !policy.SamePeer(recorded.Engineer, g.Engineer) {
		return nil
	}
	c := *recorded
	if c.Engineer = smaller(recorded.Engineer, g.Engineer, containsSources, nil); c.Engineer == nil {
		return nil
	}
	closed := *g.Window
	closed.Targets = nil
	c.Window = smaller(recorded.Window, g.Window, containsTargets, &closed)
	if recorded.ID == g.ID && c.Engineer == g.Engineer && c.Window == g.Window && !recorded.Until.Before(g.Until) {
		return g
	}
	if g.Until.Before(c.Until) {
		c.Until = g.Until
	}
	return &c
}

// smaller returns b if a contains it, a if b contains it, else neither.
func smaller[T any](a, b *T, contains func(a, b *T) bool, neither *T) *T {
	switch {
	case a == b || contains(a, b):
		return b
	case contains(b, a):
		return a
	}
	return neither
}

func containsSources(a, b *policy.Engineer) bool {
	return all(b.Sources, func(p netip.Prefix) bool { return inside(p, a.Sources...) })
}

// containsTargets compares targets of the same name. Masquerading opens
// nothing, so it does not count.
func containsTargets(a, b *policy.Window) bool {
	known := make(map[string]*policy.Target, len(a.Targets))
	for _, t := range a.Targets {
		known[t.Name] = t
	}
	return all(b.Targets, func(t *policy.Target) bool {
		of := known[t.Name]
		return of == t || of != nil && inside(t.Prefix, of.Prefix) && all(t.Services, func(s policy.Service) bool {
			return slices.ContainsFunc(of.Services, func(r policy.Service) bool {
				return r.Protocol == s.Protocol && r.First <= s.First && s.Last <= r.Last
			})
		})
	})
}

func inside(p netip.Prefix, prefixes ...netip.Prefix) bool {
	return slices.ContainsFunc(prefixes, func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Overlaps(p) })
}

func all[T any](list []T, is func(T) bool) bool {
	return !slices.ContainsFunc(list, func(t T) bool { return !is(t) })
}
