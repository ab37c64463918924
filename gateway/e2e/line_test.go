package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
)

// TestFault118TheVendorsLine: a vendor with a line enters by its interface alone. A listed address that
// comes by another one gets no byte, and is refused by name as wrong_line; with the line moved by a reload
// the session ends, and the vendor enters by the new one.
func TestFault118TheVendorsLine(t *testing.T) {
	t.Parallel()
	hold(t, vendorsLine,
		trial{without: []string{gateLayer, kernelLayer}, breaks: []string{"silent", "named"}, may: []string{"moved", "enters"}},
	)
}

func vendorsLine(g *ground) {
	// The line is a wire of its own, which the gateway sees as a VLAN's interface is named.
	g.lab.Link(g.gateway, "line0.310", lab.Prefixes("172.16.31.1/24"), g.medisys, "line0", lab.Prefixes("172.16.31.10/24"))
	line := netip.MustParseAddr("172.16.31.10")
	by := func(name string) {
		g.names = strings.NewReplacer(
			"vendors:\n", fmt.Sprintf("lines:\n  kyushoku: {interface: %s, kind: leased, provider: NTT West}\nvendors:\n", name),
			"    sources: [203.0.113.0/28, \"2001:db8:1::/64\"]\n", "    sources: [172.16.31.10, 203.0.113.0/28]\n    line: kyushoku\n")
		g.approve([]string{hour("work", "ehr")}, []string{nextYear("later", "pacs")})
	}
	by("line0.310")
	g.startReady()
	g.serve()
	config := g.config(sato, 4)
	config.Endpoint = netip.MustParseAddrPort("172.16.31.1:51820")
	client := g.medisys.NewClient(config)
	if err := g.enter(client, g.eventually()); err != nil {
		g.breaks("enters: by its line: %v", err)
	}
	g.holds(g.reach(g.medisys, "tcp", netip.AddrPortFrom(ehr4, 22), g.eventually()), "enters: to the target")

	// The same address, with the key, from the Internet.
	g.wan.Forget()
	forged := prober{g.outsider, netip.AddrPortFrom(line, 40001), outside4}
	listed := prober{g.medisys, netip.AddrPortFrom(medisys4, 40001), outside4}
	for _, p := range []prober{forged, listed} {
		g.shoot(p, g.initiation(sato, time.Now().Add(time.Minute)))
		pause(patience / 4) // WireGuard answers one peer no faster
	}
	pause(patience)
	g.quiet("silent", "by another interface", listed)
	if back := g.wan.Packets(lab.Outgoing, lab.To(line)); len(back) > 0 {
		g.breaks("silent: %d packets left by another interface", len(back))
	}
	g.expect("named: the refusal has engineer and reason", g.eventually(), func() error {
		if out, _, _ := g.operator("refusals"); !strings.Contains(out, "wrong_line") || !strings.Contains(out, sato) {
			return fmt.Errorf("refusals:\n%s", out)
		}
		return nil
	})
	for name, want := range map[string]string{"kyushoku": "admitted", "line0.310": "admitted", "wan0": "wrong_line"} {
		if x, err := g.explain(sato, "--from", line.String(), "--line", name); err != nil || x.Reason != want {
			g.breaks("explained: by %s: %s, %v", name, x.Reason, err)
		}
	}
	// The forged initiation, which was a minute ahead, locks nobody out.
	if err := g.enter(client, g.eventually()); err != nil {
		g.breaks("enters: after a forged initiation: %v", err)
	}

	by("wan0")
	g.must("reload")
	if err := g.reach(g.medisys, "tcp", netip.AddrPortFrom(ehr4, 22), patience); err == nil {
		g.breaks("moved: who came by what is the line no longer is still inside")
	}
}

// TestFault120ThePlainLine: a host behind a line without WireGuard reaches its target by that line, for as
// long as its window is open. The same address by another way, another address on the line, another port
// and any time before or after have nothing; what passed is recorded, of the host and of nobody.
func TestFault120ThePlainLine(t *testing.T) {
	t.Parallel()
	hold(t, plainLine,
		trial{without: []string{kernelLayer}, breaks: []string{"before", "elsewhere", "stranger", "unlisted", "end"}, may: []string{"named", "session", "used", "back"}},
	)
}

