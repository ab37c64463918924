package tunnel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"kidoban/gateway/clock"
	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// streams is UDP flowing both ways through the tunnel, neither side waiting
// for the other, 2,000 packets a second each.
type streams struct {
	inward, outward atomic.Int64 // packets that arrived at either end
	site, vendor    *lab.Capture // of the gateway's two interfaces
}

// passed gives the streams' packets that the gateway let go, each way. When
// they arrive and are read says more of the machine than of the gateway.
func (x *streams) passed(match ...func(lab.Packet) bool) (inward, outward []lab.Packet) {
	inward = x.site.Packets(append(match, lab.Incoming, toPort("10.99.0.1:9000"))...)
	outward = x.vendor.Packets(append(match, lab.Outgoing, func(p lab.Packet) bool {
		return p.Source.Port() == medisysEndpoint.Port() && p.Length > streamMessage // and no keepalive
	})...)
	return inward, outward
}

const streamMessage = 200 // bytes

func (s *site) streams() *streams {
	s.t.Helper()
	x := streams{site: s.gateway.Capture("kido0"), vendor: s.gateway.Capture("eth0")}
	open := func(h *lab.Host, address string) net.PacketConn {
		c, err := h.ListenPacket("udp", address)
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { c.Close() })
		return c
	}
	site, vendor := open(s.gateway, "10.99.0.1:9000"), open(s.medisys, "10.99.0.2:9000")
	read := func(c net.PacketConn, count *atomic.Int64) {
		buffer := make([]byte, 2000)
		for {
			if _, _, err := c.ReadFrom(buffer); err != nil {
				return
			}
			count.Add(1)
		}
	}
	write := func(c net.PacketConn, to string) {
		address := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))
		message := make([]byte, streamMessage)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			for range 2 {
				if _, err := c.WriteTo(message, address); errors.Is(err, net.ErrClosed) {
					return
				}
			}
		}
	}
	go read(site, &x.inward)
	go read(vendor, &x.outward)
	go write(vendor, "10.99.0.1:9000")
	go write(site, "10.99.0.2:9000")
	s.flowing(&x)
	return &x
}

// flowing waits until packets arrive at both ends.
func (s *site) flowing(x *streams) {
	s.t.Helper()
	inward, outward := x.inward.Load()+20, x.outward.Load()+20
	lab.WaitFor(s.t, 10*time.Second, "streams both ways", func() bool {
		return x.inward.Load() > inward && x.outward.Load() > outward
	})
}

// silent watches for a while what still passes, and gives how long after the
// end the last packets did, by the kernel's clock.
func (s *site) silent(x *streams, end time.Time) (inward, outward time.Duration) {
	s.t.Helper()
	lab.WaitFor(s.t, 10*time.Second, "a second past the end", func() bool { return time.Since(end) > time.Second })
	in, out := x.passed()
	if len(in) == 0 || len(out) == 0 {
		s.t.Fatalf("of the streams %d packets were seen inward and %d outward", len(in), len(out))
	}
	return in[len(in)-1].At.Sub(end), out[len(out)-1].At.Sub(end)
}

// late is how long after an end a packet may still pass: no time in the gate,
// and what a loaded machine takes from the last look at the clock until the
// packet is the kernel's.
const late = 500 * time.Millisecond

func TestFault26DeadlineEndsBothDirections(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(*site) time.Time // makes everything end, and says when
	}{
		{"its time comes", func(s *site) time.Time {
			end := time.Now().Add(300 * time.Millisecond)
			s.open(end, s.sato)
			if begin := time.Now(); begin.After(end) {
				return begin // what this thread had to wait for was another plan's
			}
			return end
		}},
		{"its time comes and nobody notices", func(s *site) time.Time {
			// As for a process that was stopped: only the clock has moved.
			s.boot.advance(2 * time.Hour)
			return time.Now()
		}},
		{"another plan", func(s *site) time.Time {
			s.open(later(), s.suzuki)
			return time.Now()
		}},
		{"doubt", func(s *site) time.Time {
			if err := s.tunnel.Set(s.state.Plan(time.Now()).Doubted("test")); err != nil {
				s.t.Fatal(err)
			}
			return time.Now()
		}},
		{"cut", func(s *site) time.Time {
			// The client would be back at once if the plan let it.
			e := s.sato.Engineer
			s.tunnel.Cut(e)
			end := time.Now()
			s.open(later(), s.suzuki)
			return end
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t)
			s.open(later(), s.sato)
			s.enter(s.client(s.medisys, s.sato, medisysEndpoint))
			x := s.streams()
			peer := s.tunnel.machine.Load().device.LookupPeer([32]byte(s.sato.Key))
			end := test.end(s)
			inward, outward := s.silent(x, end)
			t.Logf("last packets passed inward %v, outward %v after the end", inward, outward)
			if inward > late || outward > late {
				t.Errorf("packets passed until inward %v, outward %v after the end, want at most %v", inward, outward, late)
			}
			lab.WaitFor(t, 5*time.Second, "the peer removed, its keys with it", func() bool {
				return s.tunnel.machine.Load().device.LookupPeer([32]byte(s.sato.Key)) != peer
			})
		})
	}
}

