package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
	"kidoban/gateway/view"
)

// effectWait bounds how long a command waits for its effect before it answers.
const effectWait = view.EffectWithin

// Outcome answers an event that changed something.
type Outcome struct {
	Scope    policy.Scope `json:"scope,omitempty"`
	Applied  bool         `json:"applied"`  // gate and kernel are both as decided
	Recorded bool         `json:"recorded"` // the entry is on disk
	Kept     bool         `json:"kept"`     // not recorded, but it holds over a restart and a boot
	// UntilBoot says that it holds over a restart of the gateway, and not over
	// the machine's next boot.
	UntilBoot bool     `json:"until_boot,omitempty"`
	Sessions  int      `json:"sessions"`           // how many sessions it cut
	Problem   string   `json:"problem,omitempty"`  // Problems in English
	Shut      []string `json:"shut"`               // the scopes that are shut now
	Changes   []string `json:"changes,omitempty"`  // of a reload
	Warnings  []string `json:"warnings,omitempty"` // of a reload or a recovery, in English
	Digest    string   `json:"digest,omitempty"`   // of a reload
	// Differences are what Changes says, in whole; Closed and Opened are the access that
	// closed and opened by a reload at once, and not later by the clock.
	Differences []policy.Change `json:"differences,omitempty"`
	Closed      []policy.Reach  `json:"closed_now,omitempty"`
	Opened      []policy.Reach  `json:"opened_now,omitempty"`
	Journal     string          `json:"journal,omitempty"` // of a recovery: where the broken journal is now
	// Was is what had shut the scope before: of a reopening the closes that it takes back.
	Was *policy.ShutRecord `json:"was,omitempty"`

	Problems        []view.Message `json:"problem_messages,omitempty"`
	ChangeMessages  []view.Message `json:"change_messages,omitempty"`
	WarningMessages []view.Message `json:"warning_messages,omitempty"`
}

func (out *Outcome) problem(m view.Message) {
	out.Problems = append(out.Problems, m)
	if out.Problem != "" {
		out.Problem += "\n"
	}
	out.Problem += m.String()
}

func (out *Outcome) warn(all ...view.Message) {
	out.WarningMessages = append(out.WarningMessages, all...)
	for _, m := range all {
		out.Warnings = append(out.Warnings, m.String())
	}
}

var errStopped = &view.Error{Message: view.Say(view.Stops, nil)}

// Do changes the state by an event of an operator. A close takes effect first
// and is recorded after. A reopening is recorded first, checked again, and then
// takes effect. An event that matches nothing gives a *policy.NoMatchError.
func (g *Gateway) Do(ctx context.Context, actor policy.Actor, event policy.Event) (Outcome, error) {
	switch e := event.(type) {
	case policy.Shut:
		if err := checkReason(e.Reason); err != nil {
			return Outcome{}, err
		}
		return g.shut(ctx, actor, e)
	case policy.Reopened:
		if err := checkReason(e.Reason); err != nil {
			return Outcome{}, err
		}
		return g.reopen(ctx, actor, e)
	case policy.RequestEvent:
		return g.decide(ctx, actor, e)
	}
	return Outcome{}, fmt.Errorf("%T is not an operator's event", event)
}

// ReasonMax is how long an operator's reason may be, in bytes: it becomes part
// of an entry.
const ReasonMax = 1000

func checkReason(reason string) error {
	if len(reason) > ReasonMax {
		return &view.Error{Message: view.Say("reason_long", view.Args{"bytes": len(reason), "most": ReasonMax})}
	}
	return nil
}

// shut cuts at once, also while the journal is dead. The close goes to the latch
// and to the loop at the same time, so it holds over a restart. If the loop hangs
// for liveWithin, shut returns an error, since nothing is cut: the loop shuts the
// scope when it goes on, or the next process does.
func (g *Gateway) shut(ctx context.Context, actor policy.Actor, event policy.Shut) (Outcome, error) {
	e := newEffect()
	added, kept, unknown := g.latch(actor, event)
	done := g.leave(func(l *loop) { e.refused = l.shut(actor, event, e, added) })
	select {
	case <-done:
	case <-g.stopped:
		return Outcome{}, errStopped
	case <-time.After(liveWithin):
		if unknown != nil {
			return Outcome{}, unknown
		}
		return Outcome{}, g.hangs(event.Scope, awaitKept(kept))
	}
	if e.refused != nil {
		return Outcome{}, e.refused
	}
	out := e.wait(ctx)
	if !out.Recorded {
		if unknown != nil { // the loop knew the scope, and the snapshot did not
			kept = e.kept
		}
		err := awaitKept(kept)
		out.Kept, out.UntilBoot = err == nil, errors.Is(err, store.ErrUntilBoot)
		if err != nil {
			out.problem(view.Say("not_kept", view.Args{"cause": err}))
		}
	}
	return out, nil
}

