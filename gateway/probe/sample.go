package probe

import (
	"cmp"
	"crypto/rand"
	mathrand "math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// Most is how many vendors one probe tries. If there are more, each probe takes a new random choice.
const Most = 8

// hoursMost bounds the hours of the policy at which a probe tries: each open one takes some seconds.
const hoursMost = 3

// subject is an engineer or a host that the probe tries with.
type subject struct {
	*policy.Engineer               // of the derived policy
	private          lab.Key       // of WireGuard
	spans            []policy.Span // the times when a window is open for the engineer, or opens next
}

// derive returns the policy with throw-away keys, and the subjects. The public keys of other engineers are random: they have
// no known private key.
func derive(p *policy.Policy, now time.Time) (*policy.State, []*subject, error) {
	chosen := sample(p, now)
	private := map[string]lab.Key{}
	derived := p.Rekeyed(func(e *policy.Engineer) (public policy.Key, preshared [32]byte) {
		if e.PresharedKey != [32]byte{} {
			rand.Read(preshared[:])
		}
		if !slices.Contains(chosen, e.String()) {
			rand.Read(public[:])
			public[31] &= 0x7f // a number below 2^255 (RFC 7748)
			return public, preshared
		}
		key, open := lab.NewKey()
		private[e.String()] = key
		return open, preshared
	})
	state := policy.NewState()
	if err := state.Apply(now, "probe", policy.PolicyLoaded{Digest: p.Digest, Policy: derived}); err != nil {
		return nil, nil, err
	}
	spans := spansOf(state.Plan(now))
	var all []*subject
	for _, name := range chosen {
		e := derived.Engineer(name)
		all = append(all, &subject{Engineer: e, private: private[name], spans: spans[name]})
	}
	return state, all, nil
}

// sample names one engineer each of up to Most vendors. Vendors with a window that opens come first.
func sample(p *policy.Policy, now time.Time) (names []string) {
	state := policy.NewState()
	if state.Apply(now, "probe", policy.PolicyLoaded{Digest: p.Digest, Policy: p}) != nil {
		return nil
	}
	spans := spansOf(state.Plan(now))
	vendors := slices.DeleteFunc(slices.Clone(p.Vendors), func(v *policy.Vendor) bool { return len(v.Engineers) == 0 })
	mathrand.Shuffle(len(vendors), func(i, j int) { vendors[i], vendors[j] = vendors[j], vendors[i] })
	var some []*policy.Engineer
	for _, v := range vendors {
		first := mathrand.IntN(len(v.Engineers))
		e := v.Engineers[first]
		for i := range v.Engineers {
			if one := v.Engineers[(first+i)%len(v.Engineers)]; len(spans[one.String()]) > 0 {
				e = one
				break
			}
		}
		some = append(some, e)
	}
	opens := func(e *policy.Engineer) int { return min(len(spans[e.String()]), 1) }
	slices.SortStableFunc(some, func(a, b *policy.Engineer) int { return cmp.Compare(opens(b), opens(a)) })
	for _, e := range some[:min(len(some), Most)] {
		names = append(names, e.String())
	}
	return names
}

// spansOf lists for each engineer the times when windows of a plan are open, or open next.
func spansOf(plan *policy.Plan) map[string][]policy.Span {
	spans := map[string][]policy.Span{}
	for _, w := range plan.Windows {
		for _, s := range []policy.Span{w.Current, w.Next} {
			if s.IsZero() {
				continue
			}
			for _, e := range w.Window.Engineers {
				spans[e.String()] = append(spans[e.String()], s)
			}
		}
	}
	return spans
}

// hour is an instant, with its plan, at which the probe tries.
type hour struct {
	plan *policy.Plan // at its own time
	open []*subject   // those with an open window
	shut []*subject   // the others
}

// hours chooses instants, so that as many subjects as possible have an open window at one of them, and none at another.
func hours(state *policy.State, all []*subject, now time.Time) (chosen []hour) {
	var opening []time.Time
	closing := []time.Time{now}
	for _, s := range all {
		for _, o := range s.spans {
			opening = append(opening, o.From.Add(o.Until.Sub(o.From)/2))
			closing = append(closing, o.From.Add(-policy.Lead-time.Second), o.Until.Add(time.Second))
		}
	}
	tried := map[*subject]int{} // bit 1: open, bit 2: shut
	for _, wanted := range []struct {
		at   []time.Time
		bit  int
		most int
	}{{opening, 1, hoursMost}, {closing, 2, hoursMost + 1}} {
		for len(chosen) < wanted.most {
			best, gain := hour{}, 0
			for _, t := range wanted.at {
				h := at(state, t, all)
				n := 0
				for _, s := range map[int][]*subject{1: h.open, 2: h.shut}[wanted.bit] {
					if tried[s]&wanted.bit == 0 {
						n++
					}
				}
				if n > gain {
					best, gain = h, n
				}
			}
			if gain == 0 {
				break
			}
			chosen = append(chosen, best)
			for _, s := range best.open {
				tried[s] |= 1
			}
			for _, s := range best.shut {
				tried[s] |= 2
			}
		}
	}
	return chosen
}

func at(state *policy.State, t time.Time, all []*subject) hour {
	h := hour{plan: state.Plan(t)}
	for _, s := range all {
		if h.plan.Until(s.Engineer, t).IsZero() {
			h.shut = append(h.shut, s)
		} else {
			h.open = append(h.open, s)
		}
	}
	return h
}

// addresses gives out addresses, each one once.
type addresses struct {
	policy *policy.Policy
	taken  map[netip.Addr]bool
}

// spare are prefixes for documentation and benchmarks, and private ones (RFC 5737, 2544, 6598, 1918, 3849, 4193).
var spare = lab.Prefixes("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15", "100.64.0.0/10", "10.255.0.0/16", "172.31.0.0/16",
	"2001:db8:ffff::/48", "fd6b:6964:6f62::/48", "2001:db8::/32")

// free returns an address that the policy does not name in any place; six: of IPv6.
func (a *addresses) free(six bool) netip.Addr {
	for _, p := range spare {
		if p.Addr().Is6() != six {
			continue
		}
		x := p.Addr()
		for range 1 << 10 {
			if x = x.Next(); p.Contains(x) && !a.taken[x] && !a.listed(x) {
				a.taken[x] = true
				return x
			}
		}
	}
	return netip.Addr{}
}

// listed reports whether the policy names the address as a tunnel address, a target, a source or an engineer's.
func (a *addresses) listed(x netip.Addr) bool {
	in := func(p netip.Prefix) bool { return p.Contains(x) }
	return slices.ContainsFunc(a.policy.Tunnel.Addresses, in) ||
		slices.ContainsFunc(a.policy.Targets, func(t *policy.Target) bool { return in(t.Prefix) }) ||
		slices.ContainsFunc(a.policy.Vendors, func(v *policy.Vendor) bool {
			return slices.ContainsFunc(v.Sources, in) ||
				slices.ContainsFunc(v.Engineers, func(e *policy.Engineer) bool {
					return slices.Contains(e.Addresses, x) || slices.ContainsFunc(e.Sources, in)
				})
		})
}

// source returns an address of an engineer's sources that no other subject has; six: of IPv6. It is invalid if there is none.
func (a *addresses) source(e *policy.Engineer, six bool) netip.Addr {
	for _, p := range e.Sources {
		if p.Addr().Is6() != six {
			continue
		}
		x := p.Masked().Addr()
		if p.Addr().BitLen()-p.Bits() > 1 {
			x = x.Next() // the first one is the network's
		}
		for range Most {
			if p.Contains(x) && !a.taken[x] {
				a.taken[x] = true
				return x
			}
			x = x.Next()
		}
	}
	return netip.Addr{}
}
