package firewall

import (
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// all accepts every address.
func all(netip.Addr) bool { return true }

// counted gives all rows, once everything that passed until now is in them.
func (n *place) counted(t *testing.T) map[policy.Flow]policy.Use {
	t.Helper()
	f := &Firewall{kernel: n.firewall}
	now := time.Now()
	f.Recount()
	lab.WaitFor(t, 20*time.Second, "flows are read", func() bool { until, _ := f.Counted(); return until.After(now) })
	return maps.Collect(f.Used(all))
}

// whole reports that nothing was lost.
func (n *place) whole(t *testing.T) {
	t.Helper()
	if _, lost := (&Firewall{kernel: n.firewall}).Counted(); !lost.IsZero() {
		t.Errorf("something was lost at %v", lost)
	}
}

// session sets a plan with a session.
func (n *place) session(t *testing.T, p *policy.Policy) {
	t.Helper()
	n.set(t, openPlan(p, time.Now().Add(time.Hour)), netip.AddrPortFrom(vendor4, 40000))
}

// transfer sends so many bytes each way, and closes.
func (n *place) transfer(t *testing.T, to string, up, down int) {
	t.Helper()
	c, other := n.connect(t, to)
	move(t, c, other, up)
	move(t, other, c, down)
	c.Close()
	other.Close()
}

func (n *place) connect(t *testing.T, to string) (engineer, target net.Conn) {
	t.Helper()
	listener, err := n.target.Listen("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if engineer, err = n.engineer.Dial(limited(t, 5*time.Second), "tcp", to); err != nil {
		t.Fatal(err)
	}
	if target, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engineer.Close(); target.Close() })
	return engineer, target
}

// move sends so many bytes from one end to the other.
func move(t *testing.T, from, to net.Conn, bytes int) {
	t.Helper()
	go func() { _, _ = from.Write(make([]byte, bytes)) }()
	if _, err := io.CopyN(io.Discard, to, int64(bytes)); err != nil {
		t.Fatal(err)
	}
}

// wire says what passed on the gateway's cables.
type wire struct{ tunnel, lan *lab.Capture }

func (n *place) wire() wire { return wire{n.gateway.Capture("kido0"), n.gateway.Capture("lan")} }

// passed adds up the IP packets of one row, where they came in.
func (w wire) passed(f policy.Flow) (u policy.Use) {
	same := func(p lab.Packet, a netip.AddrPort) bool {
		neighbours := p.Protocol == policy.ICMPv6 && p.Payload[0] >= 133 // RFC 4861: conntrack has no flow of them
		return a == f.To && !neighbours
	}
	for _, p := range w.tunnel.Packets(lab.Incoming, lab.Protocol(f.Protocol), lab.From(f.From)) {
		if same(p, p.Destination) {
			u.ReceivedPackets, u.ReceivedBytes = u.ReceivedPackets+1, u.ReceivedBytes+uint64(p.Length)
		}
	}
	for _, p := range w.lan.Packets(lab.Incoming, lab.Protocol(f.Protocol)) {
		if same(p, p.Source) {
			u.TransmittedPackets, u.TransmittedBytes = u.TransmittedPackets+1, u.TransmittedBytes+uint64(p.Length)
		}
	}
	return u
}

func flowTo(from netip.Addr, to string, protocol uint8) policy.Flow {
	return policy.Flow{From: from, To: netip.MustParseAddrPort(to), Protocol: protocol}
}

