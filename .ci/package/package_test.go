// Package packages_test holds what the packages promise: the same bytes from the same commit, a
// list of what is linked, a signature that a site can verify, and a Debian package that leaves
// alone what is the site's.
package packages_test

import (
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	top          = "../.."
	older, newer = "v1.0.0", "v1.1.0"
	commitTime   = "1790000000" // of a release, in Unix seconds
)

// need ends the test if the machine lacks a program, and with CI=true lets it fail.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			lacking(t, fmt.Sprintf("%v (apt-get install %s)", err, p))
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		lacking(t, "only root can make a root folder of another system")
	}
}

func lacking(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// made has the files of the newer version, made once for all tests.
var made = sync.OnceValues(func() (string, error) { return makeAll(filepath.Join(scratch, "one"), newer, "") })

// scratch has all that the tests make. Each checkout has a fixed one, so that what a killed run left goes with the next.
var scratch string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		tree, err := filepath.Abs(top)
		if scratch = filepath.Join(os.TempDir(), "kidoban-packages"+strings.ReplaceAll(tree, "/", "-")); err == nil {
			err = errors.Join(os.RemoveAll(scratch), os.MkdirAll(scratch, 0o755), os.Setenv("TMPDIR", scratch))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(scratch)
		return m.Run()
	}())
}

// makeAll copies the tree into a folder, makes the packages there and gives their folder. The
// command before make may change how it runs.
func makeAll(folder, version, before string, targets ...string) (string, error) {
	if len(targets) == 0 {
		targets = []string{"deb", "sbom"}
		if _, err := exec.LookPath("buildah"); err == nil {
			targets = append(targets, "image")
		}
	}
	if _, err := os.Stat(folder); err != nil {
		if err := copyTree(folder); err != nil {
			return "", err
		}
	}
	cmd := exec.Command("sh", "-c", before+` make "$@"`, "sh")
	cmd.Args = append(append(cmd.Args, targets...), "VERSION="+version)
	cmd.Dir, cmd.Env = folder, append(os.Environ(), "SOURCE_DATE_EPOCH="+commitTime)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make %v: %v\n%s", targets, err, out)
	}
	return filepath.Join(folder, "bin"), nil
}

// copyTree copies what a commit of the tree would have.
func copyTree(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	copying := exec.Command("bash", "-o", "pipefail", "-c",
		`git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from - | tar --extract --directory "$1"`, "bash", folder)
	copying.Dir = top
	if out, err := copying.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %v: %s", copying.Args, err, out)
	}
	return nil
}

// file gives the only file in a folder with this end of its name.
func file(t *testing.T, folder, end string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(folder, "*"+end))
	if err != nil || len(names) != 1 {
		t.Fatalf("%s has %v (%v), want one file with the end %s", folder, names, err, end)
	}
	return names[0]
}

// TestReproducible: another folder, another time, other habits of a shell, and no history of git
// change no byte.
func TestReproducible(t *testing.T) {
	t.Parallel()
	need(t, "buildah")
	one, err := made()
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "a", "longer", "path")
	if err := copyTree(folder); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-400 * 24 * time.Hour)
	err = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return errors.Join(os.Chmod(path, info.Mode().Perm()&0o700), os.Chtimes(path, long, long))
	})
	if err != nil {
		t.Fatal(err)
	}
	two, err := makeAll(folder, newer, "umask 077; TZ=Asia/Tokyo LC_ALL=ja_JP.UTF-8")
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []string{"kidoban", ".deb", ".image.tar", ".cdx.json"} {
		first, err := os.ReadFile(file(t, one, end))
		if err != nil {
			t.Fatal(err)
		}
		second, err := os.ReadFile(file(t, two, end))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, second) {
			t.Errorf("%s: two builds of one commit differ (%d and %d bytes)", end, len(first), len(second))
		}
	}
}

