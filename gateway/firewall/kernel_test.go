package firewall

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// attempt is how long a connection that should not come about is tried.
const attempt = 300 * time.Millisecond

func passes(t *testing.T, what string, h *lab.Host, network, to string) {
	t.Helper()
	if _, err := h.Exchange(limited(t, 5*time.Second), network, to, "hello"); err != nil {
		t.Errorf("%s: %s/%s does not pass: %v", what, network, to, err)
	}
}

func stays(t *testing.T, what string, h *lab.Host, network, to string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), attempt)
	defer cancel()
	if took, err := h.Exchange(ctx, network, to, "hello"); err == nil {
		t.Errorf("%s: %s/%s passes, after %v", what, network, to, took)
	}
}

// TestOnlyListedFlows goes through who may begin what.
func TestOnlyListedFlows(t *testing.T) {
	n := newPlace(t, testOptions)
	for _, at := range []string{"10.1.0.5:22", "[fd00:1::5]:22", "10.1.0.5:23", "10.1.0.5:5901"} {
		n.target.Echo("tcp", at)
	}
	n.target.Echo("udp", "10.1.0.5:53")
	n.target.Echo("udp", "10.1.0.5:54")
	n.engineer.Echo("tcp", "10.99.0.2:80")
	n.engineer.Echo("udp", "10.99.0.2:161")
	n.gateway.Echo("tcp", "0.0.0.0:2200")
	n.outsider.Echo("tcp", "192.0.2.66:80")

	stays(t, "before a plan", n.engineer, "tcp", "10.1.0.5:22")
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))

	passes(t, "engineer", n.engineer, "tcp", "10.1.0.5:22")
	passes(t, "engineer", n.engineer, "tcp", "[fd00:1::5]:22")
	passes(t, "engineer", n.engineer, "tcp", "10.1.0.5:5901")
	passes(t, "engineer", n.engineer, "udp", "10.1.0.5:53")
	for _, a := range []netip.Addr{target4, target6} {
		if _, err := n.engineer.Ping(limited(t, 5*time.Second), a); err != nil {
			t.Errorf("engineer: ping %s: %v", a, err)
		}
	}
	stays(t, "engineer, unlisted port", n.engineer, "tcp", "10.1.0.5:23")
	stays(t, "engineer, unlisted port", n.engineer, "udp", "10.1.0.5:54")
	stays(t, "engineer to the gateway in the tunnel", n.engineer, "tcp", "10.99.0.1:2200")
	stays(t, "engineer to the gateway inside", n.engineer, "tcp", "10.1.0.1:2200")
	stays(t, "engineer to the outside", n.engineer, "tcp", "192.0.2.66:80")
	stays(t, "target to the engineer", n.target, "tcp", "10.99.0.2:80")
	stays(t, "gateway to the engineer", n.gateway, "tcp", "10.99.0.2:80")
	stays(t, "outsider to the target", n.outsider, "tcp", "10.1.0.5:22")
	stays(t, "target to the outside", n.target, "tcp", "192.0.2.66:80")
	passes(t, "the host's own service from inside, which is not ours to close", n.target, "tcp", "10.1.0.1:2200")

	// Another engineer's address, of whom no grant is open, and an address
	// of nobody.
	for _, a := range []string{"10.99.0.3", "10.99.0.77"} {
		if err := n.engineer.Send(synPacket(netip.MustParseAddr(a), 4000, target4, 22)); err != nil {
			t.Fatal(err)
		}
	}
	n.waitCounter(t, refusedFlow, 2)
}

// TestUntrackedFromTheTunnel: another program has conntrack leave the
// WireGuard port alone, as hosts with much traffic do. That does not let
// engineers to the port from within the tunnel.
func TestUntrackedFromTheTunnel(t *testing.T) {
	n := newPlace(t, testOptions)
	n.gateway.Echo("udp", "0.0.0.0:51820")
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)), netip.AddrPortFrom(vendor4, 40000))
	for _, rule := range []string{"add table inet other", "add chain inet other raw { type filter hook prerouting priority raw; }", "add rule inet other raw udp dport 51820 notrack"} {
		if out, err := nft(t, n.gateway, strings.Fields(rule)...); err != nil {
			t.Fatal(err, out)
		}
	}
	passes(t, "the vendor", n.vendor, "udp", port(outside4).String())
	before := n.counter(t, refusedGateway)
	for _, to := range []string{"10.99.0.1:51820", "10.1.0.1:51820"} {
		stays(t, "engineer to the WireGuard port", n.engineer, "udp", to)
		if err := n.engineer.Send(lab.UDPPacket(netip.AddrPortFrom(engineer4, 4000), netip.MustParseAddrPort(to), []byte("hello"))); err != nil {
			t.Fatal(err)
		}
	}
	n.waitCounter(t, refusedGateway, before+2)
}

