package firewall

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
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
	byLineKind   = map[int]setKind{4: {nftables.TypeIPAddr, nftables.TypeInetService, nftables.TypeIFName}, 6: {nftables.TypeIP6Addr, nftables.TypeInetService, nftables.TypeIFName}}
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

// sourceSet is the set of the sources of one prefix length: of vendors without a
// line, or of those with one, each with the interface of the line.
type sourceSet struct {
	family, bits int
	lined        bool
	by           map[string]bool // the interfaces that follow the address in a key; without a line: the empty text alone
	set          *set
}

// term looks up a packet's source ("saddr") or destination ("daddr") and, if the
// set has lines, the interface by which it came or leaves.
func (s sourceSet) term(word string) term {
	if !s.lined {
		return listed(word, s.family, s.bits, s.set.name)
	}
	return in(s.set.name, prefix(s.family, word, s.bits), lineOf(word)).of(s.family)
}

// source is a prefix of a vendor, and the interface of its line; empty: any.
type source struct {
	prefix netip.Prefix
	by     string
}

// openings are all sets, in the order in which they are made: those that come and
// go with the plan last.
type openings struct {
	Rules
	sources []sourceSet // sorted: IPv4 first, longer prefixes first
}

// add makes the sets of both families.
func (o *openings) add(what string, kind map[int]setKind, each term, dynamic bool) {
	for _, f := range families {
		o.sets = append(o.sets, &set{name: name(what, f), kind: kind[f], each: each, dynamic: dynamic, elements: map[string]time.Time{}})
	}
}

// addOfEngineers makes sets whose keys begin with the address of an engineer or host.
func (o *openings) addOfEngineers(what string, kind map[int]setKind) {
	o.add(what, kind, term{}, false)
	for _, s := range o.sets[len(o.sets)-len(families):] {
		s.ofEngineers = true
	}
}

// of gives the elements of a set of a family; nil: there is no such set.
func (o *openings) of(what string, family int) map[string]time.Time {
	if s := o.set(name(what, family)); s != nil {
		return s.elements
	}
	return nil
}

// lined reports whether there are sets for the endpoints of sessions by lines.
func (o *openings) lined() bool { return o.set(name("live_lines", 4)) != nil }

// holdsFlows reports whether the elements are the flows that may pass.
func (s *set) holdsFlows() bool { return s.name == name("flows", 4) || s.name == name("flows", 6) }

// opened works out every element that is open at an instant, and its end: the
// end of the contiguous union of the grants that produce it. Of the elements
// of engineers and hosts it has those of some.
func opened(o Options, p *policy.Plan, live []netip.AddrPort, paths Paths, now time.Time, among some) (*openings, error) {
	open := &openings{}
	open.add("live", endpointKind, liveRate.term(), false)
	// With limits for each tunnel address: of the rate at which it begins flows, of
	// how many it has, of the copies of its refused packets, of its fragments; and
	// for each target of its fragments.
	open.add("begins", addressKind, beginRate.term(), true)
	open.add("counts", addressKind, atOnce(flowsAtOnce), true)
	open.add("copies", addressKind, refusalRate.term(), true)
	open.add("fragments", addressKind, fragmentRate.term(), true)
	open.add("target_fragments", addressKind, fragmentRate.term(), true)
	// Each address twice: rules cannot compare two fields of a packet, but can look
	// both up as one key.
	open.addOfEngineers("engineers", pairKind)
	open.add("paths", pathKind, term{}, false) // addresses of targets, each with the interfaces by which it is reached
	open.addOfEngineers("flows", flowKind)
	if !o.Masquerade { // else flows serve for it
		open.addOfEngineers("masquerade", flowKind)
	}
	if p == nil || p.Policy == nil {
		return open, nil
	}
	// The rules that look into these stay in doubt.
	if len(p.Policy.Lines) > 0 {
		open.add("live_lines", byLineKind, liveRate.term(), false)
	}
	if p.Policy.PlainLines() {
		open.addOfEngineers("plain", pathKind) // hosts behind plain lines, each with the interface of its line
	}
	if p.Doubt != "" {
		return open, nil
	}
	b := builder{openings: open, options: o, now: now, among: among, destinations: map[*policy.Target][]string{}, opens: map[*policy.Engineer]int{}, fits: map[fromTo]bool{}}
	b.shared(p.Grants, live, paths)
	for _, g := range p.Grants { // those of an engineer in the order of their beginning
		b.grant(g)
	}
	return open, errors.Join(b.failures...)
}

