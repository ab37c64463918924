package firewall

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	messages "golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// pair is one way between the engineer and the target, of a family.
type pair struct {
	family           int
	engineer, target netip.Addr
}

var pairs = []pair{{4, engineer4, target4}, {6, engineer6, target6}}

// sends puts packets on a host's wire.
func sends(t *testing.T, h *lab.Host, packets ...[]byte) {
	t.Helper()
	for _, p := range packets {
		if err := h.Send(p); err != nil {
			t.Fatal(err)
		}
	}
}

// arrives waits until a packet with this text has come.
func arrives(t *testing.T, capture *lab.Capture, text string) {
	t.Helper()
	lab.WaitFor(t, 5*time.Second, "it arrives: "+text, func() bool { return len(capture.Packets(lab.Incoming, saying(text))) > 0 })
}

// dnatTo has another program send the engineer's packets for a target's port
// to another address and port.
func dnatTo(t *testing.T, h *lab.Host, rule string) {
	t.Helper()
	for _, command := range []string{"add table inet other", "add chain inet other pre { type nat hook prerouting priority dstnat; }", "add rule inet other pre " + rule} {
		if out, err := nft(t, h, strings.Fields(command)...); err != nil {
			t.Fatal(err, out)
		}
	}
}

// TestFault80RewrittenDestination: another program gives an engineer's listed
// flow a destination that is not listed. conntrack goes on telling the one
// that the engineer wrote.
func TestFault80RewrittenDestination(t *testing.T) {
	for _, c := range []struct{ name, rule string }{
		{"another host", "ip daddr 10.1.0.5 tcp dport 22 dnat ip to 10.1.0.6:8081"},
		{"another port of the target", "ip daddr 10.1.0.5 tcp dport 22 dnat ip to 10.1.0.5:8081"},
		{"a listed port of the target", "ip daddr 10.1.0.5 tcp dport 22 dnat ip to 10.1.0.5:5900"},
		{"IPv6", "ip6 daddr fd00:1::5 tcp dport 22 dnat ip6 to [fd00:1::6]:8081"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newPlace(t, testOptions)
			if out, err := n.target.Command(t.Context(), "sh", "-c", "ip addr add 10.1.0.6/24 dev eth0 && ip addr add fd00:1::6/64 dev eth0 nodad").CombinedOutput(); err != nil {
				t.Fatal(err, string(out))
			}
			for _, at := range []string{"10.1.0.6:8081", "10.1.0.5:8081", "10.1.0.5:5900", "10.1.0.5:5901", "[fd00:1::6]:8081"} {
				n.target.Echo("tcp", at)
			}
			n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
			passes(t, "before", n.engineer, "tcp", "10.1.0.5:5901")
			dnatTo(t, n.gateway, c.rule)
			to := "10.1.0.5:22"
			if c.name == "IPv6" {
				to = "[fd00:1::5]:22"
			}
			stays(t, "rewritten", n.engineer, "tcp", to)
			n.waitCounter(t, refusedDNAT, 1)
			if got, err := n.firewall.rewriters(); err != nil || !slices.Equal(got, []string{"chain pre of table inet other"}) {
				t.Errorf("who rewrites: %q, %v", got, err)
			}
			passes(t, "what is not rewritten", n.engineer, "tcp", "10.1.0.5:5901")
		})
	}
	t.Run("without NAT", func(t *testing.T) {
		n := newPlace(t, testOptions)
		n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
		for _, command := range []string{"add table inet other", "add chain inet other pre { type filter hook prerouting priority -100; }",
			"add rule inet other pre ip daddr 10.1.0.5 udp dport 53 ip daddr set 10.1.0.6"} {
			if out, err := nft(t, n.gateway, strings.Fields(command)...); err != nil {
				t.Fatal(err, out)
			}
		}
		before := n.counter(t, refusedPath)
		sends(t, n.engineer, lab.UDPPacket(netip.AddrPortFrom(engineer4, 4000), netip.AddrPortFrom(target4, 53), []byte("rewritten")))
		n.waitCounter(t, refusedPath, before+1)
	})
}

