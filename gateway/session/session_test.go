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

// TestTable takes one table through the life of its sessions. Each step says what
// it ends; after it, some sessions are inside.
func TestTable(t *testing.T) {
	began := time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC)
	wall, boot := began, time.Hour
	watch := clock.NewWatch(clock.Source{Wall: func() time.Time { return wall }, Boot: func() time.Duration { return boot }, Synchronized: func() bool { return true }})
	v := &policy.Vendor{Name: "acme"}
	brown := &policy.Engineer{Vendor: v, Name: "brown", Key: policy.Key{1}, Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/28")}}
	v.Engineers = []*policy.Engineer{brown}
	v.Windows = []*policy.Window{{Vendor: v, Name: "night", Engineers: v.Engineers, Schedule: &policy.Once{
		From: policy.LocalTime{Date: policy.DateOf(began)}, Until: policy.LocalTime{Date: policy.DateOf(began), Time: 2 * 3600}}}}
	state := policy.NewState()
	apply := func(e policy.Event) {
		if err := state.Apply(wall, "yamada", e); err != nil {
			t.Fatal(err)
		}
	}
	apply(policy.PolicyLoaded{Digest: "1", Policy: &policy.Policy{Zone: time.UTC, Vendors: []*policy.Vendor{v}}})

	table := NewTable(watch)
	var last *Admission
	number := uint64(0)
	admit := func() *Admission {
		number++
		last = table.Admit(policy.Fact{Engineer: brown, Admission: number})
		return last
	}
	enter := func(from string) []Ending {
		if table.Confirm(last.Number) == nil {
			return nil
		}
		_, over, _ := table.Enter(brown, netip.MustParseAddrPort(from), "wan0", state.Plan(wall))
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
