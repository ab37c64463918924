package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"kidoban/cmd/kidoban/audit"
	"kidoban/cmd/kidoban/terminal"
	"kidoban/config"
	"kidoban/gateway/backup"
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
)

// machine is a gateway's files, without a gateway.
type machine struct {
	*testing.T
	dir string
}

func newMachine(t *testing.T) machine {
	t.Helper()
	return machine{t, t.TempDir()}
}

// installed is a machine with a policy, a key, and a journal of some entries.
func installed(t *testing.T, entries int) machine {
	t.Helper()
	m := newMachine(t)
	site, err := os.ReadFile("testdata/site.yaml")
	m.check(err)
	for _, folder := range []string{"etc", "state", "run"} {
		m.check(os.Mkdir(m.path(folder), 0o700))
	}
	m.check(os.WriteFile(m.path("etc/policy.yaml"), site, 0o640))
	m.check(os.WriteFile(m.path("etc/environment"), []byte("KIDOBAN_LOG_LEVEL=debug\n"), 0o640))
	m.check(config.KeyFile{Path: m.path("state/private.key")}.Make())
	m.write(entries)
	return m
}

func (m machine) check(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m machine) path(name string) string { return filepath.Join(m.dir, name) }

func (m machine) read(name string) string {
	m.Helper()
	text, err := os.ReadFile(m.path(name))
	m.check(err)
	return string(text)
}

// write appends entries to the journal.
func (m machine) write(entries int) {
	m.Helper()
	dir, keyFile := audit.Place(m.path("state"))
	j, err := journal.Open(dir, keyFile)
	m.check(err)
	m.check(j.Append(slices.Repeat([]journal.Entry{{Kind: journal.Drift, Actor: "gateway"}}, entries)...))
	m.check(j.Close())
}

// shut is what the latch says.
func (m machine) shut() (scopes []string) {
	m.Helper()
	records, _, err := store.ShutFile{Lasting: m.path("state/shut.json")}.Load()
	m.check(err)
	for _, r := range records {
		scopes = append(scopes, string(r.Scope))
	}
	slices.Sort(scopes)
	return slices.Compact(scopes)
}

func (m machine) close(scope policy.Scope) {
	m.Helper()
	m.check(store.ShutFile{Lasting: m.path("state/shut.json")}.Save([]policy.ShutRecord{{Scope: scope, At: time.Now(), Actor: "ito", Reason: "test"}}))
}

func (m machine) environ() []string {
	return []string{"LANG=C", "KIDOBAN_POLICY_FILE=" + m.path("etc/policy.yaml"), "KIDOBAN_STATE_DIR=" + m.path("state"),
		"KIDOBAN_ADMIN_SOCKET=" + m.path("run/admin.sock"), "KIDOBAN_OFFICE_STATE_DIR=" + m.path("office")}
}

// do gives a command, which must end with a status.
func (m machine) do(status int, args ...string) string {
	m.Helper()
	var out bytes.Buffer
	if got := run(args, m.environ(), &out, &out); got != status {
		m.Fatalf("kidoban %s: exit %d, want %d: %s", strings.Join(args, " "), got, status, &out)
	}
	return out.String()
}