// TestAnswersToTheSamePort: an engineer who asks from the number of the
// WireGuard port is answered, also in fragments, whether or not the host
// forwards for others.
func TestAnswersToTheSamePort(t *testing.T) {
	for _, others := range []bool{false, true} {
		o := testOptions
		o.ForwardOthers = others
		n := newPlace(t, o)
		n.target.Echo("udp", "10.1.0.5:53")
		n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)), netip.AddrPortFrom(vendor4, 40000))
		c, err := n.engineer.DialFrom(limited(t, 5*time.Second), "udp", port(engineer4), "10.1.0.5:53")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, size := range []int{5, 2000} {
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := c.Write(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			if got, err := c.Read(make([]byte, 4000)); err != nil || got != size {
				t.Errorf("others %v: of %d bytes %d come back: %v", others, size, got, err)
			}
		}
	}
}

// TestFault62ReverseLookup: what a target begins is not taken for an answer, even
// from a port that the vendor may use to a port that the vendor uses.
func TestFault62ReverseLookup(t *testing.T) {
	n := newPlace(t, testOptions)
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	capture := n.engineer.Capture("eth0")
	before := n.counter(t, refusedInward)
	for _, p := range [][]byte{
		lab.UDPPacket(netip.AddrPortFrom(target4, 53), netip.AddrPortFrom(engineer4, 161), []byte("get")),
		synPacket(target4, 22, engineer4, 3389),
	} {
		if err := n.target.Send(p); err != nil {
			t.Fatal(err)
		}
	}
	n.waitCounter(t, refusedInward, before+2)
	if got := capture.Packets(lab.Incoming, lab.From(target4)); len(got) > 0 {
		t.Errorf("the engineer got:\n%s", lab.Lines(got))
	}
}

// TestFault34SpoofedInside: who is not in the tunnel cannot use its addresses.
func TestFault34SpoofedInside(t *testing.T) {
	n := newPlace(t, testOptions)
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	capture := n.target.Capture("eth0")
	if err := n.outsider.Send(synPacket(engineer4, 4000, target4, 22)); err != nil {
		t.Fatal(err)
	}
	n.waitCounter(t, refusedSpoofed, 1)
	if got := capture.Packets(lab.Incoming, lab.From(engineer4)); len(got) > 0 {
		t.Errorf("the target got:\n%s", lab.Lines(got))
	}
}

