package view

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
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

// constants are the codes that have a name.
var constants = map[string]Code{"Begins": Begins, "Stops": Stops, "NoPolicy": NoPolicy, "LatchUnread": LatchUnread}

// beneath gives the codes of words.txt beneath a heading.
func beneath(heading string) (codes []Code) {
	_, text, _ := strings.Cut(wordsFile, "\n# "+heading+"\n")
	text, _, _ = strings.Cut(text, "\n# ")
	for code := range parse(text) {
		codes = append(codes, code)
	}
	return codes
}

// TestDoubtsAndHintsNameACommand that leads out of them.
func TestDoubtsAndHintsNameACommand(t *testing.T) {
	all := append(beneath("Doubts."), beneath("Hints.")...)
	if len(all) < 30 {
		t.Errorf("only %d codes were found", len(all))
	}
	for _, code := range all {
		if code != Begins && code != Stops && !strings.Contains(table[code][Japanese], "`") {
			t.Errorf("%s names no command: %s", code, table[code][Japanese])
		}
	}
}

// TestEveryCodeHasWords: in both languages, with the same arguments.
func TestEveryCodeHasWords(t *testing.T) {
	said := listen(t)
	for _, r := range policy.Reasons() {
		said[Meaning(r).Code] = true
	}
	for _, stage := range policy.Stages() {
		said[StageName(stage).Code] = true
	}
	for _, why := range policy.Disalloweds() {
		said[Lacks(why).Code] = true
	}
	for _, kind := range []string{"added", "removed", "changed"} {
		for _, thing := range []string{"site", "contact", "timezone", "tunnel", "reopen_all", "review", "retention", "calendar", "zone", "target", "line", "operator", "notify", "vendor", "engineer", "window", "on_request"} {
			m := changed(policy.Change{Kind: kind, Thing: thing, Name: "NAME"})
			said[m.Code], said[m.Args["thing"].(Message).Code] = true, true
			if !strings.Contains(m.In(Japanese), "NAME") && !slices.Contains([]string{"site", "contact", "timezone", "tunnel", "reopen_all", "review", "retention"}, thing) {
				t.Errorf("%s lacks the name", m.In(Japanese))
			}
		}
	}
	for code, words := range table {
		if len(words) != 2 || words[English] == "" || words[Japanese] == "" {
			t.Errorf("%q: a text is missing or empty", code)
		}
		if !said[code] {
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

// saying has the functions that take a code, with its place among their arguments.
// The arguments of the message follow it.
var saying = map[string]int{"Say": 0, "Wrong": 0, "Tell": 0, "Note": 0, "warn": 1, "TellIf": 1}

// listen reads all production code, and gives the codes that it says. Where a code is
// said, it must have exactly the arguments that its text names.
func listen(t *testing.T) map[Code]bool {
	t.Helper()
	said := map[Code]bool{}
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == "dashboards" || d.Name() == "kidoban-lab") {
			return filepath.SkipDir // their texts are their own
		}
		if err == nil && strings.HasSuffix(path, ".html") {
			checkTemplate(t, path, said)
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec: // the constant itself says nothing
				return constants[n.Names[0].Name] == ""
			case *ast.Ident:
				said[constants[n.Name]] = true
			case *ast.BasicLit:
				if n.Kind == token.STRING {
					said[Code(literal(t, n))] = true
				}
			case *ast.CallExpr:
				checkCall(t, path, n)
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

// checkCall checks a call that says a code.
func checkCall(t *testing.T, path string, call *ast.CallExpr) {
	t.Helper()
	name := called(call.Fun)
	at, takesArguments := saying[name]
	if !takesArguments && !slices.Contains([]string{"Row", "Instant", "Heading", "Code"}, name) {
		return
	}
	for i, arg := range call.Args {
		code, known := constants[called(arg)]
		if lit, ok := arg.(*ast.BasicLit); ok {
			code, known = Code(literal(t, lit)), true
		}
		if !known || takesArguments && i != at {
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
		if want := placeholders(table[code][English]); takesArguments && !slices.Equal(given, want) {
			t.Errorf("%s: %s is given %q, its text names %q", path, code, given, want)
		}
	}
}

// spoken is where a template says a code: {{say "code" "name" value ...}}.
var spoken = regexp.MustCompile(`\b(?:say|prose) "(\w+)"((?: "\w+" (?:\([^()]*\)|[^\s(){}]+))*)`)

// checkTemplate is checkCall for the template of a page.
func checkTemplate(t *testing.T, path string, said map[Code]bool) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range spoken.FindAllStringSubmatch(string(text), -1) {
		said[Code(m[1])] = true
		given := []string{}
		for _, arg := range regexp.MustCompile(` "(\w+)" `).FindAllStringSubmatch(m[2], -1) {
			given = append(given, arg[1])
		}
		slices.Sort(given)
		if want := placeholders(table[Code(m[1])][English]); table[Code(m[1])] == nil || !slices.Equal(given, want) {
			t.Errorf("%s: %s is given %q, its text names %q", path, m[1], given, want)
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
	message := Say("journal_unwritten", Args{"cause": Say("disk_silent", Args{"wait": 90 * time.Second})})
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
	for _, args := range []Args{{"targets": []string{"ehr", "pacs"}}, {"targets": 1 << 40}, {"targets": []Message{Say("ready", nil), Say("shut", nil)}}, {"targets": []string{}}} {
		text, _ := json.Marshal(Say("targets_open", args))
		var came Message
		if err := json.Unmarshal(text, &came); err != nil || came.String() != Say("targets_open", args).String() {
			t.Errorf("%s came as %q, %v", text, came, err)
		}
	}
	var newer Message
	if err := json.Unmarshal([]byte(`{"code":"of_tomorrow","text":"a newer gateway says this"}`), &newer); err != nil || newer.In(Japanese) != "a newer gateway says this" {
		t.Errorf("a code that is not known came as %q, %v", newer.In(Japanese), err)
	}
}
