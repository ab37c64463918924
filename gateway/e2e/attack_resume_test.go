package e2e

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"kidoban/gateway/lab"
)

// TestFault77NothingGoesOn: a connection that was cut, by an operator or with
// the process, does not go on when the engineer may enter again, nor does the
// target reach the engineer in it. A new one comes about.
func TestFault77NothingGoesOn(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.open([]string{hour("work", "ehr, ehr6")}, []string{hour("work", "pacs")})
	client := g.client(g.medisys, sato, 4)
	for _, to := range []netip.Addr{ehr4, ehr6} {
		g.cutAndBack(client, to, "by close and reopen", func() {
			g.must("close", sato, "--reason", "phone call")
			g.must("reopen", sato, "--reason", "phone call")
		})
		g.cutAndBack(client, to, "by a kill and a start", func() {
			g.kill()
			g.startReady()
		})
	}
}

// cutAndBack cuts a connection of sato's to a target, and has sato enter again.
func (g *ground) cutAndBack(client *lab.Client, to netip.Addr, name string, cut func()) {
	g.t.Helper()
	at := netip.AddrPortFrom(to, 22).String()
	l, err := g.hospital.Listen("tcp", at)
	g.check(err)
	defer l.Close()
	connect := func() (c net.Conn) {
		g.t.Helper()
		lab.WaitFor(g.t, eventually, "a connection comes about", func() bool {
			c, err = g.medisys.Dial(g.within(3*time.Second), "tcp", at)
			return err == nil
		})
		g.t.Cleanup(func() { c.Close() })
		return c
	}
	g.mustEnter(client)
	stream := connect()
	held, err := l.Accept()
	g.check(err)
	defer held.Close()
	before, after := "before it was cut "+name, "after it was cut "+name
	wire := g.tunnelWire(g.medisys)
	defer wire.Stop()
	g.lan.Forget()
	for _, c := range []net.Conn{stream, held} {
		if _, err := c.Write([]byte(before)); err != nil {
			g.t.Fatal(err)
		}
	}
	lab.WaitFor(g.t, eventually, "both hear", func() bool {
		return len(wire.Packets(lab.Incoming, says(before))) > 0 && len(g.lan.Packets(lab.Outgoing, says(before))) > 0
	})

	cut()
	g.mustEnter(client)
	for _, c := range []net.Conn{stream, held} {
		_, _ = c.Write([]byte(after)) // the target may have heard that it is over
	}
	connect()
	pause(patience)
	if got := append(wire.Packets(lab.Incoming, says(after)), g.lan.Packets(lab.Outgoing, says(after))...); len(got) > 0 {
		g.t.Errorf("cut %s, the connection to %v goes on:\n%s", name, to, lab.Lines(got))
	}
}

// says matches packets that carry a text.
func says(text string) func(lab.Packet) bool {
	return func(p lab.Packet) bool { return string(p.Payload) == text }
}
