package gateway

import (
	"time"

	"kidoban/gateway/policy"
	"kidoban/gateway/session"
)

// Metrics counts the events of the loop.
type Metrics interface {
	Reloaded(p *policy.Policy, at time.Time)                                         // nil: the policy file could not be read
	Remember(listed, seen map[policy.Key]time.Time)                                  // when keys were first listed and last admitted
	Admitted(e *policy.Engineer, at time.Time)                                       // an initiation
	Refused(f policy.Fact)                                                           // initiations or flows
	Traffic(e *policy.Engineer, received, transmitted uint64, at time.Time)          // of a session, since the last call
	SessionEnded(vendor, id string, why session.Ended, lasted time.Duration)         // id is the session's
	Usage(d time.Duration, p *policy.Plan, inside []*policy.Engineer, now time.Time) // d passed; inside have sessions
	Reconciled(took time.Duration)                                                   // the ruleset matches a plan
	ReconcileFailed()                                                                // the ruleset could not be set or read back
	Closed(lag time.Duration)                                                        // from the end of a grant until gate and ruleset were without it
	Drifted()                                                                        // the ruleset read back differently
	Dropped(packets map[string]uint64)                                               // the kernel's counters by cause; they restart with its table
	Appended(took time.Duration)                                                     // journal entries are durable
	JournalReplaced()                                                                // by an empty one
	ClockStepped()                                                                   // the wall clock was set
	ClockAccepted(now time.Time)                                                     // by an operator; it may have been ahead before
}

// usage counts the time since the last heartbeat for windows, up to liveWithin:
// the process may have been paused.
func (l *loop) usage(d time.Duration) {
	var inside []*policy.Engineer
	for s := range l.sessions.All() {
		inside = append(inside, s.Engineer)
	}
	l.cfg.Metrics.Usage(min(d, liveWithin), l.plans.inForce, inside, l.clock.Now)
}
