package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"

	"kidoban/cmd/kidoban/audit"
	"kidoban/gateway/evidence"
	"kidoban/gateway/evidence/catalogue"
	"kidoban/gateway/journal"
)

// auditPage is the page for auditors.
const auditPage = "../../docs/AUDIT.md"

// auditedPolicy is the policy of an audited site.
const auditedPolicy = `version: 1
site: %s
timezone: Asia/Tokyo
tunnel: {addresses: [10.99.0.1/24], endpoint: "gate.example.jp:51820"}
targets:
  ehr: {address: 10.1.0.5, ports: [tcp/443]}
  pacs: {address: 10.1.0.6, ports: [tcp/104]}
vendors:
  medisys:
    sources: [203.0.113.1]
    engineers:
      sato: {public_key: "dXNMZIqUTXF8wBRzvq2VYWjqjjQYSjPqJoXCDKHLbWI=", addresses: [10.99.0.2]}
    windows:
      day: {days: [mon, tue, wed, thu, fri], from: "09:00", to: "17:00", targets: [ehr], approved_by: Head of IT, ticket: R-1}
`

// audited is what a site hands to an auditor, in a folder: the journal's copy, the key, a checkpoint that
// was handed over before the month ended, and the month's report.
type audited struct {
	t      *testing.T
	folder string
	bin    string // has the program
}

// newAudited lets a site of that name have four sessions in November 2026. In the second one the engineer uses pacs,
// which was not approved.
func newAudited(t *testing.T, site string) audited {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	a := audited{t, t.TempDir(), t.TempDir()}
	self, err := os.Executable()
	check(err)
	check(os.Symlink(self, filepath.Join(a.bin, "kidoban")))
	state := filepath.Join(t.TempDir(), "state")
	dir, keyFile := audit.Place(state)
	check(os.MkdirAll(state, 0o700))
	j, err := journal.Open(dir, keyFile)
	check(err)
	defer j.Close()
	zone, err := time.LoadLocation("Asia/Tokyo")
	check(err)
	text, digest := fmt.Sprintf(auditedPolicy, site), strings.Repeat("ab", 32)
	begin := time.Date(2026, 10, 1, 9, 0, 0, 0, zone)
	check(j.Append(journal.Entry{Kind: journal.Start, Time: begin}, journal.Entry{Kind: journal.PolicyText, Time: begin, Digest: digest, Text: text},
		journal.Entry{Kind: journal.PolicyLoaded, Time: begin, Digest: digest}))
	strangers := make([]journal.Entry, 300) // more than one file of entries
	for n := range strangers {
		when := begin.Add(time.Duration(n) * time.Hour)
		strangers[n] = journal.Entry{Kind: journal.Refused, Time: when, Actor: "gateway", Source: "192.0.2.66", Reason: "unlisted_source", Count: 1, First: when, Last: when}
	}
	check(j.Append(strangers...))
	for n, target := range []string{"ehr", "pacs", "ehr", "ehr"} {
		check(j.Append(visitOf(time.Date(2026, 11, 9+n, 10, 0, 0, 0, zone), fmt.Sprintf("S%d", n+1), target)...))
		if n == 1 {
			kept, _ := j.Checkpoint()
			check(os.WriteFile(filepath.Join(a.folder, "checkpoint"), []byte(kept), 0o600))
		}
	}
	key, err := journal.VerifierKey(keyFile)
	check(err)
	check(os.WriteFile(filepath.Join(a.folder, "key"), []byte(key+"\n"), 0o600))
	a.run("kidoban report --month 2026-11 --journal " + dir + " --key key --out report")
	var r evidence.Report
	a.read("report/report.json", &r)
	event, err := json.Marshal(evidence.Reported{Month: r.Month, Digest: r.Digest, Size: r.Size})
	check(err)
	check(j.Append(journal.Entry{Kind: journal.Reported, Time: time.Date(2026, 12, 1, 9, 0, 0, 0, zone), Actor: "tanaka", Digest: r.Digest, Event: event}))
	a.run("KIDOBAN_STATE_DIR=" + state + " kidoban journal copy journal")
	a.run("KIDOBAN_STATE_DIR=" + state + " kidoban incident bundle --from 2026-11-10T00:00 --until 2026-11-11T00:00 --out bundle.zip")
	return a
}

