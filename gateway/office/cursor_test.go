package office

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestCursorOfAnotherVersion: what the first version wrote, and one without a version, is read; a newer one
// is refused by name.
func TestCursorOfAnotherVersion(t *testing.T) {
	folder := t.TempDir()
	for text, says := range map[string]string{
		`{"journal":"kidoban/0123","next":5}`:              "",
		`{"version":1,"journal":"kidoban/0123","next":5}`:  "",
		`{"version":2,"journal":"kidoban/0123","next":5}`:  "cursor-siem.json: a newer kidoban wrote it: it has version 2, this one knows versions up to 1",
		`{"version":1,"journal":"kidoban/0123","next":-5}`: "below 0",
	} {
		if err := os.WriteFile(cursorFile(folder, "siem"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := load(folder, "siem")
		if says == "" && (err != nil || c != cursor{"kidoban/0123", 5}) || says != "" && !strings.Contains(fmt.Sprint(err), says) {
			t.Errorf("%s: %+v, %v", text, c, err)
		}
	}
	if err := (cursor{"kidoban/0123", 7}).save(folder, "siem"); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(cursorFile(folder, "siem")); err != nil || !strings.Contains(string(text), `"version":1`) {
		t.Errorf("it is saved as %s, %v", text, err)
	}
}
