package firewall

import (
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// plainPolicy has testPolicy's targets, an engineer of a vendor without a line, and the vendor and the
// outsider of a place as hosts on plain lines. elsewhere is the outsider's line; empty: it is nobody's.
func plainPolicy(by, elsewhere string) *policy.Policy {
	p := testPolicy()
	sato := p.Vendors[0].Engineers[0]
	p.Vendors[0].Engineers = p.Vendors[0].Engineers[:1]
	add := func(name, by string, addresses ...netip.Addr) {
		v := &policy.Vendor{Name: name, Line: &policy.Line{Name: name + "-line", Interface: by, Kind: policy.Leased, Plain: true}}
		for _, a := range addresses {
			v.Engineers = append(v.Engineers, policy.HostOf(v, a))
		}
		v.Windows = []*policy.Window{{Vendor: v, Name: "orders", Schedule: always, Targets: p.Targets, Engineers: v.Engineers}}
		p.Lines, p.Vendors = append(p.Lines, v.Line), append(p.Vendors, v)
	}
	add("kyushoku", by, vendor4, vendor6)
	if elsewhere != "" {
		add("linen", elsewhere, outsider4)
	}
	sato.Vendor.Sources = []netip.Prefix{netip.MustParsePrefix("198.51.100.20/32")}
	sato.Sources = sato.Vendor.Sources
	return p
}

// nextRefusal gives the next refusal of a vendor; empty: of nobody.
func (n *place) nextRefusal(t *testing.T, of string) policy.Fact {
	t.Helper()
	for {
		select {
		case f := <-n.firewall.outbox.facts:
			if f.Kind != policy.Refusal {
				t.Fatalf("a fact: %+v", f)
			}
			if f.Engineer == nil && of == "" || f.Engineer != nil && f.Engineer.Vendor.Name == of {
				return f
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("no refusal of %q", of)
		}
	}
}

func (n *place) send(t *testing.T, h *lab.Host, packet []byte) {
	t.Helper()
	if err := h.Send(packet); err != nil {
		t.Fatal(err)
	}
}

// TestFault120OnlyListedFlows goes through who may begin what by a plain line, and in the tunnel beside it.
func TestFault120OnlyListedFlows(t *testing.T) {
	n := newPlace(t, testOptions)
	for _, at := range []string{"10.1.0.5:22", "[fd00:1::5]:22", "10.1.0.5:23"} {
		n.target.Echo("tcp", at)
	}
	n.target.Echo("udp", "10.1.0.5:53")
	n.vendor.Echo("tcp", "203.0.113.10:80")
	n.vendor.Echo("udp", "203.0.113.10:161")
	n.outsider.Echo("tcp", "192.0.2.66:80")
	n.engineer.Echo("tcp", "10.99.0.2:80")
	n.gateway.Echo("tcp", "0.0.0.0:2200")
	n.gateway.Echo("udp", "[::]:51820")
	stays(t, "before a plan", n.vendor, "tcp", "10.1.0.5:22")
	n.set(t, openPlan(plainPolicy("wan", ""), time.Now().Add(time.Hour)))

	passes(t, "host", n.vendor, "tcp", "10.1.0.5:22")
	passes(t, "host", n.vendor, "tcp", "[fd00:1::5]:22")
	passes(t, "host", n.vendor, "udp", "10.1.0.5:53")
	for _, a := range []netip.Addr{target4, target6} {
		if _, err := n.vendor.Ping(limited(t, 5*time.Second), a); err != nil {
			t.Errorf("host: ping %s: %v", a, err)
		}
	}
	passes(t, "engineer", n.engineer, "tcp", "10.1.0.5:22")
	passes(t, "the host to a service of the gateway, which is not ours to close", n.vendor, "tcp", "203.0.113.1:2200")
	if got := n.counter(t, refusedFlow); got > 0 {
		t.Errorf("%d packets of listed flows are refused", got)
	}

	stays(t, "host, unlisted port", n.vendor, "tcp", "10.1.0.5:23")
	if f := n.nextRefusal(t, "kyushoku"); f.Decision.Reason != policy.UnlistedTarget || f.To != netip.MustParseAddrPort("10.1.0.5:23") || f.Engineer.DisplayName != vendor4.String() {
		t.Errorf("an unlisted port: %+v", f)
	}
	stays(t, "host to the outside", n.vendor, "tcp", "192.0.2.66:80")
	stays(t, "host to the engineer", n.vendor, "tcp", "10.99.0.2:80")
	stays(t, "engineer to the host", n.engineer, "tcp", "203.0.113.10:80")
	stays(t, "outsider to the host", n.outsider, "tcp", "203.0.113.10:80")
	stays(t, "outsider to the target", n.outsider, "tcp", "10.1.0.5:22")

	// The site begins nothing, not even from and to the ports of a listed flow.
	inward := n.vendor.Capture("eth0")
	stays(t, "target to the host", n.target, "tcp", "203.0.113.10:80")
	for _, packet := range [][]byte{
		lab.UDPPacket(netip.AddrPortFrom(target4, 53), netip.AddrPortFrom(vendor4, 161), []byte("get")),
		synPacket(target4, 22, vendor4, 3389), synPacket(target6, 22, vendor6, 3389),
	} {
		before := n.counter(t, refusedForward)
		n.send(t, n.target, packet)
		n.waitCounter(t, refusedForward, before+1)
	}
	if got := inward.Packets(lab.Incoming, func(p lab.Packet) bool { return p.Source.Addr() == target4 || p.Source.Addr() == target6 }); len(got) > 0 {
		t.Errorf("the host got:\n%s", lab.Lines(got))
	}

	// WireGuard's port has nothing for a host.
	before := n.counter(t, refusedSource)
	n.send(t, n.vendor, lab.UDPPacket(netip.AddrPortFrom(vendor4, 40000), port(outside4), initiationPacket()))
	n.send(t, n.vendor, lab.UDPPacket(netip.AddrPortFrom(vendor6, 40000), port(outside6), initiationPacket()))
	n.waitCounter(t, refusedSource, before+2)
	if got := inward.Packets(lab.Incoming, lab.Protocol(policy.UDP)); len(got) > 0 {
		t.Errorf("the port answered:\n%s", lab.Lines(got))
	}
}

// TestFault120ForgedHost: a host's address opens nothing by another interface, another line or the
// tunnel, also for packets of a flow that the host has begun, and no other address opens anything by the
// line. Each attempt is copied with its reason.
func TestFault120ForgedHost(t *testing.T) {
	for _, c := range []struct {
		name, elsewhere string
		closed          bool // the host's grant; that of the other line is open
		counter         string
		reason          policy.Reason
	}{
		{"another interface", "", false, refusedSpoofed, policy.WrongLine},
		{"another interface, outside the window", "", true, refusedForward, policy.Admitted}, // no copy
		{"another line", "far", false, refusedSpoofed, policy.WrongLine},
		{"another line, outside the window", "far", true, refusedFlow, policy.WrongLine},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newPlace(t, testOptions)
			n.target.Echo("udp", "10.1.0.5:53")
			plan := openPlan(plainPolicy("wan", c.elsewhere), time.Now().Add(time.Hour))
			if c.closed {
				plan = plan.Restrict(func(g *policy.Grant) *policy.Grant {
					if g.Engineer.Vendor.Name == "kyushoku" {
						return nil
					}
					return g
				})
			}
			n.set(t, plan)
			host := netip.AddrPortFrom(vendor4, 40000)
			at := n.target.Capture("eth0")
			if !c.closed {
				n.send(t, n.vendor, lab.UDPPacket(host, netip.AddrPortFrom(target4, 53), []byte("hello")))
				lab.WaitFor(t, 5*time.Second, "the host's own flow", func() bool { return len(at.Packets(lab.Incoming, lab.Protocol(policy.UDP), lab.From(vendor4))) == 1 })
			}
			at.Forget()
			for _, packet := range [][]byte{
				lab.UDPPacket(host, netip.AddrPortFrom(target4, 53), []byte("forged")), synPacket(vendor4, 4000, target4, 22), synPacket(vendor6, 4000, target6, 22),
			} {
				before := n.counter(t, c.counter)
				n.send(t, n.outsider, packet)
				n.waitCounter(t, c.counter, before+1)
			}
			if c.reason != policy.Admitted {
				if f := n.nextRefusal(t, "kyushoku"); f.Decision.Reason != c.reason || f.Source.Addr() != vendor4 {
					t.Errorf("forged: %+v", f)
				}
			}
			before := n.counter(t, refusedFlow)
			n.send(t, n.engineer, synPacket(vendor4, 4000, target4, 22))
			n.waitCounter(t, refusedFlow, before+1)
			n.send(t, n.vendor, synPacket(netip.MustParseAddr("203.0.113.77"), 4000, target4, 22))
			if f := n.nextRefusal(t, ""); f.Decision.Reason != policy.UnlistedSource || f.Source.Addr() != netip.MustParseAddr("203.0.113.77") {
				t.Errorf("another address of the line: %+v", f)
			}
			if c.closed {
				n.send(t, n.vendor, synPacket(vendor4, 4001, target4, 22))
				for f := n.nextRefusal(t, "kyushoku"); f.Decision.Reason != policy.OutsideWindow; f = n.nextRefusal(t, "kyushoku") {
					if f.Decision.Reason != policy.WrongLine {
						t.Errorf("by its line outside the window: %+v", f)
					}
				}
			}
			if got := at.Packets(lab.Incoming, func(p lab.Packet) bool { return p.Protocol == policy.TCP || p.Protocol == policy.UDP }); len(got) > 0 {
				t.Errorf("the target got:\n%s", lab.Lines(got))
			}
		})
	}
}

