package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// TestPromise3OnlyListed: through the tunnel pass only flows that the vendor
// began, of (engineer, target, protocol, port) tuples of open grants; no
// vendor to vendor, no vendor to the gateway, no site to vendor, no WAN to
// LAN. IPv4 and IPv6 alike.
//
// The kernel holds it alone.
func TestPromise3OnlyListed(t *testing.T) {
	t.Parallel()
	hold(t, onlyListed,
		trial{without: []string{gateLayer}},
		trial{without: []string{kernelLayer}, breaks: []string{"unlisted", "vendor", "gateway", "site", "wan", "spoofed"}},
	)
}

// flowTry is a flow that somebody begins.
type flowTry struct {
	word    string
	from    *lab.Host
	network string // tcp, udp or icmp
	to      netip.AddrPort
}

func onlyListed(g *ground) {
	g.serve()
	g.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "pacs")})
	lab.WaitFor(g.t, 10*time.Second, "three grants are open", func() bool { return len(g.status().Grants) == 3 })
	satos, tanakas := g.client(g.medisys, sato, 4), g.client(g.scanco, tanaka, 6)
	g.mustEnter(satos)
	g.mustEnter(tanakas)
	// Everybody serves everything, so that silence is the gateway's doing.
	for _, h := range []*lab.Host{g.gateway, g.medisys, g.scanco} {
		for _, port := range []string{"22", "53", "104", "8080"} {
			h.Echo("tcp", "[::]:"+port)
			h.Echo("udp", "[::]:"+port)
		}
	}
	g.outsider.Echo("tcp", "[::]:22")

	at := netip.AddrPortFrom
	listed := []flowTry{
		{"listed", g.medisys, "tcp", at(ehr4, 22)}, {"listed", g.medisys, "udp", at(ehr4, 53)}, {"listed", g.medisys, "icmp", at(ehr4, 0)},
		{"listed", g.medisys, "tcp", at(ehr6, 22)}, {"listed", g.medisys, "udp", at(ehr6, 53)}, {"listed", g.medisys, "icmp", at(ehr6, 0)},
		{"listed", g.scanco, "tcp", at(pacs4, 104)},
	}
	refused := []flowTry{
		{"unlisted", g.medisys, "tcp", at(ehr4, 8080)}, {"unlisted", g.medisys, "tcp", at(ehr4, 53)}, {"unlisted", g.medisys, "udp", at(ehr4, 22)},
		{"unlisted", g.medisys, "tcp", at(ehr6, 8080)}, {"unlisted", g.medisys, "tcp", at(ehr6, 53)}, {"unlisted", g.medisys, "udp", at(ehr6, 22)},
		{"unlisted", g.medisys, "tcp", at(pacs4, 22)}, {"unlisted", g.medisys, "tcp", at(pacs6, 22)},
		{"unlisted", g.medisys, "tcp", at(pacs4, 104)}, // scanco's
		{"unlisted", g.medisys, "icmp", at(pacs4, 0)}, {"unlisted", g.medisys, "icmp", at(pacs6, 0)},
		{"unlisted", g.scanco, "tcp", at(ehr4, 22)}, {"unlisted", g.scanco, "udp", at(ehr6, 53)},
		{"unlisted", g.scanco, "icmp", at(pacs4, 0)},
		{"wan", g.outsider, "tcp", at(ehr4, 22)}, {"wan", g.outsider, "tcp", at(ehr6, 22)}, {"wan", g.outsider, "udp", at(ehr4, 53)},
		{"wan", g.outsider, "icmp", at(ehr4, 0)}, {"wan", g.outsider, "icmp", at(ehr6, 0)},
		{"wan", g.hospital, "tcp", at(outsider4, 22)}, {"wan", g.hospital, "tcp", at(outsider6, 22)}, {"wan", g.hospital, "icmp", at(outsider4, 0)},
	}
	for _, network := range []string{"tcp", "udp"} {
		for _, port := range []uint16{22, 53} {
			for _, a := range []netip.Addr{g.people[tanaka].v4, g.people[tanaka].v6} {
				refused = append(refused, flowTry{"vendor", g.medisys, network, at(a, port)})
			}
			for _, a := range []netip.Addr{g.people[sato].v4, g.people[sato].v6} {
				refused = append(refused, flowTry{"vendor", g.scanco, network, at(a, port)}, flowTry{"site", g.hospital, network, at(a, port)},
					flowTry{"wan", g.outsider, network, at(a, port)})
			}
			for _, a := range []netip.Addr{inside4, inside6, lan4, lan6} {
				refused = append(refused, flowTry{"gateway", g.medisys, network, at(a, port)})
			}
		}
	}
	for _, a := range []netip.Addr{inside4, inside6, lan4, lan6} {
		refused = append(refused, flowTry{"gateway", g.medisys, "icmp", at(a, 0)})
	}
	for _, a := range []netip.Addr{g.people[sato].v4, g.people[sato].v6} {
		refused = append(refused, flowTry{"vendor", g.scanco, "icmp", at(a, 0)}, flowTry{"site", g.hospital, "icmp", at(a, 0)})
	}
	for _, f := range listed {
		g.holds(g.passes(f), "listed: %s from %s to %v", f.network, f.from.Name, f.to)
	}
	g.lan.Forget()
	var tries sync.WaitGroup
	for _, f := range refused {
		tries.Go(func() {
			if g.try(f, 3*patience) == nil {
				g.breaks("%s: %s from %s to %v is answered", f.word, f.network, f.from.Name, f.to)
			}
		})
	}
	tries.Wait()
	// Nor has one packet of it arrived that nobody answered.
	for _, p := range g.lan.Packets(lab.Outgoing) {
		for _, f := range refused {
			if p.Destination == f.to && p.Protocol == protocolOf(f) && !neighbours(p) && !slices.ContainsFunc(listed, func(l flowTry) bool { return l.to == f.to && l.network == f.network }) {
				g.breaks("%s: a packet reached the site: %v", f.word, p)
			}
		}
	}
	g.oneWay()
	g.spoofs()
	g.pathMTU()
	// All this has not disturbed what is listed.
	for _, f := range listed {
		g.holds(g.passes(f), "listed: afterwards, %s from %s to %v", f.network, f.from.Name, f.to)
	}
}

