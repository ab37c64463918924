package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// intruderVariable names a file for the test of gateway/e2e that asks for an intruder.
const intruderVariable = "PROMISE_INTRUDER"

// intrude waits until the file is there, and then does what somebody would who has
// taken this process over. The file has the path of a file that the gateway has no
// business with. What came of it is written beside the file, each on a line.
func intrude(file string) {
	var text []byte
	for text == nil {
		time.Sleep(5 * time.Millisecond)
		text, _ = os.ReadFile(file)
	}
	other := strings.TrimSpace(string(text))
	var told strings.Builder
	for _, a := range []struct {
		what string
		try  func() error
	}{
		{"read", func() error { _, err := os.ReadFile(other); return err }},
		{"list", func() error { _, err := os.ReadDir(filepath.Dir(other)); return err }},
		{"write", func() error { return os.WriteFile(other+".new", nil, 0o600) }},
		{"exec", func() error { return unix.Exec("/proc/self/exe", []string{"kidoban", "version"}, nil) }},
		{"start", func() error {
			p, err := os.StartProcess("/proc/self/exe", []string{"kidoban", "version"}, &os.ProcAttr{})
			if err == nil {
				_, _ = p.Wait()
			}
			return err
		}},
		{"trace", func() error { return unix.PtraceAttach(os.Getppid()) }},
		{"mount", func() error { return unix.Mount("none", filepath.Dir(file), "tmpfs", 0, "") }},
		{"unshare", func() error { return unix.Unshare(unix.CLONE_NEWUSER) }},
	} {
		fmt.Fprintf(&told, "%s: %v\n", a.what, a.try())
	}
	if err := os.WriteFile(file+".told", []byte(told.String()), 0o600); err != nil {
		panic(err)
	}
}