// visitOf is an opening, an hour's session that uses a target, and the closing.
func visitOf(at time.Time, session, target string) []journal.Entry {
	used := map[string]journal.Use{"ehr": {Target: "ehr", Address: "10.1.0.5", Service: "tcp/443"}, "pacs": {Target: "pacs", Address: "10.1.0.6", Service: "tcp/104"}}[target]
	used.Connections, used.ReceivedPackets, used.ReceivedBytes, used.First, used.Last = 1, 100, 100_000, at.Add(time.Minute), at.Add(time.Hour)
	entry := func(kind journal.Kind, after time.Duration) journal.Entry {
		return journal.Entry{Kind: kind, Time: at.Add(after), Actor: "gateway", Vendor: "medisys", Engineer: "sato"}
	}
	grant := "medisys/sato/day@" + at.UTC().Format("20060102T150405Z")
	opened, begun, counted, ended, closed := entry(journal.WindowOpened, 0), entry(journal.SessionOpened, time.Minute), entry(journal.Used, time.Hour), entry(journal.SessionClosed, time.Hour), entry(journal.WindowClosed, 7*time.Hour)
	opened.Grant, opened.Window, opened.From, opened.Until, opened.Targets, opened.Sources, opened.ApprovedBy, opened.Ticket = grant, "day", at, at.Add(7*time.Hour), []string{"ehr"}, []string{"203.0.113.1/32"}, "Head of IT", "R-1"
	closed.Grant, closed.Window, closed.From, closed.Until, closed.Reason = grant, "day", at, at.Add(7*time.Hour), "window_closed"
	for _, e := range []*journal.Entry{&begun, &counted, &ended} {
		e.Session, e.Source, e.SourcePort, e.From = session, "203.0.113.1", 51820, at.Add(time.Minute)
	}
	begun.Grants = []string{grant}
	counted.Complete, counted.Used, counted.ReceivedBytes = pointer(true), []journal.Use{used}, 104_000
	ended.Reason, ended.ReceivedBytes = "idle", 104_000
	return []journal.Entry{opened, begun, counted, ended, closed}
}

// run has a shell run lines as they stand on the page, where the auditor is.
func (a audited) run(lines string) string {
	a.t.Helper()
	out, err := a.try(lines)
	if err != nil {
		a.t.Fatalf("%s\n%v\n%s", lines, err, out)
	}
	return out
}

func (a audited) try(lines string) (string, error) {
	shell := exec.CommandContext(a.t.Context(), "sh", "-ec", lines)
	shell.Dir = a.folder
	shell.Env = append(os.Environ(), "PATH="+a.bin+string(os.PathListSeparator)+os.Getenv("PATH"), "LANG=C", "LC_ALL=C.UTF-8", "GORACE=atexit_sleep_ms=0",
		"KIDOBAN_STATE_DIR="+filepath.Join(a.folder, "none"), "KIDOBAN_ADMIN_SOCKET="+filepath.Join(a.folder, "none.sock"))
	out, err := shell.CombinedOutput()
	return string(out), err
}

