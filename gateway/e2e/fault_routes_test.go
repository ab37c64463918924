package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/lab"
)

// forever is the lifetime of what a router advertises without an end (RFC
// 4861, section 4.6.2).
const forever = 0xffffffff

// TestFault75WhoeverIsOnTheWire: somebody on the wire of one of the gateway's
// interfaces, the one to the Internet or another that does not lead to the
// site, has the kernel send there what is for a target, by a route that looks
// like one of the host's own. Nothing of the flow goes there, status names the
// interface, and when the route has gone what is listed works again.
func TestFault75WhoeverIsOnTheWire(t *testing.T) {
	told := func(name string) string {
		return "but what DHCP or a router may have advertised, through " + name + ","
	}
	for _, tt := range []struct {
		name   string
		device string // on whose wire somebody is
		before string // set on the gateway before it starts, by sh
		tell   func(g *ground, somebody *lab.Host, by string)
		set    string // what a DHCP client's script then does, by sh
		target netip.Addr
		hint   string
		undo   string
	}{
		{name: "a prefix without an end is advertised on the way to the Internet", device: "wan0", tell: advertiseEHR,
			target: ehr6, hint: told("wan0"), undo: "ip -6 route del fd01::5/128 dev wan0"},
		{name: "a prefix without an end is advertised elsewhere", device: "dmz0", tell: advertiseEHR,
			target: ehr6, hint: told("dmz0"), undo: "ip -6 route del fd01::5/128 dev dmz0"},
		{name: "DHCP gives a route beside the default route", device: "wan0", set: "ip route add 10.1.0.5/32 via 192.0.2.1 dev wan0",
			target: ehr4, hint: "but one where the default route is or was, through wan0,", undo: "ip route del 10.1.0.5/32 dev wan0"},
		{name: "DHCP takes the default route back and gives another", device: "wan0",
			before: "ip route add 203.0.113.0/24 via 192.0.2.1", set: "ip route del default; ip route add 10.1.0.5/32 via 192.0.2.1 dev wan0",
			target: ehr4, hint: "but one where the default route is or was, through wan0,", undo: "ip route del 10.1.0.5/32 dev wan0"},
		{name: "DHCP gives an address and a route elsewhere", device: "dmz0",
			set:    "ip addr add 172.20.0.2/24 dev dmz0 valid_lft 600 preferred_lft 600; ip route add 10.1.0.5/32 via 172.20.0.1 dev dmz0",
			target: ehr4, hint: told("dmz0"), undo: "ip route del 10.1.0.5/32 dev dmz0"},
		{name: "DHCP gives an address among the site's, on the way to the Internet", device: "wan0",
			set:    "ip addr add 10.1.0.2/29 dev wan0 valid_lft 600 preferred_lft 600",
			target: ehr4, hint: told("wan0"), undo: "ip addr del 10.1.0.2/29 dev wan0"},
		{name: "DHCP gives an address among the site's, elsewhere", device: "dmz0",
			set:    "ip addr add 10.1.0.2/29 dev dmz0 valid_lft 600 preferred_lft 600",
			target: ehr4, hint: told("dmz0"), undo: "ip addr del 10.1.0.2/29 dev dmz0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
			wire, somebody, by := g.wan, g.internet, "eth3"
			if tt.device == "dmz0" {
				somebody, by = g.lab.Host("somebody"), "eth0"
				g.lab.Link(g.gateway, "dmz0", lab.Prefixes("2001:db8:d::2/64"), somebody, by, lab.Prefixes("172.20.0.1/24", "2001:db8:d::1/64"))
				wire = g.gateway.Capture("dmz0")
			}
			// Somebody answers in the target's name.
			g.mustRun(somebody, "ip", "addr", "add", "10.1.0.5/32", "dev", by)
			g.mustRun(somebody, "ip", "-6", "addr", "add", "fd01::5/128", "dev", by, "nodad")
			g.mustRun(g.gateway, "sh", "-ec", tt.before)
			g.serve()
			g.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "pacs")})
			g.mustEnter(g.client(g.medisys, sato, 4))
			g.satosFlow().Close()
			hinted := func() bool { return g.hints(tt.hint) }
			if hinted() {
				t.Fatalf("status has a hint %q before anybody does anything", tt.hint)
			}

			if tt.tell != nil {
				tt.tell(g, somebody, by)
			}
			g.mustRun(g.gateway, "sh", "-ec", tt.set)
			g.believes(tt.target, tt.device)
			g.straysNotBy(wire, "told just now")
			lab.WaitFor(t, routesAgain+eventually, "the routes are looked up", func() bool { return hinted() || strings.Contains(g.forwards(), tt.device) })
			g.straysNotBy(wire, "told a while ago")
			if !hinted() {
				t.Errorf("hints %q, want one that says %q", g.status().Hints, tt.hint)
			}

			g.mustRun(g.gateway, "sh", "-ec", tt.undo)
			g.believes(tt.target, "lan0")
			g.satosFlow().Close()
			lab.WaitFor(t, routesAgain+eventually, "the hint goes", func() bool { return !hinted() })
		})
	}
}

