package opening

import (
	"time"

	"kidoban/gateway/clock"
	"kidoban/gateway/policy"
)

// beginning is when a grant opened: the wall time that boot had then, and the
// latest end the grant has had.
type beginning struct{ bootEpoch, until time.Time }

// end returns the end of a grant on the wall clock as it is set now: by the boot
// clock no later than was approved when it opened, so that setting the wall
// clock back extends nothing.
func (s *Set) end(id string, until time.Time) time.Time {
	if b, ok := s.spans[id]; ok {
		if step := s.clock.BootEpoch.Sub(b.bootEpoch); step < 0 {
			until = until.Add(step)
		}
	}
	return until
}

// Begin takes note of the grants of a plan in force that are open. A beginning
// is kept until no trusted clock can show a time before the grant's end again.
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
