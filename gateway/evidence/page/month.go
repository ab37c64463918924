package page

import (
	"cmp"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"kidoban/gateway/evidence"
	"kidoban/gateway/view"
)

//go:embed month.html
var monthBody string

// Month gives the month of maintenance as a document.
func Month(r *evidence.Report, lang view.Language) ([]byte, error) {
	m := monthOf(r, lang)
	footer := m.say("month_footer", view.Args{"month": r.Month, "site": r.Site, "digest": r.Digest})
	return Document{lang, m.Title() + " " + r.Site, footer}.Print(monthBody, m)
}

// month is a report in a language: what both its document and its tables say.
type month struct {
	*evidence.Report
	lang   view.Language
	zone   *time.Location
	zones  string // in a month in which the offset changes: the layout of the zone's name
	Groups []group
}

// group is a vendor's part of the month.
type group struct {
	evidence.VendorSummary
	Rows []*row
}

// row is a session, or an unused grant.
type row struct {
	*evidence.ReportSession
	month  *month
	No     int
	Prime  string // the vendor's prime contractor
	Unused *evidence.ReportUnused
	kinds  []string // of the mismatches that name it
}

func monthOf(r *evidence.Report, lang view.Language) *month {
	m := &month{Report: r, lang: lang, zone: Zone(r.Timezone)}
	if first, err := time.ParseInLocation("2006-01", r.Month, m.zone); err == nil {
		if first.Format("-0700") != first.AddDate(0, 1, 0).Format("-0700") {
			m.zones = " MST"
		}
	}
	rows := m.rows()
	for _, v := range r.Vendors {
		m.Groups = append(m.Groups, group{v, rows[v.Vendor]})
		delete(rows, v.Vendor)
	}
	number := 0
	for _, g := range m.Groups {
		for _, row := range g.Rows {
			number++
			row.No, row.Prime = number, g.Under
		}
	}
	return m
}

// rows gives the rows of each vendor, in the order of time.
func (m *month) rows() map[string][]*row {
	kinds := map[string][]string{}
	for _, x := range m.Mismatches {
		for _, id := range []string{x.Session, x.Grant} {
			if id != "" && !slices.Contains(kinds[id], x.Kind) {
				kinds[id] = append(kinds[id], x.Kind)
			}
		}
	}
	all := map[string][]*row{}
	for _, s := range m.Sessions {
		all[s.Vendor] = append(all[s.Vendor], &row{ReportSession: &s, month: m, kinds: kinds[s.ID]})
	}
	for _, u := range m.Unused {
		like := &evidence.ReportSession{Vendor: u.Vendor, VendorName: u.VendorName, Engineer: u.Engineer, EngineerName: u.EngineerName, Plain: u.Plain, Section: u.Section, Request: u.Request,
			Ticket: u.Ticket, ApprovedBy: u.ApprovedBy, PlannedFrom: &u.From, PlannedUntil: &u.Until, OpenedAt: u.From, Grants: []string{u.Grant}, Entries: u.Entries}
		all[u.Vendor] = append(all[u.Vendor], &row{ReportSession: like, month: m, Unused: &u, kinds: kinds[u.Grant]})
	}
	for _, rows := range all {
		slices.SortStableFunc(rows, func(a, b *row) int { return a.OpenedAt.Compare(b.OpenedAt) })
	}
	return all
}

// Title names the month, as in 保守作業月報 2026年11月.
func (m *month) Title() string {
	year, number, _ := strings.Cut(m.Month, "-")
	return m.say("month_title", view.Args{"year": year, "number": number})
}

func (m *month) say(code view.Code, args view.Args) string { return view.Say(code, args).In(m.lang) }

// word says what a name of the journal means, or the name itself where that is not known.
func (m *month) word(code view.Code, name string) string { return cmp.Or(m.say(code, nil), name) }

// At shows an instant with its date.
func (m *month) At(t time.Time) string { return t.In(m.zone).Format("2006-01-02 15:04" + m.zones) }

