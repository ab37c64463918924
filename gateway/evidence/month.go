package evidence

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// month is a month in the site's zone.
type month struct {
	name        string // YYYY-MM
	from, until time.Time
	zone        *time.Location
}

// monthLayout is YYYY-MM.
const monthLayout = "2006-01"

func (m month) has(at time.Time) bool { return !at.Before(m.from) && at.Before(m.until) }

// local is an instant in the site's zone. A zero one stays as it is.
func (m month) local(at time.Time) time.Time {
	if at.IsZero() {
		return time.Time{}
	}
	return at.In(m.zone)
}

// maybe is an instant that may be unknown: zero.
func (m month) maybe(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	at = m.local(at)
	return &at
}

// monthOf finds a month by its name, in the zone of the policy in force at its end.
func (r *Record) monthOf(name string) (month, error) {
	begins, err := time.Parse(monthLayout, name)
	if err != nil || len(name) != len(monthLayout) {
		return month{}, &view.Error{Message: view.Say("evidence_month_unknown", view.Args{"month": name})}
	}
	if r.Entries.To < 0 {
		return month{}, &view.Error{Message: view.Say("evidence_no_entries", nil)}
	}
	in := func(zone *time.Location) month {
		y, of, _ := begins.Date()
		return month{name, time.Date(y, of, 1, 0, 0, 0, 0, zone), time.Date(y, of+1, 1, 0, 0, 0, 0, zone), zone}
	}
	m := in(time.UTC)
	for i := len(r.Policies) - 1; i >= 0; i-- {
		if p := r.Policy(r.Policies[i].Digest); p != nil {
			if m = in(p.Zone); r.Policies[i].From.Before(m.until) {
				break
			}
		}
	}
	if !r.Begins.Before(m.until) || r.Now.Before(m.from) {
		return month{}, &view.Error{Message: view.Say("evidence_month_outside", view.Args{"month": name,
			"first": m.local(r.Begins).Format(monthLayout), "last": m.local(r.Now).Format(monthLayout)})}
	}
	return m, nil
}

// policy is the policy in force at the month's end.
func (r *Record) policyOf(m month) *policy.Policy { return r.At(m.until.Add(-1)) }

// monthly makes the report of a month.
type monthly struct {
	r      *Record
	m      month
	vendor string // empty: all
	policy *policy.Policy
	report Report

	findings []finding
	openings []*Opening             // that began in the month
	grants   []grant                // of these
	sessions []*Session             // that opened in the month
	both     []signatures           // of these
	today    map[string]string      // digests by vendor
	reviewed map[int64]string       // digests by the entry of a review of sessions
	work     map[string]*ReportWork // by session
}

// Month is the report of a month of maintenance, YYYY-MM in the site's zone, of one vendor, or of all:
// empty. A session belongs to the month in which it opened, an opening to the month in which it began.
// Origin, Checkpoint, Verified and Witnesses are the caller's to fill in: entries do not have them.
// Months without an entry and unknown vendors are errors.
func (r *Record) Month(name, vendor string) (Report, error) {
	b, err := r.made(name, vendor)
	if err != nil {
		return Report{}, err
	}
	return b.report, nil
}

// made makes a report.
func (r *Record) made(name, vendor string) (*monthly, error) {
	b, err := r.monthly(name, vendor)
	if err != nil {
		return nil, err
	}
	b.rows()
	b.vendors()
	b.report.Digest = b.digest()
	b.sign()
	b.mismatches()
	return b, nil
}

func (r *Record) monthly(name, vendor string) (*monthly, error) {
	m, err := r.monthOf(name)
	if err != nil {
		return nil, err
	}
	if vendor != "" && !slices.Contains(r.vendors(), vendor) {
		return nil, &view.Error{Message: view.Say("evidence_vendor_unknown", view.Args{"vendor": vendor, "known": r.vendors()})}
	}
	b := &monthly{r: r, m: m, vendor: vendor, policy: r.policyOf(m), work: map[string]*ReportWork{}, today: map[string]string{}, reviewed: map[int64]string{}}
	b.report = Report{Version: Version, Month: name, Vendor: vendor, Timezone: m.zone.String(), Entries: r.entriesOf(m), Size: r.Entries.To + 1,
		Witnesses: []string{}, AsOf: m.local(r.Now), Policies: r.policiesOf(m), Vendors: []VendorSummary{}, Sessions: []ReportSession{}, Unused: []ReportUnused{}, Mismatches: []Mismatch{}}
	if b.policy != nil {
		b.report.Site = b.policy.Site
	}
	return b, nil
}

// vendors are all vendors that the record and the newest policy know, sorted.
func (r *Record) vendors() (all []string) {
	known := map[string]bool{}
	for _, o := range r.Openings {
		known[o.Vendor] = true
	}
	for _, s := range r.Sessions {
		known[s.Vendor] = true
	}
	for _, q := range r.Requests {
		known[q.Vendor] = true
	}
	if p := r.At(r.Now); p != nil {
		for _, v := range p.Vendors {
			known[v.Name] = true
		}
	}
	delete(known, "")
	for v := range known {
		all = append(all, v)
	}
	slices.Sort(all)
	return all
}

