package evidence

import (
	"slices"
	"strings"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
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
// engineer that were open in the time that it tells. Who worked at a host is
// not known, so a report that names a person may be about any host of the vendor. all are the sessions to look through.
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
		by := w.Engineer == "" || s.Engineer == w.Engineer
		if s.Vendor == w.Vendor && (by || !policy.IsHost(w.Engineer) && r.plain(s)) && !s.OpenedAt.After(w.Until) && !r.end(s).Before(w.From) {
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

// reportedApart is how far the times of a work report may be off.
const reportedApart = 15 * time.Minute

// workMismatches compares work reports with sessions: m03 to m06.
func (b *monthly) workMismatches(rules policy.ReviewRules) {
	for _, s := range b.sessions {
		if due := b.r.end(s).Add(rules.Within); s.Last >= 0 && b.work[s.ID] == nil && b.r.Now.After(due) {
			b.found(view.Say("mismatch_m03", view.Args{"session": s.ID, "engineer": s.name(), "due": b.moment(due)}), of(s, due, s.First, s.Last))
		}
	}
	for _, w := range b.r.Work {
		at := w.Is.From
		if at.IsZero() {
			at = w.At
		}
		if !b.of(w.Is.Vendor) || !b.m.has(at) {
			continue
		}
		sessions := b.r.about(w.Is, b.r.Sessions)
		if len(sessions) == 0 {
			b.found(view.Say("mismatch_m04", view.Args{"vendor": w.Is.Vendor, "from": b.moment(w.Is.From), "until": b.moment(w.Is.Until)}), about{vendor: w.Is.Vendor, since: w.At, entries: []int64{w.Entry}})
			continue
		}
		b.compareWork(w, sessions)
	}
	for _, q := range b.r.Requests {
		if d := q.work(); d != nil && b.of(q.Vendor) && b.m.has(d.At) && !b.r.came(q) {
			b.found(view.Say("mismatch_m04_request", view.Args{"request": q.ID, "vendor": q.Vendor}), about{vendor: q.Vendor, since: d.At, entries: []int64{d.Entry, q.Recorded.Entry}})
		}
	}
}

// came reports whether a session stood on a request.
func (r *Record) came(q *Request) bool {
	return slices.ContainsFunc(r.Openings, func(o *Opening) bool { return o.Request == q.ID && len(o.Sessions) > 0 })
}

// compareWork compares a work report with its sessions.
func (b *monthly) compareWork(w Signed[WorkReport], sessions []*Session) {
	from, until := sessions[0].OpenedAt, b.r.end(sessions[0])
	over := true
	for _, s := range sessions {
		if s.OpenedAt.Before(from) {
			from = s.OpenedAt
		}
		if end := b.r.end(s); end.After(until) {
			until = end
		}
		over = over && s.Last >= 0
		if strange := b.strange(s, w.Is.Targets); len(w.Is.Targets) > 0 && len(strange) > 0 {
			b.found(view.Say("mismatch_m06_report", view.Args{"session": s.ID, "engineer": s.name(), "targets": strings.Join(strange, ", ")}), of(s, w.At, w.Entry, s.Count.Entry))
		}
	}
	apart := func(a, b time.Time) bool { return !a.IsZero() && a.Sub(b).Abs() > reportedApart }
	if over && (apart(w.Is.From, from) || apart(w.Is.Until, until)) {
		s := sessions[0]
		b.found(view.Say("mismatch_m05", view.Args{"engineer": s.name(), "from": b.moment(from), "until": b.moment(until), "reported_from": b.moment(w.Is.From), "reported_until": b.moment(w.Is.Until)}),
			of(s, w.At, w.Entry, s.First, s.Last))
	}
}
