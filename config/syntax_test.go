package config

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml/token"
)

// TestSyntaxInOwnWords: a slip of the finger gets an error in our words, at a place,
// and never in those of the parser.
func TestSyntaxInOwnWords(t *testing.T) {
	jargon := []string{"in this context", "could not", "unexpected", "must be specified", "found ", "invalid", "token", "non-map", "header option", "the parser failed"}
	vague, dir := 0, t.TempDir()
	try := func(text string, line int, what string) {
		_, _, err := ParsePolicy("p", []byte(text), dir, testHost, testNow)
		var mistakes Errors
		errors.As(err, &mistakes)
		for _, e := range mistakes {
			if !strings.HasPrefix(e.What, "is not YAML: ") && !strings.Contains(e.What, "read as YAML") {
				continue
			}
			if slices.ContainsFunc(jargon, func(word string) bool { return strings.Contains(e.What, word) }) || e.Line < 1 {
				t.Errorf("%q in line %d: %v", what, line, e)
			}
			if strings.Contains(e.What, "does not fit") {
				vague++
			}
		}
	}
	changed(t, "../cmd/kidoban/testdata/site.yaml", func(_ *token.Token, _ bool, written string) (all []string) {
		for _, sign := range []string{`"`, "'", "[", "]", "{", "}", ",", ": ", "- ", `\`, "@", "`", " ", "\t", "|", "!", "?"} {
			all = append(all, sign+written, written+sign)
		}
		return append(all, "")
	}, try)
	text, err := os.ReadFile("../cmd/kidoban/testdata/site.yaml")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		for _, other := range []string{" " + line, "\t" + line, strings.TrimPrefix(line, " "), strings.Replace(line, ":", "", 1), strings.Replace(line, ": ", ":", 1), line[:len(line)/2], "- " + line} {
			all := slices.Clone(lines)
			all[i] = other
			try(strings.Join(all, "\n"), i+1, other)
		}
	}
	if vague > 20 {
		t.Errorf("%d mistakes are told vaguely", vague)
	}
}
