package e2e

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
	"kidoban/gateway/view"
)

// TestFault92PortTaken: another program has WireGuard's port when the gateway
// starts. Operators hear of it, and when the port is free the gateway opens by itself.
func TestFault92PortTaken(t *testing.T) {
	t.Parallel()
	for _, at := range []struct{ network, address string }{{"udp4", "0.0.0.0:51820"}, {"udp6", "[2001:db8:f::2]:51820"}} {
		t.Run(at.address, func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
			g.serve()
			var taker net.PacketConn
			g.check(g.gateway.Do(func() (err error) { taker, err = net.ListenPacket(at.network, at.address); return err }))
			defer taker.Close()
			g.approve([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "pacs")})
			g.start()
			lab.WaitFor(t, eventually, "status names the port", func() bool {
				return strings.Contains(g.status().NotReadyReason, "another program has UDP port 51820 (`ss -ulpn sport = :51820`")
			})
			if _, complaint, exit := g.operator("recover", "--reason", "a try"); exit != exitFailed || !strings.Contains(complaint, "UDP port 51820") {
				t.Errorf("recover: exit %d, %q; want one that fails and names the port", exit, complaint)
			}
			g.check(taker.Close())
			g.ready()
			g.mustEnter(g.client(g.medisys, sato, 4))
			g.satosFlow().Close()
			if all := g.entries(journal.Doubt); len(all) > 2 {
				t.Errorf("%d doubts on record of one that lasted", len(all))
			}
		})
	}
}

// TestFault94IPv6Off: IPv6 is switched off on the host when the gateway starts, and
// later on and off. IPv4 goes on, whatever happens; nothing of IPv6 is open while it is
// off, and status says what is off. Where it is on, it works.
func TestFault94IPv6Off(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.serve()
	ipv6 := func(on string) {
		t.Helper()
		// As sysctl.conf does it. The hosts' own addresses are the administrator's.
		off := map[string]string{"on": "0", "off": "1"}[on]
		g.gateway.Sysctl("net.ipv6.conf.all.disable_ipv6", off)
		g.gateway.Sysctl("net.ipv6.conf.default.disable_ipv6", off)
		if on == "on" {
			g.mustRun(g.gateway, "sh", "-ec", "ip addr replace fd01::1/64 dev lan0 nodad; ip addr replace 2001:db8:f::2/64 dev wan0 nodad; ip -6 route replace default via 2001:db8:f::1")
		}
	}
	reaches := func(to netip.Addr, d time.Duration) error {
		return g.reach(g.medisys, "tcp", netip.AddrPortFrom(to, 22), d)
	}
	off := func(what string) {
		t.Helper()
		lab.WaitFor(t, routesAgain+eventually, what+": status says what is off", func() bool {
			return g.hints("IPv6 is switched off on this host, so "+g.device+" has no fd00:99::1/64,") &&
				g.hints("IPv6 targets cannot be reached: IPv6 is switched off on "+g.device) && !g.hints("no route to")
		})
		if s := g.status(); !s.Ready {
			t.Fatalf("%s: not ready: %s", what, s.NotReadyReason)
		}
		lab.WaitFor(t, eventually, what+": IPv4 works", func() bool { return reaches(ehr4, time.Second) == nil })
		if reaches(ehr6, patience) == nil {
			t.Errorf("%s: an IPv6 target is reached", what)
		}
		if rules := g.forwards(); strings.Contains(rules, "ipv6 lan0") {
			t.Errorf("%s: IPv6 is forwarded: %s", what, rules)
		}
	}
	ipv6("off")
	g.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "pacs")})
	c := g.client(g.medisys, sato, 4)
	g.mustEnter(c)
	off("at the start")
	session := g.status().Sessions

	ipv6("on")
	lab.WaitFor(t, routesAgain+eventually, "IPv6 works", func() bool { return reaches(ehr6, time.Second) == nil })
	lab.WaitFor(t, routesAgain+eventually, "the hints go", func() bool { return !g.hints("IPv6 is switched off") })
	// The socket hears IPv6 from outside as well.
	six := g.client(g.scanco, tanaka, 6)
	g.mustEnter(six)

	ipv6("off")
	off("switched off again")
	if now := g.status().Sessions; len(session) != 1 || !slices.ContainsFunc(now, func(s view.SessionStatus) bool { return s.ID == session[0].ID }) {
		t.Errorf("sessions %+v, then %+v: want the first to last", session, now)
	}
	if all := g.entries(journal.Doubt); len(all) > 0 {
		t.Errorf("doubts on record: %+v", all)
	}
}

