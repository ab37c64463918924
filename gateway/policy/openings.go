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

// Openings lists every opening that overlaps [from, until), in full length, sorted by From, then by
// vendor and window. Shut scopes do not matter.
func (p *Policy) Openings(from, until time.Time) []Opening {
	var all []Opening
	for _, v := range p.Vendors {
		for _, w := range v.Windows {
			for _, s := range w.Spans(p.Zone, from, until) {
				all = append(all, Opening{s, w, w.Engineers})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Opening) int { return a.From.Compare(b.From) })
	return all
}

// Openings is Policy.Openings without the engineers who are shut at the instant of the plan. In
// doubt it is empty.
func (p *Plan) Openings(from, until time.Time) []Opening {
	if p.Policy == nil || p.Doubt != "" {
		return nil
	}
	open := p.Policy.Openings(from, until)
	for i := range open {
		open[i].Engineers = slices.DeleteFunc(slices.Clone(open[i].Engineers), func(e *Engineer) bool {
			return p.access[p.index.order[e]].shut != Admitted
		})
	}
	return slices.DeleteFunc(open, func(o Opening) bool { return len(o.Engineers) == 0 })
}

// NextOpening is the first instant later than after at which a window opens for the engineer, at
// most 400 days ahead. It is zero if there is none, the engineer is shut, or the gateway is in
// doubt.
func (p *Plan) NextOpening(e *Engineer, after time.Time) time.Time {
	var first time.Time
	i, ok := p.find(e)
	if !ok || p.Doubt != "" || p.access[i].shut != Admitted {
		return first
	}
	e = p.index.engineers[i]
	for _, w := range e.Vendor.Windows {
		if !slices.Contains(w.Engineers, e) {
			continue
		}
		_, next := w.around(p.Policy.Zone, after, after.Add(Horizon))
		if !next.IsZero() && (first.IsZero() || next.From.Before(first)) {
			first = next.From
		}
	}
	return first
}
