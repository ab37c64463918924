package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"kidoban/gateway/view"
)

// Error is one mistake in a policy file.
type Error struct {
	File   string `json:"file"`
	Line   int    `json:"line"`   // from 1; 0: the file as a whole
	Column int    `json:"column"` // from 1, in characters
	Where  string `json:"where"`  // the keys that lead to it: "vendors.medisys.sources"; empty: the file as a whole
	What   string `json:"what"`   // the mistake, and the allowed values

	cause error
}

// Error is "file:line:column: where: text".
func (e *Error) Error() string {
	at, where := e.File, e.Where
	if e.Line > 0 {
		at, where = fmt.Sprintf("%s:%d:%d", e.File, e.Line, e.Column), cmp.Or(e.Where, "the file")
	}
	if where != "" {
		where += ": "
	}
	return at + ": " + where + e.What
}

// Unwrap gives the error of the system, where a file could not be read.
func (e *Error) Unwrap() error { return e.cause }

// Errors is every mistake in a policy file, in the order of the file.
type Errors []*Error

// Error has one line for each mistake.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the mistakes one by one.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, err := range e {
		all[i] = err
	}
	return all
}

func sortByPlace(errs Errors, warnings []view.Message) {
	slices.SortStableFunc(errs, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	slices.SortStableFunc(warnings, func(a, b view.Message) int {
		return cmp.Or(cmp.Compare(a.Args["line"].(int), b.Args["line"].(int)), cmp.Compare(a.Args["column"].(int), b.Args["column"].(int)))
	})
}
