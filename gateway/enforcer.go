package gateway

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"kidoban/gateway/opening"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

const (
	// A tunnel or a ruleset that could not be set is set again every setAgain. After a failed
	// opening nothing opens for setAgain. This pause doubles with each failure, up
	// to openRarely.
	setAgain   = 3 * time.Second
	openRarely = 5 * time.Minute
	// rulesetWait is how long the kernel may take to set a ruleset, or to read
	// it back, before the gateway is in doubt.
	rulesetWait = 30 * time.Second
	// renewAfter is how often the elements of the ruleset are renewed: they last a
	// day at most.
	renewAfter = time.Hour
)

// enforcer follows how far tunnel and kernel have the plan in force. Times are
// those of the boot clock.
type enforcer struct {
	public      policy.Key // the gateway's, in use; zero: none
	applier     *applier
	plan        *policy.Plan // the newest one for the kernel; nil: none yet
	asked       uint64       // the number of the newest plan given to the applier
	stands      uint64       // the number of the newest plan that the kernel has
	checkFailed bool         // the ruleset did not read back as set
	hangs       bool         // the kernel has not answered for rulesetWait
	setAgainAt  time.Duration
	tunnelAt    time.Duration // when a tunnel in doubt is tried again
	openAt      time.Duration // nothing opens before, because an opening failed
	openAfter   time.Duration // the newest pause; 0: an opening has been read back since
	renewAt     time.Duration
	closings    []time.Time // ends of grants that the kernel may still have open
	waiting     []waiter
}

// waiter is called when the kernel has a plan.
type waiter struct {
	number uint64
	done   func(error)
}

// unanswered tells the waiters that the gateway stops.
func (e *enforcer) unanswered() {
	for _, w := range e.waiting {
		w.done(errStopped)
	}
	e.waiting = nil
}

// setTunnel gives the plan in force to the gate, and reports whether the tunnel can
// hold it.
func (l *loop) setTunnel() bool {
	if l.plans.inForce.Doubt != "" {
		l.sessions.ForgetOverdue() // so does the gate
	}
	err := l.cfg.Tunnel.Set(l.plans.inForce)
	if err != nil {
		l.kernel.tunnelAt = l.clock.Boot + setAgain
		if l.doubts[doubtTunnel].Code != "tunnel_failed" { // which says more
			l.doubt(doubtTunnel, view.Say("tunnel_refused", view.Args{"cause": err, "every": setAgain}))
		}
	}
	return err == nil
}

// apply gives the plan in force to the firewall, as far as it is for sessions where they are.
func (l *loop) apply() {
	before := cmp.Or(l.kernel.plan, l.plans.inForce)
	l.kernel.plan = l.plans.inForce.Within(func(e *policy.Engineer) netip.Addr { return l.sessions.Source(e).Addr() })
	l.kernel.asked++
	l.kernel.renewAt = l.clock.Boot + renewAfter
	l.kernel.applier.set(application{l.kernel.asked, l.kernel.plan, l.sessions.Live()})
	l.openings.InForce(before, l.kernel.plan, l.kernel.asked, l.kernel.stands)
}

// applied takes the applier's answer.
func (l *loop) applied(a applied) {
	k := &l.kernel
	l.cfg.Metrics.Dropped(a.dropped)
	k.hangs = false
	if a.checked {
		l.read(a.err)
		return
	}
	if a.err != nil {
		l.rulesetDoubt(a.err, len(a.plan.Grants) > 0)
	} else {
		l.cfg.Metrics.Reconciled(a.took)
		k.stands = a.number
		l.plans.stale = l.openings.Stands(a.number, a.plan.Policy) || l.plans.stale
		if a.number == k.asked {
			if !k.checkFailed { // else only a reading that finds it right ends the doubt
				l.rulesetTrust()
			}
			for _, end := range k.closings {
				l.cfg.Metrics.Closed(max(l.clock.Now.Sub(end), 0))
			}
			k.closings = nil
		}
	}
	k.waiting = slices.DeleteFunc(k.waiting, func(w waiter) bool {
		if w.number > a.number {
			return false
		}
		w.done(a.err)
		return true
	})
}

// read takes the result of a reading of the ruleset.
func (l *loop) read(err error) {
	k := &l.kernel
	open := len(l.plans.inForce.Grants) > 0
	if k.checkFailed = err != nil; k.checkFailed {
		l.rulesetDoubt(err, open)
	} else if k.stands == k.asked {
		if open {
			k.openAfter = 0
		}
		l.rulesetTrust()
	}
}

// rulesetDoubt shuts the gateway because of a ruleset; open: the ruleset has
// grants.
func (l *loop) rulesetDoubt(err error, open bool) {
	k := &l.kernel
	l.cfg.Metrics.ReconcileFailed()
	k.setAgainAt = l.clock.Boot + setAgain
	if open {
		k.openAfter = min(max(2*k.openAfter, setAgain), openRarely)
		k.openAt = l.clock.Boot + k.openAfter
	}
	why := view.Say("ruleset_wrong", view.Args{"cause": err, "every": setAgain})
	if left := k.openAt - l.clock.Boot; left > 0 {
		why = view.Say("ruleset_unopened", view.Args{"cause": err, "at": l.local(l.clock.Now.Add(left))})
	}
	l.doubt(doubtRuleset, why)
}

// rulesetTrust ends the doubt about a ruleset that is right, but not in the pause
// after a failed opening: in doubt the ruleset has no grants, so it does not show
// that the kernel takes them.
func (l *loop) rulesetTrust() {
	if l.clock.Boot >= l.kernel.openAt {
		l.trust(doubtRuleset)
	}
}

// beatKernel looks after tunnel and ruleset, once a heartbeat.
func (l *loop) beatKernel() {
	k := &l.kernel
	if k.applier.busy() >= rulesetWait {
		// A plan that waits is set when the kernel answers, and ends the doubt.
		if !k.hangs {
			k.hangs = true
			l.cfg.Metrics.ReconcileFailed()
		}
		l.doubt(doubtRuleset, view.Say("ruleset_unknown", view.Args{"wait": rulesetWait}))
	}
	if l.doubted(doubtTunnel) && l.clock.Boot >= k.tunnelAt && l.setTunnel() {
		l.trust(doubtTunnel)
	}
	switch {
	case l.doubted(doubtRuleset) && l.clock.Boot >= k.setAgainAt:
		k.setAgainAt = l.clock.Boot + setAgain
		l.plans.stale = true
	case l.clock.Boot >= k.renewAt:
		l.apply()
	}
	k.applier.verify()
}

// cutNarrowed cuts engineers at the gate, because the kernel has not taken away
// their losses in time.
func (l *loop) cutNarrowed() {
	if !l.openings.Narrowing.Expire(l.clock.Boot) {
		return
	}
	l.plans.stale = true
	if l.plans.inForce.Doubt == "" { // in doubt all are out, and the log has the doubt
		l.cfg.Logger.Warn("the kernel does not take a ruleset that takes something away: the engineers it concerns are out until it does",
			"engineers", l.openings.Narrowing.Out(), "waited", opening.NarrowedWithin)
	}
}
