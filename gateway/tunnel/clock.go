package tunnel

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Boottime reads CLOCK_BOOTTIME: the time since the machine was started,
// suspension included. Nobody can set it.
func Boottime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		// Never seen; the far future closes everything.
		return 1<<63 - 1
	}
	return time.Duration(now.Nano())
}

// askAgain is how long what was suspended is taken to be what it was. A
// machine that wakes may take a deadline that it slept over for open for as
// long as that.
const askAgain = time.Millisecond

// clock gives CLOCK_BOOTTIME without a system call for each packet: with
// small packets these were a tenth of what the gateway did. Go reads
// CLOCK_MONOTONIC in user space (vdso(7)), which runs alike but stands still
// while the machine is suspended; how far it is behind is asked again once in
// a while. A process that is stopped is not suspended.
type clock struct {
	boottime func() time.Duration // the system call
	start    time.Time
	behind   atomic.Int64 // what boottime was ahead of the time since start when it was asked
	asked    atomic.Int64 // when that was, since start
}

func newClock(boottime func() time.Duration) *clock {
	c := &clock{boottime: boottime, start: time.Now()}
	c.ask()
	return c
}

// narrow is what lies between two readings of clocks that were of one moment.
const narrow = 20 * time.Microsecond

func (c *clock) ask() time.Duration {
	since := time.Since(c.start)
	for range 4 {
		now := c.boottime()
		after := time.Since(c.start)
		// What passed before boottime was read makes the clock fast: what is
		// open closes sooner.
		c.behind.Store(int64(now - since))
		if after-since < narrow {
			break
		}
		since = after // this thread had to wait in between
	}
	c.asked.Store(int64(since))
	return since + time.Duration(c.behind.Load())
}

// now may be called by any goroutine.
func (c *clock) now() time.Duration {
	since := time.Since(c.start)
	if since-time.Duration(c.asked.Load()) >= askAgain {
		return c.ask()
	}
	return since + time.Duration(c.behind.Load())
}
