package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"kidoban/config"
	"kidoban/gateway/metrics"
	"kidoban/gateway/policy"
	"kidoban/gateway/session"
)

const (
	readme         = "../../README.md"
	readmeJapanese = "../../README.ja.md"
	architecture   = "../../docs/ARCHITECTURE.md"
	reference      = "../../docs/REFERENCE.md"
)

// settingsTable has the settings as a Markdown table.
func settingsTable() string {
	var b strings.Builder
	b.WriteString("| setting | default | meaning |\n|---|---|---|\n")
	for _, field := range reflect.VisibleFields(reflect.TypeFor[config.Settings]()) {
		tag := field.Tag
		standard := "`" + tag.Get("envDefault") + "`"
		if shown := tag.Get("shown"); shown != "" {
			standard = shown
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", tag.Get("env"), standard, tag.Get("meaning"))
	}
	return b.String()
}

// TestREADME holds the README to its length, to a policy without mistakes, and
// to the packages that there are. With -update it writes anew who imports whom, in
// docs/ARCHITECTURE.md.
func TestREADME(t *testing.T) {
	packages, imports := ourPackages(t)
	generated(t, architecture, map[string]string{"imports": "| packages | imports |\n|---|---|\n" + imports})
	for _, name := range []string{readme, readmeJapanese} {
		text := read(t, name)
		if n := len(strings.Fields(text)); n > 2000 {
			t.Errorf("%s has %d words, allowed are 2,000: move some to docs", name, n)
		}
		checkPolicy(t, name, text)
		_, code, _ := strings.Cut(text, "```text\ncmd/kidoban ")
		code, _, _ = strings.Cut(code, "```")
		for _, p := range packages {
			if !slices.Contains(strings.Fields(code), p) {
				t.Errorf("%s: the picture of the code lacks the package %s", name, p)
			}
		}
	}
}

// ourPackages gives the names of our packages, and which import which as rows of
// a table. Programs are left out: they import all.
func ourPackages(t *testing.T) (names []string, rows string) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "kidoban/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	importing := map[string][]string{} // by the names that are imported, with commas
	for line := range strings.Lines(string(out)) {
		var ours []string
		for _, p := range strings.Fields(line) {
			if p, ok := strings.CutPrefix(p, "kidoban/"); ok {
				ours = append(ours, strings.TrimPrefix(p, "gateway/"))
			}
		}
		if strings.HasPrefix(ours[0], "cmd/") {
			continue
		}
		names = append(names, ours[0])
		of := cmp.Or(strings.Join(ours[1:], ", "), "-")
		importing[of] = append(importing[of], ours[0])
	}
	for _, of := range slices.SortedFunc(maps.Keys(importing), func(a, b string) int {
		return cmp.Or(cmp.Compare(strings.Count(a, ","), strings.Count(b, ",")), cmp.Compare(a, b))
	}) {
		rows += "| " + strings.Join(importing[of], ", ") + " | " + of + " |\n"
	}
	return names, rows
}

