package gateway

import (
	"cmp"
	"context"
	"errors"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/session"
	"kidoban/gateway/store"
	"kidoban/gateway/view"
)

// Recover is the way out of doubt: it takes the clock as it is, forgets
// handshake timestamps, moves a broken journal aside and begins a new one that
// names the old one's last checkpoint, builds a lost tunnel anew, and sets the
// ruleset. Closes hold, and every session ends, also where nothing was in doubt.
// One recovery runs at a time.
func (g *Gateway) Recover(ctx context.Context, actor policy.Actor, reason string) (Outcome, error) {
	if err := checkReason(reason); err != nil {
		return Outcome{}, err
	}
	if !g.recovery.TryLock() {
		return Outcome{}, &view.Error{Message: view.Say("recovery_busy", nil)}
	}
	defer g.recovery.Unlock()

	var dead, keyless bool
	var shuts int
	var kept <-chan error
	err := g.send(ctx, func(l *loop) {
		keyless = l.doubted(doubtKey)
		if dead = l.doubted(doubtJournal); dead {
			shuts = len(l.state.Shuts())
			kept = l.store.Latch.Rewrite()
			l.journal.slow = false
			l.store.Detach()
		}
	})
	if err != nil {
		return Outcome{}, err
	}
	// The disk is slow at its best here, and the loop does not wait for it.
	var next store.Replacement
	if dead {
		if err := keptMeanwhile(kept); err != nil && shuts > 0 {
			return Outcome{}, err
		}
		if next, err = g.store.Replace(); err != nil {
			return Outcome{}, err
		}
	}
	var key keyReading
	if keyless {
		key = g.readOrMakeKey()
	}
	e := newEffect()
	err = g.send(context.WithoutCancel(ctx), func(l *loop) {
		// From is the accepted clock: the journal's times may go back to it here.
		entry := journal.Entry{Kind: journal.Recovery, Actor: actor.Text, Reason: reason, From: l.clock.Now, Text: store.Clip(next.Text)}
		first := store.Record{Entries: []journal.Entry{entry}, Done: func(err error) { e.recorded <- err }}
		l.acceptClock()
		l.kernel.openAt = 0
		l.cfg.Tunnel.SetTimestamps(nil)
		l.tearDown(session.GatewayShut)
		was := l.journal.identity
		if dead {
			l.takeJournal(next, first, e)
		} else {
			l.add(first)
		}
		l.trust(doubtClock)
		if l.doubted(doubtTunnel) {
			if err := l.cfg.Tunnel.Restart(); err != nil {
				l.doubt(doubtTunnel, view.Say("tunnel_unbuilt", view.Args{"cause": err, "every": setAgain}))
			} else {
				l.trust(doubtTunnel)
			}
		}
		if keyless {
			l.acceptKey(key, was, actor, e)
		}
		l.recordKey(cmp.Or(l.kernel.public, was), actor) // a new journal names it too, also while the key cannot be read
		l.stand(e, "")
		l.cfg.Logger.Warn("recovered", store.EventAttr(journal.Recovery), "actor", actor.Text, "reason", reason, "not_ready_reason", view.Joined(l.inDoubt()))
	})
	if err != nil {
		if dead {
			next.Drop()
		}
		return Outcome{}, err
	}
	out := e.wait(ctx)
	if doubts := g.stillInDoubt(ctx); len(out.Problems) == 0 {
		for _, d := range doubts {
			out.problem(d.Message)
		}
	}
	return out, nil
}

// acceptClock takes the wall clock as it is. What was noted at times later than
// now counts as noted now.
func (l *loop) acceptClock() {
	l.clock.Accept()
	l.openings.AcceptClock()
	l.refusals.AcceptClock(l.clock.Now)
	l.cfg.Metrics.ClockAccepted(l.clock.Now)
	for _, at := range []*time.Time{&l.file.loadedAt, &l.journal.began} {
		if at.After(l.clock.Now) {
			*at = l.clock.Now
		}
	}
}

// keptMeanwhile waits for the latch: while the journal is replaced, only the
// latch has the closes.
func keptMeanwhile(kept <-chan error) error {
	if err := awaitKept(kept); err != nil && !errors.Is(err, store.ErrUntilBoot) {
		return &view.Error{Message: view.Say("latch_unkept", view.Args{"cause": err}), Cause: err}
	}
	return nil
}

// tearDown takes note that the next plan finds a rebuilt tunnel without
// sessions.
func (l *loop) tearDown(why session.Ended) {
	l.sessions.TearDown(why)
	l.plans.stale = true
}

// takeJournal puts a journal in the place of the dead one. It begins with the
// recovery. The closings that the dead one did not take follow, then the state.
func (l *loop) takeJournal(next store.Replacement, first store.Record, e *effect) {
	switch lost := l.journal.lost; {
	case next.Anew:
		l.cfg.Metrics.JournalReplaced()
		l.state.DropRequests() // their approvals are in the old journal alone
		e.note(func(out *Outcome) {
			if out.Journal = next.Aside; lost {
				out.warn(view.Say("everything_shut", view.Args{"journal": next.Aside}))
			}
		})
	case lost && !l.journal.unlatched: // the journal can be read again, and has the closes itself
		was := l.state
		l.state = next.Past.State
		l.state.SwitchAs(was)
		for _, r := range was.Shuts() {
			operators := true
			if r.Scope == policy.All { // the gateway had shut it
				r, operators = r.Without(policy.Gateway.Text)
			}
			if operators {
				store.ShutAlso(l.state, []policy.ShutRecord{r})
			}
		}
		if p := was.Policy(); p != nil {
			_ = l.state.Apply(l.clock.Now, policy.Gateway.Text, policy.PolicyLoaded{Digest: p.Digest, Policy: p}) // it takes every policy
		}
	}
	l.journal = journalState{identity: next.Past.Identity}
	l.stamp(first)
	l.store.Take(next, first)
	l.trust(doubtJournal)
	if !next.Anew { // it may have a decision whose record seemed to fail, and lack one that counted meanwhile
		l.state.TakeRequests(l.clock.Now, next.Past.State)
	}
	l.record(store.StateEntries(l.state)...)
}

// stillInDoubt returns the doubts that are left after a recovery. It waits up to
// effectWait for a ruleset in doubt, which must be read back, and for the first
// opening after a failed one.
func (g *Gateway) stillInDoubt(ctx context.Context) (doubts []view.Doubt) {
	timeout := time.NewTimer(effectWait)
	defer timeout.Stop()
	for {
		var wait bool
		err := g.send(ctx, func(l *loop) {
			doubts = l.inDoubt()
			if wait = l.doubted(doubtRuleset); wait {
				l.kernel.applier.verify()
			}
			wait = wait || l.kernel.openAfter > 0 && (l.openings.Pending() || l.kernel.stands < l.kernel.asked)
		})
		if err != nil || !wait {
			return doubts
		}
		select {
		case <-time.After(effectWait / 20):
		case <-timeout.C:
			return doubts
		case <-ctx.Done():
			return doubts
		}
	}
}
