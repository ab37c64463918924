package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"kidoban/gateway/admin"
	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
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
			wait := 8 * time.Second
			if c.passes {
				wait = time.Minute
			}
			err := echoed(g, 1<<20, wait)
			if (err == nil) != c.passes {
				t.Errorf("a mebibyte there and back: %v, want it to pass: %t", err, c.passes)
			}
		})
	}
}

// echoed sends bytes to ehr's echo server from medisys and wants them back.
func echoed(g *ground, size int64, wait time.Duration) error {
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

// TestForgedPathMTU: somebody, from an address of their own, tells the gateway
// that the way to an engineer is narrow. It does not believe that, however the
// packet looks that is quoted, since full packets would not be sent any more.
func TestForgedPathMTU(t *testing.T) {
	for _, family := range []int{4, 6} {
		t.Run(fmt.Sprintf("over IPv%d", family), func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
			g.t = t
			g.serve()
			g.open([]string{hour("work", "ehr")}, []string{hour("work", "pacs")})
			g.mustEnter(g.client(g.medisys, sato, family))
			g.satosFlow().Close()
			forged := forgedTooBig(t)
			if family == 6 {
				forged = forgedTooBig6(t)
			}
			for _, p := range forged {
				if err := g.outsider.Send(p); err != nil {
					t.Fatal(err)
				}
			}
			// One about the gateway's own other traffic is believed, and came last.
			to, other := medisys4, outside4
			if family == 6 {
				to, other = medisys6, outside6
			}
			believed := func(a netip.Addr) bool {
				out, err := g.gateway.Command(t.Context(), "ip", "route", "get", a.String()).CombinedOutput()
				if err != nil {
					t.Fatal(err, string(out))
				}
				return strings.Contains(string(out), " mtu ")
			}
			own, err := g.gateway.ListenPacket("udp", netip.AddrPortFrom(other.Addr(), 4444).String())
			if err != nil {
				t.Fatal(err)
			}
			defer own.Close()
			stranger := scanco4
			if family == 6 {
				stranger = scanco6
			}
			if err := g.outsider.Send(tooBigFor(t, family, netip.AddrPortFrom(other.Addr(), 4444), stranger, nil)); err != nil {
				t.Fatal(err)
			}
			lab.WaitFor(t, eventually, "what is not about the tunnel is believed", func() bool { return believed(stranger) })
			if believed(to) {
				t.Error("the gateway believes that the way to the engineer is narrow")
			}
			if err := echoed(g, 1<<20, time.Minute); err != nil {
				t.Errorf("a mebibyte there and back: %v", err)
			}
		})
	}
}

// tooBigFor is the outsider's word that a UDP packet of the gateway's was too
// big; change alters the packet that is quoted.
func tooBigFor(t *testing.T, family int, from netip.AddrPort, to netip.Addr, change func(quoted []byte) []byte) []byte {
	t.Helper()
	quoted := lab.UDPPacket(from, netip.AddrPortFrom(to, 4000), make([]byte, 32))
	if change != nil {
		quoted = change(quoted)
	}
	if family == 4 {
		m, err := (&icmp.Message{Type: ipv4.ICMPTypeDestinationUnreachable, Code: 4, Body: &icmp.RawBody{Data: append([]byte{0, 0, 2, 88}, quoted...)}}).Marshal(nil)
		if err != nil {
			t.Fatal(err)
		}
		return lab.IPPacket(outsider4, from.Addr(), policy.ICMP, m)
	}
	m, err := (&icmp.Message{Type: ipv6.ICMPTypePacketTooBig, Body: &icmp.PacketTooBig{MTU: 1280, Data: quoted}}).
		Marshal(icmp.IPv6PseudoHeader(outsider6.AsSlice(), from.Addr().AsSlice()))
	if err != nil {
		t.Fatal(err)
	}
	return lab.IPPacket(outsider6, from.Addr(), policy.ICMPv6, m)
}

func forgedTooBig(t *testing.T) [][]byte {
	t.Helper()
	return [][]byte{
		tooBigFor(t, 4, outside4, medisys4, nil),
		tooBigFor(t, 4, outside4, medisys4, func(q []byte) []byte { // with an option
			q[0] = 0x46
			return slices.Insert(q, 20, 1, 1, 1, 1)
		}),
		tooBigFor(t, 4, outside4, medisys4, func(q []byte) []byte { // with as many as fit
			q[0] = 0x4f
			return slices.Insert(q, 20, make([]byte, 40)...)
		}),
	}
}

func forgedTooBig6(t *testing.T) [][]byte {
	t.Helper()
	list := [][]byte{tooBigFor(t, 6, outside6, medisys6, nil)}
	for _, header := range []byte{unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_FRAGMENT, unix.IPPROTO_DSTOPTS, unix.IPPROTO_AH} {
		list = append(list, tooBigFor(t, 6, outside6, medisys6, func(q []byte) []byte {
			q[6] = header
			binary.BigEndian.PutUint16(q[4:], uint16(len(q)-40+8))
			return slices.Insert(q, 40, unix.IPPROTO_UDP, 0, 0, 0, 0, 0, 0, 0)
		}))
	}
	return list
}
