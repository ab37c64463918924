package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"kidoban/gateway/view"
)

const (
	// restPercent is GOGC while nobody is inside. Most of the live heap is
	// WireGuard's receive buffers, which at rest have never been touched. With
	// Go's own 100, as much garbage as all of them may gather.
	restPercent = 15
	workPercent = 100 // Go's own
	// restMost is the live heap, in bytes, above which frequent collections cost
	// more than they save: policies of thousands of engineers.
	restMost = 64 << 20
	// restInterval is how often the sessions are counted.
	restInterval = 2 * time.Second
)

// keepSmall keeps the process small while nobody is inside, and leaves the
// collector alone while packets flow, or where GOGC is set. It returns when
// the context ends.
func keepSmall(ctx context.Context, snapshot func() *view.Snapshot) {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	percent := workPercent
	tick := time.NewTicker(restInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(live)
		want := workPercent
		if len(snapshot().Sessions) == 0 && live[0].Value.Uint64() <= restMost {
			want = restPercent
		}
		if want == percent {
			continue
		}
		debug.SetGCPercent(want)
		percent = want
		if want == restPercent {
			debug.FreeOSMemory() // garbage of the start, or of the last session
		}
	}
}
