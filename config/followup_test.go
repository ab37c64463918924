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
	"github.com/google/go-cmp/cmp"
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
	for _, path := range []string{"../cmd/kidoban/testdata/site.yaml", "testdata/warn/requests-none.yaml", "testdata/warn/plain-none.yaml"} {
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

// TestPlainAndForwarding: a machine that forwards for others would forward past the gate what comes by a
// plain line, and one line must not be both the vendors' and the site's.
func TestPlainAndForwarding(t *testing.T) {
	text, err := os.ReadFile("testdata/warn/plain-none.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), "zones:\n  medical: {prefixes: [10.1.0.0/16]}\n  office: {prefixes: [10.2.0.0/16]}\n", "", 1))
	for _, c := range []struct {
		host  Host
		wrong string
	}{
		{Host{ForwardOthers: true}, "lines.kyushoku.plain: KIDOBAN_FORWARD_OTHERS is true"},
		{Host{Inside: []string{"eth1.310"}}, "lines.kyushoku.interface: \"eth1.310\" leads to targets"},
		{Host{Inside: []string{"eth1", "eth1.311"}}, ""},
	} {
		_, _, err := ParsePolicy("p", text, t.TempDir(), c.host, testNow)
		switch all := messages("p", err); {
		case c.wrong == "" && len(all) > 0, c.wrong != "" && (len(all) != 1 || !strings.Contains(all[0], c.wrong)):
			t.Errorf("%+v: %q, want %q", c.host, all, c.wrong)
		}
	}
}

// TestHosts: each source on a plain line is a host, once, in each window.
func TestHosts(t *testing.T) {
	text, err := os.ReadFile("testdata/warn/plain-none.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), "10.20.0.9,", "10.20.0.9, 10.20.0.6,", 1)) // it is in the prefix
	p, _, err := ParsePolicy("p", text, t.TempDir(), testHost, testNow)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, h := range p.Vendor("caterer").Engineers {
		names = append(names, h.String()+" "+h.Addresses[0].String())
		if !h.Plain() || h != p.Engineer(h.String()) {
			t.Errorf("%v is no host, or another one", h)
		}
	}
	want := []string{"caterer/host-10-20-0-4 10.20.0.4", "caterer/host-10-20-0-5 10.20.0.5", "caterer/host-10-20-0-6 10.20.0.6", "caterer/host-10-20-0-7 10.20.0.7",
		"caterer/host-10-20-0-9 10.20.0.9", "caterer/host-fd00-0020-0000-0000-0000-0000-0000-0005 fd00:20::5"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for _, w := range p.Vendor("caterer").Windows {
		if !slices.Equal(w.Engineers, p.Vendor("caterer").Engineers) {
			t.Errorf("%v is for %v", w, w.Engineers)
		}
	}
	if p.Vendor("maker").Engineers[0].Plain() {
		t.Error("an engineer with WireGuard is a host")
	}
}
