package tunnel

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/lab"
)

// suspicious has medisys take answers only from whom it asked, as a NAT or a firewall does.
const suspicious = `nft add table inet own
nft 'add chain inet own in { type filter hook input priority 0; }'
nft add rule inet own in udp sport 51820 ct state != established drop`

// TestFault121AnswersFromTheAddressThatWasAsked: the gateway has several addresses. A client that takes
// answers only from whom it asked enters by each of them, and data, also joined, leave from there.
func TestFault121AnswersFromTheAddressThatWasAsked(t *testing.T) {
	s, _ := newSiteIn(t)
	s.open(later(), s.sato)
	ip(t, s.gateway, `ip addr add 203.0.113.2/24 dev eth0
ip addr add 192.0.2.77/32 dev lo
ip addr add 2001:db8:1::2/64 dev eth0 nodad
ip addr add 2001:db8:1::1234:5678:9abc:def0/64 dev eth0 nodad
ip addr add 2001:db8:77::1/128 dev lo`)
	ip(t, s.medisys, suspicious+`
ip route add 192.0.2.77/32 via 203.0.113.1
ip route add 2001:db8:77::1/128 via 2001:db8:1::1`)
	wire := s.medisys.Capture("eth0")
	s.open(later(), s.sato)
	for _, own := range []string{"203.0.113.1", "203.0.113.2", "192.0.2.77", "2001:db8:1::1", "2001:db8:1::2", "2001:db8:1::1234:5678:9abc:def0", "2001:db8:77::1"} {
		t.Run(own, func(t *testing.T) {
			asked := netip.AddrPortFrom(netip.MustParseAddr(own), 51820)
			c := s.client(s.medisys, s.sato, asked)
			defer c.Close()
			s.enter(c)
			begun := len(wire.Packets(lab.Incoming, lab.Protocol(17)))
			s.stream(t)
			joined := 0
			for _, p := range wire.Packets(lab.Incoming, lab.Protocol(17))[begun:] {
				if p.Source != asked {
					t.Fatalf("asked %v, answered: %v", asked, p)
				}
				if p.Length > 2000 {
					joined++
				}
			}
			if joined == 0 {
				t.Error("no datagrams left joined")
			}
		})
	}
}

