// Summary reads the output of `go test -json`. It prints a line for each package, the output of
// failed tests, and the skipped tests with the reason. It repeats the failures in a line or two at
// the end, because often only the end of a long log is kept.
//
//	go test -json ./... | go run .ci/summary.go
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// event is one line of it (cmd/test2json).
type event struct{ Action, Package, Test, Output string }

func main() {
	type test struct{ pkg, name string }
	said := map[test]*strings.Builder{}
	var skipped, broken []string
	failed := false
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Println(lines.Text()) // of the tool, not of a test
			continue
		}
		t := test{e.Package, e.Test}
		switch e.Action {
		case "build-output":
			fmt.Print(e.Output)
		case "output":
			if e.Test == "" {
				if e.Output != "PASS\n" {
					fmt.Print(e.Output)
				}
				continue
			}
			if said[t] == nil {
				said[t] = &strings.Builder{}
			}
			said[t].WriteString(e.Output)
		case "skip":
			if e.Test != "" {
				skipped = append(skipped, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(said[t])))
			}
			delete(said, t)
		case "pass":
			delete(said, t)
		case "fail":
			failed = true
			for of, text := range said { // of a package: also of those that it took along
				if of == t || e.Test == "" && of.pkg == e.Package {
					fmt.Print(text)
					broken = append(broken, complaints(of.pkg+" "+of.name, text.String())...)
					delete(said, of)
				}
			}
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "summary:", err)
		failed = true
	}
	if len(skipped) > 0 {
		fmt.Printf("\n== skipped, and why (%d)\n%s\n", len(skipped), strings.Join(skipped, "\n"))
	}
	if failed {
		if len(broken) > 0 {
			fmt.Printf("\n== failed\n%s\n", strings.Join(broken, "\n"))
		}
		os.Exit(1)
	}
}

// complaint is the first line of a test failure: place and message.
var complaint = regexp.MustCompile(`(?m)^(?: +\w+_test\.go:\d+:|panic:) .*$`)

// complaints are the messages of a failed test, without quoted text.
func complaints(name, said string) []string {
	all := []string{name}
	for _, line := range complaint.FindAllString(said, 10) {
		all = append(all, fmt.Sprintf("    %.400s", strings.TrimSpace(line)))
	}
	return all
}

// reason is the reason of a skipped test.
func reason(said *strings.Builder) string {
	if said == nil {
		return "no reason"
	}
	var words []string
	for line := range strings.Lines(said.String()) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			words = append(words, line)
		}
	}
	return strings.Join(words, " ")
}
