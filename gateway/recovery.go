package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// Recover is the way out of doubt: it takes the clock as it is, forgets
// handshake timestamps, moves a broken journal aside and begins a new one
// that names the old one's last checkpoint, builds a lost tunnel anew, and
// sets the ruleset. What is shut stays shut, everything where nobody can tell
// any more what was, and every session ends, also where nothing was in doubt.
// One runs at a time.
func (g *Gateway) Recover(ctx context.Context, actor, reason string) (Outcome, error) {
	if err := checkReason(reason); err != nil {
		return Outcome{}, err
	}
	if !g.recovery.TryLock() {
		return Outcome{}, errors.New("a recovery is under way")
	}
	defer g.recovery.Unlock()

	var dead bool
	var kept <-chan error
	var shut int
	err := g.send(ctx, func(l *loop) {
		if dead = l.doubted(doubtJournal); dead {
			shut = len(l.state.Shuts())
			kept = l.detachJournal()
		}
	})
	if err != nil {
		return Outcome{}, err
	}
	// The disk is slow at its best here, and the loop does not wait for it.
	var next replacement
	if dead {
		if err := keptMeanwhile(kept); err != nil && shut > 0 {
			return Outcome{}, err
		}
		if next, err = g.replaceJournal(); err != nil {
			return Outcome{}, err
		}
	}
	e := newEffect()
	err = g.send(context.WithoutCancel(ctx), func(l *loop) {
		// The clock that is accepted stands beside the entry's time, which
		// is never before that of the entry before it.
		entry := journal.Entry{Kind: journal.Recovery, Actor: actor, Reason: reason, From: l.now}
		l.newest = l.now
		clear(l.began)
		l.trust(doubtClock)
		l.openAt = 0
		l.cfg.Tunnel.SetTimestamps(nil)
		l.sever(GatewayShut)
		if l.doubted(doubtTunnel) {
			if err := l.cfg.Tunnel.Restart(); err != nil {
				l.doubt(doubtTunnel, view.Say(view.TunnelUnbuilt, view.Args{"cause": err}))
			} else {
				l.trust(doubtTunnel)
			}
		}
		if dead {
			l.takeJournal(next, entry, e)
		} else {
			l.recordEvent(entry, func(err error) { e.recorded <- err })
		}
		l.standing(e)
		l.cfg.Logger.Warn("recovered", eventAttr(journal.Recovery), "actor", actor, "reason", reason, "not_ready_reason", view.Joined(l.inDoubt()))
	})
	if err != nil {
		if dead {
			next.journal.Close()
		}
		return Outcome{}, err
	}
	out := e.wait(ctx)
	if doubt := g.stillInDoubt(ctx); doubt != "" && out.Problem == "" {
		out.Problem = doubt
	}
	return out, nil
}

// stillInDoubt gives what is in doubt after a recovery. A ruleset that read
// back wrong is trusted only when it reads back right: it is read now, and
// waited for, bounded. So is an opening, where the last one failed.
func (g *Gateway) stillInDoubt(ctx context.Context) string {
	timeout := time.NewTimer(effectWait)
	defer timeout.Stop()
	for {
		var doubt string
		ruleset, opening := false, false
		err := g.send(ctx, func(l *loop) {
			doubt = l.plan.Doubt
			if ruleset = l.doubted(doubtRuleset); ruleset {
				l.applier.verify()
			}
			opening = l.openAfter > 0 && (len(l.pending) > 0 || l.applied < l.applications)
		})
		if err != nil {
			return err.Error()
		}
		if !ruleset && !opening {
			return doubt
		}
		select {
		case <-time.After(effectWait / 20):
		case <-timeout.C:
			return doubt
		case <-ctx.Done():
			return doubt
		}
	}
}

// detachJournal takes the loop off a journal that is in doubt. What waits for
// it is told so; what is shut is kept outside it until the next one has it.
func (l *loop) detachJournal() <-chan error {
	kept := l.mark()
	if l.journal != nil {
		l.g.broken = l.journal
	}
	left := l.recorder.abandon()
	l.journal, l.slow = nil, false
	l.recorder = newRecorder()
	l.recorder.start()
	l.settle(left, errNoJournal)
	return kept
}

// keptMeanwhile waits until what is shut outlives a crash while no journal has it.
func keptMeanwhile(kept <-chan error) error {
	if err := awaitKept(kept); err != nil && !errors.Is(err, ErrUntilBoot) {
		return fmt.Errorf("what is shut cannot be kept while the journal is replaced: %w", err)
	}
	return nil
}

// shutLost shuts everything if the journal that is about to be moved aside
// may have shut what nobody can read any more.
func (g *Gateway) shutLost() error {
	var kept <-chan error
	err := g.send(context.Background(), func(l *loop) {
		if l.lost == nil {
			return
		}
		reason := clip(fmt.Sprintf("the journal is damaged, and what it had shut may be forgotten: see what that was, close it again, "+
			"then `kidoban reopen --all --reason R`; what cannot be read: %v", l.lost))
		if have, ok := l.state.Shut(policy.All); ok && strings.Contains(have.Reason, reason) {
			reason = have.Reason // of a recovery that failed
		} else if ok {
			reason = clip(have.Reason + "; " + reason) // whoever reopens that has to know
		}
		_ = l.state.Apply(l.now, "gateway", policy.Shut{Scope: policy.All, Reason: reason}) // it takes all
		l.replan = true
		kept = l.mark()
	})
	if err != nil || kept == nil {
		return err
	}
	return keptMeanwhile(kept)
}

