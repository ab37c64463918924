package e2e

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway/api"
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
		{1400, 4, api.MTU, true},
		{1420, 6, api.MTU, true},
		{1399, 4, api.MTU, false},
		{1340, 4, 1280, true},
		{1360, 6, 1280, true},
	} {
		t.Run(fmt.Sprintf("a path of %d bytes over IPv%d, MTU %d", c.path, c.family, c.mtu), func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
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

// TestFault73ForgedPathMTU: somebody, from an address of their own, tells the
// gateway that the way to an engineer is narrow. It does not believe that,
// whatever packet is quoted, since full packets would not be sent any more.
func TestFault73ForgedPathMTU(t *testing.T) {
	for _, family := range []int{4, 6} {
		t.Run(fmt.Sprintf("over IPv%d", family), func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
			g.serve()
			to, route, forged := medisys4, []string{"203.0.113.0/24", "via", "192.0.2.1"}, forgedTooBig(t)
			if family == 6 {
				to, route, forged = medisys6, []string{"2001:db8:1::/64", "via", "2001:db8:f::1"}, forgedTooBig6(t)
			}
			send := func() {
				t.Helper()
				for _, p := range forged {
					g.check(g.outsider.Send(p))
				}
			}
			believes := func() bool { return strings.Contains(g.routeOf(to), " mtu ") }
			// Before the ruleset stands the host believes it.
			send()
			lab.WaitFor(t, eventually, "the host believes it", believes)
			g.open([]string{hour("work", "ehr")}, []string{hour("work", "pacs")})
			// Of IPv6 the kernel keeps it; and in a user namespace nobody may ask.
			forgets := family == 4 && g.gateway.Do(func() error { _, err := os.Stat("/proc/sys/net/ipv4/route/flush"); return err }) == nil
			if forgets && believes() {
				t.Errorf("what the host was told before the start is not forgotten: %s", g.routeOf(to))
			}
			g.mustEnter(g.client(g.medisys, sato, family))
			g.satosFlow().Close()
			send()
			g.dropped("icmp", len(forged))
			if forgets && believes() {
				t.Errorf("the gateway believes that the way to the engineer is narrow: %s", g.routeOf(to))
			}
			if err := echoed(g, 1<<20, time.Minute); err != nil {
				t.Errorf("a mebibyte there and back: %v", err)
			}
			// Whatever the host believes, sessions do not go by it.
			g.mustRun(g.gateway, "ip", append(append([]string{"route", "add"}, route...), "mtu", map[int]string{4: "600", 6: "1280"}[family])...)
			if !believes() {
				t.Fatalf("the way to the engineer is not narrow: %s", g.routeOf(to))
			}
			if err := echoed(g, 1<<20, time.Minute); err != nil {
				t.Errorf("a mebibyte there and back: %v", err)
			}
		})
	}
}

// dropped waits until the ruleset has dropped so many packets for a cause.
func (g *ground) dropped(cause string, n int) {
	g.t.Helper()
	lab.WaitFor(g.t, eventually, fmt.Sprintf("%d packets are refused for the cause %s", n, cause), func() bool {
		got, err := g.metric(fmt.Sprintf("kidoban_refused_packets_total{cause=%q}", cause))
		return err == nil && got >= float64(n)
	})
}

// routeOf is how the gateway's host reaches an address, in the words of ip(8).
func (g *ground) routeOf(a netip.Addr, more ...string) string {
	g.t.Helper()
	out, err := g.gateway.Command(g.t.Context(), "ip", append([]string{"route", "get", a.String()}, more...)...).CombinedOutput()
	if err != nil {
		g.t.Fatal(err, string(out))
	}
	return string(out)
}

// TestFault73OwnPathMTU: a connection of the host itself still learns how
// narrow its way is.
func TestFault73OwnPathMTU(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.start()
	g.mustRun(g.internet, "ip", "link", "set", "eth2", "mtu", "1300")
	for _, to := range []netip.Addr{outsider4, outsider6} {
		l, err := g.outsider.Listen("tcp", netip.AddrPortFrom(to, 8443).String())
		g.check(err)
		const size = 1 << 18
		came := make(chan error, 1)
		go func() {
			c, err := l.Accept()
			if err == nil {
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				_, err = io.CopyN(io.Discard, c, size)
				c.Close()
			}
			came <- err
		}()
		c, err := g.gateway.Dial(g.within(eventually), "tcp", netip.AddrPortFrom(to, 8443).String())
		g.check(err)
		defer c.Close()
		if _, err := c.Write(make([]byte, size)); err != nil {
			t.Errorf("to %v: %v", to, err)
		}
		if err := <-came; err != nil {
			t.Errorf("to %v: %v", to, err)
		}
		if route := g.routeOf(to); !strings.Contains(route, " mtu 1300") {
			t.Errorf("the host has not learned how narrow the way to %v is: %s", to, route)
		}
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
		return unreachable(t, outsider4, from.Addr(), 4, 600, quoted)
	}
	return tooBig6(t, outsider6, from.Addr(), 1280, quoted)
}

func forgedTooBig(t *testing.T) [][]byte {
	t.Helper()
	list := [][]byte{
		tooBigFor(t, 4, outside4, medisys4, nil),
		tooBigFor(t, 4, outside4, medisys4, func(q []byte) []byte { // with an option
			q[0] = 0x46
			return slices.Insert(q, 20, 1, 1, 1, 1)
		}),
		tooBigFor(t, 4, outside4, medisys4, func(q []byte) []byte { // with as many as fit
			q[0] = 0x4f
			return slices.Insert(q, 20, make([]byte, 40)...)
		}),
		tooBigFor(t, 4, netip.AddrPortFrom(outside4.Addr(), 500), medisys4, nil),
	}
	for _, protocol := range quotable {
		list = append(list, tooBigFor(t, 4, outside4, medisys4, func(q []byte) []byte {
			q[9] = protocol
			return append(q[:20], make([]byte, 32)...) // for ICMP an answer to a ping
		}))
	}
	return list
}

// quotable are protocols of which a packet may be quoted beside UDP and TCP:
// ICMP, IP in IP, GRE, ESP, AH, SCTP, UDP-Lite, and one that nobody has.
var quotable = []byte{unix.IPPROTO_ICMP, unix.IPPROTO_IPIP, unix.IPPROTO_GRE, unix.IPPROTO_ESP, unix.IPPROTO_AH, unix.IPPROTO_SCTP, unix.IPPROTO_UDPLITE, 253}

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
	for _, protocol := range append([]byte{unix.IPPROTO_ICMPV6, unix.IPPROTO_IPV6}, quotable[2:]...) {
		list = append(list, tooBigFor(t, 6, outside6, medisys6, func(q []byte) []byte {
			q[6] = protocol
			return append(q[:40], 129, 0, 0, 0, 0, 0, 0, 0) // for ICMPv6 an answer to a ping
		}))
	}
	return list
}
