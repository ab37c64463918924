package e2e

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv6"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// forwards lists which interfaces of the gateway forward, but for its tunnel.
func (g *ground) forwards() string {
	var on []string
	for _, i := range []string{"lan0", "wan0", "dmz0"} {
		for _, name := range []string{"ipv4/conf/" + i + "/forwarding", "ipv6/conf/" + i + "/force_forwarding"} {
			var value []byte
			// Kernels before 6.17 have no such switch for IPv6.
			_ = g.gateway.Do(func() (err error) { value, err = os.ReadFile("/proc/sys/net/" + name); return err })
			if strings.TrimSpace(string(value)) == "1" {
				on = append(on, name[:4]+" "+i)
			}
		}
	}
	return strings.Join(on, ", ")
}

// stop ends the gateway as the service manager does.
func (g *ground) stop() {
	g.t.Helper()
	g.signal(syscall.SIGTERM)
	select {
	case <-g.ended:
	case <-time.After(15 * time.Second):
		g.t.Fatal("the gateway does not stop")
	}
}

// hints tells whether status has a hint with this text.
func (g *ground) hints(text string) bool {
	g.t.Helper()
	return strings.Contains(strings.Join(g.status().Hints, "\n"), text)
}

// hinted waits until status has a hint with this text, or none.
func (g *ground) hinted(text string, want bool) {
	g.t.Helper()
	lab.WaitFor(g.t, eventually, fmt.Sprintf("a hint %q: %v", text, want), func() bool { return want == g.hints(text) })
}

// satosFlow begins a UDP flow of sato's to ehr through the tunnel.
func (g *ground) satosFlow() net.Conn {
	g.t.Helper()
	c, err := g.medisys.DialFrom(g.within(3*time.Second), "udp", netip.AddrPortFrom(g.people[sato].v4, 45000), netip.AddrPortFrom(ehr4, 53).String())
	g.check(err)
	g.t.Cleanup(func() { c.Close() })
	lab.WaitFor(g.t, eventually, "sato's flow to ehr", func() bool {
		_, _ = c.Write([]byte("good evening"))
		_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		_, err := c.Read(make([]byte, 100))
		return err == nil
	})
	return c
}

// forgedAnswer is what ehr would answer in sato's flow.
func (g *ground) forgedAnswer() []byte {
	return lab.UDPPacket(netip.AddrPortFrom(ehr4, 53), netip.AddrPortFrom(g.people[sato].v4, 45000), []byte("forged"))
}

// forgedComes tells whether a forged answer comes in sato's flow. Of what he
// asked before, an answer may still be on its way.
func forgedComes(c net.Conn) bool {
	buffer := make([]byte, 100)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	for {
		n, err := c.Read(buffer)
		if err != nil {
			return false
		}
		if string(buffer[:n]) == "forged" {
			return true
		}
	}
}

// TestForwardingAfterCrash: the process that was killed had turned the host
// into a router, and only it knew that. The one that follows, and is stopped,
// takes the ruleset away.
func TestForwardingAfterCrash(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.serve()
	// ehr6 as well, since IPv6 has switches of its own.
	g.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "pacs")})
	lab.WaitFor(t, eventually, "forwarding from the site", func() bool { return strings.Contains(g.forwards(), "ipv4 lan0") })
	g.kill()
	if got := g.forwards(); !strings.Contains(got, "ipv4 lan0") {
		t.Fatalf("killed: %q forwards, so there is nothing to restore", got)
	}
	g.startReady()
	g.stop()
	if got := g.forwards(); got != "" {
		t.Errorf("after the stop %s still forwards", got)
	}
	g.wan.Forget()
	g.check(g.hospital.Send(lab.UDPPacket(netip.AddrPortFrom(ehr4, 9999), netip.AddrPortFrom(outsider4, 7777), []byte("out"))))
	pause(patience)
	if got := g.wan.Packets(lab.Outgoing, toPort(7777)); len(got) > 0 {
		t.Errorf("after the stop the site reaches the Internet through this machine:\n%s", lab.Lines(got))
	}
}

