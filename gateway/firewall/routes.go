package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// paths is how the host reaches the targets of a policy.
type paths struct {
	policy     *policy.Policy
	to         Paths
	ipv4, ipv6 []string // interfaces on which packets of its flows arrive: the tunnel's, plain lines', and those to targets
	complete   bool     // each target has a route that counts, and each plain line its interface
	hints      []view.Hint

	// deaf are the interfaces, sorted, on which the ruleset drops router
	// advertisements: a host there could make itself the way to all of IPv6. Each is
	// a path to some target, and has a permanent IPv6 address. The host must have had
	// an IPv6 default route that no router advertised there, since the gateway starts
	// before the network. An interface stays deaf until the process ends.
	deaf []string
}

// routing decides the interface by which the host sends a packet of the tunnel.
type routing struct {
	sights
	inside    []string                  // KIDOBAN_INSIDE_INTERFACES
	present   []string                  // the host's interfaces
	missing   []string                  // those of inside that the host does not have
	tables    map[int][]route           // those that a rule names
	permanent map[string][]netip.Prefix // by interface, the networks of addresses that nobody on the wire gave it
	noIPv6    bool                      // the tunnel's interface has none
}

// sights are facts that must not be forgotten: a host on the wire could take
// back the route or address by which an interface was judged.
type sights struct {
	others     int      // network cards; lo, the tunnel, parts of a bond or a bridge and kernelTunnels are none
	outside    []string // interfaces of a default route that no router advertised
	advertised []string // interfaces of one that a router advertised
	default6   []string // interfaces of an IPv6 default route
	deaf       []string // as in paths
}

// and is the most of both.
func (s sights) and(other sights) sights {
	return sights{max(s.others, other.others), union(s.outside, other.outside),
		union(s.advertised, other.advertised), union(s.default6, other.default6), union(s.deaf, other.deaf)}
}

// route is one of a table.
type route struct {
	to       netip.Prefix
	hops     []hop // none: the kernel refuses
	protocol uint8 // the origin: RTPROT_ in rtnetlink(7)
	expires  bool
	written  bool // for the tunnel: nothing else is sent to its table
}

// hop is where a route leads.
type hop struct {
	through   string // name of an interface
	linkLocal bool   // its gateway has a link-local address
	down      bool   // its link is dead, or has no carrier: nothing goes there
}

// anywhere reports whether a route stands for the Internet, and was not written
// for the tunnel: the default route, or one of those that VPN clients (0.0.0.0/1
// and 128.0.0.0/1) and IPv6 hosts (2000::/3, RFC 4291) write for it.
func (r route) anywhere() bool {
	return !r.written && (r.to.Bits() <= 1 || r.to.Addr().Is6() && r.to.Bits() <= 3)
}

// leadsOut reports whether an interface leads to the Internet. A host at the
// site may advertise an IPv6 default route, so an advertisement alone does not
// count on an interface with a permanent address.
func (r routing) leadsOut(name string) bool {
	return slices.Contains(r.outside, name) || slices.Contains(r.advertised, name) && !r.fixed(name, true) && !r.fixed(name, false)
}

// fixed reports whether an interface has a permanent address of a family, other
// than a link-local one.
func (r routing) fixed(name string, six bool) bool {
	return slices.ContainsFunc(r.permanent[name], func(network netip.Prefix) bool {
		return network.Addr().Is6() == six && !network.Addr().IsLinkLocalUnicast()
	})
}

// see notes by which interfaces the default route leads, and whether a router
// advertised it, as far as that shows.
func (r *routing) see(to route) {
	list := &r.outside
	if to.expires || to.protocol == unix.RTPROT_RA {
		list = &r.advertised
	}
	for _, h := range to.hops {
		*list = union(*list, []string{h.through})
		if to.to.Addr().Is6() {
			r.default6 = union(r.default6, []string{h.through})
		}
	}
}

// standing is the verdict on a route through an interface.
type standing int

const (
	counts    standing = iota
	unnamed            // KIDOBAN_INSIDE_INTERFACES does not name the interface
	told               // the route may come from another host of the network
	beside             // the interface has, or had, the default route
	byDefault          // it is the default route
	standings          // how many there are
)

// whyNot names a route that does not count.
var whyNot = [standings]view.Code{
	unnamed:   "route_not_named",
	told:      "route_told",
	beside:    "route_beside",
	byDefault: "route_default",
}

