// Summary reads the output of `go test -json`. It prints a line for each package, the output of
// failed tests, and the skipped tests with the reason. Of a package that ran out of time it names
// the tests that were running, and counts those that waited for their turn. It repeats the first messages of failed tests
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
		case e.Action == "fail" && e.Test != "":
			failed = true
			fmt.Printf("%s", tests[e.Test])
			broken = append(append(broken, e.Package+" "+e.Test), complaint.FindAllString(string(tests[e.Test]), 10)...)
			delete(tests, e.Test)
		case e.Action == "fail": // the package, with tests that did not end if it was stopped
			failed = true
			broken = append(broken, unfinished(e.Package, tests)...)
			delete(said, e.Package)
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

// running is what the testing package prints when the time is up; marker is where a test stands.
var (
	running = regexp.MustCompile(`(?m)^panic: (test timed out after .*)\n\trunning tests:\n((?:\t\t.*\n)+)`)
	marker  = regexp.MustCompile(`(?m)^=== (RUN|PAUSE|CONT) `)
)

// unfinished prints the output of the tests that ran when their package was stopped, and gives the
// lines about them. Tests that waited are only counted: they have not failed.
func unfinished(of string, tests map[string][]byte) (lines []string) {
	var ran []string
	why, waited := "was running when its package was stopped", 0
	for name, text := range tests {
		if found := running.FindSubmatch(text); found != nil {
			why = "was running: " + string(found[1])
			ran = nil
			for line := range strings.Lines(string(found[2])) {
				ran = append(ran, strings.Fields(line)[0])
			}
			break
		}
		ran = append(ran, name)
	}
	isRunning := func(name string) bool {
		marks := marker.FindAllSubmatch(tests[name], -1)
		return len(marks) == 0 || string(marks[len(marks)-1][1]) != "PAUSE"
	}
	ran = slices.DeleteFunc(ran, func(name string) bool { return !isRunning(name) })
	slices.Sort(ran)
	for name, text := range tests {
		if slices.Contains(ran, name) || running.Match(text) {
			fmt.Printf("%s", text)
		}
	}
	for _, name := range ran {
		if !slices.ContainsFunc(ran, func(other string) bool { return strings.HasPrefix(other, name+"/") }) {
			lines = append(append(lines, of+" "+name+" "+why), complaint.FindAllString(string(tests[name]), 10)...)
		}
	}
	for name := range tests {
		if !isRunning(name) && !strings.Contains(name, "/") {
			waited++
		}
	}
	if len(ran) > 0 {
		lines = append(lines, fmt.Sprintf("%s: %d tests waited for their turn and have not run, nor have those behind them", of, waited))
	}
	return lines
}
