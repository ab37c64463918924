package firewall

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// wayText is how one target is reached: interfaces, and the hint if there is one.
func wayText(w paths, prefix string) string {
	text := strings.Join(w.to[netip.MustParsePrefix(prefix)], " ")
	if w.complete != !slices.ContainsFunc(w.hints, func(h view.Hint) bool { return strings.Contains(h.Message.String(), "no route to") }) {
		text += fmt.Sprintf(" (complete: %t)", w.complete)
	}
	for _, h := range w.hints {
		if strings.Contains(h.Message.String(), " but ") && !strings.Contains(h.Message.String(), "set KIDOBAN_INSIDE_INTERFACES=") {
			text += " (the hint does not say what to set)"
		}
		what, _, _ := strings.Cut(h.Message.String(), ":")
		text += "; " + strings.TrimPrefix(what, "the host has no route to ")
		if (len(h.Targets) > 0) != (strings.Contains(what, "no route to") && !strings.Contains(what, "its only interface")) {
			text += fmt.Sprintf(" (keeps packets from %q)", h.Targets)
		}
	}
	return strings.TrimPrefix(text, "; ")
}

// TestPathsTo says by which interfaces a target is reached, given the tables.
func TestPathsTo(t *testing.T) {
	const none, wan = "ehr", "ehr but the default route, through wan, by which nothing is sent there"
	const advertised = "ehr but what DHCP or a router may have advertised, through wan, by which nothing is sent there"
	const beside = "ehr but one where the default route is or was, through wan, by which nothing is sent there"
	written := func(protocol uint8, to string, through ...string) route {
		r := route{to: netip.MustParsePrefix(to), protocol: protocol}
		for _, name := range through {
			name, gateway, _ := strings.Cut(name, " via ")
			r.hops = append(r.hops, hop{through: name, linkLocal: gateway != "" && netip.MustParseAddr(gateway).IsLinkLocalUnicast()})
		}
		return r
	}
	by := func(to string, through ...string) route { return written(unix.RTPROT_BOOT, to, through...) }
	attached := func(to string, through ...string) route { return written(unix.RTPROT_KERNEL, to, through...) }
	told := func(to string, through ...string) route { return written(unix.RTPROT_DHCP, to, through...) }
	expiring := func(r route) route { r.expires = true; return r }
	own := func(r route) route { r.written = true; return r }
	// Networks of permanent addresses. On lease and bare there are none but
	// those that every interface has.
	permanent := map[string][]netip.Prefix{
		"wan": lab.Prefixes("192.0.2.0/24", "2001:db8:f::/64", "fe80::/64"), "wan2": lab.Prefixes("198.51.100.0/24", "fe80::/64"),
		"lan": lab.Prefixes("10.1.0.0/24", "fd01::/64", "fe80::/64"), "lan2": lab.Prefixes("10.3.0.0/24", "fd03::/64", "fe80::/64"),
		"lease": lab.Prefixes("fe80::/64"), "auto": lab.Prefixes("169.254.0.0/16", "fe80::/64"), "bare": nil,
	}
	for _, tt := range []struct {
		name   string
		target string
		others int
		tables [][]route
		want   string
		inside string // KIDOBAN_INSIDE_INTERFACES
		once   string // interfaces that had the default route
	}{
		{name: "a network of the host", target: "10.1.0.5/32", others: 2, tables: [][]route{{by("0.0.0.0/0", "wan"), by("10.1.0.0/24", "lan")}}, want: "lan"},
		{name: "a route of its own", target: "10.1.0.5/32", others: 2, tables: [][]route{{by("0.0.0.0/0", "wan"), by("10.1.0.5/32", "lan")}}, want: "lan"},
		{name: "a wide one", target: "10.1.0.5/32", others: 2, tables: [][]route{{by("0.0.0.0/0", "wan"), by("10.0.0.0/8", "lan")}}, want: "lan"},
		{name: "one through the card to the Internet", target: "10.1.0.5/32", others: 2, tables: [][]route{{by("0.0.0.0/0", "wan"), by("10.0.0.0/8", "wan")}}, want: beside},
		{name: "nothing", target: "10.1.0.5/32", others: 2, tables: nil, want: none},
		{name: "routes to others", target: "10.1.0.5/32", others: 2, tables: [][]route{{by("10.2.0.0/16", "lan"), by("10.1.0.6/32", "lan"), by("fd01::/64", "lan")}}, want: none},
		{name: "the default route", target: "10.1.0.5/32", others: 2, tables: [][]route{{by("0.0.0.0/0", "wan"), by("10.2.0.0/16", "lan")}}, want: wan},
		{name: "halves of it, as VPN clients write them", target: "10.1.0.5/32", others: 2, tables: [][]route{{by("0.0.0.0/1", "wan"), by("128.0.0.0/1", "wan")}}, want: wan},
		{name: "of a host with one card", target: "10.1.0.5/32", others: 1, tables: [][]route{{by("0.0.0.0/0", "wan")}}, want: "wan; ehr but the default route, through its only interface wan"},
		{name: "of a host with none any more", target: "10.1.0.5/32", others: 1, tables: [][]route{{}}, want: none},
		{name: "two next hops", target: "10.1.0.5/32", others: 3, tables: [][]route{{by("10.1.0.0/24", "lan", "lan2")}}, want: "lan lan2"},
		{name: "two routes of which one is in reserve", target: "10.1.0.5/32", others: 3, tables: [][]route{{by("10.1.0.0/24", "lan2"), by("10.1.0.0/24", "lan")}}, want: "lan lan2"},
		{name: "a longer one", target: "10.1.0.5/32", others: 3, tables: [][]route{{by("10.0.0.0/8", "wan"), by("10.1.0.0/24", "lan"), by("10.1.0.0/16", "lan2")}}, want: "lan"},
		{name: "one that refuses", target: "10.1.0.5/32", others: 2, tables: [][]route{{by("0.0.0.0/0", "wan"), by("10.0.0.0/8")}}, want: none},
		{name: "one below one that refuses", target: "10.1.0.5/32", others: 2, tables: [][]route{{by("10.0.0.0/8"), by("10.1.0.0/24", "lan")}}, want: "lan"},
		{name: "several tables", target: "10.1.0.5/32", others: 3, tables: [][]route{{by("0.0.0.0/0", "wan"), by("10.1.0.0/24", "lan")}, {by("10.0.0.0/8", "lan2")}, {by("0.0.0.0/0", "wan2")}}, want: "lan lan2"},
		{name: "a table with the default route alone, and one that knows better", target: "10.1.0.5/32", others: 2, tables: [][]route{{by("0.0.0.0/0", "wan")}, {by("10.0.0.0/8", "lan")}}, want: "lan"},
		{name: "a prefix over two networks", target: "10.1.2.0/28", others: 3, tables: [][]route{{by("0.0.0.0/0", "wan"), by("10.1.2.0/29", "lan"), by("10.1.2.8/29", "lan2")}}, want: "lan lan2"},
		{name: "a prefix of which one address goes elsewhere", target: "10.1.2.0/28", others: 3, tables: [][]route{{by("10.1.2.0/24", "lan"), by("10.1.2.15/32", "lan2")}}, want: "lan lan2"},
		{name: "a prefix of which a part is not there", target: "10.1.2.0/28", others: 2, tables: [][]route{{by("0.0.0.0/0", "wan"), by("10.1.2.0/29", "lan")}}, want: "lan; a part of ehr but the default route, through wan, by which nothing is sent there"},
		{name: "a prefix of which one address is nowhere", target: "10.1.2.0/28", others: 2, tables: [][]route{{by("10.1.2.0/24", "lan"), by("10.1.2.15/32")}}, want: "lan; a part of ehr"},
		{name: "a route that DHCP told", target: "10.1.0.5/32", others: 2, tables: [][]route{{told("10.1.0.0/24", "wan")}}, want: advertised},
		{name: "beside one of the host's own", target: "10.1.0.5/32", others: 2, tables: [][]route{{told("10.1.0.0/24", "wan"), by("10.1.0.0/24", "lan")}}, want: "lan"},
		{name: "a longer one that DHCP told", target: "10.1.0.5/32", others: 2, tables: [][]route{{told("10.1.0.5/32", "wan"), by("10.1.0.0/24", "lan")}}, want: advertised},
		{name: "a route that DHCP told a host with one card", target: "10.1.0.5/32", others: 1, tables: [][]route{{told("10.1.0.0/24", "wan")}}, want: "wan; ehr but what DHCP or a router may have advertised, through its only interface wan"},
		{name: "IPv6", target: "fd01::5/128", others: 2, tables: [][]route{{by("::/0", "wan"), by("fd01::/64", "lan"), by("0.0.0.0/0", "wan2")}}, want: "lan"},
		{name: "IPv6, by the default route", target: "2001:db8::5/128", others: 2, tables: [][]route{{by("::/0", "wan")}}, want: wan},
		{name: "IPv6, by all that is not reserved", target: "2001:db8::5/128", others: 2, tables: [][]route{{by("2000::/3", "wan")}}, want: wan},
		{name: "IPv6, a prefix over two networks", target: "fd01::/112", others: 3, tables: [][]route{{by("fd01::/113", "lan"), by("fd01::8000/113", "lan2")}}, want: "lan lan2"},
		{name: "IPv6, whoever the other family is sent to", target: "fd01::5/128", others: 2, tables: [][]route{{by("0.0.0.0/0", "lan"), by("fd01::/64", "lan")}},
			want: "ehr but one where the default route is or was, through lan, by which nothing is sent there"},
		{name: "where the default route was once", target: "10.1.0.5/32", others: 2, tables: [][]route{{by("10.1.0.5/32", "wan"), by("10.1.0.0/24", "lan")}}, once: "wan", want: beside},
		{name: "several default routes, two of them with a network of the site's", target: "10.1.0.5/32", others: 2,
			tables: [][]route{{by("0.0.0.0/0", "wan"), by("0.0.0.0/0", "lan"), attached("10.1.0.0/24", "lan")}},
			want:   "ehr but one where the default route is or was, through lan, by which nothing is sent there"},
		{name: "a table for the tunnel alone", target: "10.1.0.5/32", others: 3, tables: [][]route{{by("0.0.0.0/0", "wan"), by("10.1.0.0/24", "lan")}, {own(by("0.0.0.0/0", "lan2"))}}, want: "lan lan2"},
		{name: "an attached network", target: "10.1.0.5/32", others: 2, tables: [][]route{{by("0.0.0.0/0", "wan"), attached("10.1.0.0/24", "lan")}}, want: "lan"},
		{name: "an attached network without such an address", target: "10.1.0.5/32", others: 2, tables: [][]route{{attached("10.1.0.0/29", "wan2"), attached("10.1.0.0/24", "lan")}},
			want: "ehr but what DHCP or a router may have advertised, through wan2, by which nothing is sent there"},
		{name: "an attached network with an end", target: "fd01::5/128", others: 2, tables: [][]route{{expiring(attached("fd01::/64", "lan"))}},
			want: "ehr but what DHCP or a router may have advertised, through lan, by which nothing is sent there"},
		{name: "an attached network of a host with one card", target: "10.1.0.5/32", others: 1, tables: [][]route{{attached("10.1.0.0/24", "lease"), by("0.0.0.0/0", "lease")}},
			want: "lease; ehr but what DHCP or a router may have advertised, through its only interface lease"},
		{name: "a route of its own of a host with one card", target: "10.1.0.5/32", others: 1, tables: [][]route{{by("10.1.0.0/16", "wan"), by("0.0.0.0/0", "wan")}}, want: "wan"},
		{name: "an advertised prefix without an end", target: "fd01::5/128", others: 2, tables: [][]route{{attached("fd01::5/128", "wan"), attached("fd01::/64", "lan"), by("::/0", "wan")}}, want: advertised},
		{name: "a route where no address is permanent", target: "10.1.0.5/32", others: 2, tables: [][]route{{by("10.1.0.0/16", "lease")}},
			want: "ehr but what DHCP or a router may have advertised, through lease, by which nothing is sent there"},
		{name: "a route where there is no address", target: "10.1.0.5/32", others: 2, tables: [][]route{{by("10.1.0.0/16", "bare")}},
			want: "ehr but what DHCP or a router may have advertised, through bare, by which nothing is sent there"},
		{name: "IPv6, an address of the other family alone is permanent", target: "fd01::5/128", others: 2, tables: [][]route{{by("fd01::/48", "wan2 via fd09::1")}},
			want: "ehr but what DHCP or a router may have advertised, through wan2, by which nothing is sent there"},
		{name: "IPv6, a link-local gateway", target: "fd01::5/128", others: 2, tables: [][]route{{by("fd01::/48", "lan via fe80::1")}}, want: "lan"},
		{name: "IPv6, a link-local gateway where nothing else is permanent", target: "fd01::5/128", others: 2, tables: [][]route{{by("fd01::/48", "lease via fe80::1")}}, want: "lease"},
		{name: "IPv4, a link-local gateway", target: "10.1.0.5/32", others: 2, tables: [][]route{{by("10.1.0.0/16", "auto via 169.254.9.9")}},
			want: "ehr but what DHCP or a router may have advertised, through auto, by which nothing is sent there"},
		{name: "two next hops of which one does not count", target: "10.1.0.5/32", others: 3, tables: [][]route{{by("10.1.0.0/16", "lan", "lease")}}, want: "lan"},

		{name: "named, the default route", target: "10.1.0.5/32", others: 2, inside: "wan", tables: [][]route{{by("0.0.0.0/0", "wan"), by("10.2.0.0/16", "lan")}}, want: "wan"},
		{name: "named, beside the default route", target: "10.1.0.5/32", others: 2, inside: "lan,wan", tables: [][]route{{by("0.0.0.0/0", "wan"), by("10.0.0.0/8", "wan")}}, want: "wan"},
		{name: "named, what DHCP told", target: "10.1.0.5/32", others: 2, inside: "lease", tables: [][]route{{by("0.0.0.0/0", "wan"), told("10.1.0.0/24", "lease")}}, want: "lease"},
		{name: "named, an attached network with an end", target: "fd01::5/128", others: 2, inside: "lease", tables: [][]route{{expiring(attached("fd01::/64", "lease"))}}, want: "lease"},
		{name: "not named", target: "10.1.0.5/32", others: 2, inside: "lan2", tables: [][]route{{by("0.0.0.0/0", "wan"), by("10.1.0.0/24", "lan")}},
			want: "ehr but one that KIDOBAN_INSIDE_INTERFACES does not allow, through lan, by which nothing is sent there"},
		{name: "not named, the only interface", target: "10.1.0.5/32", others: 1, inside: "lan", tables: [][]route{{by("0.0.0.0/0", "wan")}},
			want: "ehr but one that KIDOBAN_INSIDE_INTERFACES does not allow, through wan, by which nothing is sent there"},
		{name: "not named, in the tunnel's own table", target: "10.1.0.5/32", others: 3, inside: "lan", tables: [][]route{{by("10.1.0.0/24", "lan")}, {own(by("0.0.0.0/0", "lan2"))}}, want: "lan"},
		{name: "named, and no route", target: "10.1.0.5/32", others: 2, inside: "lan", tables: nil, want: none},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := routing{sights: sights{others: tt.others}, tables: map[int][]route{}, permanent: permanent}
			if tt.inside != "" {
				r.inside = strings.Split(tt.inside, ",")
			}
			if tt.once != "" {
				r.outside = strings.Split(tt.once, ",")
			}
			for i, table := range tt.tables {
				r.tables[i+1] = table
				for _, one := range table {
					if one.anywhere() {
						r.see(one)
					}
				}
			}
			p := &policy.Policy{Targets: []*policy.Target{{Name: "ehr", Prefix: netip.MustParsePrefix(tt.target)}}}
			w := pathsTo(p, "kido0", r)
			if _, told := w.to[p.Targets[0].Prefix]; !told {
				t.Error("the firewall is not told of it, and would take the paths of a wider target")
			}
			if got := wayText(w, tt.target); got != tt.want {
				t.Errorf("reached by %q, want %q", got, tt.want)
			}
			list, other := w.ipv4, w.ipv6
			if strings.Contains(tt.target, ":") {
				list, other = other, list
			}
			if want := append([]string{"kido0"}, w.to[p.Targets[0].Prefix]...); !slices.Equal(list, want) || len(other) > 0 {
				t.Errorf("%v forward, and of the other family %v; want %v and none", list, other, want)
			}
		})
	}
}

