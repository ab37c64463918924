package clock

import (
	"testing"
	"time"
)

// TestWatch sets the wall clock and looks at the watch after each Tick.
func TestWatch(t *testing.T) {
	began := time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC)
	wall, boot := began, time.Hour
	w := NewWatch(Source{Wall: func() time.Time { return wall }, Boot: func() time.Duration { return boot }, Synchronized: func() bool { return true }})
	at := func(d time.Duration) time.Time { return began.Add(d) }
	for _, c := range []struct {
		name            string
		passes, set     time.Duration // before the Tick
		accept          bool
		step            time.Duration
		highWater       time.Duration // since the beginning
		behind          bool
		setForward      time.Duration // since the beginning; 0: never
		changedBootTime bool
	}{
		{name: "nothing", passes: time.Second, highWater: time.Second},
		{name: "too little to be seen", passes: time.Second, set: 9 * time.Millisecond, highWater: 2*time.Second + 9*time.Millisecond},
		{name: "what was not seen adds up", passes: time.Second, set: time.Millisecond, step: 10 * time.Millisecond,
			highWater: 3*time.Second + 10*time.Millisecond, setForward: 3*time.Second + 10*time.Millisecond, changedBootTime: true},
		{name: "forward", set: time.Minute, step: time.Minute, highWater: 63*time.Second + 10*time.Millisecond,
			setForward: 63*time.Second + 10*time.Millisecond, changedBootTime: true},
		{name: "back, as far as is trusted", set: -StepBack, step: -StepBack, highWater: 63*time.Second + 10*time.Millisecond,
			setForward: 63*time.Second + 10*time.Millisecond, changedBootTime: true},
		{name: "and further", set: -time.Second, step: -time.Second, highWater: 63*time.Second + 10*time.Millisecond, behind: true,
			setForward: 63*time.Second + 10*time.Millisecond, changedBootTime: true},
		{name: "until it has caught up", passes: time.Second, highWater: 63*time.Second + 10*time.Millisecond,
			setForward: 63*time.Second + 10*time.Millisecond},
		{name: "back between two readings: the time before counts", passes: time.Minute, set: -time.Hour, step: -time.Hour, behind: true,
			highWater: 118*time.Second + 10*time.Millisecond, setForward: 63*time.Second + 10*time.Millisecond, changedBootTime: true},
		{name: "accepted: no step forward lies ahead", accept: true, highWater: 118*time.Second + 10*time.Millisecond - time.Hour},
	} {
		epoch := w.BootEpoch
		boot += c.passes
		wall = wall.Add(c.passes + c.set)
		step := w.Tick()
		if c.accept {
			w.Accept()
		}
		if step != c.step || !w.Now.Equal(wall) || w.Boot != boot {
			t.Errorf("%s: a step of %s to %s, %s after boot; want %s, %s, %s", c.name, step, w.Now, w.Boot, c.step, wall, boot)
		}
		if !w.HighWater.Equal(at(c.highWater)) || w.Behind() != c.behind {
			t.Errorf("%s: high water at %s, behind %t; want %s, %t", c.name, w.HighWater.Sub(began), w.Behind(), c.highWater, c.behind)
		}
		if forward := at(c.setForward); c.setForward == 0 != w.SetForward.IsZero() || c.setForward != 0 && !w.SetForward.Equal(forward) {
			t.Errorf("%s: set forward at %s, want %s", c.name, w.SetForward, forward)
		}
		if w.BootEpoch.Equal(epoch) == c.changedBootTime {
			t.Errorf("%s: the time of boot was %s and is %s", c.name, epoch, w.BootEpoch)
		}
	}
}