func TestFault25DeadlineMoves(t *testing.T) {
	s := newSite(t)
	s.open(later(), s.sato)
	s.enter(s.client(s.medisys, s.sato, medisysEndpoint))
	x := s.streams()
	// So long that a machine that is away for two seconds is back before either.
	shorter := time.Now().Add(3 * time.Second)
	s.open(shorter, s.sato)
	longer := shorter.Add(3 * time.Second)
	s.open(longer, s.sato)
	inward, outward := s.silent(x, longer)
	between := func(p lab.Packet) bool { return p.At.After(shorter.Add(late)) && p.At.Before(longer) }
	if in, out := x.passed(between); len(in) == 0 || len(out) == 0 {
		t.Errorf("after the shorter end %d packets passed inward and %d outward, want streams", len(in), len(out))
	}
	if inward > late || outward > late {
		t.Errorf("packets passed until inward %v, outward %v after the end, want at most %v", inward, outward, late)
	}
}

func TestFault27ReopeningDoesNotReviveTheOldSession(t *testing.T) {
	s := newSite(t)
	s.open(later(), s.sato)
	c := s.client(s.medisys, s.sato, medisysEndpoint)
	first := s.enter(c)
	x := s.streams()
	s.open(later())
	s.open(later(), s.sato)
	// WireGuard at the client believes in its keys for another 15 s.
	if inward, _ := s.silent(x, time.Now()); inward > late {
		t.Errorf("packets of the session before passed, the last after %v", inward)
	}
	if second := s.enter(c); second.Admission == first.Admission {
		t.Errorf("confirmed admission %d again", second.Admission)
	}
	s.flowing(x)
}

func TestCutLetsANewHandshakeIn(t *testing.T) {
	s := newSite(t)
	s.open(later(), s.sato)
	c := s.client(s.medisys, s.sato, medisysEndpoint)
	s.enter(c)
	x := s.streams()
	before := s.timestamps()[s.sato.Key]
	lab.WaitFor(t, 5*time.Second, "counts", func() bool { return received(s) > 0 })
	s.tunnel.Cut(s.sato.Engineer)
	if live := s.live(); len(live) != 0 {
		t.Errorf("live after the cut: %v", live)
	}
	if inward, _ := s.silent(x, time.Now()); inward > late {
		t.Errorf("packets passed until %v after the cut", inward)
	}
	counted := received(s)
	s.enter(c)
	s.flowing(x)
	if after := s.timestamps()[s.sato.Key]; string(after[:]) <= string(before[:]) {
		t.Errorf("greatest timestamp %x after %x", after, before)
	}
	lab.WaitFor(t, 5*time.Second, "counts that go on from those before the cut", func() bool { return received(s) > counted })
}

func received(s *site) uint64 {
	peers := s.peers()
	i := slices.IndexFunc(peers, func(p Peer) bool { return p.Key == s.sato.Key })
	if i < 0 {
		return 0
	}
	return peers[i].Received
}

