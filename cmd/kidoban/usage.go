package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"

	"kidoban/cmd/kidoban/terminal"

	"github.com/alecthomas/kong"
)

// description is the head of the help.
const description = `Keeps the gate: vendors' maintenance sessions only from listed addresses, only in approved windows, only to listed targets.

ENGINEER is vendor/engineer. A TIME is local to the site, as 2026-12-01T20:00, or has an offset, as 2026-12-01T20:00:00+09:00; a date alone is its 00:00. Settings are environment variables that begin with KIDOBAN_.

Exit status: 0 yes, 1 it failed, 2 wrong usage or settings, 3 a well-formed "no".`

// withoutValue is the error of kong for a flag without its value.
var withoutValue = regexp.MustCompile(`expected \S+ value but got "EOL" \(<EOL>\)`)

// Validate refuses a flag that is given twice: only the last value would count.
func (commands) Validate(k *kong.Context) error {
	seen := map[*kong.Flag]bool{}
	for _, p := range k.Path {
		if p.Flag == nil || p.Flag.IsBool() || p.Flag.IsCumulative() {
			continue
		}
		if seen[p.Flag] {
			return fmt.Errorf("--%s: is given more than once: give it once", p.Flag.Name)
		}
		seen[p.Flag] = true
	}
	return nil
}

// complain prints the error of a command line, or the help if there is no command.
func complain(err error, args []string, help func(), failures io.Writer) int {
	if len(args) == 0 {
		help()
		fmt.Fprintln(failures, "\nkidoban: the command is missing: allowed is one of those above")
		return terminal.Usage
	}
	command := "kidoban"
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil && parse.Context.Selected() != nil {
		command = parse.Context.Selected().FullPath()
	}
	text := withoutValue.ReplaceAllString(err.Error(), "the value is missing")
	fmt.Fprintf(failures, "kidoban: %s\nSee %s --help.\n", text, command)
	return terminal.Usage
}
