package gateway

import (
	"context"
	"errors"
	"fmt"
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
	Kept     bool         `json:"kept"`     // not recorded, but a restart honours it all the same
	Sessions int          `json:"sessions"` // how many sessions it cut
	Problem  string       `json:"problem,omitempty"`
	Shut     []string     `json:"shut"`              // what is shut now
	Changes  []string     `json:"changes,omitempty"` // of a reload
	Warnings []string     `json:"warnings,omitempty"`
	Digest   string       `json:"digest,omitempty"`  // of a reload
	Journal  string       `json:"journal,omitempty"` // of a recovery: where the broken journal is now
}

// effect collects what a command waits for.
type effect struct {
	applied, recorded chan error
	out               Outcome
}

func newEffect() *effect {
	return &effect{applied: make(chan error, 1), recorded: make(chan error, 1)}
}

// wait fills in what became of it.
func (e *effect) wait(ctx context.Context) Outcome {
	timeout := time.NewTimer(effectWait)
	defer timeout.Stop()
	var problems []error
	for applied, recorded := e.applied, e.recorded; applied != nil || recorded != nil; {
		select {
		case err := <-applied:
			applied = nil
			e.out.Applied = err == nil
			if err != nil {
				problems = append(problems, fmt.Errorf("the gate is shut, the kernel's ruleset is not set: %w", err))
			}
		case err := <-recorded:
			recorded = nil
			e.out.Recorded = err == nil
			if err != nil {
				problems = append(problems, fmt.Errorf("not recorded: %w", err))
			}
		case <-timeout.C:
			applied, recorded = nil, nil
			problems = append(problems, fmt.Errorf("not everything stood or was recorded after %s", effectWait))
		case <-ctx.Done():
			applied, recorded = nil, nil
			problems = append(problems, ctx.Err())
		}
	}
	if err := errors.Join(problems...); err != nil {
		e.out.Problem = err.Error()
	}
	return e.out
}

// standing makes the effect wait for the ruleset of this turn.
func (l *loop) standing(e *effect) {
	l.replan = false
	l.evaluate()
	l.waiting = append(l.waiting, waiter{l.applications, func(err error) { e.applied <- err }})
	e.out.Shut = []string{}
	for _, r := range l.state.Shuts() {
		e.out.Shut = append(e.out.Shut, string(r.Scope))
	}
}

// Close shuts a scope: it cuts now, whatever the journal does, and stays shut
// over restarts. A scope the policy does not know gives a *policy.NoMatchError.
func (g *Gateway) Close(ctx context.Context, actor string, scope policy.Scope, reason string) (Outcome, error) {
	e := newEffect()
	var refused error
	err := g.send(ctx, func(l *loop) {
		event := policy.Shut{Scope: scope, Reason: reason}
		if refused = l.state.Apply(l.now, actor, event); refused != nil {
			return
		}
		before := len(l.sessions)
		l.standing(e)
		e.out.Scope, e.out.Sessions = scope, before-len(l.sessions)
		l.cfg.Logger.Warn("shut", "scope", string(scope), "actor", actor, "reason", reason)
		if l.doubts[doubtJournal] != "" {
			e.out.Kept = l.saveMarker() == nil
			e.recorded <- errors.New(l.doubts[doubtJournal])
			return
		}
		l.recordEvent(journal.Shut, actor, reason, scope, event, func(err error) { e.recorded <- err })
	})
	if err = errors.Join(err, refused); err != nil {
		return Outcome{}, err
	}
	out := e.wait(ctx)
	if !out.Recorded && !out.Kept {
		// The journal failed, or hangs, since: what is shut must not be
		// forgotten at a restart.
		_ = g.send(ctx, func(l *loop) { out.Kept = l.saveMarker() == nil })
	}
	return out, nil
}

// Reopen takes back a Close of the same scope, once that is on disk. It fails
// while the journal is dead: no record, no entry.
func (g *Gateway) Reopen(ctx context.Context, actor string, scope policy.Scope, reason string) (Outcome, error) {
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
		l.recordEvent(journal.Reopened, actor, reason, scope, event, func(err error) {
			if err == nil {
				err = l.state.Apply(l.now, actor, event)
			}
			e.out.Scope = scope
			l.standing(e)
			l.recordedMarker(err)
			l.cfg.Logger.Info("reopened", "scope", string(scope), "actor", actor, "reason", reason)
			e.recorded <- err
		})
	})
	if err = errors.Join(err, refused); err != nil {
		return Outcome{}, err
	}
	return e.wait(ctx), nil
}

