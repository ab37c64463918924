package gateway

import "kidoban/gateway/policy"

func (l *loop) refused(f policy.Fact) {
	if f.At.IsZero() {
		f.At = l.clock.Now
	}
	if f.Engineer == nil {
		f.Engineer = f.Decision.Engineer
	}
	if f.Engineer != nil && f.To.IsValid() {
		f.Source = l.sessions.Source(f.Engineer) // the flow's own source is inside the tunnel
	}
	l.refusals.Add(f)
	l.cfg.Metrics.Refused(f)
}
