package firewall

import (
	"sync"

	"kidoban/gateway/policy"
	"kidoban/gateway/tally"
)

// factsWaiting is the number of facts that may wait for the loop. Refusals take
// at most half of the places, so that a scan does not keep drift from the loop.
const factsWaiting = 256

// facts keeps facts until the channel has a place. No caller waits.
type facts struct {
	facts chan policy.Fact

	mu       sync.Mutex
	drifts   []policy.Fact // in order
	refusals tally.Sum
}

func newFacts() *facts { return &facts{facts: make(chan policy.Fact, factsWaiting)} }

func (r *facts) drift(f policy.Fact) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drifts = append(r.drifts, f)
	r.tell()
}

func (r *facts) refusal(f policy.Fact) {
	r.refusals.Add(f)
	r.again()
}

// again sends the facts that found no place so far.
func (r *facts) again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tell()
}

func (r *facts) tell() {
	for len(r.drifts) > 0 && r.send(r.drifts[0]) {
		r.drifts = r.drifts[1:]
	}
	r.refusals.Drain(func(f policy.Fact) bool { return len(r.facts) < factsWaiting/2 && r.send(f) })
}

func (r *facts) send(f policy.Fact) bool {
	select {
	case r.facts <- f:
		return true
	default:
		return false
	}
}
