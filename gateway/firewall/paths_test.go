package firewall

import (
	"net/netip"
	"testing"
	"time"

	"kidoban/gateway/lab"
)

// setPaths tells the firewall by which interfaces the two targets are reached.
func (n *place) setPaths(t *testing.T, p Paths) {
	t.Helper()
	if err := n.firewall.SetPaths(p); err != nil {
		t.Fatal(err)
	}
}

// by is paths to the two targets.
func by(target4Interfaces, target6Interfaces []string) Paths {
	return Paths{netip.PrefixFrom(target4, 32): target4Interfaces, netip.PrefixFrom(target6, 128): target6Interfaces}
}

// TestFault67TargetsByTheirPaths: what the engineer sends to a target leaves by the
// interfaces that are paths to this target, and its answers come by these.
// The kernel's routes are the same all the time.
func TestFault67TargetsByTheirPaths(t *testing.T) {
	n := newPlace(t, testOptions)
	n.target.Echo("tcp", "10.1.0.5:22")
	n.target.Echo("tcp", "[fd00:1::5]:22")
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	n.target.Echo("udp", "10.1.0.5:53")
	held, err := n.engineer.Dial(limited(t, 5*time.Second), "udp", "10.1.0.5:53")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	tick := byte(0)
	goes := func() bool {
		tick++
		_ = held.SetDeadline(time.Now().Add(attempt))
		_, _ = held.Write([]byte{tick}) // what comes back is what matters
		answer := make([]byte, 1)
		for {
			if _, err := held.Read(answer); err != nil || answer[0] == tick {
				return err == nil
			}
		}
	}
	for _, step := range []struct {
		name      string
		paths     Paths
		four, six bool
	}{
		{"as the routes have it", testPaths, true, true},
		{"another interface, which is a path to the other target", by([]string{"far"}, []string{"lan"}), false, true},
		{"the other way round", by([]string{"lan"}, []string{"far"}), true, false},
		{"several interfaces", by([]string{"far", "lan"}, []string{"wan", "far", "lan"}), true, true},
		{"none known", nil, false, false},
		{"a name that begins as the interface's does", by([]string{"lan0"}, []string{"la"}), false, false},
		{"a prefix that is no target's", Paths{netip.MustParsePrefix("10.1.0.0/24"): {"lan"}, netip.MustParsePrefix("::/0"): {"lan"}}, false, false},
		{"as at first", testPaths, true, true},
	} {
		n.setPaths(t, step.paths)
		refused := n.counter(t, refusedPath)
		for to, want := range map[string]bool{"10.1.0.5:22": step.four, "[fd00:1::5]:22": step.six} {
			if want {
				passes(t, step.name, n.engineer, "tcp", to)
			} else {
				stays(t, step.name, n.engineer, "tcp", to)
			}
		}
		if step.four {
			lab.WaitFor(t, 10*time.Second, step.name+": the held flow goes on", goes)
		} else if goes() {
			t.Errorf("%s: the held flow goes on", step.name)
		}
		if step.four && step.six {
			if got := n.counter(t, refusedPath) - refused; got > 0 {
				t.Errorf("%s: %d packets were refused for their path", step.name, got)
			}
		}
		// Whatever of the attempts came about in their time, these are sent.
		for p, want := range map[string]bool{string(synPacket(engineer4, 4000, target4, 22)): step.four, string(synPacket(engineer6, 4000, target6, 22)): step.six} {
			if want {
				continue
			}
			refused := n.counter(t, refusedPath)
			if err := n.engineer.Send([]byte(p)); err != nil {
				t.Fatal(err)
			}
			n.waitCounter(t, refusedPath, refused+1)
		}
		if err := n.firewall.Check(); err != nil {
			t.Errorf("%s: Check: %v", step.name, err)
		}
		select {
		case f := <-n.firewall.Facts():
			t.Errorf("%s: a fact: %+v", step.name, f)
		default:
		}
	}
}

