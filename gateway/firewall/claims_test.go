package firewall

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	icmperror "golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// claimed is a listed flow that is under way, in whose name others speak.
type claimed struct {
	engineer, target netip.AddrPort
	colleague        netip.Addr // an engineer whose own flows are none of this
}

// claims begins one UDP flow of each family. Behind the outsider lies all the
// rest of the world.
func claims(t *testing.T) (*place, []claimed) {
	n := newPlace(t, testOptions)
	n.gateway.Route(netip.MustParsePrefix("0.0.0.0/0"), outsider4)
	n.gateway.Route(netip.MustParsePrefix("::/0"), outsider6)
	p := testPolicy()
	suzuki := p.Vendors[0].Engineers[1]
	suzuki.Addresses = append(suzuki.Addresses, netip.MustParseAddr("fd00:99::3"))
	p.Targets[1].Services = append(p.Targets[1].Services, policy.Service{Protocol: policy.UDP, First: 53, Last: 53})
	// The colleague may reach the same targets, by the same service.
	p.Vendors[0].Windows[0].Engineers = p.Vendors[0].Engineers
	n.set(t, openPlan(p, time.Now().Add(time.Hour)))
	var flows []claimed
	for _, x := range []struct{ engineer, target, colleague netip.Addr }{{engineer4, target4, colleague4}, {engineer6, target6, suzuki.Addresses[1]}} {
		c := claimed{netip.AddrPortFrom(x.engineer, 45000), netip.AddrPortFrom(x.target, 53), x.colleague}
		n.target.Echo("udp", c.target.String())
		conn, err := n.engineer.DialFrom(limited(t, 5*time.Second), "udp", c.engineer, c.target.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := conn.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Read(make([]byte, 16)); err != nil {
			t.Fatalf("the flow %v to %v does not come about: %v", c.engineer, c.target, err)
		}
		flows = append(flows, c)
	}
	return n, flows
}

// unreachable is an ICMP error (RFC 792, RFC 4443) about a packet.
func unreachable(t *testing.T, from, to netip.Addr, about []byte) []byte {
	t.Helper()
	protocol, m := uint8(policy.ICMP), &icmperror.Message{Type: ipv4.ICMPTypeDestinationUnreachable, Code: 3, Body: &icmperror.DstUnreach{Data: about}}
	var pseudo []byte
	if from.Is6() {
		protocol, m.Type, m.Code = policy.ICMPv6, ipv6.ICMPTypeDestinationUnreachable, 4
		pseudo = icmperror.IPv6PseudoHeader(from.AsSlice(), to.AsSlice())
	} else {
		// Nobody takes what is quoted without its header's checksum for a packet.
		var sum uint32
		for i := 0; i < 20; i += 2 {
			sum += uint32(binary.BigEndian.Uint16(about[i:]))
		}
		for sum > 0xffff {
			sum = sum>>16 + sum&0xffff
		}
		binary.BigEndian.PutUint16(about[10:], ^uint16(sum))
	}
	b, err := m.Marshal(pseudo)
	if err != nil {
		t.Fatal(err)
	}
	return lab.IPPacket(from, to, protocol, b)
}

func icmpOf(a netip.Addr) func(lab.Packet) bool {
	if a.Is6() {
		return lab.Protocol(policy.ICMPv6)
	}
	return lab.Protocol(policy.ICMP)
}

// TestErrorsAboutOthersFlows: an engineer's ICMP errors reach a target if they
// are about the engineer's own flow. Conntrack counts those about anybody's
// flow to it, and they carry what the sender likes.
func TestErrorsAboutOthersFlows(t *testing.T) {
	n, flows := claims(t)
	capture := n.target.Capture("eth0")
	for _, c := range flows {
		answer := lab.UDPPacket(c.target, c.engineer, []byte("hello"))
		before := n.counter(t, refusedFlow)
		if err := n.engineer.Send(unreachable(t, c.colleague, c.target.Addr(), answer)); err != nil {
			t.Fatal(err)
		}
		n.waitCounter(t, refusedFlow, before+1)
		if got := capture.Packets(lab.Incoming, icmpOf(c.colleague), lab.From(c.colleague)); len(got) > 0 {
			t.Errorf("the target heard %v of a flow of %v:\n%s", c.colleague, c.engineer, lab.Lines(got))
		}
		if err := n.engineer.Send(unreachable(t, c.engineer.Addr(), c.target.Addr(), answer)); err != nil {
			t.Fatal(err)
		}
		lab.WaitFor(t, 5*time.Second, "the target hears from the engineer whose flow it is", func() bool {
			return len(capture.Packets(lab.Incoming, icmpOf(c.engineer.Addr()), lab.From(c.engineer.Addr()))) > 0
		})
	}
}

// TestAnswersFromElsewhere: who is not where the target is does not answer in
// its name, although the host forwards for everybody.
func TestAnswersFromElsewhere(t *testing.T) {
	n, flows := claims(t)
	capture := n.engineer.Capture("eth0")
	for _, c := range flows {
		forged := lab.UDPPacket(c.target, c.engineer, []byte("forged"))
		before := n.counter(t, refusedPath)
		if err := n.outsider.Send(forged); err != nil {
			t.Fatal(err)
		}
		n.waitCounter(t, refusedPath, before+1)
		if got := capture.Packets(lab.Incoming, lab.From(c.target.Addr())); len(got) > 0 {
			t.Errorf("the engineer got from outside, in the target's name:\n%s", lab.Lines(got))
		}
		// The same packet, from where the target is.
		if err := n.target.Send(forged); err != nil {
			t.Fatal(err)
		}
		lab.WaitFor(t, 5*time.Second, "the target's own answer comes", func() bool {
			return len(capture.Packets(lab.Incoming, lab.From(c.target.Addr()))) > 0
		})
	}
}
