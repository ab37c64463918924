package tunnel

import (
	"sync/atomic"
	"testing"
	"time"
)

// TestClock: it is the kernel's boot clock, and follows it over a suspension,
// which Go's own clock does not see.
func TestClock(t *testing.T) {
	var slept atomic.Int64
	c := newClock(func() time.Duration { return Boottime() + time.Duration(slept.Load()) })
	same := func(when string) {
		t.Helper()
		for range 10_000 {
			before := Boottime() + time.Duration(slept.Load())
			now := c.now()
			after := Boottime() + time.Duration(slept.Load())
			// The readings that it is made of may be as far apart as this
			// thread had to wait between them.
			if now < before-askAgain || now > after+(after-before)+askAgain {
				t.Fatalf("%s: %v, want %v to %v", when, now, before, after)
			}
		}
	}
	same("at first")
	slept.Store(int64(8 * time.Hour))
	for begin := time.Now(); time.Since(begin) < askAgain; {
	}
	same("after a night's sleep")
}

func BenchmarkClock(b *testing.B) {
	b.Run("system call", func(b *testing.B) {
		for b.Loop() {
			Boottime()
		}
	})
	b.Run("without", func(b *testing.B) {
		c := newClock(Boottime)
		for b.Loop() {
			c.now()
		}
	})
}