// TestFault120StreamsEnd: a TCP stream of a host ends with its element, by the kernel alone, and does not
// go on under a later grant.
func TestFault120StreamsEnd(t *testing.T) {
	n := newPlace(t, testOptions)
	listener, err := n.target.Listen("tcp", "10.1.0.5:22")
	if err != nil {
		t.Fatal(err)
	}
	p := plainPolicy("wan", "")
	n.set(t, openPlan(p, time.Now().Add(time.Hour)))
	stream, err := n.vendor.Dial(limited(t, 5*time.Second), "tcp", "10.1.0.5:22")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	other, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	atTarget, atHost := n.target.Capture("eth0"), n.vendor.Capture("eth0")
	tcp := lab.Protocol(policy.TCP)
	send := func() {
		for _, c := range []net.Conn{stream, other} {
			c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
			c.Write([]byte("tick")) // an error shows as absence
		}
	}
	end := time.Now().Add(3 * time.Second) // of which setting the plan may take two
	n.set(t, openPlan(p, end))
	before := time.Now()
	over := func() bool { send(); return time.Now().After(end.Add(time.Second)) }
	lab.WaitFor(t, 10*time.Second, "the end", over)
	for name, c := range map[string]*lab.Capture{"target": atTarget, "host": atHost} {
		if got := c.Packets(lab.Incoming, tcp, lab.After(before)); len(got) == 0 {
			t.Errorf("the %s got no packets before the end, want a stream", name)
		}
		if got := c.Packets(lab.Incoming, tcp, lab.After(end.Add(tooLate))); len(got) > 0 {
			t.Errorf("the %s got, %v after the end:\n%s", name, got[0].At.Sub(end), lab.Lines(got))
		}
	}
	n.set(t, openPlan(p, end)) // as the loop does after the end
	n.set(t, openPlan(p, time.Now().Add(time.Hour)))
	again := time.Now()
	refused := n.counter(t, refusedFlow)
	lab.WaitFor(t, 10*time.Second, "the old stream is refused", func() bool { send(); return n.counter(t, refusedFlow) > refused })
	if got := atTarget.Packets(lab.Incoming, tcp, lab.After(again)); len(got) > 0 {
		t.Errorf("the stream goes on:\n%s", lab.Lines(got))
	}
	n.target.Echo("udp", "10.1.0.5:53")
	passes(t, "a new flow", n.vendor, "udp", "10.1.0.5:53")
}

