package policy

import (
	"net/netip"
	"slices"
	"time"
)

// Zone is a part of the site's network. While an engineer reaches a target of one zone, the engineer's
// machine must not reach another zone: it would join them.
type Zone struct {
	Name     string
	Prefixes []netip.Prefix
}

// Bridge is an instant from which on an engineer would reach two zones.
type Bridge struct {
	At    time.Time
	First *Window // the one that is open already, or opens then too
	Then  *Window // in another zone; the same window: it has targets of two zones
}

// Zones lists the zones of both windows, sorted.
func (b *Bridge) Zones() []string {
	all := append(b.First.Zones(), b.Then.Zones()...)
	slices.Sort(all)
	return slices.Compact(all)
}

// Zones lists the zones of the window's targets, sorted. It is empty if the policy has no zones.
func (w *Window) Zones() (names []string) {
	for _, t := range w.Targets {
		if t.Zone != "" && !slices.Contains(names, t.Zone) {
			names = append(names, t.Zone)
		}
	}
	slices.Sort(names)
	return names
}

// apart reports whether two lists have different zones.
func apart(a, b []string) bool {
	return slices.ContainsFunc(a, func(zone string) bool {
		return slices.ContainsFunc(b, func(other string) bool { return other != zone })
	})
}

// Bridges lists where windows would let an engineer reach two zones within the Horizon, each pair of
// windows once, by the first instant not before from. It does not look at windows that have two zones
// themselves.
func (p *Policy) Bridges(from time.Time) (all []Bridge) {
	if len(p.Zones) < 2 {
		return nil
	}
	for _, v := range p.Vendors {
		all = append(all, v.bridges(p, from)...)
	}
	return all
}

// held is the window of a zone that is open to an engineer for longest.
type held struct {
	window *Window
	until  time.Time
}

func (v *Vendor) bridges(p *Policy, from time.Time) (all []Bridge) {
	zoned := map[*Window]string{}
	reach := map[*Engineer]map[string]held{}
	for _, w := range v.Windows {
		zones := w.Zones()
		if len(zones) != 1 {
			continue
		}
		zoned[w] = zones[0]
		for _, e := range w.Engineers {
			if reach[e] == nil {
				reach[e] = map[string]held{}
			}
			reach[e][zones[0]] = held{}
		}
	}
	crossing := func(e *Engineer) bool { return len(reach[e]) > 1 }
	windows := slices.DeleteFunc(slices.Clone(v.Windows), func(w *Window) bool {
		return zoned[w] == "" || !slices.ContainsFunc(w.Engineers, crossing)
	})
	told := map[[2]*Window]bool{}
	for _, o := range p.openings(windows, from, from.Add(Horizon)) {
		for _, e := range o.Engineers {
			if !crossing(e) {
				continue
			}
			for zone, other := range reach[e] {
				pair := [2]*Window{other.window, o.Window}
				if zone == zoned[o.Window] || !other.until.After(o.From) || told[pair] {
					continue
				}
				told[pair], told[[2]*Window{pair[1], pair[0]}] = true, true
				all = append(all, Bridge{latest(o.From, from), other.window, o.Window})
			}
			if mine := reach[e][zoned[o.Window]]; o.Until.After(mine.until) {
				reach[e][zoned[o.Window]] = held{o.Window, o.Until}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Bridge) int { return a.At.Compare(b.At) })
	return all
}

// bridging finds where the window of a request would let an engineer reach two zones, alone or together
// with other windows, or nil. A window that has the request's name is its own.
func (p *Policy) bridging(w *Window, others []*Window) (first *Bridge) {
	if len(p.Zones) == 0 {
		return nil
	}
	zones, spans := w.Zones(), w.Spans(p.Zone, w.Schedule.(exactly).From, w.Schedule.(exactly).Until)
	if len(spans) == 0 {
		return nil
	}
	if len(zones) > 1 {
		return &Bridge{spans[0].From, w, w}
	}
	for _, other := range others {
		if other.Vendor.Name != w.Vendor.Name || other.Name == w.Name || !apart(zones, other.Zones()) || !shareEngineer(w, other) {
			continue
		}
		for _, mine := range spans {
			for _, s := range other.Spans(p.Zone, mine.From, mine.Until) {
				if at := latest(s.From, mine.From); first == nil || at.Before(first.At) {
					first = &Bridge{at, other, w}
				}
			}
		}
	}
	return first
}

// shareEngineer reports whether two windows have an engineer in common. A request may have a narrower
// copy, so the keys count.
func shareEngineer(a, b *Window) bool {
	return slices.ContainsFunc(a.Engineers, func(e *Engineer) bool {
		return slices.ContainsFunc(b.Engineers, func(other *Engineer) bool { return other.Key == e.Key })
	})
}

// unbridged gives the windows of requests, the oldest first, without those that would let an engineer reach two
// zones together with an older one. Two decisions that were recorded at the same time, or a later policy,
// may lead there.
func (p *Policy) unbridged(windows []*Window) (kept []*Window, bridges map[string]*Bridge) {
	bridges = map[string]*Bridge{}
	for _, w := range windows {
		if b := p.bridging(w, kept); b != nil {
			bridges[w.Name] = b
			continue
		}
		kept = append(kept, w)
	}
	return kept, bridges
}

// mayOpen reports whether a window of a request stays within one zone.
func (s *State) mayOpen(w *Window) error {
	if w == nil {
		return nil
	}
	return refuseBridge(w.Name, s.policy.bridging(w, s.index.windows))
}

// mayOpenAs is mayOpen for a request as it would stand after a decision.
func (s *State) mayOpenAs(r *Request) error {
	x := r.allowed(s.policy)
	if x.bridge != nil {
		return refuseBridge(r.ID, x.bridge)
	}
	return s.mayOpen(x.Window)
}

func refuseBridge(id string, b *Bridge) error {
	switch {
	case b == nil:
		return nil
	case b.First == b.Then:
		return &RefusedError{Code: "request_zones", ID: id, Names: b.Zones()}
	case b.First.IsRequest():
		return &RefusedError{Code: "request_bridges", ID: id, Name: b.First.Name, Names: b.Zones(), Until: b.At}
	}
	return &RefusedError{Code: "request_bridges", ID: id, Name: b.First.String(), Names: b.Zones(), Until: b.At}
}
