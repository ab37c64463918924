package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kidoban/config"
	"kidoban/gateway"
	"kidoban/gateway/policy"
)

const readme = "../../README.md"

// TestREADME holds what README.md says against what the program knows. With
// -update it rewrites the parts between markers.
func TestREADME(t *testing.T) {
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"settings": config.SettingsTable(),
		"metrics":  gateway.NewMetrics("").Table(),
	} {
		begin, end := []byte("<!-- "+name+": generated -->\n"), []byte("<!-- "+name+": end -->\n")
		before, rest, ok1 := bytes.Cut(text, begin)
		got, after, ok2 := bytes.Cut(rest, end)
		if !ok1 || !ok2 {
			t.Fatalf("README.md has no place for %s between %q and %q", name, begin, end)
		}
		if *update {
			text = slices.Concat(before, begin, []byte(want), end, after)
		} else if diff := cmp.Diff(string(got), want); diff != "" {
			t.Errorf("README.md: the table of %s is out of date, `make generate` writes it anew (-README +program):\n%s", name, diff)
		}
	}
	if *update {
		if err := os.WriteFile(readme, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, example, ok := bytes.Cut(text, []byte("```yaml\n"))
	example, _, ok2 := bytes.Cut(example, []byte("```\n"))
	if !ok || !ok2 {
		t.Fatal("README.md shows no policy")
	}
	if _, _, err := config.ParsePolicy("README.md", example, t.TempDir(), config.Host{}, time.Now()); err != nil {
		t.Errorf("README.md shows a policy with mistakes:\n%v", err)
	}
	// What is told by hand must at least be complete.
	for _, r := range policy.Reasons() {
		if !bytes.Contains(text, []byte("| `"+r.String()+"` |")) {
			t.Errorf("README.md does not explain the reason %v", r)
		}
	}
	for _, e := range gateway.Endings() {
		if !bytes.Contains(text, []byte("| `"+string(e)+"` |")) {
			t.Errorf("README.md does not explain why a session ends with %v", e)
		}
	}
	var help bytes.Buffer
	run([]string{"--help"}, nil, &help, &help)
	for _, command := range regexp.MustCompile(`(?m)^  ([a-z-]+(?: [a-z]+)?)  `).FindAllStringSubmatch(help.String(), -1) {
		if !bytes.Contains(text, []byte("`kidoban "+command[1])) {
			t.Errorf("README.md does not name the command %q", "kidoban "+command[1])
		}
	}
}

// TestREADMELinks finds links of our own documents that lead nowhere.
func TestREADMELinks(t *testing.T) {
	documents, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(documents, readme, "../../SECURITY.md", "../../CHANGELOG.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`).FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), link[1])); err != nil {
				t.Errorf("%s: the link to %s leads nowhere: %v", name, link[1], err)
			}
		}
		// A test that a document names must be there.
		for _, test := range regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1) {
			if out, err := exec.Command("grep", "-rqE", "--include=*_test.go", "^func "+test[1]+`\(`, "../..").CombinedOutput(); err != nil {
				t.Errorf("%s names the test %s, which is not there: %v %s", name, test[1], err, out)
			}
		}
	}
}

// TestTopLevel: a repository holds what is meant to be in it.
func TestTopLevel(t *testing.T) {
	out, err := exec.Command("git", "-C", "../..", "ls-files").Output()
	if err != nil {
		t.Skipf("not a checkout: %v", err)
	}
	meant := []string{".ci", ".dockerignore", ".gitignore", "CHANGELOG.md", "Dockerfile", "Makefile", "README.md", "SECURITY.md", "THIRD_PARTY_LICENSES.md",
		"cmd", "config", "dashboards", "docs", "gateway", "go.mod", "go.sum"}
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), "/")
		if !slices.Contains(meant, name) {
			t.Errorf("%s: at the top level are only %v", name, meant)
		}
	}
}

const licences = "../../THIRD_PARTY_LICENSES.md"

