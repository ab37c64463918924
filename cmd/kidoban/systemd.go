package main

import (
	"log/slog"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
)

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