// TestFault120AnswersByTheLine: when the way to a host leads elsewhere, nothing of its flows leaves there,
// neither answers of targets nor errors of the gateway, and operators are told.
func TestFault120AnswersByTheLine(t *testing.T) {
	n := newPlace(t, testOptions)
	n.target.Echo("udp", "10.1.0.5:53")
	plan := openPlan(plainPolicy("wan", ""), time.Now().Add(time.Hour))
	n.set(t, plan)
	strays := func() (codes []string) {
		t.Helper()
		_ = n.gateway.Do(func() error {
			hints, err := strayed(plan, testPaths, "kido0")
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range hints {
				if !slices.Equal(h.Engineers, []string{"kyushoku/host-203-0-113-10"}) {
					t.Errorf("the hint is of %v", h.Engineers)
				}
				codes = append(codes, string(h.Message.Code))
			}
			return nil
		})
		return codes
	}
	if got := strays(); len(got) > 0 {
		t.Errorf("hints of ways that lead back: %v", got)
	}
	host, service := netip.AddrPortFrom(vendor4, 40000), netip.AddrPortFrom(target4, 53)
	question := lab.UDPPacket(host, service, []byte("hello"))
	dies := slices.Clone(question)
	dies[8] = 1 // hops
	atHost, elsewhere := n.vendor.Capture("eth0"), n.outsider.Capture("eth0")
	n.send(t, n.vendor, question)
	n.send(t, n.vendor, dies)
	lab.WaitFor(t, 5*time.Second, "an answer and an error by the line", func() bool {
		return len(atHost.Packets(lab.Incoming, lab.From(target4))) > 0 && len(atHost.Packets(lab.Incoming, lab.Protocol(policy.ICMP))) > 0
	})

	run(t, n.gateway, "ip", "route", "replace", "203.0.113.10/32", "via", "192.0.2.66", "dev", "far")
	atHost.Forget()
	forwarded, inward := n.counter(t, refusedForward), n.counter(t, refusedInward)
	n.send(t, n.vendor, question)
	n.send(t, n.vendor, dies)
	n.waitCounter(t, refusedForward, forwarded+1)
	n.waitCounter(t, refusedInward, inward+1)
	if got := append(atHost.Packets(lab.Incoming, lab.To(vendor4)), elsewhere.Packets(lab.Incoming, lab.To(vendor4))...); len(got) > 0 {
		t.Errorf("these left:\n%s", lab.Lines(got))
	}
	if got := strays(); !slices.Equal(got, []string{"way_back_line"}) {
		t.Errorf("hints of a way that leads elsewhere: %v", got)
	}
	run(t, n.gateway, "ip", "route", "replace", "unreachable", "203.0.113.10/32")
	if got := strays(); !slices.Equal(got, []string{"way_back_line_refused"}) {
		t.Errorf("hints of no way: %v", got)
	}
}