// entriesOf is the range of a month's entries.
func (r *Record) entriesOf(m month) Range {
	all := Range{0, -1}
	for i, at := range r.is.marks {
		if !m.has(at.slot) {
			continue
		}
		if all.To < all.From {
			all.From = at.entry
		}
		all.To = r.Entries.To
		if i+1 < len(r.is.marks) {
			all.To = r.is.marks[i+1].entry - 1
		}
	}
	return all
}

// policiesOf are the policies that were in force in a month.
func (r *Record) policiesOf(m month) []ReportPolicy {
	all := []ReportPolicy{}
	for i, p := range r.Policies {
		over := i+1 < len(r.Policies) && !r.Policies[i+1].From.After(m.from)
		if p.From.Before(m.until) && !over {
			all = append(all, ReportPolicy{p.Entry, m.local(p.From), p.Digest})
		}
	}
	return all
}

// of reports whether the report is about a vendor.
func (b *monthly) of(vendor string) bool { return b.vendor == "" || b.vendor == vendor }

// rows fills in sessions, unused grants and refusals.
func (b *monthly) rows() {
	for _, o := range b.r.Openings {
		if b.of(o.Vendor) && b.m.has(o.OpenedAt) {
			b.openings = append(b.openings, o)
		}
	}
	b.grants = grantsOf(b.openings)
	for _, g := range b.grants {
		if g.unused() {
			b.report.Unused = append(b.report.Unused, b.unused(g))
		}
	}
	for _, s := range b.r.Sessions {
		if b.of(s.Vendor) && b.m.has(s.OpenedAt) {
			b.sessions = append(b.sessions, s)
		}
	}
	b.reported()
	for _, s := range b.sessions {
		b.report.Sessions = append(b.report.Sessions, b.session(s))
	}
	b.report.Refused = slices.DeleteFunc(b.r.refusedIn(b.m), func(x ReportRefused) bool { return !b.of(x.Vendor) })
}

// grant is all openings of one grant. A doubt or a close in the middle makes several of one.
type grant []*Opening

// grantsOf puts the openings of each grant together.
func grantsOf(all []*Opening) (grants []grant) {
	at := map[string]int{}
	for _, o := range all {
		i, known := at[o.Grant]
		if !known {
			i = len(grants)
			at[o.Grant], grants = i, append(grants, nil)
		}
		grants[i] = append(grants[i], o)
	}
	return grants
}

func (g grant) first() *Opening { return g[0] }
func (g grant) last() *Opening  { return g[len(g)-1] }

// used reports whether a session stood on it.
func (g grant) used() bool {
	return slices.ContainsFunc(g, func(o *Opening) bool { return len(o.Sessions) > 0 })
}

// unused reports whether none did, and it is over.
func (g grant) unused() bool { return !g.used() && g.last().Last >= 0 }

func (b *monthly) unused(g grant) ReportUnused {
	p, o, last := b.r.planOf(g), g.first(), g.last()
	return ReportUnused{Grant: o.Grant, Vendor: o.Vendor, VendorName: o.VendorName, Engineer: o.Engineer, EngineerName: o.EngineerName, Plain: b.r.Plain(o.Vendor, o.OpenedAt),
		Section: o.Section, Request: o.Request, Ticket: p.ticket, ApprovedBy: p.approvedBy, From: b.m.local(p.from), Until: b.m.local(p.until), ClosedAt: b.m.maybe(last.ClosedAt), Reason: last.Reason,
		Targets: append([]string{}, last.Targets...), Entries: Range{o.First, last.Last}}
}