// stream sends half a megabyte from medisys through the tunnel, and then back.
func (s *site) stream(t *testing.T) {
	t.Helper()
	l, err := s.gateway.Listen("tcp", "10.99.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		all, _ := io.ReadAll(c) // the other end tells what is missing
		_, _ = c.Write(all)
	}()
	c, err := s.medisys.Dial(within(t, 20*time.Second), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	const size = 1 << 19
	_, err = c.Write(make([]byte, size))
	back, readErr := []byte(nil), c.(*net.TCPConn).CloseWrite()
	if err == nil && readErr == nil {
		back, readErr = io.ReadAll(c)
	}
	if err != nil || readErr != nil || len(back) != size {
		t.Fatalf("%d bytes came back of %d: %v, %v", len(back), size, err, readErr)
	}
}

// uplinks put a provider between the gateway and medisys, whose addresses stay when the gateway's change.
// The gateway has no other way to medisys than those by wan0.
func (s *site) uplinks(t *testing.T, l *lab.Lab) *lab.Host {
	ip(t, s.gateway, "ip link del eth0")
	provider := l.Host("provider")
	provider.Forward()
	l.Link(provider, "eth0", lab.Prefixes("203.0.113.1/24", "2001:db8:1::1/64"), s.medisys, "eth0", lab.Prefixes("203.0.113.10/24", "2001:db8:1::10/64"))
	s.medisys.Route(lab.Prefixes("0.0.0.0/0")[0], netip.MustParseAddr("203.0.113.1"))
	s.medisys.Route(lab.Prefixes("::/0")[0], netip.MustParseAddr("2001:db8:1::1"))
	return provider
}

// dial joins gateway and provider. The gateway has the host part in the network 198.18.number.0/24 and its
// IPv6 like, and goes that way to medisys.
func (s *site) dial(l *lab.Lab, provider *lab.Host, number, host int) {
	name := fmt.Sprintf("wan%d", number)
	l.Link(s.gateway, name, lab.Prefixes(fmt.Sprintf("198.18.%d.%d/24", number, host), fmt.Sprintf("2001:db8:18:%d::%d/64", number, host)),
		provider, name, lab.Prefixes(fmt.Sprintf("198.18.%d.1/24", number), fmt.Sprintf("2001:db8:18:%d::1/64", number)))
	s.gateway.Route(lab.Prefixes("203.0.113.0/24")[0], netip.MustParseAddr(fmt.Sprintf("198.18.%d.1", number)))
	s.gateway.Route(lab.Prefixes("2001:db8:1::/64")[0], netip.MustParseAddr(fmt.Sprintf("2001:db8:18:%d::1", number)))
}

// target is a target that sends to the engineer on medisys.
type target struct {
	t    *testing.T
	from net.Conn
	at   net.PacketConn
	sent int // bursts
}

func (s *site) target(t *testing.T) *target {
	t.Helper()
	at, err := s.medisys.ListenPacket("udp", "10.99.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	from, err := s.gateway.Dial(t.Context(), "udp", at.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { from.Close(); at.Close() })
	return &target{t: t, from: from, at: at}
}

// burst sends as many datagrams as the gateway's sockets can join.
func (g *target) burst(count int) {
	g.t.Helper()
	g.sent++
	for range count {
		if _, err := fmt.Fprintf(g.from, "%d %0900d", g.sent, 0); err != nil {
			g.t.Fatal(err)
		}
	}
}

// arrives counts what arrives of the last burst, until it is so many or a second passes without.
func (g *target) arrives(count int) (got int) {
	var buffer [2000]byte
	for got < count {
		_ = g.at.SetReadDeadline(time.Now().Add(time.Second))
		n, _, err := g.at.ReadFrom(buffer[:])
		if err != nil {
			break
		}
		if strings.HasPrefix(string(buffer[:n]), fmt.Sprintf("%d ", g.sent)) {
			got++
		}
	}
	return got
}

// mute has medisys send nothing to the gateway any more.
const mute = `nft add table inet mute
nft 'add chain inet mute out { type filter hook output priority 0; }'
nft add rule inet mute out udp dport 51820 drop`

// TestFault122RedialWhileOnlyTheTargetSends: the gateway's interface to the outside is made anew, with
// another index, and perhaps another address. The engineer's side is silent. What the target sends goes on,
// from its first packet.
func TestFault122RedialWhileOnlyTheTargetSends(t *testing.T) {
	s, l := newSiteIn(t)
	provider := s.uplinks(t, l)
	host := 2
	s.dial(l, provider, 0, host)
	s.open(later(), s.sato)
	for _, c := range []struct {
		name, endpoint string
		moves          int
	}{
		{"IPv4, another address", "198.18.0.%d:51820", 1},
		{"IPv4, the same address", "198.18.0.%d:51820", 0},
		{"IPv6, another address", "[2001:db8:18:0::%d]:51820", 1},
		{"IPv6, the same address", "[2001:db8:18:0::%d]:51820", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := s.client(s.medisys, s.sato, netip.MustParseAddrPort(fmt.Sprintf(c.endpoint, host)))
			defer client.Close()
			s.enter(client)
			g := s.target(t)
			if g.burst(1); g.arrives(1) != 1 {
				t.Fatal("nothing arrives before")
			}
			ip(t, s.medisys, mute)
			ip(t, s.gateway, "ip link del wan0")
			host += c.moves
			g.burst(2) // nobody can carry it
			s.dial(l, provider, 0, host)
			for range 2 {
				if g.burst(30); g.arrives(30) != 30 {
					t.Error("what the target sends after the redial does not arrive")
				}
			}
			ip(t, s.medisys, "nft delete table inet mute")
			if err := s.ping(s.medisys, 5*time.Second); err != nil {
				t.Errorf("once the engineer sends: %v", err)
			}
			if want := netip.MustParseAddrPort(fmt.Sprintf(c.endpoint, host)); client.Status().Endpoint != want {
				t.Errorf("the client's endpoint is %v, want %v", client.Status().Endpoint, want)
			}
		})
	}
}

// TestFault122AnotherUplinkTakesOver: the interface by which the engineer came stays up with its address, but
// the way to the engineer leads by another one. Nothing fails, and nothing would arrive.
func TestFault122AnotherUplinkTakesOver(t *testing.T) {
	s, l := newSiteIn(t)
	provider := s.uplinks(t, l)
	s.open(later(), s.sato)
	for n, endpoint := range []string{"198.18.0.2:51820", "[2001:db8:18:2::2]:51820"} {
		t.Run(endpoint, func(t *testing.T) {
			s.dial(l, provider, 2*n, 2)
			client := s.client(s.medisys, s.sato, netip.MustParseAddrPort(endpoint))
			defer client.Close()
			s.enter(client)
			ip(t, s.medisys, mute)
			s.dial(l, provider, 2*n+1, 2)
			// A provider drops what has a source of another one (RFC 2827).
			ip(t, provider, fmt.Sprintf(`nft add table inet own
nft 'add chain inet own in { type filter hook prerouting priority 0; }'
nft 'add rule inet own in iifname wan%[1]d ip saddr != 198.18.%[1]d.0/24 drop'
nft 'add rule inet own in iifname wan%[1]d ip6 saddr != { 2001:db8:18:%[1]d::/64, fe80::/64 } drop' `, 2*n+1))
			g := s.target(t)
			lab.WaitFor(t, 10*time.Second, "what the target sends", func() bool {
				g.burst(1)
				return g.arrives(1) == 1
			})
			ip(t, s.medisys, "nft delete table inet mute")
			if err := s.ping(s.medisys, 5*time.Second); err != nil {
				t.Errorf("once the engineer sends: %v", err)
			}
			ip(t, provider, "nft delete table inet own")
		})
	}
}
