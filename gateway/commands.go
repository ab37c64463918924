package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// effectWait bounds how long a command waits for its effect to stand and to
// be recorded before it answers what it knows.
const effectWait = 3 * time.Second

// Outcome answers a command that changed something.
type Outcome struct {
	Scope    policy.Scope `json:"scope,omitempty"`
	Applied  bool         `json:"applied"`  // gate and kernel both stand as decided
	Recorded bool         `json:"recorded"` // the entry is on disk
	Kept     bool         `json:"kept"`     // not recorded, but a restart and a boot honour it all the same
	// UntilBoot says that a restart honours what is not recorded, and the
	// machine's next boot does not.
	UntilBoot bool     `json:"until_boot,omitempty"`
	Sessions  int      `json:"sessions"` // how many sessions it cut
	Problem   string   `json:"problem,omitempty"`
	Shut      []string `json:"shut"`              // what is shut now
	Changes   []string `json:"changes,omitempty"` // of a reload
	Warnings  []string `json:"warnings,omitempty"`
	Digest    string   `json:"digest,omitempty"`  // of a reload
	Journal   string   `json:"journal,omitempty"` // of a recovery: where the broken journal is now
}

// effect collects what a command waits for. The loop fills the outcome, also
// after the command has stopped waiting.
type effect struct {
	applied, recorded chan error
	kept              <-chan error // nil: not asked
	mu                sync.Mutex
	out               Outcome
}

func newEffect() *effect {
	return &effect{applied: make(chan error, 1), recorded: make(chan error, 1)}
}

// note changes the outcome.
func (e *effect) note(f func(*Outcome)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(&e.out)
}

