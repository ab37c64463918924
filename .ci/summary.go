// Summary reads the output of `go test -json`. It prints a line for each package, the output of
// failed tests, and the skipped tests with the reason. It repeats the first messages of failed tests
// at the end, because often only the end of a long log is kept.
//
//	go test -json ./... | go run .ci/summary.go
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// complaint is a message of a failed test, with its place.
var complaint = regexp.MustCompile(`(?m)^(?: +\w+_test\.go:\d+:|panic:) .{0,400}`)

func main() {
	said := map[string]map[string][]byte{} // by package and test, until it has passed
	var skipped, broken []string
	failed := false
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var e struct{ Action, Package, Test, Output string } // cmd/test2json
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Println(lines.Text()) // of the tool, not of a test
			continue
		}
		tests := said[e.Package]
		switch {
		case e.Action == "build-output", e.Action == "output" && e.Test == "" && e.Output != "PASS\n":
			fmt.Print(e.Output)
		case e.Action == "output" && e.Test != "":
			if tests == nil {
				tests = map[string][]byte{}
				said[e.Package] = tests
			}
			tests[e.Test] = append(tests[e.Test], e.Output...)
		case e.Action == "skip":
			if e.Test != "" {
				reason := slices.DeleteFunc(strings.Split(string(tests[e.Test]), "\n"), func(line string) bool {
					line = strings.TrimSpace(line)
					return strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ")
				})
				skipped = append(skipped, e.Package+" "+e.Test+": "+strings.Join(strings.Fields(strings.Join(reason, " ")), " "))
			}
			delete(tests, e.Test)
		case e.Action == "pass":
			delete(tests, e.Test)
		case e.Action == "fail":
			failed = true
			for name, text := range tests { // when a package fails, also the tests that did not end
				if name == e.Test || e.Test == "" {
					fmt.Printf("%s", text)
					broken = append(append(broken, e.Package+" "+name), complaint.FindAllString(string(text), 10)...)
					delete(tests, name)
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
		fmt.Printf("\n== failed\n%s\n", strings.Join(broken, "\n"))
		os.Exit(1)
	}
}