// builder fills the sets. In the order of their beginning, each grant either prolongs what is open when it
// begins, or is open itself, or does not count yet.
type builder struct {
	*openings
	options      Options
	now          time.Time
	among        some
	destinations map[*policy.Target][]string // ends of keys of flows
	opens        map[*policy.Engineer]int    // how many flows
	fits         map[fromTo]bool             // the flows are not too many
	failures     []error
}

type fromTo struct {
	from   netip.Addr
	target *policy.Target
}

// shared fills the sets whose elements engineers share: sources, live, and paths. Grants that differ in
// their engineer alone count once.
func (b *builder) shared(grants []*policy.Grant, live []netip.AddrPort, paths Paths) {
	type kind struct {
		window  *policy.Window
		line    *policy.Line
		sources *netip.Prefix // the first one of the list
		count   int
		span    policy.Span
	}
	met := map[kind]bool{}
	var all []*policy.Grant
	for _, g := range grants {
		k := kind{window: g.Window, line: g.Engineer.Line, count: len(g.Engineer.Sources), span: g.Span}
		if k.count > 0 {
			k.sources = &g.Engineer.Sources[0]
		}
		if !met[k] && g.Until.After(b.now) {
			met[k] = true
			all = append(all, g)
		}
	}
	slices.SortStableFunc(all, func(a, b *policy.Grant) int { return a.From.Compare(b.From) })
	sources, ways := map[source]time.Time{}, map[*policy.Target][]string{}
	for _, g := range all {
		for _, s := range g.Engineer.Sources {
			if !g.Engineer.Plain() { // a host sends nothing to the WireGuard port
				prolong(sources, source{s.Masked(), interfaceOfLine(g.Engineer.Line)}, g, b.now)
			}
		}
		for _, t := range g.Window.Targets {
			if _, known := b.destinations[t]; !known {
				var err error
				if b.destinations[t], err = expand(t); err != nil {
					b.failures = append(b.failures, err)
				} else {
					ways[t] = reach(t, paths, b.options.Interface)
				}
			}
			for _, key := range ways[t] {
				prolong(b.of("paths", familyOf(t.Prefix.Addr())), key, g, b.now)
			}
		}
	}
	b.fillSources(sources)
	b.fillLive(live)
}

// grant opens the flows of a grant.
func (b *builder) grant(g *policy.Grant) {
	if !g.Until.After(b.now) || !b.among.have(g.Engineer) {
		return
	}
	for _, a := range g.Engineer.Addresses {
		source := string(a.AsSlice())
		for _, t := range g.Window.Targets {
			if familyOf(a) == familyOf(t.Prefix.Addr()) && b.fit(g.Engineer, fromTo{a, t}) {
				b.open(g, source, t)
			}
		}
	}
}

// fit counts the flows from an address to a target, and reports whether they are not too many. Several grants
// of one target open its flows once.
func (b *builder) fit(e *policy.Engineer, w fromTo) bool {
	if fits, counted := b.fits[w]; counted {
		return fits
	}
	before := b.opens[e]
	b.opens[e] += len(b.destinations[w.target])
	b.fits[w] = b.opens[e] <= maxFlows
	if !b.fits[w] && before <= maxFlows {
		b.failures = append(b.failures, fmt.Errorf("%s: allowed are %d flows of one engineer; target %s and what follows stays closed", e, maxFlows, w.target.Name))
	}
	return b.fits[w]
}

