package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mayImport is the picture of the code: which of our packages a package may
// import, by their paths below the module. cmd wires all and is not listed.
var mayImport = map[string][]string{
	"gateway/policy":   {},
	"gateway/journal":  {"gateway/durable"},
	"gateway/lab":      {},
	"gateway/syslog":   {"gateway/log"},
	"gateway/confine":  {"gateway/durable", "gateway/view"},
	"config":           {"gateway/durable", "gateway/policy", "gateway/view", "gateway/witness"},
	"config/share":     {"config", "gateway/policy"},
	"gateway/tun":      {},
	"gateway/udp":      {},
	"gateway/tunnel":   {"gateway/clock", "gateway/policy", "gateway/tally", "gateway/tun", "gateway/udp", "gateway/view"},
	"gateway/firewall": {"gateway/clock", "gateway/durable", "gateway/policy", "gateway/tally", "gateway/view"},
	"gateway":          {"gateway/clock", "gateway/journal", "gateway/opening", "gateway/policy", "gateway/session", "gateway/store", "gateway/tally", "gateway/view"},
	"gateway/clock":    {},
	"gateway/opening":  {"gateway/clock", "gateway/policy"},
	"gateway/store":    {"gateway/durable", "gateway/journal", "gateway/policy", "gateway/tally", "gateway/view"},
	"gateway/durable":  {},
	"gateway/backup":   {"gateway/durable", "gateway/journal", "gateway/policy", "gateway/store", "gateway/view"},
	"gateway/view":     {"gateway/policy"},
	"gateway/tally":    {"gateway/policy", "gateway/view"},
	"dashboards":       {},
	"gateway/metrics":  {"gateway/journal", "gateway/policy", "gateway/session", "gateway/view"},
	"gateway/session":  {"gateway/clock", "gateway/journal", "gateway/policy", "gateway/view"},
	"gateway/api":      {"gateway", "gateway/evidence", "gateway/evidence/catalogue", "gateway/evidence/desk", "gateway/journal", "gateway/policy", "gateway/store", "gateway/view"},
	"gateway/admin":    {"gateway/api", "gateway/durable", "gateway/policy", "gateway/view"},
	"gateway/log":      {},
	"gateway/notify":   {"gateway/durable", "gateway/journal", "gateway/policy", "gateway/view"},
	"gateway/office":   {"gateway/admin", "gateway/api", "gateway/durable", "gateway/notify", "gateway/view"},
	"gateway/evidence": {"gateway/journal", "gateway/policy", "gateway/view"},

	"gateway/evidence/catalogue": {"gateway/evidence", "gateway/journal", "gateway/policy", "gateway/view"},
	"gateway/evidence/oscal":     {"gateway/evidence/catalogue", "gateway/view"},

	"gateway/evidence/sheet":  {},
	"gateway/evidence/page":   {"gateway/evidence", "gateway/evidence/catalogue", "gateway/evidence/sheet", "gateway/view"},
	"gateway/evidence/bundle": {"gateway/evidence", "gateway/evidence/sheet", "gateway/journal", "gateway/policy", "gateway/view"},
	"gateway/probe":           {"gateway/firewall", "gateway/lab", "gateway/policy", "gateway/tunnel"},
	"gateway/witness":         {"gateway/durable", "gateway/journal", "gateway/view"},
	"gateway/evidence/desk":   {"gateway/evidence", "gateway/journal", "gateway/policy", "gateway/store", "gateway/view"},
	"gateway/e2e":             {}, // tests only, which may import any package
}

const module = "kidoban/"

// listed is what go list tells of a package.
type listed struct {
	ImportPath, Dir string
	GoFiles         []string
	Imports         []string
}

func ourPackages(t *testing.T) []listed {
	t.Helper()
	command := exec.Command("go", "list", "-e", "-json=ImportPath,Dir,GoFiles,Imports", module+"...")
	var problems bytes.Buffer
	command.Stderr = &problems
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &problems)
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// forbidden says which of a package's imports the picture does not have.
func forbidden(p listed) []string {
	name, ok := strings.CutPrefix(p.ImportPath, module)
	if !ok || strings.HasPrefix(name, "cmd/") {
		return nil
	}
	allowed, known := mayImport[name]
	var all []string
	if !known {
		all = append(all, "is not in the picture of the code")
	}
	for _, i := range p.Imports {
		ours, ok := strings.CutPrefix(i, module)
		if ok && !slices.Contains(allowed, ours) {
			all = append(all, "imports "+ours)
		}
	}
	return all
}

func TestWhoMayImportWhom(t *testing.T) {
	packages := ourPackages(t)
	if len(packages) < len(mayImport) {
		t.Errorf("go list knows %d packages, the picture %d", len(packages), len(mayImport))
	}
	for _, p := range packages {
		for _, f := range forbidden(p) {
			t.Errorf("%s %s", p.ImportPath, f)
		}
	}
	for _, wrong := range []listed{
		{ImportPath: "kidoban/gateway/policy", Imports: []string{"kidoban/gateway/journal"}},
		{ImportPath: "kidoban/gateway/tunnel", Imports: []string{"kidoban/gateway"}},
		{ImportPath: "kidoban/helper"},
	} {
		if len(forbidden(wrong)) != 1 {
			t.Errorf("the test would not notice %+v", wrong)
		}
	}
}

func TestPolicyIsPure(t *testing.T) {
	for _, p := range ourPackages(t) {
		if p.ImportPath != "kidoban/gateway/policy" {
			continue
		}
		for _, i := range []string{"os", "net", "log", "log/slog"} {
			if slices.Contains(p.Imports, i) {
				t.Errorf("policy imports %s", i)
			}
		}
		for _, name := range p.GoFiles {
			file := parse(t, filepath.Join(p.Dir, name))
			ast.Inspect(file, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until"}, s.Sel.Name) {
					t.Errorf("%s asks for the time: time.%s", name, s.Sel.Name)
				}
				return true
			})
		}
		return
	}
	t.Error("go list does not know policy")
}

func TestOnlyMetricsTouchesPrometheus(t *testing.T) {
	var touching []string
	for _, p := range ourPackages(t) {
		if slices.ContainsFunc(p.Imports, func(path string) bool { return strings.Contains(path, "prometheus") }) {
			touching = append(touching, p.ImportPath)
		}
	}
	same(t, "packages that import prometheus", touching, []string{"kidoban/gateway/metrics"})
}

func parse(t *testing.T, name string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return file
}
