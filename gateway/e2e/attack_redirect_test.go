package e2e

import (
	"encoding/binary"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// TestFault74Redirects: the target is behind a router of the site. Somebody, in
// that router's name, tells the gateway that another host is the better way
// there. Whoever says so, and from where, it is not believed.
func TestFault74Redirects(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.serve()
	far4, far6 := netip.MustParseAddr("10.1.7.5"), netip.MustParseAddr("fd01:7::5")
	stranger4, stranger6 := netip.MustParseAddr("10.1.0.66"), netip.MustParseAddr("fe80::66")
	router4, router6 := ehr4, g.hospital.LinkLocal("eth0")
	for _, args := range [][]string{
		{"addr", "add", far4.String() + "/32", "dev", "lo"}, {"addr", "add", far6.String() + "/128", "dev", "lo"},
		{"addr", "add", stranger4.String() + "/24", "dev", "eth0"}, {"addr", "add", stranger6.String() + "/64", "dev", "eth0", "nodad"},
	} {
		g.mustRun(g.hospital, "ip", args...)
	}
	g.mustRun(g.gateway, "ip", "route", "add", far4.String(), "via", router4.String())
	g.mustRun(g.gateway, "ip", "route", "add", far6.String(), "via", router6.String(), "dev", "lan0")
	for _, filter := range []string{"0", "2"} {
		g.gateway.Sysctl("net.ipv4.conf.wan0.rp_filter", filter)
	}
	// The kernel knows where the stranger is.
	for _, a := range []netip.Addr{stranger4, far4, far6} {
		if _, err := g.gateway.Ping(g.within(eventually), a); err != nil {
			t.Fatal(err)
		}
	}
	lab.WaitFor(t, eventually, "the gateway answers the stranger", func() bool {
		g.check(g.hospital.Send(icmpPacket(t, stranger6, lan6, ipv6.ICMPTypeEchoRequest, 0, make([]byte, 4))))
		return len(g.lan.Packets(lab.Outgoing, lab.To(stranger6))) > 0
	})

	inside := g.gateway.LinkLocal("lan0")
	sent := 0
	send := func(h *lab.Host, packet []byte) {
		t.Helper()
		for range 3 { // the first may only make the kernel ask for the neighbour
			g.check(h.Send(packet))
			sent++
		}
	}
	// Before the ruleset stands the host believes it; then that is forgotten. In a
	// user namespace nobody may ask for that.
	if g.gateway.Do(func() error { _, err := os.Stat("/proc/sys/net/ipv4/route/flush"); return err }) == nil {
		lab.WaitFor(t, eventually, "the host believes it", func() bool {
			send(g.hospital, redirect4(t, router4, lan4, stranger4, answerToPing(lan4, far4)))
			send(g.hospital, redirect6(t, router6, inside, stranger6, far6))
			return strings.Contains(g.routeOf(far4), stranger4.String()) && strings.Contains(g.routeOf(far6), stranger6.String())
		})
	}
	g.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "pacs")})
	g.mustEnter(g.client(g.medisys, sato, 4))
	g.satosFlow().Close()
	sent = 0
	for _, from := range []struct {
		host *lab.Host
		to   netip.Addr // the gateway's, there
	}{{g.hospital, lan4}, {g.internet, outside4.Addr()}} {
		send(from.host, redirect4(t, router4, from.to, stranger4, answerToPing(from.to, far4)))
		send(from.host, redirect4(t, router4, from.to, stranger4, lab.UDPPacket(netip.AddrPortFrom(from.to, 53), netip.AddrPortFrom(far4, 53), nil)))
	}
	send(g.hospital, redirect6(t, router6, inside, stranger6, far6))
	g.dropped("icmp", sent)
	tunnel := []string{"from", g.people[sato].v4.String(), "iif", g.device}
	for what, route := range map[string]string{"its own": g.routeOf(far4), "the engineer's": g.routeOf(far4, tunnel...), "its own IPv6": g.routeOf(far6)} {
		if strings.Contains(route, stranger4.String()) || strings.Contains(route, stranger6.String()) || strings.Contains(route, "redirect") {
			t.Errorf("the gateway believes that the stranger is the way for %s packets: %s", what, route)
		}
	}
	for _, name := range []string{"ipv4.conf.all", "ipv4.conf.lan0", "ipv4.conf.wan0", "ipv6.conf.lan0", "ipv6.conf.wan0"} {
		if got := g.gateway.ReadSysctl("net." + name + ".accept_redirects"); got != "0" {
			t.Errorf("net.%s.accept_redirects is %s while the gateway forwards", name, got)
		}
	}
}

