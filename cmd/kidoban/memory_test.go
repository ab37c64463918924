package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway"
	"kidoban/gateway/clock"
	"kidoban/gateway/view"
)

// TestCollection: the snapshot of a gateway decides how often memory is
// collected.
func TestCollection(t *testing.T) {
	before := debug.SetGCPercent(workPercent)
	defer debug.SetGCPercent(before)
	t.Setenv("GOGC", "")
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		g := gateway.New(gateway.Config{Clock: clock.Source{Wall: time.Now, Boot: func() time.Duration { return time.Since(began) }}})
		empty := g.Snapshot()
		var snapshot atomic.Pointer[view.Snapshot]
		snapshot.Store(empty)
		ctx, cancel := context.WithCancel(t.Context())
		go keepSmall(ctx, snapshot.Load)
		wants := func(what string, want int) {
			t.Helper()
			runtime.GC() // or the live heap is not known
			time.Sleep(restInterval + time.Millisecond)
			synctest.Wait()
			got := debug.SetGCPercent(want)
			if got != want {
				t.Errorf("%s: GOGC %d, want %d", what, got, want)
			}
		}
		wants("nobody inside", restPercent)
		occupied := *empty
		occupied.Sessions = []view.SessionStatus{{Vendor: "medisys", Engineer: "sato"}}
		snapshot.Store(&occupied)
		wants("somebody inside", workPercent)
		snapshot.Store(empty)
		wants("nobody inside again", restPercent)
		large := make([]byte, 2*restMost)
		wants("a large heap", largePercent)
		runtime.KeepAlive(large)
		cancel()
	})
}
