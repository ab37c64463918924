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
	"kidoban/gateway/view"
)

// kitchen is a caterer's host behind a plain line, with a kernel that counts its flows.
type kitchen struct {
	t          *testing.T
	wall       time.Time
	boot       time.Duration
	watch      *clock.Watch
	host       *policy.Engineer
	policy     *policy.Policy
	state      *policy.State
	plan       *policy.Plan
	table      *Table
	flows      map[policy.Flow]policy.Use
	behind     time.Duration // of the kernel's count
	sent, told uint64        // bytes of the host in all, and in sessions' last uses
	opened     map[string]string
}

var orders = policy.Flow{From: netip.MustParseAddr("10.20.0.5"), To: netip.MustParseAddrPort("10.1.0.5:443"), Protocol: policy.TCP}

// newKitchen has the host's window open from 01:00 to 02:00 and from 03:00 to 04:00.
func newKitchen(t *testing.T) *kitchen {
	k := &kitchen{t: t, wall: time.Date(2000, 1, 1, 0, 50, 0, 0, time.UTC), boot: time.Hour, flows: map[policy.Flow]policy.Use{}, opened: map[string]string{}}
	k.watch = clock.NewWatch(clock.Source{Wall: func() time.Time { return k.wall }, Boot: func() time.Duration { return k.boot }, Synchronized: func() bool { return true }})
	v := &policy.Vendor{Name: "kyushoku", Line: &policy.Line{Name: "kyushoku", Interface: "eth1.310", Kind: policy.Leased, Plain: true}}
	k.host = policy.HostOf(v, orders.From)
	v.Engineers, v.Sources = []*policy.Engineer{k.host}, k.host.Sources
	for i, hour := range []policy.TimeOfDay{1, 3} {
		day := policy.DateOf(k.wall)
		v.Windows = append(v.Windows, &policy.Window{Vendor: v, Name: fmt.Sprint("meal", i), Engineers: v.Engineers, Schedule: &policy.Once{
			From: policy.LocalTime{Date: day, Time: hour * 3600}, Until: policy.LocalTime{Date: day, Time: (hour + 1) * 3600}}})
	}
	k.policy = &policy.Policy{Zone: time.UTC, Vendors: []*policy.Vendor{v}, Lines: []*policy.Line{v.Line}}
	k.state, k.table = policy.NewState(), NewTable(k.watch)
	k.does(policy.PolicyLoaded{Digest: "1", Policy: k.policy})
	return k
}

func (k *kitchen) does(e policy.Event) {
	if err := k.state.Apply(k.wall, "yamada", e); err != nil {
		k.t.Fatal(err)
	}
}

// sends passes packets of a flow.
func (k *kitchen) sends(f policy.Flow, connections, bytes uint64) {
	u := k.flows[f]
	if u.First.IsZero() {
		u.First = k.wall
	}
	u.Connections, u.ReceivedPackets, u.ReceivedBytes, u.Last = u.Connections+connections, u.ReceivedPackets+1, u.ReceivedBytes+bytes, k.wall
	k.flows[f] = u
	k.sent += bytes
}

func (k *kitchen) reads() {
	asked := k.table.Counts(nil)
	flows := maps.Clone(k.flows)
	maps.DeleteFunc(flows, func(f policy.Flow, _ policy.Use) bool { return !asked[f.From] })
	k.table.Counted(Counts{Flows: flows, Until: k.wall.Add(-k.behind), Counting: true})
	k.table.Read(map[policy.Key]view.Traffic{})
}

