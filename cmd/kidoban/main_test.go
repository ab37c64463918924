package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kidoban/gateway/admin"
	"kidoban/gateway/lab"
)

// TestMain runs the tests where they can make hosts. Under the name kidoban
// the test binary is the real program, which scripts and gateway/e2e start.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "kidoban" {
		main()
	}
	lab.Main(m)
}

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
		if got := besideSocket(filepath.Join(folder, "admin.sock"), slog.New(slog.NewTextHandler(&log, nil)))("shut.json"); got != want {
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
	if got := besideSocket(filepath.Join(folder, "admin.sock"), slog.New(slog.DiscardHandler))("shut.json"); got != "" {
		t.Errorf("%q is kept in it", got)
	}
}

// TestStatusOfProblems: what the gateway takes for wrong input is wrong usage.
func TestStatusOfProblems(t *testing.T) {
	for code, want := range map[int]int{400: exitUsage, 403: exitFailed, 404: exitNo, 409: exitFailed, 413: exitUsage} {
		var said bytes.Buffer
		if got := status(&admin.Problem{Status: code, Detail: "why"}, &said); got != want || said.String() != "kidoban: why\n" {
			t.Errorf("%d: exit %d with %q, want %d", code, got, said.String(), want)
		}
	}
}
