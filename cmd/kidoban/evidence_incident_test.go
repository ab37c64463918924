package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kidoban/cmd/kidoban/audit"
	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/journal"
)

// TestIncidentBundle makes a bundle by the command, of the machine's own journal and of a copy, and
// verifies both.
func TestIncidentBundle(t *testing.T) {
	state := t.TempDir()
	dir, keyFile := audit.Place(state)
	j, err := journal.Open(dir, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Append(journal.Entry{Kind: journal.Start, Actor: "gateway"}, journal.Entry{Kind: journal.Shut, Actor: "suzuki", Scope: "all", Reason: "a test"}); err != nil {
		t.Fatal(err)
	}
	j.Close()
	key, err := journal.VerifierKey(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	do := func(state string, args ...string) (int, string) {
		var out, failures bytes.Buffer
		status := run(args, []string{"KIDOBAN_STATE_DIR=" + state, "KIDOBAN_ADMIN_SOCKET=" + filepath.Join(state, "none.sock"), "LANG=C"}, &out, &failures)
		return status, out.String() + failures.String()
	}
	file := filepath.Join(t.TempDir(), "bundle.zip")
	span := []string{"--from", "2020-01-01T00:00:00Z", "--until", "2099-01-01T00:00:00Z", "--out", file}
	elsewhere := t.TempDir()
	for _, c := range []struct {
		state string
		args  []string
		want  string // of verify-bundle
		signs bool
	}{
		{state, nil, "2 entries are proven", true},
		{elsewhere, []string{"--journal", dir, "--key", key}, "did not sign this bundle", false},
		{state, []string{"--redact", "people"}, "2 entries are proven", true},
	} {
		if status, out := do(c.state, append(append([]string{"incident", "bundle"}, span...), c.args...)...); status != 0 || strings.Contains(out, "did not sign") == c.signs {
			t.Errorf("bundle %v: %d: %s", c.args, status, out)
		}
		if status, out := do(elsewhere, "verify-bundle", file, "--key", key); status != 0 || !strings.Contains(out, c.want) {
			t.Errorf("verify-bundle %v: %d: %s", c.args, status, out)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte("suzuki")) {
		t.Error("a redacted bundle names an operator")
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if status, out := do(elsewhere, "verify-bundle", file, "--key", key); status != terminal.No || !strings.Contains(out, "does not verify") {
		t.Errorf("a changed bundle: %d: %s", status, out)
	}
	if status, out := do(state, append([]string{"incident", "bundle", "i-nothing"}, span...)...); status != terminal.No {
		t.Errorf("of no incident: %d: %s", status, out)
	}
	if status, out := do(state, "incident", "bundle", "--from", "2099-01-01T00:00:00Z", "--until", "2020-01-01T00:00:00Z", "--out", file); status != terminal.Usage {
		t.Errorf("a span that ends before it begins: %d: %s", status, out)
	}
}
