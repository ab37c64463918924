package lab_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/lab"
)

func TestMain(m *testing.M) {
	if p, ok := programs[os.Getenv(programVariable)]; ok {
		lab.Main(p)
	}
	lab.Main(m)
}

// within gives the time after which the test stops waiting.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), d, errors.New("too late"))
	t.Cleanup(cancel)
	return ctx
}

// three joins a client, a router and a server:
//
//	client 192.0.2.2 ------ .1 router 198.51.100.1 ------ .2 server
//	   2001:db8:1::2 ----- ::1        2001:db8:2::1 ----- ::2
func three(t *testing.T) (client, router, server *lab.Host) {
	l := lab.New(t)
	client, router, server = l.Host("client"), l.Host("router"), l.Host("server")
	l.Link(client, "eth0", lab.Prefixes("192.0.2.2/24", "2001:db8:1::2/64"),
		router, "eth0", lab.Prefixes("192.0.2.1/24", "2001:db8:1::1/64"))
	l.Link(router, "eth1", lab.Prefixes("198.51.100.1/24", "2001:db8:2::1/64"),
		server, "eth0", lab.Prefixes("198.51.100.2/24", "2001:db8:2::2/64"))
	everything4, everything6 := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")
	client.Route(everything4, netip.MustParseAddr("192.0.2.1"))
	client.Route(everything6, netip.MustParseAddr("2001:db8:1::1"))
	server.Route(everything4, netip.MustParseAddr("198.51.100.1"))
	server.Route(everything6, netip.MustParseAddr("2001:db8:2::1"))
	return client, router, server
}

func TestPingCrossesARouterOnlyIfItForwards(t *testing.T) {
	client, router, _ := three(t)
	for _, to := range []string{"198.51.100.2", "2001:db8:2::2"} {
		if rtt, err := client.Ping(within(t, 200*time.Millisecond), netip.MustParseAddr(to)); err == nil {
			t.Errorf("ping %s before the router forwards: answered in %v, want no answer", to, rtt)
		}
	}
	router.Forward()
	if got := router.ReadSysctl("net.ipv4.ip_forward"); got != "1" {
		t.Errorf("net.ipv4.ip_forward of the router is %q, want 1", got)
	}
	for _, to := range []string{"192.0.2.1", "198.51.100.2", "2001:db8:1::1", "2001:db8:2::2", "127.0.0.1", "::1"} {
		if _, err := client.Ping(within(t, 10*time.Second), netip.MustParseAddr(to)); err != nil {
			t.Errorf("ping %s once the router forwards: %v", to, err)
		}
	}
}

func TestEchoAndExchange(t *testing.T) {
	client, router, server := three(t)
	router.Forward()
	for _, c := range []struct{ network, address string }{
		{"tcp", "198.51.100.2:0"}, {"udp", "198.51.100.2:0"}, {"tcp", "[2001:db8:2::2]:0"}, {"udp", "[2001:db8:2::2]:0"},
	} {
		at := server.Echo(c.network, c.address)
		if _, err := client.Exchange(within(t, 10*time.Second), c.network, at.String(), "mokugyo"); err != nil {
			t.Errorf("%s echo at %v: %v", c.network, at, err)
		}
	}
	if _, err := client.Exchange(within(t, 10*time.Second), "tcp", "198.51.100.2:9", "x"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("exchange with a port where nothing listens: %v, want connection refused", err)
	}
}

func TestDialFromChoosesTheAddress(t *testing.T) {
	client, router, server := three(t)
	router.Forward()
	l, err := server.Listen("tcp", "198.51.100.2:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.DialFrom(within(t, 10*time.Second), "tcp", netip.MustParseAddrPort("192.0.2.2:4321"), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, want := s.RemoteAddr().String(), "192.0.2.2:4321"; got != want {
		t.Errorf("the server sees %s, want %s", got, want)
	}
}