// TestFault81ALoudEngineerHidesNobody: one engineer is refused thousands of
// packets a second, and each of another's few attempts is told.
func TestFault81ALoudEngineerHidesNobody(t *testing.T) {
	n := newPlace(t, testOptions)
	n.set(t, openPlan(bothEngineers(), time.Now().Add(time.Hour)))
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() { // 4,000 a second, as long as it takes
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			case <-tick.C:
				for range 20 {
					if err := n.engineer.Send(lab.UDPPacket(netip.AddrPortFrom(engineer4, 4000), netip.AddrPortFrom(target4, 99), []byte("loud"))); err != nil {
						stopped <- err
						return
					}
				}
			}
		}
	}()
	before := n.counter(t, refusedFlow)
	n.waitCounter(t, refusedFlow, before+1000)
	const attempts = 12
	for i := range attempts {
		sends(t, n.engineer, lab.UDPPacket(netip.AddrPortFrom(colleague4, 4000), netip.AddrPortFrom(target4, uint16(100+i)), []byte("quiet")))
	}
	told := map[uint16]bool{}
	lab.WaitFor(t, 10*time.Second, fmt.Sprintf("each of suzuki's %d attempts is told", attempts), func() bool {
		for {
			select {
			case f := <-n.firewall.outbox.facts:
				if f.Engineer != nil && f.Engineer.Name == "suzuki" {
					told[f.To.Port()] = true
				}
			default:
				return len(told) == attempts
			}
		}
	})
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}

// TestFault83OptionsAndExtensionHeaders: what stands between the IP header and
// the protocol is for routers, and no engineer's or target's business.
func TestFault83OptionsAndExtensionHeaders(t *testing.T) {
	n := newPlace(t, testOptions)
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	target := n.target.Capture("eth0")
	plain := synPacket(engineer6, 4000, target6, 22)
	with := func(packet []byte, header byte, next byte) []byte {
		p := append([]byte{}, packet...)
		p[6] = header
		p[5] += 8
		extension := []byte{next, 0, 1, 4, 0, 0, 0, 0} // a PadN option; of a routing header: type 1
		if header == unix.IPPROTO_ROUTING {
			extension = []byte{next, 0, 4, 0, 0, 0, 0, 0}
		}
		return append(p[:40:40], append(extension, p[40:]...)...)
	}
	refused := n.counter(t, refusedFlow)
	var odd [][]byte
	for _, header := range []byte{unix.IPPROTO_HOPOPTS, unix.IPPROTO_DSTOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_AH} {
		odd = append(odd, with(plain, header, unix.IPPROTO_TCP))
	}
	four := synPacket(engineer4, 4000, target4, 22)
	four[0] = 0x46 // with four bytes of no operation
	four[3] += 4
	four = append(four[:20:20], append([]byte{1, 1, 1, 1}, four[20:]...)...)
	odd = append(odd, checksummed(four))
	sends(t, n.engineer, odd...)
	n.waitCounter(t, refusedFlow, refused+uint64(len(odd)))
	sends(t, n.engineer, plain, synPacket(engineer4, 4000, target4, 22))
	lab.WaitFor(t, 5*time.Second, "the plain ones arrive", func() bool {
		return len(target.Packets(lab.Incoming, lab.To(target6), lab.Protocol(policy.TCP))) > 0 && len(target.Packets(lab.Incoming, lab.To(target4))) > 0
	})
	if got := len(target.Packets(lab.Incoming, lab.From(engineer6))) + len(target.Packets(lab.Incoming, lab.From(engineer4))); got != 2 {
		t.Errorf("%d packets of the engineer arrived, want the 2 plain ones", got)
	}
	// Nor in what the target says of a flow that is open.
	inward := n.counter(t, refusedInward)
	answer := synPacket(target6, 22, engineer6, 4000)
	sends(t, n.target, with(answer, unix.IPPROTO_DSTOPTS, unix.IPPROTO_TCP))
	n.waitCounter(t, refusedInward, inward+1)
}

