package bundle

import (
	"archive/zip"
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kidoban/config"
	"kidoban/gateway/evidence"
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

var day = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

// names are people's, which a redacted bundle must not have.
var names = []string{"hanako", "佐藤花子", "suzuki", "鈴木", "tanaka"}

// night makes a journal with a session, refusals and an incident, and more, cosigned by a witness.
func night(t *testing.T, more ...journal.Entry) (in Input, key string, witness *torchwood.CosignatureVerifier) {
	t.Helper()
	state := t.TempDir()
	dir, keyFile := filepath.Join(state, "journal"), filepath.Join(state, "journal.key")
	j, err := journal.Open(dir, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	opened, _ := json.Marshal(map[string]any{"verb": "opened", "id": "i-20261120-1", "kind": "intrusion", "reason": "鈴木 saw strange traffic"})
	sent, _ := json.Marshal(evidence.Sent{ID: "i-20261120-1", Recipient: "MIC", At: day.Add(5 * time.Hour), How: "by tanaka"})
	person := journal.Entry{Vendor: "medisys", VendorName: "Medisys", Engineer: "hanako", EngineerName: "佐藤花子"}
	with := func(kind journal.Kind, hours float64, change func(*journal.Entry)) journal.Entry {
		e := person
		e.Kind, e.Time = kind, day.Add(time.Duration(hours*float64(time.Hour)))
		if change != nil {
			change(&e)
		}
		return e
	}
	entries := []journal.Entry{{Kind: journal.Start, Time: day.Add(-time.Hour), Actor: "gateway"}}
	for i := range 300 {
		entries = append(entries, journal.Entry{Kind: journal.Drift, Time: day.Add(-time.Hour + time.Duration(i)*time.Second), Actor: "gateway"})
	}
	entries = append(entries,
		with(journal.SessionOpened, 1, func(e *journal.Entry) { e.Session, e.Source = "s1", "203.0.113.10" }),
		with(journal.Refused, 1.5, func(e *journal.Entry) { e.Source, e.Reason, e.Count = "198.51.100.7", "wrong_source", 3 }),
		with(journal.SessionClosed, 2, func(e *journal.Entry) { e.Session, e.Reason, e.ReceivedBytes = "s1", "idle", 1000 }),
		journal.Entry{Kind: journal.Shut, Time: day.Add(3 * time.Hour), Actor: "suzuki", Scope: "all", Reason: "hanako's laptop"},
		journal.Entry{Kind: journal.Incident, Time: day.Add(4 * time.Hour), Actor: "suzuki", Text: "opened", Event: opened},
		journal.Entry{Kind: journal.Sent, Time: day.Add(5 * time.Hour), Actor: "suzuki", Event: sent})
	entries = append(append(entries, more...),
		journal.Entry{Kind: journal.Stop, Time: day.Add(30 * time.Hour), Actor: "gateway"})
	if err := j.Append(entries...); err != nil {
		t.Fatal(err)
	}
	if key, err = journal.VerifierKey(keyFile); err != nil {
		t.Fatal(err)
	}
	_, private, _ := ed25519.GenerateKey(nil)
	signer, err := torchwood.NewCosignatureSigner("witness.example", private)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := j.Checkpoint()
	verifier, _ := note.NewVerifier(key)
	signed, err := note.Open([]byte(text), note.VerifierList(verifier))
	if err != nil {
		t.Fatal(err)
	}
	cosigned, err := note.Sign(signed, signer)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, journal.WitnessedFile), cosigned, 0o600); err != nil {
		t.Fatal(err)
	}
	record := evidence.NewRecord(config.ReadPast)
	for e, err := range j.Replay() {
		if err != nil {
			t.Fatal(err)
		}
		record.Add(e)
	}
	folder, err := journal.OpenFolder(dir, key)
	if err != nil {
		t.Fatal(err)
	}
	in = Input{Folder: folder, Record: record, Origin: strings.Split(key, "+")[0], From: day, Until: day.Add(24 * time.Hour), Version: "test",
		Recipients: []policy.Recipient{{Name: "MIC", Kind: "report", Within: 72 * time.Hour, Contact: "tanaka", For: []string{"municipality"}}},
		Sign:       func(text string) ([]byte, error) { return journal.SignNote(keyFile, text) }}
	if len(record.Incidents) != 1 {
		t.Fatalf("%d incidents", len(record.Incidents))
	}
	in.Incident = record.Incidents[0]
	return in, key, signer.Verifier()
}