// TestSingleArm: the targets lie behind the interface to the Internet, by a
// route of their own. Status says what to set, and with that it works, and ends
// with the gateway, also when one was killed in between.
func TestSingleArm(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.mustRun(g.gateway, "ip", "route", "del", "10.1.0.0/24", "dev", "lan0")
	g.mustRun(g.gateway, "ip", "route", "add", "10.1.0.0/24", "via", "192.0.2.1")
	g.mustRun(g.internet, "ip", "addr", "add", "10.1.0.5/32", "dev", "lo")
	g.mustRun(g.internet, "ip", "route", "add", "10.99.0.0/24", "via", "192.0.2.2")
	g.internet.Echo("udp", "10.1.0.5:53")
	g.open([]string{hour("work", "ehr")}, []string{hour("work", "pacs")})
	const set = "KIDOBAN_INSIDE_INTERFACES=lan0,wan0" // lan0 still leads to ehr6
	g.hinted("the host has no route to ehr, pacs but one where the default route is or was, through wan0, by which nothing is sent there: "+
		"bring the right interface up, or add a route of its own through an interface with a permanent address and without the default route; "+
		"if the way inside is wan0, set "+set, true)
	g.stop()
	g.settings = []string{set}
	g.startReady()
	g.mustEnter(g.client(g.medisys, sato, 4))
	g.satosFlow()
	g.hinted("no route to", false)
	if got := g.forwards(); !strings.Contains(got, "ipv4 wan0") || strings.Contains(got, "ipv4 lan0") || strings.Contains(got, "ipv6 wan0") {
		t.Errorf("%q forwards, want IPv4 from wan0, and nothing else that has to do with ehr", got)
	}
	g.kill()
	g.startReady()
	g.stop()
	if got := g.forwards(); got != "" {
		t.Errorf("after the stop %s still forwards", got)
	}
}

// TestLateSite: the site's network comes up after the gateway. Until then the
// route to its targets is the default route, to the Internet: operators hear
// of that, nothing that an engineer sends leaves there, and nobody there may
// answer.
func TestLateSite(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.serve()
	g.mustRun(g.gateway, "ip", "link", "set", "lan0", "down")
	g.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "pacs")})
	const hint = "the host has no route to ehr, ehr6, pacs but the default route, through wan0"
	g.hinted(hint, true)
	if got := g.forwards(); got != "" {
		t.Errorf("lan0 is down: %s forwards, want neither", got)
	}
	lab.WaitFor(t, eventually, "the log says it", func() bool { return strings.Contains(g.log(), hint) })
	g.mustEnter(g.client(g.medisys, sato, 4))
	g.straysNot("lan0 is not up yet")
	g.mustRun(g.gateway, "ip", "link", "set", "lan0", "up")
	c := g.satosFlow()
	g.hinted("route to ehr,", false)
	if got := g.forwards(); strings.Contains(got, "wan0") || !strings.Contains(got, "ipv4 lan0") {
		t.Errorf("lan0 is up: %q forwards, want lan0 alone", got)
	}
	g.check(g.outsider.Send(g.forgedAnswer()))
	if forgedComes(c) {
		t.Error("the engineer got an answer from the Internet in ehr's name")
	}

	// It goes again, while the gateway runs.
	g.mustRun(g.gateway, "ip", "link", "set", "lan0", "down")
	g.straysNot("lan0 has just gone down")
	lab.WaitFor(t, routesAgain+eventually, "nobody forwards but the tunnel", func() bool { return g.forwards() == "" })
	g.straysNot("lan0 has been down for a while")
}

// straysNot has sato send to ehr, and wants nothing of it to leave by wan0.
func (g *ground) straysNot(when string) {
	g.t.Helper()
	g.straysNotBy(g.wan, when)
}

