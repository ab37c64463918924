package main

import (
	"os"
	"path/filepath"
	"testing"

	"kidoban/gateway/lab"
)

// TestMain runs the tests where they can make hosts. Under the name kidoban
// the test binary is the real program, which scripts and tests start.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "kidoban" {
		main()
	}
	waitTogether()
	lab.Main(m)
}