// TestPlainLineInDoubt: the kernel takes the ruleset of a doubt, which lets nobody in, and what follows it.
func TestPlainLineInDoubt(t *testing.T) {
	n := newPlace(t, testOptions)
	n.target.Echo("tcp", "10.1.0.5:22")
	plan := openPlan(plainPolicy("wan", ""), time.Now().Add(time.Hour))
	for range 2 { // a start is in doubt
		n.set(t, plan.Doubted("the clock"))
		stays(t, "in doubt", n.vendor, "tcp", "10.1.0.5:22")
		n.set(t, plan)
		passes(t, "after it", n.vendor, "tcp", "10.1.0.5:22")
	}
}

// TestPlainLineGoes: a policy without the line takes the place of one with it, and the other way round.
func TestPlainLineGoes(t *testing.T) {
	n := newPlace(t, testOptions)
	n.target.Echo("tcp", "10.1.0.5:22")
	with, without := plainPolicy("wan", ""), plainPolicy("wan", "")
	without.Vendors, without.Lines = without.Vendors[:1], nil
	for range 2 {
		n.set(t, openPlan(with, time.Now().Add(time.Hour)))
		passes(t, "with the line", n.vendor, "tcp", "10.1.0.5:22")
		n.set(t, openPlan(without, time.Now().Add(time.Hour)))
		stays(t, "without the line", n.vendor, "tcp", "10.1.0.5:22")
		passes(t, "engineer", n.engineer, "tcp", "10.1.0.5:22")
	}
}