// latch adds a shut to the latch, with the keys that the newest snapshot knows.
func (g *Gateway) latch(actor policy.Actor, event policy.Shut) (*store.Added, <-chan error, error) {
	state := g.snapshot.Load().Base.Copy()
	if err := state.Apply(g.Now(), actor.Text, event); err != nil {
		return nil, nil, err
	}
	record, _ := state.Shut(event.Scope)
	added, kept := g.store.Latch.Add(record)
	return added, kept, nil
}

// awaitKept waits, bounded, for the latch.
func awaitKept(kept <-chan error) error {
	select {
	case err := <-kept:
		return err
	case <-time.After(effectWait):
		return &view.Error{Message: view.Say("not_durable", view.Args{"wait": effectWait})}
	}
}

// hangs is the error of a shut that the loop has not taken; kept is the latch's
// answer.
func (g *Gateway) hangs(scope policy.Scope, kept error) error {
	code := view.Code("shut_hangs")
	if g.snapshot.Load().InDoubt(view.Starting) {
		code = "shut_starts"
	}
	what := view.Say(code, view.Args{"scope": string(scope)})
	switch {
	case kept == nil:
		return &view.Error{Message: view.Say("shut_later", view.Args{"why": what})}
	case errors.Is(kept, store.ErrUntilBoot):
		return &view.Error{Message: view.Say("shut_until_boot", view.Args{"why": what, "cause": kept}), Cause: kept}
	}
	return &view.Error{Message: view.Say("shut_forgotten", view.Args{"why": what, "cause": kept}), Cause: kept}
}

// shut shuts a scope on the loop.
func (l *loop) shut(actor policy.Actor, event policy.Shut, e *effect, added *store.Added) error {
	l.noteShut(e, event.Scope)
	err := l.state.Apply(l.clock.Now, actor.Text, event)
	e.kept = l.store.Latch.Set(l.state.Shuts(), added)
	if err != nil {
		if added != nil { // at a start the snapshot has no policy, and the operator may wait no more
			l.cfg.Logger.Error("a close shut nothing", "scope", string(event.Scope), "actor", actor.Text, "err", err)
		}
		return err
	}
	l.closes[event.Scope]++
	r, _ := l.state.Shut(event.Scope)
	event.Keys = r.Keys
	if l.doubted(doubtJournal) {
		e.recorded <- errors.New(l.doubts[doubtJournal].String())
	} else { // on its way to the disk before the closings that it causes
		l.add(store.Record{Entries: store.ShutEntries(actor.Text, event, l.state), Done: func(err error) { e.recorded <- err }})
	}
	l.stand(e, event.Scope)
	kind := journal.Shut
	if event.Scope.IsRequest() {
		kind = journal.Revoked
	}
	l.cfg.Logger.Warn(string(kind), store.EventAttr(kind), "scope", string(event.Scope), "actor", actor.Text, "reason", event.Reason)
	return nil
}

// noteShut tells an effect what has shut a scope so far.
func (l *loop) noteShut(e *effect, scope policy.Scope) {
	if r, ok := l.state.Shut(scope); ok {
		r = l.g.snapshot.Load().LocalShut(r)
		e.note(func(out *Outcome) { out.Was = &r })
	}
}

// reopen takes back a shut of the same scope, once that is on disk. It fails
// while the journal is in doubt: no record, no entry.
func (g *Gateway) reopen(ctx context.Context, actor policy.Actor, event policy.Reopened) (Outcome, error) {
	e := newEffect()
	err := g.send(ctx, func(l *loop) { e.refused = l.reopen(actor, event, e) })
	if err = errors.Join(err, e.refused); err != nil {
		return Outcome{}, err
	}
	return e.wait(ctx), nil
}