// TestUsed sends known bytes, and finds each of them once, with headers, in the row of its target
// and service.
func TestUsed(t *testing.T) {
	for _, c := range []struct {
		name       string
		masquerade bool
		uncounted  bool // somebody switched the counters off
	}{{name: "routed"}, {name: "masqueraded", masquerade: true}, {name: "not counted", uncounted: true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			n := newPlace(t, testOptions)
			p := testPolicy()
			for _, target := range p.Targets {
				target.Masquerade = c.masquerade
			}
			n.session(t, p)
			if c.uncounted {
				n.gateway.Sysctl("net.netfilter.nf_conntrack_acct", "0")
			}
			wire := n.wire()
			n.transfer(t, "10.1.0.5:22", 1_000_000, 10)
			n.transfer(t, "10.1.0.5:22", 0, 2_500_000)
			n.transfer(t, "10.1.0.5:5900", 10, 10)
			n.transfer(t, "[fd00:1::5]:22", 300_000, 20_000)
			sink, err := n.target.ListenPacket("udp", "10.1.0.5:53") // answers nothing
			if err != nil {
				t.Fatal(err)
			}
			datagrams, err := n.engineer.Dial(limited(t, 5*time.Second), "udp", sink.LocalAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer datagrams.Close()
			for range 200 {
				if _, err := datagrams.Write(make([]byte, 100)); err != nil {
					t.Fatal(err)
				}
			}
			for _, a := range []netip.Addr{target4, target6} {
				if _, err := n.engineer.Ping(limited(t, 5*time.Second), a); err != nil {
					t.Fatal(err)
				}
			}
			want := map[policy.Flow]struct {
				connections           uint64
				received, transmitted uint64 // of what was sent, of TCP without headers
			}{
				flowTo(engineer4, "10.1.0.5:22", policy.TCP):      {connections: 2, received: 1_000_000, transmitted: 2_500_010},
				flowTo(engineer4, "10.1.0.5:5900", policy.TCP):    {connections: 1, received: 10, transmitted: 10},
				flowTo(engineer6, "[fd00:1::5]:22", policy.TCP):   {connections: 1, received: 300_000, transmitted: 20_000},
				flowTo(engineer4, "10.1.0.5:53", policy.UDP):      {connections: 1, received: 200 * (20 + 8 + 100)},
				flowTo(engineer4, "10.1.0.5:0", policy.ICMP):      {connections: 1, received: 20 + 8 + 11, transmitted: 20 + 8 + 11},
				flowTo(engineer6, "[fd00:1::5]:0", policy.ICMPv6): {connections: 1, received: 40 + 8 + 11, transmitted: 40 + 8 + 11},
			}
			got := n.counted(t)
			_, lost := (&Firewall{kernel: n.firewall}).Counted()
			if lost.IsZero() == c.uncounted {
				t.Errorf("lost at %v", lost)
			}
			for flow, w := range want {
				u := got[flow]
				if u.Connections != w.connections {
					t.Errorf("%v: %d connections, want %d", flow, u.Connections, w.connections)
				}
				if u.First.Before(begin.Add(-time.Second)) || u.Last.Before(u.First) || u.Last.After(time.Now()) {
					t.Errorf("%v: from %v until %v, want a time since %v", flow, u.First, u.Last, begin)
				}
				passed := wire.passed(flow)
				passed.Connections, passed.First, passed.Last = u.Connections, u.First, u.Last
				if (u != passed) != c.uncounted {
					t.Errorf("%v: counted %+v, and the cables had %+v", flow, u, passed)
				}
				delete(got, flow)
				if c.uncounted {
					continue
				}
				// TCP adds headers, and on a busy machine segments that it sends again: the cables tell.
				exact := flow.Protocol != policy.TCP
				if u.ReceivedBytes < w.received || u.TransmittedBytes < w.transmitted || exact && u.ReceivedBytes+u.TransmittedBytes > w.received+w.transmitted {
					t.Errorf("%v: %d bytes from the engineer and %d to the engineer, want %d and %d, and of TCP more", flow, u.ReceivedBytes, u.TransmittedBytes, w.received, w.transmitted)
				}
			}
			if len(got) > 0 {
				t.Errorf("there are rows of what nobody sent: %v", got)
			}
		})
	}
}

// TestUsedOverTime: a flow is one connection however often it is read. What it carries later is
// added. conntrack -F ends flows, and takes nothing away.
func TestUsedOverTime(t *testing.T) {
	n := newPlace(t, testOptions)
	n.session(t, testPolicy())
	wire := n.wire()
	row := flowTo(engineer4, "10.1.0.5:22", policy.TCP)
	check := func(what string, connections uint64) {
		t.Helper()
		u, passed := n.counted(t)[row], wire.passed(row)
		if u.Connections != connections || u.ReceivedBytes != passed.ReceivedBytes || u.TransmittedBytes != passed.TransmittedBytes {
			t.Errorf("%s: %+v, want %d connections and what the cables had, %+v", what, u, connections, passed)
		}
	}
	c, other := n.connect(t, "10.1.0.5:22")
	for range 3 {
		move(t, c, other, 10_000)
		settled(t, wire)
		check("a flow that goes on", 1)
	}
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour))) // no session any more
	move(t, other, c, 5_000)
	settled(t, wire)
	check("a flow that outlives its session", 1)
	if err := c.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.Close() // resets
	n.transfer(t, "10.1.0.5:22", 100, 100)
	settled(t, wire)
	check("a reset, and a second connection", 2)
	if err := n.gateway.Do(func() error { return flush(n.firewall.flows) }); err != nil {
		t.Fatal(err)
	}
	check("conntrack forgot everything", 2)
	if live := len(n.firewall.accounts.ledger.live); live > 0 {
		t.Errorf("%d flows live after conntrack forgot them", live)
	}
	n.whole(t)
}

