package firewall

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// initiationPacket has the shape of a handshake initiation.
func initiationPacket() []byte {
	b := make([]byte, initiationLength)
	b[0] = 1
	for i := range b[4:] {
		b[4+i] = byte(i)
	}
	return b
}

// fragments cuts an IPv4 packet after its first 16 bytes of payload.
func fragments(packet []byte) [][]byte {
	header, payload := packet[:20], packet[20:]
	cut := func(from, to int, more bool) []byte {
		h := append([]byte(nil), header...)
		offset := uint16(from / 8)
		if more {
			offset |= 0x2000
		}
		binary.BigEndian.PutUint16(h[2:], uint16(20+to-from))
		binary.BigEndian.PutUint16(h[4:], 4711)
		binary.BigEndian.PutUint16(h[6:], offset)
		return append(h, payload[from:to]...)
	}
	return [][]byte{cut(0, 16, true), cut(16, len(payload), false)}
}

// fragments6 does the same to an IPv6 packet.
func fragments6(packet []byte) [][]byte {
	header, payload := packet[:40], packet[40:]
	cut := func(from, to int, more byte) []byte {
		h := append([]byte(nil), header...)
		next := h[6]
		h[6] = 44
		binary.BigEndian.PutUint16(h[4:], uint16(8+to-from))
		h = append(h, next, 0, byte(from>>8), byte(from)|more, 0, 0, 0x12, 0x67)
		return append(h, payload[from:to]...)
	}
	return [][]byte{cut(0, 16, 1), cut(16, len(payload), 0)}
}