// checksummed is an IPv4 packet with the right checksum of its header.
func checksummed(p []byte) []byte {
	p[10], p[11] = 0, 0
	var sum uint32
	for i := 0; i < int(p[0]&15)*4; i += 2 {
		sum += uint32(p[i])<<8 | uint32(p[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	p[10], p[11] = byte(^sum>>8), byte(^sum)
	return p
}

// TestFault77ClosedFlowsAreForgotten: what was cut when everything closed does
// not go on when the same is open again, neither the engineer's half nor the
// target's, whatever the target did meanwhile; and what another grant covers
// is not touched.
func TestFault77ClosedFlowsAreForgotten(t *testing.T) {
	for _, masquerade := range []bool{false, true} {
		for _, byTimer := range []bool{false, true} {
			t.Run(fmt.Sprintf("masquerade %v, by the kernel's timer %v", masquerade, byTimer), func(t *testing.T) {
				n := newPlace(t, testOptions)
				p := testPolicy()
				p.Targets[0].Masquerade, p.Targets[1].Masquerade = masquerade, masquerade
				p.Targets[1].Services = append(p.Targets[1].Services, policy.Service{Protocol: policy.UDP, First: 53, Last: 53})
				// 5900 and 5901 are of a window that stays.
				stay := *p.Targets[0]
				stay.Services = stay.Services[2:3]
				stay.Name = "stays"
				p.Targets[0].Services = append(p.Targets[0].Services[:2:2], policy.Service{Protocol: policy.ICMP})
				w := *p.Vendors[0].Windows[0]
				w.Name, w.Targets = "stays", []*policy.Target{&stay}
				p.Vendors[0].Windows = append(p.Vendors[0].Windows, &w)
				p.Targets = append(p.Targets, &stay)
				open := func(support time.Time) {
					t.Helper()
					n.set(t, planAt(p, time.Now()).Restrict(func(g *policy.Grant) *policy.Grant {
						g2 := *g
						g2.Until = time.Now().Add(time.Hour)
						if g.Window.Name == "support" {
							if support.IsZero() {
								return nil
							}
							g2.Until = support
						}
						return &g2
					}))
				}
				n.target.Echo("tcp", "10.1.0.5:5900")
				n.target.Echo("udp", "10.1.0.5:53")
				n.target.Echo("udp", "[fd00:1::5]:53")
				n.target.Echo("tcp", "[fd00:1::5]:22")
				end := time.Now().Add(time.Hour)
				open(end)
				stream, held := n.stream(t)
				kept, err := n.engineer.Dial(limited(t, 5*time.Second), "tcp", "10.1.0.5:5900")
				if err != nil {
					t.Fatal(err)
				}
				defer kept.Close()
				stream6, err := n.engineer.Dial(limited(t, 5*time.Second), "tcp", "[fd00:1::5]:22")
				if err != nil {
					t.Fatal(err)
				}
				defer stream6.Close()
				for _, x := range pairs {
					if _, err := n.engineer.Ping(limited(t, 5*time.Second), x.target); err != nil {
						t.Fatal(err)
					}
				}
				ask := func(x pair) net.Conn {
					t.Helper()
					c, err := n.engineer.DialFrom(limited(t, 5*time.Second), "udp", netip.AddrPortFrom(x.engineer, 4000), netip.AddrPortFrom(x.target, 53).String())
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { c.Close() })
					if _, err := c.Write([]byte("asked")); err != nil {
						t.Fatal(err)
					}
					_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
					if _, err := c.Read(make([]byte, 16)); err != nil {
						t.Fatal(err)
					}
					return c
				}
				for _, x := range pairs {
					ask(x)
				}
				lanBefore := n.gateway.Capture("lan")
				if _, err := held.Write([]byte("before")); err != nil {
					t.Fatal(err)
				}
				engineer := n.engineer.Capture("eth0")
				arrives(t, lanBefore, "before")

				if byTimer {
					end := time.Now().Add(300 * time.Millisecond)
					open(end)
					// The kernel counts in jiffies, so its timer may run out some
					// milliseconds before the window does. A plan set in between
					// would prolong the window, and its flows would go on.
					lab.WaitFor(t, 5*time.Second, "the end of the window, and the kernel's timer", func() bool {
						out, err := nft(t, n.gateway, "list", "set", "inet", "kidoban", "flows4")
						return time.Now().After(end) && err == nil && !strings.Contains(out, "tcp . 22 ")
					})
				} else {
					open(time.Time{})
				}
				// The target keeps its flows alive, by what is dropped.
				if _, err := held.Write([]byte("meanwhile")); err != nil {
					t.Fatal(err)
				}
				arrives(t, lanBefore, "meanwhile")
				open(time.Now().Add(time.Hour)) // the next window, whatever came before it

				// The kept one goes on. What was asked in it comes after all that follows.
				before := n.counter(t, refusedFlow)
				if _, err := stream.Write([]byte("the engineer goes on")); err != nil {
					t.Fatal(err)
				}
				if _, err := stream6.Write([]byte("the engineer goes on")); err != nil {
					t.Fatal(err)
				}
				n.waitCounter(t, refusedFlow, before+2)
				sends(t, n.target, lab.UDPPacket(netip.AddrPortFrom(target4, 53), netip.AddrPortFrom(engineer4, 4000), []byte("the target tells")),
					lab.UDPPacket(netip.AddrPortFrom(target6, 53), netip.AddrPortFrom(engineer6, 4000), []byte("the target tells")))
				if _, err := kept.Write([]byte("kept")); err != nil {
					t.Fatal(err)
				}
				_ = kept.SetReadDeadline(time.Now().Add(5 * time.Second))
				if _, err := kept.Read(make([]byte, 16)); err != nil {
					t.Errorf("a flow of a window that stays: %v", err)
				}
				passes(t, "a new flow", n.engineer, "udp", "10.1.0.5:53")
				for _, text := range []string{"meanwhile", "the target tells"} {
					if got := engineer.Packets(lab.Incoming, saying(text)); len(got) > 0 {
						t.Errorf("the engineer got of flows that were closed:\n%s", lab.Lines(got))
					}
				}
			})
		}
	}
}

// TestFault77ReadBackBeforeTheNextPlan: elements end by the kernel's timer, and
// the ruleset is read back before the plan comes that knows of it. The flows are
// forgotten all the same.
func TestFault77ReadBackBeforeTheNextPlan(t *testing.T) {
	n := newPlace(t, testOptions)
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	n.stream(t)
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Second)))
	lab.WaitFor(t, 10*time.Second, "the kernel's timer", func() bool {
		out, err := nft(t, n.gateway, "list", "set", "inet", "kidoban", "flows4")
		return err == nil && !strings.Contains(out, "expires")
	})
	if out, err := nft(t, n.gateway, "add table ip other"); err != nil { // so that everything is read back
		t.Fatal(out, err)
	}
	before := n.firewall.readBack.at
	if err := n.firewall.check(); err != nil {
		t.Fatal(err)
	}
	if n.firewall.readBack.at == before {
		t.Fatal("nothing was read back")
	}
	n.set(t, nil)
	if got := n.gateway.ReadSysctl("net.netfilter.nf_conntrack_count"); got != "0" {
		t.Errorf("conntrack knows %s flows of a window that is over", got)
	}
}

