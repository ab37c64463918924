package gateway

import (
	"net/netip"
	"slices"

	"kidoban/gateway/policy"
)

// An entry of the journal lets open what it names: for an engineer, from
// sources, to targets, until an end. A later policy may mean more or less by
// the same grant. What follows gives what both say, so that what is open
// already stays open while the entry of the rest is on its way to the disk.

// covered gives as much of a grant as the entry of a recorded one covers: the
// grant itself if that is all of it; nil if it is nothing, or for somebody
// else. What is less keeps the name and the beginning of the recorded one.
func covered(recorded, g *policy.Grant) *policy.Grant {
	if recorded == g {
		return g
	}
	engineer := coveredEngineer(recorded.Engineer, g.Engineer)
	if engineer == nil {
		return nil
	}
	window := coveredWindow(recorded.Window, g.Window)
	if recorded.ID == g.ID && engineer == g.Engineer && window == g.Window && !recorded.Until.Before(g.Until) {
		return g
	}
	c := *recorded
	c.Engineer, c.Window = engineer, window
	if g.Until.Before(c.Until) {
		c.Until = g.Until
	}
	return &c
}

func coveredEngineer(recorded, e *policy.Engineer) *policy.Engineer {
	if !policy.SamePeer(recorded, e) {
		return nil
	}
	sources, all := coveredList(recorded.Sources, e.Sources, coveredPrefix)
	switch {
	case all:
		return e
	case len(sources) == 0:
		return nil
	}
	narrower := *e
	narrower.Sources = sources
	return &narrower
}

// coveredWindow gives the window with the targets that are covered, if any.
func coveredWindow(recorded, w *policy.Window) *policy.Window {
	if recorded == w {
		return w
	}
	known := make(map[string]*policy.Target, len(recorded.Targets))
	for _, t := range recorded.Targets {
		known[t.Name] = t
	}
	var targets []*policy.Target
	all := true
	for _, t := range w.Targets {
		c := coveredTarget(known[t.Name], t)
		if c != nil {
			targets = append(targets, c)
		}
		all = all && c == t
	}
	if all {
		return w
	}
	narrower := *w
	narrower.Targets = targets
	return &narrower
}

// coveredTarget gives as much of a target as the recorded one of the same name
// reached; nil: nothing. Whether its flows are masqueraded opens nothing, so
// that it is as the policy says.
func coveredTarget(recorded, t *policy.Target) *policy.Target {
	if recorded == nil || recorded == t {
		return recorded
	}
	prefix, ok := coveredPrefix(recorded.Prefix, t.Prefix)
	services, all := coveredList(recorded.Services, t.Services, coveredService)
	switch {
	case !ok || len(services) == 0:
		return nil
	case all && prefix == t.Prefix:
		return t
	}
	return &policy.Target{Name: t.Name, Prefix: prefix, Services: services, Masquerade: t.Masquerade}
}

// coveredList gives what recorded things cover of others, and whether that is
// all: each of the others wholly by one of the recorded.
func coveredList[T comparable](recorded, others []T, common func(recorded, other T) (T, bool)) (list []T, all bool) {
	all = true
	for _, other := range others {
		whole := false
		for _, r := range recorded {
			c, ok := common(r, other)
			if ok && !slices.Contains(list, c) {
				list = append(list, c)
			}
			whole = whole || ok && c == other
		}
		all = all && whole
	}
	return list, all
}

// coveredPrefix gives the addresses that are in both: prefixes either lie in
// one another or have nothing in common.
func coveredPrefix(recorded, p netip.Prefix) (netip.Prefix, bool) {
	if recorded.Bits() > p.Bits() {
		return recorded, p.Overlaps(recorded)
	}
	return p, p.Overlaps(recorded)
}

func coveredService(recorded, s policy.Service) (policy.Service, bool) {
	c := policy.Service{Protocol: s.Protocol, First: max(recorded.First, s.First), Last: min(recorded.Last, s.Last)}
	return c, recorded.Protocol == s.Protocol && c.First <= c.Last
}
