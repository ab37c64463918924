package page

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kidoban/config"
	"kidoban/gateway/evidence"
	"kidoban/gateway/evidence/catalogue"
	"kidoban/gateway/evidence/sheet"
	"kidoban/gateway/journal"
	"kidoban/gateway/view"
)

const sitePolicy = `version: 1
site: %s
timezone: Asia/Tokyo
tunnel: {addresses: [10.99.0.1/24], endpoint: "vpn.example.jp:51820"}
targets:
  ehr-db: {address: 10.1.0.5, ports: [tcp/22, icmp]}
  pacs: {address: 10.1.2.0/28, ports: [tcp/104, tcp/3389]}
vendors:
  medisys:
    name: 株式会社メディシス
    contract: {until: 2027-03-31}
    sources: [203.0.113.10, 203.0.113.11]
    engineers:
      sato: {name: 佐藤, public_key: "2wwiNhY3WZPk0uE7XO1A/ZgbKPSlgHhNALW7A44oVAc=", addresses: [10.99.0.2]}
    windows:
      night: {days: [mon], from: "22:00", to: "24:00", valid: {until: 2027-03-31}, targets: [ehr-db, pacs], approved_by: 田中}
  elec:
    name: 木戸電設
    sources: [198.51.100.7]
    engineers:
      ito: {name: 伊藤, public_key: "QXhczrLgmMRTqSJGY+dOn0gxco9yePgqMB5L1b55iGI=", addresses: [10.99.0.3]}
    windows:
      check: {once: {from: "2026-11-20T10:00", until: "2026-11-20T12:00"}, targets: [pacs], approved_by: 田中}
`

