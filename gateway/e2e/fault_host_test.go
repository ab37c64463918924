package e2e

import (
	"net"
	"strings"
	"testing"

	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
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
