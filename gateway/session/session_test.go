package session

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/clock"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// acme has one engineer, with a window in the first two hours of the day.
func acme(day time.Time) (brown *policy.Engineer, p *policy.Policy) {
	v := &policy.Vendor{Name: "acme"}
	brown = &policy.Engineer{Vendor: v, Name: "brown", Key: policy.Key{1}, Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/28")}}
	v.Engineers = []*policy.Engineer{brown}
	v.Windows = []*policy.Window{{Vendor: v, Name: "night", Engineers: v.Engineers, Schedule: &policy.Once{
		From: policy.LocalTime{Date: policy.DateOf(day)}, Until: policy.LocalTime{Date: policy.DateOf(day), Time: 2 * 3600}}}}
	return brown, &policy.Policy{Zone: time.UTC, Vendors: []*policy.Vendor{v}}
}

// comes is the confirmation of an engineer's handshake.
func comes(e *policy.Engineer, from string) policy.Fact {
	return policy.Fact{Engineer: e, Source: netip.MustParseAddrPort(from), Ingress: "wan0"}
}

// TestCountsBeginWithTheAdmission: a session counts what came since its
// initiation was admitted, whenever the table hears that the session is open, and
// one that supersedes another counts on from where that one ended.
func TestCountsBeginWithTheAdmission(t *testing.T) {
	began := time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC)
	watch := clock.NewWatch(clock.Source{Wall: func() time.Time { return began }, Boot: func() time.Duration { return time.Hour }, Synchronized: func() bool { return true }})
	brown, p := acme(began)
	state := policy.NewState()
	if err := state.Apply(began, "yamada", policy.PolicyLoaded{Digest: "1", Policy: p}); err != nil {
		t.Fatal(err)
	}
	table := NewTable(watch)
	read := func(received, transmitted uint64) {
		table.Read(map[policy.Key]view.Traffic{brown.Key: {Received: received, Transmitted: transmitted}})
	}
	number := uint64(0)
	admit := func() {
		number++
		table.Admit(policy.Fact{Engineer: brown, Admission: number})
	}
	enter := func(from string) (*Session, []Ending) {
		opened, over, _ := table.Enter(table.Confirm(number), comes(brown, from), state.Plan(began))
		return opened, over
	}
	counts := func(when string, s *Session, received, transmitted uint64) {
		t.Helper()
		if s.Received != received || s.Transmitted != transmitted {
			t.Errorf("%s: %d and %d bytes, want %d and %d", when, s.Received, s.Transmitted, received, transmitted)
		}
	}

	read(1000, 2000) // of an earlier session
	admit()
	read(1000+148+96, 2000+92) // before the table hears of the session
	first, _ := enter("203.0.113.1:1")
	table.Count(first)
	counts("the first", first, 148+96, 92)

	admit()
	read(1500, 2200)
	second, over := enter("203.0.113.2:1")
	if len(over) != 1 || over[0].Session != first {
		t.Fatalf("%v are superseded", over)
	}
	read(1600, 2300)
	table.Count(first)
	counts("the first, superseded", first, 600, 300)
	read(1700, 2400)
	table.Count(second)
	counts("the second", second, 100, 100)
}

