package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/cmd/kidoban/audit"
	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/journal"
)

// TestFault84TheStepBackIsTold: verify and list say where a recovery set the clock
// back, and from when.
func TestFault84TheStepBackIsTold(t *testing.T) {
	at := func(hours int) time.Time { return time.Date(2026, 12, 1, hours, 0, 0, 0, time.UTC) }
	state := t.TempDir()
	j, err := journal.Open(audit.Place(state))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Append(journal.Entry{Kind: journal.PolicyText, Time: at(18), Text: "timezone: Asia/Tokyo\n"},
		journal.Entry{Kind: journal.Recovery, Time: at(9), From: at(9), Actor: "root", Reason: "local time"}, journal.Entry{Kind: journal.Stop, Time: at(10)}); err != nil {
		t.Fatal(err)
	}
	j.Close()
	for _, c := range []struct{ command, want string }{
		{"verify", "At entry 1 the clock was set back from 2026-12-02 03:00:00 JST to 2026-12-01 18:00:00 JST: accepted by root, reason: local time\n"},
		{"verify --json", `"set_back":[{"entry":1,"before":"2026-12-01T18:00:00Z","accepted":"2026-12-01T09:00:00Z","actor":"root","reason":"local time"}]`},
		{"list", "     1  2026-12-01 18:00:00 JST  recovery        CLOCK SET BACK from 2026-12-02 03:00:00 JST  local time  by root\n     2  2026-12-01 19:00:00 JST  stop\n"},
		{"list --json", `"time":"2026-12-01T09:00:00Z","kind":"recovery"`},
	} {
		var out, failures bytes.Buffer
		if status := run(append([]string{"journal"}, strings.Fields(c.command)...), []string{"KIDOBAN_STATE_DIR=" + state}, &out, &failures); status != 0 {
			t.Fatalf("%s: status %d: %s", c.command, status, &failures)
		}
		if got := out.String(); !strings.Contains(got, c.want) && !strings.Contains(compact(got), c.want) {
			t.Errorf("%s prints\n%s\nwant %s", c.command, got, c.want)
		}
	}
}