// standing judges a route through one of its interfaces. If operators have named
// the interfaces that lead inside, only those count. Otherwise no interface of
// the default route counts, since it leads to the Internet: packets would go
// there in the clear, and hosts there could answer as the target. Routes that a
// host on the wire may have caused do not count either.
func (r routing) standing(to route, by hop) standing {
	switch {
	case len(r.inside) > 0 && slices.Contains(r.inside, by.through):
		return counts
	case len(r.inside) > 0:
		return unnamed
	case to.anywhere():
		return byDefault
	case !r.own(to, by):
		return told
	case r.others > 1 && r.leadsOut(by.through):
		return beside
	}
	return counts
}

// own reports whether a route is the host's own, as far as that shows. Routes by
// DHCP or a router may look like routes of the kernel or an administrator, but
// their addresses have an end, as a rule. So the route of an attached network needs
// a permanent address with its prefix, and any other route one of its family on its
// interface. A link-local one is enough for an IPv6 gateway with a link-local
// address; in IPv4 (169.254/16) programs assign it where there is no other.
func (r routing) own(to route, by hop) bool {
	switch to.protocol {
	case unix.RTPROT_DHCP, unix.RTPROT_RA, unix.RTPROT_REDIRECT:
		return false
	}
	return !to.expires && slices.ContainsFunc(r.permanent[by.through], func(network netip.Prefix) bool {
		if to.protocol == unix.RTPROT_KERNEL {
			return network == to.to
		}
		six := to.to.Addr().Is6()
		return network.Addr().Is6() == six && (six && by.linkLocal || !network.Addr().IsLinkLocalUnicast())
	})
}

// astray is why a target, or a part of it, is not reached as it should be.
type astray struct {
	why     standing // counts: there is no route at all
	through string   // names of interfaces, with commas between them
	part    bool
}

