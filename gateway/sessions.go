package gateway

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// Ended is why a session ended.
type Ended string

// The reasons for which sessions end. A gateway in doubt, or led out of it by
// an operator, shuts itself, which is GatewayShut too.
const (
	WindowClosed   Ended = "window_closed"
	PolicyChanged  Ended = "policy_changed"
	GatewayShut    Ended = "gateway_shut"
	VendorShut     Ended = "vendor_shut"
	EngineerShut   Ended = "engineer_shut"
	Idle           Ended = "idle"
	Superseded     Ended = "superseded"
	Unrecorded     Ended = "unrecorded"
	GatewayStopped Ended = "gateway_stopped"
	Crashed        Ended = "crashed"
)

// Endings lists all reasons for which a session ends.
func Endings() []Ended {
	return []Ended{WindowClosed, PolicyChanged, GatewayShut, VendorShut, EngineerShut, Idle, Superseded, Unrecorded, GatewayStopped, Crashed}
}

const (
	// unrecordedAfter is how long an admission may be without its journal entry.
	unrecordedAfter = time.Second
	// idleAfter is how long a session lives without a received byte. A
	// WireGuard session that is in use is heard from at least this often:
	// its keys are rejected after the same time (whitepaper, section 6.1).
	idleAfter = 180 * time.Second
	// unconfirmedAfter is how long an admission waits for its confirmation:
	// as long as WireGuard takes data under its keys (whitepaper, section 6.1).
	unconfirmedAfter = 180 * time.Second
)

// session is one engineer's presence from one address.
type session struct {
	id       string
	engineer *policy.Engineer
	source   netip.AddrPort
	openedAt time.Time
	until    time.Time
	grants   []string
	last     view.Traffic  // what was counted of the engineer's key when last read
	heard    time.Duration // when a byte was last received, in boot time

	received, transmitted uint64 // bytes, since it opened

	// What went through beside handshakes and keepalives, for hints.
	asked, answered  uint64        // bytes from and to the engineer
	askedAt, counted time.Duration // when the first was asked, and when it was last counted, in boot time
}

// admission is an initiation that was admitted, until its session is open and
// its entry on disk.
type admission struct {
	number    uint64
	tunnel    uint64 // loop.tunnels when it was admitted
	engineer  *policy.Engineer
	source    netip.AddrPort
	at        time.Duration // in boot time
	recorded  bool
	confirmed bool
}

// whyEnded gives the reason for which an engineer who held grants until an
// instant has none open now.
func whyEnded(p *policy.Plan, e *policy.Engineer, held []string, until, now time.Time, stopping bool) Ended {
	if stopping {
		return GatewayStopped
	}
	if p.Doubt != "" {
		return GatewayShut
	}
	switch _, reason := p.ShutBy(e); reason {
	case policy.GatewayShut:
		return GatewayShut
	case policy.VendorShut:
		return VendorShut
	case policy.EngineerShut:
		return EngineerShut
	}
	if !until.After(now) {
		return WindowClosed
	}
	for _, g := range p.GrantsOf(e) {
		if slices.Contains(held, g.ID) && g.From.After(now) {
			return WindowClosed // the clock was set back to before the opening
		}
	}
	return PolicyChanged
}

// admitted sends an admission to the journal. The gate has let its initiation
// through; the session it may become is cut if the entry is not on disk in time.
func (l *loop) admitted(f policy.Fact) {
	a := &admission{number: f.Admission, tunnel: l.tunnels, engineer: f.Engineer, source: f.Source, at: l.boot}
	l.admissions[a.number] = a
	l.cfg.Metrics.admitted(f.Engineer.Vendor.Name)
	l.cfg.Metrics.heard(f.Engineer.Key, l.now)
	e := f.Engineer
	l.refusals.Attempted(e, f.Source.Addr())
	entry := journal.Entry{Kind: journal.Admission, Actor: "gateway", Vendor: e.Vendor.Name, Engineer: e.Name,
		Source: f.Source.Addr().String(), Reason: policy.Admitted.String(), Key: e.Key.String(), Timestamp: hex.EncodeToString(f.Timestamp[:])}
	if g := f.Decision.Grant; g != nil {
		entry.Grant, entry.Window, entry.Until = g.ID, g.Window.Name, f.Decision.Until
	}
	l.add(record{entries: []journal.Entry{entry}, done: func(l *loop, err error) {
		if err != nil || a.tunnel != l.tunnels {
			return
		}
		inTime := l.cfg.Tunnel.Recorded(a.number)
		a.recorded = true
		delete(l.late, a.number)
		if !inTime && l.admissions[a.number] == a {
			l.cutUnrecorded(a) // the gate has cut it, a moment before the loop would have
		}
	}})
}

// outside gives the outer address of an engineer who is inside, or about to
// be: a flow may be refused before its session's confirmation is heard.
func (l *loop) outside(e *policy.Engineer) netip.AddrPort {
	if s := l.sessions[e.String()]; s != nil {
		return s.source
	}
	var newest admission
	for _, a := range l.admissions {
		if a.engineer.Key == e.Key && a.number > newest.number {
			newest = *a
		}
	}
	return newest.source
}

// unrecorded cuts whose admission did not reach the disk in time.
func (l *loop) unrecorded() {
	for _, a := range l.admissions {
		if a.recorded || l.boot-a.at < unrecordedAfter {
			continue
		}
		l.cutUnrecorded(a)
	}
}

