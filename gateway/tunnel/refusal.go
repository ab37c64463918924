package tunnel

import (
	"net/netip"
	"sync"

	"kidoban/gateway/policy"
)

// refusals sums refused packets up until the clerk reports them. It is
// bounded: what finds no room is summed by reason alone.
type refusals struct {
	wake func() // called when the first of a round comes in

	mu    sync.Mutex
	facts map[refusalKey]*policy.Fact
}

type refusalKey struct {
	reason   policy.Reason
	engineer *policy.Engineer
	source   netip.Addr
}

// maximumRefusals bounds the distinct refusals of one round.
const maximumRefusals = 256

func (r *refusals) add(f policy.Fact) {
	f.Kind = policy.Refusal
	f.Count = 1
	key := refusalKey{f.Decision.Reason, f.Engineer, f.Source.Addr()}
	r.mu.Lock()
	first := len(r.facts) == 0
	if r.facts[key] == nil && len(r.facts) >= maximumRefusals {
		key = refusalKey{reason: f.Decision.Reason}
		f.Source, f.Engineer, f.Decision.Engineer = netip.AddrPort{}, nil, nil
	}
	if have := r.facts[key]; have != nil {
		have.Count++
	} else {
		if r.facts == nil {
			r.facts = map[refusalKey]*policy.Fact{}
		}
		r.facts[key] = &f
	}
	r.mu.Unlock()
	if first {
		r.wake()
	}
}

// report gives every sum to send until it has no room; those stay and grow.
func (r *refusals) report(send func(policy.Fact) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, f := range r.facts {
		if !send(*f) {
			return
		}
		delete(r.facts, key)
	}
}

// waiting reports whether there is anything to report.
func (r *refusals) waiting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.facts) > 0
}
