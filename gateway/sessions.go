package gateway

import (
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/session"
	"kidoban/gateway/store"
)

// admitted sends an admission to the journal. The gate has let its initiation
// through; the session that it may become is cut if the entry is not on disk in
// time.
func (l *loop) admitted(f policy.Fact) {
	a := l.sessions.Admit(f)
	e := f.Engineer
	l.cfg.Metrics.Admitted(e, l.clock.Now)
	l.refusals.Attempted(e, f.Source.Addr())
	entry := store.EngineerEntry(journal.Admission, e)
	entry.Source, entry.Reason = f.Source.Addr().String(), policy.Admitted.String()
	entry.Key, entry.Timestamp = e.Key.String(), hex.EncodeToString(f.Timestamp[:])
	if g := f.Decision.Grant; g != nil {
		entry.Grant, entry.Window, entry.Until = g.ID, g.Window.Name, f.Decision.Until
	}
	l.add(store.Record{Entries: []journal.Entry{entry}, Done: func(err error) {
		if err == nil && !l.sessions.Void(a) && l.sessions.Recorded(a, l.cfg.Tunnel.Recorded(a.Number)) {
			l.cut(a)
		}
	}})
	if l.plans.inForce.SourcesDiffer(e) {
		l.apply() // ahead of the session's first packet
	}
}

// cut cuts an admission that did not reach the disk in time.
func (l *loop) cut(a *session.Admission) {
	over := l.sessions.Cut(a)
	l.cfg.Logger.Error("cut: the admission was not on disk in time", "engineer", a.Engineer.String(), "allowed", session.UnrecordedAfter)
	l.cfg.Tunnel.Cut(a.Engineer)
	if len(over) > 0 {
		l.end(over)
		l.apply()
	}
}

// confirmed opens a session, or continues the one that is open.
func (l *loop) confirmed(f policy.Fact) {
	admission := l.sessions.Confirm(f.Admission)
	if admission == nil {
		return // cut meanwhile
	}
	l.counts(f.Engineer)
	opened, superseded, changed := l.sessions.Enter(admission, f, l.plans.inForce)
	l.end(superseded)
	if opened != nil {
		l.record(sessionEntry(journal.SessionOpened, opened))
	}
	if changed {
		l.apply()
	}
}

// grantsMax is how many grants an entry names: an id has up to 208 bytes, and an
// entry fits into 64 KiB.
const grantsMax = 200

func sessionEntry(kind journal.Kind, s *session.Session) journal.Entry {
	e := store.EngineerEntry(kind, s.Engineer)
	if kind == journal.SessionOpened && !s.Engineer.Plain() {
		e.SourcePort, e.Timestamp = s.Source.Port(), hex.EncodeToString(s.Timestamp[:])
	}
	e.Session, e.Source, e.From, e.Until, e.Grants = s.ID, s.Source.Addr().String(), s.OpenedAt, s.Until, s.Grants
	if more := len(s.Grants) - grantsMax; more > 0 {
		e.Grants = s.Grants[:grantsMax]
		e.Text = fmt.Sprintf("and %d more grants, each with an entry of its own", more)
	}
	return e
}

// count adds to a session the traffic since its last count.
func (l *loop) count(s *session.Session) {
	received, transmitted := l.sessions.Count(s)
	l.cfg.Metrics.Traffic(s.Engineer, received, transmitted, l.clock.Now)
}

// end records the end of sessions. The gate is closed for them already.
func (l *loop) end(over []session.Ending) {
	if len(over) == 0 {
		return
	}
	l.cfg.Firewall.Recount()
	if l.sessions.HasHosts() {
		l.counts(nil) // their traffic; the close of an engineer does not wait for it
	}
	l.sessions.Read(maps.Collect(l.cfg.Tunnel.Traffic()))
	for _, x := range over {
		s := x.Session
		l.count(s)
		entry := sessionEntry(journal.SessionClosed, s)
		entry.Reason = string(x.Why)
		entry.ReceivedBytes, entry.TransmittedBytes = int64(s.Received), int64(s.Transmitted)
		entry.Until = time.Time{}
		l.record(entry)
		l.cfg.Metrics.SessionEnded(s.Engineer.Vendor.Name, s.ID, x.Why, max(l.clock.Now.Sub(s.OpenedAt), 0))
	}
}

// counts reads the kernel's counts of all sessions, and of an engineer who enters. The engineer may be nil.
func (l *loop) counts(entering *policy.Engineer) {
	f := l.cfg.Firewall
	until, lost := f.Counted()
	of := l.sessions.Counts(entering)
	l.sessions.Counted(session.Counts{Flows: maps.Collect(f.Used(func(a netip.Addr) bool { return of[a] })), Until: until, Lost: lost, Counting: f.Counting()})
}

// traffic reads what engineers and hosts have sent and received.
func (l *loop) traffic() {
	l.counts(nil)
	l.sessions.Read(maps.Collect(l.cfg.Tunnel.Traffic()))
}

// hosts opens the sessions of hosts behind plain lines, which do not knock.
func (l *loop) hosts() {
	opened, over := l.sessions.Hosts()
	for _, s := range opened {
		l.record(sessionEntry(journal.SessionOpened, s))
	}
	l.end(over)
}

// use records the use of sessions that is due.
func (l *loop) use(stopping bool) {
	for _, u := range l.sessions.Use(stopping) {
		l.record(u.Entry(sessionEntry(journal.Used, u.Session), l.state.Policy()))
		if u.Last {
			for _, a := range l.sessions.Uncounted(u.Session) {
				l.cfg.Firewall.Forget(a)
			}
		}
	}
}
