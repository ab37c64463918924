package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// TestRunbooksNameCommandsThatExist has the program take every command of its
// own that a runbook names, in either language; both languages name the same.
func TestRunbooksNameCommandsThatExist(t *testing.T) {
	parser, err := kong.New(&commands{}, kong.Name("kidoban"))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("../../docs/runbooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	if len(pages) < 17 {
		t.Fatalf("only %d pages", len(pages))
	}
	all := 0
	for _, page := range pages {
		english, japanese := ownCommands(t, page), ownCommands(t, filepath.Join(filepath.Dir(page), "ja", filepath.Base(page)))
		all += len(english)
		var names [2][]string
		for i, list := range [][][]string{english, japanese} {
			for _, args := range list {
				if _, err := parser.Parse(args); err != nil {
					t.Errorf("%s: kidoban %q: %v", page, args, err)
				}
				names[i] = append(names[i], shapeOf(args))
			}
		}
		if !slices.Equal(names[0], names[1]) {
			t.Errorf("%s: the languages name other commands: %q, %q", page, names[0], names[1])
		}
	}
	if all < 40 {
		t.Errorf("the pages name %d commands only", all)
	}
	if _, err := parser.Parse([]string{"close", "--reasons", "x"}); err == nil {
		t.Error("the program takes flags that it does not have")
	}
}

// ownCommands gives the arguments of each command of ours on a page.
func ownCommands(t *testing.T, page string) (all [][]string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range regexp.MustCompile("(?m)(?:`(?:docker exec kidoban )?|^ *)kidoban ([^`|>\n]+)").FindAllStringSubmatch(string(text), -1) {
		var args []string
		for _, word := range regexp.MustCompile(`"[^"]*"|\S+`).FindAllString(found[1], -1) {
			if word == "FILE" || word == "ファイル" {
				word = page // any that is there
			}
			args = append(args, strings.Trim(word, `"`))
		}
		if slices.Contains([]string{"close", "reopen", "recover"}, args[0]) {
			// In a sentence the reason may be left out, in a line to copy not.
			if !slices.Contains(args, "--reason") && strings.HasPrefix(found[0], "`") {
				args = append(args, "--reason", "...")
			}
		}
		all = append(all, args)
	}
	return all
}

// shapeOf is a command without what is said in a language.
func shapeOf(args []string) string {
	var words []string
	for i, word := range args {
		if i > 0 && args[i-1] == "--reason" || strings.ContainsFunc(word, func(r rune) bool { return r > '~' }) || strings.ToUpper(word) == word || strings.HasSuffix(word, ".md") {
			word = "..."
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}
