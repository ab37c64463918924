// Package session follows engineers from admission to the end of a session, and
// hosts behind plain lines from their first flow. It
// is a pure state machine: facts, plans and readings of traffic come in, and
// sessions that opened or ended come out. The loop carries them to the gate and
// to the journal.
//
//	session.go    sessions: engineer, outer address, end
//	admission.go  admissions: initiations that are not sessions yet
//	hosts.go      hosts behind plain lines, which have no admissions
//	ended.go      the reasons for which sessions end
//	handshakes.go how an engineer's handshakes went lately
//	traffic.go    the payload of a session in both directions
//	use.go        the use of targets in a session
package session

import (
	"crypto/rand"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"

	"kidoban/gateway/clock"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// idleAfter is how long a session lives without a received byte. A WireGuard
// session in use is heard from at least this often: its keys are rejected after
// the same time (whitepaper, section 6.1).
const idleAfter = 180 * time.Second

// Session is one engineer's presence from one address.
type Session struct {
	ID       string // random; the journal, metrics and commands show it
	Engineer *policy.Engineer
	Source   netip.AddrPort
	Ingress  string // the interface by which it comes
	// Timestamp is the timestamp of the handshake that opened it (TAI64N).
	Timestamp [12]byte // of a host zero
	OpenedAt  time.Time
	Until     time.Time // when it must end
	Grants    []string  // ids of the grants that allow it

	Received, Transmitted uint64       // bytes since it opened
	Last                  view.Traffic // the last reading of the engineer's key, or of the host's flows

	heard   time.Duration // boot time of the last received byte
	use     counted
	payload payload
}

// Table holds admissions and sessions. One goroutine owns it.
type Table struct {
	clock      *clock.Watch
	open       map[string]*Session // by engineer
	admissions map[uint64]*Admission
	overdue    map[uint64]time.Duration    // admissions cut because their journal entry took over 1 s; until it arrives the gate admits no engineer. Value: boot time of admission
	teardown   Ended                       // why the tunnel is about to be rebuilt; empty: it is not
	generation uint64                      // counts rebuilds of the tunnel; older admissions are void
	totals     map[policy.Key]view.Traffic // the last reading; replaced by each reading
	handshakes map[string]*handshakes      // by engineer
	counts     Counts                      // the last reading
	leaving    []*Session                  // are over, and their last count is due
	hosts      map[netip.Addr]*host        // that the policy lists, or that are not counted whole yet
}

// NewTable makes an empty table.
func NewTable(c *clock.Watch) *Table {
	return &Table{clock: c, open: map[string]*Session{}, admissions: map[uint64]*Admission{}, overdue: map[uint64]time.Duration{},
		handshakes: map[string]*handshakes{}, hosts: map[netip.Addr]*host{}}
}

// All returns the open sessions, in no order.
func (t *Table) All() iter.Seq[*Session] { return maps.Values(t.open) }

// Len counts the open sessions.
func (t *Table) Len() int { return len(t.open) }

// Of returns an engineer's session; nil: there is none.
func (t *Table) Of(e *policy.Engineer) *Session { return t.open[e.String()] }

// Ending is a session that is over, and why.
type Ending struct {
	Session *Session
	Why     Ended
}

// Enter opens the session of a confirmed admission, or continues the one that is
// open from the same address. A session from another address is superseded. It reports
// whether the outer addresses of open sessions changed.
func (t *Table) Enter(a *Admission, f policy.Fact, plan *policy.Plan) (opened *Session, superseded []Ending, changed bool) {
	e, source, ingress := f.Engineer, f.Source, f.Ingress
	until := t.admits(plan, e, source.Addr(), ingress)
	if until.IsZero() {
		return nil, nil, false // closed meanwhile
	}
	t.moved(e, source)
	if s := t.Of(e); s != nil {
		if s.Source.Addr() == source.Addr() {
			changed = s.Source != source
			s.Source, s.Ingress = source, ingress
			return nil, nil, changed
		}
		t.over(s)
		superseded = []Ending{{s, Superseded}}
	}
	opened = &Session{ID: rand.Text()[:16], Engineer: e, Source: source, Ingress: ingress, Timestamp: a.timestamp, OpenedAt: t.clock.Now, Until: until, heard: t.clock.Boot, payload: payload{counted: t.clock.Boot}}
	opened.read(a.before)
	t.begins(opened)
	t.open[e.String()] = opened
	t.stand(opened, plan)
	return opened, superseded, true
}

// admits returns until when a plan admits an engineer from an address, by an
// interface; zero: it does not.
func (t *Table) admits(plan *policy.Plan, e *policy.Engineer, source netip.Addr, ingress string) time.Time {
	d := plan.Decide(policy.Query{Key: e.Key, Proven: true, Fault: policy.Admitted, Source: source, Ingress: ingress}, t.clock.Now)
	if d.Reason != policy.Admitted || d.Engineer.String() != e.String() {
		return time.Time{}
	}
	return d.Until
}

// stand takes note of the grants that allow a session.
func (t *Table) stand(s *Session, plan *policy.Plan) {
	s.Grants = t.grants(plan, s.Engineer, s.Source.Addr())
}

// grants gives the ids of the grants that allow an engineer to be inside from an address.
func (t *Table) grants(plan *policy.Plan, e *policy.Engineer, source netip.Addr) (ids []string) {
	for _, g := range plan.GrantsOf(e) {
		if g.Contains(t.clock.Now) && g.Engineer.MayComeFrom(source) {
			ids = append(ids, g.ID)
		}
	}
	return ids
}

// Review ends the sessions that a new plan does not admit, or that the rebuilt
// tunnel has cut, and moves the end of the others. The oldest comes first. Hosts are
// not in the tunnel.
func (t *Table) Review(plan *policy.Plan, stopping bool) (over []Ending) {
	for _, s := range t.open {
		if t.teardown != "" && !s.Engineer.Plain() {
			t.over(s)
			over = append(over, Ending{s, t.teardown})
			continue
		}
		until := t.admits(plan, s.Engineer, s.Source.Addr(), s.Ingress)
		if until.IsZero() {
			t.over(s)
			over = append(over, Ending{s, Why(plan, s.Engineer, s.Grants, s.Until, t.clock.Now, stopping)})
			continue
		}
		if e := plan.ByKey(s.Engineer.Key); e != nil {
			s.Engineer = e
		}
		s.Until = until
		t.stand(s, plan)
	}
	t.teardown = ""
	for _, x := range over {
		if h := t.hostOf(x.Session.Engineer); h != nil {
			h.stops() // later counts of its flows belong to this session
		}
	}
	t.admitHosts(plan, stopping)
	sortEndings(over)
	return over
}

func sortEndings(over []Ending) {
	slices.SortFunc(over, func(a, b Ending) int { return a.Session.OpenedAt.Compare(b.Session.OpenedAt) })
}

// TearDown takes note that the next plan finds a rebuilt tunnel without sessions.
func (t *Table) TearDown(why Ended) {
	t.teardown = why
	t.generation++
	clear(t.admissions)
	clear(t.overdue)
}

// over takes a session out.
func (t *Table) over(s *Session) {
	delete(t.open, s.Engineer.String())
	t.leave(s)
	if h := t.hostOf(s.Engineer); h != nil {
		h.had = h.now
		if !h.since.IsZero() {
			h.since = t.clock.Now
		}
	}
}

// Idle ends the sessions that were not heard from for idleAfter.
func (t *Table) Idle() (over []Ending) {
	for _, s := range t.open {
		if t.clock.Boot-s.heard >= idleAfter {
			t.over(s)
			over = append(over, Ending{s, Idle})
		}
	}
	return over
}

// Read takes a reading of the traffic of all keys, in bytes. The table keeps the map, and adds the hosts'
// traffic as the kernel has counted it.
func (t *Table) Read(totals map[policy.Key]view.Traffic) {
	for _, h := range t.hosts {
		if h.engineer != nil {
			totals[h.engineer.Key] = sumOf(h.now)
		}
	}
	t.totals = totals
}

// Totals returns the last reading, which must not be changed.
func (t *Table) Totals() map[policy.Key]view.Traffic { return t.totals }

// Count adds to a session the bytes that its key received and transmitted since
// its last count, and returns them.
func (t *Table) Count(s *Session) (received, transmitted uint64) {
	total, ok := t.totals[s.Engineer.Key]
	if !ok {
		return 0, 0
	}
	return t.countTo(s, total)
}

func (t *Table) countTo(s *Session, total view.Traffic) (received, transmitted uint64) {
	received, transmitted = total.Since(s.Last)
	if received > 0 {
		s.heard = t.clock.Boot
	}
	if !s.Engineer.Plain() {
		s.payload.add(received, transmitted, t.clock.Boot)
	}
	s.Received += received
	s.Transmitted += transmitted
	s.read(total)
	if next := t.Of(s.Engineer); next != nil && next != s {
		next.read(total) // it superseded s, and counts on from here
	}
	return received, transmitted
}

// read takes a reading of the session's key. A reading from before the opening has
// an earlier handshake, and the device dates the handshake of the opening a moment
// before the table hears of it: the opening counts as that handshake.
func (s *Session) read(t view.Traffic) {
	if s.Last = t; t.LastHandshake.Before(s.OpenedAt) && !s.Engineer.Plain() {
		s.Last.LastHandshake = s.OpenedAt
	}
}

// Live gives the outer addresses of engineers' sessions. A host has none: it does not come to the port.
func (t *Table) Live() (all []netip.AddrPort) {
	for _, s := range t.open {
		if !s.Engineer.Plain() {
			all = append(all, s.Source)
		}
	}
	return all
}

// Status is a session as the snapshot has it. local gives times as operators read them.
func (t *Table) Status(s *Session, local func(time.Time) time.Time) view.SessionStatus {
	st := view.SessionStatus{ID: s.ID, Vendor: s.Engineer.Vendor.Name, Engineer: s.Engineer.Name, Names: view.NamesOf(s.Engineer), Source: s.Source.Addr(),
		OpenedAt: local(s.OpenedAt), Until: local(s.Until), Grants: s.Grants, Received: s.Received, Transmitted: s.Transmitted,
		Unanswered: t.Unanswered(s)}
	if st.Grants == nil {
		st.Grants = []string{}
	}
	if at := s.Last.LastHandshake; !at.IsZero() {
		at = local(at)
		st.LastHandshake = &at
	}
	return st
}
