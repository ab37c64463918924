package page

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"kidoban/gateway/evidence"
	"kidoban/gateway/view"
)

// tenths is a quotient with one digit behind the point.
func tenths(n, of int64) string {
	t := (n*10 + of/2) / of
	return fmt.Sprintf("%d.%d", t/10, t%10)
}

// named is the name for people, or the short name.
func named(short, name string) string { return cmp.Or(name, short) }

// VendorCell is the vendor's name.
func (r *row) VendorCell() string { return named(r.Vendor, r.VendorName) }

// PrimeCell is the name of the prime contractor of a subcontractor.
func (r *row) PrimeCell() string { return r.month.Name(r.Prime) }

// EngineerCell names the engineer, or the host, and then says that no person is identified.
func (r *row) EngineerCell() string {
	if r.Plain {
		return r.month.say("month_host", view.Args{"host": r.Who()})
	}
	return r.Who()
}

// Who is the name of the engineer, or the address of the host.
func (r *row) Who() string {
	if r.Plain && r.Source != "" {
		return r.Source
	}
	return named(r.Engineer, r.EngineerName)
}

// instant shows a time that may not be there.
func (r *row) instant(t *time.Time) string {
	if t == nil {
		return ""
	}
	return r.month.Short(*t)
}

// RequestedCell has the time and the recorder of the request.
func (r *row) RequestedCell() string {
	return strings.TrimSpace(r.instant(r.RequestedAt) + " " + r.RequestedBy)
}

// ApprovedCell has the approver and the time of the approval.
func (r *row) ApprovedCell() string {
	return strings.TrimSpace(r.ApprovedBy + " " + r.instant(r.ApprovedAt))
}

// PlannedCell is the time that was approved.
func (r *row) PlannedCell() string {
	if r.PlannedFrom == nil || r.PlannedUntil == nil {
		return r.month.say("month_unknown", nil)
	}
	return r.month.Span(*r.PlannedFrom, r.PlannedUntil)
}

// ActualCell is the time of the session.
func (r *row) ActualCell() string {
	switch {
	case r.Unused != nil:
		return r.month.say("month_unused", nil)
	case r.ClosedAt != nil || r.Ended == "":
		return r.month.Span(r.OpenedAt, r.ClosedAt)
	case r.LastHeard != nil:
		return r.month.say("month_last_heard", view.Args{"from": r.month.Short(r.OpenedAt), "last": r.month.Short(*r.LastHeard)})
	}
	return r.month.say("month_end_unknown", view.Args{"from": r.month.Short(r.OpenedAt)})
}

// DurationCell is how long the session was open.
func (r *row) DurationCell() string {
	switch minutes, known := r.minutes(); {
	case r.Unused != nil:
		return ""
	case known:
		return r.month.say("month_duration", view.Args{"h": minutes / 60, "min": minutes % 60})
	case r.Ended == "":
		return r.month.say("month_inside", nil)
	}
	return r.month.say("month_unknown", nil)
}

func (r *row) minutes() (n int64, known bool) {
	if r.Unused != nil || r.ClosedAt == nil {
		return 0, false
	}
	return int64(r.ClosedAt.Sub(r.OpenedAt).Round(time.Minute) / time.Minute), true
}

// SourceCell is the address of the engineer's side, with its port.
func (r *row) SourceCell() string {
	if r.Source == "" || r.SourcePort == 0 {
		return r.Source
	}
	if strings.Contains(r.Source, ":") {
		return fmt.Sprintf("[%s]:%d", r.Source, r.SourcePort)
	}
	return fmt.Sprintf("%s:%d", r.Source, r.SourcePort)
}

// UseName names a target that was used.
func (m *month) UseName(u evidence.ReportUse) string {
	if u.Others > 0 {
		return m.say("month_others", view.Args{"count": u.Others})
	}
	return cmp.Or(u.Target, m.say("month_no_target", nil))
}

// useText names a target with its address and service.
func (m *month) useText(u evidence.ReportUse) string {
	return strings.TrimRight(fmt.Sprintf("%s %s %s", m.UseName(u), u.Address, u.Service), " ")
}

// Bytes shows a number of bytes.
func (m *month) Bytes(n int64) string { return view.Bytes(uint64(max(n, 0))) }

// TunnelCell has the bytes of the tunnel, from and to the engineer; empty: there is no tunnel.
func (r *row) TunnelCell() string {
	if r.Plain {
		return ""
	}
	text := func(n *int64) string {
		if n == nil {
			return r.month.say("month_unknown", nil)
		}
		return r.month.Bytes(*n)
	}
	return text(r.ReceivedBytes) + " / " + text(r.TransmittedBytes)
}

// CountedCell says until when bytes were counted, where that is not the session's end.
func (r *row) CountedCell() string {
	if r.CountedAt == nil {
		return ""
	}
	return r.month.say("month_counted_at", view.Args{"at": r.month.Short(*r.CountedAt)})
}

// Uncounted marks a use of targets that is not known in full; empty: it is.
func (r *row) Uncounted() string {
	switch {
	case r.Unused != nil || r.Counted && r.Complete:
		return ""
	case r.Counted:
		return r.month.say("month_partly", nil)
	}
	return r.month.say("month_uncounted", nil)
}

// EndedCell says why the session or the grant ended.
func (r *row) EndedCell() string {
	ended := r.Ended
	if r.Unused != nil {
		ended = r.Unused.Reason
	}
	if code := hostEndings[ended]; r.Plain && code != "" {
		return r.month.say(code, nil)
	}
	return r.month.word(endings[ended], ended)
}

// endings explain why a session or a grant ended.
var endings = map[string]view.Code{
	"window_closed": "ended_window_closed", "policy_changed": "ended_policy_changed", "gateway_shut": "ended_gateway_shut", "vendor_shut": "ended_vendor_shut",
	"engineer_shut": "ended_engineer_shut", "idle": "ended_idle", "superseded": "ended_superseded", "unrecorded": "ended_unrecorded",
	"gateway_stopped": "ended_gateway_stopped", "crashed": "ended_crashed", "revoked": "ended_revoked",
}

// hostEndings are the endings whose text for engineers does not fit a host.
var hostEndings = map[string]view.Code{"idle": "ended_idle_host", "engineer_shut": "ended_host_shut"}

// WorkCell is the text of the work report.
func (r *row) WorkCell() string {
	if r.Work == nil {
		return r.month.say("month_unreported", nil)
	}
	return strings.TrimSpace(r.Work.Text + " " + r.Work.Result)
}

// PersonalData says whether personal data was seen, as reported.
func (r *row) PersonalData() string {
	if r.Work == nil {
		return ""
	}
	said := map[string]view.Code{"yes": "month_personal_yes", "no": "month_personal_no", "": "month_personal_unsaid"}
	return r.month.word(said[r.Work.PersonalData], r.Work.PersonalData)
}

// NoteCell lists the mismatches that name the row.
func (r *row) NoteCell() string { return strings.Join(r.kinds, " ") }