// settled waits until the cables are quiet.
func settled(t *testing.T, w wire) {
	t.Helper()
	before := -1
	lab.WaitFor(t, 10*time.Second, "the cables are quiet", func() bool {
		time.Sleep(50 * time.Millisecond)
		was := before
		before = len(w.tunnel.Packets()) + len(w.lan.Packets())
		return was == before
	})
}

// flush has conntrack forget everything, as conntrack -F.
func flush(c *connections) error {
	for _, family := range families {
		if err := c.ask(family, ctDelete, unix.NLM_F_ACK, nil, func([]byte) bool { return true }); err != nil {
			return err
		}
	}
	return nil
}

// TestUsedByOtherAddresses: what others send, and what no grant lets through, has no row.
func TestUsedByOtherAddresses(t *testing.T) {
	o := testOptions
	o.ForwardOthers = true
	n := newPlace(t, o)
	n.session(t, testPolicy())
	n.target.Echo("tcp", "10.1.0.5:22")
	n.outsider.Echo("tcp", "192.0.2.66:80")
	passes(t, "others", n.outsider, "tcp", "10.1.0.5:22")
	passes(t, "others", n.target, "tcp", "192.0.2.66:80")
	stays(t, "unlisted", n.engineer, "tcp", "10.1.0.5:23")
	passes(t, "the engineer", n.engineer, "tcp", "10.1.0.5:22")
	got := slices.Collect(maps.Keys(n.counted(t)))
	if want := flowTo(engineer4, "10.1.0.5:22", policy.TCP); len(got) != 1 || got[0] != want {
		t.Errorf("rows %v, want %v alone", got, want)
	}
	f := &Firewall{kernel: n.firewall}
	for range f.Used(func(a netip.Addr) bool { return a != engineer4 }) {
		t.Error("a row of an address that was not asked for")
	}
}

// TestFault115EndsOverflow: more ends come at once than the socket holds. That is told, and the
// counting goes on. With the usual room nothing is lost.
func TestFault115EndsOverflow(t *testing.T) {
	for _, tiny := range []bool{true, false} {
		o := testOptions
		if tiny {
			o.eventsRoom = 1 // the kernel makes that some 2 KiB
		}
		n := newPlace(t, o)
		n.session(t, testPolicy())
		for from := range uint16(200) {
			if err := n.engineer.Send(lab.UDPPacket(netip.AddrPortFrom(engineer4, 2000+from), netip.AddrPortFrom(target4, 53), []byte("hello"))); err != nil {
				t.Fatal(err)
			}
		}
		row := flowTo(engineer4, "10.1.0.5:53", policy.UDP)
		lab.WaitFor(t, 20*time.Second, "200 flows", func() bool { return n.counted(t)[row].Connections == 200 })
		n.whole(t)
		n.firewall.accounts.mu.Lock() // it hears nothing meanwhile
		err := n.gateway.Do(func() error { return flush(n.firewall.flows) })
		n.firewall.accounts.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		u := n.counted(t)[row]
		_, lost := (&Firewall{kernel: n.firewall}).Counted()
		if lost.IsZero() == tiny || u.Connections != 200 || u.ReceivedBytes != 200*(20+8+5) {
			t.Errorf("tiny %v: lost at %v, %+v; want it lost only if the socket is tiny, and 200 connections", tiny, lost, u)
		}
		passes(t, "afterwards", n.engineer, "tcp", n.target.Echo("tcp", "10.1.0.5:22").String())
		if got := n.counted(t)[flowTo(engineer4, "10.1.0.5:22", policy.TCP)]; got.Connections != 1 {
			t.Errorf("tiny %v: afterwards %+v, want one connection", tiny, got)
		}
	}
}

