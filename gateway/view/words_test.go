package view

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kidoban/gateway/policy"
)

var placeholder = regexp.MustCompile(`\{(\w+)\}`)

// placeholders gives the names of a text's arguments.
func placeholders(text string) []string {
	names := []string{}
	for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// codes reads the constants of type Code, by their names; those of some
// headings, or of all.
func codes(t *testing.T, headings ...string) map[string]Code {
	t.Helper()
	all := map[string]Code{}
	for _, name := range []string{"codes.go", "codes_config.go", "codes_outcome.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			block := d.(*ast.GenDecl)
			if len(headings) > 0 && !slices.Contains(headings, strings.TrimSpace(block.Doc.Text())) {
				continue
			}
			for _, s := range block.Specs {
				s := s.(*ast.ValueSpec)
				value, err := strconv.Unquote(s.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Error(err)
				}
				all[s.Names[0].Name] = Code(value)
			}
		}
	}
	return all
}

// TestDoubtsAndHintsNameACommand that leads out of them.
func TestDoubtsAndHintsNameACommand(t *testing.T) {
	all := codes(t, "Doubts.", "Hints.")
	if len(all) < 30 {
		t.Errorf("only %d codes were found", len(all))
	}
	for name, code := range all {
		if code != Begins && code != Stops && !strings.Contains(table[code].ja, "`") {
			t.Errorf("%s names no command: %s", name, table[code].ja)
		}
	}
}

// TestEveryCodeHasWords: in both languages, with the same arguments.
func TestEveryCodeHasWords(t *testing.T) {
	seen := map[Code]string{}
	for name, code := range codes(t) {
		if other, twice := seen[code]; twice {
			t.Errorf("%s and %s are one code %q", name, other, code)
		}
		seen[code] = name
		if _, ok := table[code]; !ok {
			t.Errorf("%s has no words", name)
		}
	}
	for _, r := range policy.Reasons() {
		seen[Meaning(r).Code] = r.String()
	}
	for code, w := range table {
		if w.en == "" || w.ja == "" {
			t.Errorf("%q: a text is empty", code)
		}
		if _, ok := seen[code]; !ok {
			t.Errorf("%q is no code", code)
		}
		if en, ja := placeholders(w.en), placeholders(w.ja); !slices.Equal(en, ja) {
			t.Errorf("%q: English names %q, Japanese %q", code, en, ja)
		}
	}
}

// TestSayNamesTheArguments: every view.Say in production code gives exactly the
// arguments that its text names.
func TestSayNamesTheArguments(t *testing.T) {
	names, said := codes(t), map[string]bool{}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			// A code may be chosen before it is said.
			if id, ok := n.(*ast.Ident); ok && !strings.HasPrefix(filepath.Base(path), "codes") && !strings.HasPrefix(filepath.Base(path), "words") {
				said[id.Name] = true
			}
			call, ok := n.(*ast.CallExpr)
			if !ok || !strings.EqualFold(called(call.Fun), "say") || len(call.Args) != 2 {
				return true
			}
			code, known := names[called(call.Args[0])]
			if !known {
				return true
			}
			given := []string{}
			if lit, ok := call.Args[1].(*ast.CompositeLit); ok {
				for _, e := range lit.Elts {
					name, _ := strconv.Unquote(e.(*ast.KeyValueExpr).Key.(*ast.BasicLit).Value)
					given = append(given, name)
				}
			}
			slices.Sort(given)
			if want := placeholders(table[code].en); !slices.Equal(given, want) {
				t.Errorf("%s: %s is given %q, its text names %q", path, code, given, want)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range names {
		if !said[name] {
			t.Errorf("nobody says %s", name)
		}
	}
}

func called(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// TestMessagesTravel: the other end of the socket says the same, in its language.
func TestMessagesTravel(t *testing.T) {
	message := Say(JournalUnwritten, Args{"cause": Say(DiskSilent, Args{"wait": 90 * time.Second})})
	text, err := json.Marshal(Doubt{Journal, message})
	if err != nil {
		t.Fatal(err)
	}
	var came Doubt
	if err := json.Unmarshal(text, &came); err != nil {
		t.Fatal(err)
	}
	if came.About != Journal || came.Message.String() != message.String() || came.Message.In(Japanese) != message.In(Japanese) {
		t.Errorf("%s came as %+v", text, came)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]any{"journal", "journal_unwritten", message.String()}, []any{fields["about"], fields["code"], fields["text"]}); diff != "" {
		t.Error(diff)
	}
	for _, args := range []Args{{"targets": []string{"ehr", "pacs"}}, {"targets": 1 << 40}} {
		text, _ := json.Marshal(Say(TargetsOpen, args))
		var came Message
		if err := json.Unmarshal(text, &came); err != nil || came.String() != Say(TargetsOpen, args).String() {
			t.Errorf("%s came as %q, %v", text, came, err)
		}
	}
	var newer Message
	if err := json.Unmarshal([]byte(`{"code":"of_tomorrow","text":"a newer gateway says this"}`), &newer); err != nil || newer.In(Japanese) != "a newer gateway says this" {
		t.Errorf("a code that is not known came as %q, %v", newer.In(Japanese), err)
	}
}
