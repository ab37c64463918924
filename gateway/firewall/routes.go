package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	mdnetlink "github.com/mdlayher/netlink"
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
	ipv4, ipv6 []string // interfaces on which packets of its flows arrive: from the tunnel, and from the targets
	complete   bool     // each target has a route that counts
	hints      []view.Hint

	// deaf are the interfaces, sorted, on which the ruleset drops router
	// advertisements: a host there could make itself the way to all of IPv6. They
	// are a path to some target and have a permanent IPv6 address, so they need no
	// advertisement for one. The host has had an IPv6 default route, and no router
	// has advertised one there: before that the host may still wait for it, since
	// the gateway starts before the network. An interface that was deaf once stays
	// so until the process ends, also while its link is down.
	deaf []string
}

// routing decides the interface by which the host sends a packet of the tunnel.
type routing struct {
	sights
	inside    []string                  // KIDOBAN_INSIDE_INTERFACES
	missing   []string                  // those of inside that the host does not have
	tables    map[int][]route           // those that a rule names
	permanent map[string][]netip.Prefix // by interface, the networks of addresses that nobody on the wire gave it
}

// sights are facts that must not be forgotten: a host on the wire could take
// back the route or address by which an interface was judged.
type sights struct {
	others     int      // network cards
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
	protocol uint8 // who wrote it, RTPROT_
	expires  bool
	written  bool // for the tunnel: nothing else is sent to its table
}

// hop is where a route leads.
type hop struct {
	through   string // name of an interface
	linkLocal bool   // its gateway has a link-local address
	down      bool   // its link is dead, or has no carrier: nothing goes there
}

// anywhere reports whether a route is the default route: a route to everywhere
// that was not written for the tunnel.
func (r route) anywhere() bool { return leadsAnywhere(r.to) && !r.written }

// heard reports whether a router advertised a route, as far as that shows.
func (r route) heard() bool { return r.expires || r.protocol == unix.RTPROT_RA }