// Short shows an instant without the year, if that is the month's.
func (m *month) Short(t time.Time) string {
	return strings.TrimPrefix(m.At(t), m.Month[:min(len(m.Month), 5)])
}

// Span shows a time, with a second date only where it is another.
func (m *month) Span(from time.Time, until *time.Time) string {
	if until == nil {
		return m.Short(from) + " –"
	}
	end := m.Short(*until)
	if from.In(m.zone).Format(time.DateOnly) == until.In(m.zone).Format(time.DateOnly) {
		end = until.In(m.zone).Format("15:04" + m.zones)
	}
	return m.Short(from) + " – " + end
}

// Hours shows seconds as hours, as in 1.5.
func (m *month) Hours(seconds int64) string {
	return m.say("month_hours", view.Args{"hours": tenths(seconds, 3600)})
}

// Signed shows a signature: name and time; nil is no signature.
func (m *month) Signed(s *evidence.ReportSigned) string { return m.signed(s, m.Short) }

func (m *month) signed(s *evidence.ReportSigned, at func(time.Time) string) string {
	if s == nil {
		return ""
	}
	text := m.say("month_signed", view.Args{"who": m.signer(s), "at": at(s.At)})
	if s.Same {
		text += " " + m.say("month_same", nil)
	}
	return text
}

// signer is the name of a signature, with the login behind it if that is another's.
func (m *month) signer(s *evidence.ReportSigned) string {
	if s.For == "" {
		return s.By
	}
	return m.say("month_signed_for", view.Args{"who": s.For, "by": s.By})
}

// Difference says a mismatch in the reader's language, with the reasons in it.
func (m *month) Difference(x evidence.Mismatch) string {
	said := x.Message()
	if reason := x.Args["reason"]; reason != "" {
		code := cmp.Or(endings[reason], view.ReasonCode(reason, false))
		if x.Code == "mismatch_m09_host" {
			code = view.ReasonCode(reason, true)
		}
		said.Args["reason"] = m.word(code, reason)
	}
	if kind := x.Args["kind"]; kind != "" {
		said.Args["kind"] = m.word(disturbances[kind], kind)
	}
	return cmp.Or(said.In(m.lang), x.Text)
}

// disturbances name the kinds of entries that disturb a session.
var disturbances = map[string]view.Code{"drift": "month_drift", "clock_step": "month_clock_step"}

// Name is a vendor's name for people.
func (m *month) Name(vendor string) string {
	for _, v := range m.Vendors {
		if v.Vendor == vendor {
			return cmp.Or(v.Name, v.Vendor)
		}
	}
	return vendor
}

// State shows the explanation of a mismatch, if there is one.
func (m *month) State(x evidence.Mismatch) string {
	if x.At == nil {
		return m.say("month_open", nil)
	}
	return m.say("month_explained", view.Args{"who": x.By, "at": m.Short(*x.At), "note": x.Note})
}

// Plain reports whether a vendor came by a line without WireGuard.
func (m *month) Plain() bool {
	return slices.ContainsFunc(m.Vendors, func(v evidence.VendorSummary) bool { return v.Plain })
}

// Whom names the refused vendor or engineer.
func (m *month) Whom(r evidence.ReportRefused) string {
	switch {
	case r.Vendor == "":
		return m.say("month_stranger", nil)
	case r.Engineer == "":
		return m.Name(r.Vendor)
	case r.Plain:
		return m.Name(r.Vendor) + " / " + m.say("month_host", view.Args{"host": cmp.Or(r.Source, r.Engineer)})
	}
	return m.Name(r.Vendor) + " / " + r.Engineer
}

// Reason explains a reason of a refusal.
func (m *month) Reason(r evidence.ReportRefused) string {
	return m.word(view.ReasonCode(r.Reason, r.Plain), r.Reason)
}

// Between shows the first and the last of several times.
func (m *month) Between(first, last time.Time) string { return m.Span(first, &last) }

// Numbers lists entries.
func (m *month) Numbers(entries []int64) string {
	return strings.Trim(strings.Join(strings.Fields(fmt.Sprint(entries)), ", "), "[]")
}
