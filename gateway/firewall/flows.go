package firewall

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"

	"kidoban/gateway/policy"
)

// setKind is the parts of a set's keys. Each part is padded to 4 bytes.
type setKind []nftables.SetDatatype

// padded is how many bytes a part takes in a key.
func padded(part nftables.SetDatatype) int { return int(part.Bytes+3) &^ 3 }

// datatype is the whole key's. It panics for more than five parts.
func (k setKind) datatype() nftables.SetDatatype { return nftables.MustConcatSetType(k...) }

var (
	addressKind  = map[int]setKind{4: {nftables.TypeIPAddr}, 6: {nftables.TypeIP6Addr}}
	pairKind     = map[int]setKind{4: {nftables.TypeIPAddr, nftables.TypeIPAddr}, 6: {nftables.TypeIP6Addr, nftables.TypeIP6Addr}}
	endpointKind = map[int]setKind{4: {nftables.TypeIPAddr, nftables.TypeInetService}, 6: {nftables.TypeIP6Addr, nftables.TypeInetService}}
	pathKind     = map[int]setKind{4: {nftables.TypeIPAddr, nftables.TypeIFName}, 6: {nftables.TypeIP6Addr, nftables.TypeIFName}}
	flowKind     = map[int]setKind{4: {nftables.TypeIPAddr, nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService}, 6: {nftables.TypeIP6Addr, nftables.TypeIP6Addr, nftables.TypeInetProto, nftables.TypeInetService}}
)

func appendPort(key []byte, port uint16) []byte {
	return append(binary.BigEndian.AppendUint16(key, port), 0, 0)
}

// echoRequest is how conntrack keeps type and code of an ICMP query: where
// other protocols have the destination port.
const (
	echoRequest4 = 8 << 8
	echoRequest6 = 128 << 8
)

// maxFlows bounds the flows that one engineer can open. Policies are far below.
const maxFlows = 1 << 16

// sourceSet is the set of the sources of one prefix length.
type sourceSet struct {
	family, bits int
	set          *set
}

// openings are the elements of all sets.
type openings struct {
	live      map[int]*set
	engineers map[int]*set // each address twice: rules cannot compare two fields of a packet, but can look both up as one key
	// Dynamic, with limits for each tunnel address: of the rate at which it
	// begins flows, of how many it has, of the copies of what it is refused, of its
	// fragments; and for each target of its fragments.
	begins, counts, copies, fragments, targetFragments map[int]*set
	sources                                            []sourceSet  // sorted: IPv4 first, longer prefixes first
	paths                                              map[int]*set // addresses of targets, each with the interfaces by which it is reached
	flows                                              map[int]*set
	masquerades                                        map[int]*set // nil where flows serve for it
}

// sets lists them in the order in which they are made: those that come and go
// with the plan last.
func (o *openings) sets() []*set {
	var list []*set
	for _, of := range []map[int]*set{o.live, o.begins, o.counts, o.copies, o.fragments, o.targetFragments, o.engineers, o.paths, o.flows, o.masquerades} {
		for _, f := range families {
			if of != nil {
				list = append(list, of[f])
			}
		}
	}
	for _, s := range o.sources {
		list = append(list, s.set)
	}
	return list
}

// holdsFlows reports whether the elements are the flows that may pass.
func (s *set) holdsFlows() bool { return s.name == name("flows", 4) || s.name == name("flows", 6) }

func newSets(what string, kind map[int]setKind, each term) map[int]*set {
	sets := map[int]*set{}
	for _, f := range families {
		sets[f] = &set{name: name(what, f), kind: kind[f], each: each, elements: map[string]time.Time{}}
	}
	return sets
}

// newDynamic makes sets of addresses that rules fill.
func newDynamic(what string, each term) map[int]*set {
	sets := newSets(what, addressKind, each)
	for _, s := range sets {
		s.dynamic = true
	}
	return sets
}

// opened works out every element that is open at an instant, and its end: the
// end of the contiguous union of the grants that produce it.
func opened(o Options, p *policy.Plan, live []netip.AddrPort, paths Paths, now time.Time) (*openings, error) {
	open := &openings{live: newSets("live", endpointKind, liveRate.term()), engineers: newSets("engineers", pairKind, term{}),
		begins: newDynamic("begins", beginRate.term()), counts: newDynamic("counts", atOnce(flowsAtOnce)),
		copies: newDynamic("copies", refusalRate.term()), fragments: newDynamic("fragments", fragmentRate.term()),
		targetFragments: newDynamic("target_fragments", fragmentRate.term()), paths: newSets("paths", pathKind, term{}), flows: newSets("flows", flowKind, term{})}
	if !o.Masquerade {
		open.masquerades = newSets("masquerade", flowKind, term{})
	}
	if p == nil || p.Policy == nil || p.Doubt != "" {
		return open, nil
	}
	// In the order of their beginning, each grant either prolongs what is open
	// when it begins, or is open itself, or does not count yet.
	grants := slices.Clone(p.Grants)
	slices.SortStableFunc(grants, func(a, b *policy.Grant) int { return a.From.Compare(b.From) })

	prefixes := map[netip.Prefix]time.Time{}
	destinations, ways := map[*policy.Target][]string{}, map[*policy.Target][]string{}
	type way struct {
		engineer netip.Addr
		target   *policy.Target
	}
	opens, fits := map[*policy.Engineer]int{}, map[way]bool{}
	var failures []error
	for _, g := range grants {
		if !g.Until.After(now) {
			continue
		}
		for _, s := range g.Engineer.Sources {
			prolong(prefixes, s.Masked(), g, now)
		}
		for _, t := range g.Window.Targets {
			keys, ok := destinations[t]
			if !ok {
				var err error
				if keys, err = expand(t); err != nil {
					failures = append(failures, err)
				} else {
					ways[t] = reach(t, paths, o.Interface)
				}
				destinations[t] = keys
			}
			for _, key := range ways[t] {
				prolong(open.paths[familyOf(t.Prefix.Addr())].elements, key, g, now)
			}
			for _, a := range g.Engineer.Addresses {
				f := familyOf(a)
				if f != familyOf(t.Prefix.Addr()) {
					continue
				}
				// Several grants of one target open its flows once.
				w := way{a, t}
				if _, counted := fits[w]; !counted {
					before := opens[g.Engineer]
					opens[g.Engineer] += len(keys)
					fits[w] = opens[g.Engineer] <= maxFlows
					if !fits[w] && before <= maxFlows {
						failures = append(failures, fmt.Errorf("%s: allowed are %d flows of one engineer; target %s and what follows stays closed", g.Engineer, maxFlows, t.Name))
					}
				}
				if !fits[w] {
					continue
				}
				source := string(a.AsSlice())
				prolong(open.engineers[f].elements, source+source, g, now)
				for _, key := range keys {
					key = source + key
					prolong(open.flows[f].elements, key, g, now)
					if t.Masquerade && open.masquerades != nil {
						prolong(open.masquerades[f].elements, key, g, now)
					}
				}
			}
		}
	}
	open.fillSources(prefixes)
	open.fillLive(live)
	return open, errors.Join(failures...)
}

