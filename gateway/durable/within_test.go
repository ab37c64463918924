package durable

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFault130FilesElsewhere: a file that lies where the confined gateway cannot read is refused with
// its place, also if a link leads there.
func TestFault130FilesElsewhere(t *testing.T) {
	folder := Real(site(t))
	etc, other := filepath.Join(folder, "etc"), filepath.Join(folder, "etc-other")
	check(t, os.Mkdir(other, 0o755))
	for _, name := range []string{filepath.Join(other, "key"), filepath.Join(etc, "key")} {
		check(t, os.WriteFile(name, nil, 0o600))
	}
	check(t, os.Symlink("../etc-other/key", filepath.Join(etc, "out")))
	check(t, os.Symlink("../etc/key", filepath.Join(other, "in")))
	g := Guard{Within: []string{"/nowhere", etc}}
	for name, want := range map[string]string{
		etc + "/policy":            "",
		etc + "/key":               "",
		other + "/in":              "",
		etc + "/../etc/key":        "",
		other + "/key":             "lies in " + other + ", where the gateway cannot read: allowed is a file beneath /nowhere or " + etc,
		etc + "/out":               "lies in " + other + ",",
		etc + "/../etc-other/key":  "lies in " + other + ",",
		etc + "/key/../../etc/key": "cannot be read: not a directory",
	} {
		f, err := g.Open(name, 0o640)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		f.Close()
	}
}

func TestReal(t *testing.T) {
	folder := Real(t.TempDir())
	check(t, os.MkdirAll(filepath.Join(folder, "a/b"), 0o755))
	check(t, os.Symlink("a/b", filepath.Join(folder, "link")))
	check(t, os.Symlink("not/yet", filepath.Join(folder, "dangling")))
	for path, want := range map[string]string{
		"link":          "a/b",
		"link/new/file": "a/b/new/file",
		"missing/x":     "missing/x",
		"dangling":      "dangling",
		"a/./b/":        "a/b",
	} {
		if got := Real(folder + "/" + path); got != filepath.Join(folder, want) {
			t.Errorf("%s leads to %s, want %s", path, got, want)
		}
	}
	if got := Real("/"); got != "/" {
		t.Errorf("/ leads to %s", got)
	}
}
