package e2e

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/lab"
)

// refusedPackets reports whether the metrics count packets refused for a cause.
func (g *ground) refusedPackets(cause string) bool {
	_, text, err := g.get("/metrics")
	return err == nil && regexp.MustCompile(`kidoban_refused_packets_total\{cause="`+cause+`"\} [1-9]`).MatchString(text)
}

// TestFault76ExcessIsTold: of an engineer who begins more connections than one
// may, operators hear by name, wherever they look.
func TestFault76ExcessIsTold(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.serve()
	g.open([]string{hour("work", "ehr")}, []string{hour("work", "pacs")})
	g.mustEnter(g.client(g.medisys, sato, 4))
	const hint = "medisys/sato has as many connections open as one engineer may have, or begins them too fast, and more are refused (last: to 10.1.0.5:tcp/22)"
	g.hinted("refused", false)
	port := uint16(1024)
	lab.WaitFor(t, eventually, "a hint", func() bool {
		for range 1200 { // the first 500 may come at once, and then 50 a second
			port = 1024 + port%60_000
			g.check(g.medisys.Send(synchronize(netip.AddrPortFrom(g.people[sato].v4, port), netip.AddrPortFrom(ehr4, 22))))
			port++
		}
		return g.hints(hint)
	})
	if out := g.must("explain", sato, "--to", "10.1.0.5:tcp/22"); !strings.HasPrefix(out, "ADMIT") || !strings.Contains(out, hint) {
		t.Errorf("explain says\n%s\nwant ADMIT, and the hint", out)
	}
	if out := g.must("refusals"); !regexp.MustCompile(`(?m)rate_limited.*10\.1\.0\.5:tcp/22`).MatchString(out) {
		t.Errorf("refusals says\n%s\nwant rate_limited to 10.1.0.5:tcp/22", out)
	}
	lab.WaitFor(t, eventually, "the metrics count it", func() bool { return g.refusedPackets("excess") })
	g.must("close", sato, "--reason", "a flood")
	g.hinted("more are refused", false)
}

// TestFault80RewriterIsNamed: another program's NAT sends an engineer's listed
// connection elsewhere. It arrives nowhere, operators hear where to look, and
// without that rule it works again.
func TestFault80RewriterIsNamed(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.serve()
	g.open([]string{hour("work", "ehr")}, []string{hour("work", "pacs")})
	g.mustEnter(g.client(g.medisys, sato, 4))
	ssh := netip.AddrPortFrom(ehr4, 22)
	reaches := func() bool { return g.reach(g.medisys, "tcp", ssh, time.Second) == nil }
	// Of a program that leaves engineers alone nobody has to hear.
	g.mustRun(g.gateway, "nft", "add table ip other; add chain ip other pre { type nat hook prerouting priority dstnat; };"+
		"add rule ip other pre iifname wan0 tcp dport 8080 dnat to 10.1.0.6:8080")
	lab.WaitFor(t, eventually, "sato reaches ehr", reaches)
	g.hinted("DNAT", false)

	g.mustRun(g.gateway, "nft", "add rule ip other pre ip daddr 10.1.0.5 tcp dport 22 dnat to 10.1.0.6:8080")
	pause(patience) // the connection before may still be ending
	g.lan.Forget()
	lab.WaitFor(t, eventually, "a hint that names the chain", func() bool {
		if reaches() {
			t.Fatal("sato's connection arrives, though its destination was rewritten")
		}
		for _, h := range g.status().Hints {
			if strings.Contains(h, "(DNAT)") && strings.Contains(h, "chain pre of table ip other") {
				return true
			}
		}
		return false
	})
	if got := append(g.lan.Packets(lab.Outgoing, lab.To(pacs4)), g.lan.Packets(lab.Outgoing, lab.To(ehr4))...); len(got) > 0 {
		t.Errorf("to the site went:\n%s", lab.Lines(got))
	}
	lab.WaitFor(t, eventually, "the metrics count it", func() bool { return g.refusedPackets("dnat") })
	lab.WaitFor(t, eventually, "the log says it", func() bool { return strings.Contains(g.log(), "chain pre of table ip other") })

	g.mustRun(g.gateway, "nft", "delete table ip other")
	lab.WaitFor(t, eventually, "sato reaches ehr again", reaches)
}
