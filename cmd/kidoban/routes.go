package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"kidoban/gateway/firewall"
	"kidoban/gateway/policy"
)

// paths is how the host reaches the targets of a policy.
type paths struct {
	policy     *policy.Policy
	to         firewall.Paths
	ipv4, ipv6 []string // interfaces on which packets of its flows arrive: from the tunnel, and from the targets
	complete   bool     // each target has a route of its own
	hints      []string
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
}

// pathsTo says by which interfaces a policy's targets are reached.
//
// Every table counts that a rule names, so that whatever rules look at, be it
// marks or ports, what they choose is a path. The default route is none: where
// a network of the site is not up yet, it leads to the Internet, where what
// the engineer says would go in the clear, and whose hosts must not answer in
// the target's name. Where there is one network card and nothing else it is
// all there is.
func pathsTo(p *policy.Policy, device string, r routing) paths {
	w := paths{policy: p, to: firewall.Paths{}, complete: true}
	astray := map[string][]string{} // hint -> the targets for which it is
	for _, t := range p.Targets {
		prefix := t.Prefix.Masked()
		reached := r.reach(prefix)
		through, hint, what := reached.own, "", "TARGETS"
		if len(reached.own) > 0 {
			what = "a part of TARGETS"
		}
		switch by := strings.Join(reached.byDefault, " and "); {
		case reached.whole:
		case by == "":
			hint = "the host has no route to " + what + ": bring the interface up, or add a route"
		case r.others > 1:
			hint = "the host has no route to " + what + " but the default route, through " + by +
				", by which nothing is sent there: bring the right interface up, or add a route of its own"
		default:
			hint = "the host has no route to " + what + " but the default route, through its only interface " + by +
				": a host on the way to the Internet could answer in its name; a route of its own is better"
			through = union(through, reached.byDefault)
		}
		if hint != "" {
			astray[hint] = append(astray[hint], t.Name)
		}
		if len(through) > 0 {
			w.to[prefix] = through
		}
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
		w.hints = append(w.hints, strings.Replace(hint, "TARGETS", few(astray[hint]), 1))
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
	own, byDefault []string // interfaces, sorted
	whole          bool     // a table has routes of its own to each address
}

func (r routing) reach(p netip.Prefix) reached {
	var all reached
	for _, table := range r.tables {
		w := reachBy(table, p)
		all = reached{union(all.own, w.own), union(all.byDefault, w.byDefault), all.whole || w.whole}
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
		return reached{union(a.own, b.own), union(a.byDefault, b.byDefault), a.whole && b.whole}
	}
	var w reached
	for _, r := range table {
		if r.to.Bits() != longest || !r.to.Overlaps(p) {
			continue
		}
		if r.byDefault {
			w.byDefault = union(w.byDefault, r.through)
		} else {
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
	routes, err := undisturbed(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return fmt.Errorf("routes: %w", err)
	}
	for _, found := range routes {
		written, named := ours[found.Table]
		if !named {
			continue
		}
		to, ok := destination(found, family)
		if !ok {
			continue
		}
		one := route{to: to, byDefault: leadsAnywhere(to) && !written}
		if found.Type == unix.RTN_UNICAST {
			one.through = through(found, names)
		}
		r.tables[found.Table] = append(r.tables[found.Table], one)
	}
	return nil
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

// destination is where a route leads.
func destination(r netlink.Route, family int) (netip.Prefix, bool) {
	if r.Dst == nil {
		if family == unix.AF_INET6 {
			return netip.PrefixFrom(netip.IPv6Unspecified(), 0), true
		}
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0), true
	}
	return prefixOf(r.Dst)
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

// through names the interfaces of a route, of several next hops each.
func through(r netlink.Route, names map[int]string) []string {
	hops := []int{r.LinkIndex}
	for _, h := range r.MultiPath {
		hops = append(hops, h.LinkIndex)
	}
	var list []string
	for _, i := range hops {
		if name := names[i]; name != "" {
			list = union(list, []string{name})
		}
	}
	return list
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
