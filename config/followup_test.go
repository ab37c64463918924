package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

// changed are all texts with one change of a token of a policy.
func changed(t *testing.T, path string, change func(tk *token.Token, key bool, written string) []string, try func(text string, line int, what string)) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tokens := lexer.Tokenize(string(text))
	lines := strings.Split(string(text), "\n")
	tried := 0
	for i, tk := range tokens {
		if !slices.Contains([]token.Type{token.StringType, token.IntegerType, token.FloatType, token.BoolType, token.SingleQuoteType, token.DoubleQuoteType}, tk.Type) {
			continue
		}
		written := strings.TrimSpace(tk.Origin)
		line, at := []rune(lines[tk.Position.Line-1]), tk.Position.Column-1
		end := at + len([]rune(written))
		if end > len(line) || string(line[at:end]) != written {
			continue
		}
		for _, other := range change(tk, i+1 < len(tokens) && tokens[i+1].Type == token.MappingValueType, written) {
			all := slices.Clone(lines)
			all[tk.Position.Line-1] = string(line[:at]) + other + string(line[end:])
			try(strings.Join(all, "\n"), tk.Position.Line, written+" -> "+other)
			tried++
		}
	}
	if tried < 100 {
		t.Errorf("only %d changes were tried", tried)
	}
}

// TestOneMistakeIsToldOnce: a value or a name that is wrong has its error, and
// what depends on it is neither an error nor a warning.
func TestOneMistakeIsToldOnce(t *testing.T) {
	for _, path := range []string{"../cmd/kidoban/testdata/site.yaml", "testdata/warn/requests-none.yaml"} {
		t.Run(filepath.Base(path), func(t *testing.T) { oneMistakeIsToldOnce(t, path) })
	}
}

func oneMistakeIsToldOnce(t *testing.T, path string) {
	dir := t.TempDir()
	changed(t, path, func(_ *token.Token, key bool, written string) []string {
		if !key {
			return []string{"zz?z", "[zz?z]", "{zz: 1}", "99999.1.1"}
		}
		// A name that people read as the right one.
		return []string{strings.ToUpper(written), written + "_"}
	}, func(text string, line int, what string) {
		_, warnings, err := ParsePolicy("p", []byte(text), dir, testHost, testNow)
		var mistakes Errors
		if !errors.As(err, &mistakes) {
			return // a text may be anything
		}
		for _, e := range mistakes {
			if e.Line != line && !strings.HasPrefix(e.What, "the field ") && !strings.Contains(e.What, "is missing") {
				t.Errorf("%s in line %d: %v", what, line, e)
			}
		}
		for _, w := range warnings {
			if !strings.HasSuffix(string(w.Code), "_example") { // the site's policy itself has these
				t.Errorf("%s in line %d has the warning %v", what, line, w)
			}
		}
	})
}

// TestZonesAndForwarding: a machine that forwards for others would join the zones past the gate.
func TestZonesAndForwarding(t *testing.T) {
	text := strings.Replace(string(exampleYAML), "\ntargets:", "\nzones:\n  medical: {prefixes: [10.1.0.0/16]}\ntargets:", 1)
	for _, c := range []struct {
		text   string
		others bool
		wrong  int
	}{{text, false, 0}, {text, true, 1}, {string(exampleYAML), true, 0}} {
		_, _, err := ParsePolicy("p", []byte(c.text), t.TempDir(), Host{ForwardOthers: c.others}, testNow)
		all := messages("p", err)
		if len(all) != c.wrong || c.wrong > 0 && !strings.Contains(all[0], "zones: KIDOBAN_FORWARD_OTHERS is true") {
			t.Errorf("forwarding %t: %q", c.others, all)
		}
	}
}