func make1(t *testing.T, in Input) Made {
	t.Helper()
	made, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// TestHosts: a host behind a line without WireGuard is no person, also where names of people become numbers.
func TestHosts(t *testing.T) {
	const text = `version: 1
site: Hospital
timezone: Asia/Tokyo
tunnel: {addresses: [10.99.0.1/24], endpoint: "gate.example.jp:51820"}
targets: {ehr: {address: 10.1.0.5, ports: [tcp/443]}}
lines: {kyushoku: {interface: eth1.310, kind: leased, plain: true}}
vendors:
  kyushoku: {line: kyushoku, sources: [10.20.0.5], windows: {day: {days: [mon], from: "09:00", to: "17:00", targets: [ehr], approved_by: Head}}}
`
	if _, err := config.ReadPast(text); err != nil {
		t.Fatal(err)
	}
	host := func(kind journal.Kind, minutes int, e journal.Entry) journal.Entry {
		e.Kind, e.Time, e.Vendor = kind, day.Add(6*time.Hour+time.Duration(minutes)*time.Minute), "kyushoku"
		if e.Engineer == "" {
			e.Engineer, e.EngineerName = "host-10-20-0-5", "10.20.0.5"
		}
		return e
	}
	at := day.Add(6 * time.Hour)
	in, _, _ := night(t, journal.Entry{Kind: journal.PolicyText, Time: at, Digest: "d1", Text: text}, journal.Entry{Kind: journal.PolicyLoaded, Time: at, Digest: "d1"},
		host(journal.SessionOpened, 1, journal.Entry{Session: "s2", Source: "10.20.0.5"}), host(journal.Refused, 2, journal.Entry{Source: "10.20.0.5", Reason: "unlisted_target", Count: 4}),
		host(journal.SessionClosed, 3, journal.Entry{Session: "s2", Reason: "idle"}), host(journal.WorkReport, 4, journal.Entry{Engineer: "hanako"}))
	for _, redact := range []bool{false, true} {
		in.Redact = redact
		files, err := unpack(make1(t, in).Archive)
		if err != nil {
			t.Fatal(err)
		}
		var f Facts
		if err := json.Unmarshal(files[facts], &f); err != nil {
			t.Fatal(err)
		}
		s, refused := f.Sessions[1], f.Refused[1]
		if f.Sessions[0].Plain || !s.Plain || s.Engineer != "host-10-20-0-5" || refused.Engineer != s.Engineer || s.Received != nil {
			t.Errorf("redacted %t: %+v %+v", redact, s, refused)
		}
		for _, want := range []string{"接続 s2: kyushoku、機器 10.20.0.5（個人の識別なし）", "Session s2: kyushoku, host 10.20.0.5 (no person is identified)"} {
			if !strings.Contains(string(files["index.txt"]), want) {
				t.Errorf("redacted %t: no %q in\n%s", redact, want, files["index.txt"])
			}
		}
		if timeline := string(files["timeline.csv"]); strings.Count(timeline, "host-10-20-0-5") != 3 || redact == strings.Contains(timeline, "hanako") {
			t.Errorf("redacted %t:\n%s", redact, timeline)
		}
	}
}

// TestBundle verifies a bundle by our own verifier, by torchwood under the keys of log and witness, and
// by sha256sum.
func TestBundle(t *testing.T) {
	in, key, witness := night(t)
	made := make1(t, in)
	if again := make1(t, in); !bytes.Equal(made.Archive, again.Archive) {
		t.Error("the same input gives other bytes")
	}
	v, err := Verify(made.Archive, key)
	if err != nil || !v.Signed || v.Proofs != 6 || v.Entries != 6 || v.Digest != made.Digest {
		t.Fatalf("%+v, %v", v, err)
	}
	f := v.Facts
	if len(f.Sessions) != 1 || f.Sessions[0].Engineer != "hanako" || len(f.Refused) != 1 || f.Refused[0].Count != 3 || f.Incident.ID != "i-20261120-1" || len(f.Incident.Sent) != 1 {
		t.Errorf("facts: %+v", f)
	}
	files, err := unpack(made.Archive)
	if err != nil {
		t.Fatal(err)
	}
	verifier, _ := note.NewVerifier(key)
	rules := torchwood.ThresholdPolicy(3, torchwood.OriginPolicy(in.Origin), torchwood.SingleVerifierPolicy(verifier), torchwood.SingleVerifierPolicy(witness))
	for _, index := range f.Entries {
		leaf := tlog.RecordHash(files[fmt.Sprintf("entries/%d.json", index)])
		proof := files[fmt.Sprintf("proofs/%d.tlog-proof", index)]
		if err := torchwood.VerifyProof(rules, leaf, proof); err != nil {
			t.Errorf("torchwood, entry %d: %v", index, err)
		}
		leaf[0] ^= 1
		if torchwood.VerifyProof(rules, leaf, proof) == nil {
			t.Errorf("torchwood took another entry %d", index)
		}
	}
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(path), 0o700)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check := exec.Command("sha256sum", "-c", "--quiet", "--strict", sums)
	check.Dir = dir
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("sha256sum: %v: %s", err, out)
	}
	if r, err := journal.VerifyCopy(filepath.Join(dir, "journal"), key, nil); err != nil || r.Size != in.Folder.Tree.N {
		t.Errorf("the part is no copy of this small journal: %+v, %v", r, err)
	}
	for _, want := range []string{"本装置の記録からは判断できない", "the gateway's record does not tell"} {
		if !bytes.Contains(files["index.html"], []byte(escaped(want))) || !bytes.Contains(files["index.txt"], []byte(want)) {
			t.Errorf("the pages lack %q", want)
		}
	}
}