// TestFault77TheOldHalfOfAConnection: the target still holds a connection that
// was cut, and goes on sending in it. An engineer who begins a new one from the
// same port hears nothing of the old one.
func TestFault77TheOldHalfOfAConnection(t *testing.T) {
	n := newPlace(t, testOptions)
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	stream, held := n.stream(t)
	from := stream.LocalAddr().(*net.TCPAddr).AddrPort()
	n.set(t, nil)
	if _, err := held.Write([]byte("said after the close")); err != nil {
		t.Fatal(err)
	}
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	// The engineer's own kernel would tell the target that it knows nothing of this.
	if out, err := nft(t, n.engineer, "add table inet deaf; add chain inet deaf in { type filter hook input priority 0; }; add rule inet deaf in tcp sport 22 drop"); err != nil {
		t.Fatal(out, err)
	}
	engineer := n.engineer.Capture("eth0")
	inward := n.counter(t, refusedInward)
	lab.WaitFor(t, 20*time.Second, "the target says something of the old one", func() bool {
		sends(t, n.engineer, synPacket(from.Addr(), from.Port(), target4, 22))
		return n.counter(t, refusedInward) > inward
	})
	// It hears that the old one is over, or it would take no new one from that port.
	_ = held.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := held.Read(make([]byte, 10)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the target's half of the old connection: %v, want %v", err, unix.ECONNRESET)
	}
	if got := engineer.Packets(lab.Incoming, lab.From(target4), func(p lab.Packet) bool { return p.Flags&6 == 0 }); len(got) > 0 {
		t.Errorf("the engineer got of a connection that was cut:\n%s", lab.Lines(got))
	}
	n.target.Echo("tcp", "10.1.0.5:5900")
	if out, err := nft(t, n.engineer, "flush ruleset"); err != nil {
		t.Fatal(out, err)
	}
	passes(t, "a new connection", n.engineer, "tcp", "10.1.0.5:5900")
}