// keys makes a key of age, and the file of it.
func keys(t *testing.T) (recipient, file string) {
	t.Helper()
	k, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "identity")
	if err := os.WriteFile(file, []byte(k.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return k.Recipient().String(), file
}

func (m machine) backup(recipient string) (file string) {
	m.Helper()
	file = filepath.Join(m.TempDir(), "backup.age")
	m.do(terminal.Yes, "backup", "--out", file, "--to", recipient)
	return file
}

// TestBackupRoundTrip: a machine without any state gets all of another, and its journal goes on.
func TestBackupRoundTrip(t *testing.T) {
	recipient, identity := keys(t)
	m := installed(t, 700)
	m.close("medisys")
	m.check(os.WriteFile(m.path("etc/environment"), []byte("#KIDOBAN_POLICY_FILE=/x\nKIDOBAN_STATE_DIR=\"/data/kidoban\"\n"), 0o640))
	file := m.backup(recipient)
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if text, err := os.ReadFile(file); err != nil || bytes.Contains(text, []byte("medisys")) {
		t.Errorf("the backup can be read: %v", err)
	}
	if out := m.do(terminal.No, "backup", "--out", file, "--to", recipient); !strings.Contains(out, "never replaces a file") {
		t.Errorf("over a file: %s", out)
	}

	fresh := newMachine(t)
	fresh.check(os.MkdirAll(fresh.path("run"), 0o700))
	restore := []string{"restore", "--from", file, "--identity", identity, "--json"}
	dry := fresh.do(terminal.Yes, append(restore, "--dry-run")...)
	if entries, err := os.ReadDir(fresh.path("state")); err != nil || len(entries) != 1 || entries[0].Name() != "journal.lock" {
		t.Errorf("a dry run leaves %v, %v", entries, err)
	}
	if strings.Count(dry, `"restore_elsewhere"`) != 1 || !strings.Contains(dry, "KIDOBAN_STATE_DIR=/data/kidoban") {
		t.Errorf("that the gateway would look elsewhere is not told: %s", dry)
	}
	var answer struct {
		Items []backup.Item
		Shut  []string
	}
	wet := fresh.do(terminal.Yes, append(restore, "--yes")...)
	fresh.check(json.Unmarshal([]byte(dry), &answer))
	if len(answer.Items) < 5 || slices.ContainsFunc(answer.Items, func(i backup.Item) bool { return i.Change != backup.New }) {
		t.Errorf("items: %+v", answer.Items)
	}
	if !strings.Contains(wet, `"restored":true`) {
		t.Errorf("answer: %s", wet)
	}
	for _, name := range []string{"etc/policy.yaml", "etc/environment", "state/private.key", "state/journal.key"} {
		if m.read(name) != fresh.read(name) {
			t.Errorf("%s is another", name)
		}
	}
	for name, want := range map[string]os.FileMode{"etc/policy.yaml": 0o640, "state/private.key": 0o600, "state/shut.json": 0o600} {
		if info, err := os.Stat(fresh.path(name)); err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	if got := fmt.Sprint(fresh.shut()); got != "[all medisys]" {
		t.Errorf("shut: %s", got)
	}
	checkpoint := m.read("state/journal/checkpoint")
	out := fresh.do(terminal.Yes, "journal", "verify", "--since", checkpoint)
	if !strings.Contains(out, "701 entries") {
		t.Errorf("verify: %s", out)
	}
	if out := fresh.do(terminal.Yes, "journal", "list", "--kind", "restored"); !strings.Contains(out, "with 700 entries") {
		t.Errorf("list: %s", out)
	}
	fresh.write(3)
}

// TestFault126RestoreRollsBack: a restore that takes entries away needs a word for it, and opens nothing.
func TestFault126RestoreRollsBack(t *testing.T) {
	recipient, identity := keys(t)
	m := installed(t, 300)
	m.close("medisys")
	file := m.backup(recipient)
	m.write(5)
	m.close("radiology/mori")
	restore := []string{"restore", "--from", file, "--identity", identity, "--yes"}
	before := m.read("state/journal/checkpoint")
	for _, args := range [][]string{nil, {"--dry-run"}, {"--dry-run", "--json"}} {
		if out := m.do(terminal.No, append(restore, args...)...); !strings.Contains(out, "5 entries of this machine's journal, from 20") {
			t.Errorf("%q: %s", args, out)
		}
	}
	if out := m.do(terminal.Usage, append(restore, "--roll-back-journal")...); !strings.Contains(out, "--reason") {
		t.Errorf("without a reason: %s", out)
	}
	if m.read("state/journal/checkpoint") != before {
		t.Fatal("the journal has changed")
	}
	if out := m.do(terminal.Usage, "restore", "--from", file, "--identity", "AGE-SECRET-KEY-1NEVER"); strings.Contains(out, "NEVER") {
		t.Errorf("it repeats the key: %s", out)
	}
	m.do(terminal.Yes, append(restore, "--roll-back-journal", "--reason", "the disk lies")...)
	if got := fmt.Sprint(m.shut()); got != "[all medisys radiology/mori]" {
		t.Errorf("shut: %s", got)
	}
	kept, err := filepath.Glob(m.path("state/restore-*/before"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("%q, %v", kept, err)
	}
	key := m.do(terminal.Yes, "journal", "key")
	if out := m.do(terminal.Yes, "journal", "verify", kept[0], "--key", strings.TrimSpace(key)); !strings.Contains(out, "305 entries") {
		t.Errorf("the journal before: %s", out)
	}
	var last struct {
		Reason, Text, Actor string
		Count               int
	}
	m.check(json.Unmarshal([]byte(m.do(terminal.Yes, "journal", "list", "--json", "--kind", "restored")), &last))
	if last.Reason != "the disk lies" || last.Count != 5 || last.Actor == "" || !strings.Contains(last.Text, before) {
		t.Errorf("the entry: %+v", last)
	}
	// The journal has another past now, which the first backup lacks as well.
	m.write(1)
	if out := m.do(terminal.No, restore...); !strings.Contains(out, "2 entries") {
		t.Errorf("another past: %s", out)
	}
}