// generated compares the parts of a page between markers with the program's
// knowledge. With -update it writes them anew. It gives the page.
func generated(t *testing.T, page string, parts map[string]string) string {
	t.Helper()
	text := read(t, page)
	for name, want := range parts {
		begin, end := "<!-- "+name+": generated -->\n", "<!-- "+name+": end -->\n"
		before, rest, ok1 := strings.Cut(text, begin)
		got, after, ok2 := strings.Cut(rest, end)
		if !ok1 || !ok2 {
			t.Fatalf("%s has no place for %s between %q and %q", page, name, begin, end)
		}
		if *update {
			text = before + begin + want + end + after
		} else if diff := gocmp.Diff(got, want); diff != "" {
			t.Errorf("%s: the table of %s is out of date, `make generate` writes it anew (-page +program):\n%s", page, name, diff)
		}
	}
	if *update {
		if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return text
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// checkPolicy parses the first policy that a page shows.
func checkPolicy(t *testing.T, name, text string) {
	t.Helper()
	_, example, ok := strings.Cut(text, "```yaml\n")
	example, _, ok2 := strings.Cut(example, "```\n")
	if !ok || !ok2 {
		t.Fatalf("%s shows no policy", name)
	}
	if _, _, err := config.ParsePolicy(name, []byte(example), t.TempDir(), config.Host{}, time.Now()); err != nil {
		t.Errorf("%s shows a policy with mistakes:\n%v", name, err)
	}
}

// TestReference holds docs/REFERENCE.md against the program. With -update it
// rewrites the tables between markers.
func TestReference(t *testing.T) {
	text := generated(t, reference, map[string]string{"settings": settingsTable(), "metrics": metricsTable(t)})
	checkPolicy(t, "docs/REFERENCE.md", text)
	// The tables written by hand must be complete.
	for _, r := range policy.Reasons() {
		if !strings.Contains(text, "| `"+r.String()+"` |") {
			t.Errorf("docs/REFERENCE.md does not explain the reason %v", r)
		}
	}
	for _, e := range session.Endings() {
		if !strings.Contains(text, "| `"+string(e)+"` |") {
			t.Errorf("docs/REFERENCE.md does not explain why a session ends with %v", e)
		}
	}
	for _, kind := range names(t, "../../gateway/journal/entry.go", `Kind += "([a-z_]+)"`) {
		if !strings.Contains(text, "`"+kind+"`") {
			t.Errorf("docs/REFERENCE.md does not name the journal's kind %q", kind)
		}
	}
	for _, source := range []string{"policy.go", "address.go", "vendor.go", "window.go", "operator.go", "request.go", "sink.go"} {
		for _, call := range names(t, "../../config/"+source, `\.mapping\(\w+(?:\.value)?,([^)]*)\)`) {
			for _, field := range regexp.MustCompile(`"([a-z_]+)\??"`).FindAllStringSubmatch(call, -1) {
				if !strings.Contains(text, "`"+field[1]+"`") {
					t.Errorf("docs/REFERENCE.md does not name the field %q of the policy file", field[1])
				}
			}
		}
	}
	var help bytes.Buffer
	run([]string{"--help"}, nil, &help, &help)
	for _, command := range regexp.MustCompile(`(?m)^  ([a-z-]+(?: [a-z]+)?)  `).FindAllStringSubmatch(help.String(), -1) {
		if !strings.Contains(text, "`kidoban "+command[1]) {
			t.Errorf("docs/REFERENCE.md does not name the command %q", "kidoban "+command[1])
		}
	}
}

// metricsTable has every metric as a row of a Markdown table, sorted by name.
func metricsTable(t *testing.T) string {
	t.Helper()
	var rows []string
	described := regexp.MustCompile(`^Desc\{fqName: ("(?:[^"\\]|\\.)*"), help: ("(?:[^"\\]|\\.)*"), unit: "", constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)
	for _, c := range metrics.New("").Collectors(nil, "") {
		all := make(chan *prometheus.Desc, 100)
		c.Describe(all)
		close(all)
		for d := range all {
			found := described.FindStringSubmatch(d.String())
			if found == nil {
				t.Fatalf("a metric cannot be read: %s", d)
			}
			name, err := strconv.Unquote(found[1])
			help, err2 := strconv.Unquote(found[2])
			if err := errors.Join(err, err2); err != nil {
				t.Fatal(err)
			}
			kind := "gauge"
			if _, ok := c.(*prometheus.HistogramVec); ok {
				kind = "histogram"
			} else if strings.HasSuffix(name, "_total") {
				kind = "counter"
			}
			var labels []string
			for _, l := range regexp.MustCompile(`(\w+)(?:="[^"]*")?`).FindAllStringSubmatch(found[3]+","+found[4], -1) {
				labels = append(labels, "`"+l[1]+"`")
			}
			rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s | %s |\n", name, kind, strings.Join(labels, ", "), help, unit(name, help)))
		}
	}
	slices.Sort(rows)
	return "| metric | type | labels | meaning | unit |\n|---|---|---|---|---|\n" + strings.Join(rows, "")
}

// unit finds a metric's unit, which ends its name
// (https://prometheus.io/docs/practices/naming).
func unit(name, help string) string {
	name = strings.TrimSuffix(name, "_total")
	switch {
	case strings.HasPrefix(help, "Unix time"):
		return "seconds since 1970"
	case strings.HasSuffix(name, "_seconds"):
		return "seconds"
	case strings.HasSuffix(name, "_bytes"):
		return "bytes"
	case strings.HasSuffix(name, "_info"):
		return "1"
	case strings.HasPrefix(help, "1 if "):
		return "0 or 1"
	}
	return "number"
}

// names gives what a pattern's group matches in a source file.
func names(t *testing.T, source, pattern string) []string {
	t.Helper()
	var all []string
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(read(t, source), -1) {
		all = append(all, match[1])
	}
	if len(all) == 0 {
		t.Fatalf("nothing in %s matches %s", source, pattern)
	}
	return all
}