// TestPlainLineToTargets: the interface of a line may lead to targets, also to those of hosts on another line.
func TestPlainLineToTargets(t *testing.T) {
	n := newPlace(t, testOptions)
	p := plainPolicy("lan", "far") // the targets are where the caterer is
	n.target.Echo("tcp", "10.1.0.5:22")
	n.set(t, openPlan(p, time.Now().Add(time.Hour)))
	passes(t, "engineer to a target by a line", n.engineer, "tcp", "10.1.0.5:22")
	passes(t, "host to a target by another line", n.outsider, "tcp", "10.1.0.5:22")
	if got := n.counter(t, refusedFlow) + n.counter(t, refusedForward); got > 0 {
		t.Errorf("%d packets were refused", got)
	}
	before := n.counter(t, refusedInward)
	n.send(t, n.target, synPacket(target4, 22, engineer4, 3389))
	n.waitCounter(t, refusedInward, before+1)
	before = n.counter(t, refusedFlow)
	n.send(t, n.target, synPacket(target4, 22, outsider4, 3389))
	n.waitCounter(t, refusedFlow, before+1)
}

// TestPlainLineErrors: ICMP errors about a host's flow pass as they do for the tunnel.
func TestPlainLineErrors(t *testing.T) {
	n := newPlace(t, testOptions)
	n.set(t, openPlan(plainPolicy("wan", ""), time.Now().Add(time.Hour)))
	c, err := n.vendor.Dial(limited(t, 5*time.Second), "udp", "10.1.0.5:53")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Read(make([]byte, 16)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("reading from a closed port of a listed flow: %v, want ECONNREFUSED by ICMP", err)
	}
	wire := n.target.Capture("eth0")
	answer := lab.UDPPacket(netip.AddrPortFrom(target4, 53), c.LocalAddr().(*net.UDPAddr).AddrPort(), []byte("hello"))
	before := n.counter(t, refusedFlow)
	n.send(t, n.vendor, unreachable(t, netip.MustParseAddr("203.0.113.77"), target4, answer))
	n.waitCounter(t, refusedFlow, before+1)
	n.send(t, n.vendor, unreachable(t, vendor4, target4, answer))
	lab.WaitFor(t, 5*time.Second, "the target hears from the host", func() bool { return len(wire.Packets(lab.Incoming, lab.Protocol(policy.ICMP), lab.From(vendor4))) > 0 })
	if got := wire.Packets(lab.Incoming, lab.From(netip.MustParseAddr("203.0.113.77"))); len(got) > 0 {
		t.Errorf("the target heard from elsewhere:\n%s", lab.Lines(got))
	}
}

