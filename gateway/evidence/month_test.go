package evidence

import (
	"testing"
	"time"

	"kidoban/gateway/journal"
)

// TestMonthOfOneSession: a row has what the entries say.
func TestMonthOfOneSession(t *testing.T) {
	r := NewRecord(nil)
	at := time.Date(2026, 11, 5, 0, 0, 0, 0, time.UTC)
	yes := true
	for i, e := range []journal.Entry{
		{Kind: journal.WindowOpened, Vendor: "medisys", Engineer: "sato", Window: "day", Grant: "medisys/sato/day@1", From: at, Until: at.Add(time.Hour), Targets: []string{"ehr"}, Text: "approved by Tanaka R-1"},
		{Kind: journal.SessionOpened, Vendor: "medisys", Engineer: "sato", Session: "S", Grants: []string{"medisys/sato/day@1"}, Source: "203.0.113.1"},
		{Kind: journal.Used, Vendor: "medisys", Engineer: "sato", Session: "S", Complete: &yes, Used: []journal.Use{{Target: "ehr", Address: "10.0.0.1", Service: "tcp/443", Connections: 1}}},
		{Kind: journal.SessionClosed, Vendor: "medisys", Engineer: "sato", Session: "S", Grants: []string{"medisys/sato/day@1"}, Reason: "idle", ReceivedBytes: 5},
	} {
		e.Index, e.Time = int64(i), at.Add(time.Duration(i)*time.Minute)
		r.Add(e)
	}
	x, err := r.Month("2026-11", "")
	if err != nil || len(x.Sessions) != 1 || x.Sessions[0].ApprovedBy != "Tanaka R-1" || !x.Sessions[0].Complete || *x.Sessions[0].ReceivedBytes != 5 || x.Vendors[0].UsedSeconds != 120 {
		t.Fatalf("%+v %v", x, err)
	}
}
