package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kidoban/cmd/kidoban/terminal"
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

// TestWhatCannotBePrinted is no yes.
func TestWhatCannotBePrinted(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, args := range [][]string{{"version"}, {"version", "--json"}, {"check", "testdata/site.yaml"}, {"check", "--json", "testdata/site.yaml"}} {
		var said bytes.Buffer
		if got := run(args, nil, full, &said); got != terminal.Failed || !strings.Contains(said.String(), "no space left on device") {
			t.Errorf("%q: exit %d with %q", args, got, said.String())
		}
	}
}