// session is the row of a session.
func (b *monthly) session(s *Session) ReportSession {
	m, p := b.m, b.r.planOf(b.r.openingsOf(s))
	x := ReportSession{ID: s.ID, Vendor: s.Vendor, VendorName: s.VendorName, Engineer: s.Engineer, EngineerName: s.EngineerName, Plain: b.r.plain(s), Section: p.section,
		Line: b.r.lineAt(s.Vendor, s.OpenedAt).Name, SourcePort: s.Source.Port(), OpenedAt: m.local(s.OpenedAt), ClosedAt: m.maybe(s.ClosedAt), Ended: s.Ended, Grants: append([]string{}, s.Grants...),
		Ticket: p.ticket, ApprovedBy: p.approvedBy, PlannedFrom: m.maybe(p.from), PlannedUntil: m.maybe(p.until),
		Used: []ReportUse{}, Counted: s.Count.Counted, Complete: s.Count.Complete && s.Ended != crashed, Refused: s.Refused, Work: b.work[s.ID],
		Entries: Range{s.First, cmp.Or(max(s.Last, 0), max(s.Count.Entry, s.First))}, Digest: b.r.factsOf(s).digest()}
	if s.Source.IsValid() {
		x.Source = s.Source.Addr().String()
	}
	if s.Ended == crashed {
		x.ClosedAt, x.LastHeard = nil, m.maybe(s.LastHeard)
	}
	if c := s.Count; b.r.Known(s) {
		x.ReceivedBytes, x.TransmittedBytes = &c.Received, &c.Transmitted
		if x.ClosedAt == nil {
			x.CountedAt = m.maybe(c.At)
		}
	}
	for _, u := range s.Count.Used {
		x.Used = append(x.Used, ReportUse{Target: b.r.targetOf(s, b.r.allowed(s), u), Address: u.Address, Service: u.Service, Others: u.Others, Connections: u.Connections,
			ReceivedBytes: u.ReceivedBytes, TransmittedBytes: u.TransmittedBytes, First: m.local(u.First), Last: m.local(u.Last)})
	}
	if q := p.request; q != nil {
		x.Request, x.RequestedAt, x.RequestedBy, x.Purpose = q.ID, m.maybe(q.Recorded.At), q.Recorded.By, q.Terms.Purpose
		x.ApprovedAt = m.maybe(q.approvedAt(s.OpenedAt))
	}
	return x
}

// lineAt is the line by which a vendor comes, by the policy of an instant; the zero one: any.
func (r *Record) lineAt(vendor string, at time.Time) policy.Line {
	if p := r.At(at); p != nil {
		if v := p.Vendor(vendor); v != nil && v.Line != nil {
			return *v.Line
		}
	}
	return policy.Line{}
}

// Plain reports whether a vendor came by a line without WireGuard at an instant. Its engineers are
// then hosts, and no person is identified.
func (r *Record) Plain(vendor string, at time.Time) bool { return r.lineAt(vendor, at).Plain }

func (r *Record) plain(s *Session) bool { return r.Plain(s.Vendor, s.OpenedAt) }

// Known reports whether the bytes of a session are known. A host has those of its flows alone.
func (r *Record) Known(s *Session) bool { return s.Count.Known && (s.Count.Counted || !r.plain(s)) }

// plan is what was planned of a session.
type plan struct {
	approvedBy, ticket, section string
	request                     *Request
	from, until                 time.Time
}

// openingsOf are the openings on which a session stood, in the order of its grants.
func (r *Record) openingsOf(s *Session) (all []*Opening) {
	for _, id := range s.Grants {
		for _, o := range r.is.openings[id] {
			if slices.Contains(o.Sessions, s.ID) {
				all = append(all, o)
			}
		}
	}
	return all
}

// planOf sums up openings. The first of a request tells who approved it, else the first.
func (r *Record) planOf(all []*Opening) (p plan) {
	var first *Opening
	for _, o := range all {
		if p.from.IsZero() || o.From.Before(p.from) {
			p.from = o.From
		}
		if o.Until.After(p.until) {
			p.until = o.Until
		}
		if first == nil || first.Request == "" && o.Request != "" {
			first = o
		}
	}
	if first == nil {
		return p
	}
	p.section = first.Section
	p.approvedBy, p.ticket = r.approvalOf(first)
	if p.request = r.is.requests[first.Request]; p.request != nil {
		p.ticket = cmp.Or(p.ticket, p.request.Terms.Ticket)
	}
	return p
}

// approvalOf is who approved an opening, and its ticket. Old entries have both in their text; the
// policy tells where the name ends.
func (r *Record) approvalOf(o *Opening) (by, ticket string) {
	if o.ApprovedBy != "" || o.Ticket != "" {
		return o.ApprovedBy, o.Ticket
	}
	text, found := strings.CutPrefix(o.Text, "approved by ")
	if !found {
		return "", ""
	}
	text, _, _ = strings.Cut(text, "; and ")
	if w := r.windowOf(o); w != nil && text == strings.TrimSpace(w.ApprovedBy+" "+w.Ticket) {
		return w.ApprovedBy, w.Ticket
	}
	if q := r.is.requests[o.Request]; q != nil {
		if name, is := strings.CutSuffix(text, " "+q.Terms.Ticket); is && q.Terms.Ticket != "" {
			return name, q.Terms.Ticket
		}
	}
	return text, ""
}

// windowOf is the policy's window of an opening, or nil.
func (r *Record) windowOf(o *Opening) *policy.Window {
	p := r.At(o.OpenedAt)
	if p == nil || p.Vendor(o.Vendor) == nil {
		return nil
	}
	for _, w := range p.Vendor(o.Vendor).Windows {
		if w.Name == o.Window {
			return w
		}
	}
	return nil
}

// approvedAt is when the newest approval before an instant was given; zero: there was none.
func (q *Request) approvedAt(before time.Time) (at time.Time) {
	for _, d := range q.Decisions {
		if (d.Kind == journal.Approved || d.Kind == journal.Extended) && !d.At.After(before) {
			at = d.At
		}
	}
	return at
}
