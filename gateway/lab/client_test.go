package lab_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"kidoban/gateway/lab"
)

// pair makes the two ends of a tunnel between client and server of three.
func pair(t *testing.T) (client, server *lab.Host, near, far *lab.Client) {
	client, router, server := three(t)
	router.Forward()
	nearPrivate, nearPublic := lab.NewKey()
	farPrivate, farPublic := lab.NewKey()
	preshared, _ := lab.NewKey()
	near = client.NewClient(lab.ClientConfig{
		PrivateKey: nearPrivate, PeerKey: farPublic, PresharedKey: preshared,
		Endpoint:   netip.MustParseAddrPort("198.51.100.2:51820"),
		Addresses:  lab.Prefixes("10.99.0.2/32", "fd00:99::2/128"),
		AllowedIPs: lab.Prefixes("10.99.0.1/32", "fd00:99::/64"),
		MTU:        1340,
	})
	far = server.NewClient(lab.ClientConfig{
		PrivateKey: farPrivate, PeerKey: nearPublic, PresharedKey: preshared,
		ListenPort: 51820,
		Addresses:  lab.Prefixes("10.99.0.1/32", "fd00:99::1/128"),
		AllowedIPs: lab.Prefixes("10.99.0.2/32", "fd00:99::2/128"),
	})
	return client, server, near, far
}

func TestClientCarriesTraffic(t *testing.T) {
	client, server, near, far := pair(t)
	if !near.Status().LastHandshake.IsZero() {
		t.Error("a handshake before there was anything to send")
	}
	for _, to := range []string{"10.99.0.1", "fd00:99::1"} {
		if _, err := client.Ping(within(t, 5*time.Second), netip.MustParseAddr(to)); err != nil {
			t.Error(err)
		}
		at := server.Echo("tcp", netip.AddrPortFrom(netip.MustParseAddr(to), 0).String())
		if _, err := client.Exchange(within(t, 5*time.Second), "tcp", at.String(), "through the tunnel"); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []*lab.Client{near, far} {
		if s := c.Status(); s.LastHandshake.IsZero() || s.Received == 0 || s.Transmitted == 0 {
			t.Errorf("status after traffic: %+v, want a handshake and bytes both ways", s)
		}
	}
	if got, want := near.Status().Endpoint, netip.MustParseAddrPort("198.51.100.2:51820"); got != want {
		t.Errorf("the near end talks to %v, want %v", got, want)
	}
}

func TestClientRekeysWithoutLosingAHeldStream(t *testing.T) {
	client, server, near, _ := pair(t)
	at := server.Echo("tcp", "10.99.0.1:0")
	c, err := client.Dial(within(t, 5*time.Second), "tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		last := near.Status().LastHandshake
		// wireguard-go ignores an initiation within 20 ms of the last one.
		lab.WaitFor(t, 5*time.Second, "20 ms since the last handshake", func() bool { return time.Since(last) > 50*time.Millisecond })
		if err := near.Handshake(within(t, 5*time.Second)); err != nil {
			t.Fatalf("rekey %d: %v", i, err)
		}
		message := []byte{'a' + byte(i)}
		if _, err := c.Write(message); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 1)
		if _, err := c.Read(answer); err != nil || answer[0] != message[0] {
			t.Fatalf("after rekey %d the stream gives %q, %v, want %q", i, answer, err, message)
		}
	}
}

