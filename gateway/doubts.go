package gateway

import (
	"strings"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// doubt names what keeps the gateway shut. Their order is that in which they are told.
type doubt uint8

const (
	doubtStopping doubt = iota
	doubtJournal
	doubtClock
	doubtPolicy
	doubtTunnel
	doubtRuleset
	doubts
)

// doubtNames are the doubts that an operator can do something about.
var doubtNames = [doubts]string{doubtJournal: "journal", doubtClock: "clock", doubtPolicy: "policy", doubtTunnel: "tunnel", doubtRuleset: "ruleset"}

// doubt shuts the gateway for a reason, until trust takes it back. Another
// reason for the same doubt is shown from the next plan on and changes nothing
// by itself: a failure whose words differ each time must not drive the loop.
func (l *loop) doubt(d doubt, why string) {
	first := l.doubts[d] == ""
	l.doubts[d] = why
	if !first {
		return
	}
	l.replan = true
	if d == doubtStopping {
		return
	}
	l.record(journal.Entry{Kind: journal.Doubt, Actor: "gateway", Reason: policy.NotReady.String(), Text: clip(why)})
}

func (l *loop) trust(d doubt) {
	if l.doubts[d] == "" {
		return
	}
	l.cfg.Logger.Info("no longer in doubt", "was", l.doubts[d])
	l.doubts[d] = ""
	l.replan = true
}

// inDoubt says everything that keeps the gateway shut; empty: nothing.
func (l *loop) inDoubt() string {
	var all []string
	for _, why := range l.doubts {
		if why != "" {
			all = append(all, why)
		}
	}
	return strings.Join(all, "; ")
}
