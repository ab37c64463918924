package gateway

import (
	"strings"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
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

// subjects are the doubts as the view names them.
var subjects = [doubts]string{doubtStopping: view.Stopping, doubtJournal: view.Journal, doubtClock: view.Clock, doubtPolicy: view.Policy,
	doubtTunnel: view.Tunnel, doubtRuleset: view.Ruleset}

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

// toldDoubts gives the doubts for the snapshot. A plan may be in doubt by itself: it
// has no policy.
func (l *loop) toldDoubts() (all []view.Doubt) {
	for d, why := range l.doubts {
		if why != "" {
			all = append(all, view.Doubt{About: subjects[d], Message: plain(why)})
		}
	}
	if len(all) == 0 && l.plan.Doubt != "" {
		all = append(all, view.Doubt{About: view.Policy, Message: plain(l.plan.Doubt)})
	}
	return all
}

func plain(text string) view.Message { return view.Say(view.Plain, view.Args{"text": text}) }
