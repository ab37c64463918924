package lab_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"kidoban/gateway/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), d, errors.New("too late"))
	t.Cleanup(cancel)
	return ctx
}

// three joins a client, a router and a server:
//
//	client 192.0.2.2 --- 192.0.2.1 router 198.51.100.1 --- 198.51.100.2 server
//	    2001:db8:1::2 --- ::1             2001:db8:2::1 --- ::2
func three(t *testing.T) (client, router, server *lab.Host) {
	l := lab.New(t)
	client, router, server = l.Host("client"), l.Host("router"), l.Host("server")
	l.Link(client, "eth0", lab.Prefixes("192.0.2.2/24", "2001:db8:1::2/64"), router, "eth0", lab.Prefixes("192.0.2.1/24", "2001:db8:1::1/64"))
	l.Link(router, "eth1", lab.Prefixes("198.51.100.1/24", "2001:db8:2::1/64"), server, "eth0", lab.Prefixes("198.51.100.2/24", "2001:db8:2::2/64"))
	for _, p := range lab.Prefixes("0.0.0.0/0", "::/0") {
		client.Route(p, map[bool]netip.Addr{true: netip.MustParseAddr("192.0.2.1"), false: netip.MustParseAddr("2001:db8:1::1")}[p.Addr().Is4()])
		server.Route(p, map[bool]netip.Addr{true: netip.MustParseAddr("198.51.100.1"), false: netip.MustParseAddr("2001:db8:2::1")}[p.Addr().Is4()])
	}
	return client, router, server
}

func TestPingCrossesARouterOnlyIfItForwards(t *testing.T) {
	client, router, _ := three(t)
	for _, to := range []string{"198.51.100.2", "2001:db8:2::2"} {
		if rtt, err := client.Ping(within(t, 300*time.Millisecond), netip.MustParseAddr(to)); err == nil {
			t.Errorf("ping %s before the router forwards: answered in %v, want no answer", to, rtt)
		}
	}
	router.Forward()
	for _, to := range []string{"192.0.2.1", "198.51.100.2", "2001:db8:1::1", "2001:db8:2::2", "127.0.0.1", "::1"} {
		if _, err := client.Ping(within(t, 3*time.Second), netip.MustParseAddr(to)); err != nil {
			t.Errorf("ping %s once the router forwards: %v", to, err)
		}
	}
}

func TestClientHandshake(t *testing.T) {
	client, router, server := three(t)
	router.Forward()
	cp, cq := lab.NewKey()
	sp, sq := lab.NewKey()
	wg := client.NewClient(lab.ClientConfig{PrivateKey: cp, PeerKey: sq, Endpoint: netip.MustParseAddrPort("198.51.100.2:51820"),
		Addresses: lab.Prefixes("10.99.0.2/32"), AllowedIPs: lab.Prefixes("10.99.0.1/32")})
	server.NewClient(lab.ClientConfig{PrivateKey: sp, PeerKey: cq, ListenPort: 51820,
		Addresses: lab.Prefixes("10.99.0.1/32"), AllowedIPs: lab.Prefixes("10.99.0.2/32")})
	if err := wg.Handshake(within(t, 3*time.Second)); err != nil {
		t.Fatal(err)
	}
	cw := client.Capture("wg0")
	sw := server.Capture("wg0")
	defer func() { t.Logf("\n%s\n%s", lab.Lines(cw.Packets()), lab.Lines(sw.Packets())); t.Log(wg.Status()) }()
	if rtt, err := client.Ping(within(t, 3*time.Second), netip.MustParseAddr("10.99.0.1")); err != nil {
		t.Fatal(err)
	} else {
		t.Log(rtt)
	}
}
