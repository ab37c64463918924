package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"kidoban/gateway"
	"kidoban/gateway/firewall"
	"kidoban/gateway/policy"
)

// paths is how the host reaches the targets of a policy.
type paths struct {
	policy     *policy.Policy
	to         firewall.Paths
	ipv4, ipv6 []string // interfaces on which packets of its flows arrive: from the tunnel, and from the targets
	complete   bool     // each target has a route of its own
	hints      []gateway.Hint
}

// routing is what decides by which interface the host sends a packet of the
// tunnel.
type routing struct {
	tables map[int][]route // those that a rule names
	others int             // interfaces besides the tunnel and lo, or as many as the host ever had
}

// route is one of a table.
type route struct {
	to        netip.Prefix
	through   []string // names of interfaces; none: the kernel refuses
	byDefault bool     // it leads to whatever nobody knows better
	told      bool     // somebody on the wire said so: DHCP, a router's advertisement or redirect
}

// pathsTo says by which interfaces a policy's targets are reached.
//
// Every table counts that a rule names, so that whatever rules look at, be it
// marks or ports, what they choose is a path. The default route is none: where
// a network of the site is not up yet, it leads to the Internet, where what
// the engineer says would go in the clear, and whose hosts must not answer in
// the target's name. Nor is a route that somebody on the wire told the host,
// who could tell it the longest one to a target. Where there is one network
// card and nothing else both are all there is.
func pathsTo(p *policy.Policy, device string, r routing) paths {
	w := paths{policy: p, to: firewall.Paths{}, complete: true}
	astray := map[string][]string{} // hint -> the targets for which it is
	lost := map[string]bool{}       // hints that say that nothing is sent to them
	for _, t := range p.Targets {
		prefix := t.Prefix.Masked()
		reached := r.reach(prefix)
		through, hint, what := reached.own, "", "TARGETS"
		if len(reached.own) > 0 {
			what = "a part of TARGETS"
		}
		by, names := "the default route", reached.byDefault
		if len(reached.told) > 0 {
			by, names = "what DHCP or a router advertised", reached.told
		}
		switch where := strings.Join(names, " and "); {
		case reached.whole:
		case where == "":
			hint = "the host has no route to " + what + ": bring the interface up, or add a route"
			lost[hint] = true
		case r.others > 1:
			hint = "the host has no route to " + what + " but " + by + ", through " + where +
				", by which nothing is sent there: bring the right interface up, or add a route of its own"
			lost[hint] = true
		default:
			hint = "the host has no route to " + what + " but " + by + ", through its only interface " + where +
				": a host on the way to the Internet could answer in its name; a route of its own is better"
			through = union(through, union(reached.byDefault, reached.told))
		}
		if hint != "" {
			astray[hint] = append(astray[hint], t.Name)
		}
		w.to[prefix] = through // also none: then it is not reached as a wider target is
		list := &w.ipv4
		if prefix.Addr().Is6() {
			list = &w.ipv6
		}
		for _, name := range append([]string{device}, through...) {
			if !slices.Contains(*list, name) {
				*list = append(*list, name)
			}
		}
	}
	for _, hint := range slices.Sorted(maps.Keys(astray)) {
		w.complete = false
		h := gateway.Hint{Text: strings.Replace(hint, "TARGETS", few(astray[hint]), 1)}
		if lost[hint] {
			h.Targets = astray[hint]
		}
		w.hints = append(w.hints, h)
	}
	return w
}

// few names targets, but not all of many.
func few(targets []string) string {
	const most = 5
	if len(targets) > most+1 {
		return fmt.Sprintf("%s and %d other targets", strings.Join(targets[:most], ", "), len(targets)-most)
	}
	return strings.Join(targets, ", ")
}

// reached is how a prefix is.
type reached struct {
	own, byDefault, told []string // interfaces, sorted
	whole                bool     // a table has routes of its own to each address
}

