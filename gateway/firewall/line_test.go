package firewall

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// linedPolicy is testPolicy, whose vendor comes by the line of an interface, and a vendor without a line.
func linedPolicy(by string) *policy.Policy {
	p := testPolicy()
	v := p.Vendors[0]
	v.Line = &policy.Line{Name: "kyushoku", Interface: by, Kind: policy.Leased}
	p.Lines = []*policy.Line{v.Line}
	for _, e := range v.Engineers {
		e.Line = v.Line
	}
	w := &policy.Vendor{Name: "scanco", Sources: []netip.Prefix{netip.MustParsePrefix("198.51.100.20/32")}}
	w.Engineers = []*policy.Engineer{{Vendor: w, Name: "tanaka", Key: policy.Key{3}, Addresses: []netip.Addr{netip.MustParseAddr("10.99.0.4")}, Sources: w.Sources}}
	w.Windows = []*policy.Window{{Vendor: w, Name: "support", Schedule: always, Targets: p.Targets[:1], Engineers: w.Engineers}}
	p.Vendors = append(p.Vendors, w)
	return p
}

// TestFault118AnotherInterfaceIsSilent: a listed source that comes by another interface than the vendor's
// line gets no byte, and is copied with that interface; a session's address and port open nothing there
// either; and no answer leaves by another interface. Without a line all of it is let through.
func TestFault118AnotherInterfaceIsSilent(t *testing.T) {
	for _, c := range []struct {
		name string
		by   string // the vendor's line; empty: none
	}{{"with a line", "wan"}, {"without", ""}} {
		t.Run(c.name, func(t *testing.T) {
			copies := make(chan int32, 8)
			o := testOptions
			o.Inspect = func(_ []byte, _ netip.AddrPort, by int32) { copies <- by }
			n := newPlace(t, o)
			n.gateway.Echo("udp", "[::]:51820")
			p := linedPolicy(c.by)
			if c.by == "" {
				p = testPolicy()
			}
			n.set(t, openPlan(p, time.Now().Add(time.Hour)), netip.AddrPortFrom(vendor4, 40001), netip.AddrPortFrom(vendor6, 40001))
			answers, elsewhere := n.vendor.Capture("eth0"), n.outsider.Capture("eth0")
			udp := lab.Protocol(policy.UDP)
			shoot := func(h *lab.Host, to4, to6 netip.Addr) {
				t.Helper()
				for _, from := range []uint16{40000, 40001} { // the second is a session's
					for _, packet := range [][]byte{
						lab.UDPPacket(netip.AddrPortFrom(vendor4, from), port(to4), initiationPacket()),
						lab.UDPPacket(netip.AddrPortFrom(vendor6, from), port(to6), initiationPacket()),
					} {
						if err := h.Send(packet); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			shoot(n.vendor, outside4, outside6)
			lab.WaitFor(t, 5*time.Second, "the vendor is answered by its line", func() bool { return len(answers.Packets(lab.Incoming, udp)) == 4 })
			answers.Forget()
			shoot(n.outsider, faraway4, faraway6) // forged
			if c.by == "" {
				lab.WaitFor(t, 5*time.Second, "the forged packets are answered", func() bool { return len(answers.Packets(lab.Incoming, udp)) == 4 })
				return
			}
			n.waitCounter(t, refusedSource, 4)
			for range 4 {
				if by := <-copies; by != index(t, n.gateway, "far") {
					t.Errorf("a copy says that it came by %d, want far", by)
				}
			}
			// The way to the vendor leads elsewhere: nothing leaves there.
			for _, route := range [][]string{{"203.0.113.10/32", "192.0.2.66"}, {"2001:db8:1::10/128", "2001:db8:2::66"}} {
				run(t, n.gateway, "ip", "route", "replace", route[0], "via", route[1], "dev", "far")
			}
			elsewhere.Forget()
			before := n.counter(t, refusedAnswer)
			for _, from := range []uint16{40000, 40001} {
				_ = n.gateway.Send(lab.UDPPacket(port(outside4), netip.AddrPortFrom(vendor4, from), []byte("an answer")))
				_ = n.gateway.Send(lab.UDPPacket(port(outside6), netip.AddrPortFrom(vendor6, from), []byte("an answer")))
			}
			n.waitCounter(t, refusedAnswer, before+4)
			if got := append(answers.Packets(lab.Incoming, udp), elsewhere.Packets(lab.Incoming, udp)...); len(got) > 0 {
				t.Errorf("these left:\n%s", lab.Lines(got))
			}
		})
	}
}

// TestFault118VLAN: VLANs of one wire are interfaces like others, and so is the wire itself.
func TestFault118VLAN(t *testing.T) {
	n := newPlace(t, testOptions)
	for _, h := range []struct {
		host           *lab.Host
		on, its, other string
	}{{n.gateway, "wan", "203.0.114.1/24", "203.0.115.1/24"}, {n.vendor, "eth0", "203.0.114.10/24", "203.0.115.10/24"}} {
		for id, address := range map[string]string{"310": h.its, "311": h.other} {
			if out, err := h.host.Command(t.Context(), "ip", "link", "add", "link", h.on, "name", h.on+"."+id, "type", "vlan", "id", id).CombinedOutput(); err != nil {
				t.Skipf("this kernel makes no VLAN (%v): %s", err, out)
			}
			run(t, h.host, "ip", "address", "add", address, "dev", h.on+"."+id)
			run(t, h.host, "ip", "link", "set", h.on+"."+id, "up")
		}
	}
	n.gateway.Echo("udp", "[::]:51820")
	p := linedPolicy("wan.310")
	n.set(t, openPlan(p, time.Now().Add(time.Hour)))
	run(t, n.vendor, "ip", "address", "add", "203.0.113.10/32", "dev", "lo")
	run(t, n.gateway, "ip", "route", "replace", "203.0.113.10/32", "via", "203.0.114.10", "dev", "wan.310")
	answers := n.vendor.Capture("eth0.310")
	for _, by := range []string{"203.0.115.1", "203.0.113.1", "203.0.114.1"} { // the last one is the line
		if err := n.vendor.Send(lab.UDPPacket(netip.AddrPortFrom(vendor4, 40000), port(netip.MustParseAddr(by)), initiationPacket())); err != nil {
			t.Fatal(err)
		}
	}
	n.waitCounter(t, refusedSource, 2)
	lab.WaitFor(t, 5*time.Second, "the vendor is answered by its VLAN", func() bool { return len(answers.Packets(lab.Incoming, lab.Protocol(policy.UDP))) == 1 })
}

func run(t *testing.T, h *lab.Host, name string, args ...string) {
	t.Helper()
	if out, err := h.Command(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// index is the index of a host's interface.
func index(t *testing.T, h *lab.Host, name string) int32 {
	t.Helper()
	var link *net.Interface
	if err := h.Do(func() (err error) { link, err = net.InterfaceByName(name); return err }); err != nil {
		t.Fatal(err)
	}
	return int32(link.Index)
}