func (l *loop) cutUnrecorded(a *admission) {
	delete(l.admissions, a.number)
	if !a.recorded {
		l.late[a.number] = a.at
	}
	l.cfg.Logger.Error("cut: the admission was not on disk in time", "engineer", a.engineer.String(), "allowed", unrecordedAfter)
	l.cfg.Tunnel.Cut(a.engineer)
	if s := l.sessions[a.engineer.String()]; s != nil {
		l.end(ending{s, Unrecorded})
		l.apply()
	}
}

// confirmed opens a session, or continues the one that is open.
func (l *loop) confirmed(f policy.Fact) {
	a := l.admissions[f.Admission]
	if a == nil {
		return // cut meanwhile
	}
	a.confirmed = true
	until := l.admits(f.Engineer, f.Source.Addr())
	if until.IsZero() {
		return // closed meanwhile
	}
	name := f.Engineer.String()
	if s := l.sessions[name]; s != nil {
		if s.source.Addr() == f.Source.Addr() {
			if s.source != f.Source {
				s.source = f.Source
				l.apply()
			}
			return
		}
		l.end(ending{s, Superseded})
	}
	s := &session{id: rand.Text()[:16], engineer: f.Engineer, source: f.Source, openedAt: l.now, until: until,
		last: l.totals[f.Engineer.Key], heard: l.boot, counted: l.boot}
	l.sessions[name] = s
	l.holds(s)
	l.record(l.sessionEntry(journal.SessionOpened, s))
	l.apply()
}

// admits is until when an engineer is admitted from an address: zero, if not.
func (l *loop) admits(e *policy.Engineer, source netip.Addr) time.Time {
	d := l.plan.Decide(policy.Query{Key: e.Key, Proven: true, Fault: policy.Admitted, Source: source}, l.now)
	if d.Reason != policy.Admitted || d.Engineer.String() != e.String() {
		return time.Time{}
	}
	return d.Until
}

// holds notes on which grants a session stands.
func (l *loop) holds(s *session) {
	s.grants = nil
	for _, g := range l.plan.GrantsOf(s.engineer) {
		if g.Contains(l.now) && g.Engineer.MayComeFrom(s.source.Addr()) {
			s.grants = append(s.grants, g.ID)
		}
	}
}

func (l *loop) sessionEntry(kind journal.Kind, s *session) journal.Entry {
	e := journal.Entry{Kind: kind, Actor: "gateway", Vendor: s.engineer.Vendor.Name, Engineer: s.engineer.Name, Session: s.id,
		Source: s.source.Addr().String(), From: s.openedAt, Until: s.until, Grants: s.grants}
	if more := len(s.grants) - grantsMax; more > 0 {
		e.Grants = s.grants[:grantsMax]
		e.Text = fmt.Sprintf("and %d more grants, each with an entry of its own", more)
	}
	return e
}

// readTraffic reads what was counted of every key.
func (l *loop) readTraffic() {
	l.totals = maps.Collect(l.cfg.Tunnel.Traffic())
}

// count gives a session, and its vendor, what its key counted since the last
// reading. A name is not enough: the next policy may give it another key.
func (l *loop) count(s *session) {
	t, ok := l.totals[s.engineer.Key]
	if !ok {
		return
	}
	received, transmitted := t.Since(s.last)
	if received > 0 {
		s.heard = l.boot
		l.cfg.Metrics.heard(s.engineer.Key, l.now)
	}
	l.cfg.Metrics.traffic(s.engineer.Vendor.Name, received, transmitted)
	s.carries(received, transmitted, l.boot)
	s.received += received
	s.transmitted += transmitted
	s.last = t
}

// ending is a session that is over, and why.
type ending struct {
	session *session
	why     Ended
}

// endSessions finds those whose engineer has no open grant any more, or none
// from where the session is, and moves the end of the others.
func (l *loop) endSessions() []ending {
	var over []ending
	severed := l.severed
	l.severed = ""
	for name, s := range l.sessions {
		if severed != "" {
			delete(l.sessions, name)
			over = append(over, ending{s, severed})
			continue
		}
		until := l.admits(s.engineer, s.source.Addr())
		if until.IsZero() {
			delete(l.sessions, name)
			over = append(over, ending{s, whyEnded(l.plan, s.engineer, s.grants, s.until, l.now, l.stopping())})
			continue
		}
		if e := l.plan.ByKey(s.engineer.Key); e != nil {
			s.engineer = e
		}
		s.until = until
		l.holds(s)
	}
	slices.SortFunc(over, func(a, b ending) int { return a.session.openedAt.Compare(b.session.openedAt) })
	return over
}

// sever takes note that the next plan finds a tunnel in which everybody was
// cut, whatever it admits.
func (l *loop) sever(why Ended) {
	l.severed = why
	l.tunnels++
	clear(l.admissions)
	clear(l.late)
	l.replan = true
}

// idle ends what has not been heard from.
func (l *loop) idle() {
	for _, s := range l.sessions {
		if l.boot-s.heard >= idleAfter {
			l.cfg.Tunnel.Cut(s.engineer)
			l.end(ending{s, Idle})
			l.apply()
		}
	}
}

// end closes sessions in the records. Whoever calls it has closed the gate.
func (l *loop) end(over ...ending) {
	if len(over) == 0 {
		return
	}
	l.readTraffic()
	for _, x := range over {
		s := x.session
		delete(l.sessions, s.engineer.String())
		l.count(s)
		entry := l.sessionEntry(journal.SessionClosed, s)
		entry.Reason = string(x.why)
		entry.ReceivedBytes, entry.TransmittedBytes = int64(s.received), int64(s.transmitted)
		entry.Until = time.Time{}
		l.record(entry)
		l.cfg.Metrics.sessionEnded(s.engineer.Vendor.Name, s.id, x.why, max(l.now.Sub(s.openedAt), 0))
	}
}
