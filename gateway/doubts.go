package gateway

import (
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
	"kidoban/gateway/view"
)

// doubt names a subject of doubt. The output has them in this order.
type doubt uint8

const (
	doubtStopping doubt = iota
	doubtJournal
	doubtClock
	doubtPolicy
	doubtKey
	doubtTunnel
	doubtRuleset
	doubts
)

// subjects are the doubts as the view names them.
var subjects = [doubts]string{doubtStopping: view.Stopping, doubtJournal: view.Journal, doubtClock: view.Clock, doubtPolicy: view.Policy,
	doubtKey: view.Key, doubtTunnel: view.Tunnel, doubtRuleset: view.Ruleset}

// doubt shuts the gateway for a reason, until trust takes it back. Another
// reason for the same doubt is shown from the next plan on and changes nothing
// by itself: a failure whose words differ each time must not drive the loop.
func (l *loop) doubt(d doubt, why view.Message) {
	first := !l.doubted(d)
	l.doubts[d] = why
	if !first {
		return
	}
	l.plans.stale = true
	if d == doubtStopping {
		return
	}
	l.record(journal.Entry{Kind: journal.Doubt, Actor: "gateway", Reason: policy.NotReady.String(), Text: store.Clip(why.String())})
}

func (l *loop) trust(d doubt) {
	if !l.doubted(d) {
		return
	}
	was := l.doubts[d].String()
	l.doubts[d] = view.Message{}
	l.plans.stale = true
	l.record(journal.Entry{Kind: journal.Trusted, Actor: "gateway", Reason: subjects[d], Text: store.Clip(was)})
}

// doubted reports whether there is a doubt about a subject.
func (l *loop) doubted(d doubt) bool { return !l.doubts[d].Empty() }

// inDoubt returns everything that keeps the gateway shut.
func (l *loop) inDoubt() (all []view.Doubt) {
	for d, why := range l.doubts {
		if !why.Empty() {
			all = append(all, view.Doubt{About: subjects[d], Message: why})
		}
	}
	if len(all) == 0 && l.state.Policy() == nil {
		all = append(all, view.Doubt{About: view.Policy, Message: view.Say("no_policy_yet", nil)})
	}
	return all
}