func protocolOf(f flowTry) uint8 {
	switch {
	case f.network == "tcp":
		return policy.TCP
	case f.network == "udp":
		return policy.UDP
	case f.to.Addr().Is4():
		return policy.ICMP
	}
	return policy.ICMPv6
}

// try begins a flow and wants its answer.
func (g *ground) try(f flowTry, d time.Duration) error {
	if f.network != "icmp" {
		return g.reach(f.from, f.network, f.to, d)
	}
	ctx, cancel := context.WithTimeout(g.t.Context(), d)
	defer cancel()
	_, err := f.from.Ping(ctx, f.to.Addr())
	return err
}

// passes begins a flow, and again if there is no answer: of datagrams any may
// be lost on the way.
func (g *ground) passes(f flowTry) error {
	return lab.Wait(g.within(eventually), func() error { return g.try(f, 3*time.Second) })
}

// neighbours matches what the gateway itself asks and answers on its links
// (RFC 4861), now and then and of anybody it has heard of.
func neighbours(p lab.Packet) bool {
	return p.Protocol == policy.ICMPv6 && len(p.Payload) > 0 && p.Payload[0] >= 133 && p.Payload[0] <= 137
}

// tunnelWire captures what comes out of the tunnel at an engineer.
func (g *ground) tunnelWire(h *lab.Host) *lab.Capture {
	g.t.Helper()
	var name string
	if err := h.Do(func() (err error) { name, err = routeTo(ehr4); return err }); err != nil {
		g.t.Fatal(err)
	}
	return h.Capture(name)
}

// oneWay has the site send into the tunnel, from ports that are listed as
// destinations: rules that look up packets backwards, without knowing who
// began, let these pass.
func (g *ground) oneWay() {
	wire := g.tunnelWire(g.medisys)
	for _, x := range []struct{ site, engineer netip.Addr }{{ehr4, g.people[sato].v4}, {ehr6, g.people[sato].v6}} {
		packets := [][]byte{
			lab.UDPPacket(netip.AddrPortFrom(x.site, 53), netip.AddrPortFrom(x.engineer, 161), []byte("good evening")),
			synchronize(netip.AddrPortFrom(x.site, 22), netip.AddrPortFrom(x.engineer, 3389)),
		}
		for _, p := range packets {
			g.check(g.hospital.Send(p))
		}
	}
	pause(patience)
	// Flows of before may still be ending.
	if got := wire.Packets(lab.Incoming, func(p lab.Packet) bool { return p.Destination.Port() == 161 || p.Destination.Port() == 3389 }); len(got) > 0 {
		g.breaks("site: what the site began reached the engineer:\n%s", lab.Lines(got))
	}
}

