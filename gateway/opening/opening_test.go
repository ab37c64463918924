package opening

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/clock"
	"kidoban/gateway/policy"
)

// TestSet takes one set through openings, and looks at what is in force, on its
// way to the disk, and closed.
func TestSet(t *testing.T) {
	began := time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC)
	wall, boot := began, time.Hour
	watch := clock.NewWatch(clock.Source{Wall: func() time.Time { return wall }, Boot: func() time.Duration { return boot }, Synchronized: func() bool { return true }})
	site := func(key byte, ticket string, hours int) *policy.Policy {
		v := &policy.Vendor{Name: "acme"}
		v.Engineers = []*policy.Engineer{{Vendor: v, Name: "brown", Key: policy.Key{key}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
			Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/28")}}}
		v.Windows = []*policy.Window{{Vendor: v, Name: "night", Ticket: ticket, Engineers: v.Engineers, Schedule: &policy.Once{
			From: policy.LocalTime{Date: policy.DateOf(began)}, Until: policy.LocalTime{Date: policy.DateOf(began), Time: policy.TimeOfDay(hours * 3600)}}}}
		return &policy.Policy{Digest: fmt.Sprint(key, ticket, hours), Zone: time.UTC, Vendors: []*policy.Vendor{v}}
	}
	one, longer, rekeyed := site(1, "", 2), site(1, "", 3), site(2, "", 2)
	state, set := policy.NewState(), NewSet(watch)
	load := func(p *policy.Policy) {
		if err := state.Apply(wall, "yamada", policy.PolicyLoaded{Digest: p.Digest, Policy: p}); err != nil {
			t.Fatal(err)
		}
	}
	load(one)
	var way []*Opening // to the disk
	first := func() *Opening { o := way[0]; way = way[1:]; return o }
	doubt := false
	for _, c := range []struct {
		name   string
		do     func()
		opens  string // until when, in force
		way    int    // openings on their way to the disk
		closes string // until when they should have been open
	}{
		{"wanted", func() {}, "", 1, ""},
		{"once", func() {}, "", 1, ""},
		{"it fails: again", func() { set.Recorded(first(), false) }, "", 1, ""},
		{"recorded", func() { set.Recorded(first(), true) }, "02:00", 0, ""},
		{"a later end", func() { load(longer) }, "02:00", 1, ""},
		{"and back", func() { load(one) }, "02:00", 1, ""},
		{"its record changes nothing", func() {
			if set.Recorded(first(), true) {
				t.Error("an opening that was replaced changes something")
			}
		}, "02:00", 0, ""},
		{"a doubt", func() { doubt = true }, "", 0, "02:00"},
		{"and trust", func() { doubt = false }, "", 1, ""},
		{"recorded anew", func() { set.Recorded(first(), true) }, "02:00", 0, ""},
		{"the ruleset stands", func() { set.Stands(1, one) }, "02:00", 0, ""},
		{"the address gets another key", func() { load(rekeyed) }, "", 0, "02:00"},
		{"not before the ruleset stands", func() {}, "", 0, ""},
		{"it stands", func() {
			if !set.Stands(2, rekeyed) {
				t.Error("that the address is free changes nothing")
			}
		}, "", 1, ""},
		{"recorded for the other key", func() { set.Recorded(first(), true) }, "02:00", 0, ""},
		{"the clock is set back", func() { wall = wall.Add(-4 * time.Second); watch.Tick() }, "01:59", 0, ""},
		{"the clock is accepted", func() { set.AcceptClock() }, "02:00", 0, ""},
		{"the end", func() { wall, boot = wall.Add(time.Hour+time.Minute), boot+time.Hour+time.Minute; watch.Tick() }, "", 0, "02:00"},
	} {
		c.do()
		wanted := state.Plan(wall)
		inForce := wanted.Doubted("a doubt")
		if !doubt {
			inForce = set.Restrict(wanted)
		}
		set.Begin(inForce)
		var opens, closes []string
		for _, g := range inForce.Grants {
			opens = append(opens, g.Until.Format("15:04"))
		}
		for _, x := range set.Close(inForce) {
			closes = append(closes, x.Until.Format("15:04"))
		}
		if !doubt {
			way = append(way, set.ToRecord(wanted)...)
		}
		if got, want := fmt.Sprint(strings.Join(opens, " "), " / ", len(way), " / ", strings.Join(closes, " ")), fmt.Sprint(c.opens, " / ", c.way, " / ", c.closes); got != want {
			t.Errorf("%s: in force / on the way / closed: %s, want %s", c.name, got, want)
		}
		if set.Pending() != slices.ContainsFunc(way, func(o *Opening) bool { return set.pending[o.Grant.ID] == o }) {
			t.Errorf("%s: pending %t", c.name, set.Pending())
		}
	}

	// A stop counts what is on its way as recorded, so that it is closed.
	wall = began
	watch.Tick()
	set = NewSet(watch)
	set.ToRecord(state.Plan(wall))
	set.Stop()
	if closed := set.Close(state.Plan(wall).Doubted("the end")); len(closed) != 1 {
		t.Errorf("a stop closes %d openings on their way to the disk, want 1", len(closed))
	}
}
