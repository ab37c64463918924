package admin

import (
	"context"
	"log/slog"
	"os"
	"time"

	"kidoban/gateway"
	"kidoban/gateway/policy"
)

// ReloadOnHangup reloads at each signal until the context ends. A reading of the
// policy file that its disk never answers does not hold the end up.
func ReloadOnHangup(ctx context.Context, hangup <-chan os.Signal, g *gateway.Gateway, logger *slog.Logger) {
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
			// Nobody waits for an answer to a signal: it is all in the log.
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

// hangupPatience is after how long a reload on SIGHUP is said to hang. One that
// waits for a reading that hangs says so itself, and sooner.
const hangupPatience = 15 * time.Second