// straysNotBy has sato send to ehr, and wants nothing of it to leave by an
// interface.
func (g *ground) straysNotBy(wire *lab.Capture, when string) {
	g.t.Helper()
	tunnel := g.gateway.Capture(g.device)
	defer tunnel.Stop()
	wire.Forget()
	toTarget := func(p lab.Packet) bool {
		return p.Destination.Addr() == ehr4 || p.Destination.Addr() == ehr6
	}
	from4, from6 := netip.AddrPortFrom(g.people[sato].v4, 46000), netip.AddrPortFrom(g.people[sato].v6, 46000)
	packets := [][]byte{
		lab.UDPPacket(from4, netip.AddrPortFrom(ehr4, 53), []byte("good evening")), synchronize(from4, netip.AddrPortFrom(ehr4, 22)),
		lab.IPPacket(from4.Addr(), ehr4, policy.ICMP, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}),
		lab.UDPPacket(from6, netip.AddrPortFrom(ehr6, 53), []byte("good evening")), synchronize(from6, netip.AddrPortFrom(ehr6, 22)),
	}
	for _, p := range packets {
		g.check(g.medisys.Send(p))
	}
	lab.WaitFor(g.t, eventually, fmt.Sprintf("%s: %d packets come out of the tunnel", when, len(packets)), func() bool {
		return len(tunnel.Packets(lab.Incoming, toTarget)) >= len(packets)
	})
	pause(patience)
	if got := wire.Packets(lab.Outgoing, toTarget); len(got) > 0 {
		g.t.Errorf("%s: what sato sends to the site goes elsewhere:\n%s", when, lab.Lines(got))
	}
}

// TestFault67VanishedSite: the site's interface is not down but gone, so that the
// host seems to have one alone, of which the default route would be the only
// way to anything. When it is there again, under its name or another, sato's
// flow works.
func TestFault67VanishedSite(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.serve()
	g.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "pacs")})
	g.mustEnter(g.client(g.medisys, sato, 4))
	g.satosFlow().Close()
	g.mustRun(g.gateway, "ip", "link", "del", "lan0")
	g.straysNot("lan0 has just gone")
	const hint = "the host has no route to ehr, ehr6, pacs but the default route, through wan0, by which nothing is sent there"
	lab.WaitFor(t, routesAgain+eventually, "a hint", func() bool { return g.hints(hint) })
	g.straysNot("lan0 has been gone for a while")
	if got := g.forwards(); got != "" {
		t.Errorf("lan0 is gone: %s forwards, want neither", got)
	}

	g.joinHospital("lan0")
	g.satosFlow().Close()
	lab.WaitFor(t, routesAgain+eventually, "the hint goes", func() bool { return !g.hints("no route to ehr") })
	g.mustRun(g.gateway, "ip", "link", "set", "lan0", "down")
	g.mustRun(g.gateway, "ip", "link", "set", "lan0", "name", "lan7")
	g.mustRun(g.gateway, "ip", "link", "set", "lan7", "up")
	g.straysNot("lan0 has another name")
	lab.WaitFor(t, routesAgain+eventually, "ehr answers by lan7", func() bool {
		return g.reach(g.medisys, "udp", netip.AddrPortFrom(ehr4, 53), 500*time.Millisecond) == nil
	})
}

// TestFault67Advertised: somebody on the wire of the gateway's way to the
// Internet advertises that an address of the site's is there, and answers for
// it. The kernel believes it, and sends there; the ruleset does not.
func TestFault67Advertised(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.serve()
	g.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "pacs")})
	g.mustEnter(g.client(g.medisys, sato, 4))
	g.satosFlow().Close()
	g.mustRun(g.internet, "ip", "-6", "addr", "add", ehr6.String()+"/128", "dev", "eth3", "nodad")
	g.advertise(g.internet, "eth3", outside6.Addr(), netip.PrefixFrom(ehr6, 128), 600)
	g.believes(ehr6, "wan0")
	g.straysNot("advertised just now")
	lab.WaitFor(t, routesAgain+eventually, "a hint", func() bool {
		return g.hints("the host has no route to ehr6 but what DHCP or a router may have advertised, through wan0")
	})
	g.straysNot("advertised a while ago")
	g.satosFlow().Close()
}

// advertise has a host say, as a router, on the wire of one of its interfaces
// that a prefix is on this link, for some seconds; to is an address of the
// gateway's there.
func (g *ground) advertise(router *lab.Host, name string, to netip.Addr, prefix netip.Prefix, seconds uint32) {
	g.t.Helper()
	// A prefix information option (RFC 4861, section 4.6.2).
	option := []byte{3, 4, byte(prefix.Bits()), 0x80}
	option = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(option, seconds), seconds)
	option = slices.Concat(option, make([]byte, 4), prefix.Addr().AsSlice())
	g.advertiseRouter(router, name, to, 0, option...)
}

