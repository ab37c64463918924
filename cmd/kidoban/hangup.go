package main

import (
	"context"
	"log/slog"
	"os"
	"time"

	"kidoban/gateway"
	"kidoban/gateway/policy"
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
			for _, w := range out.Warnings {
				logger.Warn("reload on SIGHUP", "warning", w)
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
