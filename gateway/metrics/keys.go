package metrics

import (
	"maps"
	"sync"
	"time"

	"kidoban/gateway/policy"
)

// keyTimes keeps instants of engineers' keys.
type keyTimes struct {
	mu      sync.Mutex
	seen    map[policy.Key]time.Time // admitted or heard last
	listed  map[policy.Key]time.Time // since when policies have listed the key
	refused map[refusal]time.Time    // refused last, in this process
}

// refusal is a reason for which a proven key was refused.
type refusal struct {
	key    policy.Key
	reason policy.Reason
}

// Remember adds instants that the journal has.
func (k *keyTimes) Remember(listed, seen map[policy.Key]time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, at := range listed {
		if have, ok := k.listed[key]; !ok || at.Before(have) {
			k.listed[key] = at
		}
	}
	for key, at := range seen {
		if at.After(k.seen[key]) {
			k.seen[key] = at
		}
	}
}

// set sets an instant in seen or refused.
func set[K comparable](mu *sync.Mutex, times map[K]time.Time, key K, at time.Time) {
	mu.Lock()
	defer mu.Unlock()
	times[key] = at
}

func (k *keyTimes) copy() (listed, seen map[policy.Key]time.Time, refused map[refusal]time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.listed), maps.Clone(k.seen), maps.Clone(k.refused)
}