func TestFault44SetBackClockExtendsNothing(t *testing.T) {
	at := time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)
	now := instant{boot: 1000 * time.Second, wall: at}
	var p admission
	for _, step := range []struct {
		what  string
		boot  time.Duration // since the start
		wall  time.Duration
		until time.Duration
		want  time.Duration
	}{
		{"opened for an hour", 0, 0, time.Hour, time.Hour},
		{"asked again later", time.Minute, time.Minute, time.Hour, time.Hour},
		{"the clock was set back half an hour", 2 * time.Minute, -28 * time.Minute, time.Hour, time.Hour},
		{"extended by ten minutes meanwhile", 3 * time.Minute, -27 * time.Minute, 70 * time.Minute, 70 * time.Minute},
		{"the clock was set an hour forward", 4 * time.Minute, 34 * time.Minute, 70 * time.Minute, 40 * time.Minute},
		{"shortened", 5 * time.Minute, 35 * time.Minute, 45 * time.Minute, 15 * time.Minute},
	} {
		p.extend(at.Add(step.until), instant{boot: now.boot + step.boot, wall: at.Add(step.wall)})
		if got := time.Duration(p.deadline.Load()) - now.boot; got != step.want {
			t.Errorf("%s: the deadline is %v after the start, want %v", step.what, got, step.want)
		}
	}
}

// TestDeadlineOfAThousandSessions holds p99 of the time from a deadline until
// the gate lets nothing pass, on both sides, without a network.
func TestDeadlineOfAThousandSessions(t *testing.T) {
	const sessions = 1000
	now := instant{clock.Boot(), time.Now()}
	h, engineers, state := tableAt(t, sessions, now)
	end := later()
	plan := state.Plan(now.wall).Restrict(func(g *policy.Grant) *policy.Grant {
		shorter := *g
		shorter.Until = end
		return &shorter
	})
	h.follow(plan, now)
	deadline := now.boot + end.Sub(now.wall)
	for _, e := range engineers {
		if !h.mayPass(e.Addresses[0], deadline-time.Millisecond) {
			t.Fatalf("%s ended before its deadline", e)
		}
		if h.mayPass(e.Addresses[0], deadline) {
			t.Fatalf("%s passed its deadline", e)
		}
	}

	h, _, state = fullTable(t, sessions)
	began := time.Now()
	h.follow(state.Plan(time.Now()).Doubted("closed"), instant{clock.Boot(), time.Now()})
	t.Logf("closing %d sessions took %v", sessions, time.Since(began))
	for _, p := range h.engineers {
		if len(p.admissions) != 0 || p.deadline.Load() != 0 {
			t.Fatal("a session is open after its plan was closed")
		}
	}
}

// fullTable has one session with two indices of each engineer, which are on
// disk.
func fullTable(t testing.TB, sessions int) (*table, []*policy.Engineer, *policy.State) {
	t.Helper()
	return tableAt(t, sessions, instant{clock.Boot(), time.Now()})
}

// tableAt is a full table at one instant. Whoever reads the clocks again may
// have had to wait between the one and the other, which makes ends earlier.
func tableAt(t testing.TB, sessions int, now instant) (*table, []*policy.Engineer, *policy.State) {
	t.Helper()
	var engineers []*policy.Engineer
	for i := range sessions {
		e := &policy.Engineer{Name: fmt.Sprintf("e%d", i), Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 99, byte(i >> 8), byte(i)})}}
		e.Key = policy.Key{byte(i), byte(i >> 8), 1}
		engineers = append(engineers, e)
	}
	state := policy.NewState()
	p := testPolicy(testVendor("medisys", lab.Prefixes("203.0.113.0/28"), engineers...))
	if err := state.Apply(now.wall, "test", policy.PolicyLoaded{Digest: "test", Policy: p}); err != nil {
		t.Fatal(err)
	}
	h := newTable()
	h.follow(state.Plan(now.wall), now)
	source := netip.MustParseAddrPort("203.0.113.10:4000")
	for i, e := range engineers {
		for n := range 2 {
			q := policy.Query{Key: e.Key, Proven: true, Source: source.Addr()}
			to, d := h.admit(q, stdEndpoint(source), uint32(n), uint64(2*i+n), now, func(policy.Decision) bool { return true })
			if to == nil {
				t.Fatalf("%v is not admitted: %v", e, d.Reason)
			}
			if h.answered(to.admission.engineer, uint32(n), uint32(2*i+n), now.boot) != to {
				t.Fatal("the response found no admission")
			}
			if !h.recorded(uint64(2*i+n), now.boot) {
				t.Fatal("the record came too late")
			}
		}
	}
	return h, engineers, state
}
