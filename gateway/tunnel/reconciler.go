package tunnel

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"kidoban/gateway/policy"
)

// The reconciler works every second, and at once when woken. While an admission
// waits for its confirmation, it asks the device: after soonest, then at
// doubling intervals. Asking costs 2 ms at 1,000 peers, so it takes at most a
// twentieth of the reconciler's time.
const (
	beat    = time.Second
	soonest = 5 * time.Millisecond
	// driftPause bounds how often it is told that the interface was mended: a program
	// may change it again and again.
	driftPause = time.Minute
)

// reconcile makes the peers match the plan, and sends facts.
func (t *Tunnel) reconcile() {
	var (
		outbox    []policy.Fact // confirmations and failures; none may be lost
		failed    *failure      // the last in outbox; nil: it is over
		matched   *policy.Plan  // the peers match it
		pause     = soonest
		nextBeat  = t.boot()
		nextAsk   time.Duration
		refusedAt time.Duration
		mended    []string // of the interface, since it was last told
		driftAt   time.Duration
	)
	confirmed := func(facts []policy.Fact, err error) {
		if err != nil && !t.machine.Load().lost() {
			t.log.Error("the device's peers are not those of the plan", "err", err)
		}
		outbox = append(outbox, facts...)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-t.closing:
			return
		case <-timer.C:
		case <-t.wake:
			pause = soonest
		}
		now := t.now()
		t.table.follow(nil, now)
		beating := now.boot >= nextBeat
		if beating {
			nextBeat = now.boot + beat
			t.table.sweep(now.boot)
			mended = append(mended, t.examine()...)
			slices.Sort(mended)
			mended = slices.Compact(mended)
			nextAsk = min(nextAsk, now.boot)
		}
		if f := t.failure.Load(); f != failed {
			if failed = f; f != nil {
				t.log.Error("the tunnel failed", "err", f.err)
				outbox = append(outbox, policy.Fact{Kind: policy.Failure, At: now.wall, Err: f.err, Count: 1})
			}
		}

		if len(mended) > 0 && now.boot >= driftAt {
			driftAt = now.boot + driftPause
			err := fmt.Errorf("the tunnel interface %s was changed, and is as it was made again: %s", t.config.Interface, strings.Join(mended, "; "))
			t.log.Warn("another program changed the tunnel interface", "err", err)
			outbox = append(outbox, policy.Fact{Kind: policy.Drift, At: now.wall, Err: err, Count: len(mended)})
			mended = nil
		}

		if plan := t.table.current(); plan != matched || beating || len(t.table.staleKeys()) > 0 {
			confirmed(t.peers.match(now.wall))
			matched = plan
		}
		unconfirmed := t.table.unconfirmed()
		if now.boot >= nextAsk {
			before := t.boot()
			confirmed(t.peers.ask(now.wall))
			took := t.boot() - before
			unconfirmed = t.table.unconfirmed()
			nextAsk = now.boot + max(beat, 20*took)
			if unconfirmed {
				nextAsk = now.boot + max(pause, 20*took)
				pause = min(2*pause, beat)
			}
		} else if unconfirmed {
			nextAsk = min(nextAsk, now.boot+pause)
		}

		for len(outbox) > 0 && t.send(outbox[0]) {
			outbox = outbox[1:]
		}
		if now.boot >= refusedAt {
			refusedAt = now.boot + beat/10
			t.gate.refusals.Drain(t.send)
		}
		next := min(nextBeat, nextAsk)
		if t.gate.refusals.Waiting() {
			next = min(next, refusedAt)
		}
		if len(outbox) > 0 {
			next = min(next, now.boot+beat/10)
		}
		timer.Reset(max(next-t.boot(), 0))
	}
}

// examine checks and mends the machine, and ends its failure when it works again. It
// says what was mended.
func (t *Tunnel) examine() (mended []string) {
	m := t.machine.Load()
	if m.closed.Load() {
		return nil // being built anew, or closed
	}
	mended, err := m.check()
	if unread := t.gate.unread.Load(); err == nil && unread != nil {
		err = unread.err
	}
	if err != nil {
		t.fail(err)
	} else if t.failure.Load() != nil {
		t.failure.Store(nil)
		t.log.Info("the tunnel is as it was made again")
	}
	return mended
}
