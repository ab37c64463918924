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
	lab.WaitFor(t, routesAgain+eventually, "the hints go", func() bool { return !g.hints("IPv6") })
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