// replacement is a journal that takes the place of a dead one.
type replacement struct {
	journal Journal
	replay  replay // of what it has already
	aside   string // where the broken one is now; empty: it is the same one
	text    string // what the new one says of the broken one
}

// replaceJournal opens the journal again if it only failed to be written, or
// moves it aside and begins a new one.
func (g *Gateway) replaceJournal() (replacement, error) {
	if broken := g.broken; broken != nil {
		closed := make(chan struct{})
		go func() {
			broken.Close()
			close(closed)
		}()
		select {
		case <-closed:
		case <-time.After(effectWait):
			return replacement{}, fmt.Errorf("the disk still holds the journal's last entries back after %s: mend it, then try again", effectWait)
		}
		g.broken = nil
	}
	next, why := g.reopenJournal()
	if why == nil {
		return next, nil
	}
	if err := g.shutLost(); err != nil {
		return replacement{}, err
	}
	path, last, err := g.cfg.ArchiveJournal()
	if err != nil {
		return replacement{}, fmt.Errorf("the broken journal cannot be moved aside: %w", errors.Join(err, why))
	}
	if next, err = g.reopenJournal(); err != nil {
		return replacement{}, fmt.Errorf("a new journal cannot be begun, the broken one is now %s: %w", path, err)
	}
	next.aside = path
	next.text = fmt.Sprintf("begins anew after %s; its last checkpoint:\n%s\nwhat was wrong with it: %v", path, last, why)
	return next, nil
}

// reopenJournal opens the journal and reads what it has open.
func (g *Gateway) reopenJournal() (replacement, error) {
	j, err := g.cfg.OpenJournal()
	if err != nil {
		return replacement{}, err
	}
	r := replay{state: policy.NewState(), open: map[string]journal.Entry{}}
	if err := r.read(j.Replay()); err != nil {
		j.Close()
		return replacement{}, err
	}
	return replacement{journal: j, replay: r}, nil
}

// takeJournal puts a journal in the place of the dead one. It begins with the
// recovery; what the dead one did not take any more and what holds now follow.
func (l *loop) takeJournal(next replacement, entry journal.Entry, e *effect) {
	l.journal = next.journal
	l.recorder.use(next.journal)
	l.trust(doubtJournal)
	if entry.Text = clip(next.text); next.text != "" {
		l.cfg.Metrics.journalReplaced()
	}
	e.note(func(out *Outcome) {
		if out.Journal = next.aside; l.lost != nil && next.text != "" {
			out.Warnings = append(out.Warnings, lostWarning(next.aside))
		}
	})
	if l.lost != nil && next.text == "" {
		// It could not be read before, and says now all that it had shut.
		was := l.state
		l.state = next.replay.state
		shutAlso(l.state, was.Shuts())
		if p := was.Policy(); p != nil {
			_ = l.state.Apply(l.now, "gateway", policy.PolicyLoaded{Digest: p.Digest, Policy: p}) // it takes every policy
		}
	}
	l.lost = nil
	l.recordEvent(entry, func(err error) { e.recorded <- err })
	if next.aside == "" {
		l.record(next.replay.closings(l.unwritten)...)
	} else {
		names := slices.Sorted(maps.Keys(l.unwritten))
		slices.Reverse(names) // sessions before the windows they stood on
		for _, name := range names {
			l.record(l.unwritten[name])
		}
	}
	clear(l.unwritten)
	l.recordState()
}

// lostWarning says why everything is shut after a recovery, and what to do.
func lostWarning(aside string) string {
	look := ""
	if aside != "" {
		look = fmt.Sprintf(" (`kidoban journal list %s` shows what is left)", aside)
	}
	return fmt.Sprintf("EVERYTHING IS SHUT: the journal was damaged, and what it had shut may be forgotten. See what that was%s, close it again, then `kidoban reopen --all`", look)
}

// recordState tells a new journal what is shut and which policy is in force.
func (l *loop) recordState() {
	var entries []journal.Entry
	for _, r := range l.state.Shuts() {
		entries = append(entries, shutEntries(r.Actor, policy.Shut{Scope: r.Scope, Reason: r.Reason, Keys: r.Keys})...)
	}
	if p := l.state.Policy(); p != nil {
		entries = append(entries, journal.SplitText(journal.Entry{Kind: journal.PolicyText, Actor: "gateway", Digest: p.Digest, Text: p.Text})...)
		entries = append(entries, journal.Entry{Kind: journal.PolicyLoaded, Actor: "gateway", Digest: p.Digest})
	}
	// One record: the marker goes when the journal has all that it says.
	l.add(record{entries: entries, done: func(l *loop, err error) {
		if err == nil {
			l.unmark()
		}
	}})
}