// TestFlowsAreNotCounted: where the switch cannot be written, or nobody hears of ends, a hint says
// so, and everything else works.
func TestFlowsAreNotCounted(t *testing.T) {
	n := newPlace(t, testOptions)
	f := &Firewall{kernel: n.firewall}
	works := func(what string, counting bool) {
		t.Helper()
		n.session(t, testPolicy())
		passes(t, what, n.engineer, "tcp", "10.1.0.5:22")
		hints := n.firewall.accounts.hints()
		_, lost := f.Counted()
		if f.Counting() != counting || (len(hints) == 0) != counting || lost.IsZero() != counting {
			t.Errorf("%s: counting %v, hints %v, lost at %v; want counting %v", what, f.Counting(), hints, lost, counting)
		}
		if !counting && (hints[0].Message.Code != "flows_uncounted" || !strings.Contains(hints[0].Message.String(), "not counted")) {
			t.Errorf("%s: hint %v", what, hints)
		}
	}
	n.target.Echo("tcp", "10.1.0.5:22")
	works("as it is", true)

	acct := "/proc/sys/net/" + counting[0]
	err := withMounts(n.gateway, func() error {
		own := t.TempDir() + "/acct"
		if err := os.WriteFile(own, []byte("0\n"), 0o444); err != nil {
			return err
		}
		return errors.Join(unix.Mount(own, acct, "", unix.MS_BIND, ""), unix.Mount("", acct, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	}, func() error {
		n.firewall.forwarding.drop(n.firewall.forwarding.find(counting[0]))
		n.firewall.count()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	works("the switch cannot be written", false)
	if err := n.gateway.Do(func() error { n.firewall.count(); return nil }); err != nil {
		t.Fatal(err)
	}
	works("it can", true)

	n.firewall.accounts.walker.socket.Socket.Close()
	f.Recount()
	lab.WaitFor(t, 10*time.Second, "a reading fails", func() bool { return !f.Counting() })
	works("conntrack cannot be read", false)
}

// TestFault114SwitchedOffMeanwhile: somebody turns conntrack's counters off. They are turned on again, and
// flows that began in between are told as lost. The stop leaves the switches as they were.
func TestFault114SwitchedOffMeanwhile(t *testing.T) {
	n := newPlace(t, testOptions)
	f := &Firewall{kernel: n.firewall}
	n.target.Echo("tcp", "10.1.0.5:22")
	n.session(t, testPolicy())
	off := func() {
		n.gateway.Sysctl("net.netfilter.nf_conntrack_acct", "0")
	}
	off()
	passes(t, "meanwhile", n.engineer, "tcp", "10.1.0.5:22")
	n.counted(t)
	if _, lost := f.Counted(); lost.IsZero() {
		t.Error("a flow without counters counts as nothing, and nothing is said to be lost")
	}
	if err := n.gateway.Do(func() error { return n.firewall.setForwarding([]string{"kido0", "lan"}, nil) }); err != nil {
		t.Fatal(err)
	}
	for _, name := range counting {
		if got := n.gateway.ReadSysctl(sysctl(name)); got != "1" {
			t.Errorf("%s is %s, want it on again", name, got)
		}
	}
	if err := n.firewall.close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range counting {
		if got := n.gateway.ReadSysctl(sysctl(name)); got != "0" {
			t.Errorf("%s is %s after the stop, want it as it was found", name, got)
		}
	}
}

// TestFault61CountersAreRestored: the process after a killed one turns conntrack's counters back, and
// does not take them for its own.
func TestFault61CountersAreRestored(t *testing.T) {
	h := lab.New(t).Host("gateway")
	err := h.Do(func() error {
		here, err := recordHere()
		if err != nil {
			return err
		}
		killed := forwarding{path: t.TempDir() + "/forwarding.json", here: here, logger: slog.New(slog.DiscardHandler)}
		next := killed
		for _, name := range counting {
			if err := killed.turn(name); err != nil || setting(name) != "1" {
				t.Errorf("%s is %s (%v), want 1", name, setting(name), err)
			}
		}
		if err := next.adopt(); err != nil {
			return err
		}
		for _, name := range counting {
			if err := next.turn(name); err != nil {
				return err
			}
		}
		return next.restore(func(string) bool { return false })
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range counting {
		if got := h.ReadSysctl(sysctl(name)); got != "0" {
			t.Errorf("%s is %s, want it as it was found", name, got)
		}
	}
}