func TestCaptureTellsDirectionPortsAndTime(t *testing.T) {
	client, router, server := three(t)
	router.Forward()
	inside, outside := server.Capture("eth0"), client.Capture("eth0")
	begin := time.Now()
	at := server.Echo("udp", "198.51.100.2:7007")
	if _, err := client.Exchange(within(t, 10*time.Second), "udp", at.String(), "twelve bytes"); err != nil {
		t.Fatal(err)
	}
	end := time.Now()
	for _, c := range []struct {
		name      string
		capture   *lab.Capture
		direction func(lab.Packet) bool
		ends      func(lab.Packet) bool
	}{
		{"request leaves the client", outside, lab.Outgoing, lab.To(at.Addr())},
		{"request reaches the server", inside, lab.Incoming, lab.To(at.Addr())},
		{"answer leaves the server", inside, lab.Outgoing, lab.From(at.Addr())},
		{"answer reaches the client", outside, lab.Incoming, lab.From(at.Addr())},
	} {
		got := c.capture.Packets(c.direction, c.ends, lab.Protocol(17), lab.After(begin))
		if len(got) != 1 {
			t.Errorf("%s: %d packets, want 1\n%s", c.name, len(got), lab.Lines(got))
			continue
		}
		p := got[0]
		if string(p.Payload) != "twelve bytes" || p.Length != 20+8+12 {
			t.Errorf("%s: %q in %d bytes, want %q in 40", c.name, p.Payload, p.Length, "twelve bytes")
		}
		if p.Source != at && p.Destination != at {
			t.Errorf("%s: %v, want %v at one end", c.name, p, at)
		}
		if p.At.Before(begin) || p.At.After(end) {
			t.Errorf("%s: passed at %v, want between %v and %v", c.name, p.At, begin, end)
		}
	}
	inside.Forget()
	if got := inside.Packets(lab.Protocol(17)); len(got) != 0 {
		t.Errorf("after Forget: %d packets, want 0", len(got))
	}
	inside.Stop()
	if _, err := client.Exchange(within(t, 10*time.Second), "udp", at.String(), "after the stop"); err != nil {
		t.Fatal(err)
	}
	if got := inside.Packets(lab.Protocol(17)); len(got) != 0 {
		t.Errorf("after Stop: %d packets, want 0", len(got))
	}
}

// The collector must not close the socket for which the kernel stamps packets.
func TestCaptureStampsPacketsAfterACollection(t *testing.T) {
	client, _, _ := three(t)
	at := client.Echo("udp", "127.0.0.1:0")
	for range 20 {
		c, begin := client.Capture("lo"), time.Now()
		if _, err := client.Exchange(within(t, 10*time.Second), "udp", at.String(), "x"); err != nil {
			t.Fatal(err)
		}
		if got := c.Packets(lab.Protocol(17), lab.After(begin)); len(got) != 4 {
			t.Fatalf("%d packets, want request and answer, each leaving and coming in\n%s", len(got), lab.Lines(got))
		}
		c.Stop()
		runtime.GC()
	}
}

func TestSendForgesTheSource(t *testing.T) {
	client, router, server := three(t)
	router.Forward()
	for _, c := range []struct{ from, to string }{
		{"203.0.113.66:4500", "198.51.100.2:51820"},
		{"[2001:db8:bad::1]:4500", "[2001:db8:2::2]:51820"},
	} {
		from, to := netip.MustParseAddrPort(c.from), netip.MustParseAddrPort(c.to)
		socket, err := server.ListenPacket("udp", c.to)
		if err != nil {
			t.Fatal(err)
		}
		// The first packet to an unresolved IPv6 neighbour waits in a queue
		// of the kernel, so it is not lost.
		if err := client.Send(lab.UDPPacket(from, to, []byte("odd"))); err != nil {
			t.Fatal(err)
		}
		if err := socket.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, 100)
		// The socket's kernel verifies the checksum before it delivers.
		n, seen, err := socket.ReadFrom(buffer)
		if err != nil {
			t.Errorf("from %v: %v", from, err)
			continue
		}
		if seen.String() != c.from || string(buffer[:n]) != "odd" {
			t.Errorf("the server received %q from %v, want %q from %v", buffer[:n], seen, "odd", from)
		}
	}
	if err := client.Send([]byte("no packet")); err == nil {
		t.Error("Send of no IP packet: no error")
	}
}

func TestDoRunsInsideAndReportsItsEnd(t *testing.T) {
	l := lab.New(t)
	h := l.Host("alone")
	namespace := func() string {
		link, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
		}
		return link
	}
	before := namespace()
	var inside string
	odd := errors.New("odd")
	if err := h.Do(func() error { inside = namespace(); return odd }); err != odd {
		t.Errorf("Do returned %v, want the function's own error", err)
	}
	if inside == before {
		t.Errorf("inside Do the namespace is %s, as outside", inside)
	}
	// Threads come home, whichever goroutine gets them next.
	for range 100 {
		if got := namespace(); got != before {
			t.Fatalf("after Do the namespace is %s, want %s", got, before)
		}
	}
	if err := h.Do(func() error { runtime.Goexit(); return nil }); err == nil || !strings.Contains(err.Error(), "ended its goroutine") {
		t.Errorf("Do of a function that left by Goexit: %v", err)
	}
}
