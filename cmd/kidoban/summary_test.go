package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSummaryOfATimeout: of a package that runs out of time the summary of make
// test names the tests that were running. Those that wait behind them have not
// failed.
func TestSummaryOfATimeout(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module late\n\ngo 1.26\n",
		"late_test.go": `package late

import "testing"

func TestGood(t *testing.T)    {}
func TestBad(t *testing.T)     { t.Error("is bad") }
func TestWaits1(t *testing.T)  { t.Parallel() }
func TestWaits2(t *testing.T)  { t.Parallel() }
func TestWaits3(t *testing.T)  { t.Parallel() }
func TestHangs(t *testing.T)   { t.Run("inside", func(t *testing.T) { t.Log("begins"); select {} }) }
func TestNever(t *testing.T)   {}
`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := exec.Command("go", "test", "-json", "-timeout", "3s", ".")
	tests.Dir, tests.Env = dir, append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	events, err := tests.Output() // its error is the timeout
	if err == nil {
		t.Fatal("the tests passed")
	}
	summary := exec.Command("go", "run", "../../.ci/summary.go")
	summary.Stdin = strings.NewReader(string(events))
	out, err := summary.Output()
	if err == nil {
		t.Error("the summary calls it a success")
	}
	_, got, _ := strings.Cut(string(out), "\n== failed\n")
	want := `late TestBad
    late_test.go:6: is bad
late TestHangs/inside was running: test timed out after 3s
    late_test.go:10: begins
panic: test timed out after 3s
late: 3 tests waited for their turn and have not run, nor have those behind them
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s\nall of it:\n%s", got, want, out)
	}
}
