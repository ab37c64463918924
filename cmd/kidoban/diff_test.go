package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/api"
	"kidoban/gateway/policy"
)

// TestDiff: what another policy changes, and what the next days open in addition, or not
// any more.
func TestDiff(t *testing.T) {
	const text = `version: 1
site: Kido Hospital
timezone: Asia/Tokyo
tunnel: {addresses: [10.99.0.1/24], endpoint: "gate.example.jp:51820"}
targets:
  ehr-db: {address: 10.1.0.5, ports: [tcp/22]}
  pacs: {address: 10.1.0.6, ports: [tcp/104]}
vendors:
  medisys:
    contract: {until: 2199-12-31}
    sources: [198.18.0.10]
    engineers:
      sato: {public_key: "2wwiNhY3WZPk0uE7XO1A/ZgbKPSlgHhNALW7A44oVAc=", addresses: [10.99.0.2]}
      mori: {public_key: "QXhczrLgmMRTqSJGY+dOn0gxco9yePgqMB5L1b55iGI=", addresses: [10.99.0.3]}
    windows:
      work: {once: {from: DAYT20:00, until: DAYT22:00}, targets: [ehr-db], approved_by: Head of IT, ticket: CHG-1}
`
	zone, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	day := time.Now().In(zone).AddDate(0, 0, 3).Format(time.DateOnly)
	folder := t.TempDir()
	write := func(name string, edits ...string) string {
		t.Helper()
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(strings.NewReplacer(edits...).Replace(text), "DAY", day)), 0o640); err != nil {
			t.Fatal(err)
		}
		return path
	}
	older := write("old.yaml")
	newer := write("new.yaml", "until: DAYT22:00", "until: DAYT23:30", "targets: [ehr-db]", "targets: [pacs], engineers: [sato]")
	const changes = "  changed window medisys/work: once DAYT20:00..DAYT22:00 -> DAYT20:00..DAYT23:30; targets ehr-db -> pacs; engineers - mori\n  nothing would close or open now\n"
	const tables = `
In the next 30 days it would also open:
FROM (JST)            UNTIL  ENGINEERS     TARGETS
Day DAY 20:00  23:30  medisys/sato  pacs tcp/104

In the next 30 days it would not open any more:
FROM (JST)            UNTIL  ENGINEERS                  TARGETS
Day DAY 20:00  22:00  medisys/mori,medisys/sato  ehr-db tcp/22
`
	var inForce api.InForce
	{
		out, failures, exit, _ := askedOf(t, nil, "diff", "--json", older, newer)
		var got diffAnswer
		if err := json.Unmarshal([]byte(out), &got); err != nil || exit != terminal.Yes {
			t.Fatalf("exit %d, %v: %s%s", exit, err, out, failures)
		}
		if got.Old != older || got.New != newer || len(got.Differences) != 1 || len(got.Opens) != 1 || len(got.Closes) != 2 || got.Closes[0].Engineer != "medisys/mori" {
			t.Errorf("JSON: %s", out)
		}
		inForce = api.InForce{Digest: got.InForce, Text: strings.ReplaceAll(text, "DAY", day), Ready: true}
	}
	answers := map[string]answer{"GET /v1/policy": {body: inForce}}
	for _, c := range []struct {
		name, args, want string
		exit             int
	}{
		{"two files", older + " " + newer, newer + " changes this of " + older + ":\n" + changes + tables, terminal.Yes},
		{"the same", older + " " + older, older + " says the same as " + older + ".\n", terminal.Yes},
		{"the one in force", newer, "A reload would change this of the policy in force, " + inForce.Digest[:12] + ":\n" + changes + tables, terminal.Yes},
		{"the same as in force", older, "It says the same as the policy in force, " + inForce.Digest[:12] + ".\n", terminal.Yes},
		{"three files", "a b c", "kidoban: one or two files: kidoban diff [OLD] NEW\n", terminal.Usage},
		{"mistakes", write("bad.yaml", "version: 1", "version: 2"), filepath.Join(folder, "bad.yaml") + ":1:10: version: version \"2\" is not known: allowed is 1; a newer kidoban may know it\n", terminal.Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, failures, exit, _ := askedOf(t, answers, append([]string{"diff"}, strings.Fields(c.args)...)...)
			got := regexp.MustCompile(`(?m)^\w{3} DAY`).ReplaceAllString(strings.ReplaceAll(out+failures, day, "DAY"), "Day DAY")
			if diff := cmp.Diff(c.want, got); diff != "" || exit != c.exit {
				t.Errorf("exit %d (-want +got):\n%s", exit, diff)
			}
		})
	}
	out, failures, exit, _ := askedOf(t, answers, "diff", "--lang", "ja", older, newer)
	if exit != terminal.Yes || !strings.Contains(out, "\n今後 30 日間に開かなくなるもの:\n") {
		t.Errorf("in Japanese: exit %d, %s%s", exit, out, failures)
	}
	var nobody strings.Builder
	if exit := run([]string{"diff", newer}, []string{"KIDOBAN_ADMIN_SOCKET=" + filepath.Join(folder, "none.sock")}, &nobody, &nobody); exit != terminal.Failed || !strings.Contains(nobody.String(), "no gateway runs at") {
		t.Errorf("without a gateway: exit %d, %s", exit, nobody.String())
	}
}

