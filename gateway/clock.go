package gateway

import (
	"fmt"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/view"
)

const (
	// stepBack is how far the wall clock may be set back without doubt.
	stepBack = 5 * time.Second
	// stepSeen is what tells a wall clock that was set from two readings that
	// were not quite of one moment. Slewing (adjtime(3)) moves both clocks
	// alike and is never seen.
	stepSeen = 10 * time.Millisecond
	// bootWait bounds how long a machine that has just booted waits for its
	// clock to be synchronized, counted from boot.
	bootWait = 60 * time.Second
)

// beginning is when a grant opened, told by where the wall clock then put the
// moment of boot, and the latest end it has had.
type beginning struct{ zero, until time.Time }

// readClock reads both clocks as of one moment.
func (l *loop) readClock() (time.Time, time.Duration) {
	wall, boot := l.cfg.Clock.Read()
	return wall.Round(0), boot
}

// tick reads the clock and finds out whether it was set.
func (l *loop) tick() {
	l.now, l.boot = l.readClock()
	zero := l.now.Add(-l.boot)
	if step := zero.Sub(l.zero); step.Abs() >= stepSeen {
		if shown := l.zero.Add(l.boot); shown.After(l.newest) {
			l.newest = shown // what it showed just before, as far as can be told
		}
		l.zero = zero
		l.stepped(step)
	}
	if l.now.After(l.newest) {
		l.newest = l.now
	}
}

// stepped plans anew by a clock that was set, and doubts one that went back far.
func (l *loop) stepped(step time.Duration) {
	l.cfg.Metrics.clockStepped()
	if step > 0 {
		l.setForward = l.now
		l.narrowing.timed = l.applications + 1
	}
	l.replan = true
	l.record(journal.Entry{Kind: journal.ClockStep, Actor: "gateway", Text: fmt.Sprintf("by %s to %s", step.Round(time.Millisecond), l.now.UTC().Format(time.RFC3339Nano))})
	l.doubtClock()
}

func (l *loop) doubtClock() {
	if back := l.newest.Sub(l.now); back > stepBack {
		l.doubt(doubtClock, view.Say(view.ClockBack, view.Args{"newest": l.local(l.newest)}))
	}
}

// bounded gives the end of a grant on the wall clock as it is set now: no
// later than as much time after the opening as was approved then, by the boot
// clock, so that setting the wall clock back extends nothing.
func (l *loop) bounded(id string, until time.Time) time.Time {
	if b, ok := l.began[id]; ok {
		if step := l.zero.Sub(b.zero); step < 0 {
			until = until.Add(step)
		}
	}
	return until
}

// begin notes which grants of the plan in force are open. A beginning is kept
// until no clock that is trusted can show a time before the grant's end again.
func (l *loop) begin() {
	for _, g := range l.plan.Grants {
		if g.From.After(l.now) {
			continue
		}
		b, ok := l.began[g.ID]
		if !ok {
			b.zero = l.zero
		}
		if o := l.recorded[g.ID]; o != nil && o.grant.Until.After(b.until) {
			b.until = o.grant.Until
		}
		l.began[g.ID] = b
	}
	for id, b := range l.began {
		if l.newest.Sub(b.until) > stepBack {
			delete(l.began, id)
		}
	}
}

func (l *loop) local(t time.Time) string {
	if p := l.state.Policy(); p != nil {
		t = t.In(p.Zone)
	}
	return t.Format("2006-01-02 15:04:05 MST")
}
