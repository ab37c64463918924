package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

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
