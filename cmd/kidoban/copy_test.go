package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"

	"kidoban/cmd/kidoban/audit"
	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/journal"
)

// TestJournalCopy copies a journal by the command, and verifies the copy by the witness's cosignature
// and by a checkpoint that was kept, as a file, as the input and as text on the command line.
func TestJournalCopy(t *testing.T) {
	state := t.TempDir()
	dir, keyFile := audit.Place(state)
	j, err := journal.Open(dir, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	write := func(count int) {
		t.Helper()
		for range count {
			if err := j.Append(journal.Entry{Kind: journal.Drift, Actor: "gateway"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(5)
	kept, _ := j.Checkpoint()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := torchwood.NewCosignatureSigner("witness.example", private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := journal.VerifierKey(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	verifier, _ := note.NewVerifier(key)
	signed, err := note.Open([]byte(kept), note.VerifierList(verifier))
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
	write(300)

	to := filepath.Join(t.TempDir(), "copy")
	do := func(input string, args ...string) (status int, out string) {
		var printed, failures bytes.Buffer
		environ := []string{"KIDOBAN_STATE_DIR=" + state, "KIDOBAN_ADMIN_SOCKET=" + filepath.Join(state, "none.sock"), "LANG=C"}
		if input != "" {
			name := filepath.Join(t.TempDir(), "input")
			if err := os.WriteFile(name, []byte(input), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, "--since", name)
		}
		status = run(append([]string{"journal"}, args...), environ, &printed, &failures)
		return status, printed.String() + failures.String()
	}
	if status, out := do("", "copy", to); status != 0 || !strings.Contains(out, "305 entries, 305 of them new") {
		t.Fatalf("copy: %d: %s", status, out)
	}
	write(1)
	var answer struct {
		From, Size int64
		Recorded   bool
	}
	if status, out := do("", "copy", to, "--json"); status != 0 || json.Unmarshal([]byte(out), &answer) != nil || answer.From != 305 || answer.Size != 306 || answer.Recorded {
		t.Fatalf("copy again: %d: %s", status, out)
	}
	witnessKey := signer.Verifier().String()
	if status, out := do("", "verify", to, "--witness", witnessKey); status != 0 || !strings.Contains(out, "witness.example cosigned the first 5 entries") {
		t.Errorf("verify --witness: %d: %s", status, out)
	}
	if status, out := do("", "verify", to, "--json", "--key", key); status != 0 || !strings.Contains(out, `"witnesses":[{"name":"witness.example","at":`) || !strings.Contains(out, `"verified":false`) {
		t.Errorf("verify names the witness: %d: %s", status, out)
	}
	if status, out := do("", "verify", to, "--witness", strings.Replace(key, "kidoban", "kidoban", 1)); status != terminal.No {
		t.Errorf("verify by a stranger: %d: %s", status, out)
	}
	if status, out := do("", "verify", to, "--witness", "nobody"); status != terminal.Usage {
		t.Errorf("verify by nonsense: %d: %s", status, out)
	}
	typed := strings.Join(strings.Fields(kept), " ")
	if status, out := do("", "verify", to, "--since", typed); status != 0 || !strings.Contains(out, "5") {
		t.Errorf("verify --since TEXT: %d: %s", status, out)
	}
	if status, out := do(typed, "verify", to); status != 0 {
		t.Errorf("verify --since FILE: %d: %s", status, out)
	}
	if status, out := do("", "verify", to, "--since", "no-such-file"); status != terminal.Usage || !strings.Contains(out, "neither a file nor a checkpoint") {
		t.Errorf("verify --since nonsense: %d: %s", status, out)
	}
	if status, out := do("", "copy", filepath.Dir(to)); status != terminal.No || !strings.Contains(out, "allowed is a folder that is empty") {
		t.Errorf("copy into another folder: %d: %s", status, out)
	}
	// The copy is ahead of a journal that was rolled back.
	j.Close()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if status, out := do("", "copy", to); status == 0 {
		t.Errorf("copy of nothing: %s", out)
	}
}
