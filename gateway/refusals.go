package gateway

import (
	"encoding/hex"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/tally"
)

func (l *loop) refused(f policy.Fact) {
	if f.At.IsZero() {
		f.At = l.clock.Now
	}
	if f.Engineer == nil {
		f.Engineer = f.Decision.Engineer
	}
	if f.Engineer != nil && f.To.IsValid() {
		f.Source = l.sessions.Source(f.Engineer) // the flow's own source is inside the tunnel
	}
	l.refusals.Add(f)
	l.cfg.Metrics.Refused(f)
}

// refusedEntries makes journal entries of the summaries that are due.
func refusedEntries(all []tally.Due) []journal.Entry {
	var entries []journal.Entry
	for _, d := range all {
		e := journal.Entry{Kind: journal.Refused, Actor: "gateway", Vendor: d.Vendor, VendorName: d.VendorName, Engineer: d.Engineer, EngineerName: d.EngineerName,
			Reason: d.Reason, Target: d.Target, Count: int64(d.Count), First: d.First, Last: d.Last}
		if d.Source.IsValid() {
			e.Source = d.Source.String()
		}
		if d.Timestamp != [12]byte{} {
			e.Key, e.Timestamp = d.Key.String(), hex.EncodeToString(d.Timestamp[:])
		}
		entries = append(entries, e)
	}
	return entries
}
