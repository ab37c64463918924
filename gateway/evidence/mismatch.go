package evidence

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// The mismatches of a month are what a reviewer looks for: differences between what was planned, who was
// inside, what was used, and what was reported.
//
//	m01  a session on no grant; the gate lets none in
//	m02  an approved time in which nobody came; of a window for several engineers: none of them
//	m03  a session without a work report when that is due
//	m04  a work report without a session
//	m05  a work report whose times differ by more than 15 minutes
//	m06  a target that neither the grant nor the work report names
//	m07  more bytes in the tunnel than its flows explain; a host on a plain line has no tunnel
//	m08  a subcontractor without consent
//	m09  refusals of an engineer's own key, or of a host's connections by a plain line within its window
//	m10  an emergency that nobody ratified in time
//	m11  a session that was not checked, or not confirmed, in time
//	m12  a session that ended by a fault, or because the key was used elsewhere
//	m13  a doubt, or no gateway, while a grant was open
//	m14  a step of the clock, or a drift of the ruleset, in a session
//	m15  an engineer's first use of a target, or far more bytes to the site than usual
//	m16  one person asked and approved, where two are needed
//
// A host on a plain line has the others as an engineer has. No person is identified there, so work reports
// (m03 to m06) and reviews (m11) matter even more.

// finding is a mismatch, and since when it is one.
type finding struct {
	Mismatch
	since time.Time
}

// about is the subject of a mismatch.
type about struct {
	vendor, session, grant string
	since                  time.Time
	entries                []int64
}

func of(s *Session, since time.Time, entries ...int64) about {
	return about{vendor: s.Vendor, session: s.ID, since: since, entries: entries}
}

// found adds a mismatch. Its kind is in the code: mismatch_m06_report.
func (b *monthly) found(m view.Message, a about) {
	kind, _, _ := strings.Cut(strings.TrimPrefix(string(m.Code), "mismatch_"), "_")
	args := map[string]string{}
	for name, value := range m.Args {
		args[name] = fmt.Sprint(value)
	}
	if len(a.entries) > refusedEntries {
		a.entries = a.entries[:refusedEntries]
	}
	b.findings = append(b.findings, finding{Mismatch{Kind: kind, Entries: a.entries, Vendor: a.vendor, Session: a.session, Grant: a.grant, State: Open,
		Text: m.String(), Code: m.Code, Args: args}, a.since})
}

// mismatches finds all mismatches of the month.
func (b *monthly) mismatches() {
	rules := b.policy.Reviewing()
	for i, s := range b.sessions {
		b.planned(s)
		b.consented(s)
		b.ended(s)
		b.unsigned(s, b.both[i], rules)
		b.disturbed(s)
	}
	b.unusual()
	b.unusedPlans()
	b.workMismatches(rules)
	b.refusedKeys()
	b.requestMismatches()
	b.outages()
	slices.SortStableFunc(b.findings, func(x, y finding) int {
		return cmp.Or(strings.Compare(x.Kind, y.Kind), slices.Compare(x.Entries, y.Entries), strings.Compare(x.Vendor, y.Vendor))
	})
	for _, f := range b.findings {
		b.explain(&f)
		b.report.Mismatches = append(b.report.Mismatches, f.Mismatch)
	}
}

// explain finds the newest review that explains a mismatch.
func (b *monthly) explain(f *finding) {
	for _, v := range b.r.Reviews {
		month := v.Is.Month == b.m.name && v.Is.Vendor == f.Vendor && len(v.Is.Sessions) == 0
		session := f.Session != "" && slices.Contains(v.Is.Sessions, f.Session)
		named := len(v.Is.Explained) == 0 || slices.Contains(v.Is.Explained, f.Ref())
		later := v.Entry > slices.Max(f.Entries) && !v.At.Before(f.since)
		if v.Is.Note != "" && (month || session) && named && later {
			at := b.m.local(v.At)
			f.State, f.By, f.At, f.Note = Explained, v.Actor, &at, v.Is.Note
		}
	}
}

// planned compares a session with its grants: m01 and m06.
func (b *monthly) planned(s *Session) {
	openings := b.r.openingsOf(s)
	covers := func(o *Opening) bool { return !o.OpenedAt.After(s.OpenedAt) }
	pruned := b.r.Entries.From > 0 && (s.First == s.Last || slices.ContainsFunc(s.Grants, func(id string) bool { return b.r.is.openings[id] == nil }))
	if !slices.ContainsFunc(openings, covers) && !pruned {
		b.found(view.Say("mismatch_m01", view.Args{"session": s.ID, "engineer": s.name(), "at": b.moment(s.OpenedAt)}), of(s, s.OpenedAt, s.First))
	}
	more := func(o *Opening) bool { return strings.Contains(o.Text, " more targets, as the policy names them") }
	if strange := b.strange(s, b.r.allowed(s)); len(openings) > 0 && len(strange) > 0 && !slices.ContainsFunc(openings, more) {
		b.found(view.Say("mismatch_m06", view.Args{"session": s.ID, "engineer": s.name(), "targets": strings.Join(strange, ", ")}), of(s, s.Count.At, s.Count.Entry, openings[0].First))
	}
}