// TestFault67NoWayButTheDefaultRoute: the way to the target goes, and the default
// route takes its place. Nothing of a listed flow leaves by it, at once.
func TestFault67NoWayButTheDefaultRoute(t *testing.T) {
	n, flows := claims(t)
	outside := n.outsider.Capture("eth0")
	if out, err := n.gateway.Command(t.Context(), "ip", "link", "set", "lan", "down").CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	for _, c := range flows {
		refused := n.counter(t, refusedPath)
		if err := n.engineer.Send(lab.UDPPacket(c.engineer, c.target, []byte("hello"))); err != nil {
			t.Fatal(err)
		}
		n.waitCounter(t, refusedPath, refused+1)
		if got := outside.Packets(lab.Incoming, lab.To(c.target.Addr())); len(got) > 0 {
			t.Errorf("the outside got what was sent to %v:\n%s", c.target, lab.Lines(got))
		}
	}
}

// TestFault66ErrorsFromElsewhere: an ICMP error about a listed flow is taken only
// from where its target is, although it needs no forged source, and although
// the host forwards for everybody.
func TestFault66ErrorsFromElsewhere(t *testing.T) {
	n, flows := claims(t)
	wire := n.engineer.Capture("eth0")
	for _, c := range flows {
		outsider, router := outsider4, netip.MustParseAddr("10.1.0.77")
		if c.target.Addr().Is6() {
			outsider, router = outsider6, netip.MustParseAddr("fd00:1::77")
		}
		question := lab.UDPPacket(c.engineer, c.target, []byte("hello"))
		refused := n.counter(t, refusedPath)
		if err := n.outsider.Send(unreachable(t, outsider, c.engineer.Addr(), question)); err != nil {
			t.Fatal(err)
		}
		n.waitCounter(t, refusedPath, refused+1)
		if got := wire.Packets(lab.Incoming, icmpOf(outsider), lab.From(outsider)); len(got) > 0 {
			t.Errorf("the engineer heard of a listed flow from outside:\n%s", lab.Lines(got))
		}
		if err := n.target.Send(unreachable(t, router, c.engineer.Addr(), question)); err != nil {
			t.Fatal(err)
		}
		lab.WaitFor(t, 5*time.Second, "the engineer hears from a router on the way to the target", func() bool {
			return len(wire.Packets(lab.Incoming, icmpOf(router), lab.From(router))) > 0
		})
	}
}

// TestFault34InsideSourcesFromTheSite: the site cannot use the tunnel's addresses
// either, whatever it sends to.
func TestFault34InsideSourcesFromTheSite(t *testing.T) {
	n := newPlace(t, testOptions)
	n.gateway.Echo("udp", "[::]:2200")
	n.outsider.Route(netip.MustParsePrefix("10.99.0.0/24"), faraway4)
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	outside, wire := n.outsider.Capture("eth0"), n.engineer.Capture("eth0")
	sent := uint64(0)
	for _, from := range []netip.Addr{engineer4, colleague4, netip.MustParseAddr("10.99.0.1"), engineer6} {
		for _, to := range []string{"10.1.0.1:2200", "10.99.0.1:2200", "10.99.0.2:161", "192.0.2.66:53", "192.0.2.66:51820", "10.99.0.2:51820", "[fd00:1::1]:2200", "[fd00:99::2]:161", "[2001:db8:2::66]:53", "[2001:db8:2::66]:51820"} {
			if to := netip.MustParseAddrPort(to); to.Addr().Is4() == from.Is4() {
				if err := n.target.Send(lab.UDPPacket(netip.AddrPortFrom(from, 53), to, []byte("hello"))); err != nil {
					t.Fatal(err)
				}
				sent++
			}
		}
	}
	n.waitCounter(t, refusedSpoofed, sent)
	inside := func(p lab.Packet) bool {
		a := p.Source.Addr()
		return netip.MustParsePrefix("10.99.0.0/24").Contains(a) || netip.MustParsePrefix("fd00:99::/64").Contains(a)
	}
	for _, c := range []*lab.Capture{outside, wire} {
		if got := c.Packets(lab.Incoming, inside, lab.Protocol(17)); len(got) > 0 {
			t.Errorf("passed:\n%s", lab.Lines(got))
		}
	}
}