// at is the loop's heartbeat at HH:MM:SS. It gives what happened.
func (k *kitchen) at(at string) string {
	k.t.Helper()
	to, err := time.Parse(time.DateTime, "2000-01-01 "+at)
	if err != nil || to.Before(k.wall) {
		k.t.Fatal(at, err)
	}
	k.boot, k.wall = k.boot+to.Sub(k.wall), to
	k.watch.Tick()
	var all []string
	ends := func(over []Ending) {
		k.reads()
		for _, x := range over {
			k.table.Count(x.Session)
			all = append(all, fmt.Sprintf("closed %s %d", x.Why, x.Session.Received))
		}
	}
	beat := func() {
		k.reads()
		opened, over := k.table.Hosts()
		for _, s := range opened {
			all = append(all, fmt.Sprintf("opened %s %v", s.OpenedAt.Format(time.TimeOnly), s.Grants))
		}
		ends(over)
		for s := range k.table.All() {
			k.table.Count(s)
		}
		ends(k.table.Idle())
		for _, u := range k.table.Use(false) {
			text := "used"
			if u.Last {
				text = "used in all"
			}
			rows := int64(0)
			for _, r := range u.Rows {
				rows += r.ReceivedBytes
			}
			if u.Last {
				k.told += uint64(rows)
			}
			if uint64(rows) != u.Session.Received {
				k.t.Errorf("%s: the rows have %d bytes, the session %d", at, rows, u.Session.Received)
			}
			all = append(all, fmt.Sprintf("%s %d", text, rows))
			if u.Last {
				for _, a := range k.table.Uncounted(u.Session) {
					all = append(all, "forgotten")
					maps.DeleteFunc(k.flows, func(f policy.Flow, _ policy.Use) bool { return f.From == a })
				}
			}
		}
	}
	beat() // the loop beats before it makes plans
	k.reads()
	k.plan = k.state.Plan(k.wall)
	ends(k.table.Review(k.plan, false))
	return strings.Join(all, "; ")
}

func (k *kitchen) is(at, want string) {
	k.t.Helper()
	if got := k.at(at); got != want {
		k.t.Errorf("%s: got %q, want %q", at, got, want)
	}
}