// TestTable takes one table through the life of its sessions. Each step says what
// it ends; after it, some sessions are inside.
func TestTable(t *testing.T) {
	began := time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC)
	wall, boot := began, time.Hour
	watch := clock.NewWatch(clock.Source{Wall: func() time.Time { return wall }, Boot: func() time.Duration { return boot }, Synchronized: func() bool { return true }})
	brown, p := acme(began)
	state := policy.NewState()
	apply := func(e policy.Event) {
		if err := state.Apply(wall, "yamada", e); err != nil {
			t.Fatal(err)
		}
	}
	apply(policy.PolicyLoaded{Digest: "1", Policy: p})

	table := NewTable(watch)
	var last *Admission
	number := uint64(0)
	admit := func() *Admission {
		number++
		last = table.Admit(policy.Fact{Engineer: brown, Admission: number})
		return last
	}
	enter := func(from string) []Ending {
		a := table.Confirm(last.Number)
		if a == nil {
			return nil
		}
		_, over, _ := table.Enter(a, comes(brown, from), state.Plan(wall))
		return over
	}
	review := func() []Ending { return table.Review(state.Plan(wall), false) }
	recorded := func(inTime bool) (over []Ending) {
		if !table.Void(last) && table.Recorded(last, inTime) {
			over = table.Cut(last)
		}
		return over
	}
	heard := func(bytes uint64) {
		table.Read(map[policy.Key]view.Traffic{brown.Key: {Received: bytes}})
		for s := range table.All() {
			table.Count(s)
		}
	}
	const here, there = "203.0.113.1:1", "203.0.113.2:1"
	for _, c := range []struct {
		name    string
		passes  time.Duration
		do      func() []Ending
		ends    string
		inside  string
		overdue time.Duration
	}{
		{"a packet without an admission", 0, func() []Ending { last = &Admission{Number: 99}; return enter(here) }, "", "", 0},
		{"enters", 0, func() []Ending { admit(); return enter(here) }, "", here, 0},
		{"is recorded", time.Second / 2, func() []Ending { return recorded(true) }, "", here, 0},
		{"nothing is due", time.Second, func() []Ending { return cutDue(table) }, "", here, 0},
		{"another port", 0, func() []Ending { return enter("203.0.113.1:2") }, "", "203.0.113.1:2", 0},
		{"another address, not recorded yet", 0, func() []Ending { admit(); return enter(there) }, "superseded", there, 0},
		{"just in time", UnrecordedAfter - 1, func() []Ending { return cutDue(table) }, "", there, 0},
		{"too late", 1, func() []Ending { return cutDue(table) }, "unrecorded", "", UnrecordedAfter},
		{"a packet after the cut", 0, func() []Ending { return enter(there) }, "", "", UnrecordedAfter},
		{"a record after the cut", time.Second, func() []Ending { return recorded(false) }, "", "", 0},
		{"enters, and the gate has cut", 0, func() []Ending { admit(); enter(here); return recorded(false) }, "unrecorded", "", 0},
		{"enters again", 0, func() []Ending { admit(); recorded(true); return enter(here) }, "", here, 0},
		{"is heard", idleAfter - 1, func() []Ending { heard(100); return table.Idle() }, "", here, 0},
		{"is not heard", idleAfter, func() []Ending { heard(100); return table.Idle() }, "idle", "", 0},
		{"enters before a rebuilt tunnel", 0, func() []Ending {
			admit()
			enter(here)
			table.TearDown(PolicyChanged)
			return append(recorded(false), review()...)
		}, "policy_changed", "", 0},
		{"a packet of the tunnel before", 0, func() []Ending { return enter(here) }, "", "", 0},
		{"enters before a shut", 0, func() []Ending {
			admit()
			enter(here)
			apply(policy.Shut{Scope: "acme"})
			return review()
		}, "vendor_shut", "", 0},
		{"enters while it is shut", 0, func() []Ending { return enter(here) }, "", "", 0},
		{"enters before the end", 0, func() []Ending {
			apply(policy.Reopened{Scope: "acme"})
			return enter(here)
		}, "", here, 0},
		{"the end", time.Hour, review, "window_closed", "", 0},
	} {
		boot += c.passes
		wall = wall.Add(c.passes)
		watch.Tick()
		var ends, inside []string
		for _, x := range c.do() {
			ends = append(ends, string(x.Why))
		}
		for s := range table.All() {
			inside = append(inside, s.Source.String())
		}
		got := fmt.Sprint(strings.Join(ends, " "), " / ", strings.Join(inside, " "), " / ", table.Overdue())
		if want := fmt.Sprint(c.ends, " / ", c.inside, " / ", c.overdue); got != want {
			t.Errorf("%s: ends / inside / overdue: %s, want %s", c.name, got, want)
		}
	}
}

func cutDue(t *Table) (over []Ending) {
	for _, a := range t.Unrecorded() {
		over = append(over, t.Cut(a)...)
	}
	return over
}