// TestFault75FloodOfRoutes: routes to a hundred thousand parts of a target are
// looked through in a moment, though each splits it. If each part looked at all
// of them, this would take longer than tests may.
func TestFault75FloodOfRoutes(t *testing.T) {
	target := netip.MustParsePrefix("fd01::8:0/112")
	own := route{to: netip.MustParsePrefix("fd01::/64"), hops: []hop{{through: "lan"}}, protocol: unix.RTPROT_KERNEL}
	table := []route{own}
	for bits := 128; bits > 112 && len(table) < 100_000; bits-- {
		for part := range 1 << (bits - 112) {
			a := target.Addr().As16()
			binary.BigEndian.PutUint16(a[14:], uint16(part<<(128-bits)))
			table = append(table, route{to: netip.PrefixFrom(netip.AddrFrom16(a), bits), hops: []hop{{through: "wan"}}, protocol: unix.RTPROT_KERNEL})
		}
	}
	r := routing{sights: sights{others: 2}, tables: map[int][]route{unix.RT_TABLE_MAIN: table}, permanent: map[string][]netip.Prefix{"lan": {own.to}}}
	w := pathsTo(&policy.Policy{Targets: []*policy.Target{{Name: "ehr", Prefix: target}}}, "kido0", r)
	if got, want := wayText(w, target.String()), "ehr but what DHCP or a router may have advertised, through wan, by which nothing is sent there"; got != want {
		t.Errorf("with %d routes it is reached by %q, want %q", len(table), got, want)
	}
}

