package session

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/clock"
	"kidoban/gateway/policy"
)

// TestUse counts the flows of one engineer through sessions that follow each other. The
// kernel's count is behind by up to 5 s, and no byte is in two sessions or in none.
func TestUse(t *testing.T) {
	began := time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC)
	wall, boot := began, time.Hour
	watch := clock.NewWatch(clock.Source{Wall: func() time.Time { return wall }, Boot: func() time.Duration { return boot }, Synchronized: func() bool { return true }})
	pass := func(d time.Duration) { wall, boot = wall.Add(d), boot+d; watch.Tick() }
	v := &policy.Vendor{Name: "acme"}
	brown := &policy.Engineer{Vendor: v, Name: "brown", Key: policy.Key{1}, Addresses: []netip.Addr{netip.MustParseAddr("10.99.0.2")}}
	table := NewTable(watch)
	flows := map[policy.Flow]policy.Use{}
	https := policy.Flow{From: brown.Addresses[0], To: netip.MustParseAddrPort("10.1.0.5:443"), Protocol: policy.TCP}
	ping := policy.Flow{From: brown.Addresses[0], To: netip.MustParseAddrPort("10.1.0.6:0"), Protocol: policy.ICMP}
	sends := func(f policy.Flow, connections, bytes uint64) {
		u := flows[f]
		u.Connections += connections
		u.ReceivedPackets++
		u.ReceivedBytes += bytes
		u.First, u.Last = began, wall
		flows[f] = u
	}
	until, lost, counting := wall, time.Time{}, true
	read := func() {
		table.Counted(Counts{Flows: maps.Clone(flows), Until: until, Lost: lost, Counting: counting})
	}
	open := func(id string) *Session {
		s := &Session{ID: id, Engineer: brown, OpenedAt: watch.Now}
		if old := table.Of(brown); old != nil {
			table.over(old)
		}
		table.begins(s)
		table.open[brown.String()] = s
		return s
	}
	due := func(stopping bool) string {
		var all []string
		for _, u := range table.Use(stopping) {
			text := u.Session.ID
			for _, r := range u.Rows {
				text += fmt.Sprintf(" %s,%s,%d,%d", r.Address, r.Service, r.Connections, r.ReceivedBytes)
				if r.First.Before(u.Session.OpenedAt) {
					t.Errorf("%s: used at %s, before its opening", text, r.First)
				}
			}
			for _, flag := range []struct {
				on   bool
				name string
			}{{u.Complete, "complete"}, {u.Last, "last"}, {!u.Counting, "uncounted"}} {
				if flag.on {
					text += " " + flag.name
				}
			}
			all = append(all, text)
		}
		return strings.Join(all, "; ")
	}
	want := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}

	sends(https, 1, 500) // before any session: another engineer had the address
	read()
	a := open("a")
	pass(time.Minute)
	sends(https, 1, 1000)
	sends(ping, 1, 84)
	a.Received = 1
	until = wall
	read()
	want("too early", due(false), "")
	pass(usedEvery)
	want("the quarter of an hour", due(false), "a 10.1.0.5,tcp/443,1,1000 10.1.0.6,icmp,1,84 complete")
	pass(usedEvery)
	want("nothing new", due(false), "")

	table.over(a)
	pass(time.Second)
	read()
	want("over, and not counted whole", due(false), "")
	sends(https, 0, 7) // the kernel tells of the end of the flow
	until = wall.Add(time.Second)
	pass(2 * time.Second)
	read()
	want("counted whole", due(false), "a 10.1.0.5,tcp/443,1,1007 10.1.0.6,icmp,1,84 complete last")
	if n := len(table.Uncounted(a)); n != 1 || len(table.Counts(nil)) > 0 || !table.Counts(brown)[brown.Addresses[0]] {
		t.Errorf("%d addresses may be forgotten, want 1", n)
	}

	b := open("b")
	sends(https, 1, 100)
	read()
	open("c") // superseded: the flow goes on
	sends(https, 0, 30)
	read()
	want("inside again", due(false), "b 10.1.0.5,tcp/443,1,100 last")
	sends(https, 0, 5)
	read()
	open("c2")
	sends(https, 0, 6)
	read()
	c := open("c3") // before c is told
	want("twice", due(false), "c 10.1.0.5,tcp/443,1,35 last; c2 10.1.0.5,tcp/443,1,6 last")
	sends(https, 0, 30)
	read()
	if n := len(table.Uncounted(b)); n != 0 {
		t.Errorf("%d addresses may be forgotten while somebody is inside", n)
	}
	lost = wall.Add(time.Millisecond)
	pass(time.Second)
	until = wall
	read()
	table.over(c)
	want("stopping", due(true), "c3 10.1.0.5,tcp/443,1,30 last")

	d := open("d")
	for i := range rowsMax + 5 {
		sends(policy.Flow{From: brown.Addresses[0], To: netip.AddrPortFrom(netip.MustParseAddr("10.1.0.9"), uint16(i+1)), Protocol: policy.UDP}, 1, uint64(1000-i))
	}
	table.over(d)
	until = wall.Add(-time.Second)
	pass(countedWithin)
	read()
	all := table.Use(false)
	if len(all) != 1 || len(all[0].Rows) != rowsMax+1 {
		t.Fatalf("%d sessions, %d rows, want 1 and %d", len(all), len(all[0].Rows), rowsMax+1)
	}
	if rest := all[0].Rows[rowsMax]; rest.Others != 5 || rest.Connections != 5 || rest.ReceivedBytes != 5*1000-(120+121+122+123+124) || rest.Address != "" {
		t.Errorf("the sum of the others is %+v", rest)
	}
	if all[0].Complete || !all[0].Last {
		t.Error("a count that never became whole is said to be complete")
	}

	counting = false
	e := open("e")
	clear(flows)
	read()
	table.over(e)
	want("the kernel does not count", due(false), "e last uncounted")
	if len(table.leaving) != 0 || slices.Contains(brown.Addresses, netip.Addr{}) {
		t.Error("sessions are left")
	}
}
