package policy

import "time"

// Shifted gives the plan as if it were made at another time: every instant in it is later by so much. It is for trials
// of a plan whose own time is not now.
func (p *Plan) Shifted(by time.Duration) *Plan {
	r := p.Replace(func(to, grants []*Grant) []*Grant {
		for _, g := range grants {
			moved := *g
			moved.Span = g.Span.shifted(by)
			to = append(to, &moved)
		}
		return to
	})
	r.At = p.At.Add(by)
	for _, t := range []*time.Time{&r.NextChange, &r.Wake} {
		if !t.IsZero() {
			*t = t.Add(by)
		}
	}
	r.Windows = make([]WindowState, len(p.Windows))
	for i, w := range p.Windows {
		r.Windows[i] = WindowState{w.Window, w.Current.shifted(by), w.Next.shifted(by)}
	}
	return r
}

// shifted gives the span later by so much; no span stays none.
func (s Span) shifted(by time.Duration) Span {
	if s.IsZero() {
		return s
	}
	return Span{s.From.Add(by), s.Until.Add(by)}
}
