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
	file, err := parser.ParseFile(token.NewFileSet(), "codes.go", nil, parser.ParseComments)
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
			all[s.Names[0].Name] = Code(literal(t, s.Values[0]))
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
		if code != Begins && code != Stops && !strings.Contains(table[code][Japanese], "`") {
			t.Errorf("%s names no command: %s", name, table[code][Japanese])
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
		if table[code] == nil {
			t.Errorf("%s has no words", name)
		}
	}
	for _, r := range policy.Reasons() {
		seen[Meaning(r).Code] = r.String()
	}
	for _, kind := range []string{"added", "removed", "changed"} {
		for _, thing := range []string{"site", "timezone", "tunnel", "calendar", "target", "vendor", "engineer", "window"} {
			m := Changed(policy.Change{Kind: kind, Thing: thing, Name: "NAME"})
			seen[m.Code], seen[m.Args["thing"].(Message).Code] = kind, thing
			if !strings.Contains(m.In(Japanese), "NAME") && !slices.Contains([]string{"site", "timezone", "tunnel"}, thing) {
				t.Errorf("%s lacks the name", m.In(Japanese))
			}
		}
	}
	literals := listen(t).literals
	for code, words := range table {
		if len(words) != 2 || words[English] == "" || words[Japanese] == "" {
			t.Errorf("%q: a text is missing or empty", code)
		}
		if _, ok := seen[code]; !ok && !literals[code] {
			t.Errorf("nobody says %q", code)
		}
		if en, ja := placeholders(words[English]), placeholders(words[Japanese]); !slices.Equal(en, ja) {
			t.Errorf("%q: English names %q, Japanese %q", code, en, ja)
		}
	}
}

// TestWordsThatAreMalformed do not start a program.
func TestWordsThatAreMalformed(t *testing.T) {
	for _, text := range []string{"en text", "code\ncode", "code\nen a\nen b", "code\nfr texte", "code\nen a\n text"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q is taken", text)
				}
			}()
			parse(text)
		}()
	}
}

// saying has the functions that take a code. Those of the first kind take the
// arguments beside it.
var saying = map[string]bool{"say": true, "Say": true, "wrong": true, "tell": true, "note": true, "label": false, "heading": false}

// speech is all that production code says.
type speech struct {
	names    map[string]bool // identifiers; a code may be chosen before it is said
	literals map[Code]bool
}

// listen reads all production code. Where a code is said, it must have exactly the
// arguments that its text names.
func listen(t *testing.T) speech {
	names, said := codes(t), speech{map[string]bool{}, map[Code]bool{}}
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && filepath.Base(path) != "codes.go" && filepath.Base(path) != "words.go" {
				said.names[id.Name] = true
			}
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && table[Code(literal(t, lit))] != nil {
				said.literals[Code(literal(t, lit))] = true
			}
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			arguments, ok := saying[called(call.Fun)]
			if !ok {
				return true
			}
			for i, arg := range call.Args {
				code, known := names[called(arg)]
				if lit, ok := arg.(*ast.BasicLit); ok && filepath.Base(filepath.Dir(path)) == "kidoban" {
					code, known = Code(literal(t, lit)), true
				}
				if !known || arguments && (i > 0 || len(call.Args) != 2) {
					continue
				}
				if table[code] == nil {
					t.Errorf("%s says %q, which has no words", path, code)
				}
				given := []string{}
				if lit, ok := call.Args[len(call.Args)-1].(*ast.CompositeLit); ok {
					for _, e := range lit.Elts {
						given = append(given, literal(t, e.(*ast.KeyValueExpr).Key))
					}
				}
				if slices.Contains(given, "where") { // the text begins with the place
					given = slices.DeleteFunc(given, func(name string) bool { return strings.Contains(place, "{"+name+"}") })
				}
				slices.Sort(given)
				if want := placeholders(table[code][English]); !slices.Equal(given, want) {
					t.Errorf("%s: %s is given %q, its text names %q", path, code, given, want)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return said
}

// TestSayNamesTheArguments: every view.Say in production code gives exactly the
// arguments that its text names, and every code is said.
func TestSayNamesTheArguments(t *testing.T) {
	said := listen(t)
	for name := range codes(t) {
		if !said.names[name] {
			t.Errorf("nobody says %s", name)
		}
	}
}

func literal(t *testing.T, e ast.Expr) string {
	t.Helper()
	text, err := strconv.Unquote(e.(*ast.BasicLit).Value)
	if err != nil {
		t.Error(err)
	}
	return text
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
