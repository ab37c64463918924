package policy

import (
	"slices"
	"time"
)

// Opening is one span of one window, and the engineers that it admits.
type Opening struct {
	Span
	Window    *Window
	Engineers []*Engineer // sorted by name
}

// IsRequest reports whether a request opens the window. Its name is the request's id then.
func (w *Window) IsRequest() bool { return Scope(w.Name).IsRequest() }

// Openings lists every opening that overlaps [from, until), in full length, sorted by From, then by
// vendor and window. Shut scopes do not matter.
func (p *Policy) Openings(from, until time.Time) []Opening {
	var windows []*Window
	for _, v := range p.Vendors {
		windows = append(windows, v.Windows...)
	}
	return p.openings(windows, from, until)
}

func (p *Policy) openings(windows []*Window, from, until time.Time) []Opening {
	var all []Opening
	for _, w := range windows {
		for _, s := range w.Spans(p.Zone, from, until) {
			all = append(all, Opening{s, w, w.Engineers})
		}
	}
	slices.SortStableFunc(all, func(a, b Opening) int { return a.From.Compare(b.From) })
	return all
}

// Openings is Policy.Openings with the windows of approved requests. A request's window is known
// until two days after its end.
func (s *State) Openings(from, until time.Time) []Opening {
	if s.policy == nil {
		return nil
	}
	return s.policy.openings(s.index.windows, from, until)
}

// Openings is State.Openings without the engineers who are shut at the instant of the plan. In
// doubt it is empty.
func (p *Plan) Openings(from, until time.Time) []Opening {
	if p.Policy == nil || p.Doubt != "" {
		return nil
	}
	open := p.Policy.openings(p.index.windows, from, until)
	for i := range open {
		open[i].Engineers = slices.DeleteFunc(slices.Clone(open[i].Engineers), func(e *Engineer) bool {
			at, _ := p.find(e)
			return p.access[at].shut != Admitted
		})
	}
	return slices.DeleteFunc(open, func(o Opening) bool { return len(o.Engineers) == 0 })
}

// NextOpening is the first instant later than after at which a window or a request opens for the
// engineer, at most 400 days ahead. It is zero if there is none, the engineer is shut, or the
// gateway is in doubt.
func (p *Plan) NextOpening(e *Engineer, after time.Time) time.Time {
	var first time.Time
	i, ok := p.find(e)
	if !ok || p.Doubt != "" || p.access[i].shut != Admitted {
		return first
	}
	for at, w := range p.index.windows {
		if !slices.Contains(p.index.members[at], i) {
			continue
		}
		if _, next := w.around(p.Policy.Zone, after, after.Add(Horizon)); !next.IsZero() {
			sooner(&first, next.From)
		}
	}
	return first
}
