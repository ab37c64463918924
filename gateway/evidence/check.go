package evidence

import (
	"fmt"
	"slices"
	"time"

	"kidoban/gateway/view"
)

// CheckWork says why a work report cannot be about its sessions, as a *view.Error, or nil.
func (r *Record) CheckWork(w WorkReport) error {
	var wrong []string
	for _, id := range w.Sessions {
		if !slices.ContainsFunc(r.Sessions, func(s *Session) bool { return s.ID == id && s.Vendor == w.Vendor }) {
			wrong = append(wrong, id)
		}
	}
	if len(wrong) > 0 {
		return &view.Error{Message: view.Say("work_sessions", view.Args{"sessions": wrong, "vendor": w.Vendor})}
	}
	if !slices.Contains(r.vendors(), w.Vendor) {
		return &view.Error{Message: view.Say("evidence_vendor_unknown", view.Args{"vendor": w.Vendor, "known": r.vendors()})}
	}
	return nil
}

// NextIncident is the id of an incident that is opened now: i, the date, and a number.
func (r *Record) NextIncident(now time.Time) string {
	for n := 1; ; n++ {
		id := fmt.Sprintf("i-%s-%d", now.Format("20060102"), n)
		if !slices.ContainsFunc(r.Incidents, func(i *Incident) bool { return i.Is.ID == id }) {
			return id
		}
	}
}