// advertiseRouter has a host say that it is the default router for some seconds,
// the one to prefer (RFC 4191), and what is in options.
func (g *ground) advertiseRouter(router *lab.Host, name string, to netip.Addr, seconds uint16, options ...byte) {
	g.t.Helper()
	from := router.LinkLocal(name)
	packet := icmpPacket(g.t, from, to, ipv6.ICMPTypeRouterAdvertisement, 0, // kernels take it by unicast as well
		binary.BigEndian.AppendUint16([]byte{0, 1 << 3}, seconds), make([]byte, 8), options)
	packet[7] = 255 // no router forwards it
	g.check(router.Send(packet))
}

// believes waits until the gateway's kernel sends to an address by an interface.
func (g *ground) believes(to netip.Addr, name string) {
	g.t.Helper()
	lab.WaitFor(g.t, eventually, fmt.Sprintf("the kernel sends to %v by %s", to, name), func() bool {
		var by string
		_ = g.gateway.Do(func() (err error) { by, err = routeTo(to); return err })
		return by == name
	})
}

// joinHospital gives the hospital a cable to the gateway.
func (g *ground) joinHospital(name string) {
	g.t.Helper()
	g.lab.Link(g.gateway, name, lab.Prefixes("10.1.0.1/24", "fd01::1/64"), g.hospital, "eth0", lab.Prefixes("10.1.0.5/24", "10.1.0.6/24", "fd01::5/64", "fd01::6/64"))
	g.hospital.Route(everywhere[0], lan4)
	g.hospital.Route(everywhere[1], lan6)
}

// TestSpeakingForOthers: on a host that is a router anyway, neither another
// vendor nor the Internet takes part in sato's flow.
func TestSpeakingForOthers(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.gateway.Sysctl("net.ipv4.ip_forward", "1")
	g.serve()
	g.open([]string{hour("work", "ehr, pacs")}, []string{hour("work", "pacs")})
	g.mustEnter(g.client(g.medisys, sato, 4))
	g.mustEnter(g.client(g.scanco, tanaka, 4))
	c := g.satosFlow()
	answer := g.forgedAnswer()
	g.lan.Forget()
	for _, from := range []struct {
		host    *lab.Host
		address netip.Addr
	}{{g.scanco, g.people[tanaka].v4}, {g.outsider, outsider4}} {
		g.check(from.host.Send(unreachable(t, from.address, ehr4, 3, 0, quoted(answer))))
	}
	g.check(g.outsider.Send(answer))
	if forgedComes(c) {
		t.Error("the engineer got an answer from the Internet in ehr's name")
	}
	if got := g.lan.Packets(lab.Outgoing, lab.Protocol(policy.ICMP)); len(got) > 0 {
		t.Errorf("ehr heard of sato's flow from others:\n%s", lab.Lines(got))
	}
	// Nor does an error from the outsider's own address go into the tunnel, which
	// needs no forged source; one from a router of the site does. The engineer's
	// WireGuard may refuse that source, so the gateway's end is looked at.
	wire := g.gateway.Capture(g.device)
	question := lab.UDPPacket(netip.AddrPortFrom(g.people[sato].v4, 45000), netip.AddrPortFrom(ehr4, 53), []byte("good evening"))
	g.check(g.outsider.Send(unreachable(t, outsider4, g.people[sato].v4, 3, 0, quoted(question))))
	pause(patience)
	if got := wire.Packets(lab.Outgoing, lab.Protocol(policy.ICMP)); len(got) > 0 {
		t.Errorf("sato heard of the flow to ehr from the Internet:\n%s", lab.Lines(got))
	}
	g.check(g.hospital.Send(unreachable(t, pacs4, g.people[sato].v4, 3, 0, quoted(question))))
	lab.WaitFor(t, eventually, "sato hears from the site", func() bool {
		return len(wire.Packets(lab.Outgoing, lab.Protocol(policy.ICMP), lab.From(pacs4))) > 0
	})
	// What sato says of it does arrive.
	g.check(g.medisys.Send(unreachable(t, g.people[sato].v4, ehr4, 3, 0, quoted(answer))))
	lab.WaitFor(t, eventually, "ehr hears from sato", func() bool {
		return len(g.lan.Packets(lab.Outgoing, lab.Protocol(policy.ICMP), lab.From(g.people[sato].v4))) > 0
	})

	// Nor in a flow whose answers come to the gateway's own address.
	held, err := g.scanco.Dial(g.within(eventually), "tcp", netip.AddrPortFrom(pacs4, 104).String())
	g.check(err)
	defer held.Close()
	masqueraded := g.lan.Packets(lab.Outgoing, lab.To(pacs4), toPort(104))
	if len(masqueraded) == 0 {
		t.Fatal("the masqueraded flow was not seen")
	}
	wire.Forget()
	g.internet.Route(netip.PrefixFrom(lan4, 32), outside4.Addr())
	for _, from := range []netip.Addr{pacs4, outsider4} {
		g.check(g.outsider.Send(unreachable(t, from, lan4, 3, 0, quoted(synchronize(masqueraded[0].Source, masqueraded[0].Destination)))))
	}
	g.check(g.outsider.Send(synchronize(netip.AddrPortFrom(pacs4, 104), masqueraded[0].Source)))
	pause(patience)
	// What pacs itself repeats of its flow has an ACK.
	if got := wire.Packets(lab.Outgoing, lab.To(g.people[tanaka].v4), func(p lab.Packet) bool { return p.Flags&16 == 0 }); len(got) > 0 {
		t.Errorf("tanaka got from the Internet in pacs' name:\n%s", lab.Lines(got))
	}
}

