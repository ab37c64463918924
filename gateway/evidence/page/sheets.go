package page

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"kidoban/gateway/evidence"
	"kidoban/gateway/evidence/sheet"
	"kidoban/gateway/view"
)

// Sheets gives the month of maintenance as tables: its rows, what the sessions used of each target,
// the mismatches, and the refusals. What is not known is no number.
func Sheets(r *evidence.Report, lang view.Language) []sheet.Sheet {
	m := monthOf(r, lang)
	all := []sheet.Sheet{m.rowsSheet(), m.usesSheet(), m.mismatchesSheet(), m.refusedSheet()}
	for i := range all {
		all[i].Footer = m.say("month_footer", view.Args{"month": r.Month, "site": r.Site, "digest": r.Digest})
	}
	return all
}

// column is a column of a table of the month, and what it says of a T.
type column[T any] struct {
	code  view.Code
	width int
	cell  func(T) any
}

func table[T any](m *month, name view.Code, all []T, columns []column[T]) sheet.Sheet {
	s := sheet.Sheet{Name: m.say(name, nil)}
	for _, c := range columns {
		s.Columns = append(s.Columns, sheet.Column{Title: m.say(c.code, nil), Width: c.width})
	}
	for _, x := range all {
		var cells []any
		for _, c := range columns {
			cell := c.cell(x)
			if cell == "" {
				cell = nil
			}
			cells = append(cells, cell)
		}
		s.Rows = append(s.Rows, cells)
	}
	return s
}

func (m *month) allRows() (all []*row) {
	for _, g := range m.Groups {
		all = append(all, g.Rows...)
	}
	return all
}

// instant is a time in the site's zone, as text; nil: there is none.
func (m *month) instant(t *time.Time) any {
	if t == nil {
		return nil
	}
	return m.At(*t)
}

// rowsSheet has the columns that the design of the form asks for, one thing in each.
func (m *month) rowsSheet() sheet.Sheet {
	of := func(use func(*row) any) func(*row) any { // of sessions alone
		return func(r *row) any {
			if r.Unused != nil {
				return nil
			}
			return use(r)
		}
	}
	work := func(text func(*evidence.ReportWork) string) func(*row) any {
		return of(func(r *row) any {
			if r.Work == nil {
				return nil
			}
			return text(r.Work)
		})
	}
	number := func(n *int64) any {
		if n == nil {
			return m.say("month_unknown", nil)
		}
		return *n
	}
	return table(m, "sheet_month", m.allRows(), []column[*row]{
		{"month_number", 6, func(r *row) any { return r.No }},
		{"month_vendor", 22, func(r *row) any { return r.VendorCell() }},
		{"month_prime", 18, func(r *row) any { return r.PrimeCell() }},
		{"month_engineer", 18, func(r *row) any { return r.EngineerCell() }},
		{"month_section", 16, func(r *row) any { return r.Section }},
		{"month_request", 14, func(r *row) any { return r.Request }},
		{"month_ticket", 14, func(r *row) any { return r.Ticket }},
		{"month_requested_at", 17, func(r *row) any { return m.instant(r.RequestedAt) }},
		{"month_requested_by", 14, func(r *row) any { return r.RequestedBy }},
		{"month_approved_name", 16, func(r *row) any { return r.ApprovedBy }},
		{"month_approved_at", 17, func(r *row) any { return m.instant(r.ApprovedAt) }},
		{"month_purpose", 30, func(r *row) any { return r.Purpose }},
		{"month_source", 18, of(func(r *row) any { return r.SourceCell() })},
		{"month_line", 12, func(r *row) any { return r.Line }},
		{"month_targets", 36, func(r *row) any { return r.targets() }},
		{"month_planned_from", 17, func(r *row) any { return m.instant(r.PlannedFrom) }},
		{"month_planned_until", 17, func(r *row) any { return m.instant(r.PlannedUntil) }},
		{"month_actual_from", 17, func(r *row) any {
			if r.Unused != nil {
				return r.ActualCell()
			}
			return m.At(r.OpenedAt)
		}},
		{"month_actual_until", 17, of(func(r *row) any {
			if r.ClosedAt == nil {
				return r.DurationCell()
			}
			return m.At(*r.ClosedAt)
		})},
		{"month_minutes", 9, of(func(r *row) any {
			if n, known := r.minutes(); known {
				return n
			}
			return r.DurationCell()
		})},
		{"month_received", 14, of(func(r *row) any { return number(r.ReceivedBytes) })},
		{"month_transmitted", 14, of(func(r *row) any { return number(r.TransmittedBytes) })},
		{"month_ended", 22, func(r *row) any { return r.EndedCell() }},
		{"month_refused", 9, of(func(r *row) any { return r.Refused })},
		{"month_present", 14, work(func(w *evidence.ReportWork) string { return w.Present })},
		{"month_personal", 14, of(func(r *row) any { return r.PersonalData() })},
		{"month_files", 26, work(func(w *evidence.ReportWork) string { return w.Files })},
		{"month_work", 36, of(func(r *row) any { return r.WorkCell() })},
		{"month_checked", 26, of(func(r *row) any { return m.signed(r.Checked, m.At) })},
		{"month_confirmed", 26, of(func(r *row) any { return m.signed(r.Confirmed, m.At) })},
		{"month_note", 20, func(r *row) any {
			notes := []string{r.NoteCell(), r.CountedCell()}
			if r.Stale {
				notes = append(notes, m.say("month_stale", nil))
			}
			return strings.Join(strings.Fields(strings.Join(notes, " ")), " ")
		}},
		{"month_session", 24, func(r *row) any { return cmp.Or(r.ID, strings.Join(r.Grants, " ")) }},
		{"month_entry_numbers", 14, func(r *row) any { return fmt.Sprintf("%d–%d", r.Entries.From, r.Entries.To) }},
	})
}