// Reload reads the policy file again. One with errors leaves the policy in
// force as it is and gives the errors.
func (g *Gateway) Reload(ctx context.Context, actor string) (Outcome, error) {
	p, warnings, loadErr := g.cfg.LoadPolicy()
	e := newEffect()
	var refused error
	err := g.send(ctx, func(l *loop) {
		var lines []string
		if lines, refused = l.take(actor, p, warnings, loadErr); refused != nil {
			if l.state.Policy() == nil {
				l.doubt(doubtPolicy, policyDoubt(refused))
			}
			l.cfg.Logger.Error("the policy file has errors, the policy in force stays", "err", refused)
			return
		}
		before := len(l.sessions)
		l.standing(e)
		e.out.Changes, e.out.Warnings, e.out.Digest = lines, warnings, p.Digest
		e.out.Sessions = before - len(l.sessions)
		l.recorder.add(record{done: func(_ *loop, err error) { e.recorded <- err }})
	})
	if err = errors.Join(err, refused); err != nil {
		return Outcome{}, err
	}
	return e.wait(ctx), nil
}

// Recover is the way out of doubt: it takes the clock as it is, forgets
// handshake timestamps, moves a broken journal aside and begins a new one
// that names the old one's last checkpoint, builds a lost tunnel anew, and
// sets the ruleset. What is shut stays shut.
func (g *Gateway) Recover(ctx context.Context, actor, reason string) (Outcome, error) {
	e := newEffect()
	var refused error
	err := g.send(ctx, func(l *loop) {
		entry := journal.Entry{Kind: journal.Recovery, Actor: actor, Reason: reason}
		began := l.doubts[doubtJournal] != ""
		if began {
			if refused = l.newJournal(&entry, e); refused != nil {
				return
			}
		}
		l.newest = l.now
		l.trust(doubtClock)
		l.cfg.Tunnel.SetTimestamps(nil)
		for _, s := range l.sessions {
			l.end(s, GatewayShut) // with the timestamps go the keys
		}
		if l.doubts[doubtTunnel] != "" {
			if err := l.cfg.Tunnel.Restart(); err != nil {
				l.doubts[doubtTunnel] = fmt.Sprintf("the tunnel cannot be built: %v; `kidoban recover` tries again", err)
			} else {
				l.trust(doubtTunnel)
			}
		}
		l.recorder.add(record{[]journal.Entry{entry}, func(l *loop, err error) { e.recorded <- err }})
		if began {
			l.recordShuts()
		}
		l.standing(e)
		l.cfg.Logger.Warn("recovered", "actor", actor, "reason", reason, "not_ready_reason", l.inDoubt())
	})
	if err = errors.Join(err, refused); err != nil {
		return Outcome{}, err
	}
	out := e.wait(ctx)
	if doubt := g.Snapshot().Plan.Doubt; doubt != "" && out.Problem == "" {
		out.Problem = doubt
	}
	return out, nil
}

// newJournal archives a broken journal and opens a new one. The recorder's
// entries that wait are of the old one and are dropped with it.
func (l *loop) newJournal(entry *journal.Entry, e *effect) error {
	l.recorder.use(nil)
	if l.journal != nil {
		l.journal.Close()
		l.journal = nil
	}
	// A journal that only failed to be written may open again as it is.
	j, err := l.cfg.OpenJournal()
	if err != nil {
		path, last, archiveErr := l.cfg.ArchiveJournal()
		if archiveErr != nil {
			return fmt.Errorf("the broken journal cannot be moved aside: %w", errors.Join(archiveErr, err))
		}
		e.out.Journal = path
		entry.Text = fmt.Sprintf("begins anew after %s: %v; its last checkpoint:\n%s", path, err, last)
		if j, err = l.cfg.OpenJournal(); err != nil {
			return fmt.Errorf("a new journal cannot be begun: %w", err)
		}
	}
	l.journal = j
	l.recorder.use(j)
	l.trust(doubtJournal)
	return nil
}

// recordShuts tells a new journal what is shut and which policy is in force.
func (l *loop) recordShuts() {
	for _, r := range l.state.Shuts() {
		l.recordEvent(journal.Shut, r.Actor, r.Reason, r.Scope, policy.Shut{Scope: r.Scope, Reason: r.Reason}, l.recordedMarker)
	}
	if p := l.state.Policy(); p != nil {
		entries := journal.SplitText(journal.Entry{Kind: journal.PolicyText, Actor: "gateway", Digest: p.Digest, Text: p.Text})
		l.record(append(entries, journal.Entry{Kind: journal.PolicyLoaded, Actor: "gateway", Digest: p.Digest})...)
	}
}