// pathsTo finds the interfaces by which a policy's targets are reached: those of
// routes that count. Every table that a rule names is looked at, so that marks
// and ports make no difference. On a host with one network card alone every
// route counts.
func pathsTo(p *policy.Policy, device string, r routing) paths {
	w := paths{policy: p, to: Paths{}, complete: true}
	strict := r.others > 1 || len(r.inside) > 0
	lost, used, off := map[astray][]string{}, []string(nil), []string(nil)
	for _, t := range p.Targets {
		prefix := t.Prefix.Masked()
		if r.noIPv6 && prefix.Addr().Is6() {
			off = append(off, t.Name)
			w.to[prefix] = nil
			continue
		}
		reached := r.reach(prefix)
		through := reached.by[counts]
		if !reached.whole {
			a := reached.astray()
			lost[a] = append(lost[a], t.Name)
			if !strict {
				through = union(reached.by[:]...)
			}
		}
		used = union(used, through)
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
	w.complete = len(lost) == 0
	for _, l := range p.Lines {
		if l.Plain {
			w.comeBy(l, p, r)
		}
	}
	for a, targets := range lost {
		named := union(r.inside, used, strings.Split(a.through, ","))
		h := view.Hint{Message: a.hint(targets, strict, named)}
		if strict || a.why == counts {
			h.Targets = targets // nothing is sent there
		}
		w.hints = append(w.hints, h)
	}
	if len(off) > 0 {
		cause := view.Say("ipv6_off_here", view.Args{"interface": device})
		w.hints = append(w.hints, view.Hint{Message: view.Say("no_ipv6", view.Args{"cause": cause}), Targets: off})
	}
	if len(r.missing) > 0 {
		w.hints = append(w.hints, view.Hint{Message: view.Say("inside_missing", view.Args{"interfaces": r.missing})})
	}
	slices.SortFunc(w.hints, func(a, b view.Hint) int { return strings.Compare(a.Message.String(), b.Message.String()) })
	w.deaf = slices.DeleteFunc(union(used, r.deaf), func(name string) bool {
		settled := len(r.default6) > 0 && r.fixed(name, true) || slices.Contains(r.deaf, name)
		return !settled || slices.Contains(r.advertised, name)
	})
	return w
}

// comeBy adds the interface of a plain line, for the families of its hosts, or a hint that it is missing.
func (w *paths) comeBy(l *policy.Line, p *policy.Policy, r routing) {
	var hosts []string
	families := map[int]bool{}
	for _, v := range p.Vendors {
		if v.Line != l {
			continue
		}
		for _, e := range v.Engineers {
			hosts = append(hosts, e.String())
			families[familyOf(e.Addresses[0])] = true
		}
	}
	if len(hosts) == 0 {
		return
	}
	if !slices.Contains(r.present, l.Interface) {
		w.complete = false
		message := view.Say("plain_line_missing", view.Args{"line": l.Name, "interface": l.Interface, "hosts": view.Few(hosts, 5)})
		w.hints = append(w.hints, view.Hint{Message: message, Engineers: hosts})
		return
	}
	for f, list := range map[int]*[]string{4: &w.ipv4, 6: &w.ipv6} {
		if families[f] && len(*list) > 0 { // else there is no target
			*list = union(*list, []string{l.Interface})
		}
	}
}

// hint tells operators about targets. Named are the interfaces that would lead
// inside if the one that does not count does.
func (a astray) hint(targets []string, strict bool, named []string) view.Message {
	const most = 5
	what := any(targets)
	if len(targets) > most+1 {
		what = view.Say("targets_more", view.Args{"targets": targets[:most], "count": len(targets) - most})
	}
	if a.part {
		what = view.Say("route_part", view.Args{"targets": what})
	}
	if a.why == counts {
		return view.Say("no_route", view.Args{"targets": what})
	}
	code := view.Code("route_astray")
	switch {
	case !strict:
		code = "route_astray_only"
	case a.why == unnamed:
		code = "route_unnamed"
	}
	return view.Say(code, view.Args{"targets": what, "why": view.Say(whyNot[a.why], nil), "through": strings.ReplaceAll(a.through, ",", ", "), "inside": strings.Join(named, ",")})
}

// reached is how a prefix is.
type reached struct {
	by    [standings][]string // interfaces, sorted
	whole bool                // a table has routes that count to each address
}

func (r reached) and(other reached, whole bool) reached {
	for s := range r.by {
		other.by[s] = union(r.by[s], other.by[s])
	}
	return reached{other.by, whole}
}

// astray says why the prefix is not reached as a whole.
func (r reached) astray() astray {
	a := astray{part: len(r.by[counts]) > 0}
	for s, names := range r.by[counts+1:] {
		if len(names) > 0 {
			a.why, a.through = counts+1+standing(s), strings.Join(names, ",")
			break
		}
	}
	return a
}

func (r routing) reach(p netip.Prefix) reached {
	var all reached
	for _, table := range r.tables {
		w := r.reachBy(table, p)
		all = all.and(w, all.whole || w.whole)
	}
	return all
}

// reachBy is how a table reaches a prefix. The longest route to an address
// counts; of those that are as long all do, since the kernel turns to another
// as soon as one goes.
func (r routing) reachBy(table []route, p netip.Prefix) reached {
	longest, splits := -1, false
	var here []route // a half of a prefix has no others: somebody may advertise a hundred thousand
	for _, t := range table {
		if !t.to.Overlaps(p) {
			continue
		}
		here = append(here, t)
		if t.to.Bits() > p.Bits() {
			splits = true
		} else {
			longest = max(longest, t.to.Bits())
		}
	}
	if splits {
		low, high := halves(p)
		a, b := r.reachBy(here, low), r.reachBy(here, high)
		return a.and(b, a.whole && b.whole)
	}
	var w reached
	for _, t := range here {
		if t.to.Bits() != longest {
			continue
		}
		for _, h := range t.hops {
			s := r.standing(t, h)
			w.by[s] = union(w.by[s], []string{h.through})
		}
	}
	w.whole = len(w.by[counts]) > 0
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

// union gives all names of some lists once, sorted.
func union(lists ...[]string) []string {
	all := slices.Concat(lists...)
	slices.Sort(all)
	return slices.Compact(all)
}

// readRouting reads the host's interfaces, addresses, rules and routes. It reads
// both families for any targets, since the default route of either leads to the
// Internet.
func readRouting(p *policy.Policy, device string, inside []string) (routing, error) {
	r := routing{inside: inside, tables: map[int][]route{}, permanent: map[string][]netip.Prefix{}, noIPv6: noIPv6(device)}
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return r, fmt.Errorf("interfaces: %w", err)
	}
	names := map[int]string{} // of those that may lead to targets
	for _, l := range links {
		a := l.Attrs()
		r.present = append(r.present, a.Name)
		if a.Name == "lo" || a.Name == device {
			continue
		}
		names[a.Index] = a.Name
		if a.MasterIndex == 0 && !slices.Contains(kernelTunnels, a.Name) {
			r.others++
		}
	}
	for _, name := range inside {
		if !slices.Contains(r.present, name) {
			r.missing = append(r.missing, name)
		}
	}
	addresses, err := dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, nl.NewIfAddrmsg(unix.AF_UNSPEC))
	if err != nil {
		return r, fmt.Errorf("addresses: %w", err)
	}
	for _, m := range addresses {
		if index, network, ok := parseAddress(m); ok {
			r.permanent[names[index]] = append(r.permanent[names[index]], network)
		}
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		if err := r.read(family, p.Tunnel.Addresses, device, names); err != nil {
			return r, err
		}
	}
	return r, nil
}

