package firewall

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// setPaths tells the firewall by which interfaces the two targets are reached.
func (n *place) setPaths(t *testing.T, p Paths) {
	t.Helper()
	if err := n.firewall.setPaths(p, nil); err != nil {
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
		{"prefixes beside them", Paths{netip.MustParsePrefix("10.1.0.4/32"): {"lan"}, netip.MustParsePrefix("fd00:2::/64"): {"lan"}}, false, false},
		{"prefixes around them, as before a reload that makes targets narrower", Paths{netip.MustParsePrefix("10.1.0.0/24"): {"lan"}, netip.MustParsePrefix("fd00:1::/120"): {"lan"}}, true, true},
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
		if err := n.firewall.check(); err != nil {
			t.Errorf("%s: Check: %v", step.name, err)
		}
		select {
		case f := <-n.firewall.outbox.facts:
			t.Errorf("%s: a fact: %+v", step.name, f)
		default:
		}
	}
}

// TestPathsAroundAReload: plans and paths do not change at the same instant
// when a reload makes a target wider or narrower. What is in both prefixes
// keeps its paths meanwhile, and nothing gets one that is another network's.
func TestPathsAroundAReload(t *testing.T) {
	for _, tt := range []struct {
		name, target, paths string
		want                string // addresses with the interfaces by which they are reached
	}{
		{"as both say", "10.1.2.0/31", "10.1.2.0/31=lan", "10.1.2.0=lan 10.1.2.1=lan"},
		{"several interfaces, and the tunnel", "10.1.2.0/32", "10.1.2.0/32=lan,kido0,lan2", "10.1.2.0=lan 10.1.2.0=lan2"},
		{"the plan has the narrower one", "10.1.2.2/31", "10.1.2.0/30=lan", "10.1.2.2=lan 10.1.2.3=lan"},
		{"the paths have the narrower one", "10.1.2.0/30", "10.1.2.2/31=lan", "10.1.2.2=lan 10.1.2.3=lan"},
		{"the paths have two narrower ones", "10.1.2.0/30", "10.1.2.0/31=lan 10.1.2.3/32=lan2", "10.1.2.0=lan 10.1.2.1=lan 10.1.2.3=lan2"},
		{"of several around it the narrowest", "10.1.2.0/32", "10.0.0.0/8=wan 10.1.2.0/31=lan 10.1.0.0/16=lan2", "10.1.2.0=lan"},
		{"of several around one address the narrowest", "10.1.2.0/31", "10.1.2.0/24=lan 10.1.2.1/32=lan2", "10.1.2.0=lan 10.1.2.1=lan2"},
		{"its own, however narrow others are", "10.1.2.0/31", "10.1.2.0/31=lan 10.1.2.1/32=lan2", "10.1.2.0=lan 10.1.2.1=lan"},
		{"it has none, whatever leads around it", "10.1.2.0/31", "10.1.2.0/31= 10.0.0.0/8=lan", ""},
		{"the narrowest around it has none", "10.1.2.0/32", "10.1.2.0/31= 10.0.0.0/8=lan", ""},
		{"the target is in another network", "10.1.3.0/31", "10.1.2.0/24=lan 10.2.0.0/16=lan fd00::/8=lan", ""},
		{"IPv6", "fd01::4/127", "fd01::/64=lan fd01::5/128=lan2 10.0.0.0/8=wan ::/0=", "fd01::4=lan fd01::5=lan2"},
	} {
		paths := Paths{}
		for _, p := range strings.Fields(tt.paths) {
			prefix, names, _ := strings.Cut(p, "=")
			paths[netip.MustParsePrefix(prefix)] = strings.FieldsFunc(names, func(r rune) bool { return r == ',' })
		}
		target := netip.MustParsePrefix(tt.target)
		var got []string
		for _, key := range reach(&policy.Target{Name: "pacs", Prefix: target}, paths, "kido0") {
			a, _ := netip.AddrFromSlice([]byte(key[:target.Addr().BitLen()/8]))
			got = append(got, a.String()+"="+strings.TrimRight(key[target.Addr().BitLen()/8:], "\x00"))
		}
		if got := strings.Join(got, " "); got != tt.want {
			t.Errorf("%s: %s by %s: reached are %q, want %q", tt.name, tt.target, tt.paths, got, tt.want)
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