func plainLine(g *ground) {
	caterer := g.lab.Host("caterer")
	g.lab.Link(g.gateway, "line0.310", lab.Prefixes("192.168.50.1/24", "fd50::1/64"), caterer, "eth0", lab.Prefixes("192.168.50.10/24", "192.168.50.11/24", "fd50::10/64"))
	host4, host6, stranger := netip.MustParseAddr("192.168.50.10"), netip.MustParseAddr("fd50::10"), netip.MustParseAddr("192.168.50.11")
	const host = "caterer/host-192-168-50-10"
	caterer.Route(lab.Prefixes("10.1.0.0/24")[0], netip.MustParseAddr("192.168.50.1"))
	caterer.Route(lab.Prefixes("fd01::/64")[0], netip.MustParseAddr("fd50::1"))
	windows := func(list ...string) {
		g.names = strings.NewReplacer("vendors:\n", "lines:\n  kyushoku: {interface: line0.310, kind: leased, plain: true}\nvendors:\n"+
			"  caterer:\n    line: kyushoku\n    sources: [192.168.50.10, \"fd50::10\"]\n    windows:\n"+strings.Join(list, ""))
		g.approve([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
	}
	wire := g.gateway.Capture("line0.310")
	serves := func(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
	windows(nextYear("menu", "ehr, ehr6"))
	g.serve()
	g.startReady()
	// The kernel forwards a moment after the gateway is ready. Before that nothing is refused by name.
	g.expect("named: the refusal before the window", g.eventually(), func() error {
		if g.reach(caterer, "tcp", serves(ehr4, 22), patience) == nil {
			g.breaks("before: the target is reached before the window")
		}
		return g.refused("outside_window", host, host4)
	})

	windows(hour("menu", "ehr, ehr6"))
	g.must("reload")
	for _, to := range []netip.AddrPort{serves(ehr4, 22), serves(ehr6, 22)} {
		g.holds(lab.Wait(g.within(eventually), func() error { return g.reach(caterer, "tcp", to, 3*time.Second) }), "open: %v by the line", to)
	}
	g.holds(lab.Wait(g.within(eventually), func() error { return g.reach(caterer, "udp", serves(ehr4, 53), time.Second) }), "open: UDP by the line")
	if x, err := g.explain(host, "--to", "10.1.0.5:tcp/22"); err != nil || x.Reason != "admitted" {
		g.breaks("explained: %s, %v", x.Reason, err)
	}

	// The site sees nothing that is not listed.
	g.lan.Forget()
	for _, from := range []netip.Addr{host4, host6} {
		to := serves(ehr4, 53)
		if from.Is6() {
			to = serves(ehr6, 53)
		}
		g.check(g.outsider.Send(lab.UDPPacket(netip.AddrPortFrom(from, 40002), to, []byte("forged"))))
	}
	g.check(caterer.Send(lab.UDPPacket(netip.AddrPortFrom(stranger, 40003), serves(ehr4, 53), []byte("another machine"))))
	g.check(caterer.Send(lab.UDPPacket(netip.AddrPortFrom(host4, 40004), serves(ehr4, 54), []byte("another port"))))
	g.check(caterer.Send(lab.UDPPacket(netip.AddrPortFrom(host4, 40005), netip.MustParseAddrPort("192.168.50.1:51820"), g.initiation(sato, time.Now()))))
	pause(patience)
	sees := func(word string, port uint16) {
		if seen := g.lan.Packets(lab.Outgoing, func(p lab.Packet) bool { return p.Source.Port() == port }); len(seen) > 0 {
			g.breaks("%s: the site saw\n%s", word, lab.Lines(seen))
		}
	}
	sees("elsewhere", 40002)
	sees("stranger", 40003)
	sees("unlisted", 40004)
	if back := wire.Packets(lab.Outgoing, lab.To(host4), func(p lab.Packet) bool { return p.Source.Port() == 51820 }); len(back) > 0 {
		g.breaks("port: the WireGuard port answered a host of a plain line:\n%s", lab.Lines(back))
	}
	g.expect("session: of the host", g.eventually(), func() error {
		for _, s := range g.status().Sessions {
			if s.Vendor+"/"+s.Engineer == host && s.Received > 0 && s.Source == host4 {
				return nil
			}
		}
		return fmt.Errorf("the sessions are %+v", g.status().Sessions)
	})
	// Others go on as before.
	g.mustEnter(g.client(g.medisys, sato, 4))

	// What is under way stops with the window.
	flow := g.echo(caterer, "tcp", serves(ehr4, 22))
	datagrams := g.echo(caterer, "udp", serves(ehr4, 53))
	end := soon(3 * time.Second)
	windows(window("menu", time.Now().Add(-time.Minute), end, "ehr, ehr6"))
	g.must("reload")
	until(end.Add(oneLag + patience))
	for _, f := range []*echoes{flow, datagrams} {
		own := func(p lab.Packet) bool { return p.Source.Addr() == host4 && p.Source.Port() == f.own }
		if len(g.lan.Packets(lab.Outgoing, own, func(p lab.Packet) bool { return p.At.Before(end) })) == 0 {
			g.breaks("open: no %s passed before the end", f.name)
		}
		if late := g.lan.Packets(lab.Outgoing, own, lab.After(end.Add(oneLag))); len(late) > 0 {
			g.breaks("end: %s: %d packets after the end, the last %v after it", f.name, len(late), late[len(late)-1].At.Sub(end))
		}
	}
	g.expect("used: what passed is on record", g.eventually(), func() error {
		for _, e := range g.entries(journal.Used) {
			if e.Vendor+"/"+e.Engineer == host && len(e.Used) == 2 && e.Used[0].ReceivedBytes > 0 && e.Used[1].TransmittedBytes > 0 {
				return nil
			}
		}
		return fmt.Errorf("the entries are %+v", g.entries(journal.Used))
	})
	if g.reach(caterer, "tcp", serves(ehr4, 22), patience) == nil {
		g.breaks("end: the target is reached after the window")
	}
}
