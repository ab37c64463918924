package opening

import (
	"cmp"
	"slices"
	"strings"

	"kidoban/gateway/policy"
)

// A journal entry lets a grant open: for an engineer, from sources, to targets,
// until an end. A later policy may mean more or less by the same grant, or open the
// same access under other names. Until the entries of the new meaning are on disk, the
// part that both meanings have stays open, under the earlier entry's id and names.

// Restrict returns the part of a plan that may be in force now.
func (s *Set) Restrict(wanted *policy.Plan) *policy.Plan {
	r := &restriction{s, nil, map[pair]*policy.Window{}, map[pair]*policy.Window{}}
	return wanted.Replace(r.narrow)
}

// restriction works out one plan. Engineers share windows, so it keeps what it finds.
type restriction struct {
	*Set
	openNow map[policy.Key][]*Opening // recorded ones that are open now, those that end last first; nil: not looked for yet
	known   map[pair]*policy.Window   // results of coveredWindow
	merged  map[pair]*policy.Window   // results of merge
}

// narrow appends the part of an engineer's grants that entries on disk cover. An
// entry shrinks with the policy: if a later policy opens more again, that needs a
// new entry. An engineer who is kept out has no grants; they end, and need new
// entries too.
func (r *restriction) narrow(to, grants []*policy.Grant) []*policy.Grant {
	if r.Narrowing.keepsOut(grants[0].Engineer.Key) {
		return to
	}
	if slices.ContainsFunc(grants, func(g *policy.Grant) bool { return g.Contains(r.clock.Now) && r.ofItsOwn(g) != g }) {
		return r.meanwhile(to, grants)
	}
	for _, g := range grants {
		if c := r.ofItsOwn(g); c != nil {
			r.recorded[g.ID].Grant = c
			to = r.bounded(to, c)
		}
	}
	return to
}

// ofItsOwn returns the part of a grant that its own entry covers, or nil.
func (r *restriction) ofItsOwn(g *policy.Grant) *policy.Grant {
	if o := r.recorded[g.ID]; o != nil {
		return r.covered(o.Grant, g)
	}
	return nil
}

// bounded appends a grant until its end on the wall clock as it is set now.
func (s *Set) bounded(to []*policy.Grant, c *policy.Grant) []*policy.Grant {
	until := s.end(c.ID, c.Until)
	if !until.After(s.clock.Now) {
		return to
	}
	if !until.Equal(c.Until) {
		shorter := *c
		shorter.Until = until
		c = &shorter
	}
	return append(to, c)
}

// meanwhile appends the part of an engineer's open grants that the open entries cover.
// Names do not count. Grants that open later need entries of their own.
func (r *restriction) meanwhile(to, grants []*policy.Grant) []*policy.Grant {
	var open []*policy.Grant // those that end last first
	wanted := map[string]bool{}
	for _, g := range grants {
		if g.Contains(r.clock.Now) {
			open = append(open, g)
			wanted[g.ID] = true
		} else if c := r.ofItsOwn(g); c != nil {
			r.recorded[g.ID].Grant = c
			to = r.bounded(to, c)
		}
	}
	slices.SortStableFunc(open, func(a, b *policy.Grant) int { return b.Until.Compare(a.Until) })
	var kept []*policy.Grant
	for _, own := range []bool{true, false} { // an entry with another name stays only if it has more than those kept
		for _, o := range r.openOf(grants[0].Engineer.Key) {
			if wanted[o.Grant.ID] != own {
				continue
			}
			c := r.part(o.Grant, open)
			if c == nil || !own && slices.ContainsFunc(kept, func(k *policy.Grant) bool {
				return len(c.Window.Targets) == 0 || !k.Until.Before(c.Until) && containsSources(k.Engineer, c.Engineer) && r.merge(k.Window, c.Window) == k.Window
			}) {
				continue
			}
			kept = append(kept, c)
			shrunk := *c
			shrunk.Until = o.Grant.Until // the end of a grant with another name does not count
			o.Grant = &shrunk
			to = r.bounded(to, c)
		}
	}
	return to
}

// openOf returns the entries of a key that are open now, those that end last first.
func (r *restriction) openOf(key policy.Key) []*Opening {
	if r.openNow == nil {
		r.openNow = map[policy.Key][]*Opening{}
		for _, o := range r.recorded {
			if o.Grant.Contains(r.clock.Now) {
				r.openNow[o.Grant.Engineer.Key] = append(r.openNow[o.Grant.Engineer.Key], o)
			}
		}
		for _, all := range r.openNow {
			slices.SortFunc(all, func(a, b *Opening) int {
				return cmp.Or(b.Grant.Until.Compare(a.Grant.Until), strings.Compare(a.Grant.ID, b.Grant.ID))
			})
		}
	}
	return r.openNow[key]
}

// part returns the part of a recorded grant that some grants open, those that end last
// first; nil if there is none. All of it ends with the first one that it needs. Grants with
// other sources open nothing of it: a request may have a source of its own.
func (r *restriction) part(recorded *policy.Grant, grants []*policy.Grant) *policy.Grant {
	var p *policy.Grant
	var of *policy.Engineer
	if i := slices.IndexFunc(grants, func(g *policy.Grant) bool { return g.ID == recorded.ID }); i >= 0 {
		of = grants[i].Engineer
	}
	for _, g := range grants {
		if of != nil && !slices.Equal(g.Engineer.Sources, of.Sources) {
			continue
		}
		c := r.covered(recorded, g)
		if c != nil && len(c.Window.Targets) > 0 {
			of = g.Engineer
		}
		switch {
		case c == nil:
			continue
		case p == nil || len(p.Window.Targets) == 0 && len(c.Window.Targets) > 0:
			copied := *c
			copied.ID, p = recorded.ID, &copied
			continue
		}
		if w := r.merge(p.Window, c.Window); w != p.Window {
			p.Window, p.Until = w, c.Until
		}
	}
	return p
}

// merge returns a window with the targets of another that it lacks: the window itself,
// if it lacks none.
func (r *restriction) merge(a, b *policy.Window) *policy.Window {
	w := r.merged[pair{a, b}]
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
		r.merged[pair{a, b}] = w
	}
	return w
}

// pair is two windows; of known, one as it was recorded and one of the policy.
type pair struct{ recorded, window *policy.Window }

func (r *restriction) covered(recorded, g *policy.Grant) *policy.Grant {
	return covered(recorded, g, r.known)
}

// covered returns the part of a grant that the recorded one lets open: the grant
// itself if that is all of it; nil if they have no source or line in common, or if the
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
		narrower, line := *g.Engineer, recorded.Engineer.Line
		switch {
		case narrower.Line == nil:
			narrower.Line = line
		case !line.Takes(narrower.Line.Interface):
			return nil
		}
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
