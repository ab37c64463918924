package opening

import (
	"net/netip"
	"slices"

	"kidoban/gateway/policy"
)

// A journal entry lets a grant open: for an engineer, from sources, to targets,
// until an end. A later policy may mean more or less by the same grant. Until the
// entry of the new meaning is on disk, the part that both meanings have stays open.

// covered returns the part of a grant that the recorded one lets open: the grant
// itself if that is all of it; nil if they have no source in common, or if the
// engineer's key, preshared key, address or name differs.
func covered(recorded, g *policy.Grant) *policy.Grant {
	if recorded == g {
		return g
	}
	if !policy.SamePeer(recorded.Engineer, g.Engineer) {
		return nil
	}
	c := *recorded
	if c.Engineer = g.Engineer; !containsSources(recorded.Engineer, g.Engineer) {
		narrower := *g.Engineer
		narrower.Sources = common(recorded.Engineer.Sources, g.Engineer.Sources, inside)
		if c.Engineer = &narrower; len(narrower.Sources) == 0 {
			return nil
		}
	}
	c.Window = coveredWindow(recorded.Window, g.Window)
	if recorded.ID == g.ID && c.Engineer == g.Engineer && c.Window == g.Window && !recorded.Until.Before(g.Until) {
		return g
	}
	if g.Until.Before(c.Until) {
		c.Until = g.Until
	}
	return &c
}

// coveredWindow returns the window with the part of its targets that the recorded
// one has by the same name. Masquerading opens nothing, so it does not count.
func coveredWindow(recorded, w *policy.Window) *policy.Window {
	if recorded == w || containsTargets(recorded, w) {
		return w
	}
	narrower := *w
	narrower.Targets = nil
	known := byName(recorded)
	for _, t := range w.Targets {
		c, of := *t, known[t.Name]
		if of == nil || !of.Prefix.Overlaps(t.Prefix) {
			continue
		}
		if of.Prefix.Bits() > t.Prefix.Bits() {
			c.Prefix = of.Prefix
		}
		if c.Services = common(of.Services, t.Services, offers); len(c.Services) > 0 {
			narrower.Targets = append(narrower.Targets, &c)
		}
	}
	return &narrower
}

// common returns the elements of b that lie in a, and those of a that lie in b.
func common[T comparable](a, b []T, in func(T, ...T) bool) (list []T) {
	for _, x := range b {
		if in(x, a...) {
			list = append(list, x)
		}
	}
	for _, x := range a {
		if in(x, b...) && !slices.Contains(list, x) {
			list = append(list, x)
		}
	}
	return list
}

func containsSources(a, b *policy.Engineer) bool {
	return all(b.Sources, func(p netip.Prefix) bool { return inside(p, a.Sources...) })
}

func containsTargets(a, b *policy.Window) bool {
	known := byName(a)
	return all(b.Targets, func(t *policy.Target) bool {
		of := known[t.Name]
		return of == t || of != nil && inside(t.Prefix, of.Prefix) && all(t.Services, func(s policy.Service) bool { return offers(s, of.Services...) })
	})
}

func byName(w *policy.Window) map[string]*policy.Target {
	known := make(map[string]*policy.Target, len(w.Targets))
	for _, t := range w.Targets {
		known[t.Name] = t
	}
	return known
}

// offers reports whether one of several services has all ports of s.
func offers(s policy.Service, services ...policy.Service) bool {
	return slices.ContainsFunc(services, func(r policy.Service) bool {
		return r.Protocol == s.Protocol && r.First <= s.First && s.Last <= r.Last
	})
}

func inside(p netip.Prefix, prefixes ...netip.Prefix) bool {
	return slices.ContainsFunc(prefixes, func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Overlaps(p) })
}

func all[T any](list []T, is func(T) bool) bool {
	return !slices.ContainsFunc(list, func(t T) bool { return !is(t) })
}
