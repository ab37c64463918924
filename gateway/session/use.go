package session

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

const (
	// usedEvery is how often the use of an open session is due: so much of it is
	// unknown after a crash, at most.
	usedEvery = 15 * time.Minute
	// countedWithin is how long the last count of a session that is over may take.
	// The kernel tells of flows that ended, and is asked for live ones every 5 s.
	countedWithin = 15 * time.Second
	// rowsMax is how many rows an entry has: up to 400 bytes each, of 64 KiB. What
	// is beyond is summed up in one more.
	rowsMax = 120
)

// Entry is an entry of kind used: one about the session, with its use. The targets' names are those
// of a policy.
func (u Used) Entry(e journal.Entry, p *policy.Policy) journal.Entry {
	e.Grants, e.Until, e.Text = nil, time.Time{}, ""
	e.ReceivedBytes, e.TransmittedBytes, e.Complete = int64(u.Session.Received), int64(u.Session.Transmitted), &u.Complete
	if e.Used = u.Rows; !u.Counting {
		e.Reason = NotCounted
	}
	for i := range e.Used {
		e.Used[i].Target = p.TargetOf(e.Used[i].Address, e.Used[i].Service)
	}
	return e
}

// NotCounted is the reason of an entry of kind used where the kernel does not count.
const NotCounted = "not_counted"

// Counts has the kernel's counters of engineers' flows.
type Counts struct {
	Flows    map[policy.Flow]policy.Use // of the tunnel addresses that were asked for, since the process began
	Until    time.Time                  // all that passed before is in Flows (wall clock)
	Lost     time.Time                  // when the kernel may last have lost something; zero: never
	Counting bool                       // false: the kernel does not count
}

// Used is the use of a session since it opened. The last one of a session is whole.
type Used struct {
	Session  *Session
	Rows     []journal.Use // without the targets' names
	Counting bool
	Complete bool
	Last     bool
}

// counted is the use of one session.
type counted struct {
	before map[policy.Flow]policy.Use // when it opened
	after  map[policy.Flow]policy.Use // when the engineer's next session opened; nil: none has
	toldAt time.Duration              // boot time of the newest Used
	told   uint64                     // bytes of the session then
	over   time.Duration              // boot time of its end; 0: it is open
	ended  time.Time                  // wall clock of it
}

// Counted takes the kernel's counters.
func (t *Table) Counted(c Counts) {
	t.counts = c
	t.readHosts()
}

// Counts returns the tunnel addresses whose flows are to be counted: of open sessions, of sessions with
// a last count due, of hosts, and of an engineer who enters. entering may be nil.
func (t *Table) Counts(entering *policy.Engineer) map[netip.Addr]bool {
	all := t.inside()
	if entering != nil {
		for _, a := range entering.Addresses {
			all[a] = true
		}
	}
	for a := range t.hosts {
		all[a] = true
	}
	return all
}

// inside gives the addresses of open sessions, and of those whose last count is due.
func (t *Table) inside() map[netip.Addr]bool {
	all := map[netip.Addr]bool{}
	for s := range t.All() {
		for _, a := range s.Engineer.Addresses {
			all[a] = true
		}
	}
	for _, s := range t.leaving {
		for _, a := range s.Engineer.Addresses {
			all[a] = true
		}
	}
	return all
}

// Uncounted gives the tunnel addresses of a session that is told for the last time, but
// for those of other sessions, and of a host that may begin the next one. The kernel may forget what
// it counted of them.
func (t *Table) Uncounted(s *Session) []netip.Addr {
	others := t.inside()
	for a, h := range t.hosts {
		others[a] = others[a] || !h.since.IsZero()
	}
	return slices.DeleteFunc(slices.Clone(s.Engineer.Addresses), func(a netip.Addr) bool { return others[a] })
}

// Awaits reports whether a session that is over is not counted whole yet, or a host whose grants ended.
func (t *Table) Awaits(until time.Time) bool {
	for _, h := range t.hosts {
		if h.ended != "" && until.Before(h.endedAt) {
			return true
		}
	}
	return slices.ContainsFunc(t.leaving, func(s *Session) bool { return until.Before(s.use.ended) })
}

// leave keeps a session that is over until its last count.
func (t *Table) leave(s *Session) {
	s.use.over, s.use.ended = max(t.clock.Boot, 1), t.clock.Now
	t.leaving = append(t.leaving, s)
}

