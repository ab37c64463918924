package audit

import (
	"strings"
	"testing"
	"time"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/journal"
	"kidoban/gateway/view"
)

// A line shows the names for people beside the short ones.
func TestTheJournalIsListedWithNames(t *testing.T) {
	e := journal.Entry{Kind: journal.SessionOpened, Vendor: "medisys", VendorName: "株式会社メディシス", Engineer: "sato", EngineerName: "佐藤\n太郎"}
	for want, e := range map[string]journal.Entry{
		"  medisys/sato (株式会社メディシス 佐藤·太郎)": e,
		"  medisys/sato": {Kind: e.Kind, Vendor: e.Vendor, Engineer: e.Engineer},
	} {
		if got := lineOf(&terminal.Program{Zone: time.UTC}, 7, e, time.Time{}); !strings.HasSuffix(got, want) {
			t.Errorf("listed as %q, want the end %q", got, want)
		}
	}
}

// TestTheJournalListsDecisions: a line says who did what to which request, until when and why.
func TestTheJournalListsDecisions(t *testing.T) {
	now := time.Date(2030, 1, 1, 20, 0, 0, 0, time.UTC)
	entry := func(kind journal.Kind, change func(*journal.Entry)) journal.Entry {
		e := journal.Entry{Kind: kind, Time: now, Actor: "tanaka", Vendor: "medisys", Request: "~7k2m9x"}
		if change != nil {
			change(&e)
		}
		return e
	}
	for want, e := range map[string]journal.Entry{
		"requested       medisys  request ~7k2m9x  the server is slow  begins 2030-01-01 21:00:00 UTC  until 2030-01-01 23:00:00 UTC  by tanaka": entry(journal.Requested, func(e *journal.Entry) {
			e.Reason, e.From, e.Until = "the server is slow", now.Add(time.Hour), now.Add(3*time.Hour)
		}),
		"requested       medisys  request ~7k2m9x  the server is down  until 2030-01-01 23:00:00 UTC  emergency  by tanaka": entry(journal.Requested, func(e *journal.Entry) {
			e.Reason, e.From, e.Until, e.Text = "the server is down", now, now.Add(3*time.Hour), "emergency"
		}),
		"approved        medisys  request ~7k2m9x  by tanaka":                                entry(journal.Approved, nil),
		"denied          medisys  request ~7k2m9x  not tonight  by tanaka":                   entry(journal.Denied, func(e *journal.Entry) { e.Reason = "not tonight" }),
		"extended        medisys  request ~7k2m9x  until 2030-01-01 23:00:00 UTC  by tanaka": entry(journal.Extended, func(e *journal.Entry) { e.Until = now.Add(3 * time.Hour) }),
		"revoked         medisys  request ~7k2m9x  wrong server  by tanaka":                  entry(journal.Revoked, func(e *journal.Entry) { e.Scope, e.Reason = "~7k2m9x", "wrong server" }),
		"window_opened   medisys/sato  request ~7k2m9x":                                      entry(journal.WindowOpened, func(e *journal.Entry) { e.Engineer, e.Window, e.Actor = "sato", "~7k2m9x", "gateway" }),
	} {
		if got := lineOf(&terminal.Program{Zone: time.UTC}, 7, e, time.Time{}); !strings.HasSuffix(got, "  "+want) {
			t.Errorf("listed as %q, want the end %q", got, want)
		}
	}
	for want, e := range map[string]journal.Entry{
		"承認 伊藤 INC-311": entry(journal.WindowOpened, func(e *journal.Entry) { e.Text, e.Actor = "approved by 伊藤 INC-311", "gateway" }),
		"残り 5 分":        entry(journal.Warned, func(e *journal.Entry) { e.Count, e.Actor = 5, "gateway" }),
	} {
		if got := lineOf(&terminal.Program{Zone: time.UTC, Lang: view.Japanese}, 7, e, time.Time{}); !strings.HasSuffix(got, "  "+want) {
			t.Errorf("listed as %q, want the end %q", got, want)
		}
	}
	e := entry(journal.Requested, func(e *journal.Entry) { e.Reason, e.From = "サーバーが遅い", now.Add(time.Hour) })
	if got, want := lineOf(&terminal.Program{Zone: time.UTC, Lang: view.Japanese}, 7, e, time.Time{}), "medisys  申請 ~7k2m9x  サーバーが遅い  開始 2030-01-01 21:00:00 UTC  実行者 tanaka"; !strings.HasSuffix(got, want) {
		t.Errorf("listed as %q, want the end %q", got, want)
	}
}
