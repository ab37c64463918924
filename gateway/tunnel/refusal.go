package tunnel

import (
	"net/netip"
	"sync"

	"kidoban/gateway/policy"
)

// refusals sums refused packets up until the clerk reports them. It is
// bounded: what finds no room is summed without its source. What a stranger
// sends in many names takes no room from an engineer's key, nor one key from
// another.
type refusals struct {
	wake func() // called when the first of a round comes in

	mu    sync.Mutex
	facts map[refusalKey]*policy.Fact
	rooms map[*policy.Engineer]int // how many sources there are, of each engineer and, at nil, of strangers
}

type refusalKey struct {
	reason   policy.Reason
	engineer *policy.Engineer // nil: a stranger's
	source   netip.Addr
}

// How many refusals with their source one round has room for: of strangers,
// and of each engineer, of whom the policy bounds the number.
const (
	maximumStrangers = 256
	maximumEngineers = 16
)

func (r *refusals) add(f policy.Fact) {
	f.Kind = policy.Refusal
	f.Count = 1
	key := refusalKey{f.Decision.Reason, f.Engineer, f.Source.Addr()}
	r.mu.Lock()
	first := len(r.facts) == 0
	if first {
		r.facts, r.rooms = map[refusalKey]*policy.Fact{}, map[*policy.Engineer]int{}
	}
	if r.facts[key] == nil && key.source.IsValid() {
		room := maximumStrangers
		if f.Engineer != nil {
			room = maximumEngineers
		}
		if r.rooms[f.Engineer] >= room {
			key.source, f.Source = netip.Addr{}, netip.AddrPort{}
		} else {
			r.rooms[f.Engineer]++
		}
	}
	if have := r.facts[key]; have != nil {
		have.Count++
		if string(f.Timestamp[:]) > string(have.Timestamp[:]) {
			have.Timestamp = f.Timestamp
		}
	} else {
		r.facts[key] = &f
	}
	r.mu.Unlock()
	if first {
		r.wake()
	}
}

// report gives every sum to send, engineers' first, until it has no room;
// those stay and grow.
func (r *refusals) report(send func(policy.Fact) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, strangers := range []bool{false, true} {
		for key, f := range r.facts {
			if (key.engineer == nil) != strangers {
				continue
			}
			if !send(*f) {
				return
			}
			delete(r.facts, key)
			if key.source.IsValid() {
				r.rooms[key.engineer]--
			}
		}
	}
}

// waiting reports whether there is anything to report.
func (r *refusals) waiting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.facts) > 0
}
