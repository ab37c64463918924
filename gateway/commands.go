package gateway

import (
	"context"
	"errors"
	"fmt"
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
	Shut      []string `json:"shut"`               // what is shut now
	Changes   []string `json:"changes,omitempty"`  // of a reload
	Warnings  []string `json:"warnings,omitempty"` // of a reload or a recovery
	Digest    string   `json:"digest,omitempty"`   // of a reload
	Journal   string   `json:"journal,omitempty"`  // of a recovery: where the broken journal is now
}

// effect collects what a command waits for. The loop fills the outcome, also
// after the command has stopped waiting.
type effect struct {
	applied, recorded chan error
	mu                sync.Mutex
	kept              <-chan error // nil: not asked
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

// keep notes who tells whether it is kept outside the journal; nil changes
// nothing. It gives what is noted.
func (e *effect) keep(kept <-chan error) <-chan error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if kept != nil {
		e.kept = kept
	}
	return e.kept
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

// ReasonMax is how long an operator's reason may be, in bytes: it becomes part
// of an entry.
const ReasonMax = 1000

func checkReason(reason string) error {
	if len(reason) > ReasonMax {
		return fmt.Errorf("the reason takes %d bytes: allowed are up to %d", len(reason), ReasonMax)
	}
	return nil
}

// Close shuts a scope: it cuts now, whatever the journal does, and stays shut
// over restarts. A scope the policy does not know gives a *policy.NoMatchError.
// A loop that hangs shuts it when it goes on, or the next process does: that is
// an error, since it does not cut now.
func (g *Gateway) Close(ctx context.Context, actor string, scope policy.Scope, reason string) (Outcome, error) {
	if err := checkReason(reason); err != nil {
		return Outcome{}, err
	}
	e := newEffect()
	h := &held{}
	var refused error
	done := g.leave(func(l *loop) {
		event := policy.Shut{Scope: scope, Reason: reason}
		if refused = l.state.Apply(l.now, actor, event); refused != nil {
			l.settleHeld(h)
			l.unmark()
			return
		}
		l.shutCount[scope]++
		// It is on its way to the disk before the closings that it causes.
		if l.doubted(doubtJournal) {
			l.settleHeld(h)
			e.keep(l.mark())
			e.recorded <- errors.New(l.doubts[doubtJournal].String())
		} else {
			l.shutting++
			r, _ := l.state.Shut(scope)
			event.Keys = r.Keys
			l.add(record{entries: shutEntries(actor, event), done: func(l *loop, err error) {
				l.shutting--
				l.settleHeld(h)
				if err == nil {
					l.unmark()
				} else {
					e.keep(l.mark())
				}
				e.recorded <- err
			}})
		}
		l.standing(e)
		e.note(func(out *Outcome) { out.Scope = scope })
		l.cfg.Logger.Warn("shut", eventAttr(journal.Shut), "scope", string(scope), "actor", actor, "reason", reason)
	})
	if err := g.heard(done, h, actor, scope, reason); err != nil {
		return Outcome{}, err
	}
	if refused != nil {
		return Outcome{}, refused
	}
	out := e.wait(ctx)
	if !out.Recorded {
		kept := e.keep(nil)
		if kept == nil {
			// The journal hangs: what is shut must not be forgotten at a
			// restart.
			if g.send(context.WithoutCancel(ctx), func(l *loop) { kept = l.mark() }) != nil {
				kept = g.hold(h, actor, scope, reason)
			}
		}
		err := awaitKept(kept)
		out.Kept, out.UntilBoot = err == nil, errors.Is(err, ErrUntilBoot)
		if err != nil {
			out.Problem = fmt.Sprintf("%s; %v", out.Problem, err)
		}
	}
	return out, nil
}

// heard waits until the loop has run a close. One that it does not run soon is
// kept where a restart finds it, and is left for the loop.
func (g *Gateway) heard(done <-chan struct{}, h *held, actor string, scope policy.Scope, reason string) error {
	select {
	case <-done:
		return nil
	case <-g.stopped:
		return errStopped
	case <-time.After(effectWait):
	}
	kept := g.hold(h, actor, scope, reason)
	stands, now := "the gateway hangs, and who is inside stays inside", "; `systemctl restart kidoban`, or stopping it, cuts everything within seconds"
	select {
	case <-done:
		return nil
	case <-g.stopped:
		stands, now = errStopped.Error(), ""
	case <-time.After(liveWithin - effectWait):
		if g.snapshot.Load().Plan.Doubt == starting {
			stands, now = "the gateway still starts, and nobody is inside", ""
		}
	}
	var missing *policy.NoMatchError
	switch err := awaitKept(kept); {
	case err == nil:
		return fmt.Errorf("%s: %q is closed as soon as it goes on or is started anew%s", stands, scope, now)
	case errors.As(err, &missing):
		return err
	case errors.Is(err, ErrUntilBoot):
		return fmt.Errorf("%s: %q is closed as soon as it goes on or is started anew, but the machine's NEXT BOOT FORGETS IT%s: %w", stands, scope, now, err)
	default:
		return fmt.Errorf("%s: %q is closed as soon as it goes on, but a RESTART FORGETS IT, and needs it closed again%s: it cannot be kept: %w", stands, scope, now, err)
	}
}

// hold keeps a close that the loop has not settled where a restart finds it,
// with the keys that the newest snapshot knows.
func (g *Gateway) hold(h *held, actor string, scope policy.Scope, reason string) <-chan error {
	state := g.snapshot.Load().State()
	if err := state.Apply(g.Now(), actor, policy.Shut{Scope: scope, Reason: reason}); err != nil {
		result := make(chan error, 1)
		result <- err
		return result
	}
	r, _ := state.Shut(scope)
	return g.keeper.hold(h, r)
}

// settleHeld lets go of a close that was perhaps held.
func (l *loop) settleHeld(h *held) {
	if l.keeper.settle(h) {
		l.marked = true
	}
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
		if why := l.doubts[doubtJournal]; !why.Empty() {
			refused = fmt.Errorf("nothing can be reopened: %s", why)
			return
		}
		e.note(func(out *Outcome) { out.Scope = scope })
		closed := l.shutCount[scope]
		l.recordEvent(eventEntry(journal.Reopened, actor, reason, scope, event), func(err error) {
			if err == nil && l.shutCount[scope] != closed {
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