// TestReadRouting: what the kernel says of rules and routes, which `ip` wrote.
func TestReadRouting(t *testing.T) {
	const wan = "but the default route, through wan, by which nothing is sent there"
	const advertised = "but what DHCP or a router may have advertised, through wan, by which nothing is sent there"
	const beside = "but one where the default route is or was, through wan, by which nothing is sent there"
	for _, tt := range []struct {
		name   string
		set    string // by sh
		want4  string // how 10.1.0.5 is reached
		want6  string // how fd01::5 is
		others int    // 0: 3
		inside string // KIDOBAN_INSIDE_INTERFACES
	}{
		{name: "as it is", want4: "lan", want6: "lan"},
		{name: "the site's interface is down", set: "ip link set lan down", want4: wan, want6: wan},
		{name: "the site's interface is gone", set: "ip link del lan", want4: wan, want6: wan, others: 2},
		{name: "it has another name", set: "ip link set lan down; ip link set lan name lan-of-15-bytes; ip link set lan-of-15-bytes up; ip addr add fd01::1/64 dev lan-of-15-bytes",
			want4: "lan-of-15-bytes", want6: "lan-of-15-bytes"},
		{name: "two next hops", set: "ip route add 10.1.0.5/32 nexthop via 10.1.0.9 nexthop via 10.3.0.9; ip -6 route add fd01::5/128 nexthop via fd01::9 nexthop via fd03::9",
			want4: "lan lan2", want6: "lan lan2"},
		{name: "a group of next hops", set: "ip nexthop add id 1 via 10.1.0.9 dev lan; ip nexthop add id 2 via 10.3.0.9 dev lan2; ip nexthop add id 3 group 1/2; ip route add 10.1.0.5/32 nhid 3;" +
			" ip -6 nexthop add id 4 via fd01::9 dev lan; ip -6 nexthop add id 5 via fd03::9 dev lan2; ip nexthop add id 6 group 4/5; ip -6 route add fd01::5/128 nhid 6",
			want4: "lan lan2", want6: "lan lan2"},
		{name: "a route in reserve", set: "ip route add 10.1.0.0/24 via 10.3.0.9 metric 200; ip -6 route add fd01::/64 via fd03::9 metric 2000", want4: "lan lan2", want6: "lan lan2"},
		{name: "IPv4 through IPv6", set: "ip route add 10.1.0.5/32 via inet6 fd03::9 dev lan2", want4: "lan2", want6: "lan"},
		{name: "the kernel refuses", set: "ip route add unreachable 10.1.0.5/32; ip -6 route add blackhole fd01::5/128", want4: "", want6: ""},
		{name: "into the tunnel", set: "ip route add 10.1.0.5/32 via 10.99.0.9; ip -6 route add fd01::5/128 via fd00:99::9", want4: "", want6: ""},
		{name: "what DHCP tells, what a router advertises", set: "ip route add 10.1.0.5/32 via 192.0.2.1 proto dhcp; ip -6 route add fd01::5/128 via 2001:db8:f::1 expires 500", want4: advertised, want6: advertised},
		{name: "that, but not longer than the host's own", set: "ip route add 10.1.0.0/16 via 192.0.2.1 proto dhcp; ip -6 route add fd01::/64 dev wan expires 500; ip -6 route add fd01::/60 via 2001:db8:f::1 proto ra", want4: "lan", want6: "lan"},
		{name: "an address that expires", set: "ip -6 addr change fd01::1/64 dev lan valid_lft 500 preferred_lft 400", want4: "lan", want6: "but what DHCP or a router may have advertised, through lan, by which nothing is sent there"},
		{name: "an address with an end", set: "ip addr add 10.1.0.6/30 dev lan2 valid_lft 500 preferred_lft 400",
			want4: "but what DHCP or a router may have advertised, through lan2, by which nothing is sent there", want6: "lan"},
		{name: "the address of another end", set: "ip addr add 10.1.0.1 peer 10.1.0.5/32 dev lan2; ip -6 addr add fd03::2 peer fd01::5/128 dev lan2", want4: "lan2", want6: "lan2"},
		{name: "an address of which temporary ones are made", set: "ip -6 addr add fd01::2/64 dev lan2 mngtmpaddr", want4: "lan", want6: "lan"},
		{name: "an address without its route, which somebody else writes", set: "ip -6 addr add fd01::2/120 dev lan2 noprefixroute; ip -6 route add fd01::/120 dev lan2 proto kernel metric 100;" +
			" ip addr add 10.1.0.4/29 dev lan2 noprefixroute; ip route add 10.1.0.0/29 dev lan2 proto kernel scope link metric 100", want4: "lan2", want6: "lan2"},
		{name: "a route beside the default route", set: "ip route add 10.1.0.5/32 via 192.0.2.9; ip -6 route add fd01::5/128 via 2001:db8:f::9", want4: beside, want6: beside},
		{name: "a default route of the other family", set: "ip -6 route del default; ip -6 route add fd01::5/128 via 2001:db8:f::9", want4: "lan", want6: beside},
		{name: "a route by a link-local gateway", set: "ip -6 addr flush dev lan2 scope global; ip -6 route add fd01::5/128 via fe80::9 dev lan2", want4: "lan", want6: "lan2"},
		{name: "several by link-local gateways", set: "ip -6 addr flush dev lan2 scope global; ip -6 route add fd01::5/128 nexthop via fe80::9 dev lan2 nexthop via fe80::9 dev lan", want4: "lan", want6: "lan lan2"},
		{name: "a route where nothing is permanent", set: "ip -6 addr flush dev lan2 scope global; ip -6 route add fd01::5/128 dev lan2; ip -4 addr flush dev lan2; ip route add 10.1.0.5/32 dev lan2",
			want4: "but what DHCP or a router may have advertised, through lan2, by which nothing is sent there", want6: "but what DHCP or a router may have advertised, through lan2, by which nothing is sent there"},
		{name: "a default route that a router advertises at the site", set: "ip -6 route add default via fe80::9 dev lan proto ra metric 4096; ip -6 route add default via fe80::9 dev lan metric 4097 expires 500", want4: "lan", want6: "lan"},
		{name: "one where nothing of its family is permanent", set: "ip -6 addr flush dev lan2 scope global; ip -6 route add default via fe80::9 dev lan2 proto ra metric 4096; ip route add 10.1.0.5/32 via 10.3.0.9", want4: "lan2", want6: "lan"},
		{name: "one where nothing is permanent", set: "ip -6 addr flush dev lan2 scope global; ip -4 addr flush dev lan2; ip -6 route add default via fe80::9 dev lan2 proto ra metric 4096; ip -6 route add fd01::5/128 via fe80::9 dev lan2", want4: "lan",
			want6: "but one where the default route is or was, through lan2, by which nothing is sent there"},
		{name: "named, but not there", inside: "lan,lan9", want4: "lan; KIDOBAN_INSIDE_INTERFACES names lan9, which the host does not have", want6: "lan; KIDOBAN_INSIDE_INTERFACES names lan9, which the host does not have"},
		{name: "named", inside: "wan", set: "ip route add 10.1.0.5/32 via 192.0.2.9; ip -6 route del fd01::/64 dev lan", want4: "wan", want6: "wan"},
		{name: "a table that no rule names", set: "ip route add 10.1.0.0/24 dev lan2 table 100; ip -6 route add fd01::/64 dev lan2 table 100", want4: "lan", want6: "lan"},
		{name: "a table for marks", set: "ip rule add fwmark 7 lookup 100; ip route add 10.0.0.0/8 via 10.3.0.9 table 100; ip -6 rule add fwmark 7 lookup 100; ip -6 route add fd01::/64 via fd03::9 table 100",
			want4: "lan lan2", want6: "lan lan2"},
		{name: "a table for marks, with a default route", set: "ip rule add fwmark 7 lookup 100; ip route add default via 10.3.0.9 table 100; ip -6 rule add fwmark 7 lookup 100; ip -6 route add default via fd03::9 table 100",
			want4: "lan", want6: "lan"},
		{name: "a table for the tunnel, with a default route", set: "ip rule add iif kido0 lookup 100; ip route add default via 10.3.0.9 table 100; ip -6 rule add from fd00:99::/64 lookup 100; ip -6 route add default via fd03::9 table 100",
			want4: "lan lan2", want6: "lan lan2"},
		{name: "a table for one engineer, with a default route", set: "ip rule add from 10.99.0.2 lookup 100; ip route add default via 10.3.0.9 table 100; ip -6 rule add iif kido0 to fd01::/16 lookup 100; ip -6 route add default via fd03::9 table 100",
			want4: "lan lan2", want6: "lan lan2"},
		{name: "a table for the tunnel and others, with a default route", set: "ip rule add iif kido0 lookup 100; ip rule add iif lan lookup 100; ip route add default via 10.3.0.9 table 100; ip -6 rule add from fd00::/8 lookup 100; ip -6 route add default via fd03::9 table 100",
			want4: "lan", want6: "lan"},
		{name: "a table for all but the tunnel, with a default route", set: "ip rule add not from 10.99.0.0/24 lookup 100; ip route add default via 10.3.0.9 table 100; ip -6 rule add not iif kido0 lookup 100; ip -6 route add default via fd03::9 table 100",
			want4: "lan", want6: "lan"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := lab.New(t)
			h, peer := l.Host("gateway"), l.Host("peer")
			for i, name := range []string{"kido0", "wan", "lan", "lan2"} {
				a := lab.Prefixes([]string{"10.99.0.1/24", "192.0.2.2/24", "10.1.0.1/24", "10.3.0.1/24"}[i], []string{"fd00:99::1/64", "2001:db8:f::2/64", "fd01::1/64", "fd03::1/64"}[i])
				l.Link(h, name, a, peer, fmt.Sprintf("eth%d", i), nil)
			}
			h.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("192.0.2.1"))
			h.Route(netip.MustParsePrefix("::/0"), netip.MustParseAddr("2001:db8:f::1"))
			if out, err := h.Command(t.Context(), "sh", "-ec", tt.set).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", tt.set, err, out)
			}
			for target, want := range map[string]string{"10.1.0.5/32": tt.want4, "fd01::5/128": tt.want6} {
				p := &policy.Policy{Tunnel: policy.Tunnel{Addresses: lab.Prefixes("10.99.0.1/24", "fd00:99::1/64")},
					Targets: []*policy.Target{{Name: "ehr", Prefix: netip.MustParsePrefix(target)}}}
				var r routing
				var inside []string
				if tt.inside != "" {
					inside = strings.Split(tt.inside, ",")
				}
				if err := h.Do(func() (err error) { r, err = readRouting(p, "kido0", inside); return err }); err != nil {
					t.Fatal(err)
				}
				w := pathsTo(p, "kido0", r)
				if got := strings.TrimPrefix(strings.TrimPrefix(wayText(w, target), "ehr"), " "); got != want {
					t.Errorf("%s is reached by %q, want %q; tables %v", target, got, want, slices.Collect(maps.Keys(r.tables)))
				}
				if want := max(tt.others, 3); tt.others == 0 && r.others != want || tt.others != 0 && r.others != tt.others {
					t.Errorf("%d interfaces besides the tunnel", r.others)
				}
			}
		})
	}
}

