package gateway

import (
	"github.com/google/go-cmp/cmp"

	"kidoban/gateway/evidence"
	"kidoban/gateway/journal"
)

// shows reads the record of the journal. Every session is a row of one month, and none is without a grant.
// A record that was asked all the time knows what one knows that reads the whole.
func (s *simulation) shows() {
	live, whole := evidence.NewRecord(nil), evidence.NewRecord(nil)
	opened := map[string]int{}
	months := map[string]bool{}
	for i, e := range s.durable() {
		e.Index = int64(i)
		live.Add(e)
		whole.Add(e)
		if i%10 == 0 {
			live.Unreviewed(e.Time)
		}
		months[e.Time.UTC().Format("2006-01")] = true
		if e.Kind == journal.SessionOpened {
			opened[e.Session]++
		}
	}
	for month := range months {
		report, err := whole.Month(month, "")
		if err != nil {
			s.t.Errorf("%s: %v", month, err)
			continue
		}
		for _, x := range report.Sessions {
			opened[x.ID]--
		}
		for _, m := range report.Mismatches {
			if m.Kind == "m01" && s.forgetful == 0 {
				s.t.Errorf("%s, entries %v", m.Text, m.Entries)
			}
		}
	}
	for id, n := range opened {
		if n != 0 {
			s.t.Errorf("session %s is missing in %d rows", id, n)
		}
	}
	if diff := cmp.Diff(whole.Unreviewed(whole.Now), live.Unreviewed(whole.Now)); diff != "" {
		s.t.Errorf("unreviewed (-read +followed):\n%s", diff)
	}
}
