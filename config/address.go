package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// neverUnicast are ranges that no router forwards (RFC 6890, RFC 4291).
var neverUnicast = []struct {
	prefix netip.Prefix
	name   string
}{
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"},
	{netip.MustParsePrefix("::/128"), "unspecified"},
}

// parsePrefix reads a unicast "203.0.113.10" or "198.51.100.0/28" without host bits.
func parsePrefix(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if !strings.Contains(text, "/") {
		var a netip.Addr
		a, err = netip.ParseAddr(text)
		p = netip.PrefixFrom(a.WithZone(""), a.BitLen())
		switch {
		case err != nil && isHost(text):
			return p, fmt.Errorf("%s is a name: allowed are addresses and prefixes only, since whoever answers for a name could change who enters", quote(text))
		case err != nil:
			return p, fmt.Errorf("%s is no address: allowed is as in 203.0.113.10, 198.51.100.0/28 or 2001:db8:1::/64", quote(text))
		case a.Zone() != "":
			return p, fmt.Errorf("%s names an interface (%%): allowed is the address alone", quote(text))
		}
	}
	switch {
	case err != nil:
		return p, fmt.Errorf("%s is no prefix: allowed is as in 198.51.100.0/28 or 2001:db8:1::/64", quote(text))
	case !p.Addr().Is4In6() && p.Masked() != p:
		return p, fmt.Errorf("%s has bits set behind its length: the prefix would be %v, the address alone %v", text, p.Masked(), p.Addr())
	}
	return p, checkUnicast(text, p)
}

func checkUnicast(text string, p netip.Prefix) error {
	switch {
	case p.Addr().Is4In6():
		return fmt.Errorf("%s is an IPv4 address written as IPv6: write %v", text, policy.Short(netip.PrefixFrom(p.Addr().Unmap(), max(p.Bits()-96, 0))))
	case p.Bits() == 0:
		return fmt.Errorf("%s is every address there is: list those that are meant", text)
	}
	for _, never := range neverUnicast {
		if p.Overlaps(never.prefix) {
			return fmt.Errorf("%s lies in or contains %v (%s): allowed are unicast addresses", text, never.prefix, never.name)
		}
	}
	return nil
}

// parseAddress reads one unicast address.
func parseAddress(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return a, fmt.Errorf("%s is no address: allowed is as in 10.99.0.2 or fd00:99::2, without a length", quote(text))
	}
	return a, checkUnicast(text, netip.PrefixFrom(a, a.BitLen()))
}

// maxSources bounds a list of sources: each is compared with each other one.
const maxSources = 1000

// upTo gives the first items of a list: the time to compare each with each grows with the square.
func (d *decoder) upTo(most int, items []value) []value {
	if len(items) <= most {
		return items
	}
	d.errorf(items[most], "is one more than %d items: allowed are %d", most, most)
	return items[:most]
}

// sources reads a list of addresses and prefixes.
func (d *decoder) sources(v value) []source {
	var all []source
	for _, item := range d.upTo(maxSources, d.list(v)) {
		p, ok := read(d, item, parsePrefix)
		if !ok {
			continue
		}
		duplicate := false
		for _, other := range all {
			if other.prefix == p {
				d.errorf(item, "%v is there twice", policy.Short(p))
				duplicate = true
			} else if other.prefix.Overlaps(p) {
				d.warn(item, "policy_source_overlap", view.Args{"source": policy.Short(p), "other": policy.Short(other.prefix)})
			}
		}
		if !duplicate {
			all = append(all, source{p, item})
		}
	}
	return all
}

type source struct {
	prefix netip.Prefix
	value  value
}

// tunnel reads the gateway's own end of the tunnel.
func (d *decoder) tunnel(v value) policy.Tunnel {
	f := d.mapping(v, "addresses", "endpoint")
	var t policy.Tunnel
	for _, item := range d.list(f["addresses"]) {
		p, ok := read(d, item, parseTunnelAddress)
		if ok && slices.ContainsFunc(t.Addresses, func(other netip.Prefix) bool { return other.Addr().Is4() == p.Addr().Is4() }) {
			d.errorf(item, "%v is a second prefix of its family: allowed is one for IPv4 and one for IPv6", p)
			ok = false
		}
		if ok {
			t.Addresses = append(t.Addresses, p)
		}
		d.tunnelGaps = d.tunnelGaps || !ok
	}
	t.Endpoint, _ = read(d, f["endpoint"], func(text string) (string, error) { return text, checkHostPort(text) })
	if t.Endpoint == exampleEndpoint {
		d.warn(f["endpoint"], "policy_endpoint_example", nil)
	}
	return t
}

func parseTunnelAddress(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%s is no address with a length: allowed is as in 10.99.0.1/24 or fd00:99::1/64", quote(text))
	}
	if err := checkUnicast(text, netip.PrefixFrom(p.Addr(), p.Addr().BitLen())); err != nil {
		return p, err
	}
	switch {
	case p.Bits() < 8:
		err = fmt.Errorf("%v is wider than /8: allowed is /8 to /30 for IPv4 and /8 to /126 for IPv6", p)
	case p.Addr().BitLen()-p.Bits() < 2:
		err = fmt.Errorf("%v leaves no address for an engineer: allowed is /8 to /30 for IPv4 and /8 to /126 for IPv6", p)
	case isEdge(p, p.Addr()):
		err = fmt.Errorf("%v is the first or last address of its prefix, which names the network: allowed is one between, as %v", p, netip.PrefixFrom(p.Masked().Addr().Next(), p.Bits()))
	}
	return p, err
}

