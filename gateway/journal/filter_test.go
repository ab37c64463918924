package journal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestKinds: the list has every kind that is declared.
func TestKinds(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "entry.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var declared []string
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok {
			if kind, ok := v.Type.(*ast.Ident); ok && kind.Name == "Kind" {
				name, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				declared = append(declared, name)
			}
		}
		return true
	})
	if diff := cmp.Diff(declared, Kinds()); diff != "" || len(declared) < 10 {
		t.Errorf("kinds (-declared +listed):\n%s", diff)
	}
}

// TestFault84SinceHidesNothingBehindTheClock: what follows the first entry of the time
// is listed, also if a recovery set the clock back in between.
func TestFault84SinceHidesNothingBehindTheClock(t *testing.T) {
	at := func(hours int) time.Time { return time.Date(2026, 12, 1, hours, 0, 0, 0, time.UTC) }
	f := Filter{Since: at(12)}
	for i, c := range []struct {
		hours int
		want  bool
	}{{9, false}, {11, false}, {13, true}, {3, true}, {4, true}, {14, true}} {
		if got := f.Matches(Entry{Kind: Recovery, Time: at(c.hours)}); got != c.want {
			t.Errorf("entry %d of %d o'clock: %t, want %t", i, c.hours, got, c.want)
		}
	}
}
