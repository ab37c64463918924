package e2e

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/lab"
)

// TestMetricsAddressComesLater: the gateway starts before the network does, so
// that the address of its metrics may not be there yet, or never come up.
func TestMetricsAddressComesLater(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"10.1.0.7/24", "fd01::7/64"} {
		prefix := netip.MustParsePrefix(address)
		t.Run(prefix.Addr().String(), func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
			metrics := netip.AddrPortFrom(prefix.Addr(), 9586).String()
			g.settings = []string{"KIDOBAN_METRICS_ADDRESS=" + metrics}
			g.open([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
			g.inside()
			g.mustRun(g.gateway, "ip", "addr", "add", address, "dev", "lan0")
			lab.WaitFor(t, eventually, "the metrics answer at their address", func() bool {
				_, text, err := get(g.hospital, "http://"+metrics+"/readyz", 5*time.Second)
				return err == nil && text == "ready\n"
			})
		})
	}
}

// TestOwnAddressComesLater: a policy that lists an address of the gateway's own
// is taken where the host does not have it yet. When it has, status says that
// a restart would not take the file, reload refuses it, and nobody in the
// tunnel reaches the gateway there.
func TestOwnAddressComesLater(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	own := netip.MustParseAddrPort("10.1.0.20:22")
	good := g.policyText([]string{hour("work", "ehr, near")}, []string{nextYear("later", "pacs")})
	text := strings.Replace(good, "targets:\n", "targets:\n  near: {address: 10.1.0.16/28, ports: [tcp/22]}\n", 1)
	g.write(g.policyFile(), text)
	g.startReady()
	if s := g.status(); !s.Policy.FileOK {
		t.Fatalf("before the host has the address: %s", s.Policy.Error)
	}
	g.inside()
	g.mustRun(g.gateway, "ip", "addr", "add", "10.1.0.20/24", "dev", "lan0")
	const complaint = "targets.near.address: 10.1.0.16/28 contains the gateway's own address 10.1.0.20"
	lab.WaitFor(t, eventually, "status tells of the address", func() bool {
		s := g.status()
		return s.Ready && !s.Policy.FileOK && strings.Contains(s.Policy.Error, complaint)
	})
	if out, line := g.must("status"), "THE FILE ON DISK WOULD NOT SURVIVE A RESTART"; !strings.Contains(out, line) || !strings.Contains(out, complaint) {
		t.Errorf("status does not say %q and %q:\n%s", line, complaint, out)
	}
	lab.WaitFor(t, eventually, "metrics and log tell of it", func() bool {
		_, metrics, err := g.get("/metrics")
		return err == nil && strings.Contains(metrics, "\nkidoban_policy_file_valid 0\n") && strings.Contains(g.log(), complaint)
	})
	if _, told, exit := g.operator("reload"); exit != exitFailed || !strings.Contains(told, complaint) {
		t.Errorf("reload: exit %d: %s", exit, told)
	}
	g.gateway.Echo("tcp", own.String())
	if err := lab.Wait(g.within(eventually), func() error { return g.reach(g.hospital, "tcp", own, time.Second) }); err != nil {
		t.Errorf("nobody answers at %v: %v", own, err)
	}
	if err := g.reach(g.medisys, "tcp", own, patience); err == nil {
		t.Errorf("the engineer reaches the gateway itself at %v", own)
	}
	lab.WaitFor(t, eventually, "it was the ruleset that refused", func() bool {
		_, metrics, err := g.get("/metrics")
		return err == nil && !strings.Contains(metrics, `kidoban_refused_packets_total{cause="gateway"} 0`)
	})
	if err := g.works(); err != nil {
		t.Errorf("the engineer does not reach the other target: %v", err)
	}
	g.mustRun(g.gateway, "ip", "addr", "del", "10.1.0.20/24", "dev", "lan0")
	lab.WaitFor(t, eventually, "the file is good again", func() bool { return g.status().Policy.FileOK })
}
