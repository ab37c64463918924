package gateway

import (
	"time"

	"kidoban/gateway/policy"
)

// The gate knows engineers and deadlines. Which targets an engineer reaches is
// known to the kernel alone, and it may be busy for long, with another
// program's transaction, say. So from the moment a plan takes something away,
// its ruleset is waited for; whoever has lost something is out at the gate from
// then on until that ruleset stands.

// narrowedWithin is how long the kernel may take for it: closing closes within
// a second.
const narrowedWithin = 500 * time.Millisecond

// narrowing is from whom something was taken that the kernel may still let pass.
type narrowing struct {
	losses map[policy.Key]*loss
	timed  uint64 // the first application whose timers in the kernel know the clock as it is set now
}

// loss is what one engineer has lost in one change or several.
type loss struct {
	number uint64        // of the application that takes all of it away
	due    time.Duration // until when that is waited for, by the boot clock
	out    bool          // that was too long: nothing is open for the engineer
}

// lost gives, for each engineer from whom a plan takes something that the one
// before it opened, from when on that must not pass any more. What reaches its
// end is not taken, as long as ends are timed: then the kernel ends it by
// itself. Something counts as kept if one grant opens it, by the same name of
// the target.
func lost(before, next *policy.Plan, now time.Time, timed bool) map[policy.Key]time.Time {
	all := map[policy.Key]time.Time{}
	type change struct{ next, before *policy.Window }
	known := map[change]bool{} // engineers share windows
	opens := func(c change) bool {
		whole, ok := known[c]
		if !ok {
			whole = coveredWindow(c.next, c.before) == c.before
			known[c] = whole
		}
		return whole
	}
	for _, g := range before.Grants {
		if timed && !g.Until.After(now) {
			continue
		}
		from := now
		if g.From.After(now) {
			from = g.From
		}
		var kept time.Time // until when
		for _, n := range next.GrantsOf(g.Engineer) {
			if !n.From.After(from) && n.Until.After(kept) && opens(change{n.Window, g.Window}) {
				kept = n.Until
			}
		}
		if !kept.Before(g.Until) {
			continue
		}
		if kept.After(from) {
			from = kept
		}
		if first, ok := all[g.Engineer.Key]; !ok || from.Before(first) {
			all[g.Engineer.Key] = from
		}
	}
	return all
}

// take notes what was lost, which an application takes away.
func (n *narrowing) take(lost map[policy.Key]time.Time, application uint64, now time.Time, boot time.Duration) {
	for key, from := range lost {
		due := boot + max(from.Sub(now), narrowedWithin)
		if x := n.losses[key]; x != nil {
			x.number, x.due = application, min(x.due, due)
		} else {
			n.losses[key] = &loss{number: application, due: due}
		}
	}
}

// next is how long nothing is due, at most as long as given.
func (n *narrowing) next(most, boot time.Duration) time.Duration {
	for _, x := range n.losses {
		if !x.out {
			most = min(most, x.due-boot)
		}
	}
	return most
}

// expire puts those out for whom the kernel has taken too long, and tells
// whether there are any.
func (n *narrowing) expire(boot time.Duration) bool {
	any := false
	for _, x := range n.losses {
		if !x.out && x.due <= boot {
			x.out, any = true, true
		}
	}
	return any
}

// stands forgets what an application that stands has taken away, and tells
// whether somebody was out for it.
func (n *narrowing) stands(application uint64) bool {
	any := false
	for key, x := range n.losses {
		if x.number <= application {
			any = any || x.out
			delete(n.losses, key)
		}
	}
	return any
}

// keepsOut reports whether nothing may be open for an engineer.
func (n *narrowing) keepsOut(key policy.Key) bool {
	x := n.losses[key]
	return x != nil && x.out
}

// out counts who is.
func (n *narrowing) out() int {
	count := 0
	for _, x := range n.losses {
		if x.out {
			count++
		}
	}
	return count
}

// narrowed cuts those from whom something was taken that the kernel has not
// taken in time.
func (l *loop) narrowed() {
	if !l.narrowing.expire(l.boot) {
		return
	}
	l.replan = true
	if l.plan.Doubt == "" { // in doubt everybody is out, and the log has the doubt
		l.cfg.Logger.Warn("the kernel does not take a ruleset that takes something away: whom it concerns is out until it does", "engineers", l.narrowing.out(), "waited", narrowedWithin)
	}
}