// TestFault95WayBack: the host's routes send the answers for an engineer elsewhere than
// into the tunnel. None of them leaves there, on a host that forwards for others
// neither, and operators hear by which interface, and how to see it. When it is over,
// answers come again.
func TestFault95WayBack(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		settings []string
		before   string // of the gateway, by sh, before it starts
		astray   string // by sh
		hint     string // KIDO stands for the tunnel's interface
		undo     string
	}{
		{name: "another interface has the tunnel's network", before: "ip addr add 10.99.0.254/24 dev dmz0",
			hint: "by dmz0, not by KIDO,", undo: "ip addr del 10.99.0.254/24 dev dmz0"},
		{name: "a longer route", astray: "ip route add 10.99.0.2/32 via 192.0.2.1; ip -6 route add fd00:99::2/128 via 2001:db8:f::1",
			hint: "by wan0, not by KIDO, where it is dropped, and nothing comes back: an interface with the tunnel's network, or a route or rule of another program, comes before the tunnel's route; `ip route get 10.99.0.2` shows it;",
			undo: "ip route del 10.99.0.2/32; ip -6 route del fd00:99::2/128"},
		{name: "a longer route, and the host forwards for others", settings: []string{"KIDOBAN_FORWARD_OTHERS=true"},
			astray: "ip route add 10.99.0.2/32 via 192.0.2.1; ip -6 route add fd00:99::2/128 via 2001:db8:f::1",
			hint:   "by wan0, not by KIDO,", undo: "ip route del 10.99.0.2/32; ip -6 route del fd00:99::2/128"},
		{name: "a table for what comes from the site, and the host forwards for others", settings: []string{"KIDOBAN_FORWARD_OTHERS=true"},
			astray: "ip route add default via 192.0.2.1 table 100; ip -6 route add default via 2001:db8:f::1 table 100; ip rule add iif lan0 lookup 100; ip -6 rule add iif lan0 lookup 100",
			hint:   "`ip route get 10.99.0.2 from 10.1.0.5 iif lan0`", undo: "ip rule del iif lan0 lookup 100; ip -6 rule del iif lan0 lookup 100"},
		{name: "a route that refuses", astray: "ip route add unreachable 10.99.0.2/32; ip -6 route add unreachable fd00:99::2/128",
			hint: "refuse what is for medisys/sato, which belongs to KIDO,", undo: "ip route del unreachable 10.99.0.2/32; ip -6 route del unreachable fd00:99::2/128"},
		{name: "a rule that refuses", astray: "ip rule add to 10.99.0.2 unreachable; ip -6 rule add to fd00:99::2 unreachable",
			hint: "refuse what is for medisys/sato, which belongs to KIDO,", undo: "ip rule del to 10.99.0.2 unreachable; ip -6 rule del to fd00:99::2 unreachable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
			hint := strings.ReplaceAll(tt.hint, "KIDO", g.device)
			g.settings = tt.settings
			g.serve()
			// Somebody there has sato's address.
			somebody := g.lab.Host("somebody")
			g.lab.Link(g.gateway, "dmz0", lab.Prefixes("172.20.0.2/24"), somebody, "eth0", lab.Prefixes("172.20.0.1/24", "10.99.0.2/24"))
			wires := []*lab.Capture{g.wan, g.gateway.Capture("dmz0")}
			fromSite := func(p lab.Packet) bool {
				return slices.Contains([]netip.Addr{ehr4, ehr6, pacs4}, p.Source.Addr()) || slices.Contains([]netip.Addr{g.people[sato].v4, g.people[sato].v6}, p.Destination.Addr())
			}
			flows := []struct {
				network string
				to      netip.AddrPort
			}{{"udp", netip.AddrPortFrom(ehr4, 53)}, {"tcp", netip.AddrPortFrom(pacs4, 104)}, {"udp", netip.AddrPortFrom(ehr6, 53)}}
			begin := func() bool { // of the answers some are on their way at the end
				for _, f := range flows {
					if g.reach(g.medisys, f.network, f.to, patience) != nil {
						return false
					}
				}
				return true
			}
			g.mustRun(g.gateway, "sh", "-ec", tt.before)
			g.open([]string{hour("work", "ehr, ehr6, pacs")}, []string{nextYear("later", "pacs")})
			c := g.client(g.medisys, sato, 4)
			g.mustEnter(c)
			if tt.astray != "" {
				lab.WaitFor(t, eventually, "answers come", begin)
				if g.hints(hint) {
					t.Fatalf("status has the hint before anything strays: %q", g.status().Hints)
				}
				g.mustRun(g.gateway, "sh", "-ec", tt.astray)
			}
			begin()
			lab.WaitFor(t, routesAgain+eventually, "status names it", func() bool { return g.hints(hint) })
			if out := g.must("explain", sato, "--to", "10.1.0.5:udp/53"); !strings.HasPrefix(out, "ADMIT") || !strings.Contains(out, hint) {
				t.Errorf("explain says\n%s, want %q", out, hint)
			}
			if begin() {
				t.Error("answers come all the same: nothing strays")
			}
			// Nor does what the host itself has to say of an engineer's packet.
			for range 2 { // the first of each flow reaches ehr, and the next has no hops left
				for _, f := range []struct{ from, to netip.Addr }{{g.people[sato].v4, ehr4}, {g.people[sato].v6, ehr6}} {
					packet := lab.UDPPacket(netip.AddrPortFrom(f.from, 46000), netip.AddrPortFrom(f.to, 53), []byte("good evening"))
					g.check(g.medisys.Send(packet))
					lab.WaitFor(t, eventually, "it reaches ehr", func() bool {
						return len(g.lan.Packets(lab.Outgoing, lab.To(f.to), func(p lab.Packet) bool { return p.Source.Port() == 46000 })) > 0
					})
					hops := 8
					if f.to.Is6() {
						hops = 7
					}
					packet[hops] = 1
					g.check(g.medisys.Send(packet))
				}
			}
			pause(patience)
			for _, w := range wires {
				if got := w.Packets(lab.Outgoing, fromSite); len(got) > 0 {
					t.Errorf("the site's answers leave in the clear:\n%s", lab.Lines(got))
				}
			}
			g.mustRun(g.gateway, "sh", "-ec", tt.undo)
			lab.WaitFor(t, eventually, "answers come again", begin)
			lab.WaitFor(t, routesAgain+eventually, "the hint goes", func() bool { return !g.hints(hint) })
		})
	}
}