// open opens the flows of a grant from an address to a target.
func (b *builder) open(g *policy.Grant, source string, t *policy.Target) {
	f := familyOf(t.Prefix.Addr())
	flows, masqueraded := b.of("flows", f), b.of("masquerade", f)
	prolong(b.of("engineers", f), source+source, g, b.now)
	if g.Engineer.Plain() {
		prolong(b.of("plain", f), source+string(paddedName(g.Engineer.Line.Interface)), g, b.now)
	}
	for _, key := range b.destinations[t] {
		key = source + key
		prolong(flows, key, g, b.now)
		if t.Masquerade && masqueraded != nil {
			prolong(masqueraded, key, g, b.now)
		}
	}
}

// some are the keys of some engineers and hosts; nil: of all.
type some map[policy.Key]bool

func (m some) have(e *policy.Engineer) bool { return m == nil || m[e.Key] }

// ever gives the elements of some engineers that a plan opens at any instant.
func ever(o Options, p *policy.Plan, of some) *Rules {
	always := p.Restrict(func(g *policy.Grant) *policy.Grant {
		if !of.have(g.Engineer) {
			return nil
		}
		from := *g
		from.From = time.Time{}
		return &from
	})
	open, _ := opened(o, always, nil, nil, time.Time{}, of) // what could not be opened is not there
	return &open.Rules
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

func interfaceOfLine(l *policy.Line) string {
	if l == nil {
		return ""
	}
	return l.Interface
}

// fillSources makes the sets of sources. Those of lines come last.
func (o *openings) fillSources(sources map[source]time.Time) {
	for s, end := range sources {
		f, what, kind, by := familyOf(s.prefix.Addr()), "sources", addressKind, ""
		if s.by != "" {
			what, kind, by = "lines", pathKind, string(paddedName(s.by))
		}
		called := fmt.Sprintf("%s_%d", name(what, f), s.prefix.Bits())
		i := slices.IndexFunc(o.sources, func(have sourceSet) bool { return have.set.name == called })
		if i < 0 {
			made := &set{name: called, kind: kind[f], each: sourceRate.term(), elements: map[string]time.Time{}}
			i = len(o.sources)
			o.sets, o.sources = append(o.sets, made), append(o.sources, sourceSet{f, s.prefix.Bits(), s.by != "", map[string]bool{}, made})
		}
		o.sources[i].by[by] = true
		o.sources[i].set.elements[string(s.prefix.Addr().AsSlice())+by] = end
	}
	slices.SortFunc(o.sources, func(a, b sourceSet) int {
		return cmp.Or(cmp.Compare(len(a.set.kind), len(b.set.kind)), cmp.Compare(a.family, b.family), cmp.Compare(b.bits, a.bits))
	})
	for i, s := range o.sources {
		o.sets[len(o.sets)-len(o.sources)+i] = s.set
	}
}

// fillLive opens the endpoints of sessions: by any interface where a source without
// a line has the address, and by the interfaces of the lines that have it.
func (o *openings) fillLive(live []netip.AddrPort) {
	for _, at := range live {
		address := at.Addr().Unmap()
		endpoint, f := string(appendPort(address.AsSlice(), at.Port())), familyOf(address)
		for _, s := range o.sources {
			if s.family != f {
				continue
			}
			into := o.of("live", f)
			if s.lined {
				into = o.of("live_lines", f)
			}
			p, _ := address.Prefix(s.bits)
			for by := range s.by {
				if end := s.set.elements[string(p.Addr().AsSlice())+by]; end.After(into[endpoint+by]) {
					into[endpoint+by] = end
				}
			}
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
// reached, as keys of paths. The tunnel leads to no target. When a reload makes a
// target narrower or wider, paths or the plan may still have the old prefix: then
// each address is reached as the narrowest prefix around it that paths have.
func reach(t *policy.Target, paths Paths, tunnel string) []string {
	whole, known := paths[t.Prefix.Masked()]
	var keys []string
	for a := t.Prefix.Masked().Addr(); a.IsValid() && t.Prefix.Contains(a); a = a.Next() {
		through, longest := whole, -1
		for p, some := range paths {
			if known {
				break
			}
			if p.Bits() > longest && p.Contains(a) {
				through, longest = some, p.Bits()
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