// TestFault77ThousandAtOnce: a thousand engineers' windows end at once, and one
// more's does not. Of all flows that one's alone is remembered.
func TestFault77ThousandAtOnce(t *testing.T) {
	n := newPlace(t, testOptions)
	p := testPolicy()
	p.Targets[1].Services = append(p.Targets[1].Services, policy.Service{Protocol: policy.UDP, First: 53, Last: 53})
	v := p.Vendors[0]
	for i := range 1000 {
		e := &policy.Engineer{Vendor: v, Name: fmt.Sprint("engineer-", i), Key: policy.Key{9, byte(i >> 8), byte(i)}, Sources: v.Sources,
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 99, byte(4 + i>>8), byte(i)}), netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x99, 13: 1, 14: byte(i >> 8), 15: byte(i)})}}
		v.Engineers = append(v.Engineers, e)
		v.Windows[0].Engineers = append(v.Windows[0].Engineers, e)
	}
	plan := openPlan(p, time.Now().Add(time.Hour))
	n.set(t, plan)
	sink, err := n.target.ListenPacket("udp", "[::]:53")
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	n.gateway.Sysctl("net.netfilter.nf_conntrack_udp_timeout", "600") // however slow the machine is
	remembered := func() string { return n.gateway.ReadSysctl("net.netfilter.nf_conntrack_count") }
	flows := 0
	for _, e := range v.Windows[0].Engineers {
		for i, to := range []netip.Addr{target4, target6} {
			sends(t, n.engineer, lab.UDPPacket(netip.AddrPortFrom(e.Addresses[i], 4000), netip.AddrPortFrom(to, 53), []byte("hello")))
			flows++
		}
	}
	lab.WaitFor(t, 10*time.Second, "all flows are known", func() bool { return remembered() == fmt.Sprint(flows) })
	n.set(t, plan.Restrict(func(g *policy.Grant) *policy.Grant {
		if g.Engineer.Name != "sato" {
			return nil
		}
		return g
	}))
	if got, want := remembered(), "2"; got != want {
		t.Errorf("conntrack knows %s flows of %d, want the %s that are open", got, flows, want)
	}
}

// TestFault76OneEngineersShare: an engineer who begins flows as fast as the line
// carries takes neither the kernel's table of connections nor the ports of a
// masqueraded target from another, is named, and leaves nothing behind.
func TestFault76OneEngineersShare(t *testing.T) {
	n := newPlace(t, testOptions)
	p := bothEngineers()
	p.Targets[0].Masquerade = true
	n.set(t, openPlan(p, time.Now().Add(time.Hour)))
	if out, err := nft(t, n.target, "add table inet deaf; add chain inet deaf in { type filter hook input priority 0; }; add rule inet deaf in tcp dport 22 drop"); err != nil {
		t.Fatal(out, err)
	}
	began := time.Now()
	for port := range 1 << 16 {
		sends(t, n.engineer, synPacket(engineer4, uint16(port), target4, 22))
	}
	named := false
	lab.WaitFor(t, 10*time.Second, "the engineer is named", func() bool {
		for {
			select {
			case f := <-n.firewall.outbox.facts:
				named = named || f.Decision.Reason == policy.RateLimited && f.Engineer.Name == "sato" && f.To == netip.AddrPortFrom(target4, 22)
			default:
				return named
			}
		}
	})
	if got := n.counter(t, refusedExcess); got == 0 {
		t.Errorf("the counter %s is 0", refusedExcess)
	}
	tracked := func() (count int) {
		if _, err := fmt.Sscan(n.gateway.ReadSysctl("net.netfilter.nf_conntrack_count"), &count); err != nil {
			t.Fatal(err)
		}
		return count
	}
	most := int(beginRate.burst) + int(time.Since(began)/time.Second+1)*int(beginRate.packets)
	if got := tracked(); got > most || got == 0 {
		t.Errorf("conntrack knows %d connections, want some, and at most %d", got, most)
	}
	if out, err := nft(t, n.target, "flush ruleset"); err != nil {
		t.Fatal(out, err)
	}
	n.target.Echo("tcp", "10.1.0.5:22")
	if out, err := n.engineer.Command(t.Context(), "ip", "addr", "add", colleague4.String()+"/24", "dev", "eth0").CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	for range 3 {
		c, err := n.engineer.DialFrom(limited(t, 10*time.Second), "tcp", netip.AddrPortFrom(colleague4, 0), "10.1.0.5:22")
		if err != nil {
			t.Fatalf("the other engineer: %v", err)
		}
		c.Close()
	}
	n.set(t, nil)
	if got := tracked(); got != 0 {
		t.Errorf("closed: conntrack knows %d connections, want none", got)
	}
}