// TestDeaf: by which interfaces the host needs no router's advertisement: those
// that lead inside and have an address of their own, or a default route has been
// elsewhere, if no router has advertised one by them.
func TestDeaf(t *testing.T) {
	l := lab.New(t)
	h, peer := l.Host("gateway"), l.Host("peer")
	for i, name := range []string{"lan", "lan2", "other"} {
		l.Link(h, name, lab.Prefixes([]string{"10.1.0.1/24", "10.3.0.1/24", "10.4.0.1/24"}[i]), peer, fmt.Sprintf("eth%d", i), nil)
	}
	p := &policy.Policy{Targets: []*policy.Target{{Name: "ehr", Prefix: netip.MustParsePrefix("10.1.0.5/32")}, {Name: "pacs", Prefix: netip.MustParsePrefix("10.3.0.5/32")}}}
	f := &Firewall{kernel: &ruleset{options: Options{Interface: "kido0", Inside: []string{"lan", "lan2", "other"}}}}
	for _, step := range []struct {
		args string
		want []string
	}{
		{"-6 route add fd07::/64 via fe80::9 dev lan", nil}, // the network may not be up yet
		{"-6 addr add fd01::1/64 dev lan valid_lft 500 preferred_lft 400", nil},
		{"-6 addr add fd03::1/64 dev lan2", nil}, // its router may not have been heard yet
		{"-6 route add default via fe80::9 dev lan2 metric 20", []string{"lan2"}},
		{"-6 route add default via fe80::9 dev other proto ra", []string{"lan2"}},
		{"-6 route add default via fe80::9 dev lan2 metric 10 expires 500", nil},
		{"-6 addr change fd01::1/64 dev lan valid_lft forever preferred_lft forever", []string{"lan"}},
		{"-6 route flush default", []string{"lan"}}, // the router may come back
		{"route add default via 10.1.0.9", []string{"lan"}},
		{"link set lan down", []string{"lan"}}, // or it would listen when it comes back
		{"link set lan up", []string{"lan"}},
	} {
		if out, err := h.Command(t.Context(), "ip", strings.Fields(step.args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", step.args, err, out)
		}
		var w paths
		_ = h.Do(func() error { w = f.look(p); return nil })
		if !slices.Equal(w.deaf, step.want) {
			t.Errorf("after ip %s: %q, want %q", step.args, w.deaf, step.want)
		}
	}
	f = &Firewall{kernel: &ruleset{options: testOptions}}
	for _, name := range []string{"lan2", "other"} {
		if out, err := h.Command(t.Context(), "ip", "link", "del", name).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	var w paths
	_ = h.Do(func() error { w = f.look(p); return nil })
	if len(w.deaf) > 0 || !slices.Equal(w.to[p.Targets[0].Prefix], []string{"lan"}) {
		t.Errorf("with one card alone: %q deaf, ehr by %q; want none, and lan", w.deaf, w.to[p.Targets[0].Prefix])
	}
}

// TestHostAddresses: those of the tunnel are not the host's own.
func TestHostAddresses(t *testing.T) {
	l := lab.New(t)
	h := l.Host("gateway")
	for i, name := range []string{"kido0", "lan"} {
		l.Link(h, name, lab.Prefixes([]string{"10.99.0.1/24", "10.1.0.1/24"}[i]), l.Host(name), "eth0", nil)
	}
	var own []netip.Addr
	if err := h.Do(func() (err error) { own, err = HostAddresses("kido0"); return err }); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(own, netip.MustParseAddr("10.1.0.1")) || slices.Contains(own, netip.MustParseAddr("10.99.0.1")) {
		t.Errorf("%v: want 10.1.0.1 among them, and not 10.99.0.1", own)
	}
}
