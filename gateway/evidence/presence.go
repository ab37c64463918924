package evidence

import (
	"net/netip"
	"slices"
	"time"

	"kidoban/gateway/journal"
)

// opening takes the opening or the closing of a grant.
func (r *Record) opening(e journal.Entry) {
	if e.Grant == "" {
		return
	}
	all := r.is.openings[e.Grant]
	var o *Opening
	if n := len(all); n > 0 && all[n-1].Last < 0 {
		o = all[n-1]
	}
	if o == nil || e.Kind == journal.WindowOpened {
		o = &Opening{Person: r.person(e), Grant: e.Grant, Window: r.one(e.Window), Request: r.one(e.Request), ApprovedBy: r.one(e.ApprovedBy), Ticket: r.one(e.Ticket),
			Section: r.one(e.Section), Text: r.one(e.Text), Targets: r.list(e.Targets), Sources: r.list(e.Sources), From: e.From, Until: e.Until, OpenedAt: e.Time, First: e.Index, Last: -1}
		if e.Kind == journal.WindowClosed { // it opened before the journal begins
			o.OpenedAt = e.From
			if s := r.is.newest[o.name()]; s != nil && slices.Contains(s.Grants, o.Grant) {
				o.Sessions = append(o.Sessions, s.ID)
			}
		}
		r.Openings = append(r.Openings, o)
		r.is.openings[e.Grant] = append(all, o)
	}
	if e.Kind == journal.WindowOpened {
		r.is.open[o.name()] = append(r.is.open[o.name()], o)
		r.ends(e, func(*Span) bool { return true }) // no grant opens in doubt; old journals tell no other end
		return
	}
	r.meet(r.is.newest[o.name()], o, e.Time)
	if all := slices.DeleteFunc(r.is.open[o.name()], func(x *Opening) bool { return x == o }); len(all) > 0 {
		r.is.open[o.name()] = all
	} else {
		delete(r.is.open, o.name())
	}
	o.ClosedAt, o.Reason, o.Last = e.Time, r.one(e.Reason), e.Index
	if !e.Until.IsZero() {
		o.Until = e.Until
	}
}

// meet puts a session that is open on an opening that is open, if the session's source may use it. Entries
// of sessions name the grants of their own instant; others begin and end in between.
func (r *Record) meet(s *Session, o *Opening, at time.Time) {
	if s == nil || s.Last >= 0 || at.Before(o.From) || slices.Contains(o.Sessions, s.ID) {
		return
	}
	for _, source := range o.Sources {
		if p, err := netip.ParsePrefix(source); err == nil && p.Contains(s.Source.Addr()) {
			o.Sessions = append(o.Sessions, s.ID)
			s.Grants = append(s.Grants, o.Grant)
			return
		}
	}
}

// session takes an entry about a session, or an admission.
func (r *Record) session(e journal.Entry) {
	p := r.person(e)
	s := r.is.sessions[e.Session]
	switch {
	case e.Kind == journal.Admission:
		r.is.admitted[p.name()] = admission{e.Index, e.Source, e.Timestamp}
		if s := r.is.newest[p.name()]; s != nil && s.Last < 0 && s.Source.Addr().String() == e.Source {
			s.LastHeard = e.Time
		}
		return
	case e.Session == "":
		return
	case s == nil:
		s = r.enter(e, p)
	}
	for _, o := range r.is.open[p.name()] {
		r.meet(s, o, e.Time)
	}
	switch e.Kind {
	case journal.Used:
		s.used(r, e)
	case journal.SessionClosed:
		s.close(r, e)
	}
	r.stand(s, e.Grants)
}

// enter begins a session.
func (r *Record) enter(e journal.Entry, p Person) *Session {
	s := &Session{Person: p, ID: e.Session, Timestamp: e.Timestamp, OpenedAt: e.Time, First: e.Index, Last: -1, Admission: -1, Count: Count{Entry: -1}}
	if e.Kind != journal.SessionOpened && !e.From.IsZero() { // it opened before the journal begins
		s.OpenedAt = e.From
	}
	if a, err := netip.ParseAddr(e.Source); err == nil {
		s.Source = netip.AddrPortFrom(a, e.SourcePort)
	}
	if a, ok := r.is.admitted[p.name()]; ok && a.source == e.Source && (e.Timestamp == "" || a.timestamp == e.Timestamp) {
		s.Admission, s.Timestamp = a.entry, a.timestamp
	}
	r.is.sessions[s.ID], r.is.newest[p.name()] = s, s
	r.Sessions, r.is.waits.fresh = append(r.Sessions, s), append(r.is.waits.fresh, s)
	return s
}

// stand puts a session on its grants.
func (r *Record) stand(s *Session, grants []string) {
	for _, id := range grants {
		for _, o := range r.is.openings[id] {
			over := o.Last >= 0 && o.ClosedAt.Before(s.OpenedAt)
			if !over && !slices.Contains(o.Sessions, s.ID) {
				o.Sessions = append(o.Sessions, s.ID)
				id = o.Grant
			}
		}
		if !slices.Contains(s.Grants, id) {
			s.Grants = append(s.Grants, id)
		}
	}
}

// used takes a count: sums since the session opened.
func (s *Session) used(r *Record, e journal.Entry) {
	c := &s.Count
	c.Counted, c.Complete, c.Entry = e.Reason != notCounted, e.Complete != nil && *e.Complete, e.Index
	if e.ReceivedBytes > 0 || e.TransmittedBytes > 0 {
		c.At = e.Time
		c.totals(e)
	}
	c.Used = make([]journal.Use, len(e.Used))
	for i, u := range e.Used {
		u.Target, u.Address, u.Service = r.one(u.Target), r.one(u.Address), r.one(u.Service)
		c.Used[i] = u
	}
	if s.Last < 0 {
		s.LastHeard = e.Time
	}
}

// totals takes the bytes of the tunnel. They never go back.
func (c *Count) totals(e journal.Entry) {
	c.Known = true
	c.Received, c.Transmitted = max(c.Received, e.ReceivedBytes), max(c.Transmitted, e.TransmittedBytes)
}

// Reasons: of a closing that a later process wrote, and of a count without the kernel's accounting.
const (
	crashed    = "crashed"
	notCounted = "not_counted"
)

func (s *Session) close(r *Record, e journal.Entry) {
	s.ClosedAt, s.Ended, s.Last = e.Time, r.one(e.Reason), e.Index
	if s.Ended != crashed {
		s.Count.At, s.LastHeard = e.Time, time.Time{}
		s.Count.totals(e)
		return
	}
	if e.ReceivedBytes > 0 || e.TransmittedBytes > 0 {
		s.Count.totals(e)
	}
	for _, at := range []time.Time{e.Last, s.OpenedAt} {
		if at.After(s.LastHeard) && at.Before(s.ClosedAt) {
			s.LastHeard = at
		}
	}
}