func TestClientDownIsSilentAndComesBackFromAnotherPort(t *testing.T) {
	client, _, near, far := pair(t)
	to := netip.MustParseAddr("10.99.0.1")
	if _, err := client.Ping(within(t, 5*time.Second), to); err != nil {
		t.Fatal(err)
	}
	first := far.Status().Endpoint
	if err := near.Down(); err != nil {
		t.Fatal(err)
	}
	wire := client.Capture("eth0")
	if rtt, err := client.Ping(within(t, 200*time.Millisecond), to); err == nil {
		t.Errorf("ping through a client that is down: answered in %v", rtt)
	}
	if got := wire.Packets(lab.Outgoing, lab.Protocol(17)); len(got) != 0 {
		t.Errorf("a client that is down sent\n%s", lab.Lines(got))
	}
	// Or the kernel might choose the same port once more.
	if _, err := client.ListenPacket("udp", fmt.Sprintf(":%d", first.Port())); err != nil {
		t.Fatal(err)
	}
	if err := near.Up(); err != nil {
		t.Fatal(err)
	}
	if err := near.Handshake(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Ping(within(t, 5*time.Second), to); err != nil {
		t.Error(err)
	}
	if got := wire.Packets(lab.Outgoing, lab.Protocol(17)); len(got) == 0 {
		t.Error("a client that is up again sent nothing")
	}
	if second := far.Status().Endpoint; first.Addr() != second.Addr() || first.Port() == second.Port() {
		t.Errorf("the client came from %v and then from %v, want the same address and another port", first, second)
	}
}

func TestClientWithTheWrongKeyIsNotAnswered(t *testing.T) {
	l := lab.New(t)
	a, b := l.Host("a"), l.Host("b")
	l.Link(a, "eth0", lab.Prefixes("192.0.2.1/24"), b, "eth0", lab.Prefixes("192.0.2.2/24"))
	private, _ := lab.NewKey()
	_, stranger := lab.NewKey()
	serverPrivate, serverPublic := lab.NewKey()
	b.NewClient(lab.ClientConfig{PrivateKey: serverPrivate, PeerKey: stranger, ListenPort: 51820})
	c := a.NewClient(lab.ClientConfig{PrivateKey: private, PeerKey: serverPublic, Endpoint: netip.MustParseAddrPort("192.0.2.2:51820")})
	// What is sent next waits for no neighbour.
	if _, err := a.Ping(within(t, 10*time.Second), netip.MustParseAddr("192.0.2.2")); err != nil {
		t.Fatal(err)
	}
	wire := a.Capture("eth0")
	if err := c.Handshake(within(t, 300*time.Millisecond)); err == nil {
		t.Error("a handshake with a key that the other end does not know")
	}
	lab.WaitFor(t, 5*time.Second, "what it sent leaves, when it is known where to", func() bool { return len(wire.Packets(lab.Outgoing, lab.Protocol(17))) > 0 })
	if got := wire.Packets(lab.Outgoing, lab.Protocol(17)); len(got) != 1 || len(got[0].Payload) != 148 {
		t.Errorf("sent, want one initiation of 148 bytes:\n%s", lab.Lines(got))
	}
	if got := wire.Packets(lab.Incoming, lab.Protocol(17)); len(got) != 0 {
		t.Errorf("came back, want nothing:\n%s", lab.Lines(got))
	}
}

// TestEnterCarriesPackets has a Session bring a datagram through plain wireguard-go, and another end that does
// not know the key keep silent.
func TestEnterCarriesPackets(t *testing.T) {
	client, router, server := three(t)
	router.Forward()
	private, public := lab.NewKey()
	serverPrivate, serverPublic := lab.NewKey()
	inside := netip.MustParseAddrPort("10.99.0.1:53")
	server.NewClient(lab.ClientConfig{PrivateKey: serverPrivate, PeerKey: public, ListenPort: 51820,
		Addresses: lab.Prefixes("10.99.0.1/32"), AllowedIPs: lab.Prefixes("10.99.0.2/32")})
	l, err := server.ListenPacket("udp", inside.String())
	if err != nil {
		t.Fatal(err)
	}
	to := netip.MustParseAddrPort("198.51.100.2:51820")
	s, err := client.Enter(within(t, 5*time.Second), private, serverPublic, netip.AddrPort{}, to)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := l.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	from := netip.MustParseAddrPort("10.99.0.2:4000")
	for _, want := range []string{"one", "another, longer than a block"} {
		if err := s.Send(lab.UDPPacket(from, inside, []byte(want))); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 100)
		n, sender, err := l.ReadFrom(got)
		if err != nil {
			t.Fatal(err)
		}
		if string(got[:n]) != want || sender.String() != from.String() {
			t.Errorf("%q of %v arrived, want %q of %v", got[:n], sender, want, from)
		}
	}
	stranger, _ := lab.NewKey()
	if s, err := client.Enter(within(t, 200*time.Millisecond), stranger, serverPublic, netip.AddrPort{}, to); err == nil {
		s.Close()
		t.Error("a stranger got a session")
	}
}