func (r reached) and(other reached, whole bool) reached {
	return reached{union(r.own, other.own), union(r.byDefault, other.byDefault), union(r.told, other.told), whole}
}

func (r routing) reach(p netip.Prefix) reached {
	var all reached
	for _, table := range r.tables {
		w := reachBy(table, p)
		all = all.and(w, all.whole || w.whole)
	}
	return all
}

// reachBy is how a table reaches a prefix. The longest route to an address
// counts; of those that are as long all do, since the kernel turns to another
// as soon as one goes.
func reachBy(table []route, p netip.Prefix) reached {
	longest, splits := -1, false
	for _, r := range table {
		switch {
		case !r.to.Overlaps(p):
		case r.to.Bits() > p.Bits():
			splits = true
		default:
			longest = max(longest, r.to.Bits())
		}
	}
	if splits {
		low, high := halves(p)
		a, b := reachBy(table, low), reachBy(table, high)
		return a.and(b, a.whole && b.whole)
	}
	var w reached
	for _, r := range table {
		if r.to.Bits() != longest || !r.to.Overlaps(p) {
			continue
		}
		switch {
		case r.byDefault:
			w.byDefault = union(w.byDefault, r.through)
		case r.told:
			w.told = union(w.told, r.through)
		default:
			w.own = union(w.own, r.through)
		}
	}
	w.whole = len(w.own) > 0
	return w
}

// halves splits a prefix of more than one address.
func halves(p netip.Prefix) (low, high netip.Prefix) {
	bits := p.Bits()
	second := p.Addr().AsSlice()
	second[bits/8] |= 0x80 >> (bits % 8)
	a, _ := netip.AddrFromSlice(second)
	return netip.PrefixFrom(p.Addr(), bits+1), netip.PrefixFrom(a, bits+1)
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// leadsAnywhere reports whether a route stands for the Internet: the default
// route, and what VPN clients (0.0.0.0/1 and 128.0.0.0/1) and IPv6 hosts
// (2000::/3, RFC 4291) write for it.
func leadsAnywhere(to netip.Prefix) bool {
	return to.Bits() <= 1 || to.Addr().Is6() && to.Bits() <= 3
}

// readRouting reads the host's interfaces, rules and routes, of the families
// of a policy's targets.
func readRouting(p *policy.Policy, device string) (routing, error) {
	r := routing{tables: map[int][]route{}}
	names, err := interfaces()
	if err != nil {
		return r, fmt.Errorf("interfaces: %w", err)
	}
	for index, name := range names {
		if name == "lo" || name == device {
			delete(names, index) // these lead to no target
		}
	}
	r.others = len(names)
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		if !slices.ContainsFunc(p.Targets, func(t *policy.Target) bool { return t.Prefix.Addr().Is6() == (family == unix.AF_INET6) }) {
			continue
		}
		if err := r.read(family, p.Tunnel.Addresses, device, names); err != nil {
			return r, err
		}
	}
	return r, nil
}

// interfaces names the host's interfaces by index.
func interfaces() (map[int]string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	names := make(map[int]string, len(all))
	for _, i := range all {
		names[i.Index] = i.Name
	}
	return names, nil
}

// read adds the tables of a family.
func (r routing) read(family int, tunnel []netip.Prefix, device string, names map[int]string) error {
	rules, err := undisturbed(func() ([]netlink.Rule, error) { return netlink.RuleList(family) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		// The kernel has no rules (CONFIG_IP_MULTIPLE_TABLES).
		rules, err = []netlink.Rule{{Table: unix.RT_TABLE_MAIN}}, nil
	}
	if err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	// A table to which only the tunnel's packets are sent has been written for
	// them, and so has its default route.
	ours := map[int]bool{}
	for _, rule := range rules {
		if rule.Table == unix.RT_TABLE_UNSPEC || rule.Table == unix.RT_TABLE_LOCAL {
			continue
		}
		others := !fromTunnel(rule, tunnel, device)
		if is, ok := ours[rule.Table]; !ok || is {
			ours[rule.Table] = !others
		}
	}
	dumped, err := undisturbed(func() ([][]byte, error) {
		request := nl.NewNetlinkRequest(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
		request.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family)}})
		return request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE)
	})
	if err != nil {
		return fmt.Errorf("routes: %w", err)
	}
	for _, m := range dumped {
		one, table, ok := parseRoute(m, family, names)
		if written, named := ours[table]; ok && named {
			one.byDefault = leadsAnywhere(one.to) && !written
			r.tables[table] = append(r.tables[table], one)
		}
	}
	return nil
}