// TestFault76FlowsAtOnce: a tunnel address has so many flows at once and no
// more, however slowly it begins them; and a flow that nobody answers is one
// flow, however many packets it has.
func TestFault76FlowsAtOnce(t *testing.T) {
	usual := beginRate
	beginRate = rate{1 << 20, 1 << 20}
	t.Cleanup(func() { beginRate = usual })
	n := newPlace(t, testOptions)
	n.gateway.Sysctl("net.netfilter.nf_conntrack_udp_timeout", "600")
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	sink, err := n.target.ListenPacket("udp", "10.1.0.5:53")
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	const more = 200
	send := func(port int) {
		sends(t, n.engineer, lab.UDPPacket(netip.AddrPortFrom(engineer4, uint16(port)), netip.AddrPortFrom(target4, 53), []byte("hello")))
	}
	for i := range flowsAtOnce + more {
		send(10_000 + i)
	}
	n.waitCounter(t, refusedExcess, more)
	for range 2 * flowsAtOnce {
		send(10_000)
	}
	send(10_000 + flowsAtOnce + more) // after all of these, on the same cable
	n.waitCounter(t, refusedExcess, more+1)
	if got, want := n.gateway.ReadSysctl("net.netfilter.nf_conntrack_count"), fmt.Sprint(flowsAtOnce); got != want {
		t.Errorf("conntrack knows %s flows, want %s", got, want)
	}
	if got := n.counter(t, refusedExcess); got != more+1 {
		t.Errorf("%d packets were refused, want %d: the rest is of flows that are open", got, more+1)
	}
}

