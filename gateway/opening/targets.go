package opening

import (
	"net/netip"
	"slices"

	"kidoban/gateway/policy"
)

// places are targets by their addresses.
type places struct {
	targets map[netip.Prefix][]*policy.Target
	bits    []int // the lengths of their prefixes
}

func index(targets []*policy.Target) places {
	x := places{targets: map[netip.Prefix][]*policy.Target{}}
	for _, t := range targets {
		p := t.Prefix.Masked()
		x.targets[p] = append(x.targets[p], t)
		if !slices.Contains(x.bits, p.Bits()) {
			x.bits = append(x.bits, p.Bits())
		}
	}
	return x
}

// around returns the targets that have all of a prefix.
func (x places) around(p netip.Prefix) (found []*policy.Target) {
	for _, bits := range x.bits {
		if bits <= p.Bits() {
			found = append(found, x.targets[netip.PrefixFrom(p.Addr(), bits).Masked()]...)
		}
	}
	return found
}

// opens reports whether one of the targets opens all of another.
func (x places) opens(t *policy.Target) bool {
	return slices.ContainsFunc(x.around(t.Prefix), func(of *policy.Target) bool {
		return all(t.Services, func(s policy.Service) bool { return offers(s, of.Services...) })
	})
}

// common returns the elements of b that lie in a, and those of a that lie in b.
func common[T comparable](a, b []T, in func(T, ...T) bool) (list []T) {
	for _, x := range b {
		if in(x, a...) {
			list = append(list, x)
		}
	}
	for _, x := range a {
		if in(x, b...) && !slices.Contains(list, x) {
			list = append(list, x)
		}
	}
	return list
}

// containsSources reports whether a may come from everywhere from where b may, by the same interfaces.
func containsSources(a, b *policy.Engineer) bool {
	return (a.Line == nil || b.Line != nil && a.Line.Takes(b.Line.Interface)) && all(b.Sources, func(p netip.Prefix) bool { return inside(p, a.Sources...) })
}

func containsTargets(a, b *policy.Window) bool {
	known := byName(a)
	return all(b.Targets, func(t *policy.Target) bool {
		of := known[t.Name]
		return of == t || of != nil && inside(t.Prefix, of.Prefix) && all(t.Services, func(s policy.Service) bool { return offers(s, of.Services...) })
	})
}

func byName(w *policy.Window) map[string]*policy.Target {
	known := make(map[string]*policy.Target, len(w.Targets))
	for _, t := range w.Targets {
		known[t.Name] = t
	}
	return known
}

// offers reports whether one of several services has all ports of s.
func offers(s policy.Service, services ...policy.Service) bool {
	return slices.ContainsFunc(services, func(r policy.Service) bool {
		return r.Protocol == s.Protocol && r.First <= s.First && s.Last <= r.Last
	})
}

func inside(p netip.Prefix, prefixes ...netip.Prefix) bool {
	return slices.ContainsFunc(prefixes, func(q netip.Prefix) bool { return policy.Within(p, q) })
}

func all[T any](list []T, is func(T) bool) bool {
	return !slices.ContainsFunc(list, func(t T) bool { return !is(t) })
}
