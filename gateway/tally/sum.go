package tally

import (
	"net/netip"
	"sync"

	"kidoban/gateway/policy"
)

// How many sources a Sum tells apart: of strangers, and of each engineer.
const (
	strangerSources = 256
	engineerSources = 16
)

// Sum holds refusals that wait for a reader. Those of one reason, engineer and
// source are one fact: the newest, with the count of all, their greatest
// timestamp, and what the last of them claimed. A room that is full adds further sources up without an address.
type Sum struct {
	Wake func() // called when a first refusal begins to wait; may be nil

	mu      sync.Mutex
	facts   map[key]policy.Fact
	sources map[room]int
}

// Add counts a refusal.
func (s *Sum) Add(f policy.Fact) {
	k := keyOf(f)
	k.target = "" // the newest stands for all
	s.mu.Lock()
	first := len(s.facts) == 0
	if s.facts == nil {
		s.facts, s.sources = map[key]policy.Fact{}, map[room]int{}
	}
	have, ok := s.facts[k]
	if !ok && k.source.IsValid() {
		in, most := k.room(), engineerSources
		if in == strangers {
			most = strangerSources
		}
		if s.sources[in] < most {
			s.sources[in]++
		} else {
			k.source, f.Source = netip.Addr{}, netip.AddrPort{}
			have = s.facts[k]
		}
	}
	f.Count = max(f.Count, 1) + have.Count
	if string(have.Timestamp[:]) > string(f.Timestamp[:]) {
		f.Timestamp = have.Timestamp
	}
	if f.Claim.Key == (policy.Key{}) {
		f.Claim.Key = have.Claim.Key
	}
	f.Claim.Foreign = f.Claim.Foreign || have.Claim.Foreign
	s.facts[k] = f
	s.mu.Unlock()
	if first && s.Wake != nil {
		s.Wake()
	}
}

// Drain calls send for each fact, engineers' facts first, until send returns
// false. The facts that are left stay and grow.
func (s *Sum) Drain(send func(policy.Fact) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, named := range []bool{true, false} {
		for k, f := range s.facts {
			if (k.engineer != "") != named {
				continue
			}
			if !send(f) {
				return
			}
			delete(s.facts, k)
			if k.source.IsValid() {
				s.sources[k.room()]--
			}
		}
	}
}

// Waiting reports whether a refusal waits.
func (s *Sum) Waiting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.facts) > 0
}
