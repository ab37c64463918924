package admin

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What anybody could have put there, a restart must not believe.
func TestNothingLiesInAFolderOfEverybody(t *testing.T) {
	for _, c := range []struct {
		mode os.FileMode
		kept bool
	}{
		{0o755, true},
		{0o770, true},
		{0o777, false},
		{0o777 | os.ModeSticky, false}, // as /tmp
	} {
		folder, want := t.TempDir(), ""
		if err := os.Chmod(folder, c.mode); err != nil {
			t.Fatal(err)
		}
		if c.kept {
			want = filepath.Join(folder, "shut.json")
		}
		var log bytes.Buffer
		if got := Beside(filepath.Join(folder, "admin.sock"), slog.New(slog.NewTextHandler(&log, nil)))("shut.json"); got != want {
			t.Errorf("mode %v: %q, want %q", c.mode, got, want)
		}
		if told := strings.Contains(log.String(), "nothing is kept"); told == c.kept {
			t.Errorf("mode %v: the log says %q", c.mode, &log)
		}
	}
}

// Nor what lies in somebody's folder.
func TestNothingLiesInAFolderOfSomebodyElse(t *testing.T) {
	folder := t.TempDir()
	if err := os.Chown(folder, 65533, -1); err != nil {
		t.Skipf("only root gives a folder away: %v", err)
	}
	if got := Beside(filepath.Join(folder, "admin.sock"), slog.New(slog.DiscardHandler))("shut.json"); got != "" {
		t.Errorf("%q is kept in it", got)
	}
}
