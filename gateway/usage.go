package gateway

import (
	"time"

	"kidoban/gateway/policy"
)

// usage counts the time since the last heartbeat for the windows that are
// open, and for those by which somebody is inside. A process that was stopped
// meanwhile counts no more than one that turns may miss.
func (l *loop) usage(d time.Duration) {
	d = min(d, liveWithin)
	open := map[string]*policy.Window{}
	for _, g := range l.plan.Grants {
		if g.Contains(l.now) {
			open[g.Window.String()] = g.Window
		}
	}
	used := map[string]bool{}
	for _, s := range l.sessions {
		for _, g := range l.plan.GrantsOf(s.engineer) {
			if g.Contains(l.now) {
				used[g.Window.String()] = true
			}
		}
	}
	for name, w := range open {
		l.cfg.Metrics.windowOpen(w, d, used[name])
	}
}
