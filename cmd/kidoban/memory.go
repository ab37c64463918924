package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"kidoban/gateway"
)

const (
	// restPercent is GOGC while nobody is inside. Most of the live heap is
	// WireGuard's receive buffers, which at rest have never been touched; with
	// Go's own 100 as much garbage as all of them may gather.
	restPercent = 15
	workPercent = 100 // Go's own
	// restMost is the live heap, in bytes, above which collecting often costs
	// more than it saves: policies of thousands of engineers.
	restMost = 64 << 20
	// restInterval is how often it is asked whether somebody is inside.
	restInterval = 2 * time.Second
)

// collection is GOGC for so many sessions and such a live heap.
func collection(sessions int, live uint64) int {
	if sessions == 0 && live <= restMost {
		return restPercent
	}
	return workPercent
}

// keepSmall keeps the process small while nobody is inside, and leaves the
// collector alone while packets flow, or where GOGC is set. It returns when
// the context ends.
func keepSmall(ctx context.Context, g *gateway.Gateway) {
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
		want := collection(len(g.Snapshot().Sessions), live[0].Value.Uint64())
		if want == percent {
			continue
		}
		debug.SetGCPercent(want)
		percent = want
		if want == restPercent {
			debug.FreeOSMemory() // what the start, or the last session, left behind
		}
	}
}
