package main

import (
	"context"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// loadInterval is how often the load is measured.
	loadInterval = 50 * time.Millisecond
	// Above a load of crowded on one processor, the goroutines get all processors. Below a
	// load of roomy on all together, they get one. Both are in processors. The same work
	// costs more on several processors, so roomy is less than crowded.
	crowded, roomy = 0.7, 0.5
)

// shareProcessor has all goroutines share one processor while that is enough, until the
// context ends. A packet passes four goroutines, and to wake up another processor for each
// of them costs more than the packet itself. It does nothing if GOMAXPROCS is set in the
// environment.
func shareProcessor(ctx context.Context) {
	all := runtime.GOMAXPROCS(0)
	if all == 1 || os.Getenv("GOMAXPROCS") != "" {
		return
	}
	tick := time.NewTicker(loadInterval)
	defer tick.Stop()
	for at, used := time.Now(), processorTime(); ; {
		select {
		case <-ctx.Done():
			runtime.GOMAXPROCS(all)
			return
		case <-tick.C:
		}
		now, total := time.Now(), processorTime()
		load := (total - used).Seconds() / now.Sub(at).Seconds()
		at, used = now, total
		if have := runtime.GOMAXPROCS(0); have != processors(have, all, load) {
			runtime.GOMAXPROCS(processors(have, all, load))
		}
	}
}

// processors returns how many of all processors the goroutines should have. load is the
// load, in processors, while they had have.
func processors(have, all int, load float64) int {
	switch {
	case have == 1 && load > crowded:
		return all
	case have > 1 && load < roomy:
		return 1
	}
	return have
}

// processorTime returns the processor time of this process, in user and kernel mode.
func processorTime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts) // never fails
	return time.Duration(ts.Nano())
}
