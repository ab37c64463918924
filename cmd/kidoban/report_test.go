package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kidoban/gateway/api"
	"kidoban/gateway/evidence"
	"kidoban/gateway/view"
)

// aMonth is what a gateway answers of a month.
func aMonth() evidence.Report {
	digest := strings.Repeat("ab", 32)
	return evidence.Report{Version: 1, Month: "2030-12", Site: "Kido Hospital", Timezone: "Asia/Tokyo", Origin: "kidoban/1", Size: 20, AsOf: at("10:00:00"), Digest: digest,
		Vendors: []evidence.VendorSummary{{Vendor: "medisys", Name: "株式会社メディシス"}},
		Sessions: []evidence.ReportSession{{ID: "SESSION1", Vendor: "medisys", Engineer: "sato", Source: "203.0.113.10", OpenedAt: at("09:00:00"), ClosedAt: pointer(at("09:30:00")), Ended: "idle",
			PlannedFrom: pointer(at("09:00:00")), PlannedUntil: pointer(at("17:00:00")), Counted: true, Digest: digest,
			Used: []evidence.ReportUse{{Target: "pacs", Address: "10.1.2.1", Service: "tcp/104", Connections: 2}, {Others: 3}},
			Work: &evidence.ReportWork{At: at("09:40:00"), Text: "checked\x1b[2J the disk"}}},
		Mismatches: []evidence.Mismatch{{Kind: "m02", Entries: []int64{4}, State: "open"}, {Kind: "m02", Entries: []int64{5}, State: "explained"}, {Kind: "m09", Entries: []int64{6}, State: "open"}}}
}

// TestReportOfTheGateway: it is written, and the journal keeps its digest.
func TestReportOfTheGateway(t *testing.T) {
	out := filepath.Join(t.TempDir(), "new", "folder")
	answers := map[string]answer{"GET /v1/evidence/month": {body: aMonth()}, "POST /v1/evidence/reported": {body: api.Noted{Recorded: true}}}
	said, failures, exit, sent := askedOf(t, answers, "report", "--month", "2030-12", "--out", out)
	if exit != 0 || failures != "" {
		t.Fatalf("exit %d: %s", exit, failures)
	}
	for _, want := range []string{"2030-12, Kido Hospital: 1 sessions, 0 unused grants, 0 refusals\n", "mismatch m02: 2, of which 1 not explained\n", "mismatch m09: 1, of which 1 not explained\n", "digest abab"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
	if want := `{"month":"2030-12","digest":"` + strings.Repeat("ab", 32) + `","size":20}`; sent != want {
		t.Errorf("it told the journal %s, want %s", sent, want)
	}
	if text, err := os.ReadFile(filepath.Join(out, "report.html")); err != nil || !strings.Contains(string(text), "not verified: the entries") {
		t.Errorf("report.html: %v", err)
	}
	entries, err := os.ReadDir(out)
	if err != nil || len(entries) != 4 {
		t.Errorf("the folder has %v, %v", entries, err)
	}
}

// TestReportThatIsNotRecorded is there all the same, and it is told.
func TestReportThatIsNotRecorded(t *testing.T) {
	answers := map[string]answer{"GET /v1/evidence/month": {body: aMonth()}, "POST /v1/evidence/reported": {status: 403, body: api.Problem{Status: 403, Detail: "only an operator may"}}}
	out := t.TempDir()
	said, failures, exit, _ := askedOf(t, answers, "report", "--month", "2030-12", "--out", out)
	if exit != 0 || failures != "kidoban: the journal does not say that this report was made: only an operator may\n" || !strings.Contains(said, "report.xlsx") {
		t.Errorf("exit %d: %s%s", exit, said, failures)
	}
}

// TestReportIsPrinted without files: then nothing is recorded.
func TestReportIsPrinted(t *testing.T) {
	said, _, exit, sent := askedOf(t, map[string]answer{"GET /v1/evidence/month": {body: aMonth()}}, "report", "--month", "2030-12", "--json")
	if exit != 0 || sent != "" || !strings.HasPrefix(said, "{\n  \"version\": 1,\n  \"month\": \"2030-12\",\n") {
		t.Errorf("exit %d, sent %q: %.100s", exit, sent, said)
	}
}

// TestReportOfNothing: the gateway's no is the copy's no.
func TestReportOfNothing(t *testing.T) {
	problem := api.Problem{Status: 409, Code: "evidence_vendor_unknown", Args: view.Args{"vendor": "acme", "known": []string{"medisys"}}}
	_, failures, exit, _ := askedOf(t, map[string]answer{"GET /v1/evidence/month": {status: 409, body: problem}}, "report", "--month", "2030-12", "--vendor", "acme", "--json")
	if exit != 3 || failures != "kidoban: neither the journal nor the policy knows a vendor acme: known are medisys\n" {
		t.Errorf("exit %d: %s", exit, failures)
	}
}

// TestSampleOfHosts: by a line without WireGuard nobody is named.
func TestSampleOfHosts(t *testing.T) {
	month := aMonth()
	s := &month.Sessions[0]
	s.Vendor, s.Engineer, s.EngineerName, s.Plain, s.Source = "kyushoku", "host-10-20-0-5", "10.20.0.5", true, "10.20.0.5"
	for lang, want := range map[string]string{"ja": "SESSION1  kyushoku/host-10-20-0-5（個人の識別なし）\n", "en": "SESSION1  kyushoku/host-10-20-0-5 (no person is identified)\n"} {
		said, failures, exit, _ := askedOf(t, map[string]answer{"GET /v1/evidence/month": {body: month}}, "sample", "--month", "2030-12", "--seed", "42", "--lang", lang)
		if exit != 0 || !strings.Contains(said, want) {
			t.Errorf("exit %d: %sno %q in\n%s", exit, failures, want, said)
		}
	}
}

// TestSample: what an auditor ticks off.
func TestSample(t *testing.T) {
	said, failures, exit, sent := askedOf(t, map[string]answer{"GET /v1/evidence/month": {body: aMonth()}}, "sample", "--month", "2030-12", "--seed", "42", "--lang", "ja")
	if exit != 0 || sent != "" {
		t.Fatalf("exit %d: %s", exit, failures)
	}
	for _, want := range []string{"2030-12: 接続 1 件から、番号 42 で 1 件を抽出しました\n", "[ ]  1  SESSION1  medisys/sato\n", "2030-12-09 09:00:00 JST – 2030-12-09 09:30:00 JST", "pacs 10.1.2.1 tcp/104, ほか 3 件, 一部未計上",
		"checked·[2J the disk (2030-12-09)", " 42 接続の番号 | sha256sum\n", "未検証"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
}