// TestHost takes a host through windows, rests and closes. Each byte that passed in a window is in one
// session's last use.
func TestHost(t *testing.T) {
	k := newKitchen(t)
	k.sends(orders, 1, 500) // before its window: the kernel drops it, and may count it all the same
	dropped := k.sent
	k.is("00:50:00", "")
	k.is("00:59:58", "")
	k.is("01:00:00", "")
	k.is("01:00:01", "")
	k.at("01:10:00")
	ping := policy.Flow{From: orders.From, To: netip.MustParseAddrPort("10.1.0.6:0"), Protocol: policy.ICMP}
	k.sends(ping, 1, 84)
	k.is("01:10:03", "opened 01:10:00 [kyushoku/host-10-20-0-5/meal0@20000101T010000Z]")
	for s := range k.table.All() {
		if s.Source != netip.MustParseAddrPort("10.20.0.5:0") || s.Ingress != "eth1.310" || s.Received != 84 || s.Timestamp != [12]byte{} {
			t.Errorf("the session is %+v", s)
		}
		if st := k.table.Status(s, time.Time.UTC); st.LastHandshake != nil || st.Unanswered != 0 {
			t.Errorf("its status is %+v", st)
		}
	}
	if live := k.table.Live(); len(live) != 0 {
		t.Errorf("%v may come to WireGuard's port", live)
	}
	if odd := k.table.Handshakes(k.plan); len(odd) != 0 {
		t.Errorf("handshakes of a host: %v", odd)
	}
	k.sends(orders, 1, 1000)
	k.is("01:10:04", "")
	for s := range k.table.All() {
		k.sends(orders, 0, 1000)
		k.is("01:12:00", "")
		if got := k.table.Unanswered(s); got != 0 {
			t.Errorf("the session is said to be unanswered: %d bytes", got)
		}
	}
	k.is("01:14:59", "")
	k.is("01:15:00", "closed idle 2084; used in all 2084") // the kernel's count is not forgotten: more may come at any time
	k.sends(orders, 0, 30)                                 // the connection still lives
	k.is("01:20:01", "opened 01:20:01 [kyushoku/host-10-20-0-5/meal0@20000101T010000Z]")
	k.behind = 5 * time.Second
	k.is("01:23:01", "closed idle 30")
	k.sends(orders, 0, 7)
	k.is("01:23:02", "opened 01:23:02 [kyushoku/host-10-20-0-5/meal0@20000101T010000Z]; used in all 30")
	k.at("01:25:00")
	k.sends(orders, 0, 3)
	k.is("01:25:01", "")
	k.at("01:38:02")
	k.sends(orders, 0, 2) // idle meanwhile
	k.at("01:38:03")

	// Its operator's close, and the reopening before all is counted.
	k.does(policy.Shut{Scope: "kyushoku", Reason: "a test"})
	k.is("01:39:00", "closed vendor_shut 2")
	k.sends(orders, 0, 11) // told late
	k.is("01:39:01", "")
	k.does(policy.Reopened{Scope: "kyushoku", Reason: "a test"})
	k.is("01:39:02", "")
	k.sends(orders, 1, 13)
	k.is("01:39:03", "opened 01:39:03 [kyushoku/host-10-20-0-5/meal0@20000101T010000Z]; used in all 13")
	k.at("01:41:00")
	k.sends(orders, 1, 1)
	k.at("01:41:01")
	k.does(policy.Shut{Scope: "kyushoku", Reason: "a test"})
	k.is("01:42:00", "closed vendor_shut 14")
	k.does(policy.Reopened{Scope: "kyushoku", Reason: "a test"})
	k.is("01:42:10", "used in all 14; forgotten")
	if k.told != k.sent-dropped {
		t.Errorf("%d bytes are told, %d passed", k.told, k.sent-dropped)
	}

	// The last moment of the window, which the kernel tells after it.
	k.at("01:59:59")
	k.is("02:00:00", "")
	u := policy.Use{Connections: 1, ReceivedPackets: 1, ReceivedBytes: 60, First: k.wall.Add(-time.Second), Last: k.wall}
	k.flows[orders], k.sent = u, k.sent+60
	k.is("02:00:03", "opened 01:59:59 [kyushoku/host-10-20-0-5/meal0@20000101T010000Z]; closed window_closed 60")
	k.is("02:00:10", "used in all 60; forgotten")
	k.sends(orders, 1, 99) // outside the window
	dropped += 99
	k.is("02:00:11", "")
	k.is("02:59:59", "")
	k.is("03:00:00", "")
	k.is("03:00:01", "")

	// Closed without a session, it begins none later.
	k.does(policy.Shut{Scope: "kyushoku", Reason: "a test"})
	k.is("03:00:02", "")
	k.is("03:00:07", "") // all is told
	k.sends(orders, 1, 99)
	dropped += 99
	k.is("03:00:08", "")
	k.is("03:00:10", "")
	k.does(policy.Reopened{Scope: "kyushoku", Reason: "a test"})
	k.is("03:00:11", "")
	k.is("03:00:12", "")

	// Its second window. A use is due every quarter of an hour.
	k.sends(orders, 1, 40)
	k.is("03:00:14", "opened 03:00:14 [kyushoku/host-10-20-0-5/meal1@20000101T030000Z]")
	for minute := 2; minute <= 14; minute += 2 {
		k.sends(orders, 0, 10)
		k.is(fmt.Sprintf("03:%02d:00", minute), "")
	}
	k.sends(orders, 0, 10)
	k.is("03:15:14", "used 120")
	k.table.TearDown(PolicyChanged) // of the tunnel, where no host is
	k.is("03:15:15", "")
	k.policy = &policy.Policy{Zone: time.UTC}
	k.does(policy.PolicyLoaded{Digest: "2", Policy: k.policy})
	k.is("03:15:16", "closed policy_changed 120")
	k.is("03:15:22", "used in all 120; forgotten")
	if k.told != k.sent-dropped {
		t.Errorf("%d bytes are told, %d passed", k.told, k.sent-dropped)
	}
	k.is("03:15:23", "")
	if len(k.table.hosts) != 0 || len(k.table.leaving) != 0 || len(slices.Collect(k.table.All())) != 0 {
		t.Errorf("%v, %v are left", k.table.hosts, k.table.leaving)
	}
}
