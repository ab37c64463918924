package firewall

import (
	"sync"

	"kidoban/gateway/policy"
)

// factsWaiting is how many facts may wait to be read. Refusals take at most
// half of that, so that drift finds room while an engineer scans the site.
const factsWaiting = 256

// reports keeps what there is to tell until it finds room. Nothing waits for
// who reads.
type reports struct {
	facts chan policy.Fact

	mu       sync.Mutex
	drifts   []policy.Fact              // in order; as many as Check and Set found
	refusals map[refusalKey]policy.Fact // the newest of each key, which counts the older ones too
}

type refusalKey struct {
	engineer string // empty: nobody's address
	reason   policy.Reason
}

func newReports() *reports {
	return &reports{facts: make(chan policy.Fact, factsWaiting), refusals: map[refusalKey]policy.Fact{}}
}

// drift tells of a drift, at the latest when it is asked again.
func (r *reports) drift(f policy.Fact) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drifts = append(r.drifts, f)
	r.tell()
}

// refusal tells of a refusal, or counts it in the next of the same engineer
// for the same reason.
func (r *reports) refusal(f policy.Fact) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := refusalKey{reason: f.Decision.Reason}
	if f.Engineer != nil {
		key.engineer = f.Engineer.String()
	}
	f.Count += r.refusals[key].Count
	r.refusals[key] = f
	r.tell()
}

// again tells what found no room.
func (r *reports) again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tell()
}

func (r *reports) tell() {
	for len(r.drifts) > 0 && r.send(r.drifts[0]) {
		r.drifts = r.drifts[1:]
	}
	for key, f := range r.refusals {
		if len(r.facts) >= factsWaiting/2 || !r.send(f) {
			return
		}
		delete(r.refusals, key)
	}
}

func (r *reports) send(f policy.Fact) bool {
	select {
	case r.facts <- f:
		return true
	default:
		return false
	}
}
