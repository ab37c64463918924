package gateway

import (
	"net/netip"
	"sync"
	"time"

	"kidoban/gateway/policy"
)

// applier sets the ruleset off the loop. Of several plans that wait it sets only
// the newest.
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

// applied is the applier's answer: to a check, or to an application.
type applied struct {
	number  uint64       // of the application, which stands for older ones too; 0: a check
	plan    *policy.Plan // of the application
	err     error
	checked bool
	took    time.Duration     // by the application
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
	a.mu.Lock()
	a.next = &n
	a.mu.Unlock()
	a.kick()
}

// verify asks for a read-back. A plan that waits goes first.
func (a *applier) verify() {
	a.mu.Lock()
	a.check = true
	a.mu.Unlock()
	a.kick()
}

// busy returns how long the firewall's current call has taken so far; 0: there is none.
func (a *applier) busy() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.began.IsZero() {
		return 0
	}
	return time.Since(a.began)
}

// run sets plans until quit is closed. It leaves a waiting plan then: the
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
				// Without an answer the counters stay where they were; Check finds
				// that the kernel does not answer.
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