// advertiseEHR has somebody advertise that ehr's IPv6 address is on the wire.
func advertiseEHR(g *ground, somebody *lab.Host, by string) {
	to := outside6.Addr()
	if by == "eth0" {
		to = netip.MustParseAddr("2001:db8:d::2")
	}
	g.advertise(somebody, by, to, netip.PrefixFrom(ehr6, 128), forever)
}

// TestFault75AdvertisedDefaultRoute: while nobody forbids it, somebody at the
// site advertises a default route. It does not make the site's interface the way
// to the Internet, by which no target would be reached any more.
func TestFault75AdvertisedDefaultRoute(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.serve()
	g.advertiseRouter(g.hospital, "eth0", lan6, 9000)
	lab.WaitFor(t, eventually, "the host takes the default route", func() bool { return g.defaultBy("lan0") })
	g.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "pacs")})
	g.mustEnter(g.client(g.medisys, sato, 4))
	g.satosFlow()
	g.hinted("no route to", false)
}

// TestFault74AdvertisedInside: operators have said which interface leads inside,
// and that has the default route. Whoever is there does not become the way to
// whatever is beyond by saying that he is a better router.
func TestFault74AdvertisedInside(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.settings = []string{"KIDOBAN_INSIDE_INTERFACES=lan0"}
	g.mustRun(g.gateway, "sh", "-ec", "ip -6 route del default; ip -6 route add default via fd01::6 dev lan0 metric 4096")
	g.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "pacs")})
	lab.WaitFor(t, eventually, "the ruleset knows the paths", func() bool { return strings.Contains(g.forwards(), "lan0") })
	g.advertiseRouter(g.hospital, "eth0", lan6, 9000)
	lab.WaitFor(t, eventually, "it is refused, and counted", func() bool {
		if out, err := g.gateway.Command(t.Context(), "ip", "-6", "route", "show", "default", "proto", "ra").Output(); err != nil || len(out) > 0 {
			t.Fatalf("the host took it (%v): %s", err, out)
		}
		return g.refusedPackets("icmp")
	})
}

// defaultBy tells whether the gateway has a default route of IPv6 by an interface.
func (g *ground) defaultBy(name string) bool {
	out, err := g.gateway.Command(g.within(eventually), "ip", "-6", "route", "show", "default", "dev", name).Output()
	return err == nil && len(out) > 0
}

// TestFault67PulledCable: the site's cable is pulled. The interface stays up, and
// its routes stay, but nothing is sent by them.
func TestFault67PulledCable(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.serve()
	g.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "pacs")})
	g.mustEnter(g.client(g.medisys, sato, 4))
	g.satosFlow().Close()
	const hint = "the host has no route to ehr, ehr6, pacs but the default route, through wan0"
	g.hinted(hint, false)
	g.mustRun(g.hospital, "ip", "link", "set", "eth0", "down")
	lab.WaitFor(t, routesAgain+eventually, "operators hear of it", func() bool { return g.hints(hint) })
	g.straysNot("the cable is pulled")
	g.mustRun(g.hospital, "ip", "link", "set", "eth0", "up")
	g.mustRun(g.hospital, "sh", "-ec", "ip -6 addr replace fd01::5/64 dev eth0; ip route replace default via 10.1.0.1")
	g.satosFlow()
	g.hinted(hint, false)
}

// TestFault75SamePrefix: somebody on the way to the Internet has the host make a
// route to a target that is as long as its own and comes first. The kernel sends
// there, nothing leaves, and operators hear why nothing arrives, until it has
// gone.
func TestFault75SamePrefix(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.serve()
	g.mustRun(g.gateway, "sh", "-ec", "ip -6 route del fd01::/64 dev lan0; ip -6 route add fd01::/64 dev lan0 proto kernel metric 1000")
	g.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "pacs")})
	g.mustEnter(g.client(g.medisys, sato, 4))
	g.satosFlow().Close()
	const hint = "by an interface that does not count as a way to the target"
	g.hinted(hint, false)

	g.advertise(g.internet, "eth3", outside6.Addr(), netip.PrefixFrom(netip.MustParseAddr("fd01::"), 64), forever)
	g.believes(ehr6, "wan0")
	lab.WaitFor(t, refusingLasts+eventually, "operators hear of it", func() bool {
		g.straysNotBy(g.wan, "advertised")
		return g.hints(hint)
	})
	g.mustRun(g.gateway, "ip", "-6", "route", "del", "fd01::/64", "dev", "wan0")
	g.believes(ehr6, "lan0")
	lab.WaitFor(t, eventually, "ehr6 answers again", func() bool {
		return g.reach(g.medisys, "udp", netip.AddrPortFrom(ehr6, 53), time.Second) == nil
	})
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