// targets names the targets of the session, or of the unused grant.
func (r *row) targets() string {
	if r.Unused != nil {
		return strings.Join(r.Unused.Targets, " / ")
	}
	var all []string
	for _, u := range r.Used {
		all = append(all, r.month.useText(u))
	}
	if uncounted := r.Uncounted(); uncounted != "" {
		all = append(all, uncounted)
	}
	return strings.Join(all, " / ")
}

// useOf is the use of a target, and whose; a nil use: the session's was not counted.
type useOf struct {
	*row
	use *evidence.ReportUse
}

func (m *month) usesSheet() sheet.Sheet {
	var all []useOf
	for _, r := range m.allRows() {
		for _, u := range r.Used {
			all = append(all, useOf{r, &u})
		}
		if len(r.Used) == 0 && r.Unused == nil {
			all = append(all, useOf{row: r})
		}
	}
	of := func(cell func(*evidence.ReportUse) any) func(useOf) any {
		return func(u useOf) any {
			if u.use == nil {
				return u.Uncounted()
			}
			return cell(u.use)
		}
	}
	return table(m, "sheet_sessions", all, []column[useOf]{
		{"month_number", 6, func(u useOf) any { return u.No }},
		{"month_vendor", 22, func(u useOf) any { return u.VendorCell() }},
		{"month_engineer", 18, func(u useOf) any { return u.EngineerCell() }},
		{"month_session", 24, func(u useOf) any { return u.ID }},
		{"month_target", 18, func(u useOf) any {
			if u.use == nil {
				return cmp.Or(u.Uncounted(), m.say("month_none_used", nil))
			}
			return m.UseName(*u.use)
		}},
		{"month_address", 18, of(func(u *evidence.ReportUse) any { return u.Address })},
		{"month_service", 12, of(func(u *evidence.ReportUse) any { return u.Service })},
		{"month_connections", 10, of(func(u *evidence.ReportUse) any { return u.Connections })},
		{"month_received", 14, of(func(u *evidence.ReportUse) any { return u.ReceivedBytes })},
		{"month_transmitted", 14, of(func(u *evidence.ReportUse) any { return u.TransmittedBytes })},
		{"month_first", 17, of(func(u *evidence.ReportUse) any { return m.At(u.First) })},
		{"month_last", 17, of(func(u *evidence.ReportUse) any { return m.At(u.Last) })},
		{"month_counted", 16, func(u useOf) any { return cmp.Or(u.Uncounted(), m.say("month_all_counted", nil)) }},
	})
}

func (m *month) mismatchesSheet() sheet.Sheet {
	return table(m, "sheet_mismatches", m.Mismatches, []column[evidence.Mismatch]{
		{"month_kind", 8, func(x evidence.Mismatch) any { return x.Kind }},
		{"month_difference", 60, func(x evidence.Mismatch) any { return m.Difference(x) }},
		{"month_vendor", 22, func(x evidence.Mismatch) any { return m.Name(x.Vendor) }},
		{"month_where", 26, func(x evidence.Mismatch) any { return cmp.Or(x.Session, x.Grant) }},
		{"month_entry_numbers", 20, func(x evidence.Mismatch) any { return m.Numbers(x.Entries) }},
		{"month_state", 44, func(x evidence.Mismatch) any { return m.State(x) }},
	})
}

func (m *month) refusedSheet() sheet.Sheet {
	return table(m, "sheet_refusals", m.Report.Refused, []column[evidence.ReportRefused]{
		{"month_whom", 30, func(r evidence.ReportRefused) any { return m.Whom(r) }},
		{"month_source", 18, func(r evidence.ReportRefused) any { return r.Source }},
		{"month_target", 24, func(r evidence.ReportRefused) any { return r.Target }},
		{"month_reason", 44, func(r evidence.ReportRefused) any { return m.Reason(r) }},
		{"month_count", 10, func(r evidence.ReportRefused) any { return r.Count }},
		{"month_first", 17, func(r evidence.ReportRefused) any { return m.At(r.First) }},
		{"month_last", 17, func(r evidence.ReportRefused) any { return m.At(r.Last) }},
		{"month_entry_numbers", 24, func(r evidence.ReportRefused) any { return m.Numbers(r.Entries) }},
	})
}
