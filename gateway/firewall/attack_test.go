package firewall

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

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
					lab.WaitFor(t, 5*time.Second, "the kernel's timer", func() bool {
						out, err := nft(t, n.gateway, "list", "set", "inet", "kidoban", "flows4")
						return err == nil && !strings.Contains(out, "tcp . 22 ")
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
