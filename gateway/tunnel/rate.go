package tunnel

import (
	"net/netip"
	"sync"
	"time"
)

// limiter is a bounded set of token buckets. When it is full of buckets that
// are in use, an unknown key is treated as one that has used its rate up: a
// full limiter must never be an open one.
type limiter[K comparable] struct {
	burst   float64 // tokens
	rate    float64 // tokens per second
	maximum int     // buckets

	mu      sync.Mutex
	buckets map[K]bucket
	swept   time.Duration
}

type bucket struct {
	tokens float64
	at     time.Duration // since boot
}

func newLimiter[K comparable](burst, rate float64, maximum int) *limiter[K] {
	return &limiter[K]{burst: burst, rate: rate, maximum: maximum, buckets: map[K]bucket{}}
}

// allow takes one token of the key's bucket, and reports whether there was one.
func (l *limiter[K]) allow(key K, now time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.buckets[key]
	if !ok {
		if len(l.buckets) >= l.maximum && !l.sweep(now) {
			return false
		}
		b = bucket{l.burst, now}
	}
	b = l.refill(b, now)
	allowed := b.tokens >= 1
	if allowed {
		b.tokens--
	}
	l.buckets[key] = b
	return allowed
}

func (l *limiter[K]) refill(b bucket, now time.Duration) bucket {
	return bucket{min(l.burst, b.tokens+(now-b.at).Seconds()*l.rate), now}
}

// sweep forgets full buckets, at most once a second, and reports whether
// there is room.
func (l *limiter[K]) sweep(now time.Duration) bool {
	if now-l.swept >= time.Second {
		l.swept = now
		for key, b := range l.buckets {
			if l.refill(b, now).tokens >= l.burst {
				delete(l.buckets, key)
			}
		}
	}
	return len(l.buckets) < l.maximum
}

// rateKey is the key of a source's rate: an IPv4 address, or the /64 of an IPv6
// address, since the owner of one address in it has all.
func rateKey(source netip.Addr) netip.Addr {
	if source.Is4() {
		return source
	}
	p, err := source.WithZone("").Prefix(64)
	if err != nil {
		return source
	}
	return p.Addr()
}
