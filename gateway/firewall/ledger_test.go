package firewall

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"kidoban/gateway/policy"
)

// streamOfFlows is conntrack as a ledger sees it: flows begin, carry, are read, and end. Its
// readings lack flows that are about to end, and what it tells of an end comes late.
type streamOfFlows struct {
	*rand.Rand
	ledger ledger
	now    time.Time
	made   int
	live   []ctCount
	late   []ctCount // ended, not told yet
	truth  map[policy.Flow]policy.Use
}

func newStream(seed uint64) *streamOfFlows {
	return &streamOfFlows{Rand: rand.New(rand.NewPCG(seed, 0)), ledger: newLedger(), now: goldenNow, truth: map[policy.Flow]policy.Use{}}
}

func (s *streamOfFlows) begin() {
	to := netip.AddrPortFrom(target4, uint16(s.IntN(4)))
	c := ctCount{flow: policy.Flow{From: []netip.Addr{engineer4, engineer6}[s.IntN(2)], To: to, Protocol: policy.TCP}}
	c.id = fmt.Sprint(s.IntN(5), "-", s.made) // another flow may have the same tuple; never the same id
	if s.IntN(2) == 0 {
		c.began = s.now
	}
	s.made++
	s.live = append(s.live, c)
	u := s.truth[c.flow]
	u.Connections++
	s.truth[c.flow] = u
}

func (s *streamOfFlows) carry() {
	if len(s.live) == 0 {
		return
	}
	c := &s.live[s.IntN(len(s.live))]
	u := s.truth[c.flow]
	for n := uint64(s.IntN(5)); n > 0; n-- {
		bytes := uint64(20 + s.IntN(1480))
		if s.IntN(2) == 0 {
			c.received = packetCount{c.received.packets + 1, c.received.bytes + bytes}
			u.ReceivedPackets, u.ReceivedBytes = u.ReceivedPackets+1, u.ReceivedBytes+bytes
		} else {
			c.transmitted = packetCount{c.transmitted.packets + 1, c.transmitted.bytes + bytes}
			u.TransmittedPackets, u.TransmittedBytes = u.TransmittedPackets+1, u.TransmittedBytes+bytes
		}
	}
	s.truth[c.flow] = u
}

func (s *streamOfFlows) end() {
	if len(s.live) == 0 {
		return
	}
	i := s.IntN(len(s.live))
	s.late = append(s.late, s.live[i])
	s.live = slices.Delete(s.live, i, i+1)
}

// tell tells ends, in their order.
func (s *streamOfFlows) tell(n int) {
	for _, c := range s.late[:n] {
		s.ledger.ended(c, s.now)
	}
	s.late = s.late[n:]
}

// read is a full reading; those whose end is on the way may still be in it. After it at most the
// last few ends are on the way.
func (s *streamOfFlows) read() {
	all := slices.Clone(s.live)
	for _, c := range s.late {
		if s.IntN(2) == 0 {
			all = append(all, c)
		}
	}
	s.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	s.ledger.walked(all, s.now)
	s.tell(len(s.late))
}

// step does one thing.
func (s *streamOfFlows) step() {
	s.now = s.now.Add(time.Second)
	switch s.IntN(10) {
	case 0, 1:
		s.begin()
	case 2, 3, 4, 5:
		s.carry()
	case 6, 7:
		s.end()
	case 8:
		s.tell(s.IntN(len(s.late) + 1))
	case 9:
		s.read()
	}
}

func (s *streamOfFlows) differs() string {
	rows := 0
	for from, all := range s.ledger.rows {
		for flow, r := range all {
			want := s.truth[flow]
			r := r.Use
			r.First, r.Last = time.Time{}, time.Time{}
			if rows++; r != want || flow.From != from {
				return fmt.Sprintf("%v has %+v, want %+v", flow, r, want)
			}
		}
	}
	if rows != len(s.truth) {
		return fmt.Sprintf("%d rows, want %d", rows, len(s.truth))
	}
	return ""
}

