package opening

import (
	"time"

	"kidoban/gateway/policy"
)

// The gate knows engineers and deadlines; only the kernel knows targets, and it
// may be busy for long with another program's transaction. So when a plan takes
// something away, the loop waits for the ruleset of that plan. If the kernel takes
// too long, the engineers concerned are cut at the gate.

// NarrowedWithin is how long the kernel may take for a ruleset that takes
// something away: closing closes within a second.
const NarrowedWithin = 500 * time.Millisecond

// Narrowing keeps the engineers' losses that the kernel has not taken away yet.
type Narrowing struct {
	losses map[policy.Key]*loss
	timed  uint64 // from this application on, the kernel's timers are right again
}

// loss is the loss of one engineer, by one change or several.
type loss struct {
	application uint64        // the ruleset of this application has no part of the loss
	due         time.Duration // boot time until which the loop waits for it
	out         bool          // the loop waited too long: the engineer has no grants until the kernel has the application
}

// Lost returns the engineers who lose access by the next plan, each with the
// first instant at which the lost part must not pass. A grant is kept if grants of the
// next plan open all of it, by whatever names. If the kernel's timers are right (timed),
// the end of a grant is no loss.
func Lost(before, next *policy.Plan, now time.Time, timed bool) map[policy.Key]time.Time {
	since := map[policy.Key]time.Time{}
	type pair struct{ next, before *policy.Window }
	known := map[pair]bool{} // engineers share windows
	contains := func(p pair) bool {
		answer, ok := known[p]
		if !ok {
			answer = p.next == p.before || containsTargets(p.next, p.before)
			known[p] = answer
		}
		return answer
	}
	for _, g := range before.Grants {
		if timed && !g.Until.After(now) {
			continue
		}
		from := later(g.From, now)
		var kept time.Time // until when
		for _, n := range next.GrantsOf(g.Engineer) {
			if !n.From.After(from) && n.Until.After(kept) && contains(pair{n.Window, g.Window}) {
				kept = n.Until
			}
		}
		if kept.Before(g.Until) { // perhaps several have it
			kept = later(kept, keptBySeveral(g, next.GrantsOf(g.Engineer), from))
		}
		if !kept.Before(g.Until) {
			continue
		}
		from = later(kept, from)
		if first, ok := since[g.Engineer.Key]; !ok || from.Before(first) {
			since[g.Engineer.Key] = from
		}
	}
	return since
}

// keptBySeveral returns the first end of a target of a grant in others that are open
// from an instant on; zero: they lack one.
func keptBySeveral(g *policy.Grant, others []*policy.Grant, from time.Time) (kept time.Time) {
	ends := map[*policy.Target]time.Time{}
	var open []*policy.Target
	for _, n := range others {
		if !n.From.After(from) {
			for _, t := range n.Window.Targets {
				ends[t] = later(n.Until, ends[t])
			}
			open = append(open, n.Window.Targets...)
		}
	}
	places := index(open)
	for i, t := range g.Window.Targets {
		var last time.Time
		for _, of := range places.around(t.Prefix) {
			if all(t.Services, func(s policy.Service) bool { return offers(s, of.Services...) }) {
				last = later(last, ends[of])
			}
		}
		if i == 0 || last.Before(kept) {
			kept = last
		}
	}
	return kept
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// take notes losses and the application that takes them away.
func (n *Narrowing) take(lost map[policy.Key]time.Time, application uint64, now time.Time, boot time.Duration) {
	for key, from := range lost {
		due := boot + max(from.Sub(now), NarrowedWithin)
		if x := n.losses[key]; x != nil {
			x.application, x.due = application, min(x.due, due)
		} else {
			n.losses[key] = &loss{application: application, due: due}
		}
	}
}

// Timed takes note that the clock was set forward: older timers of the kernel end
// too late. Those of this application and later ones are right.
func (n *Narrowing) Timed(application uint64) { n.timed = application }

// Next returns the time until the next loss is due, and at most the given time.
func (n *Narrowing) Next(most, boot time.Duration) time.Duration {
	for _, x := range n.losses {
		if !x.out {
			most = min(most, x.due-boot)
		}
	}
	return most
}

// Expire puts engineers out because the kernel took too long. It reports whether
// there were any.
func (n *Narrowing) Expire(boot time.Duration) (any bool) {
	for _, x := range n.losses {
		if !x.out && x.due <= boot {
			x.out, any = true, true
		}
	}
	return any
}

// Stands forgets the losses that an application took away. It reports whether
// they kept an engineer out.
func (n *Narrowing) Stands(application uint64) (any bool) {
	for key, x := range n.losses {
		if x.application <= application {
			any = any || x.out
			delete(n.losses, key)
		}
	}
	return any
}

func (n *Narrowing) keepsOut(key policy.Key) bool {
	x := n.losses[key]
	return x != nil && x.out
}

// Out counts the engineers that are kept out.
func (n *Narrowing) Out() (count int) {
	for _, x := range n.losses {
		if x.out {
			count++
		}
	}
	return count
}
