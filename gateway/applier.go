package gateway

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// applier sets the ruleset off the loop. Of several plans that wait only the
// newest is set: it is all that matters.
type applier struct {
	firewall Firewall
	dropped  func() (map[string]uint64, error)
	mu       sync.Mutex
	next     *application
	check    bool
	began    time.Time // of the call to the firewall under way; zero: none is
	wake     chan struct{}
	acks     chan applied
	quit     chan struct{}
	done     chan struct{} // closed when run has returned
}

// application is a plan to set. Numbers only grow.
type application struct {
	number uint64
	plan   *policy.Plan
	live   []netip.AddrPort
}

// applied says up to which application the ruleset now stands.
type applied struct {
	number  uint64       // 0: only a check
	plan    *policy.Plan // of a number
	err     error
	checked bool
	took    time.Duration     // of a number
	dropped map[string]uint64 // of a check: Config.Dropped
}

func newApplier(f Firewall, dropped func() (map[string]uint64, error)) *applier {
	return &applier{firewall: f, dropped: dropped, wake: make(chan struct{}, 1), acks: make(chan applied), quit: make(chan struct{}), done: make(chan struct{})}
}

func (a *applier) kick() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// set never blocks.
func (a *applier) set(n application) {
	n.live = slices.Clone(n.live)
	a.mu.Lock()
	a.next = &n
	a.mu.Unlock()
	a.kick()
}

// verify asks for a read-back when nothing more urgent waits.
func (a *applier) verify() {
	a.mu.Lock()
	a.check = true
	a.mu.Unlock()
	a.kick()
}

// busy is how long the call to the firewall under way has taken so far.
func (a *applier) busy() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.began.IsZero() {
		return 0
	}
	return time.Since(a.began)
}

// run sets plans until quit is closed. It does not set what then waits: the
// firewall's Close denies everything.
func (a *applier) run() {
	defer close(a.done)
	for {
		select {
		case <-a.wake:
		case <-a.quit:
			return
		}
		a.mu.Lock()
		next, check := a.next, a.check
		began := time.Now()
		a.next, a.check, a.began = nil, false, began
		a.mu.Unlock()
		var done applied
		switch {
		case next != nil:
			err := a.firewall.Set(next.plan, next.live)
			done = applied{number: next.number, plan: next.plan, err: err, took: time.Since(began)}
			if check {
				a.verify()
			}
		case check:
			done = applied{checked: true, err: a.firewall.Check()}
			if a.dropped != nil {
				// Without an answer the counters stay where they were; that the
				// kernel does not answer is what Check finds.
				done.dropped, _ = a.dropped()
			}
		}
		a.mu.Lock()
		a.began = time.Time{}
		a.mu.Unlock()
		if next == nil && !check {
			continue
		}
		select {
		case a.acks <- done:
		case <-a.quit:
			return
		}
	}
}

const (
	// setAgain is how often a ruleset that could not be set is set again, and
	// for how long nothing opens after an opening that failed. That doubles up
	// to openRarely as long as openings fail: closing may work all the while,
	// and must not be taken for the end of it.
	setAgain   = 3 * time.Second
	openRarely = 5 * time.Minute
	// rulesetWait is how long the kernel may take to be given a ruleset, or to
	// give it back, before nothing more is expected of it.
	rulesetWait = 30 * time.Second
	// renewAfter is how often elements whose end lies further ahead than the
	// kernel is told are renewed.
	renewAfter = time.Hour
)

// ruleset is what the loop knows of the kernel's, and when it acts on it, by
// the boot clock.
type ruleset struct {
	applications uint64 // the number of the newest plan given to the applier
	applied      uint64 // the number of the newest that stands
	checkFailed  bool   // it did not read back as set
	hangs        bool   // the firewall has been waited for too long, and still is
	setAgainAt   time.Duration
	openAt       time.Duration // nothing opens before, because opening failed
	openAfter    time.Duration // how long that was from the last failure; 0: what was opened since has been read back
	renewAt      time.Duration
	closings     []time.Time // ends that gate and kernel have yet to be shown to keep
	waiting      []waiter
}

// waiter is told when the ruleset has reached an application.
type waiter struct {
	number uint64
	done   func(error)
}

// apply gives the plan in force to the firewall.
func (l *loop) apply() {
	l.applications++
	l.renewAt = l.boot + renewAfter
	l.applier.set(application{l.applications, l.plan, l.live()})
}

// live lists the outer addresses of open sessions.
func (l *loop) live() []netip.AddrPort {
	var all []netip.AddrPort
	for _, s := range l.sessions {
		all = append(all, s.source)
	}
	return all
}

// stands hears from the applier.
func (l *loop) stands(a applied) {
	l.cfg.Metrics.dropped(a.dropped)
	l.hangs = false
	if a.checked {
		l.checkFailed = a.err != nil
		if a.err != nil {
			l.rulesetDoubt(a.err, len(l.plan.Grants) > 0)
		} else if l.applied == l.applications {
			if len(l.plan.Grants) > 0 {
				l.openAfter = 0
			}
			l.rulesetTrust()
		}
		return
	}
	if a.err != nil {
		l.rulesetDoubt(a.err, len(a.plan.Grants) > 0)
	} else {
		l.cfg.Metrics.reconciled(a.took)
		l.applied = a.number
		l.settled(a.plan.Policy)
		l.replan = l.narrowing.stands(a.number) || l.replan
		if a.number == l.applications {
			if !l.checkFailed { // else only a reading that finds it right is trusted
				l.rulesetTrust()
			}
			for _, end := range l.closings {
				l.cfg.Metrics.closed(max(l.now.Sub(end), 0))
			}
			l.closings = nil
		}
	}
	l.waiting = slices.DeleteFunc(l.waiting, func(w waiter) bool {
		if w.number > a.number {
			return false
		}
		w.done(a.err)
		return true
	})
}

// rulesetDoubt shuts the gateway because of a ruleset, which was to have
// something open or not.
func (l *loop) rulesetDoubt(err error, open bool) {
	l.cfg.Metrics.reconcileFailed()
	l.setAgainAt = l.boot + setAgain
	if open {
		l.openAfter = min(max(2*l.openAfter, setAgain), openRarely)
		l.openAt = l.boot + l.openAfter
	}
	if left := l.openAt - l.boot; left > 0 {
		l.doubt(doubtRuleset, view.Say(view.RulesetUnopened, view.Args{"cause": err, "at": l.local(l.now.Add(left))}))
		return
	}
	l.doubt(doubtRuleset, view.Say(view.RulesetWrong, view.Args{"cause": err, "every": setAgain}))
}

// rulesetHangs shuts the gateway because the kernel does not answer. What then
// waits is set when it does, and ends the doubt.
func (l *loop) rulesetHangs() {
	if !l.hangs {
		l.hangs = true
		l.cfg.Metrics.reconcileFailed()
	}
	l.doubt(doubtRuleset, view.Say(view.RulesetUnknown, view.Args{"wait": rulesetWait}))
}

// rulesetTrust takes the doubt back once the ruleset is right, which it is
// without anything open too: after an opening that failed it waits.
func (l *loop) rulesetTrust() {
	if l.boot >= l.openAt {
		l.trust(doubtRuleset)
	}
}