// read reads a JSON file of the folder.
func (a audited) read(name string, into any) {
	a.t.Helper()
	text, err := os.ReadFile(filepath.Join(a.folder, name))
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

// blocksOf gives the code blocks of a page in a language.
func blocksOf(t *testing.T, page, language string) (all []string) {
	t.Helper()
	for _, block := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(read(t, page), -1) {
		all = append(all, block[1])
	}
	return all
}

// TestAuditPage does what the page for auditors says, as it says it: the foreign tools agree with ours, the
// report is the site's, the seeded mismatch is found, and the draw repeated by hand is the program's. Of a
// changed copy every tool says no.
func TestAuditPage(t *testing.T) {
	t.Parallel()
	a := newAudited(t, "{name: Kido Clinic, size: small, sensitivity: personal}")
	program := blocksOf(t, auditPage, "python")
	if len(program) != 1 {
		t.Fatalf("%d programs", len(program))
	}
	if err := os.WriteFile(filepath.Join(a.folder, "check.py"), []byte(program[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, block := range blocksOf(t, auditPage, "sh") {
		name := strings.Join(strings.Fields(block)[:2], " ")
		if strings.Contains(block, "python3 ") && (missing("python3") || missing("openssl")) {
			t.Log("not run, for lack of python3 or openssl: " + block)
			continue
		}
		said[name] += a.run(block)
	}
	want := map[string][]string{
		"kidoban journal": {"VERIFIED  journal: 324 entries", "A continuation of the earlier checkpoint of 313 entries."},
		"kidoban report":  {"mismatch m06: 1, of which 1 not explained"},
		"kidoban inspect": {"Kido Clinic: self-inspection of tier 1"},
		"kidoban sample":  {"3 of 4 sessions"},
	}
	for name, all := range want {
		for _, text := range all {
			if !strings.Contains(said[name], text) {
				t.Errorf("%s: no %q in\n%s", name, text, said[name])
			}
		}
	}
	drawn := regexp.MustCompile(`(?m)^\[ \] +\d+  (S\d) `).FindAllStringSubmatch(said["kidoban sample"], -1)
	byHand := regexp.MustCompile(`(?m)^[0-9a-f]{64} (S\d)$`).FindAllStringSubmatch(said["digest=$(sed -n"], -1)
	if len(drawn) != 3 || !slices.EqualFunc(drawn, byHand, func(x, y []string) bool { return x[1] == y[1] }) {
		t.Errorf("the program draws %q, the page by hand %q", drawn, byHand)
	}
	var site, r evidence.Report
	a.read("report/report.json", &site)
	a.read("again/report.json", &r)
	if r.Digest != site.Digest || strings.Count(said["kidoban report"], r.Digest) != 4 {
		t.Errorf("the digest is %s, the site's %s; both, the report and the record should say so in\n%s", r.Digest, site.Digest, said["kidoban report"])
	}
	if !slices.ContainsFunc(r.Mismatches, func(m evidence.Mismatch) bool { return m.Kind == "m06" && m.Session == "S2" }) {
		t.Errorf("the seeded mismatch is not among %+v", r.Mismatches)
	}
	if got := a.verifiedByTorchwood(); got != 324 {
		t.Errorf("torchwood verifies %d entries", got)
	}
	a.tampered()
}

func missing(program string) bool { _, err := exec.LookPath(program); return err != nil }

// verifiedByTorchwood counts the entries of the copy that torchwood accepts under the key.
func (a audited) verifiedByTorchwood() (count int64) {
	a.t.Helper()
	fail := func(err error) {
		if err != nil {
			a.t.Fatal(err)
		}
	}
	key, err := os.ReadFile(filepath.Join(a.folder, "key"))
	fail(err)
	verifier, err := note.NewVerifier(strings.TrimSpace(string(key)))
	fail(err)
	signed, err := os.ReadFile(filepath.Join(a.folder, "journal", "checkpoint"))
	fail(err)
	checkpoint, _, err := torchwood.VerifyCheckpoint(signed, torchwood.ThresholdPolicy(2, torchwood.OriginPolicy(verifier.Name()), torchwood.SingleVerifierPolicy(verifier)))
	fail(err)
	tiles, err := torchwood.NewTileFS(os.DirFS(filepath.Join(a.folder, "journal")))
	fail(err)
	client, err := torchwood.NewClient(tiles)
	fail(err)
	for range client.AllEntries(a.t.Context(), checkpoint.Tree, 0) {
		count++
	}
	fail(client.Err())
	return count
}

// tampered changes one byte of the copy: then no tool accepts it.
func (a audited) tampered() {
	a.t.Helper()
	bundles, err := filepath.Glob(filepath.Join(a.folder, "journal/tile/entries/001.p/68"))
	if err != nil || len(bundles) != 1 {
		a.t.Fatalf("%q, %v", bundles, err)
	}
	text, err := os.ReadFile(bundles[0])
	if err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(bundles[0], []byte(strings.Replace(string(text), "10.1.0.6", "10.1.0.5", 1)), 0o600); err != nil {
		a.t.Fatal(err)
	}
	commands := []string{"kidoban journal verify journal --key key", "kidoban report --month 2026-11 --journal journal --key key --out changed"}
	if !missing("python3") && !missing("openssl") {
		commands = append(commands, "python3 check.py journal key checkpoint")
	}
	for _, command := range commands {
		if out, err := a.try(command); err == nil {
			a.t.Errorf("%s accepts a changed copy:\n%s", command, out)
		}
	}
}

// TestAuditPageInspections: the page's inspection is that of a small hospital and of a prefecture, from one catalogue.
func TestAuditPageInspections(t *testing.T) {
	t.Parallel()
	requirements := map[string]string{}
	for _, site := range []struct {
		name string
		tier int
		rows int
	}{{"{name: Kido Clinic, size: small, sensitivity: personal}", 1, 20}, {"{name: Kido Prefecture, size: large, sensitivity: mynumber}", 3, 36}} {
		a := newAudited(t, site.name)
		for _, block := range blocksOf(t, auditPage, "sh") {
			if strings.HasPrefix(block, "kidoban inspect ") {
				a.run(block)
			}
		}
		var i catalogue.Inspection
		a.read("inspection/inspection.json", &i)
		if i.Tier != site.tier || len(i.Controls) != site.rows {
			t.Errorf("%s: tier %d with %d controls, want tier %d with %d", site.name, i.Tier, len(i.Controls), site.tier, site.rows)
		}
		for _, row := range i.Controls {
			if known := requirements[row.ID]; known != "" && known != row.Requirement.English {
				t.Errorf("control %s is %q at one site and %q at another", row.ID, known, row.Requirement.English)
			}
			requirements[row.ID] = row.Requirement.English
		}
		if page, err := os.ReadFile(filepath.Join(a.folder, "inspection/inspection.html")); err != nil || !strings.Contains(string(page), "※") {
			t.Errorf("%s: the printed form has no ※: %v", site.name, err)
		}
	}
}