func (l *loop) reopen(actor policy.Actor, event policy.Reopened, e *effect) error {
	what, left, err := l.state.Reopening(actor, event)
	if err == nil {
		err = l.state.Copy().Apply(l.clock.Now, actor.Text, what)
	}
	if err != nil {
		return err
	}
	if l.doubted(doubtJournal) {
		return &view.Error{Message: view.Say("not_reopened", view.Args{"cause": l.doubts[doubtJournal]})}
	}
	closes := l.closes[event.Scope]
	entry := store.ReopenEntry(actor.Text, event, what)
	l.add(store.Record{Entries: []journal.Entry{entry}, Done: func(err error) {
		if err == nil && l.closes[event.Scope] != closes { // the disk was slow, and the later command counts
			err = &view.Error{Message: view.Say("shut_again", view.Args{"scope": string(event.Scope)})}
		} else if err == nil {
			if left == 0 {
				l.noteShut(e, event.Scope)
			}
			err = l.state.Apply(l.clock.Now, actor.Text, what)
		}
		l.stand(e, event.Scope)
		if err != nil {
			e.recorded <- err
			return
		}
		if left > 0 {
			e.note(func(out *Outcome) { out.warn(view.Say("reopen_more", view.Args{"left": left})) })
			e.recorded <- nil
			return
		}
		if by, on := l.state.Switched(); on {
			e.note(func(out *Outcome) { out.warn(view.Say("switch_still", view.Args{"reason": by.Reason})) })
		}
		l.cfg.Logger.Info("reopened", store.EventAttr(journal.Reopened), "scope", string(event.Scope), "actor", actor.Text, "reason", event.Reason)
		kept := l.store.Latch.Set(l.state.Shuts())
		go func() {
			_ = awaitKept(kept) // a restart before that would shut the scope again
			e.recorded <- nil
		}()
	}})
	return nil
}

// effect collects the results of a command. The loop fills the outcome, also
// after the command has stopped waiting.
type effect struct {
	applied, recorded chan error
	refused           error        // set by the loop before the command goes on
	kept              <-chan error // the latch's answer; set by the loop as well
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

// stand puts the state in force, and makes the effect wait until the kernel has
// it.
func (l *loop) stand(e *effect, scope policy.Scope) {
	before := l.sessions.Len()
	l.evaluate()
	l.kernel.waiting = append(l.kernel.waiting, waiter{l.kernel.asked, func(err error) { e.applied <- err }})
	e.note(func(out *Outcome) {
		out.Scope = scope
		out.Sessions = before - l.sessions.Len()
		out.Shut = []string{}
		for _, r := range l.state.Closed() {
			if !r.Scope.IsRequest() {
				out.Shut = append(out.Shut, string(r.Scope))
			}
		}
		out.Shut = slices.Compact(out.Shut)
	})
}

// wait returns the outcome of an event.
func (e *effect) wait(ctx context.Context) Outcome {
	timeout := time.NewTimer(effectWait)
	defer timeout.Stop()
	var problems []view.Message
	var stands, written bool
	for applied, recorded := e.applied, e.recorded; applied != nil || recorded != nil; {
		select {
		case err := <-applied:
			applied = nil
			if stands = err == nil; !stands {
				problems = append(problems, view.Say("not_applied", view.Args{"cause": err}))
			}
		case err := <-recorded:
			recorded = nil
			if written = err == nil; !written {
				problems = append(problems, view.Say("not_recorded", view.Args{"cause": err}))
			}
		case <-timeout.C:
			if applied != nil {
				problems = append(problems, view.Say("not_applied_yet", view.Args{"wait": effectWait}))
			}
			if recorded != nil {
				problems = append(problems, view.Say("not_recorded_yet", view.Args{"wait": effectWait}))
			}
			applied, recorded = nil, nil
		case <-ctx.Done():
			applied, recorded = nil, nil
			problems = append(problems, view.Say("not_awaited", view.Args{"cause": ctx.Err()}))
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	out := e.out
	out.Applied, out.Recorded = stands, written
	for _, m := range problems {
		out.problem(m)
	}
	if out.Shut == nil {
		out.Shut = []string{}
	}
	return out
}
