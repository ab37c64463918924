package gateway

import (
	"net/netip"
	"slices"
	"sync"

	"kidoban/gateway/policy"
)

// applier sets the ruleset off the loop. Of several plans that wait only the
// newest is set: it is all that matters.
type applier struct {
	firewall Firewall
	mu       sync.Mutex
	next     *application
	check    bool
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
	number  uint64 // 0: only a check
	err     error
	checked bool
}

func newApplier(f Firewall) *applier {
	return &applier{firewall: f, wake: make(chan struct{}, 1), acks: make(chan applied), quit: make(chan struct{}), done: make(chan struct{})}
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
		a.next, a.check = nil, false
		a.mu.Unlock()
		var done applied
		switch {
		case next != nil:
			done = applied{number: next.number, err: a.firewall.Set(next.plan, next.live)}
			if check {
				a.verify()
			}
		case check:
			done = applied{checked: true, err: a.firewall.Check()}
		default:
			continue
		}
		select {
		case a.acks <- done:
		case <-a.quit:
			return
		}
	}
}