// TestFault22EstablishedStreamsEnd holds a TCP stream and a one-way UDP stream in each direction
// past the end of their elements, while nobody but the kernel does anything.
func TestFault22EstablishedStreamsEnd(t *testing.T) {
	n := newPlace(t, testOptions)
	n.target.Echo("udp", "10.1.0.5:53")
	listener, err := n.target.Listen("tcp", "10.1.0.5:22")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := listener.Accept(); err == nil {
			accepted <- c
		}
	}()
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))

	stream, err := n.engineer.Dial(limited(t, 5*time.Second), "tcp", "10.1.0.5:22")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	other := <-accepted
	defer other.Close()
	oneWay, err := n.engineer.Dial(limited(t, 5*time.Second), "udp", "10.1.0.5:53")
	if err != nil {
		t.Fatal(err)
	}
	defer oneWay.Close()

	atTarget, atEngineer := n.target.Capture("eth0"), n.engineer.Capture("eth0")
	send := func() {
		for _, c := range []net.Conn{stream, other, oneWay} {
			c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
			c.Write([]byte("tick")) // an error shows as absence
		}
		time.Sleep(10 * time.Millisecond)
	}
	each := func(f func(name string, c *lab.Capture, protocol uint8)) {
		for name, c := range map[string]*lab.Capture{"target": atTarget, "engineer": atEngineer} {
			for _, protocol := range []uint8{policy.TCP, policy.UDP} {
				f(name, c, protocol)
			}
		}
	}
	lab.WaitFor(t, 10*time.Second, "streams both ways", func() bool {
		send()
		flow := true
		each(func(_ string, c *lab.Capture, protocol uint8) {
			flow = flow && len(c.Packets(lab.Incoming, lab.Protocol(protocol))) >= 20
		})
		return flow
	})
	end := time.Now().Add(4 * time.Second) // of which setting the plan may take two
	n.set(t, openPlan(testPolicy(), end))
	before := time.Now()
	for time.Now().Before(end.Add(time.Second)) {
		send()
	}
	late := end.Add(tooLate) // what Set takes care of, however busy the machine is
	each(func(name string, c *lab.Capture, protocol uint8) {
		if got := c.Packets(lab.Incoming, lab.Protocol(protocol), lab.After(before)); len(got) == 0 {
			t.Errorf("the %s got no packets of protocol %d before the end, want a stream", name, protocol)
		}
		if got := c.Packets(lab.Incoming, lab.Protocol(protocol), lab.After(late)); len(got) > 0 {
			t.Errorf("the %s got, %v after the end:\n%s", name, got[0].At.Sub(end), lab.Lines(got))
		}
	})
	// The streams went on: what goes on is refused.
	n.waitCounter(t, refusedFlow, 1)
	n.waitCounter(t, refusedInward, 1)

	// A later plan lets the held stream go on, which shows that only the
	// element ended.
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	oneWay.SetWriteDeadline(time.Time{})
	lab.WaitFor(t, 5*time.Second, "one-way packets pass again", func() bool {
		oneWay.Write([]byte("again"))
		return len(atTarget.Packets(lab.Incoming, lab.Protocol(policy.UDP), saying("again"))) > 0
	})
}

// saying matches packets by their payload.
func saying(payload string) func(lab.Packet) bool {
	return func(p lab.Packet) bool { return string(p.Payload) == payload }
}

// TestFault04SetMovesEnds shortens, extends and closes what is open, and reads the
// ends with nft.
func TestFault04SetMovesEnds(t *testing.T) {
	h := lab.New(t).Host("gateway")
	f := newFirewall(t, h, testOptions)
	for _, left := range []time.Duration{time.Hour, time.Minute, 3 * time.Hour, 30 * time.Hour, time.Minute, 0, time.Hour} {
		before := time.Now()
		if err := f.set(openPlan(testPolicy(), before.Add(left)), nil); err != nil {
			t.Fatalf("ending in %v: %v", left, err)
		}
		for _, set := range []string{"flows4", "flows6", "sources4_32"} {
			out, err := nft(t, h, "list", "set", "inet", "kidoban", set)
			took := time.Since(before)
			if err != nil && left > 0 {
				t.Fatal(out, err)
			}
			count := strings.Count(out, "expires")
			if left == 0 {
				if count != 0 {
					t.Errorf("closed: set %s has %d elements", set, count)
				}
				continue
			}
			if count == 0 {
				t.Errorf("ending in %v: set %s is empty", left, set)
			}
			for _, e := range strings.Split(out, "expires ")[1:] {
				got := duration(t, strings.FieldsFunc(e, func(r rune) bool { return r == ' ' || r == ',' || r == '\n' })[0])
				want := min(left, farthest)
				if got > want+tooLate || got < want-took-time.Second {
					t.Errorf("ending in %v: an element of set %s expires in %v", left, set, got)
				}
			}
		}
	}
}

// TestFault01AlmostOver: an end in less than a millisecond, now, or in the past
// makes no element, least of all a permanent one.
func TestFault01AlmostOver(t *testing.T) {
	h := lab.New(t).Host("gateway")
	f := newFirewall(t, h, testOptions)
	for _, left := range []time.Duration{500 * time.Microsecond, 0, -time.Millisecond, -time.Hour} {
		if err := f.set(openPlan(testPolicy(), time.Now().Add(left)), nil); err != nil {
			t.Errorf("ending in %v: %v", left, err)
		}
		if out, _ := nft(t, h, "list", "ruleset"); strings.Contains(out, "elements") {
			t.Errorf("ending in %v: there are elements:\n%s", left, out)
		}
	}
}