// TestForwardingTurnedOff: a script, or an administrator, turns forwarding
// off. Without it no target is reached, and nothing else would tell.
func TestForwardingTurnedOff(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.serve()
	g.open([]string{hour("work", "ehr")}, []string{hour("work", "pacs")})
	g.mustEnter(g.client(g.medisys, sato, 4))
	g.satosFlow()
	names := []string{"net.ipv4.conf.lan0.forwarding", "net.ipv4.conf." + g.device + ".forwarding"}
	for _, name := range names {
		g.gateway.Sysctl(name, "0")
	}
	lab.WaitFor(t, eventually, "both forward again", func() bool {
		return !slices.ContainsFunc(names, func(name string) bool { return g.gateway.ReadSysctl(name) != "1" })
	})
	for _, name := range names {
		want := "it is turned on again\" switch=" + name
		lab.WaitFor(t, eventually, fmt.Sprintf("the log says %q", want), func() bool { return strings.Contains(g.log(), want) })
	}
	if !g.status().Ready {
		t.Error("the gateway is not ready")
	}
	if _, err := os.Stat(filepath.Join(g.folder, "forwarding.json")); err != nil {
		t.Errorf("the record of the switches: %v", err)
	}
}

// TestTheKernelWaitsForNoDisk: the ruleset goes on being set while the disk of
// the state does not answer whoever writes there, also where a target is
// reached by another interface, whose switch is turned and goes on record. And
// the gateway ends, and turns the switches back.
func TestTheKernelWaitsForNoDisk(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.serve()
	g.open([]string{hour("work", "ehr")}, []string{hour("work", "pacs")})
	g.mustEnter(g.client(g.medisys, sato, 4))
	g.satosFlow()
	for _, end := range []string{".new", ".tmp"} {
		// Who opens it to write waits until somebody reads.
		g.check(syscall.Mkfifo(filepath.Join(g.stateDir(), "forwarding.json"+end), 0o600))
	}
	g.write(g.hangFile(), "") // nor does whoever writes the journal
	g.lab.Link(g.gateway, "lan1", lab.Prefixes("10.1.9.1/24"), g.hospital, "eth1", lab.Prefixes("10.1.9.5/24"))
	g.gateway.Route(netip.PrefixFrom(ehr4, 32), netip.MustParseAddr("10.1.9.5"))
	lab.WaitFor(t, 2*routesAgain, "lan1 forwards", func() bool { return g.gateway.ReadSysctl("net.ipv4.conf.lan1.forwarding") == "1" })
	if outcome := g.closing("--all"); outcome.Recorded {
		t.Error("close --all: recorded, on a disk that does not answer")
	}
	out, err := g.gateway.Command(g.within(5*time.Second), "nft", "list", "table", "inet", "kidoban").CombinedOutput()
	if err != nil || strings.Contains(string(out), "expires") {
		t.Errorf("after everything was shut: %v\n%s", err, out)
	}
	g.stop()
	for _, name := range []string{"lan0", "lan1"} {
		if is := g.gateway.ReadSysctl("net.ipv4.conf." + name + ".forwarding"); is != "0" {
			t.Errorf("after the end %s forwards: %s", name, is)
		}
	}
}