// TestREADMELinks finds links of our own documents that lead nowhere.
func TestREADMELinks(t *testing.T) {
	documents, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(documents, readme, readmeJapanese, "../../SECURITY.md", "../../CHANGELOG.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range regexp.MustCompile(`\]\(([^)#]*)(#[^)]*)?\)`).FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			page := name
			if link[1] != "" {
				page = filepath.Join(filepath.Dir(name), link[1])
			}
			if _, err := os.Stat(page); err != nil {
				t.Errorf("%s: the link to %s leads nowhere: %v", name, link[1], err)
			} else if link[2] != "" && !slices.Contains(anchors(read(t, page)), link[2]) {
				t.Errorf("%s: the page %s has no heading for %s", name, page, link[2])
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

// anchors gives the links to a page's headings, as GitHub makes them.
func anchors(page string) []string {
	var all []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		plain := regexp.MustCompile(`[^\p{L}\p{N}\p{M} _-]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		all = append(all, "#"+strings.ReplaceAll(plain, " ", "-"))
	}
	return all
}

// pagesInTwoLanguages are English; the Japanese page has .ja.md in place of .md.
var pagesInTwoLanguages = []string{readme, "../../docs/INSTALL.md", "../../docs/OPERATIONS.md", auditPage}

// TestPagesInTwoLanguages compares the structure of a page in both languages:
// its headings, tables and code blocks, the commands and the tests that it names.
func TestPagesInTwoLanguages(t *testing.T) {
	for _, page := range pagesInTwoLanguages {
		japanese := strings.TrimSuffix(page, ".md") + ".ja.md"
		if diff := gocmp.Diff(structure(read(t, page)), structure(read(t, japanese))); diff != "" {
			t.Errorf("%s and %s differ (-English +Japanese):\n%s", page, japanese, diff)
		}
	}
}

// structure gives the parts of a page that its translation must have too.
func structure(page string) map[string][]string {
	parts := map[string][]string{}
	block := ""
	for line := range strings.Lines(page) {
		line = strings.TrimRight(line, "\n")
		tag, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && block == "":
			block = tag
			parts["lines"] = append(parts["lines"], line)
		case fence:
			block = ""
		case block == "text":
		case block != "":
			line, _, _ = strings.Cut(line, " # ")
			line = regexp.MustCompile(`(--reason|make \w+) .*`).ReplaceAllString(line, "$1")
			parts["lines"] = append(parts["lines"], strings.TrimRight(line, " "))
		case strings.HasPrefix(line, "#"):
			parts["lines"] = append(parts["lines"], strings.Fields(line)[0])
		case strings.HasPrefix(line, "|"):
			parts["lines"] = append(parts["lines"], strings.Repeat("|", strings.Count(line, " | ")))
		case strings.HasPrefix(line, "- "), strings.HasPrefix(line, "1. "):
			parts["lines"] = append(parts["lines"], line[:2])
		}
	}
	for _, args := range pageCommands(page) {
		parts["commands"] = append(parts["commands"], shapeOf(args))
	}
	for _, test := range regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]+)`").FindAllStringSubmatch(page, -1) {
		parts["tests"] = append(parts["tests"], test[1])
	}
	parts["names"] = regexp.MustCompile(`KIDOBAN_[A-Z_]+|CAP_[A-Z_]+|/(?:etc|var|run|dev|usr|root)/[a-z./-]*[a-z]`).FindAllString(page, -1)
	for name, list := range parts {
		if name != "lines" { // a translation may have another order of words
			slices.Sort(list)
			parts[name] = slices.Compact(list)
		}
	}
	return parts
}

// TestPagesNameCommandsThatExist has the program take every command of its own
// that the pages tell people to type.
func TestPagesNameCommandsThatExist(t *testing.T) {
	parser, err := kong.New(&commands{}, kong.Name("kidoban"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pagesInTwoLanguages {
		all := pageCommands(read(t, page))
		if len(all) < 10 {
			t.Errorf("%s names %d commands only", page, len(all))
		}
		for _, args := range all {
			if i := slices.Index(args, "--since"); i > 0 {
				args = slices.Concat(args[:i+1], []string{page}, args[i+2:]) // any file that is there
			}
			if args[0] == "verify-bundle" {
				args = slices.Concat(args[:1], []string{page}, args[2:])
			}
			if _, err := parser.Parse(args); err != nil {
				t.Errorf("%s: kidoban %q: %v", page, args, err)
			}
		}
	}
}

// TestPagesQuoteMessages: a message that a page quotes in a table is one that the
// program has, in the page's language.
func TestPagesQuoteMessages(t *testing.T) {
	texts := names(t, "../../gateway/view/words.txt", `(?m)^(?:en|ja) (.*)$`)
	quote := regexp.MustCompile("``(.*?) ``|`([^`]+)`")
	command := regexp.MustCompile(`^(kidoban|systemctl|tcpdump|ip|install|touch|masquerade:) `)
	for _, page := range pagesInTwoLanguages {
		for _, page := range []string{page, strings.TrimSuffix(page, ".md") + ".ja.md"} {
			for line := range strings.Lines(read(t, page)) {
				if !strings.HasPrefix(line, "| ") {
					continue
				}
				for _, found := range quote.FindAllStringSubmatch(line, -1) {
					quoted := found[1] + found[2]
					if !strings.ContainsAny(quoted, " 。") || command.MatchString(quoted) {
						continue
					}
					quoted = strings.TrimSuffix(quoted, "...")
					if !slices.ContainsFunc(texts, func(text string) bool { return quotes(strings.TrimSpace(quoted), text) }) {
						t.Errorf("%s: the program has no message like %q", page, quoted)
					}
				}
			}
		}
	}
}

// quotes reports whether a part of a message's text gives the words, with any
// arguments, and at least eight letters of its own.
func quotes(words, text string) bool {
	var from func(words, text []rune, own int) bool
	from = func(words, text []rune, own int) bool {
		switch {
		case len(words) == 0:
			return own >= 8
		case len(text) == 0:
			return false
		case text[0] == '{':
			rest := text[slices.Index(text, '}')+1:]
			for i := 1; i <= len(words); i++ {
				if from(words[i:], rest, own) {
					return true
				}
			}
			return false
		}
		return words[0] == text[0] && from(words[1:], text[1:], own+1)
	}
	for i := range []rune(text) {
		if from([]rune(words), []rune(text)[i:], 0) {
			return true
		}
	}
	return false
}

// pageCommands gives the arguments of the program's commands on a page: those in
// its code blocks, and those within a sentence.
func pageCommands(page string) (all [][]string) {
	add := func(command string, spoken bool) {
		var args []string
		for _, word := range regexp.MustCompile(`"[^"]*"|\S+`).FindAllString(command, -1) {
			args = append(args, strings.Trim(word, `"`))
		}
		if spoken && !slices.Contains(args, "--reason") && slices.Contains([]string{"close", "reopen", "recover"}, args[0]) {
			args = append(args, "--reason", "...") // a sentence may leave it out
		}
		if slices.Equal(args, []string{"journal", "..."}) {
			return // all of its commands
		}
		all = append(all, args)
	}
	for _, line := range scriptLines(page) {
		for command := range strings.SplitSeq(line, "&&") {
			command, _, _ = strings.Cut(command, ">")
			if args, ok := strings.CutPrefix(strings.TrimSpace(command), "kidoban "); ok {
				add(args, false)
			}
		}
	}
	for _, found := range regexp.MustCompile("`(?:docker exec kidoban )?kidoban ([^`]+)`").FindAllStringSubmatch(page, -1) {
		add(found[1], true)
	}
	return all
}

// scriptLines gives the lines of a page's shell blocks, without comments.
func scriptLines(page string) (all []string) {
	for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		for line := range strings.Lines(block[1]) {
			line, _, _ = strings.Cut(line, " # ")
			if line = strings.TrimSpace(line); line != "" {
				all = append(all, line)
			}
		}
	}
	return all
}

// TestTopLevel: a repository holds what is meant to be in it.
func TestTopLevel(t *testing.T) {
	out, err := exec.Command("git", "-C", "../..", "ls-files").Output()
	if err != nil {
		t.Skipf("not a checkout: %v", err)
	}
	meant := []string{".ci", ".dockerignore", ".gitignore", "CHANGELOG.md", "Dockerfile", "Makefile", "README.ja.md", "README.md", "SECURITY.md", "THIRD_PARTY_LICENSES.md",
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
	if diff := gocmp.Diff(string(got), b.String()); diff != "" {
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
		for _, pattern := range []string{"LICENSE*", "License", "COPYING*", "NOTICE*", "PATENTS*"} {
			names, err := filepath.Glob(filepath.Join(folder, pattern))
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, m.named(t, names)...)
		}
	}
	return files
}

// named takes, of a folder with several licences (https://reuse.software), those that a linked
// package names.
func (m *module) named(t *testing.T, names []string) (files []string) {
	for _, name := range names {
		if info, err := os.Stat(name); err != nil || !info.IsDir() {
			files = append(files, name)
			continue
		}
		inside, err := filepath.Glob(filepath.Join(name, "*.txt"))
		if err != nil {
			t.Fatal(err)
		}
		for _, licence := range inside {
			id := strings.TrimSuffix(filepath.Base(licence), ".txt")
			if slices.ContainsFunc(m.packages, func(folder string) bool {
				return exec.Command("grep", "-q", "SPDX-License-Identifier:.*"+id, "-r", "--include=*.go", folder).Run() == nil
			}) {
				files = append(files, licence)
			}
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
		{"BSD-3-Clause", "be used to endorse or promote products"},
		{"MIT", "is hereby granted, free of charge, to any person obtaining a copy"},
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
