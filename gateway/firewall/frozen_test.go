package firewall

import (
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	messages "golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// heldFlows are flows of the engineer that are held over an end: a busy TCP stream, one that is
// quiet, one-way UDP, and an ICMP query. The target can say something in each.
type heldFlows struct {
	busy, busyTarget net.Conn
	idleTarget       net.Conn
	say              map[string]func(text string) error // by the target
}

// holdFlows begins the flows. Targets may see another address than the engineer's.
func holdFlows(t *testing.T, n *place) *heldFlows {
	t.Helper()
	h := &heldFlows{}
	connect := func(network string, from uint16, to string) net.Conn {
		t.Helper()
		c, err := n.engineer.DialFrom(limited(t, 5*time.Second), network, netip.AddrPortFrom(engineer4, from), to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	stream := func(from uint16, to string) (engineer, target net.Conn) {
		t.Helper()
		listener, err := n.target.Listen("tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		engineer = connect("tcp", from, to)
		if target, err = listener.Accept(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { target.Close() })
		return engineer, target
	}
	h.busy, h.busyTarget = stream(4001, "10.1.0.5:5900")
	_, h.idleTarget = stream(4002, "10.1.0.5:5901")

	seen := n.target.Capture("eth0")
	asked := func(text string) lab.Packet {
		t.Helper()
		lab.WaitFor(t, 5*time.Second, "it arrives: "+text, func() bool { return len(seen.Packets(lab.Incoming, containing(text))) > 0 })
		return seen.Packets(lab.Incoming, containing(text))[0]
	}
	udp, err := n.target.ListenPacket("udp", "10.1.0.5:53")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := connect("udp", 4003, "10.1.0.5:53").Write([]byte("one way")); err != nil {
		t.Fatal(err)
	}
	peer := asked("one way").Source
	query := func(kind messages.Type, id int, text string) []byte {
		m, err := (&messages.Message{Type: kind, Body: &messages.Echo{ID: id, Seq: 1, Data: []byte(text)}}).Marshal(nil)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if err := n.engineer.Send(lab.IPPacket(engineer4, target4, policy.ICMP, query(ipv4.ICMPTypeEcho, 77, "a query"))); err != nil {
		t.Fatal(err)
	}
	from := asked("a query").Source.Addr()
	write := func(c net.Conn) func(string) error {
		return func(text string) error { _, err := c.Write([]byte(text)); return err }
	}
	h.say = map[string]func(string) error{
		"busy TCP": write(h.busyTarget),
		"idle TCP": write(h.idleTarget),
		"one-way UDP": func(text string) error {
			_, err := udp.WriteTo([]byte(text), net.UDPAddrFromAddrPort(peer))
			return err
		},
		"ICMP": func(text string) error {
			return n.target.Send(lab.IPPacket(target4, from, policy.ICMP, query(ipv4.ICMPTypeEchoReply, 77, text)))
		},
	}
	return h
}

func containing(text string) func(lab.Packet) bool {
	return func(p lab.Packet) bool { return strings.Contains(string(p.Payload), text) }
}

// goesOn says which flows the target can still say something in. A new connection shows that the
// kernel passes what it passes.
func (h *heldFlows) goesOn(t *testing.T, n *place) []string {
	t.Helper()
	lan, engineer := n.gateway.Capture("lan"), n.engineer.Capture("eth0")
	for name, say := range h.say {
		if err := say("told in " + name); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		lab.WaitFor(t, 5*time.Second, name+" reaches the gateway", func() bool { return len(lan.Packets(lab.Incoming, containing("told in "+name))) > 0 })
	}
	passes(t, "a new connection", n.engineer, "tcp", "10.1.0.5:22") // after the above, on the same cables
	var on []string
	for _, name := range slices.Sorted(maps.Keys(h.say)) {
		if len(engineer.Packets(lab.Incoming, containing("told in "+name))) > 0 {
			on = append(on, name)
		}
	}
	return on
}

// TestFault110HeldFlows: what is held over the end of a window does not go on in the next one,
// unless the policy grants a grace and the window opens within it.
func TestFault110HeldFlows(t *testing.T) {
	const hour, short = time.Hour, 1500 * time.Millisecond
	all := []string{"ICMP", "busy TCP", "idle TCP", "one-way UDP"}
	for _, c := range []struct {
		name       string
		grace      time.Duration
		masquerade bool
		unguarded  bool // conntrack forgets nothing
		unplanned  bool // the plan of before the end stays in force past the end
		between    func(t *testing.T, n *place, end time.Time, frozen *policy.Plan)
		goesOn     []string
	}{
		{name: "no grace"},
		{name: "no grace, and the guard is off", unguarded: true, goesOn: all},
		{name: "no grace, masqueraded, and the guard is off", masquerade: true, unguarded: true, goesOn: all},
		{name: "within the grace", grace: hour, goesOn: all},
		{name: "within the grace, masqueraded", grace: hour, masquerade: true, goesOn: all},
		{name: "no grace, masqueraded", masquerade: true},
		{name: "within the grace, and the plan comes late", grace: hour, unplanned: true, goesOn: all},
		{name: "after the grace", grace: short, between: func(t *testing.T, n *place, end time.Time, frozen *policy.Plan) {
			time.Sleep(time.Until(end.Add(short)))
			n.set(t, noFrozen(frozen))
		}},
		{name: "after the grace, and the plan of its end comes late", grace: short, between: func(_ *testing.T, _ *place, end time.Time, _ *policy.Plan) {
			time.Sleep(time.Until(end.Add(short)))
		}},
		{name: "after the grace, and the clock had been set back", grace: hour, between: func(_ *testing.T, n *place, _ time.Time, _ *policy.Plan) {
			for _, flows := range n.firewall.flows.frozen {
				for key, e := range flows {
					e.boot = 1
					flows[key] = e
				}
			}
		}},
		{name: "a doubt within the grace", grace: hour, between: func(t *testing.T, n *place, _ time.Time, frozen *policy.Plan) { n.set(t, frozen.Doubted("a doubt")) }},
		{name: "a close within the grace", grace: hour, between: func(t *testing.T, n *place, _ time.Time, frozen *policy.Plan) { n.set(t, noFrozen(frozen)) }},
		{name: "a check within the grace", grace: hour, goesOn: all, between: func(t *testing.T, n *place, _ time.Time, _ *policy.Plan) {
			if err := n.firewall.check(); err != nil {
				t.Error(err)
			}
		}},
		{name: "a ruleset written anew within the grace", grace: hour, between: func(t *testing.T, n *place, _ time.Time, _ *policy.Plan) {
			n.firewall.mu.Lock()
			defer n.firewall.mu.Unlock()
			if err := errors.Join(n.firewall.replace(), n.firewall.apply()); err != nil {
				t.Error(err)
			}
		}},
		{name: "another engineer gets the address", grace: hour, between: func(t *testing.T, n *place, _ time.Time, frozen *policy.Plan) {
			next := *frozen
			next.Policy = testPolicy()
			next.Policy.Vendors[0].Engineers[0].Key = policy.Key{3}
			n.set(t, &next)
		}},
		{name: "the kernel could not be told", grace: hour, between: func(t *testing.T, n *place, _ time.Time, frozen *policy.Plan) {
			n.firewall.flows.socket.Socket.Close()
			n.firewall.flows.stale = true
			if err := n.firewall.set(frozen, nil); err == nil {
				t.Error("without a socket conntrack answers")
			}
			err := n.gateway.Do(func() error {
				again, err := openConnections()
				n.firewall.flows.socket = again.socket
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newPlace(t, testOptions)
			n.target.Echo("tcp", "10.1.0.5:22")
			p := testPolicy()
			p.Vendors[0].Windows[0].Grace = c.grace
			p.Targets[0].Masquerade = c.masquerade
			n.set(t, openPlan(p, time.Now().Add(time.Hour)))
			flows := holdFlows(t, n)
			end := time.Now().Add(time.Second)
			last := openPlan(p, end)
			n.set(t, last)
			if c.unguarded {
				clear(n.firewall.flows.owners)
			}
			for time.Now().Before(end.Add(tooLate)) { // busy to the end and past it
				flows.busy.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
				_, _ = flows.busy.Write([]byte("busy"))
				time.Sleep(10 * time.Millisecond)
			}
			frozen := noFrozen(last)
			if c.grace > 0 {
				frozen.Frozen = []policy.Frozen{{Grant: last.Grants[0], Until: end.Add(c.grace)}}
			}
			if c.unplanned {
				n.set(t, last)
			} else {
				n.set(t, frozen)
			}
			if c.between != nil {
				c.between(t, n, end, frozen)
			}
			n.set(t, openPlan(p, time.Now().Add(time.Hour)))
			if got := flows.goesOn(t, n); !slices.Equal(got, c.goesOn) {
				t.Errorf("what goes on is %q, want %q", got, c.goesOn)
			}
		})
	}
}

// noFrozen is a plan without any grant, frozen ones included.
func noFrozen(p *policy.Plan) *policy.Plan {
	p = p.Restrict(func(*policy.Grant) *policy.Grant { return nil })
	p.Frozen = nil
	return p
}
