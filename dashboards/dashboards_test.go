package dashboards

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the generated files")

// TestFiles holds the JSON that Grafana reads against its source.
func TestFiles(t *testing.T) {
	files, err := generated()
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob("*.json")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("ja/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(found, more...) {
		if _, ok := files[name]; !ok {
			t.Errorf("%s is generated from nothing", name)
		}
	}
	for name, want := range files {
		if *update {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is out of date; `go test ./dashboards -run TestFiles -update` writes it anew (-file +source):\n%s", name, cmp.Diff(string(got), string(want)))
		}
	}
}

// generated gives every generated file, by its path below this folder.
func generated() (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, l := range []Language{English, Japanese} {
		for _, d := range All(l) {
			var text bytes.Buffer
			e := json.NewEncoder(&text)
			e.SetEscapeHTML(false)
			e.SetIndent("", "  ")
			if err := e.Encode(d); err != nil {
				return nil, fmt.Errorf("%s: %w", d.UID, err)
			}
			files[l.folder()+strings.TrimSuffix(strings.TrimPrefix(d.UID, "kidoban-"), l.suffix())+".json"] = text.Bytes()
		}
	}
	return files, nil
}