// consented finds a subcontractor's session on a day without the site's consent: m08.
func (b *monthly) consented(s *Session) {
	p := b.r.At(s.OpenedAt)
	if p == nil || p.Vendor(s.Vendor) == nil {
		return
	}
	day := policy.DateOf(s.OpenedAt.In(p.Zone))
	for v := p.Vendor(s.Vendor); v.Under != nil; v = v.Under {
		if c := v.Consent; c == nil || day.Compare(c.Date) < 0 || day.Compare(c.Until) > 0 {
			b.found(view.Say("mismatch_m08", view.Args{"session": s.ID, "engineer": s.name(), "vendor": v.Name, "prime": v.Under.Name}), of(s, s.OpenedAt, s.First))
			return
		}
	}
}

// strange are the targets that a session used and that are not among those allowed.
func (b *monthly) strange(s *Session, allowed []string) (all []string) {
	for _, u := range s.Count.Used {
		if name := b.r.named(s, allowed, u); u.Others == 0 && !slices.Contains(allowed, name) && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// ended looks at the end of a session and at its bytes: m12 and m07.
func (b *monthly) ended(s *Session) {
	if slices.Contains([]string{crashed, "unrecorded", "superseded"}, s.Ended) {
		b.found(view.Say("mismatch_m12", view.Args{"session": s.ID, "engineer": s.name(), "reason": s.Ended, "at": b.moment(b.r.end(s))}), of(s, s.ClosedAt, s.First, s.Last))
	}
	c := s.Count
	if b.r.plain(s) || !c.Counted || !c.Complete || !c.Known || s.Last < 0 || s.Ended == crashed {
		return
	}
	expected := s.overhead()
	for _, u := range c.Used {
		expected += u.ReceivedBytes + u.TransmittedBytes + perPacket*(u.ReceivedPackets+u.TransmittedPackets)
	}
	tunnel := c.Received + c.Transmitted
	if more := tunnel - expected; more > 1<<20 && more > expected/20 {
		b.found(view.Say("mismatch_m07", view.Args{"session": s.ID, "engineer": s.name(), "tunnel": view.Bytes(uint64(tunnel)), "flows": view.Bytes(uint64(expected))}), of(s, s.ClosedAt, s.First, s.Last))
	}
}

// What WireGuard itself sends (its paper, section 5.4): a header and a tag for each packet; an initiation
// and a response at most every two minutes; an empty packet at most every ten seconds.
const (
	perPacket    = 16 + 16
	perHandshake = 148 + 92
)

// overhead are the bytes of a session that no flow has.
func (s *Session) overhead() int64 {
	seconds := int64(s.ClosedAt.Sub(s.OpenedAt) / time.Second)
	return (seconds/120+1)*perHandshake + (seconds/10+1)*perPacket
}

// unsigned finds a session that was not reviewed in time: m11.
func (b *monthly) unsigned(s *Session, both signatures, rules policy.ReviewRules) {
	if s.Last < 0 || b.r.torn(b.m) {
		return
	}
	checkBy, confirmBy := b.r.end(s).Add(rules.Within), b.r.end(s).Add(rules.ConfirmWithin)
	switch {
	case !both.checked.is() && b.r.Now.After(checkBy):
		b.found(view.Say("mismatch_m11", view.Args{"session": s.ID, "engineer": s.name(), "due": b.moment(checkBy)}), of(s, checkBy, s.First, s.Last))
	case !both.done() && b.r.Now.After(confirmBy):
		b.found(view.Say("mismatch_m11_confirmed", view.Args{"session": s.ID, "engineer": s.name(), "due": b.moment(confirmBy)}), of(s, confirmBy, s.First, s.Last))
	}
}

// disturbed finds steps and drifts in a session: m14.
func (b *monthly) disturbed(s *Session) {
	for _, all := range [][]Note{b.r.Steps, b.r.Drifts} {
		entries := []int64{s.First}
		var last Note
		for _, n := range all {
			if !n.Time.Before(s.OpenedAt) && !n.Time.After(b.r.end(s)) {
				entries, last = append(entries, n.Entry), n
			}
		}
		if len(entries) > 1 {
			b.found(view.Say("mismatch_m14", view.Args{"session": s.ID, "engineer": s.name(), "kind": string(last.Kind), "at": b.moment(last.Time)}), of(s, last.Time, entries...))
		}
	}
}

// unusedPlans finds times in which nobody came: m02.
func (b *monthly) unusedPlans() {
	type occurrence struct{ vendor, window, from string }
	var order []occurrence
	all := map[occurrence][]grant{}
	for _, g := range b.grants {
		o := g.first()
		key := occurrence{o.Vendor, o.Window, o.From.UTC().String()}
		if all[key] == nil {
			order = append(order, key)
		}
		all[key] = append(all[key], g)
	}
	for _, key := range order {
		if slices.ContainsFunc(all[key], func(g grant) bool { return !g.unused() }) {
			continue
		}
		o := all[key][0].last()
		a := about{vendor: o.Vendor, grant: o.Grant, since: o.ClosedAt}
		for _, g := range all[key] {
			a.entries = append(a.entries, g.first().First, g.last().Last)
		}
		slices.Sort(a.entries)
		b.found(view.Say("mismatch_m02", view.Args{"window": o.Vendor + "/" + o.Window, "from": b.moment(o.From), "until": b.moment(o.Until)}), a)
	}
}

// refusedKeys finds refusals of a proven key, or by a plain line: m09, one of each engineer and reason.
// A host proves nothing, but its vendor answers for what comes by its line. Outside its window a machine
// tries by itself, as with a connection that the end has cut: that is no mismatch.
func (b *monthly) refusedKeys() {
	found := map[string]*about{}
	counts := map[string]int64{}
	var order []ReportRefused
	for _, x := range b.report.Refused {
		if x.Engineer == "" || !slices.Contains(provenReasons, x.Reason) || x.Plain && x.Reason == policy.OutsideWindow.String() {
			continue
		}
		key := x.Vendor + "/" + x.Engineer + " " + x.Reason
		if found[key] == nil {
			found[key] = &about{vendor: x.Vendor}
			order = append(order, x)
		}
		counts[key] += x.Count
		a := found[key]
		if a.entries = append(a.entries, x.Entries...); x.Last.After(a.since) {
			a.since = x.Last
		}
	}
	for _, x := range order {
		name, code := x.Vendor+"/"+x.Engineer, view.Code("mismatch_m09")
		a := found[name+" "+x.Reason]
		if x.Plain {
			code = "mismatch_m09_host"
		}
		slices.Sort(a.entries)
		b.found(view.Say(code, view.Args{"engineer": name, "reason": x.Reason, "count": counts[name+" "+x.Reason]}), *a)
	}
}

// provenReasons are the refusals that a vendor has to explain.
var provenReasons = []string{policy.WrongSource.String(), policy.WrongLine.String(), policy.Replayed.String(), policy.OutsideWindow.String(), policy.UnlistedTarget.String()}

// requestMismatches looks at the requests of the month: m10 and m16.
func (b *monthly) requestMismatches() {
	for _, q := range b.r.Requests {
		if !b.of(q.Vendor) || !b.m.has(q.Recorded.At) {
			continue
		}
		due := q.RatifyBy
		if due.IsZero() {
			due = q.Terms.From
		}
		ratified := slices.ContainsFunc(q.Decisions, func(d Decision) bool { return d.Kind == journal.Ratified })
		if q.Terms.Emergency && !ratified && b.r.Now.After(due) {
			b.found(view.Say("mismatch_m10", view.Args{"request": q.ID, "name": q.Recorded.By, "due": b.moment(due)}), about{vendor: q.Vendor, since: due, entries: []int64{q.Recorded.Entry}})
		}
		if d := b.r.own(q); d != nil {
			b.found(view.Say("mismatch_m16", view.Args{"request": q.ID, "name": d.By}), about{vendor: q.Vendor, since: d.At, entries: []int64{q.Recorded.Entry, d.Entry}})
		}
	}
}

// own is the approval of a request by its recorder, where two persons are needed: two approvals, or a
// policy under which the recorder's does not count. nil: there is none.
func (r *Record) own(q *Request) *Decision {
	for i, d := range q.Decisions {
		if d.Kind != journal.Approved && d.Kind != journal.Extended || d.By != q.Recorded.By && (d.Login == "" || d.Login != q.Recorded.Login) {
			continue
		}
		other := q.Needed > 1
		if p := r.At(d.At); p != nil {
			v := p.Vendor(q.Vendor)
			other = other || v != nil && v.OnRequest != nil && !v.OnRequest.SelfApproval
		}
		if other {
			return &q.Decisions[i]
		}
	}
	return nil
}

// outages finds doubts and times without a gateway over open grants: m13, one of each vendor.
func (b *monthly) outages() {
	for _, s := range b.r.Doubts {
		hit := map[string][]int64{}
		for _, o := range b.openings {
			if s.over(o) {
				hit[o.Vendor] = append(hit[o.Vendor], o.First)
			}
		}
		for vendor, entries := range hit {
			a := about{vendor: vendor, since: s.From, entries: append([]int64{s.First}, entries...)}
			if s.Kind == journal.Doubt {
				b.found(view.Say("mismatch_m13", view.Args{"at": b.moment(s.From), "count": len(entries), "cause": s.Text}), a)
			} else {
				b.found(view.Say("mismatch_m13_outage", view.Args{"at": b.moment(s.From), "count": len(entries)}), a)
			}
		}
	}
}

// over reports whether an opening was open when the time began. A crash, a stop and a doubt close it
// then; the closing may have been recorded first.
func (s *Span) over(o *Opening) bool {
	closedFor := slices.Contains([]string{"gateway_shut", "gateway_stopped", crashed}, o.Reason)
	open := o.Last < 0 || s.From.Before(o.ClosedAt) || closedFor && !s.From.After(o.ClosedAt.Add(time.Second))
	return open && !o.OpenedAt.After(s.From)
}

// moment is an instant for people.
func (b *monthly) moment(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return b.m.local(at).Format(view.Moment)
}
