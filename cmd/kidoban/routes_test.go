package main

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// wayText is how one target is reached: interfaces, and the hint if there is one.
func wayText(w paths, prefix string) string {
	text := strings.Join(w.to[netip.MustParsePrefix(prefix)], " ")
	if w.complete != (len(w.hints) == 0) {
		text += " (complete, with hints)"
	}
	for _, h := range w.hints {
		what, _, _ := strings.Cut(h.Text, ":")
		text += "; " + strings.TrimPrefix(what, "the host has no route to ")
		if (len(h.Targets) > 0) == strings.Contains(what, "its only interface") {
			text += fmt.Sprintf(" (keeps packets from %q)", h.Targets)
		}
	}
	return strings.TrimPrefix(text, "; ")
}

// TestPathsTo says by which interfaces a target is reached, given the tables.
func TestPathsTo(t *testing.T) {
	const none, wan = "ehr", "ehr but the default route, through wan, by which nothing is sent there"
	by := func(to string, through ...string) route {
		p := netip.MustParsePrefix(to)
		return route{to: p, through: through, byDefault: leadsAnywhere(p)}
	}
	told := func(to string, through ...string) route {
		r := by(to, through...)
		r.told = true
		return r
	}
	for _, tt := range []struct {
		name   string
		target string
		others int
		tables [][]route
		want   string
	}{
		{"a network of the host", "10.1.0.5/32", 2, [][]route{{by("0.0.0.0/0", "wan"), by("10.1.0.0/24", "lan")}}, "lan"},
		{"a route of its own", "10.1.0.5/32", 2, [][]route{{by("0.0.0.0/0", "wan"), by("10.1.0.5/32", "lan")}}, "lan"},
		{"a wide one", "10.1.0.5/32", 2, [][]route{{by("0.0.0.0/0", "wan"), by("10.0.0.0/8", "lan")}}, "lan"},
		{"one through the card to the Internet", "10.1.0.5/32", 2, [][]route{{by("0.0.0.0/0", "wan"), by("10.0.0.0/8", "wan")}}, "wan"},
		{"nothing", "10.1.0.5/32", 2, nil, none},
		{"routes to others", "10.1.0.5/32", 2, [][]route{{by("10.2.0.0/16", "lan"), by("10.1.0.6/32", "lan"), by("fd01::/64", "lan")}}, none},
		{"the default route", "10.1.0.5/32", 2, [][]route{{by("0.0.0.0/0", "wan"), by("10.2.0.0/16", "lan")}}, wan},
		{"halves of it, as VPN clients write them", "10.1.0.5/32", 2, [][]route{{by("0.0.0.0/1", "wan"), by("128.0.0.0/1", "wan")}}, wan},
		{"of a host with one card", "10.1.0.5/32", 1, [][]route{{by("0.0.0.0/0", "wan")}}, "wan; ehr but the default route, through its only interface wan"},
		{"of a host with none any more", "10.1.0.5/32", 1, [][]route{{}}, none},
		{"two next hops", "10.1.0.5/32", 3, [][]route{{by("10.1.0.0/24", "lan", "lan2")}}, "lan lan2"},
		{"two routes of which one is in reserve", "10.1.0.5/32", 3, [][]route{{by("10.1.0.0/24", "lan2"), by("10.1.0.0/24", "lan")}}, "lan lan2"},
		{"a longer one", "10.1.0.5/32", 3, [][]route{{by("10.0.0.0/8", "wan"), by("10.1.0.0/24", "lan"), by("10.1.0.0/16", "lan2")}}, "lan"},
		{"one that refuses", "10.1.0.5/32", 2, [][]route{{by("0.0.0.0/0", "wan"), by("10.0.0.0/8")}}, none},
		{"one below one that refuses", "10.1.0.5/32", 2, [][]route{{by("10.0.0.0/8"), by("10.1.0.0/24", "lan")}}, "lan"},
		{"several tables", "10.1.0.5/32", 3, [][]route{{by("0.0.0.0/0", "wan"), by("10.1.0.0/24", "lan")}, {by("10.0.0.0/8", "lan2")}, {by("0.0.0.0/0", "wan2")}}, "lan lan2"},
		{"a table with the default route alone, and one that knows better", "10.1.0.5/32", 2, [][]route{{by("0.0.0.0/0", "wan")}, {by("10.0.0.0/8", "lan")}}, "lan"},
		{"a prefix over two networks", "10.1.2.0/28", 3, [][]route{{by("0.0.0.0/0", "wan"), by("10.1.2.0/29", "lan"), by("10.1.2.8/29", "lan2")}}, "lan lan2"},
		{"a prefix of which one address goes elsewhere", "10.1.2.0/28", 3, [][]route{{by("10.1.2.0/24", "lan"), by("10.1.2.15/32", "lan2")}}, "lan lan2"},
		{"a prefix of which a part is not there", "10.1.2.0/28", 2, [][]route{{by("0.0.0.0/0", "wan"), by("10.1.2.0/29", "lan")}},
			"lan; a part of ehr but the default route, through wan, by which nothing is sent there"},
		{"a prefix of which one address is nowhere", "10.1.2.0/28", 2, [][]route{{by("10.1.2.0/24", "lan"), by("10.1.2.15/32")}}, "lan; a part of ehr"},
		{"a route that DHCP told", "10.1.0.5/32", 2, [][]route{{told("10.1.0.0/24", "wan")}}, "ehr but what DHCP or a router advertised, through wan, by which nothing is sent there"},
		{"beside one of the host's own", "10.1.0.5/32", 2, [][]route{{told("10.1.0.0/24", "wan"), by("10.1.0.0/24", "lan")}}, "lan"},
		{"a longer one that DHCP told", "10.1.0.5/32", 2, [][]route{{told("10.1.0.5/32", "wan"), by("10.1.0.0/24", "lan")}}, "ehr but what DHCP or a router advertised, through wan, by which nothing is sent there"},
		{"a route that DHCP told a host with one card", "10.1.0.5/32", 1, [][]route{{told("10.1.0.0/24", "wan")}}, "wan; ehr but what DHCP or a router advertised, through its only interface wan"},
		{"IPv6", "fd01::5/128", 2, [][]route{{by("::/0", "wan"), by("fd01::/64", "lan"), by("0.0.0.0/0", "wan2")}}, "lan"},
		{"IPv6, by the default route", "2001:db8::5/128", 2, [][]route{{by("::/0", "wan")}}, wan},
		{"IPv6, by all that is not reserved", "2001:db8::5/128", 2, [][]route{{by("2000::/3", "wan")}}, wan},
		{"IPv6, a prefix over two networks", "fd01::/112", 3, [][]route{{by("fd01::/113", "lan"), by("fd01::8000/113", "lan2")}}, "lan lan2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := routing{tables: map[int][]route{}, others: tt.others}
			for i, table := range tt.tables {
				r.tables[i+1] = table
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

// TestReadRouting: what the kernel says of rules and routes, which `ip` wrote.
func TestReadRouting(t *testing.T) {
	const wan = "but the default route, through wan, by which nothing is sent there"
	const advertised = "but what DHCP or a router advertised, through wan, by which nothing is sent there"
	for _, tt := range []struct {
		name   string
		set    string // by sh
		want4  string // how 10.1.0.5 is reached
		want6  string // how fd01::5 is
		others int    // 0: 3
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
		{name: "an address that expires", set: "ip -6 addr change fd01::1/64 dev lan valid_lft 500 preferred_lft 400", want4: "lan", want6: "but what DHCP or a router advertised, through lan, by which nothing is sent there"},
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
			h.Route(everywhere[0], netip.MustParseAddr("192.0.2.1"))
			h.Route(everywhere[1], netip.MustParseAddr("2001:db8:f::1"))
			if out, err := h.Command(t.Context(), "sh", "-ec", tt.set).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", tt.set, err, out)
			}
			for target, want := range map[string]string{"10.1.0.5/32": tt.want4, "fd01::5/128": tt.want6} {
				p := &policy.Policy{Tunnel: policy.Tunnel{Addresses: lab.Prefixes("10.99.0.1/24", "fd00:99::1/64")},
					Targets: []*policy.Target{{Name: "ehr", Prefix: netip.MustParsePrefix(target)}}}
				var r routing
				if err := h.Do(func() (err error) { r, err = readRouting(p, "kido0"); return err }); err != nil {
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

// TestSeveralPaths: two ways lead to ehr. Whichever the kernel takes for a
// flow, the flow works.
func TestSeveralPaths(t *testing.T) {
	for _, tt := range []struct {
		name     string
		routes   func(g *ground) []string // of the gateway, by ip
		wantLAN0 bool                     // flows go by lan0 as well
	}{
		{"next hops by turns", func(*ground) []string {
			return []string{"route add 10.1.0.5/32 nexthop via 10.1.0.6 dev lan0 nexthop via 10.3.0.5 dev lan1", "-6 route add fd01::5/128 nexthop via fd01::6 dev lan0 nexthop via fd03::5 dev lan1"}
		}, true},
		{"a table for the tunnel", func(g *ground) []string {
			return []string{"rule add iif " + g.device + " lookup 100", "route add default via 10.3.0.5 table 100", "-6 rule add from fd00:99::/64 lookup 100", "-6 route add default via fd03::5 table 100"}
		}, false},
		{"a table for one engineer", func(g *ground) []string {
			return []string{"rule add from 10.99.0.2 lookup 100", "route add 10.1.0.0/24 via 10.3.0.5 table 100", "-6 rule add from fd00:99::2 lookup 100", "-6 route add fd01::/64 via fd03::5 table 100"}
		}, false},
		{"a table for a service", func(*ground) []string {
			return []string{"rule add ipproto udp dport 53 lookup 100", "route add 10.1.0.0/24 via 10.3.0.5 table 100", "-6 rule add ipproto udp dport 53 lookup 100", "-6 route add fd01::/64 via fd03::5 table 100"}
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
			g.t = t
			g.lab.Link(g.gateway, "lan1", lab.Prefixes("10.3.0.1/24", "fd03::1/64"), g.hospital, "eth1", lab.Prefixes("10.3.0.5/24", "fd03::5/64"))
			lan1 := g.gateway.Capture("lan1")
			// Flows go by turns, not pairs of addresses.
			g.gateway.Sysctl("net.ipv4.fib_multipath_hash_policy", "1")
			g.gateway.Sysctl("net.ipv6.fib_multipath_hash_policy", "1")
			for _, args := range tt.routes(g) {
				g.mustRun(g.gateway, "ip", strings.Fields(args)...)
			}
			if !tt.wantLAN0 {
				// Answers come back by where the requests went.
				g.mustRun(g.hospital, "ip", "route", "add", "10.99.0.0/24", "via", "10.3.0.1")
				g.mustRun(g.hospital, "ip", "-6", "route", "add", "fd00:99::/64", "via", "fd03::1")
			}
			g.serve()
			g.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "pacs")})
			g.mustEnter(g.client(g.medisys, sato, 4))
			for _, to := range []netip.Addr{ehr4, ehr6} {
				goes := func(d time.Duration) error { return g.reach(g.medisys, "udp", netip.AddrPortFrom(to, 53), d) }
				for range 24 { // and again where a datagram is lost
					lab.WaitFor(t, eventually, fmt.Sprintf("%v answers", to), func() bool { return goes(time.Second) == nil })
				}
				by := func(c *lab.Capture) bool { return len(c.Packets(lab.Outgoing, lab.To(to), toPort(53))) > 0 }
				if by0, by1 := by(g.lan), by(lan1); by0 != tt.wantLAN0 || !by1 {
					t.Errorf("flows to %v went by lan0: %v, by lan1: %v; want %v and true", to, by0, by1, tt.wantLAN0)
				}
			}
			g.hinted("no route to", false)
		})
	}
}