// TestREADMELicences holds the list of modules that are linked into kidoban,
// with their licences, against the build. With -update it is written anew.
func TestREADMELicences(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Licences of what is linked into kidoban

Beside the modules below, the standard library and runtime of Go are linked;
their licence and patent grant are those of golang.org/x/sys below. Not linked, but in the sources:
dashboards/testdata/grafana/dashboard.schema.json is made from the types of @grafana/schema (npm, 12.2.0;
Copyright Grafana Labs; Apache-2.0, whose text is below).

| module | version | licence (SPDX) |
|---|---|---|
`)
	modules := linkedModules(t)
	texts := map[string]string{}
	var order []string
	for _, m := range modules {
		text, spdx := m.licence(t)
		fmt.Fprintf(&b, "| %s | %s | %s |\n", m.Path, m.Version, spdx)
		if texts[text] == "" {
			order = append(order, text)
		}
		texts[text] += "\n- " + m.Path
	}
	for _, text := range order {
		fmt.Fprintf(&b, "\n---%s\n\n```text\n%s\n```\n", "\n"+texts[text], text)
	}
	if *update {
		if err := os.WriteFile(licences, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(licences)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), b.String()); diff != "" {
		t.Errorf("%s is out of date, `make generate` writes it anew (-file +build):\n%s", licences, diff)
	}
}

// module is what `go list` says of one, and the folders of its packages that
// are linked.
type module struct {
	Path, Version, Dir string
	packages           []string
}

// linkedModules lists the modules of which packages are linked into kidoban,
// sorted by path.
func linkedModules(t *testing.T) []*module {
	list := exec.Command("go", "list", "-deps", "-json=Dir,Module", ".")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*module{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			Dir    string
			Module *module
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if p.Module == nil || p.Module.Version == "" {
			continue
		}
		m := found[p.Module.Path]
		if m == nil {
			m = p.Module
			found[m.Path] = m
		}
		m.packages = append(m.packages, p.Dir)
	}
	return slices.SortedFunc(maps.Values(found), func(a, b *module) int { return strings.Compare(a.Path, b.Path) })
}

// licenceFiles are the texts that go with the linked packages: those of the
// module, and those that stand nearer to a package, which somebody else wrote.
func (m *module) licenceFiles(t *testing.T) []string {
	folders := map[string]bool{}
	for _, folder := range m.packages {
		for len(folder) > len(m.Dir) {
			folders[folder] = true
			folder = filepath.Dir(folder)
		}
	}
	delete(folders, m.Dir)
	var files []string
	for _, folder := range append([]string{m.Dir}, slices.Sorted(maps.Keys(folders))...) {
		for _, pattern := range []string{"LICENSE*", "COPYING*", "NOTICE*", "PATENTS*"} {
			names, err := filepath.Glob(filepath.Join(folder, pattern))
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, names...)
		}
	}
	return files
}

// licence gives the texts that have to go with the module, and what they are.
func (m *module) licence(t *testing.T) (text, spdx string) {
	var parts []string
	for _, name := range m.licenceFiles(t) {
		part, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		head := ""
		if place := filepath.Dir(name); place != m.Dir {
			head = "(" + strings.TrimPrefix(place, m.Dir+"/") + ")\n\n"
		}
		parts = append(parts, head+strings.TrimSpace(strings.ReplaceAll(string(part), "\r\n", "\n")))
	}
	text = strings.Join(parts, "\n\n")
	words := strings.Join(strings.Fields(text), " ")
	var all []string
	for _, l := range []struct{ spdx, says string }{
		{"Apache-2.0", "Apache License Version 2.0, January 2004"},
		{"BSD-3-Clause", "may be used to endorse or promote products"},
		{"MIT", "Permission is hereby granted, free of charge, to any person obtaining a copy"},
	} {
		if strings.Contains(words, l.says) {
			all = append(all, l.spdx)
		}
	}
	if len(all) > 0 {
		return text, strings.Join(all, " AND ")
	}
	t.Errorf("%s %s in %s: which licence is this? %.200q", m.Path, m.Version, m.Dir, text)
	return text, "unknown"
}