// TestFault85ACopyIsJudgedInWords: a copy with files of different ages is no forgery,
// and what it lacks is told. The gateway's own folder must have everything.
func TestFault85ACopyIsJudgedInWords(t *testing.T) {
	state := t.TempDir()
	own, _ := audit.Place(state)
	j, err := journal.Open(audit.Place(state))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	write := func(count int) {
		for range count {
			if err := j.Append(journal.Entry{Kind: journal.Drift, Actor: "gateway"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	part := func(of, name string) {
		t.Helper()
		if err := os.RemoveAll(filepath.Join(of, name)); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(filepath.Join(of, name), os.DirFS(filepath.Join(own, name))); err != nil {
			t.Fatal(err)
		}
	}
	checkpoint := func(of string) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(own, "checkpoint"))
		if err == nil {
			err = os.WriteFile(filepath.Join(of, "checkpoint"), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	first, last := t.TempDir(), t.TempDir() // the checkpoint is copied first, and last
	write(5)
	checkpoint(first)
	for _, name := range []string{"tile/entries", "tile/0"} {
		part(last, name)
	}
	write(3)
	for _, name := range []string{"tile/entries", "tile/0"} {
		part(first, name)
	}
	checkpoint(last)
	bare := t.TempDir() // without hashes
	part(bare, "tile/entries")
	checkpoint(bare)
	for _, c := range []struct {
		name, dir string
		status    int
		want      []string
	}{
		{"checkpoint first", first, 0, []string{"VERIFIED  " + first + ": 5 entries", "The copy has 3 more entries"}},
		{"checkpoint last", last, terminal.No, []string{"it has the first 5 of the 8 entries that its checkpoint has signed", "copy again, the checkpoint first", "lost or removed: the journal does not verify from entry 5 on: tile/entries/000.p/8 is not there"}},
		{"without hashes", bare, 0, []string{"VERIFIED  " + bare + ": 8 entries", "The copy lacks files of hashes.", "tile/0/000.p/8"}},
		{"checkpoint first, as JSON", first + " --json", 0, []string{`"ok":true`, `"proven":5`, `"beyond":3`}},
		{"checkpoint last, as JSON", last + " --json", terminal.No, []string{`"ok":false`, `"entry":5`, `"proven":0`, `"incomplete":true`}},
		{"the gateway's own", "", 0, []string{"VERIFIED  " + own + ": 8 entries"}},
	} {
		var out, failures bytes.Buffer
		if status := run(append([]string{"journal", "verify"}, strings.Fields(c.dir)...), []string{"KIDOBAN_STATE_DIR=" + state}, &out, &failures); status != c.status {
			t.Errorf("%s: status %d, want %d", c.name, status, c.status)
		}
		for _, want := range c.want {
			if all := out.String() + failures.String(); !strings.Contains(all, want) && !strings.Contains(compact(out.String()), want) {
				t.Errorf("%s: %s\nwant %q", c.name, all, want)
			}
		}
	}
	if err := os.Remove(filepath.Join(own, "tile/0/000.p/8")); err != nil {
		t.Fatal(err)
	}
	var out, failures bytes.Buffer
	if status := run([]string{"journal", "verify"}, []string{"KIDOBAN_STATE_DIR=" + state}, &out, &failures); status != terminal.No || strings.Contains(failures.String(), "copy") {
		t.Errorf("the gateway's own without a file: status %d, %s%s", status, &out, &failures)
	}
}

// compact is JSON without its white space.
func compact(text string) string {
	var b bytes.Buffer
	_ = json.Compact(&b, []byte(text))
	return b.String()
}

// A key is a possible name of a file. Who hands a copy over that he signed
// himself must not get his key believed by a file of that name beside it.
func TestTheKeyThatIsGivenIsTheKey(t *testing.T) {
	key := func(state string) string {
		j, err := journal.Open(audit.Place(state))
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Append(journal.Entry{Kind: journal.Start, Actor: "gateway"}); err != nil {
			t.Fatal(err)
		}
		j.Close()
		_, file := audit.Place(state)
		text, err := journal.VerifierKey(file)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	genuine, forged := key(t.TempDir()), t.TempDir()
	forgers := key(forged)

	hand := t.TempDir()
	planted := filepath.Join(hand, genuine)
	if err := os.MkdirAll(filepath.Dir(planted), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(planted, []byte(forgers+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(hand)
	copied, _ := audit.Place(forged)
	for _, c := range []struct {
		key    string
		status int
	}{
		{genuine, terminal.No},
		{forgers, 0},
		{"./" + strings.TrimSuffix(genuine, "/"), 0}, // the path of the file; a key may end in a slash
	} {
		var out, failures bytes.Buffer
		if got := run([]string{"journal", "verify", copied, "--key", c.key}, nil, &out, &failures); got != c.status {
			t.Errorf("with --key %s: status %d, want %d\n%s%s", c.key, got, c.status, &out, &failures)
		}
		if strings.Contains(out.String(), "VERIFIED") != (c.status == 0) {
			t.Errorf("with --key %s it says:\n%s", c.key, &out)
		}
	}
}

// TestJournalOfAnother: a user who may not read the journal is told who may, and
// gets no verdict about it.
func TestJournalOfAnother(t *testing.T) {
	runtime.LockOSThread() // the user of files is one of the thread
	defer runtime.UnlockOSThread()
	state := t.TempDir()
	j, err := journal.Open(audit.Place(state))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	dir, keyFile := audit.Place(state)
	key, err := journal.VerifierKey(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chmod(filepath.Dir(state), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{state, dir, keyFile} { // the service's, and the operator is neither it nor root
			if err := os.Chown(path, 65532, 65532); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(state, 0o700); err != nil { // as StateDirectoryMode
			t.Fatal(err)
		}
		become := func(user uintptr) { // on this thread
			if _, _, err := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), user, ^uintptr(0)); err != 0 {
				t.Fatal(err)
			}
		}
		become(65533)
		defer become(0)
	} else {
		if err := os.Chmod(state, 0); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(state, 0o700)
	}
	environ := []string{"KIDOBAN_STATE_DIR=" + state}
	for _, args := range [][]string{{"verify"}, {"list"}, {"key"}, {"verify", "--key", key}, {"verify", dir, "--key", key}, {"list", dir}, nil} {
		var out, failures bytes.Buffer
		args = append([]string{"journal"}, args...)
		if len(args) == 1 { // a policy is no mistake of its author either
			args = []string{"check", filepath.Join(state, "policy.yaml")}
		}
		exit := run(args, environ, &out, &failures)
		if exit != terminal.Failed || out.Len() > 0 || !strings.Contains(failures.String(), "permission denied: run this as root, for example with sudo\n") {
			t.Errorf("%q: exit %d, %s%s", args, exit, &out, &failures)
		}
	}
}