// Use gives the uses that are due: of open sessions now and then, and of those that are over
// once they are counted whole, or at once if the engineer is inside again or all is to
// be told (stopping).
func (t *Table) Use(stopping bool) (all []Used) {
	for _, s := range t.open {
		if bytes := s.Received + s.Transmitted; t.clock.Boot-s.use.toldAt >= usedEvery && bytes != s.use.told {
			all = append(all, t.used(s))
		}
	}
	t.leaving = slices.DeleteFunc(t.leaving, func(s *Session) bool {
		counted := !t.counts.Until.Before(s.use.ended) || !t.counts.Counting
		due := counted || stopping || t.clock.Boot-s.use.over >= countedWithin || t.Of(s.Engineer) != nil
		if due {
			if t.Of(s.Engineer) == nil { // the device tells of the last packets a moment after the end
				t.Count(s)
			}
			u := t.used(s)
			u.Last, u.Complete = true, u.Complete && counted
			all = append(all, u)
		}
		return due
	})
	slices.SortFunc(all, func(a, b Used) int {
		return cmp.Or(a.Session.OpenedAt.Compare(b.Session.OpenedAt), cmp.Compare(a.Session.ID, b.Session.ID))
	})
	return all
}

// used returns what a session has used so far, and marks it as told.
func (t *Table) used(s *Session) Used {
	s.use.toldAt, s.use.told = t.clock.Boot, s.Received+s.Transmitted
	u := Used{Session: s, Counting: t.counts.Counting, Complete: t.counts.Counting && !t.counts.Lost.After(s.OpenedAt)}
	flows := t.counts.Flows
	if s.use.after != nil {
		flows = s.use.after
	}
	for f, now := range flows {
		if slices.Contains(s.Engineer.Addresses, f.From) {
			if row := since(f, now, s.use.before[f]); row.Connections+row.ReceivedPackets+row.TransmittedPackets > 0 {
				row.First = later(row.First, s.OpenedAt)
				u.Rows = append(u.Rows, row)
			}
		}
	}
	slices.SortFunc(u.Rows, func(a, b journal.Use) int {
		return cmp.Or(cmp.Compare(b.ReceivedBytes+b.TransmittedBytes, a.ReceivedBytes+a.TransmittedBytes), cmp.Compare(a.Address, b.Address), cmp.Compare(a.Service, b.Service))
	})
	if len(u.Rows) > rowsMax {
		u.Rows = append(u.Rows[:rowsMax:rowsMax], sum(u.Rows[rowsMax:]))
	}
	return u
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// since is the row of a flow's use after an earlier count of it. A flow that was live
// then counts as a connection of both.
func since(f policy.Flow, now, before policy.Use) journal.Use {
	row := journal.Use{Address: f.To.Addr().String(), Service: serviceOf(f),
		Connections:     int64(now.Connections - before.Connections),
		ReceivedPackets: int64(now.ReceivedPackets - before.ReceivedPackets), TransmittedPackets: int64(now.TransmittedPackets - before.TransmittedPackets),
		ReceivedBytes: int64(now.ReceivedBytes - before.ReceivedBytes), TransmittedBytes: int64(now.TransmittedBytes - before.TransmittedBytes),
		First: now.First, Last: now.Last}
	if row.Connections == 0 && row.ReceivedPackets+row.TransmittedPackets > 0 {
		row.Connections = 1
	}
	if !f.To.IsValid() { // the kernel's own sum of the flows without a row
		row.Address, row.Service, row.Others = "", "", 1
	}
	return row
}

func serviceOf(f policy.Flow) string {
	return policy.Service{Protocol: f.Protocol, First: f.To.Port(), Last: f.To.Port()}.String()
}

// sum is one row for several.
func sum(rows []journal.Use) (all journal.Use) {
	for _, r := range rows {
		all.Others++
		all.Connections += r.Connections
		all.ReceivedPackets += r.ReceivedPackets
		all.TransmittedPackets += r.TransmittedPackets
		all.ReceivedBytes += r.ReceivedBytes
		all.TransmittedBytes += r.TransmittedBytes
		if all.First.IsZero() || r.First.Before(all.First) {
			all.First = r.First
		}
		all.Last = later(all.Last, r.Last)
	}
	return all
}

// begins notes the counters at the opening of a session. What comes from now on is no
// earlier session's. Those of a host's flows are from before the flow that opens it.
func (t *Table) begins(s *Session) {
	flows := t.counts.Flows
	h := t.hostOf(s.Engineer)
	if h != nil {
		flows = h.had // the session begins because there are more already
	}
	for _, earlier := range t.leaving {
		same := earlier.Engineer.String() == s.Engineer.String() || h != nil && t.hostOf(earlier.Engineer) == h
		if same && earlier.use.after == nil {
			earlier.use.after = flows
			if h != nil {
				t.countTo(earlier, sumOf(flows))
			}
		}
	}
	s.use = counted{before: map[policy.Flow]policy.Use{}, toldAt: t.clock.Boot}
	for f, u := range maps.All(flows) {
		if slices.Contains(s.Engineer.Addresses, f.From) {
			s.use.before[f] = u
		}
	}
}