// TestPlainLineMasquerade: a target that shall see the gateway's address sees it for hosts too.
func TestPlainLineMasquerade(t *testing.T) {
	n := newPlace(t, testOptions)
	p := plainPolicy("wan", "")
	p.Targets[0].Masquerade = true
	n.set(t, openPlan(p, time.Now().Add(time.Hour)))
	n.target.Echo("tcp", "10.1.0.5:22")
	wire := n.target.Capture("eth0")
	passes(t, "host", n.vendor, "tcp", "10.1.0.5:22")
	if got := wire.Packets(lab.Incoming, lab.Protocol(policy.TCP), lab.From(inside4)); len(got) == 0 {
		t.Error("the target did not see the gateway's address")
	}
	if got := wire.Packets(lab.Incoming, lab.From(vendor4)); len(got) > 0 {
		t.Errorf("the target saw the host's address:\n%s", lab.Lines(got))
	}
}

// TestPlainLineFragments: a host's fragments have a limit of their own, so others' take nothing from them.
func TestPlainLineFragments(t *testing.T) {
	n := newPlace(t, testOptions)
	n.target.Echo("udp", "10.1.0.5:53")
	n.set(t, openPlan(plainPolicy("wan", ""), time.Now().Add(time.Hour)))
	beginning := func(from netip.Addr) []byte {
		b := lab.UDPPacket(netip.AddrPortFrom(from, 4000), netip.AddrPortFrom(target4, 53), make([]byte, 64))
		b[6] = 0x20 // more fragments
		return b
	}
	floods := func(h *lab.Host, from netip.Addr) {
		t.Helper()
		before := n.counter(t, refusedFragment)
		for n.counter(t, refusedFragment) == before {
			for range 20 {
				n.send(t, h, beginning(from))
			}
		}
	}
	exchange := func(what string, h *lab.Host) {
		t.Helper()
		c, err := h.Dial(limited(t, 5*time.Second), "udp", "10.1.0.5:53")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Write(make([]byte, 2000)); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Read(make([]byte, 4000)); err != nil || got != 2000 {
			t.Errorf("%s: %d bytes come back: %v", what, got, err)
		}
	}
	floods(n.outsider, outsider4)
	floods(n.vendor, netip.MustParseAddr("203.0.113.77"))
	exchange("others flood", n.vendor)
	floods(n.vendor, vendor4)
	exchange("the host floods", n.engineer)
}

// TestPlainLineAccounts: what a host sends to targets is counted without a session, and what it has with
// the gateway itself is not.
func TestPlainLineAccounts(t *testing.T) {
	n := newPlace(t, testOptions)
	n.target.Echo("tcp", "10.1.0.5:22")
	n.gateway.Echo("tcp", "0.0.0.0:2200")
	p := plainPolicy("wan", "")
	n.set(t, openPlan(p, time.Now()))
	if n.firewall.accounts.sessions.Load() {
		t.Error("flows are read while no grant is open")
	}
	n.set(t, openPlan(p, time.Now().Add(time.Hour)))
	passes(t, "host to the gateway", n.vendor, "tcp", "203.0.113.1:2200")
	passes(t, "host", n.vendor, "tcp", "10.1.0.5:22")
	// No session, and no reading that anybody asks for.
	f := &Firewall{kernel: n.firewall}
	lab.WaitFor(t, 20*time.Second, "the host's flow", func() bool { return len(maps.Collect(f.Used(all))) > 0 })
	want := flowTo(vendor4, "10.1.0.5:22", policy.TCP)
	used := n.counted(t)
	if u := used[want]; len(used) != 1 || u.Connections != 1 || u.ReceivedBytes == 0 || u.TransmittedBytes == 0 {
		t.Errorf("counted: %+v", used)
	}
	n.set(t, openPlan(p, time.Now()))
	if got := n.counted(t); len(got) != 1 {
		t.Errorf("after the end: %+v", got)
	}
}

