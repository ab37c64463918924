package evidence

import (
	"slices"
	"time"

	"kidoban/gateway/journal"
)

// end is the end of a session as far as it is known: of one that is open, the newest entry's time.
func (r *Record) end(s *Session) time.Time {
	switch {
	case s.Last < 0:
		return r.Now
	case s.Ended == crashed:
		return s.LastHeard
	}
	return s.ClosedAt
}

// about are the sessions that a work report is about: those that it names, else those of its vendor and
// engineer that were open in the time that it tells. all are the sessions to look through.
func (r *Record) about(w WorkReport, all []*Session) (found []*Session) {
	for _, id := range w.Sessions {
		if s := r.is.sessions[id]; s != nil {
			found = append(found, s)
		}
	}
	if len(w.Sessions) > 0 {
		return found
	}
	for _, s := range all {
		if s.Vendor == w.Vendor && (w.Engineer == "" || s.Engineer == w.Engineer) && !s.OpenedAt.After(w.Until) && !r.end(s).Before(w.From) {
			found = append(found, s)
		}
	}
	return found
}

// reported finds the newest work report of each session.
func (b *monthly) reported() {
	for _, w := range b.r.Work {
		if len(w.Is.Sessions) == 0 && w.Is.Until.Before(b.m.from) {
			continue
		}
		for _, s := range b.r.about(w.Is, b.sessions) {
			b.work[s.ID] = &ReportWork{Entry: w.Entry, At: b.m.local(w.At), By: w.Actor, From: b.m.maybe(w.Is.From), Until: b.m.maybe(w.Is.Until),
				Targets: append([]string{}, w.Is.Targets...), PersonalData: w.Is.PersonalData, Files: w.Is.Files, Present: w.Is.Present, Text: w.Is.Text}
		}
	}
	for _, s := range b.sessions {
		if b.work[s.ID] != nil {
			continue
		}
		for _, o := range b.r.openingsOf(s) {
			if d := b.r.is.requests[o.Request].work(); d != nil {
				b.work[s.ID] = &ReportWork{Entry: d.Entry, At: b.m.local(d.At), By: d.By, Targets: []string{}, Files: d.Files, Text: d.Reason, Result: d.Result}
			}
		}
	}
}

// work is the newest work report of a request; nil: there is none.
func (q *Request) work() *Decision {
	if q == nil {
		return nil
	}
	i := slices.IndexFunc(q.Decisions, func(d Decision) bool { return d.Kind == journal.Reported })
	for j := len(q.Decisions) - 1; j > i && i >= 0; j-- {
		if q.Decisions[j].Kind == journal.Reported {
			i = j
		}
	}
	if i < 0 {
		return nil
	}
	return &q.Decisions[i]
}