// TestNeverCountedTwice: however ends and readings come, the sums are what passed, each flow is
// one connection, and nothing is said to be lost. With the guard off, flows that are known count
// from zero again.
func TestNeverCountedTwice(t *testing.T) {
	run := func(seed uint64, guard bool) string {
		s := newStream(seed)
		for range 300 {
			s.step()
			if !guard {
				for _, f := range s.ledger.live {
					f.has.received, f.has.transmitted = packetCount{}, packetCount{}
				}
			}
		}
		s.read()
		if len(s.ledger.live) != len(s.live) {
			return fmt.Sprintf("%d flows live, want %d", len(s.ledger.live), len(s.live))
		}
		if !s.ledger.lost.IsZero() {
			return "something is said to be lost"
		}
		return s.differs()
	}
	caught := 0
	for seed := range uint64(300) {
		if d := run(seed, true); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
		if seed < 20 && run(seed, false) != "" {
			caught++
		}
	}
	if caught == 0 {
		t.Error("with the guard off nothing differs")
	}
}

// TestLostIsTold: what may have been lost is told.
func TestLostIsTold(t *testing.T) {
	flow := policy.Flow{From: engineer4, To: netip.AddrPortFrom(target4, 22), Protocol: policy.TCP}
	has := func(packets uint64) ctCount {
		return ctCount{id: "1", flow: flow, received: packetCount{packets, packets * 100}}
	}
	uncounted := has(0)
	uncounted.uncounted = true
	for _, c := range []struct {
		name string
		do   func(l *ledger, now time.Time)
		lost bool
		want uint64
	}{
		{"an end that is told", func(l *ledger, now time.Time) { l.walked([]ctCount{has(3)}, now); l.ended(has(5), now) }, false, 5},
		{"an end that is told after a reading without it", func(l *ledger, now time.Time) {
			l.walked([]ctCount{has(3)}, now)
			l.walked(nil, now)
			l.ended(has(5), now)
		}, false, 5},
		{"an end that is not told", func(l *ledger, now time.Time) {
			l.walked([]ctCount{has(3)}, now)
			l.walked(nil, now)
			l.walked(nil, now)
		}, true, 3},
		{"counters that somebody set to zero", func(l *ledger, now time.Time) {
			l.walked([]ctCount{has(3)}, now)
			l.walked([]ctCount{has(2)}, now)
			l.walked([]ctCount{has(4)}, now)
		}, true, 7},
		{"a flow without counters", func(l *ledger, now time.Time) { l.ended(uncounted, now) }, true, 0},
	} {
		l := newLedger()
		c.do(&l, goldenNow)
		if lost := l.lost.Equal(goldenNow); lost != c.lost {
			t.Errorf("%s: lost %v, want %v", c.name, lost, c.lost)
		}
		r := l.rows[engineer4][flow]
		if r.ReceivedPackets != c.want || r.ReceivedBytes != c.want*100 || r.Connections != 1 {
			t.Errorf("%s: %+v, want %d packets of one connection", c.name, r.Use, c.want)
		}
	}
}

// TestRowsAreBounded: an address has so many rows, and one more for the rest. Forgotten rows
// make room, but not those of live flows.
func TestRowsAreBounded(t *testing.T) {
	l := newLedger()
	carried := func(n int) ctCount {
		return ctCount{id: fmt.Sprint(n), received: packetCount{1, 50},
			flow: policy.Flow{From: engineer4, To: netip.AddrPortFrom(target4, uint16(n+1)), Protocol: policy.TCP}}
	}
	for n := range mostRows + 10 {
		l.ended(carried(n), goldenNow)
	}
	l.walked([]ctCount{carried(0)}, goldenNow)
	rest := l.rows[engineer4][policy.Flow{From: engineer4}]
	if len(l.rows[engineer4]) != mostRows+1 || rest == nil || rest.Connections != 10 || rest.ReceivedBytes != 500 {
		t.Errorf("%d rows, the rest is %+v; want %d rows and one of 10 connections", len(l.rows[engineer4]), rest, mostRows)
	}
	l.forget(engineer4)
	more := carried(0)
	more.received = packetCount{2, 80}
	l.walked([]ctCount{more}, goldenNow)
	if r := l.rows[engineer4][more.flow]; len(l.rows[engineer4]) != 1 || r.ReceivedBytes != 30 || r.Connections != 0 {
		t.Errorf("%d rows are left, of a live flow %+v; want its row alone, with what came since", len(l.rows[engineer4]), r)
	}
	l.ended(more, goldenNow)
	l.forget(engineer4)
	if len(l.rows)+len(l.live) > 0 {
		t.Errorf("%d addresses and %d flows are left", len(l.rows), len(l.live))
	}
}