// parseRoute reads a route as the kernel writes it (rtnetlink(7)), and the
// table it is in. The library's routes do not tell whether they expire.
func parseRoute(m []byte, family int, names map[int]string) (r route, table int, ok bool) {
	if len(m) < unix.SizeofRtMsg {
		return r, 0, false
	}
	header := nl.DeserializeRtMsg(m)
	attributes, err := nl.ParseRouteAttr(m[unix.SizeofRtMsg:])
	if err != nil || int(header.Family) != family || header.Flags&unix.RTM_F_CLONED != 0 {
		return r, 0, false
	}
	table = int(header.Table)
	address, hops := netip.IPv4Unspecified(), []int(nil)
	if family == unix.AF_INET6 {
		address = netip.IPv6Unspecified()
	}
	// From whom they are; the kernel gives those of advertisements that an
	// address is made of as its own, but they expire.
	r.told = slices.Contains([]uint8{unix.RTPROT_DHCP, unix.RTPROT_RA, unix.RTPROT_REDIRECT}, header.Protocol)
	for _, a := range attributes {
		value := a.Value
		switch {
		case a.Attr.Type == unix.RTA_DST:
			address, _ = netip.AddrFromSlice(value)
		case a.Attr.Type == unix.RTA_TABLE && len(value) >= 4:
			table = int(binary.NativeEndian.Uint32(value))
		case a.Attr.Type == unix.RTA_OIF && len(value) >= 4:
			hops = append(hops, int(binary.NativeEndian.Uint32(value)))
		case a.Attr.Type == unix.RTA_CACHEINFO && len(value) >= 12: // struct rta_cacheinfo
			r.told = r.told || binary.NativeEndian.Uint32(value[8:]) != 0
		case a.Attr.Type == unix.RTA_MULTIPATH:
			for len(value) >= unix.SizeofRtNexthop { // struct rtnexthop
				hops = append(hops, int(binary.NativeEndian.Uint32(value[4:])))
				length := int(binary.NativeEndian.Uint16(value)+3) &^ 3
				value = value[min(max(length, unix.SizeofRtNexthop), len(value)):]
			}
		}
	}
	r.to = netip.PrefixFrom(address, int(header.Dst_len)).Masked()
	for _, i := range hops {
		if name := names[i]; name != "" && header.Type == unix.RTN_UNICAST {
			r.through = union(r.through, []string{name})
		}
	}
	return r, table, r.to.IsValid()
}

// fromTunnel reports whether a rule is about nothing but what the tunnel sends.
func fromTunnel(rule netlink.Rule, tunnel []netip.Prefix, device string) bool {
	if rule.Invert {
		return false
	}
	if rule.IifName == device {
		return true
	}
	from, ok := prefixOf(rule.Src)
	return ok && slices.ContainsFunc(tunnel, func(t netip.Prefix) bool { return t.Bits() <= from.Bits() && t.Overlaps(from) })
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	bits, size := n.Mask.Size()
	if size == 32 {
		a = a.Unmap() // net.IP may keep IPv4 in 16 bytes
	}
	if !ok || a.BitLen() != size {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, bits).Masked(), true
}

// undisturbed repeats a reading during which somebody changed what is read.
func undisturbed[T any](read func() (T, error)) (T, error) {
	const attempts = 5
	for range attempts - 1 {
		if got, err := read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return got, err
		}
	}
	return read()
}