// TestFault120OwnTraffic: what a host has with the gateway itself is not forgotten when its window closes. Anybody on the line could
// begin so much of it that nothing would open or close any more. It is forgotten before the other end becomes a target.
func TestFault120OwnTraffic(t *testing.T) {
	n := newPlace(t, testOptions)
	n.target.Echo("tcp", "10.1.0.5:22")
	n.gateway.Echo("tcp", "0.0.0.0:2200")
	p := plainPolicy("wan", "")
	n.set(t, openPlan(p, time.Now().Add(time.Hour)))
	for _, to := range []string{"203.0.113.1:2200", "10.1.0.5:22"} {
		c, err := n.vendor.Dial(limited(t, 5*time.Second), "tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	flows := func() (to []string) {
		n.firewall.accounts.walking.Lock()
		defer n.firewall.accounts.walking.Unlock()
		all, err := n.firewall.accounts.walker.counted(func(from, _ netip.Addr) bool { return from == vendor4 })
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			to = append(to, c.flow.To.String())
		}
		slices.Sort(to)
		return to
	}
	if got := flows(); !slices.Equal(got, []string{"10.1.0.5:22", "203.0.113.1:2200"}) {
		t.Fatalf("the host has flows to %v", got)
	}
	n.set(t, openPlan(p, time.Now()))
	if got := flows(); !slices.Equal(got, []string{"203.0.113.1:2200"}) {
		t.Errorf("after the end the host has flows to %v", got)
	}
	next := plainPolicy("wan", "")
	next.Targets[0].Prefix = netip.MustParsePrefix("203.0.113.1/32")
	n.set(t, openPlan(next, time.Now()))
	if got := flows(); len(got) > 0 {
		t.Errorf("a new target has a flow already: %v", got)
	}
}

// TestPlainLineForwarding: packets that come by a line are forwarded, for the families of its hosts. A line
// whose interface is missing closes nothing else, and operators are told.
func TestPlainLineForwarding(t *testing.T) {
	l := lab.New(t)
	h := l.Host("gateway")
	far := func() { l.Link(h, "far", nil, l.Host("outsider"), "eth0", nil) }
	l.Link(h, "kido0", nil, l.Host("engineer"), "eth0", nil)
	l.Link(h, "wan", nil, l.Host("vendor"), "eth0", nil)
	l.Link(h, "lan", lab.Prefixes("10.1.0.1/24", "fd00:1::1/64"), l.Host("target"), "eth0", nil)
	plan := openPlan(plainPolicy("wan", "far"), time.Now().Add(time.Hour))
	_ = h.Do(func() error {
		f, err := New(testOptions)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		wants := func(what string, far string, codes ...string) {
			t.Helper()
			if err := f.Check(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			for name, want := range map[string]string{"wan": "1", "far": far} {
				if got := setting("ipv4/conf/" + name + "/forwarding"); got != want {
					t.Errorf("%s: forwarding of %s: %q, want %q", what, name, got, want)
				}
			}
			var got []string
			for _, hint := range f.Hints() {
				if hint.Message.Code == "plain_line_missing" {
					got = append(got, hint.Engineers...)
				}
			}
			if !slices.Equal(got, codes) {
				t.Errorf("%s: hosts without a line: %v, want %v", what, got, codes)
			}
		}
		if err := f.Set(plan, nil); err != nil {
			t.Fatal(err)
		}
		wants("a line is missing", "", "linen/host-192-0-2-66")
		for _, four := range []bool{true, false} {
			if list := map[bool][]string{true: f.paths.ipv4, false: f.paths.ipv6}[four]; !slices.Contains(list, "wan") || slices.Contains(list, "far") {
				t.Errorf("forwarding is for %v", list)
			}
		}
		far()
		f.looked = time.Time{}
		wants("it has come", "1")
		if slices.Contains(f.paths.ipv6, "far") {
			t.Error("IPv6 is forwarded for a line of IPv4 hosts")
		}
		run(t, h, "ip", "link", "delete", "far")
		wants("it has gone, and routes are not looked up yet", "")
		f.looked = time.Time{}
		wants("it has gone", "", "linen/host-192-0-2-66")
		return nil
	})
}