// TestFault66ErrorsAboutListedFlows: ICMP errors pass to either end if they are
// about a listed flow, and no others; so does path MTU discovery through the
// gateway itself.
func TestFault66ErrorsAboutListedFlows(t *testing.T) {
	n := newPlace(t, testOptions)
	n.target.Echo("udp", "10.1.0.5:54")
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))

	// Nobody listens on 10.1.0.5:53, so the target says so.
	conn, err := n.engineer.Dial(limited(t, 5*time.Second), "udp", "10.1.0.5:53")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Read(make([]byte, 16)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("reading from a closed port of a listed flow: %v, want ECONNREFUSED by ICMP", err)
	}

	// An error about a flow that nobody listed.
	capture := n.engineer.Capture("eth0")
	inner := lab.UDPPacket(netip.AddrPortFrom(engineer4, 4000), netip.AddrPortFrom(target4, 54), []byte("hello"))
	before := n.counter(t, refusedInward)
	if err := n.target.Send(lab.IPPacket(target4, engineer4, policy.ICMP, append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, inner...))); err != nil {
		t.Fatal(err)
	}
	n.waitCounter(t, refusedInward, before+1)
	if got := capture.Packets(lab.Incoming, lab.Protocol(policy.ICMP)); len(got) > 0 {
		t.Errorf("the engineer got an error about an unlisted flow:\n%s", lab.Lines(got))
	}
}

// TestFault66PathMTU: the tunnel is narrower than the site, and the gateway itself
// has to tell the target.
func TestFault66PathMTU(t *testing.T) {
	n := newPlace(t, testOptions)
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	for _, c := range []struct {
		h    *lab.Host
		name string
	}{{n.gateway, "kido0"}, {n.engineer, "eth0"}} {
		if out, err := c.h.Command(t.Context(), "ip", "link", "set", c.name, "mtu", "1280").CombinedOutput(); err != nil {
			t.Fatal(err, string(out))
		}
	}
	capture := n.target.Capture("eth0")
	server, err := n.target.ListenPacket("udp", "10.1.0.5:53")
	if err != nil {
		t.Fatal(err)
	}
	client, err := n.engineer.Dial(limited(t, 5*time.Second), "udp", "10.1.0.5:53")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	server.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, from, err := server.ReadFrom(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.WriteTo(make([]byte, 1400), from); err != nil {
		t.Fatal(err)
	}
	lab.WaitFor(t, 5*time.Second, "the target hears that the packet is too big", func() bool {
		return len(capture.Packets(lab.Incoming, lab.Protocol(policy.ICMP), lab.From(inside4))) > 0
	})

}

// TestSegmentSize: the maximum segment size that a SYN offers is lowered to
// what the tunnel takes.
func TestSegmentSize(t *testing.T) {
	n := newPlace(t, testOptions)
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	if out, err := n.gateway.Command(t.Context(), "ip", "link", "set", "kido0", "mtu", "1300").CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	n.target.Echo("tcp", "10.1.0.5:22")
	conn, err := n.engineer.Dial(limited(t, 5*time.Second), "tcp", "10.1.0.5:22")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	if err := raw.Control(func(fd uintptr) { size, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) }); err != nil {
		t.Fatal(err)
	}
	// 1300 less 20 of IP, 20 of TCP and 12 of its timestamps.
	if size > 1260 || size < 1200 {
		t.Errorf("segments of %d bytes, want at most 1260", size)
	}
}

// synPacket builds a TCP SYN with a checksum that holds.
func synPacket(from netip.Addr, fromPort uint16, to netip.Addr, toPort uint16) []byte {
	segment := make([]byte, 20)
	segment[0], segment[1], segment[2], segment[3] = byte(fromPort>>8), byte(fromPort), byte(toPort>>8), byte(toPort)
	segment[12], segment[13], segment[14] = 5<<4, 2, 0xff
	pseudo := append(append(from.AsSlice(), to.AsSlice()...), 0, policy.TCP, 0, byte(len(segment)))
	var sum uint32
	for _, b := range [][]byte{pseudo, segment} {
		for i := 0; i < len(b); i += 2 {
			sum += uint32(b[i])<<8 | uint32(b[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	segment[16], segment[17] = byte(^sum>>8), byte(^sum)
	return lab.IPPacket(from, to, policy.TCP, segment)
}
