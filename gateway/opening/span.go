package opening

import (
	"time"

	"kidoban/gateway/clock"
	"kidoban/gateway/policy"
)

// beginning is the wall time of boot when a grant opened, and the latest end that
// the journal has for the grant.
type beginning struct{ bootEpoch, until time.Time }

// end returns the end of a grant. If the wall clock was set back since the grant
// opened, the end moves back by as much: the grant lasts no longer than approved.
func (s *Set) end(id string, until time.Time) time.Time {
	if b, ok := s.spans[id]; ok {
		if step := s.clock.BootEpoch.Sub(b.bootEpoch); step < 0 {
			until = until.Add(step)
		}
	}
	return until
}

// Begin takes note of the open grants of a plan in force. It keeps a beginning
// until a clock that shows a time before the grant's end would be in doubt.
func (s *Set) Begin(inForce *policy.Plan) {
	for _, g := range inForce.Grants {
		if g.From.After(s.clock.Now) {
			continue
		}
		b, ok := s.spans[g.ID]
		if !ok {
			b.bootEpoch = s.clock.BootEpoch
		}
		if o := s.recorded[g.ID]; o != nil && o.Grant.Until.After(b.until) {
			b.until = o.Grant.Until
		}
		s.spans[g.ID] = b
	}
	for id, b := range s.spans {
		if s.clock.HighWater.Sub(b.until) > clock.StepBack {
			delete(s.spans, id)
		}
	}
}

// AcceptClock forgets how long grants have been open: an operator accepted the
// wall clock.
func (s *Set) AcceptClock() { clear(s.spans) }
