package main

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"kidoban/gateway/admin"
	"kidoban/gateway/lab"
)

// TestNarrowPath: what fits through the narrowest link between an engineer
// and the gateway, with full packets in both directions. The gateway takes no
// fragments from outside, so a packet of the engineer's must fit whole.
func TestNarrowPath(t *testing.T) {
	for _, c := range []struct {
		path, family, mtu int // of the link, outside; 4 or 6; the engineer's
		passes            bool
	}{
		{1400, 4, admin.MTU, true},
		{1420, 6, admin.MTU, true},
		{1399, 4, admin.MTU, false},
		{1340, 4, 1280, true},
		{1360, 6, 1280, true},
	} {
		t.Run(fmt.Sprintf("a path of %d bytes over IPv%d, MTU %d", c.path, c.family, c.mtu), func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
			g.t = t
			g.serve()
			g.open([]string{hour("work", "ehr")}, []string{hour("work", "pacs")})
			p, to := g.people[sato], outside4
			if c.family == 6 {
				to = outside6
			}
			engineer := g.medisys.NewClient(lab.ClientConfig{PrivateKey: p.private, PeerKey: g.publicKey, Endpoint: to, MTU: c.mtu, Interface: "wgpath",
				Addresses: []netip.Prefix{netip.PrefixFrom(p.v4, 32)}, AllowedIPs: lab.Prefixes("10.1.0.0/24")})
			g.mustEnter(engineer)
			// Both ends of the link, as providers do: nothing larger goes in.
			for _, h := range []*lab.Host{g.internet, g.medisys} {
				g.mustRun(h, "ip", "link", "set", "eth0", "mtu", strconv.Itoa(c.path))
			}
			err := echoed(g, 1<<20)
			if (err == nil) != c.passes {
				t.Errorf("a mebibyte there and back: %v, want it to pass: %t", err, c.passes)
			}
		})
	}
}

// echoed sends bytes to ehr's echo server from medisys and wants them back.
func echoed(g *ground, size int64) error {
	wait := 8 * time.Second
	c, err := g.medisys.Dial(g.within(wait), "tcp", netip.AddrPortFrom(ehr4, 22).String())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	go func() { _, _ = c.Write(make([]byte, size)) }() // what is lost is not read back
	n, err := io.CopyN(io.Discard, c, size)
	if err != nil {
		return fmt.Errorf("after %d bytes: %w", n, err)
	}
	return nil
}
