package policy

import "time"

// Frozen is a grant that ended by its own end less than its window's Grace ago. Nothing of it
// passes. The kernel keeps its connections until Until, so that they go on if the window opens
// again before.
type Frozen struct {
	Grant *Grant
	Until time.Time // the end of the grace, by the wall clock as it is set now
}

// Due is the next instant at which the plan changes by the clock; zero: none within 400 days.
// Grants that are narrower than the policy's may open and end at other times than Wake says.
func (p *Plan) Due() time.Time {
	due := p.Wake
	for _, g := range p.Grants {
		for _, t := range []time.Time{g.From, g.Until} {
			if t.After(p.At) {
				sooner(&due, t)
			}
		}
	}
	for _, f := range p.Frozen {
		sooner(&due, f.Until)
	}
	return due
}

// Again returns the open grant that goes on with a frozen one: of the same engineer and window. It
// is nil if there is none.
func (p *Plan) Again(f Frozen) *Grant {
	for _, g := range p.GrantsOf(f.Grant.Engineer) {
		if g.Window.Name == f.Grant.Window.Name && g.Contains(p.At) {
			return g
		}
	}
	return nil
}
