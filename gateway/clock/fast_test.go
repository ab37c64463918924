package clock

import (
	"sync/atomic"
	"testing"
	"time"
)

// TestClock: it is the kernel's boot clock, and follows it over a suspension,
// which Go's own clock does not see.
func TestClock(t *testing.T) {
	var slept atomic.Int64
	now := Fast(func() time.Duration { return Boot() + time.Duration(slept.Load()) })
	same := func(when string) {
		t.Helper()
		for range 10_000 {
			before := Boot() + time.Duration(slept.Load())
			at := now()
			after := Boot() + time.Duration(slept.Load())
			// The readings that it is made of may be as far apart as this
			// thread had to wait between them.
			if at < before-askAgain || at > after+(after-before)+askAgain {
				t.Fatalf("%s: %v, want %v to %v", when, at, before, after)
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
			Boot()
		}
	})
	b.Run("without", func(b *testing.B) {
		now := Fast(Boot)
		for b.Loop() {
			now()
		}
	})
}