// prolong lets a grant open an element, or move its end.
func prolong[K comparable](ends map[K]time.Time, key K, g *policy.Grant, now time.Time) {
	end, open := ends[key]
	if !open && g.From.After(now) || open && g.From.After(end) {
		return
	}
	if g.Until.After(end) {
		ends[key] = g.Until
	}
}

func (o *openings) fillSources(prefixes map[netip.Prefix]time.Time) {
	type length struct{ family, bits int }
	sets := map[length]*set{}
	for p, end := range prefixes {
		l := length{familyOf(p.Addr()), p.Bits()}
		if sets[l] == nil {
			sets[l] = &set{name: fmt.Sprintf("sources%d_%d", l.family, l.bits), kind: addressKind[l.family], each: sourceRate.term(), elements: map[string]time.Time{}}
		}
		sets[l].elements[string(p.Addr().AsSlice())] = end
	}
	for _, l := range slices.SortedFunc(maps.Keys(sets), func(a, b length) int {
		return cmp.Or(cmp.Compare(a.family, b.family), cmp.Compare(b.bits, a.bits))
	}) {
		o.sources = append(o.sources, sourceSet{l.family, l.bits, sets[l]})
	}
}

func (o *openings) fillLive(live []netip.AddrPort) {
	for _, at := range live {
		address := at.Addr().Unmap()
		var end time.Time
		for _, s := range o.sources {
			if s.family != familyOf(address) {
				continue
			}
			p, _ := address.Prefix(s.bits)
			if e := s.set.elements[string(p.Addr().AsSlice())]; e.After(end) {
				end = e
			}
		}
		if !end.IsZero() {
			o.live[familyOf(address)].elements[string(appendPort(address.AsSlice(), at.Port()))] = end
		}
	}
}

// expand gives every destination of a target, as the end of a flow's key.
func expand(t *policy.Target) ([]string, error) {
	each := 0
	for _, s := range t.Services {
		each += int(s.Last) - int(s.First) + 1
	}
	free := t.Prefix.Addr().BitLen() - t.Prefix.Bits()
	if free > 16 || each<<free > maxFlows {
		return nil, fmt.Errorf("target %s (%s): allowed are %d pairs of address and port; it stays closed", t.Name, t.Prefix, maxFlows)
	}
	keys := make([]string, 0, each<<free)
	for a := t.Prefix.Masked().Addr(); a.IsValid() && t.Prefix.Contains(a); a = a.Next() {
		for _, s := range t.Services {
			first, last := s.First, s.Last
			switch s.Protocol {
			case policy.ICMP:
				first, last = echoRequest4, echoRequest4
			case policy.ICMPv6:
				first, last = echoRequest6, echoRequest6
			}
			for port := int(first); port <= int(last); port++ {
				key := append(a.AsSlice(), s.Protocol, 0, 0, 0)
				keys = append(keys, string(appendPort(key, uint16(port))))
			}
		}
	}
	return keys, nil
}

// reach gives every address of a target with each interface by which it is
// reached, as keys of paths. The tunnel leads to no target.
//
// A target that is not in paths itself is one that a reload has made narrower
// or wider, while the plan still goes by the old prefix or the paths do. Each
// of its addresses is reached as the narrowest prefix around it that paths
// have, if any: the routes to that one include those to the address.
func reach(t *policy.Target, paths Paths, tunnel string) []string {
	whole, known := paths[t.Prefix.Masked()]
	var lengths []int // of the prefixes in paths, the longest first
	if !known {
		for p := range paths {
			if p.Overlaps(t.Prefix) && !slices.Contains(lengths, p.Bits()) {
				lengths = append(lengths, p.Bits())
			}
		}
		slices.SortFunc(lengths, func(a, b int) int { return cmp.Compare(b, a) })
	}
	var keys []string
	for a := t.Prefix.Masked().Addr(); a.IsValid() && t.Prefix.Contains(a); a = a.Next() {
		through := whole
		for _, bits := range lengths {
			around, _ := a.Prefix(bits)
			if some, ok := paths[around]; ok {
				through = some
				break
			}
		}
		for _, i := range through {
			if i != tunnel {
				keys = append(keys, string(a.AsSlice())+string(paddedName(i)))
			}
		}
	}
	return keys
}
