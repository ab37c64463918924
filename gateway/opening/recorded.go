package opening

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"kidoban/gateway/policy"
)

// A journal entry lets a grant open: for an engineer, from sources, to targets,
// until an end. A later policy may mean more or less by the same grant, or open the
// same access under other names. Until the entries of the new meaning are on disk, the
// part that both meanings have stays open, under the earlier entry's id and names.

// meanwhile appends the part of an engineer's open grants that the open entries cover.
// Names do not count. Grants that open later need entries of their own.
func (s *Set) meanwhile(to, grants []*policy.Grant) []*policy.Grant {
	var open []*policy.Grant // those that end last first
	wanted := map[string]bool{}
	for _, g := range grants {
		if g.Contains(s.clock.Now) {
			open = append(open, g)
			wanted[g.ID] = true
		} else if c := s.ofItsOwn(g); c != nil {
			s.recorded[g.ID].Grant = c
			to = s.bounded(to, c)
		}
	}
	slices.SortStableFunc(open, func(a, b *policy.Grant) int { return b.Until.Compare(a.Until) })
	var kept []*policy.Grant
	for _, own := range []bool{true, false} { // an entry with another name stays only if it has more than those kept
		for _, o := range s.openOf(grants[0].Engineer.Key) {
			if wanted[o.Grant.ID] != own {
				continue
			}
			c := s.part(o.Grant, open)
			if c == nil || !own && slices.ContainsFunc(kept, func(k *policy.Grant) bool {
				return len(c.Window.Targets) == 0 || !k.Until.Before(c.Until) && containsSources(k.Engineer, c.Engineer) && s.merge(k.Window, c.Window) == k.Window
			}) {
				continue
			}
			kept = append(kept, c)
			shrunk := *c
			shrunk.Until = o.Grant.Until // the end of a grant with another name does not count
			o.Grant = &shrunk
			to = s.bounded(to, c)
		}
	}
	return to
}

// openOf returns the entries of a key that are open now, those that end last first.
func (s *Set) openOf(key policy.Key) []*Opening {
	if s.openNow == nil {
		s.openNow = map[policy.Key][]*Opening{}
		for _, o := range s.recorded {
			if o.Grant.Contains(s.clock.Now) {
				s.openNow[o.Grant.Engineer.Key] = append(s.openNow[o.Grant.Engineer.Key], o)
			}
		}
		for _, all := range s.openNow {
			slices.SortFunc(all, func(a, b *Opening) int {
				return cmp.Or(b.Grant.Until.Compare(a.Grant.Until), strings.Compare(a.Grant.ID, b.Grant.ID))
			})
		}
	}
	return s.openNow[key]
}

// part returns the part of a recorded grant that some grants open, those that end last
// first; nil if there is none. All of it ends with the first one that it needs.
func (s *Set) part(recorded *policy.Grant, grants []*policy.Grant) *policy.Grant {
	var p *policy.Grant
	for _, g := range grants {
		c := s.covered(recorded, g)
		switch {
		case c == nil:
			return nil // as with the others: they are of the same engineer
		case p == nil || len(p.Window.Targets) == 0 && len(c.Window.Targets) > 0:
			copied := *c
			copied.ID, p = recorded.ID, &copied
			continue
		}
		if w := s.merge(p.Window, c.Window); w != p.Window {
			p.Window, p.Until = w, c.Until
		}
	}
	return p
}

// merge returns a window with the targets of another that it lacks: the window itself,
// if it lacks none.
func (s *Set) merge(a, b *policy.Window) *policy.Window {
	w := s.merged[pair{a, b}]
	if w == nil {
		more, have := slices.Clip(a.Targets), index(a.Targets)
		for _, t := range b.Targets {
			if !have.opens(t) {
				more = append(more, t)
			}
		}
		if w = a; len(more) > len(a.Targets) {
			copied := *a
			copied.Targets, w = more, &copied
		}
		s.merged[pair{a, b}] = w
	}
	return w
}

// pair is two windows; of known, one as it was recorded and one of the policy.
type pair struct{ recorded, window *policy.Window }

func (s *Set) covered(recorded, g *policy.Grant) *policy.Grant { return covered(recorded, g, s.known) }

// covered returns the part of a grant that the recorded one lets open: the grant
// itself if that is all of it; nil if they have no source in common, or if the
// engineer's key, preshared key, address or name differs. known, which may be nil, has
// results of coveredWindow.
func covered(recorded, g *policy.Grant, known map[pair]*policy.Window) *policy.Grant {
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
	windows := pair{recorded.Window, g.Window}
	if c.Window = known[windows]; c.Window == nil {
		if c.Window = coveredWindow(recorded.Window, g.Window); known != nil {
			known[windows] = c.Window
		}
	}
	if recorded.ID == g.ID && c.Engineer == g.Engineer && c.Window == g.Window && !recorded.Until.Before(g.Until) {
		return g
	}
	if g.Until.Before(c.Until) {
		c.Until = g.Until
	}
	return &c
}

// coveredWindow returns the window with the part of its targets that the recorded
// one has, by the names of the recorded one. Masquerading opens nothing, so it does not
// count.
func coveredWindow(recorded, w *policy.Window) *policy.Window {
	whole := recorded == w || containsTargets(recorded, w)
	if whole && recorded.Name == w.Name {
		return w
	}
	part := *w
	if part.Name = recorded.Name; whole {
		return &part
	}
	part.Targets = nil
	outer, places := index(recorded.Targets), index(w.Targets)
	inner := map[*policy.Target][]*policy.Target{} // recorded ones in a part of a wider target
	for _, of := range recorded.Targets {
		for _, t := range places.around(of.Prefix) {
			if t.Prefix.Bits() < of.Prefix.Bits() {
				inner[t] = append(inner[t], of)
			}
		}
	}
	for _, t := range w.Targets {
		for _, of := range slices.Concat(outer.around(t.Prefix), inner[t]) {
			c := *t
			if c.Name = of.Name; of.Prefix.Bits() > t.Prefix.Bits() {
				c.Prefix = of.Prefix
			}
			if c.Services = common(of.Services, t.Services, offers); len(c.Services) > 0 {
				part.Targets = append(part.Targets, &c)
			}
		}
	}
	return &part
}

// places are targets by their addresses.
type places struct {
	targets map[netip.Prefix][]*policy.Target
	bits    []int // the lengths of their prefixes
}

func index(targets []*policy.Target) places {
	x := places{targets: map[netip.Prefix][]*policy.Target{}}
	for _, t := range targets {
		p := t.Prefix.Masked()
		x.targets[p] = append(x.targets[p], t)
		if !slices.Contains(x.bits, p.Bits()) {
			x.bits = append(x.bits, p.Bits())
		}
	}
	return x
}

// around returns the targets that have all of a prefix.
func (x places) around(p netip.Prefix) (found []*policy.Target) {
	for _, bits := range x.bits {
		if bits <= p.Bits() {
			found = append(found, x.targets[netip.PrefixFrom(p.Addr(), bits).Masked()]...)
		}
	}
	return found
}

// opens reports whether one of the targets opens all of another.
func (x places) opens(t *policy.Target) bool {
	return slices.ContainsFunc(x.around(t.Prefix), func(of *policy.Target) bool {
		return all(t.Services, func(s policy.Service) bool { return offers(s, of.Services...) })
	})
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
	return slices.ContainsFunc(prefixes, func(q netip.Prefix) bool { return policy.Within(p, q) })
}

func all[T any](list []T, is func(T) bool) bool {
	return !slices.ContainsFunc(list, func(t T) bool { return !is(t) })
}
