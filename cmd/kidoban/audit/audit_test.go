package audit

import (
	"strings"
	"testing"
	"time"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/journal"
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
