package firewall

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// TestFault71AddressChangesHands: who gets a tunnel address gets nothing of what
// somebody else began from it: not what the target still says, not by going on
// in the middle; also where another process has taken over meanwhile.
func TestFault71AddressChangesHands(t *testing.T) {
	for _, c := range []struct {
		name     string
		restart  bool
		same     bool // nobody else gets it
		goesOn   bool
		removed  bool // for a while it is nobody's
		unlisted bool // who gets it has no grant for a while
	}{
		{name: "a reload"},
		{name: "a reload, and nobody has it in between", removed: true},
		{name: "a reload, and a window opens later", unlisted: true},
		{name: "a start", restart: true},
		{name: "nobody else, a reload", same: true, goesOn: true},
		{name: "nobody else, a start", restart: true, same: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := testOptions
			n := newPlace(t, o)
			open := func(p *policy.Policy) { n.set(t, openPlan(p, time.Now().Add(time.Hour))) }
			before, after := testPolicy(), testPolicy()
			if !c.same {
				after.Vendors[0].Engineers[0].Key = policy.Key{3}
			}
			n.target.Echo("tcp", "10.1.0.5:5900")
			open(before)
			stream, held := n.stream(t)
			asking, err := n.engineer.DialFrom(limited(t, 5*time.Second), "udp", netip.AddrPortFrom(engineer4, 4000), "10.1.0.5:53")
			if err != nil {
				t.Fatal(err)
			}
			defer asking.Close()
			telling, err := n.target.DialFrom(limited(t, 5*time.Second), "udp", netip.MustParseAddrPort("10.1.0.5:53"), "10.99.0.2:4000")
			if err != nil {
				t.Fatal(err)
			}
			defer telling.Close()
			write := func(to net.Conn, text string) {
				t.Helper()
				if _, err := to.Write([]byte(text)); err != nil {
					t.Fatalf("%s: %v", text, err)
				}
			}
			arrives := func(capture *lab.Capture, text string) {
				t.Helper()
				lab.WaitFor(t, 5*time.Second, "it arrives: "+text, func() bool { return len(capture.Packets(lab.Incoming, saying(text))) > 0 })
			}
			engineer, target, lan, tunnel := n.engineer.Capture("eth0"), n.target.Capture("eth0"), n.gateway.Capture("lan"), n.gateway.Capture("kido0")
			write(asking, "asked before")
			arrives(target, "asked before")
			write(telling, "told before")
			arrives(engineer, "told before")

			if c.restart {
				if err := errors.Join(n.firewall.copies.close(), n.firewall.link.close()); err != nil {
					t.Fatal(err)
				}
				n.firewall.closed = true
				n.firewall.flows.close()
				n.firewall = newFirewall(t, n.gateway, o)
				if err := n.firewall.setPaths(testPaths, nil); err != nil {
					t.Fatal(err)
				}
			}
			if c.removed {
				nobody := testPolicy()
				nobody.Vendors[0].Engineers[0].Addresses = []netip.Addr{netip.MustParseAddr("10.99.0.9")}
				open(nobody)
			}
			if c.unlisted {
				n.set(t, openPlan(after, time.Now().Add(time.Hour)).Restrict(func(*policy.Grant) *policy.Grant { return nil }))
			}
			open(after)

			write(held, "the target says")
			write(telling, "the target tells")
			write(stream, "the engineer says")
			for text, at := range map[string]*lab.Capture{"the target says": lan, "the target tells": lan, "the engineer says": tunnel} {
				arrives(at, text)
			}
			passes(t, "who has the address now", n.engineer, "tcp", "10.1.0.5:5900") // after the above, on the same cables
			for text, at := range map[string]*lab.Capture{"the target says": engineer, "the target tells": engineer, "the engineer says": target} {
				if c.goesOn {
					arrives(at, text)
				} else if got := at.Packets(lab.Incoming, saying(text)); len(got) > 0 {
					t.Errorf("it passes:\n%s", lab.Lines(got))
				}
			}
			if err := n.firewall.check(); err != nil {
				t.Error(err)
			}
		})
	}
}
