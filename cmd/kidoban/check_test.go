package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/api"
	"kidoban/gateway/policy"
)

// TestFault103CheckSaysWhatAReloadWouldChange: check compares a file with the policy in
// force, and says what would close and open at once.
func TestFault103CheckSaysWhatAReloadWouldChange(t *testing.T) {
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
      work: {days: [sun, mon, tue, wed, thu, fri, sat], from: "00:00", to: "24:00", valid: {until: 2199-12-31}, targets: [ehr-db], engineers: [sato], approved_by: Head of IT, ticket: CHG-1}
`
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	write(text)
	var first struct{ Digest string }
	out, failures, _, _ := askedOf(t, map[string]answer{"GET /v1/policy": {404, api.Problem{Status: 404, Detail: "/v1/policy is not there"}}}, "check", "--json", path)
	if err := json.Unmarshal([]byte(out), &first); err != nil || !strings.Contains(out, `"not_compared":"/v1/policy is not there"`) {
		t.Fatalf("of an older gateway: %s%s", out, failures)
	}
	inForce := api.InForce{Digest: first.Digest, Text: text, Ready: true}
	shut := inForce
	shut.Shut = []policy.ShutRecord{{Scope: "medisys"}}
	doubted := inForce
	doubted.Ready = false
	rekeyed := inForce
	rekeyed.Digest = strings.Repeat("0", 64)
	damaged := inForce
	damaged.Text = strings.Replace(text, "version: 1", "version: 2", 1)
	digest := first.Digest[:12]
	edit := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(text) }
	other := edit("10.1.0.5", "10.1.0.7", "targets: [ehr-db], engineers: [sato]", "targets: [ehr-db, pacs], engineers: [mori]", `to: "24:00"`, `to: "23:59:59"`)
	changes := "  changed target ehr-db: address 10.1.0.5 -> 10.1.0.7; used by the windows medisys/work\n" +
		"  changed window medisys/work: to 24:00 -> 23:59:59; targets + pacs; engineers sato -> mori\n"
	for _, c := range []struct {
		name     string
		of       api.InForce
		file     string
		language string
		want     string // between the digest and the calendar
	}{
		{"the same", inForce, text, "en", "It says the same as the policy in force, " + digest + ".\n"},
		{"a comment", inForce, "# a comment\n" + text, "ja", "有効なポリシー " + digest + " と同じ内容です。\n"},
		{"a calendar", inForce, text + "calendars: {off: {dates: [2030-01-01]}}\n", "en",
			"A reload would change this of the policy in force, " + digest + ":\n  added calendar off: dates 2030-01-01\n  nothing would close or open now\n"},
		{"more and less", inForce, strings.Replace(other, `to: "23:59:59"`, `to: "24:00"`, 1), "en", "A reload would change this of the policy in force, " + digest + ":\n" +
			strings.Replace(changes, "to 24:00 -> 23:59:59; ", "", 1) +
			"  would close now: medisys/sato: ehr-db tcp/22\n  would open now: medisys/mori: ehr-db tcp/22, pacs tcp/104, until UNTIL\n"},
		{"in Japanese", inForce, strings.Replace(text, "engineers: [sato]", "engineers: [mori]", 1), "ja", "反映すると、有効なポリシー " + digest + " から次のように変わります:\n" +
			"  変更: 許可時間帯 medisys/work（engineers: sato → mori）\n" +
			"  反映するとすぐに閉じる許可: medisys/sato: ehr-db tcp/22\n  反映するとすぐに開く許可: medisys/mori: ehr-db tcp/22（UNTIL まで）\n"},
		{"of a vendor that is shut", shut, other, "en", "A reload would change this of the policy in force, " + digest + ":\n" + changes + "  nothing would close or open now\n"},
		{"of a gateway in doubt", doubted, other, "en", "A reload would change this of the policy in force, " + digest + ":\n" + changes + "  NOT READY: nobody may enter\n"},
		{"preshared keys that are not as they were", rekeyed, text, "en", "A reload would change this of the policy in force, 000000000000:\n" +
			"  preshared keys are compared by the names of their files: one has changed since it was loaded, or cannot be read\n  nothing would close or open now\n"},
		{"a policy that this program does not take", damaged, text, "en", "Not compared with a policy in force: the policy in force:1:10: version: version \"2\" is not known: allowed is 1; a newer kidoban may know it\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(c.file)
			out, failures, exit, _ := askedOf(t, map[string]answer{"GET /v1/policy": {body: c.of}}, "check", "--lang", c.language, path)
			parts := strings.SplitN(out, "\n\n", 3)
			if len(parts) != 3 || exit != terminal.Yes {
				t.Fatalf("exit %d: %s%s", exit, out, failures)
			}
			got := regexp.MustCompile(`[0-9-]{10} [0-9:]{8} JST`).ReplaceAllString(parts[1]+"\n", "UNTIL")
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	write(strings.Replace(text, "engineers: [sato]", "engineers: [mori]", 1))
	out, failures, exit, _ := askedOf(t, map[string]answer{"GET /v1/policy": {body: inForce}}, "check", "--json", path)
	var got struct{ Compared api.Comparison }
	if err := json.Unmarshal([]byte(out), &got); err != nil || exit != terminal.Yes {
		t.Fatalf("exit %d, %v: %s%s", exit, err, out, failures)
	}
	if c := got.Compared; c.InForce != first.Digest || !c.Ready || !c.Exact || len(c.Differences) != 1 || len(c.Closes) != 1 || len(c.Opens) != 1 || c.Opens[0].Engineer != "medisys/mori" {
		t.Errorf("JSON: %s", out)
	}
}