// TestFault74ErrorsThatSteer: neither a target's nor an engineer's redirect or
// source quench about a listed flow passes the tunnel, nor an engineer's word
// that a packet was too big; and an error that says why nobody answers does.
func TestFault74ErrorsThatSteer(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.serve()
	g.open([]string{hour("work", "ehr")}, []string{hour("work", "pacs")})
	g.mustEnter(g.client(g.medisys, sato, 4))
	g.satosFlow()
	p := g.people[sato]
	question := lab.UDPPacket(netip.AddrPortFrom(p.v4, 45000), netip.AddrPortFrom(ehr4, 53), []byte("good evening"))
	wire := g.gateway.Capture(g.device)
	steering := func(from, to netip.Addr, about []byte) [][]byte {
		quench := icmpPacket(t, from, to, ipv4.ICMPTypeRedirect-1, 0, make([]byte, 4), about)
		return [][]byte{redirect4(t, from, to, pacs4, about), quench}
	}
	narrow := unreachable(t, p.v4, ehr4, 4, 0, quoted(g.forgedAnswer())) // of an engineer alone: a router of the site may say so
	sent := 0
	for _, x := range []struct {
		from    *lab.Host
		packets [][]byte
	}{{g.hospital, steering(ehr4, p.v4, question)}, {g.medisys, append(steering(p.v4, ehr4, g.forgedAnswer()), narrow)}} {
		for _, packet := range x.packets {
			g.check(x.from.Send(packet))
			sent++
		}
	}
	g.dropped("icmp", sent)
	g.check(g.hospital.Send(unreachable(t, ehr4, p.v4, 3, 0, quoted(question))))
	g.check(g.medisys.Send(unreachable(t, p.v4, ehr4, 3, 0, quoted(g.forgedAnswer()))))
	lab.WaitFor(t, eventually, "errors that steer nothing pass", func() bool {
		return len(wire.Packets(lab.Outgoing, lab.Protocol(policy.ICMP))) > 0 && len(g.lan.Packets(lab.Outgoing, lab.Protocol(policy.ICMP))) > 0
	})
	for _, all := range [][]lab.Packet{wire.Packets(lab.Outgoing, lab.Protocol(policy.ICMP)), g.lan.Packets(lab.Outgoing, lab.Protocol(policy.ICMP))} {
		for _, packet := range all {
			if packet.Payload[0] != byte(ipv4.ICMPTypeDestinationUnreachable) || packet.Payload[1] != 3 {
				t.Errorf("it passes: ICMP type %d, code %d: %v", packet.Payload[0], packet.Payload[1], packet)
			}
		}
	}
}

// answerToPing is an ICMP echo reply, for which the kernel needs no socket.
func answerToPing(from, to netip.Addr) []byte {
	return lab.IPPacket(from, to, policy.ICMP, []byte{0, 0, 0xff, 0xff, 0, 0, 0, 0})
}

// redirect4 says that another router is the better way for what is quoted (RFC 792).
func redirect4(t *testing.T, from, to, better netip.Addr, about []byte) []byte {
	t.Helper()
	return icmpPacket(t, from, to, ipv4.ICMPTypeRedirect, 1, better.AsSlice(), about)
}

// redirect6 says that another router is the better way to an address (RFC
// 4861, section 4.5).
func redirect6(t *testing.T, from, to, better, destination netip.Addr) []byte {
	t.Helper()
	packet := icmpPacket(t, from, to, ipv6.ICMPTypeRedirect, 0, make([]byte, 4), better.AsSlice(), destination.AsSlice())
	packet[7] = 255 // no router forwards it
	return packet
}

// icmpPacket is an ICMP message of either family, with what follows its checksum.
func icmpPacket(t *testing.T, from, to netip.Addr, kind icmp.Type, code int, body ...[]byte) []byte {
	t.Helper()
	protocol, pseudo := uint8(policy.ICMP), []byte(nil)
	if from.Is6() {
		protocol, pseudo = policy.ICMPv6, icmp.IPv6PseudoHeader(from.AsSlice(), to.AsSlice())
	}
	message, err := (&icmp.Message{Type: kind, Code: code, Body: &icmp.RawBody{Data: slices.Concat(body...)}}).Marshal(pseudo)
	if err != nil {
		t.Fatal(err)
	}
	return lab.IPPacket(from, to, protocol, message)
}

// quoted is an IPv4 packet with the checksum of its header: without it nobody
// takes the quotation in an error for a packet.
func quoted(packet []byte) []byte {
	packet = slices.Clone(packet)
	binary.BigEndian.PutUint16(packet[10:], 0)
	binary.BigEndian.PutUint16(packet[10:], headerChecksum(packet[:20]))
	return packet
}

// unreachable is an error about an IPv4 packet (RFC 792); of code 4 it says
// that the packet was too big, and carries the MTU.
func unreachable(t *testing.T, from, to netip.Addr, code int, mtu uint16, about []byte) []byte {
	t.Helper()
	return icmpPacket(t, from, to, ipv4.ICMPTypeDestinationUnreachable, code, []byte{0, 0, byte(mtu >> 8), byte(mtu)}, about)
}

// tooBig6 says that an IPv6 packet was too big (RFC 8201).
func tooBig6(t *testing.T, from, to netip.Addr, mtu uint16, about []byte) []byte {
	t.Helper()
	return icmpPacket(t, from, to, ipv6.ICMPTypePacketTooBig, 0, []byte{0, 0, byte(mtu >> 8), byte(mtu)}, about)
}