// inspected is the inspection of a site with two sessions in November, and with answers of persons.
func inspected(t *testing.T, site string, o catalogue.Options) catalogue.Inspection {
	t.Helper()
	r := evidence.NewRecord(config.ReadPast)
	n := int64(0)
	add := func(day, hour, minute int, e journal.Entry) {
		e.Index, e.Time = n, on(day, hour, minute)
		n++
		r.Add(e)
	}
	answer := func(a evidence.Answer) {
		text, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		add(29, 10, int(n%60), journal.Entry{Kind: journal.Answer, Actor: "tanaka", Event: text})
	}
	yes := true
	add(1, 9, 0, journal.Entry{Kind: journal.Start})
	add(1, 9, 0, journal.Entry{Kind: journal.PolicyText, Digest: "d1", Text: fmt.Sprintf(sitePolicy, site)})
	add(1, 9, 0, journal.Entry{Kind: journal.PolicyLoaded, Digest: "d1"})
	for _, v := range [][4]string{{"medisys", "sato", "203.0.113.10", "田中"}, {"elec", "ito", "198.51.100.7", ""}} {
		grant := v[0] + "/" + v[1] + "/w@1"
		who := journal.Entry{Vendor: v[0], Engineer: v[1]}
		opened, admitted, begun, used, ended, closed := who, who, who, who, who, who
		opened.Kind, opened.Grant, opened.Window, opened.From, opened.Until, opened.ApprovedBy, opened.Targets = journal.WindowOpened, grant, "w", on(28, 22, 0), on(28, 23, 30), v[3], []string{"pacs"}
		admitted.Kind, admitted.Source, admitted.Timestamp = journal.Admission, v[2], "T"+v[0]
		begun.Kind, begun.Source, begun.Timestamp, begun.Session, begun.Grants = journal.SessionOpened, v[2], "T"+v[0], "S-"+v[0], []string{grant}
		used.Kind, used.Session, used.Complete, used.Used = journal.Used, "S-"+v[0], &yes, []journal.Use{{Target: "pacs", Address: "10.1.2.3", Service: "tcp/104", Connections: 2}}
		ended.Kind, ended.Session, ended.Reason, ended.ReceivedBytes = journal.SessionClosed, "S-"+v[0], "idle", 4000
		closed.Kind, closed.Grant, closed.Reason = journal.WindowClosed, grant, "end"
		for k, e := range []journal.Entry{opened, admitted, begun, used, ended, closed} {
			add(28, 22+len(v[0])%2, 2*k, e)
		}
	}
	answer(evidence.Answer{Control: "01", Answer: "yes", For: "田中 誠", Text: "接続元の固定IPで機器を限定していると判断"})
	answer(evidence.Answer{Control: "04", Answer: "yes", For: "田中 誠", Text: "口頭で承認した"})
	answer(evidence.Answer{Control: "10", Answer: "no", For: "田中 誠", Text: "検査機器の別回線が残る", TargetDate: "2027-03-15"})
	answer(evidence.Answer{Control: "11", Answer: "no", For: "田中 誠", Text: "給食の回線を調査中", TargetDate: "2027-06-30"})
	answer(evidence.Answer{Control: "24", Answer: "na", Text: "ファイルの持ち込みを禁止している", Until: on(30, 0, 0).AddDate(0, 6, 0)})
	answer(evidence.Answer{Control: "12", Vendor: "medisys", Answer: "yes", For: "保守部長"})
	add(30, 9, 0, journal.Entry{Kind: journal.Warned})
	i, err := catalogue.Inspect(r, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// sent is an inspection as the gateway's answer has it.
func sent(t *testing.T, i catalogue.Inspection) (got catalogue.Inspection) {
	t.Helper()
	text, err := json.Marshal(i)
	if err == nil {
		err = json.Unmarshal(text, &got)
	}
	if err != nil {
		t.Fatal(err)
	}
	return got
}

const (
	clinic     = "{name: 木戸市民病院, size: small, tier: 1, reason: 情報担当が一人のため}"
	prefecture = "{name: 木戸県, size: large, sensitivity: mynumber}"
)

// inspections are those whose print is held in testdata.
var inspections = []struct {
	name, site, order string
	options           catalogue.Options
}{
	{"hospital", clinic, "cl-r7", catalogue.Options{}},
	{"prefecture", prefecture, "mic", catalogue.Options{}},
	{"vendor", clinic, catalogue.ByID, catalogue.Options{Tier: 2, Vendor: "medisys"}},
}

// TestInspection holds the text of inspections of a small hospital and of a prefecture, and of a vendor's
// form, from one catalogue. With -update it is written anew.
func TestInspection(t *testing.T) {
	for _, test := range inspections {
		test.options.Origin, test.options.Checkpoint, test.options.Verified = "kidoban/kido/1a2b", "kidoban/kido/1a2b\n22\nq7uDqGJ0s0y6Gx3bK0jvQx0O2u2m1p6f0b3yQ1v7R2k=\n", true
		for _, lang := range languages {
			i := inspected(t, test.site, test.options)
			document, err := Inspection(i, test.order, lang)
			if err != nil {
				t.Fatal(err)
			}
			if again, _ := Inspection(i, test.order, lang); !bytes.Equal(again, document) {
				t.Errorf("%s: the same inspection gives other bytes", test.name)
			}
			if again, _ := Inspection(sent(t, i), test.order, lang); !bytes.Equal(again, document) {
				t.Errorf("%s: an inspection that came as JSON gives other bytes", test.name)
			}
			got := textOf(t, string(document))
			for _, s := range InspectionSheets(i, test.order, lang) {
				got += fmt.Sprintf("\n%s\n%s", s.Name, bytes.ReplaceAll(s.CSV(), []byte("\r"), nil))
			}
			name := filepath.Join("testdata", "inspection-"+test.name+"-"+string(lang)+".txt")
			if *update {
				if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-file +printed):\n%s", name, diff)
			}
		}
	}
}

// TestInspectionsPrintNothingUnverified, in any order and language; and 2-⑬ is always our reading.
func TestInspectionsPrintNothingUnverified(t *testing.T) {
	for _, order := range catalogue.Orders() {
		for _, lang := range languages {
			for _, vendor := range []string{"", "medisys"} {
				i := inspected(t, prefecture, catalogue.Options{Vendor: vendor})
				document, err := Inspection(i, order, lang)
				if err != nil {
					t.Fatal(err)
				}
				text := textOf(t, string(document))
				for _, s := range InspectionSheets(i, order, lang) {
					text += string(s.CSV()) + string(sheet.XLSX(s))
				}
				for _, word := range []string{"7.0", "§14⑤", "RE 2", "CISA", "unverified"} {
					if strings.Contains(text, word) {
						t.Errorf("%s, %s, vendor %q: %q is printed", order, lang, vendor, word)
					}
				}
				for line := range strings.Lines(text) {
					if strings.Contains(line, "2-⑬ ※") && !strings.Contains(line, view.Say("inspect_ours", nil).In(lang)) {
						t.Errorf("%s, %s: 2-⑬ is printed without our reading: %s", order, lang, line)
					}
				}
			}
		}
	}
}

// TestFormsAnswers: on the form of yes and no, others stay blank, and a no has its target date.
func TestFormsAnswers(t *testing.T) {
	i := inspected(t, clinic, catalogue.Options{})
	p := inspectionOf(i, "cl-r7", view.Japanese)
	form := p.Sections[0]
	if !form.Form || len(form.Rows) != 2 || form.Rows[0].ID != "11" || form.Rows[1].ID != "01" {
		t.Fatalf("the form has %+v", form)
	}
	if got := form.Rows[0].DueText(); !strings.Contains(got, "2027-06-30") || !strings.Contains(got, "年度") {
		t.Errorf("the target date beyond the fiscal year is printed as %q", got)
	}
	if got := form.Rows[1].AnsweredOn(); got != "2026-11-30" && got != "2026-11-29" {
		t.Errorf("01 was answered on %q", got)
	}
	for date, want := range map[string]bool{"2027-03-31": false, "2027-04-01": true} {
		if got := catalogue.BeyondYear(date, on(30, 9, 0)); got != want {
			t.Errorf("%s lies beyond the fiscal year of November 2026: %v", date, got)
		}
		if got := catalogue.BeyondYear(date, time.Date(2027, 3, 31, 23, 0, 0, 0, tokyo)); got != want {
			t.Errorf("%s lies beyond the fiscal year of 31 March 2027: %v", date, got)
		}
	}
}