// through names the interfaces of a route.
func (r route) through() []string {
	var names []string
	for _, h := range r.hops {
		names = append(names, h.through)
	}
	return union(names, nil)
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

// see notes by which interfaces the default route leads.
func (r *routing) see(to route) {
	if to.heard() {
		r.advertised = union(r.advertised, to.through())
	} else {
		r.outside = union(r.outside, to.through())
	}
	if to.to.Addr().Is6() {
		r.default6 = union(r.default6, to.through())
	}
}

// standing is the verdict on a route through an interface.
type standing int

const (
	counts    standing = iota
	unnamed            // KIDOBAN_INSIDE_INTERFACES does not name the interface
	told               // it may come from somebody on the wire
	beside             // the interface has, or had, the default route
	byDefault          // it is the default route
	standings          // how many there are
)

// whyNot names a route that does not count.
var whyNot = [standings]view.Code{
	unnamed:   view.RouteNotNamed,
	told:      view.RouteTold,
	beside:    view.RouteBeside,
	byDefault: view.RouteDefault,
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
// DHCP or a router may look like routes of the kernel or an administrator:
// without an end, of protocol kernel or boot. The addresses that come with them
// have an end, as a rule. So the route of an attached network needs a permanent
// address with its prefix, and any other route needs one of its family on its
// interface. For an IPv6 gateway with a link-local address a link-local one is
// enough. In IPv4 (169.254/16) it is not: programs assign it where there is no
// other.
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
	lost, used := map[astray][]string{}, []string(nil)
	for _, t := range p.Targets {
		prefix := t.Prefix.Masked()
		reached := r.reach(prefix)
		through := reached.by[counts]
		if !reached.whole {
			a := reached.astray()
			lost[a] = append(lost[a], t.Name)
			if !strict {
				through = reached.any()
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
	for a, targets := range lost {
		named := union(union(r.inside, used), strings.Split(a.through, ","))
		h := view.Hint{Message: a.hint(targets, strict, named)}
		if strict || a.why == counts {
			h.Targets = targets // nothing is sent there
		}
		w.hints = append(w.hints, h)
	}
	if len(r.missing) > 0 {
		w.hints = append(w.hints, view.Hint{Message: view.Say(view.InsideMissing, view.Args{"interfaces": r.missing})})
	}
	slices.SortFunc(w.hints, func(a, b view.Hint) int { return strings.Compare(a.Message.String(), b.Message.String()) })
	w.deaf = slices.DeleteFunc(union(used, r.deaf), func(name string) bool {
		settled := len(r.default6) > 0 && r.fixed(name, true) || slices.Contains(r.deaf, name)
		return !settled || slices.Contains(r.advertised, name)
	})
	return w
}

// hint tells operators about targets. Named are the interfaces that would lead
// inside if the one that does not count does.
func (a astray) hint(targets []string, strict bool, named []string) view.Message {
	what := few(targets)
	if a.part {
		what = view.Say(view.RoutePart, view.Args{"targets": what})
	}
	if a.why == counts {
		return view.Say(view.NoRoute, view.Args{"targets": what})
	}
	code := view.RouteAstray
	switch {
	case !strict:
		code = view.RouteAstrayOnly
	case a.why == unnamed:
		code = view.RouteUnnamed
	}
	return view.Say(code, view.Args{"targets": what, "why": view.Say(whyNot[a.why], nil), "through": strings.ReplaceAll(a.through, ",", ", "), "inside": strings.Join(named, ",")})
}

// few names targets, but not all of many.
func few(targets []string) any {
	const most = 5
	if len(targets) > most+1 {
		return view.Say(view.TargetsMore, view.Args{"targets": targets[:most], "count": len(targets) - most})
	}
	return targets
}

// reached is how a prefix is.
type reached struct {
	by    [standings][]string // interfaces, sorted
	whole bool                // a table has routes that count to each address
}

func (r reached) and(other reached, whole bool) reached {
	for s := range r.by {
		r.by[s] = union(r.by[s], other.by[s])
	}
	r.whole = whole
	return r
}

// any gives the interfaces of all routes.
func (r reached) any() []string {
	return union(slices.Concat(r.by[:]...), nil)
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

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// leadsAnywhere reports whether a prefix stands for the Internet: the default
// route, or one of those that VPN clients (0.0.0.0/1 and 128.0.0.0/1) and IPv6
// hosts (2000::/3, RFC 4291) write for it.
func leadsAnywhere(to netip.Prefix) bool {
	return to.Bits() <= 1 || to.Addr().Is6() && to.Bits() <= 3
}

// readRouting reads the host's interfaces, addresses, rules and routes. It reads
// both families for any targets, since the default route of either leads to the
// Internet.
func readRouting(p *policy.Policy, device string, inside []string) (routing, error) {
	r := routing{inside: inside, tables: map[int][]route{}}
	names, err := interfaces()
	if err == nil {
		r.others, err = cards(device)
	}
	if err != nil {
		return r, fmt.Errorf("interfaces: %w", err)
	}
	all := slices.Collect(maps.Values(names))
	for _, name := range inside {
		if !slices.Contains(all, name) {
			r.missing = append(r.missing, name)
		}
	}
	for index, name := range names {
		if name == "lo" || name == device {
			delete(names, index) // these lead to no target
		}
	}
	if err := r.readAddresses(names); err != nil {
		return r, fmt.Errorf("addresses: %w", err)
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
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

// cards counts the network cards. lo, the tunnel, parts of another interface (a
// bond or a bridge) and the kernel's own tunnels do not count.
func cards(device string) (int, error) {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return 0, err
	}
	count := 0
	for _, l := range links {
		switch a := l.Attrs(); {
		case a.Name == "lo" || a.Name == device || a.MasterIndex != 0:
		case slices.Contains([]string{"sit0", "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6tnl0", "ip6gre0"}, a.Name):
		default:
			count++
		}
	}
	return count, nil
}

// dump asks rtnetlink for all that it has of a kind.
func dump(kind, answer int, header nl.NetlinkRequestData) ([][]byte, error) {
	return undisturbed(func() ([][]byte, error) {
		request := nl.NewNetlinkRequest(kind, unix.NLM_F_DUMP)
		request.AddData(header)
		return request.Execute(unix.NETLINK_ROUTE, uint16(answer))
	})
}

// readAddresses reads which networks the permanent addresses of interfaces are
// of.
func (r *routing) readAddresses(names map[int]string) error {
	dumped, err := dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, nl.NewIfAddrmsg(unix.AF_UNSPEC))
	if err != nil {
		return err
	}
	r.permanent = map[string][]netip.Prefix{}
	for _, m := range dumped {
		if index, network, ok := parseAddress(m); ok {
			r.permanent[names[index]] = append(r.permanent[names[index]], network)
		}
	}
	return nil
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
		others := !fromTunnel(rule, tunnel, device)
		if is, ok := ours[rule.Table]; !ok || is {
			ours[rule.Table] = !others
		}
	}
	dumped, err := dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family)}})
	if err != nil {
		return fmt.Errorf("routes: %w", err)
	}
	for _, m := range dumped {
		one, table, ok := parseRoute(m, family, names)
		if !ok {
			continue
		}
		written, named := ours[table]
		if !named {
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
	header := nl.DeserializeRtMsg(m)
	address := netip.IPv4Unspecified()
	if family == unix.AF_INET6 {
		address = netip.IPv6Unspecified()
	}
	if int(header.Family) != family || int(header.Dst_len) > address.BitLen() || header.Flags&unix.RTM_F_CLONED != 0 {
		return r, 0, false
	}
	attributes, err := mdnetlink.NewAttributeDecoder(m[unix.SizeofRtMsg:])
	if err != nil {
		return r, 0, false
	}
	table, r.protocol = int(header.Table), header.Protocol
	add := func(index uint32, gateway netip.Addr, flags uint32) {
		if name := names[int(index)]; name != "" && header.Type == unix.RTN_UNICAST {
			r.hops = append(r.hops, hop{name, gateway.IsLinkLocalUnicast(), flags&(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN) != 0})
		}
	}
	var out uint32
	var gateway netip.Addr
	for attributes.Next() {
		switch attributes.Type() {
		case unix.RTA_DST:
			address = addressIn(attributes, family)
		case unix.RTA_TABLE:
			table = int(attributes.Uint32())
		case unix.RTA_OIF:
			out = attributes.Uint32()
		case unix.RTA_GATEWAY:
			gateway = addressIn(attributes, family)
		case unix.RTA_CACHEINFO: // struct rta_cacheinfo
			attributes.Do(func(b []byte) error {
				if len(b) < 12 {
					return errLength
				}
				r.expires = binary.NativeEndian.Uint32(b[8:]) != 0
				return nil
			})
		case unix.RTA_MULTIPATH:
			attributes.Do(func(b []byte) error { return parseHops(b, family, add) })
		}
	}
	if attributes.Err() != nil {
		return route{}, 0, false
	}
	add(out, gateway, header.Flags)
	r.to = netip.PrefixFrom(address, int(header.Dst_len)).Masked()
	return r, table, true
}

// parseHops reads the next hops of a route that has several (struct rtnexthop,
// each with attributes of its own).
func parseHops(b []byte, family int, add func(index uint32, gateway netip.Addr, flags uint32)) error {
	for len(b) > 0 {
		if len(b) < unix.SizeofRtNexthop {
			return errLength
		}
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtNexthop || length > len(b) {
			return errLength
		}
		attributes, err := mdnetlink.NewAttributeDecoder(b[unix.SizeofRtNexthop:length])
		if err != nil {
			return err
		}
		var gateway netip.Addr
		for attributes.Next() {
			if attributes.Type() == unix.RTA_GATEWAY {
				gateway = addressIn(attributes, family)
			}
		}
		if attributes.Err() != nil {
			return attributes.Err()
		}
		add(binary.NativeEndian.Uint32(b[4:]), gateway, uint32(b[2]))
		b = b[min((length+3)&^3, len(b)):]
	}
	return nil
}

// parseAddress reads an address of an interface (rtnetlink(7)), and of which
// network it is. One that has an end is not taken, nor is one that was made of a
// router's advertisement, which some programs give no end.
func parseAddress(m []byte) (index int, network netip.Prefix, ok bool) {
	// Of if_addr.h, which golang.org/x/sys/unix does not have.
	const protocolAttribute, madeOfAdvertisement = 11, 2
	if len(m) < unix.SizeofIfAddrmsg {
		return 0, network, false
	}
	header := nl.DeserializeIfAddrmsg(m)
	attributes, err := mdnetlink.NewAttributeDecoder(m[unix.SizeofIfAddrmsg:])
	if err != nil {
		return 0, network, false
	}
	var address netip.Addr
	var flags uint32
	var protocol uint8
	for attributes.Next() {
		switch attributes.Type() {
		case unix.IFA_ADDRESS: // of the other end, where there are just two: its network counts
			address = addressIn(attributes, int(header.Family))
		case unix.IFA_FLAGS:
			flags = attributes.Uint32()
		case protocolAttribute:
			protocol = attributes.Uint8()
		}
	}
	if attributes.Err() != nil || flags&unix.IFA_F_PERMANENT == 0 || flags&unix.IFA_F_MANAGETEMPADDR != 0 || protocol == madeOfAdvertisement {
		return 0, network, false
	}
	network = netip.PrefixFrom(address, int(header.Prefixlen)).Masked()
	return int(header.Index), network, network.IsValid()
}

var errLength = errors.New("it has another length")

// addressIn reads an attribute that is an address of a family.
func addressIn(attributes *mdnetlink.AttributeDecoder, family int) (a netip.Addr) {
	attributes.Do(func(b []byte) error {
		if want := map[int]int{unix.AF_INET: 4, unix.AF_INET6: 16}[family]; len(b) != want {
			return errLength
		}
		a, _ = netip.AddrFromSlice(b)
		return nil
	})
	return a
}

// fromTunnel reports whether a rule applies to the tunnel's packets alone.
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
	names, err := interfaces()
	if err != nil {
		return nil, fmt.Errorf("list this machine's interfaces: %w", err)
	}
	all, err := undisturbed(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list this machine's addresses: %w", err)
	}
	var own []netip.Addr
	for _, a := range all {
		if a.IPNet == nil || names[a.LinkIndex] == except {
			continue
		}
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			own = append(own, addr.Unmap())
		}
	}
	return own, nil
}