// noIPv6 reports whether IPv6 is switched off on an interface, or in the kernel.
func noIPv6(device string) bool {
	_, err := os.Stat(sysctls + "ipv6")
	return errors.Is(err, fs.ErrNotExist) || setting("ipv6/conf/"+device+"/disable_ipv6") == "1"
}

// kernelTunnels are interfaces that the kernel makes by itself.
var kernelTunnels = []string{"sit0", "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6tnl0", "ip6gre0"}

// dump asks rtnetlink for all that it has of a kind.
func dump(kind, answer int, header nl.NetlinkRequestData) ([][]byte, error) {
	return undisturbed(func() ([][]byte, error) {
		request := nl.NewNetlinkRequest(kind, unix.NLM_F_DUMP)
		request.AddData(header)
		return request.Execute(unix.NETLINK_ROUTE, uint16(answer))
	})
}

// read adds the tables of a family.
func (r *routing) read(family int, tunnel []netip.Prefix, device string, names map[int]string) error {
	rules, err := undisturbed(func() ([]netlink.Rule, error) { return netlink.RuleList(family) })
	switch {
	case errors.Is(err, unix.EAFNOSUPPORT):
		return nil // the kernel has no such family, and so no routes
	case errors.Is(err, unix.EOPNOTSUPP):
		// The kernel has no rules (CONFIG_IP_MULTIPLE_TABLES).
		rules = []netlink.Rule{{Table: unix.RT_TABLE_MAIN}}
	case err != nil:
		return fmt.Errorf("rules: %w", err)
	}
	// A table to which only the tunnel's packets are sent has been written for
	// them, and so has its default route.
	ours := map[int]bool{}
	for _, rule := range rules {
		if rule.Table == unix.RT_TABLE_UNSPEC || rule.Table == unix.RT_TABLE_LOCAL {
			continue
		}
		is, known := ours[rule.Table]
		ours[rule.Table] = (is || !known) && fromTunnel(rule, tunnel, device)
	}
	dumped, err := dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family)}})
	if err != nil {
		return fmt.Errorf("routes: %w", err)
	}
	for _, m := range dumped {
		one, table, ok := parseRoute(m, family, names)
		written, named := ours[table]
		if !ok || !named {
			continue
		}
		one.written = written
		if one.anywhere() {
			r.see(one)
		}
		up := slices.DeleteFunc(slices.Clone(one.hops), func(h hop) bool { return h.down })
		if len(up) == 0 && len(one.hops) > 0 {
			continue // without hops it would refuse
		}
		one.hops = up
		r.tables[table] = append(r.tables[table], one)
	}
	return nil
}