// synchronize is a TCP SYN with a checksum that holds: conntrack takes no other.
func synchronize(from, to netip.AddrPort) []byte {
	h := make([]byte, 20)
	binary.BigEndian.PutUint16(h, from.Port())
	binary.BigEndian.PutUint16(h[2:], to.Port())
	h[12], h[13] = 5<<4, 2
	pseudo := append(append(from.Addr().AsSlice(), to.Addr().AsSlice()...), 0, unix.IPPROTO_TCP, 0, byte(len(h)))
	binary.BigEndian.PutUint16(h[16:], headerChecksum(append(pseudo, h...)))
	return lab.IPPacket(from.Addr(), to.Addr(), unix.IPPROTO_TCP, h)
}

// spoofs has packets come with a source that is not their sender's: another
// engineer's or a site's address through sato's tunnel, and an engineer's
// address from outside.
func (g *ground) spoofs() {
	g.lan.Forget()
	who := g.people
	for _, x := range []struct {
		from         *lab.Host
		claimed, to4 netip.Addr
	}{
		{g.medisys, who[suzuki].v4, ehr4}, {g.medisys, who[suzuki].v6, ehr6}, {g.medisys, pacs4, ehr4}, {g.medisys, pacs6, ehr6},
		{g.outsider, who[sato].v4, ehr4}, {g.outsider, who[sato].v6, ehr6}, {g.outsider, inside4, ehr4}, {g.outsider, pacs4, ehr4},
	} {
		g.check(x.from.Send(lab.UDPPacket(netip.AddrPortFrom(x.claimed, 9999), netip.AddrPortFrom(x.to4, 53), []byte("good evening"))))
	}
	pause(patience)
	for _, p := range g.lan.Packets(lab.Outgoing) {
		if p.Source.Port() == 9999 || p.Destination.Port() == 53 {
			g.breaks("spoofed: %v", p)
		}
	}
}

// pathMTU holds that the errors of listed flows reach the engineer, and those
// about others do not.
func (g *ground) pathMTU() {
	wire := g.tunnelWire(g.medisys)
	for _, x := range []struct{ site, engineer netip.Addr }{{ehr4, g.people[sato].v4}, {ehr6, g.people[sato].v6}} {
		target := netip.AddrPortFrom(x.site, 53)
		c, err := g.medisys.Dial(g.within(3*time.Second), "udp", target.String())
		g.check(err)
		defer c.Close()
		own := netip.MustParseAddrPort(c.LocalAddr().String())
		lab.WaitFor(g.t, eventually, "the flow is known", func() bool {
			if _, err := c.Write([]byte("good evening")); err != nil {
				g.t.Fatal(err)
			}
			return len(wire.Packets(lab.Incoming, lab.From(x.site), toPort(own.Port()))) > 0
		})
		wire.Forget()
		// Of a flow that is not there, then of the one that is.
		g.tooBig(x.site, x.engineer, lab.UDPPacket(netip.AddrPortFrom(x.engineer, own.Port()), netip.AddrPortFrom(x.site, 8080), []byte("good evening")))
		pause(patience / 2)
		if got := wire.Packets(lab.Incoming, errorMessages); len(got) > 0 {
			g.breaks("site: an error about no listed flow reached the engineer:\n%s", lab.Lines(got))
		}
		g.tooBig(x.site, x.engineer, lab.UDPPacket(own, target, []byte("good evening")))
		g.expect("mtu: the path's error about a listed flow", eventually, func() error {
			if len(wire.Packets(lab.Incoming, errorMessages)) == 0 {
				return fmt.Errorf("no error message came to %v", x.engineer)
			}
			return nil
		})
	}
	// The gateway's own, when the way on is narrower than the tunnel.
	g.mustRun(g.gateway, "ip", "link", "set", "lan0", "mtu", "1280")
	for _, a := range []netip.Addr{ehr4, ehr6} {
		wire.Forget()
		c, err := g.medisys.DialFrom(g.within(3*time.Second), "udp", netip.AddrPort{}, netip.AddrPortFrom(a, 53).String())
		g.check(err)
		defer c.Close()
		g.expect("mtu: the gateway's own error about a listed flow", eventually, func() error {
			_, _ = c.Write(make([]byte, 1340-60)) // refused here once the error has come
			if len(wire.Packets(lab.Incoming, errorMessages)) == 0 {
				return fmt.Errorf("no error message came about %v", a)
			}
			return nil
		})
	}
}