// TestFault64SilenceInTheKernel sends everything that an unlisted address can send to the
// WireGuard port, where a careless server answers every datagram, and waits
// for a byte to come back.
func TestFault64SilenceInTheKernel(t *testing.T) {
	n := newPlace(t, testOptions)
	n.gateway.Sysctl("net.ipv4.ipfrag_time", "1")
	n.gateway.Sysctl("net.ipv6.ip6frag_time", "1")
	n.gateway.Echo("udp", "[::]:51820")
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	wg4, wg6 := port(faraway4), port(faraway6)
	from4, from6 := netip.AddrPortFrom(outsider4, 40000), netip.AddrPortFrom(outsider6, 40000)
	udp4, udp6 := lab.UDPPacket(from4, wg4, initiationPacket()), lab.UDPPacket(from6, wg6, initiationPacket())
	options := append([]byte{policy.UDP, 0, 0x85, 4, 0, 0, 0, 0}, udp6[40:]...) // a destination option that must be answered if unknown

	capture := n.outsider.Capture("eth0")
	packets := map[string][][]byte{
		"UDP": {udp4}, "UDP, IPv6": {udp6},
		"TCP SYN":                           {synPacket(outsider4, 40000, faraway4, 51820)},
		"TCP SYN, IPv6":                     {synPacket(outsider6, 40000, faraway6, 51820)},
		"UDP of 1 byte":                     {lab.UDPPacket(from4, wg4, []byte{4})},
		"both fragments":                    fragments(udp4),
		"the first fragment":                fragments(udp4)[:1],
		"the last fragment":                 fragments(udp4)[1:],
		"both fragments, IPv6":              fragments6(udp6),
		"the first fragment, IPv6":          fragments6(udp6)[:1],
		"the last fragment, IPv6":           fragments6(udp6)[1:],
		"a fragment that ends early, IPv6":  {fragments6(udp6)[0][:40+8+4]},
		"an option nobody knows":            {lab.IPPacket(outsider6, faraway6, 60, options)},
		"an extension header nobody knows":  {lab.IPPacket(outsider6, faraway6, 253, udp6[40:])},
		"from a listed source, from afar":   {synPacket(outsider4, 51820, faraway4, 51820)},
		"UDP to the address by the outside": {lab.UDPPacket(from4, port(outside4), initiationPacket())},
	}
	for name, list := range packets {
		for _, p := range list {
			if err := n.outsider.Send(p); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	n.waitCounter(t, refusedSource, 4)
	n.waitCounter(t, refusedTCP, 3)
	n.waitCounter(t, refusedFragment, 4)
	// An answer to fragments that stay alone would come when the kernel
	// gives up waiting for the others, which is a second here.
	waitOver := time.Now().Add(2500 * time.Millisecond)
	for time.Now().Before(waitOver) {
		time.Sleep(50 * time.Millisecond)
		// Neighbour discovery is not about the port, nor what goes to everyone.
		got := capture.Packets(lab.Incoming, func(p lab.Packet) bool {
			to := p.Destination.Addr()
			return (to == outsider4 || to == outsider6) && (p.Protocol != policy.ICMPv6 || p.Payload[0] < 133)
		})
		if len(got) > 0 {
			t.Fatalf("the outsider got:\n%s", lab.Lines(got))
		}
	}

	// The same packets from a listed source are answered: the server is there.
	answers := n.vendor.Capture("eth0")
	for _, p := range [][]byte{
		lab.UDPPacket(netip.AddrPortFrom(vendor4, 40000), port(outside4), []byte("hello")),
		lab.UDPPacket(netip.AddrPortFrom(vendor6, 40000), port(outside6), []byte("hello")),
	} {
		if err := n.vendor.Send(p); err != nil {
			t.Fatal(err)
		}
	}
	lab.WaitFor(t, 5*time.Second, "a listed source is answered", func() bool {
		return len(answers.Packets(lab.Incoming, lab.From(outside4), lab.Protocol(policy.UDP))) > 0 &&
			len(answers.Packets(lab.Incoming, lab.From(outside6), lab.Protocol(policy.UDP))) > 0
	})
	// But not fragments, and not TCP.
	before := n.counter(t, refusedFragment)
	answers.Forget()
	for _, p := range append(fragments(lab.UDPPacket(netip.AddrPortFrom(vendor4, 40000), port(outside4), []byte("hello, and more to come"))),
		synPacket(vendor4, 40000, outside4, 51820)) {
		if err := n.vendor.Send(p); err != nil {
			t.Fatal(err)
		}
	}
	n.waitCounter(t, refusedFragment, before+1)
	n.waitCounter(t, refusedTCP, 4)
	if got := answers.Packets(lab.Incoming, lab.To(vendor4)); len(got) > 0 {
		t.Errorf("fragments and TCP from a listed source are answered:\n%s", lab.Lines(got))
	}

	// When the last grant is over, nothing leaves the port either.
	n.set(t, nil)
	refused := n.counter(t, refusedAnswer)
	n.gateway.Send(lab.UDPPacket(port(outside4), netip.AddrPortFrom(vendor4, 40000), []byte("data"))) // the kernel may say EPERM
	if got := n.counter(t, refusedAnswer); got != refused+1 {
		t.Errorf("%d packets from the port were refused, want 1", got-refused)
	}
}

// TestFault32FloodOfAListedSource: what a stranger can send in the name of a listed
// source uses up the source's rate, not that of a live endpoint.
func TestFault32FloodOfAListedSource(t *testing.T) {
	n := newPlace(t, testOptions)
	live := netip.AddrPortFrom(vendor4, 40000)
	// Connected, so that what the source's own rate lets through of the flood
	// does not fill the socket.
	server, err := n.gateway.DialFrom(t.Context(), "udp", port(outside4), live.String())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	got := make(chan bool, 1)
	go func() {
		b := make([]byte, 64)
		for {
			k, err := server.Read(b)
			if err != nil {
				return
			}
			if string(b[:k]) == "data" {
				got <- true
				return
			}
		}
	}()
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)), live)
	flood := lab.UDPPacket(netip.AddrPortFrom(vendor4, 40001), port(outside4), []byte("flood"))
	deadline := time.Now().Add(20 * time.Second)
	for n.counter(t, refusedSource) < 100 {
		if time.Now().After(deadline) {
			t.Skip("this machine cannot send more than a source's rate")
		}
		for range 2000 {
			if err := n.vendor.Send(flood); err != nil {
				t.Fatal(err)
			}
		}
	}
	data := lab.UDPPacket(live, port(outside4), []byte("data"))
	refused := n.counter(t, refusedSource)
	for range 200 {
		if err := n.vendor.Send(flood); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.vendor.Send(data); err != nil {
		t.Fatal(err)
	}
	select {
	case <-got:
	case <-time.After(5 * time.Second):
		t.Errorf("data of a live endpoint did not come through; %d of 200 packets of the flood were refused just before", n.counter(t, refusedSource)-refused)
	}
	if got := n.gateway.ReadSysctl("net.netfilter.nf_conntrack_count"); got != "0" {
		t.Errorf("the flood left %s entries in conntrack, want 0", got)
	}
}