// parseRoute reads a route as the kernel writes it (rtnetlink(7)), and its
// table. The library does not tell whether a route expires, and panics on routes
// that are cut short.
func parseRoute(m []byte, family int, names map[int]string) (r route, table int, ok bool) {
	if len(m) < unix.SizeofRtMsg {
		return r, 0, false
	}
	header, attributes := nl.DeserializeRtMsg(m), m[unix.SizeofRtMsg:]
	named := find(attributes, unix.RTA_TABLE) // each route names it, unless it is cut short
	address, ok := addressIn(find(attributes, unix.RTA_DST), family)
	if !ok || len(named) != 4 || int(header.Family) != family || int(header.Dst_len) > address.BitLen() || header.Flags&unix.RTM_F_CLONED != 0 {
		return r, 0, false
	}
	cache := find(attributes, unix.RTA_CACHEINFO) // struct rta_cacheinfo
	r = route{to: netip.PrefixFrom(address, int(header.Dst_len)).Masked(), protocol: header.Protocol,
		expires: cache != nil && (len(cache) < 12 || binary.NativeEndian.Uint32(cache[8:]) != 0)}
	add := func(index, flags uint32, attributes []byte) {
		if name := names[int(index)]; name != "" && header.Type == unix.RTN_UNICAST {
			gateway, _ := addressIn(find(attributes, unix.RTA_GATEWAY), family)
			r.hops = append(r.hops, hop{name, gateway.IsLinkLocalUnicast(), flags&(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN) != 0})
		}
	}
	if out := find(attributes, unix.RTA_OIF); len(out) == 4 {
		add(binary.NativeEndian.Uint32(out), header.Flags, attributes)
	}
	// Each of several hops is a struct rtnexthop, with attributes of its own.
	for rest := find(attributes, unix.RTA_MULTIPATH); len(rest) > 0; {
		if len(rest) < unix.SizeofRtNexthop {
			return route{}, 0, false
		}
		length := int(binary.NativeEndian.Uint16(rest))
		if length < unix.SizeofRtNexthop || length > len(rest) {
			return route{}, 0, false
		}
		add(binary.NativeEndian.Uint32(rest[4:]), uint32(rest[2]), rest[unix.SizeofRtNexthop:length])
		rest = rest[min((length+3)&^3, len(rest)):]
	}
	return r, int(binary.NativeEndian.Uint32(named)), true
}

// parseAddress reads an address of an interface (rtnetlink(7)), and its network.
// Addresses with an end do not count, nor do those that were made of a router's
// advertisement: some programs give them no end.
func parseAddress(m []byte) (index int, network netip.Prefix, ok bool) {
	// Of if_addr.h, which golang.org/x/sys/unix does not have.
	const protocolAttribute, madeOfAdvertisement = 11, 2
	if len(m) < unix.SizeofIfAddrmsg {
		return 0, network, false
	}
	header, attributes := nl.DeserializeIfAddrmsg(m), m[unix.SizeofIfAddrmsg:]
	b := find(attributes, unix.IFA_ADDRESS) // the other end's, where there are just two: its network counts
	address, ok := addressIn(b, int(header.Family))
	bits := find(attributes, unix.IFA_FLAGS)
	if !ok || b == nil || len(bits) != 4 {
		return 0, network, false
	}
	flags, protocol := binary.NativeEndian.Uint32(bits), find(attributes, protocolAttribute)
	if flags&unix.IFA_F_PERMANENT == 0 || flags&unix.IFA_F_MANAGETEMPADDR != 0 || number(protocol) == madeOfAdvertisement {
		return 0, network, false
	}
	network = netip.PrefixFrom(address, int(header.Prefixlen)).Masked()
	return int(header.Index), network, network.IsValid()
}

// addressIn reads an address of a family; none is that of the default route.
func addressIn(b []byte, family int) (netip.Addr, bool) {
	size := map[int]int{unix.AF_INET: 4, unix.AF_INET6: 16}[family]
	if b == nil {
		b = make([]byte, size)
	}
	a, ok := netip.AddrFromSlice(b)
	return a, ok && len(b) == size
}

// fromTunnel reports whether a rule applies to the tunnel's packets alone.
func fromTunnel(rule netlink.Rule, tunnel []netip.Prefix, device string) bool {
	if rule.Invert || rule.IifName == device {
		return !rule.Invert
	}
	from, err := netip.ParsePrefix(rule.Src.String())
	return err == nil && slices.ContainsFunc(tunnel, func(t netip.Prefix) bool { return t.Bits() <= from.Bits() && t.Overlaps(from) })
}

// undisturbed repeats a reading that was interrupted by a change.
func undisturbed[T any](read func() (T, error)) (T, error) {
	const attempts = 5
	for range attempts - 1 {
		if got, err := read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return got, err
		}
	}
	return read()
}

// HostAddresses lists the host's addresses, but for those of an interface.
func HostAddresses(except string) ([]netip.Addr, error) {
	tunnel := 0
	if i, err := net.InterfaceByName(except); err == nil {
		tunnel = i.Index
	}
	all, err := undisturbed(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list this machine's addresses: %w", err)
	}
	var own []netip.Addr
	for _, a := range all {
		if a.IPNet != nil && a.LinkIndex != tunnel {
			addr, _ := netip.AddrFromSlice(a.IP)
			own = append(own, addr.Unmap())
		}
	}
	return own, nil
}
