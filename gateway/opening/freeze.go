package opening

import (
	"slices"

	"kidoban/gateway/policy"
)

// Freeze fills in the frozen grants of a plan that comes in force after another one: those that
// were frozen, and those that ended by their end since. A grant is frozen no more when the grace is
// over, when its window is open again, in doubt, and when the policy has its engineer, window or
// grace no longer or the engineer is shut. A restart knows of none.
func (s *Set) Freeze(before, p *policy.Plan) {
	back := min(s.clock.BootEpoch.Sub(s.frozenAt), 0) // a clock that was set back prolongs no grace
	s.frozenAt = s.clock.BootEpoch
	if p.Frozen = nil; p.Doubt != "" {
		return
	}
	windows := windowsOf(p)
	for _, f := range before.Frozen {
		p.Frozen = s.freeze(p.Frozen, p, policy.Frozen{Grant: f.Grant, Until: f.Until.Add(back)}, windows)
	}
	for _, g := range before.Grants {
		if g.Window.Grace > 0 && !g.Until.After(s.clock.Now) {
			p.Frozen = s.freeze(p.Frozen, p, policy.Frozen{Grant: g, Until: g.Until.Add(g.Window.Grace)}, windows)
		}
	}
}

// name is how the policy names a window.
type name struct{ vendor, window string }

// windowsOf returns a function that finds a window of a plan, or nil.
func windowsOf(p *policy.Plan) func(*policy.Window) *policy.Window {
	var known map[name]*policy.Window
	return func(w *policy.Window) *policy.Window {
		if known == nil {
			known = make(map[name]*policy.Window, len(p.Windows))
			for _, state := range p.Windows {
				known[name{state.Window.Vendor.Name, state.Window.Name}] = state.Window
			}
		}
		return known[name{w.Vendor.Name, w.Name}]
	}
}

// freeze appends a grant that may be frozen, as the plan's policy has it.
func (s *Set) freeze(to []policy.Frozen, p *policy.Plan, f policy.Frozen, window func(*policy.Window) *policy.Window) []policy.Frozen {
	old := f.Grant
	w, e := window(old.Window), p.ByKey(old.Engineer.Key)
	if w == nil || e == nil || !policy.SamePeer(old.Engineer, e) ||
		!slices.ContainsFunc(w.Engineers, func(of *policy.Engineer) bool { return of.Key == e.Key }) {
		return to
	}
	if _, shut := p.ShutBy(e); shut != policy.Admitted {
		return to
	}
	if most := old.Until.Add(w.Grace); most.Before(f.Until) {
		f.Until = most
	}
	if !f.Until.After(s.clock.Now) || p.Again(f) != nil {
		return to
	}
	f.Grant = &policy.Grant{Span: old.Span, ID: old.ID, Engineer: e, Window: w}
	return append(to, f)
}

// Thaw compares the frozen grants of two plans that were in force one after the other, and notes
// which are frozen from now on, and which go on.
func Thaw(before, p *policy.Plan) (notes []policy.Note) {
	was := map[string]bool{}
	for _, f := range before.Frozen {
		was[f.Grant.ID] = true
		if g := p.Again(f); g != nil && !p.At.After(f.Until) {
			notes = append(notes, policy.Note{Kind: "resumed", Grant: g, Until: g.Until})
		}
	}
	for _, f := range p.Frozen {
		if !was[f.Grant.ID] {
			notes = append(notes, policy.Note{Kind: "frozen", Grant: f.Grant, Until: f.Until})
		}
	}
	return notes
}