// TestModules: the list of modules names what is linked, and nothing else.
func TestModules(t *testing.T) {
	folder, err := made()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file(t, folder, ".cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		BOMFormat string
		Metadata  struct {
			Component struct{ Name, Version string }
		}
		Component []struct{ Name, Version string } `json:"components"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range list.Component {
		got = append(got, c.Name+" "+c.Version)
	}
	built, err := buildinfo.ReadFile(filepath.Join(folder, "kidoban"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"std " + built.GoVersion}
	for _, d := range built.Deps {
		want = append(want, d.Path+" "+d.Version)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the list has\n%q\nlinked are\n%q", got, want)
	}
	if c := list.Metadata.Component; list.BOMFormat != "CycloneDX" || c.Name != "kidoban" || c.Version != newer {
		t.Errorf("the list is of %+v as %s, want kidoban %s as CycloneDX", c, list.BOMFormat, newer)
	}
	packed, err := gzip.NewReader(bytes.NewReader(fromDeb(t, file(t, folder, ".deb"), "./usr/share/doc/kidoban/modules.cdx.json.gz")))
	if err != nil {
		t.Fatal(err)
	}
	if inside, err := io.ReadAll(packed); err != nil || !bytes.Equal(inside, text) {
		t.Errorf("the package has another list than the one beside it (%v)", err)
	}
}

// fromDeb reads one file of a package.
func fromDeb(t *testing.T, deb, name string) []byte {
	t.Helper()
	need(t, "dpkg-deb")
	out, err := exec.Command("sh", "-c", `dpkg-deb --fsys-tarfile "$1" | tar --extract --to-stdout "$2"`, "sh", deb, name).Output()
	if err != nil {
		t.Fatalf("%s of %s: %v", name, deb, err)
	}
	return out
}

// TestPages: the manual pages have no errors, and the package has none either.
func TestPages(t *testing.T) {
	folder, err := made()
	if err != nil {
		t.Fatal(err)
	}
	deb := file(t, folder, ".deb")
	if _, err := exec.LookPath("lintian"); err == nil {
		if out, err := exec.Command("lintian", "--allow-root", "--fail-on", "error", deb).CombinedOutput(); err != nil {
			t.Errorf("lintian: %v\n%s", err, out)
		}
	}
	need(t, "mandoc")
	for _, page := range []string{"man1/kidoban.1", "man5/kidoban-policy.5"} {
		lint := exec.Command("sh", "-c", "gzip -d | mandoc -Tlint -Wwarning")
		lint.Stdin = bytes.NewReader(fromDeb(t, deb, "./usr/share/man/"+page+".gz"))
		if out, err := lint.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", page, err, out)
		}
	}
}

// TestSignature follows docs/INSTALL.md: what a site types accepts the files that were signed, and
// refuses a changed file, changed sums, another key and another purpose.
func TestSignature(t *testing.T) {
	need(t, "ssh-keygen", "sha256sum")
	folder := t.TempDir()
	keys := map[string]string{}
	for _, of := range []string{"release", "stranger"} {
		keys[of] = filepath.Join(t.TempDir(), of)
		run(t, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", of, "-f", keys[of])
	}
	public, err := os.ReadFile(keys["release"] + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	deb := filepath.Join(folder, "kidoban_1.1.0_amd64.deb")
	sums := filepath.Join(folder, "SHA256SUMS")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sign := func(key string) {
		t.Helper()
		write(deb, "a package")
		cmd := exec.Command("./build", "sign", deb)
		cmd.Env = append(os.Environ(), "VERSION="+newer, "SOURCE_DATE_EPOCH="+commitTime, "RELEASE_KEY="+key)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("sign: %v\n%s", err, out)
		}
	}
	for _, page := range []string{"INSTALL.md", "INSTALL.ja.md"} {
		text, err := os.ReadFile(filepath.Join(top, "docs", page))
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile("(?s)```sh\n((?:[^`]*\n)?ssh-keygen -Y verify .*?)```").FindSubmatch(text)
		if found == nil {
			t.Fatalf("%s does not say how a release is verified", page)
		}
		// The key that the page has the reader put there is the one of this test.
		typed := regexp.MustCompile(`ssh-ed25519 [\w+/.]+`).ReplaceAllLiteral(found[1], bytes.TrimSpace(public))
		verify := func() error {
			cmd := exec.Command("sh", "-ec", string(typed))
			cmd.Dir = folder
			out, err := cmd.CombinedOutput()
			if err != nil {
				return fmt.Errorf("%v: %s", err, out)
			}
			return nil
		}
		for _, c := range []struct {
			name string
			do   func()
			good bool
		}{
			{"as it was signed", func() {}, true},
			{"a changed file", func() { write(deb, "another package") }, false},
			{"changed sums", func() {
				write(deb, "another package")
				run(t, folder, "sh", "-c", "sha256sum *.deb > SHA256SUMS")
			}, false},
			{"another key", func() { sign(keys["stranger"]) }, false},
			{"another purpose", func() {
				run(t, "", "rm", sums+".sig")
				run(t, "", "ssh-keygen", "-Y", "sign", "-f", keys["release"], "-n", "file", sums)
			}, false},
			{"no signature", func() { run(t, "", "rm", sums+".sig") }, false},
		} {
			sign(keys["release"])
			c.do()
			if err := verify(); (err == nil) != c.good {
				t.Errorf("%s, %s: %v, want success %v", page, c.name, err, c.good)
			}
		}
	}
}

// run runs a command that has to succeed.
func run(t *testing.T, folder, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = folder
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, strings.TrimSpace(string(out)))
	}
	return string(out)
}
