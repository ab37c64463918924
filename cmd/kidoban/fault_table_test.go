package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestFaultsTable holds docs/FAULTS.md against the tests that exist: each row
// names tests of its number, each test with a number is in its row, and each
// fuzz target is listed and has seeds.
func TestFaultsTable(t *testing.T) {
	tests, seeded := declared(t)
	text, err := os.ReadFile("../../docs/FAULTS.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	last := 0
	quoted := regexp.MustCompile("`((?:TestFault|Fuzz)[A-Za-z0-9]+)`")
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		number, err := strconv.Atoi(strings.TrimSpace(cells[0]))
		if !strings.HasPrefix(line, "|") || err != nil {
			if strings.HasPrefix(line, "| `Fuzz") {
				name := quoted.FindStringSubmatch(cells[0])[1]
				listed[name] = true
				if where := strings.Trim(strings.TrimSpace(cells[1]), "`"); tests[name] != where {
					t.Errorf("%s is listed in %s, and is in %q", name, where, tests[name])
				}
			}
			continue
		}
		if len(cells) != 5 {
			t.Errorf("row %d has %d cells, want 5", number, len(cells))
			continue
		}
		for i, cell := range cells {
			if strings.TrimSpace(cell) == "" {
				t.Errorf("row %d: cell %d is empty", number, i+1)
			}
		}
		if number <= last {
			t.Errorf("row %d comes after row %d", number, last)
		}
		last = number
		names := quoted.FindAllStringSubmatch(cells[4], -1)
		if len(names) == 0 {
			t.Errorf("row %d names no test", number)
		}
		for _, n := range names {
			name := n[1]
			listed[name] = true
			if !strings.HasPrefix(name, fmt.Sprintf("TestFault%02d", number)) {
				t.Errorf("row %d names %s, which does not have its number", number, name)
			}
			if tests[name] == "" {
				t.Errorf("row %d names %s, which does not exist", number, name)
			}
		}
	}
	if last == 0 {
		t.Error("no rows were found")
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		if !listed[name] {
			t.Errorf("%s of %s is not in the table", name, tests[name])
		}
		if strings.HasPrefix(name, "Fuzz") && !seeded[name] {
			t.Errorf("%s of %s has no seeds", name, tests[name])
		}
	}
}

// declared gives the package folders of the numbered tests and the fuzz
// targets of this module, and which targets have seeds, in testdata or in code.
func declared(t *testing.T) (folders map[string]string, seeded map[string]bool) {
	t.Helper()
	folders, seeded = map[string]string{}, map[string]bool{}
	numbered := regexp.MustCompile(`^TestFault[0-9][0-9]|^Fuzz[A-Z]`)
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && path != "../.." && strings.HasPrefix(entry.Name(), ".") {
			return errOrSkip(err)
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !numbered.MatchString(f.Name.Name) {
				continue
			}
			folders[f.Name.Name] = filepath.ToSlash(strings.TrimPrefix(filepath.Dir(path), filepath.Join("..", "..")+string(filepath.Separator)))
			seeds, err := os.ReadDir(filepath.Join(filepath.Dir(path), "testdata", "fuzz", f.Name.Name))
			seeded[f.Name.Name] = err == nil && len(seeds) > 0
			ast.Inspect(f.Body, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Add" {
					if x, ok := s.X.(*ast.Ident); ok && x.Name == "f" {
						seeded[f.Name.Name] = true
					}
				}
				return true
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return folders, seeded
}

func errOrSkip(err error) error {
	if err != nil {
		return err
	}
	return fs.SkipDir
}
