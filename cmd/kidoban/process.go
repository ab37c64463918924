package main

import (
	"context"
	"log/slog"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"kidoban/gateway"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// hangupPatience is how long a reload on SIGHUP may read the policy file without a
// word. A reload that waits for such a reading says so itself, and sooner.
const hangupPatience = 15 * time.Second

// reloadOnHangup reloads at each signal until the context ends. The end does not wait
// for a disk that does not answer.
func reloadOnHangup(ctx context.Context, hangup <-chan os.Signal, g *gateway.Gateway, logger *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
		}
		reloaded := make(chan struct{})
		go func() {
			defer close(reloaded)
			out, err := g.Reload(ctx, policy.Actor{Via: "signal", Text: "SIGHUP"})
			if err != nil {
				logger.Error("reload on SIGHUP failed", "err", err)
			}
			// A signal has no answer: the log has all of it.
			if out.Problem != "" {
				logger.Error("reload on SIGHUP is not complete", "err", out.Problem)
			}
			for _, w := range view.Summed(out.WarningMessages) {
				logger.Warn("reload on SIGHUP", "warning", w.String())
			}
		}()
		hangs := time.AfterFunc(hangupPatience, func() {
			logger.Error("reload on SIGHUP still reads the policy file, whose disk may not answer; further signals wait for it", "for", hangupPatience)
		})
		select {
		case <-ctx.Done():
		case <-reloaded:
		}
		hangs.Stop()
	}
}

// notify speaks to systemd (sd_notify(3)), if it listens. It does not wait: a
// service manager that hangs must not hold up the gateway.
func notify(logger *slog.Logger) func(string) {
	states := make(chan string, 16)
	go func() {
		for state := range states {
			message := map[string]string{"ready": daemon.SdNotifyReady, "stopping": daemon.SdNotifyStopping, "watchdog": daemon.SdNotifyWatchdog}[state]
			if text, ok := strings.CutPrefix(state, "status "); ok {
				message = "STATUS=ready"
				if text != "" {
					message = "STATUS=not ready: " + strings.ReplaceAll(text, "\n", "; ")
				}
			}
			if _, err := daemon.SdNotify(false, message); err != nil {
				logger.Warn("the service manager could not be told", "err", err)
			}
		}
	}()
	return func(state string) {
		select {
		case states <- state:
		default:
		}
	}
}

const (
	// restPercent is GOGC while there is no session. Most of the live heap is
	// WireGuard's receive buffers, which are untouched at rest. With Go's own 100, as
	// much garbage may gather.
	restPercent = 15
	workPercent = 100 // Go's own
	// largePercent is GOGC at the start, and instead of restPercent where the live heap is above
	// restMost, in bytes: policies of thousands of engineers. There, fewer percent cost more than they save.
	largePercent = 60
	restMost     = 64 << 20
	// restInterval is how often the sessions are counted.
	restInterval = 2 * time.Second
)

// keepSmall keeps the process small while there is no session, until the context ends.
// It leaves the collector alone during sessions, or where GOGC is set.
func keepSmall(ctx context.Context, snapshot func() *view.Snapshot) {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	percent := largePercent
	debug.SetGCPercent(percent)
	tick := time.NewTicker(restInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(live)
		want := restPercent
		switch {
		case len(snapshot().Sessions) > 0:
			want = workPercent
		case live[0].Value.Uint64() > restMost:
			want = largePercent
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