// TestDiffNamesRequests: an edit that voids an approved request says so before it is
// reloaded, and what the request would have opened.
func TestDiffNamesRequests(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	now := time.Now().Truncate(time.Second)
	terms := asked().Terms
	terms.From, terms.Until = now.Add(24*time.Hour).UTC(), now.Add(26*time.Hour).UTC()
	scheduled := &policy.Request{Requested: policy.Requested{Terms: terms, By: "tanaka"}, At: now, Approvals: []policy.Sign{{By: "mori", At: now}}}
	later := *scheduled
	later.Ends = []policy.End{{Version: 2, Until: terms.From.Add(3 * time.Hour), Approvals: scheduled.Approvals}}
	undecided := *scheduled
	undecided.Approvals = nil
	answerOf := func(r *policy.Request) map[string]answer {
		return map[string]answer{"GET /v1/policy": {body: api.InForce{Digest: strings.Repeat("0", 64), Text: requestPolicy, Ready: true, Requests: []*policy.Request{r}}}}
	}
	for _, c := range []struct {
		name    string
		of      *policy.Request
		edit    []string
		want    string // empty: nothing about requests
		closing bool
	}{
		{"a comment", scheduled, []string{"version: 1", "version: 1 # one"}, "", false},
		{"the name of an operator", scheduled, []string{"tanaka: {", "tanaka: {name: 田中, "}, "", false},
		{"a key", scheduled, []string{"2wwiNhY3WZPk0uE7XO1A/ZgbKPSlgHhNALW7A44oVAc=", "QXhczrLgmMRTqSJGY+dOn0gxco9yePgqMB5L1b55iGI="},
			"request ~7k2m9x of medisys would be void; it is scheduled: an engineer is not there any more, or has another key", true},
		{"an approver", scheduled, []string{"approvers: [tanaka, mori]", "approvers: [tanaka]", "approvals: 1", "approvals: 1\n      self_approval: true"},
			"request ~7k2m9x of medisys would be requested; it is scheduled", true},
		{"a port", scheduled, []string{"tcp/22, icmp", "tcp/22"}, "request ~7k2m9x of medisys would open less: a target is not there any more, or has another address or other services", true},
		{"a shorter duration", &later, []string{"max_duration: 4h", "max_duration: 2h"}, "request ~7k2m9x of medisys would end at UNTIL", true},
		{"of an undecided one", &undecided, []string{"engineers: [sato]\n      valid", "engineers: [sato]\n      undecided: 1h\n      valid"}, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(strings.NewReplacer(c.edit...).Replace(requestPolicy)), 0o640); err != nil {
				t.Fatal(err)
			}
			out, failures, exit, _ := askedOf(t, answerOf(c.of), "diff", path)
			got := regexp.MustCompile(`[0-9-]{10} [0-9:]{8} JST`).ReplaceAllString(out, "UNTIL")
			if exit != terminal.Yes || strings.Contains(got, "  request ") != (c.want != "") || !strings.Contains(got, c.want) || strings.Contains(got, "would not open any more") != c.closing {
				t.Errorf("exit %d, want %q: %s%s", exit, c.want, got, failures)
			}
		})
	}
}
