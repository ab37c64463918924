package gateway

import (
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
	"kidoban/gateway/view"
)

// start reads the latch and the journal, records the ends of sessions and grants
// after a crash, and loads the policy. A failure becomes a doubt, and the loop runs.
func (l *loop) start() {
	l.g.reading <- struct{}{} // first: a reload that held it would wait for this loop
	if l.clock.Boot < bootWait && !l.clock.Synchronized {
		l.doubt(doubtClock, view.Say("clock_unsettled", view.Args{"wait": bootWait}))
	}
	everything := policy.ShutRecord{Scope: policy.All, At: l.clock.Now, Actor: policy.Gateway.Text,
		Reason: view.Say(view.LatchUnread, view.Args{"cause": "no start has ended since it was lost"}).String()}
	latched, known, unreadable := l.store.Begin(everything)
	past, err := l.store.Open()
	if err == nil {
		l.state = past.State
		l.journal.identity = past.Identity
		l.takePast(past, len(latched) == 0)
	} else {
		l.startDamaged(err, known && unreadable == nil)
		l.journal.unlatched = unreadable != nil
	}
	if unreadable != nil {
		l.cfg.Logger.Error("the latch, which says what is shut, cannot be read: everything is shut", "err", unreadable)
		everything.Reason = store.Clip(view.Say(view.LatchUnread, view.Args{"cause": unreadable}).String())
		latched = append(latched, everything)
	}
	l.record(store.ShutAlso(l.state, latched)...)
	l.turnSwitch(l.cfg.Switch.Now())
	r := l.g.read()
	<-l.g.reading
	l.takeKey(r.key, false, policy.Gateway)
	if notes, err := l.take(policy.Gateway, r); err != nil {
		l.doubt(doubtPolicy, noPolicy(err))
	} else {
		l.g.logLoaded(r.policy, policy.Gateway, view.Texts(notes))
	}
	l.doubtClock() // in the site's zone, which the policy has
}

// takePast begins with the past that a journal has. A journal without a past, and a
// latch that is empty, are those of a first start.
func (l *loop) takePast(past *store.Past, latchEmpty bool) {
	start := journal.Entry{Kind: journal.Start, Actor: "gateway", Text: l.cfg.Version}
	if l.journal.began = past.Began; past.Newest.IsZero() && latchEmpty {
		l.journal.began, start.Reason = l.clock.Now, store.FirstStart
	}
	l.clock.Record(past.Newest)
	l.cfg.Tunnel.SetTimestamps(past.Timestamps)
	l.cfg.Metrics.Remember(past.Listed, past.Seen)
	l.refusals.SetAttempts(past.Attempts)
	l.record(append(past.Closings(nil), start)...)
}

// startDamaged begins with a journal that does not open. Its closes hold. If some
// of its entries cannot be read, and there is no latch, everything is shut.
func (l *loop) startDamaged(why error, latched bool) {
	past, lost := l.store.Damaged()
	l.state = past.State
	l.journal.identity = past.Identity
	code := view.Code("journal_closed")
	switch {
	case lost != nil && latched:
		l.cfg.Logger.Warn("what the journal had shut cannot all be read, and is known from the latch", "err", lost)
	case lost != nil:
		l.cfg.Logger.Error("what the journal had shut cannot all be read: everything is shut", "err", lost)
		code = "journal_lost"
		l.journal.lost = true
		reason := view.Say("shut_lost", view.Args{"cause": lost}).String()
		_ = l.state.Apply(l.clock.Now, policy.Gateway.Text, policy.Shut{Scope: policy.All, Reason: store.Clip(reason)}) // a state without a policy takes all
	}
	l.doubt(doubtJournal, view.Say(code, view.Args{"cause": why}))
}