// wait gives what became of it.
func (e *effect) wait(ctx context.Context) Outcome {
	timeout := time.NewTimer(effectWait)
	defer timeout.Stop()
	var problems []error
	var stands, written bool
	for applied, recorded := e.applied, e.recorded; applied != nil || recorded != nil; {
		select {
		case err := <-applied:
			applied = nil
			stands = err == nil
			if err != nil {
				problems = append(problems, fmt.Errorf("the gate is as decided, the kernel's ruleset is not set: %w", err))
			}
		case err := <-recorded:
			recorded = nil
			written = err == nil
			if err != nil {
				problems = append(problems, fmt.Errorf("not recorded: %w", err))
			}
		case <-timeout.C:
			if applied != nil {
				problems = append(problems, fmt.Errorf("the kernel's ruleset was not set within %s", effectWait))
			}
			if recorded != nil {
				problems = append(problems, fmt.Errorf("not recorded within %s", effectWait))
			}
			applied, recorded = nil, nil
		case <-ctx.Done():
			applied, recorded = nil, nil
			problems = append(problems, ctx.Err())
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	out := e.out
	out.Applied, out.Recorded = stands, written
	if err := errors.Join(problems...); err != nil {
		out.Problem = err.Error()
	}
	if out.Shut == nil {
		out.Shut = []string{}
	}
	return out
}

// standing makes the effect wait for the ruleset of this turn.
func (l *loop) standing(e *effect) {
	before := len(l.sessions)
	l.replan = false
	l.evaluate()
	l.waiting = append(l.waiting, waiter{l.applications, func(err error) { e.applied <- err }})
	e.note(func(out *Outcome) {
		out.Sessions = before - len(l.sessions)
		out.Shut = []string{}
		for _, r := range l.state.Shuts() {
			out.Shut = append(out.Shut, string(r.Scope))
		}
	})
}

// reasonMax is how long a reason may be, in bytes: it becomes part of an entry.
const reasonMax = 1000

func checkReason(reason string) error {
	if len(reason) > reasonMax {
		return fmt.Errorf("the reason takes %d bytes: allowed are up to %d", len(reason), reasonMax)
	}
	return nil
}

// Close shuts a scope: it cuts now, whatever the journal does, and stays shut
// over restarts. A scope the policy does not know gives a *policy.NoMatchError.
func (g *Gateway) Close(ctx context.Context, actor string, scope policy.Scope, reason string) (Outcome, error) {
	if err := checkReason(reason); err != nil {
		return Outcome{}, err
	}
	e := newEffect()
	var refused error
	err := g.send(ctx, func(l *loop) {
		event := policy.Shut{Scope: scope, Reason: reason}
		if refused = l.state.Apply(l.now, actor, event); refused != nil {
			return
		}
		l.closed[scope]++
		// It is on its way to the disk before the closings that it causes.
		if l.doubts[doubtJournal] != "" {
			e.kept = l.mark()
			e.recorded <- errors.New(l.doubts[doubtJournal])
		} else {
			l.shutting++
			r, _ := l.state.Shut(scope)
			event.Keys = r.Keys
			l.add(record{entries: shutEntries(actor, event), done: func(l *loop, err error) {
				l.shutting--
				if err == nil {
					l.unmark()
				}
				e.recorded <- err
			}})
		}
		l.standing(e)
		e.note(func(out *Outcome) { out.Scope = scope })
		l.cfg.Logger.Warn("shut", eventAttr(journal.Shut), "scope", string(scope), "actor", actor, "reason", reason)
	})
	if err = errors.Join(err, refused); err != nil {
		return Outcome{}, err
	}
	out := e.wait(ctx)
	if !out.Recorded {
		kept := e.kept
		if kept == nil {
			// The journal failed, or hangs, since: what is shut must not be
			// forgotten at a restart.
			_ = g.send(context.WithoutCancel(ctx), func(l *loop) { kept = l.mark() })
		}
		err := awaitKept(kept)
		out.Kept, out.UntilBoot = err == nil, errors.Is(err, ErrUntilBoot)
		if err != nil {
			out.Problem = fmt.Sprintf("%s; %v", out.Problem, err)
		}
	}
	return out, nil
}

// awaitKept waits, bounded, for the marker.
func awaitKept(kept <-chan error) error {
	select {
	case err := <-kept:
		return err
	case <-time.After(effectWait):
		return fmt.Errorf("not durable within %s", effectWait)
	}
}

// Reopen takes back a Close of the same scope, once that is on disk. It fails
// while the journal is dead: no record, no entry.
func (g *Gateway) Reopen(ctx context.Context, actor string, scope policy.Scope, reason string) (Outcome, error) {
	if err := checkReason(reason); err != nil {
		return Outcome{}, err
	}
	e := newEffect()
	var refused error
	err := g.send(ctx, func(l *loop) {
		event := policy.Reopened{Scope: scope, Reason: reason}
		if refused = l.state.Copy().Apply(l.now, actor, event); refused != nil {
			return
		}
		if why := l.doubts[doubtJournal]; why != "" {
			refused = fmt.Errorf("nothing can be reopened: %s", why)
			return
		}
		e.note(func(out *Outcome) { out.Scope = scope })
		closed := l.closed[scope]
		l.recordEvent(eventEntry(journal.Reopened, actor, reason, scope, event), func(err error) {
			if err == nil && l.closed[scope] != closed {
				// The disk was slow, and the later command counts.
				err = fmt.Errorf("%q was closed again meanwhile", scope)
			} else if err == nil {
				err = l.state.Apply(l.now, actor, event)
			}
			l.standing(e)
			if err == nil {
				l.unmark()
				l.cfg.Logger.Info("reopened", eventAttr(journal.Reopened), "scope", string(scope), "actor", actor, "reason", reason)
			}
			e.recorded <- err
		})
	})
	if err = errors.Join(err, refused); err != nil {
		return Outcome{}, err
	}
	return e.wait(ctx), nil
}

// errOvertaken is what a reload hears whose reading of the file is older than
// what has been decided since.
var errOvertaken = errors.New("a newer reload has overtaken this one, and its result stands: `kidoban status` shows it")

// Reload reads the policy file again. One with errors leaves the policy in
// force as it is and gives the errors. Of several at once the one counts that
// began to read last.
func (g *Gateway) Reload(ctx context.Context, actor string) (Outcome, error) {
	r := g.read()
	p, warnings := r.policy, r.warnings
	e := newEffect()
	var refused error
	err := g.send(ctx, func(l *loop) {
		var lines []string
		if lines, refused = l.take(actor, r); refused == errOvertaken {
			return
		} else if refused != nil {
			if l.state.Policy() == nil {
				l.doubt(doubtPolicy, policyDoubt(refused))
			}
			l.cfg.Logger.Error("the policy file has errors, the policy in force stays", "err", refused)
			return
		}
		l.standing(e)
		e.note(func(out *Outcome) { out.Changes, out.Warnings, out.Digest = lines, warnings, p.Digest })
		l.add(record{done: func(_ *loop, err error) { e.recorded <- err }})
	})
	switch {
	case err != nil:
		return Outcome{}, err
	case refused == errOvertaken:
		return Outcome{}, refused
	case refused != nil:
		return Outcome{}, errors.Join(refused) // errors of the file, as admin tells them apart
	}
	return e.wait(ctx), nil
}

// Recover is the way out of doubt: it takes the clock as it is, forgets
// handshake timestamps, moves a broken journal aside and begins a new one
// that names the old one's last checkpoint, builds a lost tunnel anew, and
// sets the ruleset. What is shut stays shut, and every session ends, also where
// nothing was in doubt. One runs at a time.
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
		if dead = l.doubts[doubtJournal] != ""; dead {
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
		if err := awaitKept(kept); err != nil && !errors.Is(err, ErrUntilBoot) && shut > 0 {
			return Outcome{}, fmt.Errorf("what is shut cannot be kept while the journal is replaced: %w", err)
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
		l.cfg.Tunnel.SetTimestamps(nil)
		l.sever(GatewayShut)
		if l.doubts[doubtTunnel] != "" {
			if err := l.cfg.Tunnel.Restart(); err != nil {
				l.doubt(doubtTunnel, fmt.Sprintf("the tunnel cannot be built: %v; `kidoban recover` tries again", err))
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
		l.cfg.Logger.Warn("recovered", eventAttr(journal.Recovery), "actor", actor, "reason", reason, "not_ready_reason", l.inDoubt())
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
// waited for, bounded.
func (g *Gateway) stillInDoubt(ctx context.Context) string {
	timeout := time.NewTimer(effectWait)
	defer timeout.Stop()
	for {
		var doubt string
		ruleset := false
		err := g.send(ctx, func(l *loop) {
			doubt = l.plan.Doubt
			if ruleset = l.doubts[doubtRuleset] != ""; ruleset {
				l.applier.verify()
			}
		})
		if err != nil {
			return err.Error()
		}
		if !ruleset {
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
	entry.Text = clip(next.text)
	e.note(func(out *Outcome) { out.Journal = next.aside })
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