// escaped is a text as html/template writes it.
func escaped(text string) string { return strings.ReplaceAll(text, "'", "&#39;") }

// TestBundleFlipped changes each byte of a bundle, and each file in ways that keep SHA256SUMS right.
func TestBundleFlipped(t *testing.T) {
	in, key, _ := night(t)
	made := make1(t, in)
	step := 1 + len(made.Archive)/600
	for i := 0; i < len(made.Archive); i += step {
		changed := slices.Clone(made.Archive)
		changed[i] ^= 1
		if _, err := Verify(changed, key); err == nil {
			t.Fatalf("byte %d of %d changed, and it verifies", i, len(changed))
		}
	}
	files, err := unpack(made.Archive)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if name == sums || name == signature || strings.HasSuffix(name, journal.WitnessedFile) {
			continue
		}
		changed := maps.Clone(files)
		changed[name] = slices.Clone(files[name])
		changed[name][len(changed[name])/2] ^= 1
		if _, err := Verify(resum(t, changed, true), key); err == nil {
			t.Errorf("%s changed with its sum, and the signature verifies", name)
		}
		if _, err := Verify(resum(t, changed, false), key); err == nil && (strings.Contains(name, "/") || name == leaves) && !strings.HasPrefix(name, "policies/") {
			t.Errorf("%s changed in an unsigned bundle, and it verifies", name)
		}
	}
	_, other, _ := night(t)
	if _, err := Verify(made.Archive, other); err == nil {
		t.Error("it verifies under another key")
	}
}

// resum packs files anew, with sums that are right.
func resum(t *testing.T, files map[string][]byte, signed bool) []byte {
	t.Helper()
	var all []file
	var list bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if name != sums && name != signature {
			all = append(all, file{name, files[name]})
			fmt.Fprintf(&list, "%s  %s\n", digest(files[name]), name)
		}
	}
	all = append(all, file{sums, list.Bytes()})
	if signed {
		all = append(all, file{signature, files[signature]})
	}
	archive, err := pack(all)
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

// TestRedacted has no name anywhere, and still proves each entry by its hash.
// TestBomb: a small archive of large files is refused before it is unpacked.
func TestBomb(t *testing.T) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name := range 8 {
		w, err := z.Create(fmt.Sprint(name))
		if err == nil {
			_, err = w.Write(make([]byte, 1<<20))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(b.Bytes(), ""); err == nil || !strings.Contains(err.Error(), "more bytes than the archive") {
		t.Errorf("%d bytes: %v", b.Len(), err)
	}
}

func TestRedacted(t *testing.T) {
	in, key, _ := night(t)
	whole := make1(t, in)
	in.Redact = true
	made := make1(t, in)
	for _, name := range names {
		if !bytes.Contains(whole.Archive, []byte(name)) {
			t.Errorf("the test would not notice %s", name)
		}
		if bytes.Contains(made.Archive, []byte(name)) {
			t.Errorf("%s is in the redacted bundle", name)
		}
	}
	v, err := Verify(made.Archive, key)
	if err != nil || v.Proofs != 6 || v.Entries != 0 || !v.Facts.Redacted {
		t.Fatalf("%+v, %v", v, err)
	}
	if v.Facts.Sessions[0].Engineer != v.Facts.Refused[0].Engineer {
		t.Errorf("one person has two numbers: %+v", v.Facts)
	}
	// Of a copy there is no key to sign with.
	in.Sign = nil
	if v, err := Verify(make1(t, in).Archive, key); err != nil || v.Signed {
		t.Errorf("unsigned: %+v, %v", v.Signed, err)
	}
}
