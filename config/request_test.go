package config

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kidoban/gateway/durable"
	"kidoban/gateway/policy"
)

// requestsYAML is a policy with every field of requests.
func requestsYAML(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("testdata/warn/requests-none.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// replaced replaces parts of a text, each of which it has once.
func replaced(t *testing.T, text string, parts ...string) string {
	t.Helper()
	for i := 0; i < len(parts); i += 2 {
		if strings.Count(text, parts[i]) != 1 {
			t.Fatalf("%q stands %d times in the policy", parts[i], strings.Count(text, parts[i]))
		}
		text = strings.Replace(text, parts[i], parts[i+1], 1)
	}
	return text
}

func summary(o *policy.OnRequest) string {
	var names []string
	for _, t := range o.Targets {
		names = append(names, t.Name)
	}
	people := func(all []*policy.Operator) string { return strings.Join(operatorNames(all), "+") }
	text := fmt.Sprintf("%s of %v, %s..%s; %d of %s, self %t; %v, %v, %v, %v, %v; %v", strings.Join(names, "+"), o.Engineers, o.ValidFrom, o.ValidUntil,
		o.Approvals, people(o.Approvers), o.SelfApproval, o.MaxDuration, o.MaxTotal, o.Ahead, o.Undecided, o.Grace, o.OneTimeSource)
	if e := o.Emergency; e != nil {
		text += fmt.Sprintf("; emergency %v, %v, %s", e.MaxDuration, e.RatifyWithin, people(e.Ratifiers))
	}
	return text
}

func TestRequests(t *testing.T) {
	p, warnings, err := ParsePolicy("p.yaml", []byte(requestsYAML(t)), "/etc/kidoban", testHost, testNow)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("errors %v, warnings %v", err, warnings)
	}
	var operators []string
	for _, o := range p.Operators {
		operators = append(operators, fmt.Sprintf("%s (%s), %s: %v, %d passkeys", o.Name, o.DisplayName, o.User, o.Rights, len(o.Passkeys)))
	}
	want := []string{"jimucho (事務長), jimu@hosp.example: [ratify review], 1 passkeys", "tanaka (田中), tanaka: [record approve ratify review], 0 passkeys",
		"ueda (), 10001: [approve record], 1 passkeys"}
	if diff := cmp.Diff(want, operators); diff != "" {
		t.Errorf("operators (-want +got):\n%s", diff)
	}
	if got := p.Operator("ueda").Passkeys[0]; !strings.Contains(p.Text, got) {
		t.Errorf("a passkey is %s, which the file does not have", got)
	}
	v := p.Vendor("medisys")
	if p.ReopenAll != 2 || v.Phone != "03-0000-0000" || v.Windows[0].Grace != 15*time.Minute {
		t.Errorf("reopen_all is %d, the phone %q, grace %v", p.ReopenAll, v.Phone, v.Windows[0].Grace)
	}
	const full = "ehr-db+pacs of [medisys/sato], 0000-00-00..2027-03-31; 1 of tanaka+ueda, self false; 4h0m0s, 36h0m0s, 336h0m0s, 24h0m0s, 15m0s; " +
		"[198.18.0.0/16 2620:abc::/32]; emergency 1h0m0s, 72h0m0s, jimucho"
	if got := summary(v.OnRequest); got != full {
		t.Errorf("on_request is\n%s, want\n%s", got, full)
	}
	var sinks []string
	for _, s := range p.Sinks {
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		sinks = append(sinks, string(text))
	}
	want = []string{
		`{"Name":"mail","Webhook":"","Format":"","SecretFile":"/etc/kidoban/mail.secret","CAFile":"","SMTP":"mail.hosp.example:587","TLS":"required","From":"Kidoban \u003ckidoban@hosp.example\u003e","To":["tanaka@hosp.example","田中 \u003cueda@hosp.example\u003e"],"User":"kidoban","Kinds":["requested"],"Language":"ja"}`,
		`{"Name":"siem","Webhook":"https://10.1.9.9/k","Format":"","SecretFile":"/etc/kidoban/siem.secret","CAFile":"/etc/ssl/site-ca.pem","SMTP":"","TLS":"","From":"","To":null,"User":"","Kinds":["emergency","shut","drift"],"Language":"en"}`,
		`{"Name":"team","Webhook":"https://hooks.example.com/services/T/B/X?k=1","Format":"slack","SecretFile":"","CAFile":"","SMTP":"","TLS":"","From":"","To":null,"User":"","Kinds":null,"Language":"ja"}`,
	}
	if diff := cmp.Diff(want, sinks); diff != "" {
		t.Errorf("sinks (-want +got):\n%s", diff)
	}
}

func TestRequestDefaults(t *testing.T) {
	text := requestsYAML(t)
	start, end := strings.Index(text, "    on_request:"), strings.Index(text, "notify:")
	text = text[:start] + "    on_request: {targets: [pacs], max_duration: 90m, emergency: {max_duration: 90m, ratify_within: 31d}}\n" + text[end:]
	text = replaced(t, text, "timezone: Asia/Tokyo", "timezone: Europe/Berlin", "reopen_all: {approvals: 2}\n", "")
	p, _, err := parseTest(t, "p.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	const want = "pacs of [medisys/sato medisys/suzuki], 0000-00-00..0000-00-00; 1 of tanaka+ueda, self false; 1h30m0s, 1h30m0s, 336h0m0s, 24h0m0s, 0s; []; emergency 1h30m0s, 744h0m0s, jimucho+tanaka"
	if got := summary(p.Vendor("medisys").OnRequest); got != want {
		t.Errorf("on_request is\n%s, want\n%s", got, want)
	}
	if s := p.Sinks[2]; s.Language != "en" || p.ReopenAll != 0 {
		t.Errorf("in %v the language is %s; reopen_all is %d", p.Zone, s.Language, p.ReopenAll)
	}
}

// TestQuorum: somebody besides the recorder can give the approvals, or the policy is refused.
func TestQuorum(t *testing.T) {
	for _, c := range []struct {
		name, may string // of tanaka and ueda, with a stroke between them
		more      string // fields of on_request
		ok        bool
	}{
		{"two who do both", "record, approve|record, approve", "", true},
		{"one records, the other approves", "record|approve", "", true},
		{"one who does both", "record, approve|review", "", false},
		{"one who does both, with self_approval", "record, approve|review", "self_approval: true, ", true},
		{"one does both, the other records", "record, approve|record", "", true},
		{"one does both, the other approves", "record, approve|approve", "", true},
		{"two approvals of two, one of whom records", "record, approve|approve", "approvals: 2, ", false},
		{"two approvals of two, one of whom records, with self_approval", "record, approve|approve", "approvals: 2, self_approval: true, ", true},
		{"the approver is the recorder", "record, approve|approve", "approvers: [tanaka], ", false},
		{"the approver is not the recorder", "record, approve|approve", "approvers: [ueda], ", true},
		{"nobody records", "approve|approve", "", false},
		{"nobody approves", "record|record", "self_approval: true, ", false},
	} {
		tanaka, ueda, _ := strings.Cut(c.may, "|")
		text := requestsYAML(t)
		text = text[:strings.Index(text, "    on_request:")] + "    on_request: {" + c.more + "targets: [pacs], max_duration: 1h}\n"
		text = replaced(t, text, "[record, approve, ratify, review]", "["+tanaka+"]", "[approve, record]", "["+ueda+"]", "reopen_all: {approvals: 2}\n", "")
		if _, _, err := parseTest(t, "p.yaml", []byte(text)); (err == nil) != c.ok {
			t.Errorf("%s: error %v", c.name, err)
		}
	}
}

// TestRatifiers: whoever declares an emergency, somebody else can ratify it.
func TestRatifiers(t *testing.T) {
	for _, c := range []struct {
		may, ratifiers string
		ok             bool
	}{
		{"[ratify]", "", true},
		{"[review]", "", false},
		{"[record, ratify]", "", false},
		{"[record, ratify]", ", ratifiers: [jimucho]", false},
	} {
		text := replaced(t, requestsYAML(t), "[ratify, review]", c.may, "[record, approve, ratify, review]", "[record, approve]", ", ratifiers: [jimucho]", c.ratifiers)
		if _, _, err := parseTest(t, "p.yaml", []byte(text)); (err == nil) != c.ok {
			t.Errorf("with jimucho %s%s: error %v", c.may, c.ratifiers, err)
		}
	}
	both := replaced(t, requestsYAML(t), "[ratify, review]", "[record, ratify]", ", ratifiers: [jimucho]", "")
	if _, _, err := parseTest(t, "p.yaml", []byte(both)); err != nil {
		t.Errorf("two who declare and ratify: error %v", err)
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90m": 90 * time.Minute, "4h": 4 * time.Hour, "1h30m": 90 * time.Minute, "1s": time.Second, "14d": 14 * 24 * time.Hour, "1d12h": 36 * time.Hour,
		"1d0h30m": 24*time.Hour + 30*time.Minute, "30d": 30 * 24 * time.Hour, "720h": 30 * 24 * time.Hour,
		"": 0, "0": 0, "0d": 0, "d": 0, "d4h": 0, "4": 0, "-1d": 0, "+1d": 0, "1d-1h": 0, "1d+1h": 0, "-1h": 0, "1.5d": 0, "1d1d": 0, "4h1d": 0, "1 d": 0, "1D": 0,
		"31d": 0, "30d1s": 0, "721h": 0, "99999999999999999999d": 0, "1500ms": 0, "一d": 0,
	} {
		got, err := parseDuration(maxTotal)(text)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
		if want > 0 {
			if again, err := parseDuration(maxTotal)(policy.Elapsed(got)); again != got || err != nil {
				t.Errorf("%v is written as %s, which is %v, %v", got, policy.Elapsed(got), again, err)
			}
		}
	}
}

// TestDraftNamesFilesOfTheReload: the files of a draft's sinks are those that a reload names.
func TestDraftNamesFilesOfTheReload(t *testing.T) {
	text := []byte(requestsYAML(t))
	inForce, _, err := ParsePolicy("p.yaml", text, "/etc/kidoban", Host{}, testNow)
	if err != nil {
		t.Fatal(err)
	}
	draft, _, err := ParsePolicy("draft.yaml", text, "/tmp/draft", Host{}, testNow)
	if err != nil {
		t.Fatal(err)
	}
	before, after, exact, err := Comparable(inForce.Text, inForce.Digest, "/etc/kidoban", durable.Guard{}, draft)
	if err != nil || !exact {
		t.Fatalf("exact %t, error %v", exact, err)
	}
	if changes := policy.Changes(before, after); len(changes) > 0 {
		t.Errorf("the same text has changes: %+v", changes)
	}
	if got := draft.Sinks[0].SecretFile; got != "/tmp/draft/mail.secret" {
		t.Errorf("the draft itself names %s now", got)
	}
}

// TestExampleOfRequests: what the example has in comments is right when it is put in force.
func TestExampleOfRequests(t *testing.T) {
	text := strings.ReplaceAll(string(exampleYAML), "\n# operators:\n", "\noperators:\n")
	text = replaced(t, text, "#   tanaka:", "  tanaka:", "#   ueda:", "  ueda:", "# on_request:", "on_request:")
	p, _, err := ParsePolicy("example.yaml", []byte(text), t.TempDir(), Host{}, testNow)
	if err != nil {
		t.Fatal(err)
	}
	const want = "ehr-db of [medisys/sato medisys/suzuki], 0000-00-00..2027-03-31; 1 of tanaka+ueda, self false; 4h0m0s, 8h0m0s, 336h0m0s, 24h0m0s, 0s; []"
	if got := summary(p.Vendor("medisys").OnRequest); got != want {
		t.Errorf("on_request is\n%s, want\n%s", got, want)
	}
}