// TestCopies: initiations that the kernel refused, and flows, arrive here.
func TestCopies(t *testing.T) {
	type initiation struct {
		packet string
		source netip.AddrPort
	}
	initiations := make(chan initiation, 8)
	o := testOptions
	o.Inspect = func(payload []byte, source netip.AddrPort, _ int32) {
		initiations <- initiation{string(payload), source}
	}
	n := newPlace(t, o)
	plan := openPlan(testPolicy(), time.Now().Add(time.Hour))
	n.set(t, plan)
	for _, from := range []netip.AddrPort{netip.AddrPortFrom(outsider4, 40000), netip.AddrPortFrom(outsider6, 40001)} {
		to := port(faraway4)
		if from.Addr().Is6() {
			to = port(faraway6)
		}
		// Neither type 4, nor one of another length, nor one with reserved
		// bytes is copied.
		other := initiationPacket()
		other[2] = 1
		for _, payload := range [][]byte{{4, 0, 0, 0}, initiationPacket()[:147], other, initiationPacket()} {
			if err := n.outsider.Send(lab.UDPPacket(from, to, payload)); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case i := <-initiations:
			if i.source != from || i.packet != string(initiationPacket()) {
				t.Errorf("copy from %s of %x, want from %s", i.source, i.packet, from)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("no copy of an initiation from %s", from)
		}
	}

	suzuki := plan.Policy.Engineer("medisys/suzuki")
	tests := []struct {
		name     string
		packet   []byte
		engineer *policy.Engineer
		to       string
		reason   policy.Reason
	}{
		{"unlisted port", synPacket(engineer4, 4000, target4, 23), plan.Policy.Engineer("medisys/sato"), "10.1.0.5:23", policy.UnlistedTarget},
		{"unlisted port, IPv6", synPacket(engineer6, 4000, target6, 23), plan.Policy.Engineer("medisys/sato"), "[fd00:1::5]:23", policy.UnlistedTarget},
		{"no window", synPacket(colleague4, 4000, target4, 22), suzuki, "10.1.0.5:22", policy.OutsideWindow},
		{"the gateway", synPacket(engineer4, 4000, inside4, 2200), plan.Policy.Engineer("medisys/sato"), "10.1.0.1:2200", policy.UnlistedTarget},
	}
	for _, tt := range tests {
		if err := n.engineer.Send(tt.packet); err != nil {
			t.Fatal(err)
		}
		select {
		case f := <-n.firewall.outbox.facts:
			if f.Kind != policy.Refusal || f.Engineer != tt.engineer || f.To.String() != tt.to || f.Proto != policy.TCP || f.Decision.Reason != tt.reason || f.Count != 1 {
				t.Errorf("%s: fact %+v, want %s to %s: %s", tt.name, f, tt.engineer, tt.to, tt.reason)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: no fact", tt.name)
		}
	}
	select {
	case i := <-initiations:
		t.Errorf("one copy too many, from %s", i.source)
	default:
	}
}

// TestMasquerade: a target that knows no way back to the tunnel is reached
// in the gateway's name, and never from the WireGuard port.
func TestMasquerade(t *testing.T) {
	for _, all := range []bool{false, true} {
		o := testOptions
		o.Masquerade = all
		n := newPlace(t, o)
		p := testPolicy()
		p.Targets[0].Masquerade = !all
		n.set(t, openPlan(p, time.Now().Add(time.Hour)))
		n.target.Echo("tcp", "10.1.0.5:22")
		n.target.Echo("udp", "10.1.0.5:53")
		capture := n.target.Capture("eth0")
		passes(t, "masqueraded", n.engineer, "tcp", "10.1.0.5:22")
		passes(t, "masqueraded", n.engineer, "udp", "10.1.0.5:53")
		if _, err := n.engineer.Ping(limited(t, 5*time.Second), target4); err != nil {
			t.Errorf("all %v: masqueraded ping: %v", all, err)
		}
		for _, network := range []string{"tcp", "udp"} {
			to := map[string]string{"tcp": "10.1.0.5:22", "udp": "10.1.0.5:53"}[network]
			c, err := n.engineer.DialFrom(limited(t, 5*time.Second), network, netip.AddrPortFrom(engineer4, 51820), to)
			if err != nil {
				t.Errorf("all %v: %s from port 51820: %v", all, network, err)
				continue
			}
			c.SetDeadline(time.Now().Add(5 * time.Second))
			c.Write([]byte("hello"))
			if _, err := c.Read(make([]byte, 5)); err != nil {
				t.Errorf("all %v: %s from port 51820: %v", all, network, err)
			}
			c.Close()
		}
		if got := capture.Packets(lab.Incoming, lab.From(engineer4)); len(got) > 0 {
			t.Errorf("all %v: the target got packets of the tunnel's addresses:\n%s", all, lab.Lines(got))
		}
		if got := capture.Packets(lab.Incoming, lab.From(inside4)); len(got) == 0 {
			t.Errorf("all %v: the target got nothing of the gateway's address", all)
		}
		n.set(t, nil)
		stays(t, "closed", n.engineer, "tcp", "10.1.0.5:22")
	}
}

// TestMasqueradingStaysForHeldFlows: a policy that no longer wants a target's
// flows masqueraded is for the flows that begin then.
func TestMasqueradingStaysForHeldFlows(t *testing.T) {
	n := newPlace(t, testOptions)
	masqueraded, plain := testPolicy(), testPolicy()
	masqueraded.Targets[0].Masquerade = true
	open := func(p *policy.Policy) { n.set(t, openPlan(p, time.Now().Add(time.Hour))) }
	open(masqueraded)
	stream, held := n.stream(t)
	if from := held.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); from != inside4 {
		t.Fatalf("the flow comes from %v, so it is not masqueraded", from)
	}
	capture := n.target.Capture("eth0")
	open(plain)
	if _, err := stream.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	_ = held.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(held, make([]byte, 5)); err != nil {
		t.Errorf("masqueraded no more: the held flow: %v", err)
	}
	if got := capture.Packets(lab.Incoming, lab.From(engineer4)); len(got) > 0 {
		t.Errorf("the target got of the held flow, from the engineer's own address:\n%s", lab.Lines(got))
	}
	n.target.Echo("udp", "10.1.0.5:53")
	passes(t, "masqueraded no more", n.engineer, "udp", "10.1.0.5:53")
	if got := capture.Packets(lab.Incoming, lab.From(engineer4), lab.Protocol(policy.UDP)); len(got) == 0 {
		t.Error("a flow that begins without masquerading comes from another address than the engineer's")
	}
}

// TestForwardOthers: what neither comes from the tunnel nor goes there is
// left alone, and the tunnel is as closed as ever.
func TestForwardOthers(t *testing.T) {
	o := testOptions
	o.ForwardOthers = true
	n := newPlace(t, o)
	n.target.Echo("tcp", "10.1.0.5:80")
	n.engineer.Echo("tcp", "10.99.0.2:80")
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	passes(t, "outsider to target", n.outsider, "tcp", "10.1.0.5:80")
	stays(t, "engineer, unlisted", n.engineer, "tcp", "10.1.0.5:80")
	stays(t, "outsider to engineer", n.outsider, "tcp", "10.99.0.2:80")
	stays(t, "engineer to outsider", n.engineer, "tcp", "192.0.2.66:80")
}