// TestFault76Fragments: whoever sends beginnings and ends of datagrams that are
// never whole does not keep another engineer's from being put together.
func TestFault76Fragments(t *testing.T) {
	piece := func(from, to netip.Addr, id int, offset uint16) []byte {
		var p []byte
		if from.Is4() {
			p = lab.IPPacket(from, to, policy.UDP, make([]byte, 40))
			p[4], p[5], p[6], p[7] = byte(id>>8), byte(id), 0x20|byte(offset>>8), byte(offset)
			return checksummed(p)
		}
		p = lab.IPPacket(from, to, unix.IPPROTO_FRAGMENT, make([]byte, 48))
		p[40], p[42], p[43], p[46], p[47] = policy.UDP, byte(offset>>5), byte(offset<<3)|1, byte(id>>8), byte(id)
		return p
	}
	for _, c := range []struct {
		name string
		send func(t *testing.T, n *place, id int)
	}{
		{"an engineer", func(t *testing.T, n *place, id int) { sends(t, n.engineer, piece(engineer4, target4, id, 0)) }},
		{"an engineer, IPv6", func(t *testing.T, n *place, id int) { sends(t, n.engineer, piece(engineer6, target6, id, 0)) }},
		{"an engineer to what is not listed", func(t *testing.T, n *place, id int) {
			sends(t, n.engineer, piece(engineer4, netip.MustParseAddr("10.1.0.77"), id, 0))
		}},
		{"an outsider", func(t *testing.T, n *place, id int) {
			sends(t, n.outsider, piece(netip.AddrFrom4([4]byte{192, 0, 2, byte(70 + id%100)}), faraway4, id, 100))
		}},
		{"a target", func(t *testing.T, n *place, id int) { sends(t, n.target, piece(target4, inside4, id, 100)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newPlace(t, testOptions)
			if out, err := n.engineer.Command(t.Context(), "ip", "addr", "add", colleague4.String()+"/24", "dev", "eth0").CombinedOutput(); err != nil {
				t.Fatal(err, string(out))
			}
			p := bothEngineers()
			other := &policy.Target{Name: "other", Prefix: netip.MustParsePrefix("10.1.0.6/32"), Services: p.Targets[0].Services}
			p.Targets = append(p.Targets, other)
			p.Vendors[0].Windows[0].Targets = append(p.Vendors[0].Windows[0].Targets, other)
			n.set(t, openPlan(p, time.Now().Add(time.Hour)))
			paths := maps.Clone(testPaths)
			paths[other.Prefix] = []string{"lan"}
			if err := n.firewall.setPaths(paths, nil); err != nil {
				t.Fatal(err)
			}
			if out, err := n.target.Command(t.Context(), "ip", "addr", "add", "10.1.0.6/24", "dev", "eth0").CombinedOutput(); err != nil {
				t.Fatal(err, string(out))
			}
			n.target.Echo("udp", "10.1.0.6:53")
			before := n.counter(t, refusedFragment)
			for id := range 8000 {
				c.send(t, n, id)
			}
			n.waitCounter(t, refusedFragment, before+1)
			large, err := n.engineer.DialFrom(limited(t, 5*time.Second), "udp", netip.AddrPortFrom(colleague4, 4000), "10.1.0.6:53")
			if err != nil {
				t.Fatal(err)
			}
			defer large.Close()
			lab.WaitFor(t, 5*time.Second, "a large datagram of the other engineer's, there and back", func() bool {
				if _, err := large.Write(make([]byte, 3000)); err != nil {
					t.Fatal(err)
				}
				_ = large.SetReadDeadline(time.Now().Add(time.Second))
				got, err := large.Read(make([]byte, 4000))
				return err == nil && got == 3000
			})
		})
	}
}

// TestFault80RelatedIsNoError: another program has a helper of conntrack expect
// a flow. What a helper calls related is judged as every new flow is.
func TestFault80RelatedIsNoError(t *testing.T) {
	n := newPlace(t, testOptions)
	p := testPolicy()
	p.Targets[0].Services = append(p.Targets[0].Services, policy.Service{Protocol: policy.TCP, First: 21, Last: 21})
	n.set(t, openPlan(p, time.Now().Add(time.Hour)))
	for _, command := range []string{"add table inet other", `add ct helper inet other f { type "ftp" protocol tcp; }`,
		"add chain inet other pre { type filter hook prerouting priority -100; }", `add rule inet other pre tcp dport 21 ct helper set "f"`} {
		if out, err := nft(t, n.gateway, command); err != nil {
			t.Skipf("this kernel has no helper for FTP (CONFIG_NF_CONNTRACK_FTP): %s", out)
		}
	}
	l, err := n.target.Listen("tcp", "10.1.0.5:21")
	if err != nil {
		t.Fatal(err)
	}
	c, err := n.engineer.Dial(limited(t, 5*time.Second), "tcp", "10.1.0.5:21")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	held, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	heard := n.engineer.Capture("eth0")
	for _, line := range []string{"220 good evening\r\n", "227 Entering Passive Mode (10,1,0,5,0,22)\r\n"} {
		if _, err := held.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
		arrives(t, heard, line)
	}
	var expected []byte
	_ = n.gateway.Do(func() (err error) {
		expected, err = os.ReadFile("/proc/thread-self/net/nf_conntrack_expect")
		return err
	})
	if !strings.Contains(string(expected), "dst=10.1.0.5") {
		t.Fatalf("the helper expects nothing: %q", expected)
	}
	refused := n.counter(t, refusedFlow)
	middle := synPacket(engineer4, 7777, target4, 22)
	middle[33] = 0x10 // ACK in place of SYN: the middle of a connection
	sum := uint32(^binary.BigEndian.Uint16(middle[36:])) + 0x10 - 0x02
	binary.BigEndian.PutUint16(middle[36:], ^uint16(sum+sum>>16))
	sends(t, n.engineer, middle)
	n.waitCounter(t, refusedFlow, refused+1)
}

// TestFault74RedirectsAreOff: as long as anything is forwarded, no interface of
// the host takes redirects; whoever turns that on again is told of; and at the
// stop all is as it was found, also after a process that was killed.
func TestFault74RedirectsAreOff(t *testing.T) {
	s := newSwitches(t)
	var log bytes.Buffer
	o := testOptions
	o.ForwardingFile = filepath.Join(t.TempDir(), "forwarding.json")
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	names := []string{"net.ipv4.conf.all", "net.ipv4.conf.lan", "net.ipv4.conf.wan", "net.ipv4.conf.kido0", "net.ipv6.conf.lan", "net.ipv6.conf.wan", "net.ipv6.conf.kido0"}
	check := func(when, want string) {
		t.Helper()
		for _, name := range names {
			if got := s.ReadSysctl(name + ".accept_redirects"); got != want {
				t.Errorf("%s: %s.accept_redirects is %s, want %s", when, name, got, want)
			}
		}
	}
	for _, name := range names {
		s.Sysctl(name+".accept_redirects", "1")
	}
	f := s.firewall(t, o)
	check("before anything is forwarded", "1")
	s.set(t, f, true, "kido0", "lan")
	check("while it forwards", "0")
	s.Sysctl("net.ipv4.conf.wan.accept_redirects", "1")
	s.set(t, f, true, "kido0", "lan")
	check("somebody turned one on", "0")
	if want := "somebody let this host believe ICMP redirects; that is turned off again\" switch=net.ipv4.conf.wan.accept_redirects"; !strings.Contains(log.String(), want) {
		t.Errorf("the log lacks %s:\n%s", want, log.String())
	}
	f.link.close() // as the kernel leaves it when the process is killed
	f.copies.close()
	f.forwarding.release()
	f = s.firewall(t, o)
	s.set(t, f, true, "kido0", "lan")
	if err := s.Do(f.close); err != nil {
		t.Error(err)
	}
	check("after the stop", "1")
}

// TestFault74RouterAdvertisements: by an interface that leads to targets, and
// that the host does not need for its own default route, nobody tells the host
// new routes.
func TestFault74RouterAdvertisements(t *testing.T) {
	n := newPlace(t, testOptions)
	if err := n.firewall.setPaths(testPaths, []string{"lan"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lan", "far"} {
		n.gateway.Sysctl("net.ipv6.conf."+name+".accept_ra", "2") // also where it forwards
	}
	advertise := func(h *lab.Host, to netip.Addr, prefix string) {
		t.Helper()
		from := h.LinkLocal("eth0")
		// On the link for ever (RFC 4861, section 4.6.2).
		body := append(append(make([]byte, 12), 3, 4, 64, 0x80, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0), netip.MustParseAddr(prefix).AsSlice()...)
		m, err := (&messages.Message{Type: ipv6.ICMPTypeRouterAdvertisement, Body: &messages.RawBody{Data: body}}).Marshal(messages.IPv6PseudoHeader(from.AsSlice(), to.AsSlice()))
		if err != nil {
			t.Fatal(err)
		}
		packet := lab.IPPacket(from, to, policy.ICMPv6, m)
		packet[7] = 255
		sends(t, h, packet)
	}
	routes := func() string {
		out, err := n.gateway.Command(t.Context(), "ip", "-6", "route").CombinedOutput()
		if err != nil {
			t.Fatal(err, string(out))
		}
		return string(out)
	}
	before := n.counter(t, refusedICMP)
	advertise(n.target, netip.MustParseAddr("fd00:1::1"), "fd00:77::")
	n.waitCounter(t, refusedICMP, before+1)
	advertise(n.outsider, faraway6, "fd00:78::")
	lab.WaitFor(t, 5*time.Second, "another interface takes advertisements", func() bool { return strings.Contains(routes(), "fd00:78::/64") })
	if got := routes(); strings.Contains(got, "fd00:77::") {
		t.Errorf("the target's network told the host a route:\n%s", got)
	}
}