func errorMessages(p lab.Packet) bool {
	return len(p.Payload) > 0 && (p.Protocol == policy.ICMP && p.Payload[0] == 3 || p.Protocol == policy.ICMPv6 && p.Payload[0] == 2)
}

// tooBig has the hospital say that a packet was too big (RFC 1191, RFC 8201).
func (g *ground) tooBig(from, to netip.Addr, about []byte) {
	g.t.Helper()
	var packet []byte
	if from.Is4() {
		packet = unreachable(g.t, from, to, 4, 1330, quoted(about))
	} else {
		packet = tooBig6(g.t, from, to, 1330, about)
	}
	g.check(g.hospital.Send(packet))
}

// headerChecksum is the Internet checksum (RFC 1071), as of an IPv4 header
// whose field is zero.
func headerChecksum(header []byte) uint16 {
	var sum uint32
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// TestPromise3AddressChangesHands: a flow belongs to who began it, not to who
// has the tunnel address later.
func TestPromise3AddressChangesHands(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(g *ground){
		"a reload": func(g *ground) { g.must("reload") },
		"a start": func(g *ground) {
			g.signal(syscall.SIGTERM)
			<-g.ended
			g.start()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
			windows := []string{hour("work", "ehr")}
			listener, err := g.hospital.Listen("tcp", netip.AddrPortFrom(ehr4, 22).String())
			g.check(err)
			g.open(windows, windows)
			g.inside()
			mine, err := g.medisys.Dial(g.within(eventually), "tcp", netip.AddrPortFrom(ehr4, 22).String())
			g.check(err)
			defer mine.Close()
			server, err := listener.Accept()
			g.check(err)
			defer server.Close()
			arrives := func(at *lab.Capture, text string) {
				t.Helper()
				if _, err := server.Write([]byte(text)); err != nil {
					t.Fatal(err)
				}
				lab.WaitFor(t, eventually, "it arrives: "+text, func() bool { return len(at.Packets(lab.Incoming, says(text))) > 0 })
			}
			arrives(g.tunnelWire(g.medisys), "for sato")
			// With sato's answer all is acknowledged, and nothing is sent again.
			_ = mine.SetReadDeadline(time.Now().Add(eventually))
			if _, err := io.ReadFull(mine, make([]byte, len("for sato"))); err != nil {
				t.Fatal(err)
			}
			if _, err := mine.Write([]byte("from sato")); err != nil {
				t.Fatal(err)
			}
			_ = server.SetReadDeadline(time.Now().Add(eventually))
			if _, err := io.ReadFull(server, make([]byte, len("from sato"))); err != nil {
				t.Fatal(err)
			}

			satos, tanakas := g.people[sato], g.people[tanaka]
			satos.v4, tanakas.v4 = netip.MustParseAddr("10.99.0.9"), satos.v4
			g.approve(windows, windows)
			change(g)
			client := g.client(g.scanco, tanaka, 4)
			wire := g.tunnelWire(g.scanco)
			g.mustEnter(client)
			passes := func() error { _, err := g.scanco.Ping(g.within(300*time.Millisecond), ehr4); return err }
			g.check(lab.Wait(g.within(eventually), passes))
			arrives(g.gateway.Capture("lan0"), "still for sato")
			g.check(lab.Wait(g.within(eventually), passes))
			if got := wire.Packets(lab.Incoming, says("still for sato")); len(got) > 0 {
				t.Errorf("tanaka, at sato's old address, got:\n%s", lab.Lines(got))
			}
		})
	}
}