// isEdge reports whether an address is the first of a prefix (the network, or the routers' anycast
// address, RFC 4291, section 2.6.1) or, in IPv4, the last (broadcast).
func isEdge(p netip.Prefix, a netip.Addr) bool {
	if a == p.Masked().Addr() {
		return true
	}
	return a.Is4() && !p.Contains(a.Next())
}

// services reads a target's ports.
func (d *decoder) services(v value, family netip.Addr) []policy.Service {
	var all []policy.Service
	for _, item := range d.upTo(maxElements, d.list(v)) { // each is one element at least
		s, ok := read(d, item, func(text string) (policy.Service, error) { return parseService(text, family) })
		if !ok {
			continue
		}
		i := slices.IndexFunc(all, func(other policy.Service) bool {
			return other.Protocol == s.Protocol && other.First <= s.Last && s.First <= other.Last
		})
		if i >= 0 {
			d.errorf(item, "%v is already in %v", s, all[i])
			continue
		}
		all = append(all, s)
		d.warnRisky(item, s)
	}
	return all
}

func parseService(text string, family netip.Addr) (policy.Service, error) {
	name, ports, _ := strings.Cut(text, "/")
	first, last, isRange := strings.Cut(ports, "-")
	if !isRange {
		last = first
	}
	s := policy.Service{Protocol: map[string]uint8{"tcp": policy.TCP, "udp": policy.UDP}[name]}
	var ok1, ok2 bool
	s.First, ok1 = parsePort(first)
	s.Last, ok2 = parsePort(last)
	switch {
	case text == "icmp" && family.Is6():
		return policy.Service{Protocol: policy.ICMPv6}, nil
	case text == "icmp":
		return policy.Service{Protocol: policy.ICMP}, nil
	case strings.HasPrefix(text, "icmp/"):
		return s, fmt.Errorf("%s: icmp has no ports, it is ping: allowed is icmp alone", quote(text))
	case s.Protocol == 0 || !ok1 || !ok2:
		return s, fmt.Errorf("%s is no port: allowed is as in tcp/22, udp/53, tcp/5900-5910 or icmp, with ports from 1 to 65535", quote(text))
	case s.Last < s.First:
		return s, fmt.Errorf("%s ends before it begins: allowed is %v", quote(text), policy.Service{Protocol: s.Protocol, First: s.Last, Last: s.First})
	}
	return s, nil
}

// outside refuses sources inside the tunnel, and gives the others.
func (r *reader) outside(sources []source) []source {
	return slices.DeleteFunc(sources, func(s source) bool {
		own, inside := r.inTunnel(s.prefix)
		if inside {
			r.errorf(s.value, "%v overlaps the tunnel %v: nobody comes to the gateway from inside the tunnel", policy.Short(s.prefix), own)
		}
		return inside
	})
}

// inTunnel gives the prefix of the tunnel that p overlaps.
func (r *reader) inTunnel(p netip.Prefix) (own netip.Prefix, inside bool) {
	i := slices.IndexFunc(r.policy.Tunnel.Addresses, p.Overlaps)
	if i < 0 {
		return own, false
	}
	return r.policy.Tunnel.Addresses[i].Masked(), true
}

func (r *reader) target(e entry) *policy.Target {
	t := &policy.Target{Name: e.name}
	f := r.mapping(e.value, "address", "ports", "masquerade?", "role?")
	p, ok := read(&r.decoder, f["address"], parsePrefix)
	if ok {
		t.Prefix = p
		if own, inside := r.inTunnel(p); inside {
			r.errorf(f["address"], "%v overlaps the tunnel %v: a target is behind the gateway, not in the tunnel", policy.Short(p), own)
			ok = false
		}
		for _, own := range r.host.Addresses {
			if own = own.Unmap().WithZone(""); p.Contains(own) {
				r.errorf(f["address"], "%v contains the gateway's own address %v: allowed are addresses behind the gateway", policy.Short(p), own)
			}
		}
	}
	if ok {
		t.Zone = r.zoneOf(f["address"], p)
	}
	t.Services = r.services(f["ports"], p.Addr())
	t.Role, _ = read(&r.decoder, f["role"], parseRole)
	t.Masquerade = r.boolean(f["masquerade"])
	if ok {
		r.placed = append(r.placed, placedTarget{t, e.named()})
	}
	if n := elements(t); ok && n > maxElements {
		r.errorf(e.named(), "opens %s (addresses x ports): allowed is %d for each engineer; list fewer addresses or ports", counted(n), maxElements)
	}
	return t
}

// parseRole reads the word that says what a target is.
func parseRole(text string) (string, error) {
	if !isName(text) {
		return "", fmt.Errorf("%s is no role: allowed is a word of a-z, 0-9 and hyphen, as in ehr", quote(text))
	}
	return text, nil
}

// maxElements bounds the (tunnel address, target address, protocol, port) tuples of one engineer,
// which all are elements of the kernel's sets.
const maxElements = 4096

// tooMany stands for every greater number.
const tooMany = 1 << 40

// elements counts a target's addresses times its ports.
func elements(t *policy.Target) int {
	if !t.Prefix.IsValid() {
		return 0
	}
	hostBits := t.Prefix.Addr().BitLen() - t.Prefix.Bits()
	if hostBits > 24 {
		return tooMany
	}
	ports := 0
	for _, s := range t.Services {
		ports += int(s.Last-s.First) + 1
	}
	return min(ports<<hostBits, tooMany)
}

func counted(n int) string {
	if n >= tooMany {
		return "more elements than can be counted"
	}
	return strconv.Itoa(n) + " elements"
}
