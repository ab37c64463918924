package durable

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// site is a folder with etc/policy, which the tests spoil.
func site(t *testing.T) (folder string) {
	t.Helper()
	folder = t.TempDir()
	check(t, os.MkdirAll(filepath.Join(folder, "etc"), 0o755))
	check(t, os.WriteFile(filepath.Join(folder, "etc", "policy"), []byte("good"), 0o640))
	return folder
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const stranger = 65533

// spoil changes a site; in gives the path of a name there.
type spoil = func(t *testing.T, in func(string) string)

func chmod(name string, mode fs.FileMode) spoil {
	return func(t *testing.T, in func(string) string) { check(t, os.Chmod(in(name), mode)) }
}

func chown(name string, user, group int) spoil {
	return func(t *testing.T, in func(string) string) { check(t, os.Lchown(in(name), user, group)) }
}

func link(to, name string) spoil {
	return func(t *testing.T, in func(string) string) {
		check(t, os.MkdirAll(filepath.Dir(in(name)), 0o755))
		check(t, os.Symlink(in(to), in(name)))
	}
}

func both(all ...spoil) spoil {
	return func(t *testing.T, in func(string) string) {
		for _, s := range all {
			s(t, in)
		}
	}
}

// TestFault107PlacesOfOthers: whoever can write in a folder on the way to a file
// can put another file in its place, and so can whoever owns the folder, or a
// link on the way.
func TestFault107PlacesOfOthers(t *testing.T) {
	root := os.Geteuid() == 0
	for _, c := range []struct {
		name   string
		spoil  spoil
		path   string // "etc/policy" if empty
		says   string // empty: the file is taken. Folders are named below the site
		byRoot bool   // only root can do it
		draft  bool
	}{
		{name: "nothing", spoil: func(*testing.T, func(string) string) {}},
		{name: "the folder is everybody's", spoil: chmod("etc", 0o777),
			says: "lies in etc, which has mode 0777: everybody on this machine could replace what is in it; allowed is a folder that others cannot write (chmod 0755 etc)"},
		{name: "a folder above is everybody's", spoil: chmod("", 0o777),
			says: "lies in , which has mode 0777: everybody on this machine could replace what is in it; allowed is a folder that others cannot write (chmod 0755 )"},
		{name: "a folder above is sticky", spoil: chmod("", 0o777|fs.ModeSticky)},
		{name: "the folder is sticky", spoil: chmod("etc", 0o777|fs.ModeSticky),
			says: "lies in etc, which has mode 1777: everybody on this machine could replace what is in it; allowed is a folder that others cannot write (use another folder)"},
		{name: "a draft in a sticky folder", spoil: chmod("etc", 0o777|fs.ModeSticky), draft: true},
		{name: "a draft in everybody's folder", spoil: chmod("etc", 0o777), draft: true,
			says: "lies in etc, which has mode 0777: everybody on this machine could replace what is in it; allowed is a folder that others cannot write (chmod 0755 etc)"},
		{name: "a stranger's draft in a sticky folder", spoil: both(chown("etc/policy", stranger, -1), chmod("etc", 0o777|fs.ModeSticky)), draft: true, byRoot: true,
			says: "belongs to user 65533: allowed is root (chown root etc/policy)"},
		{name: "the folder is a stranger's", spoil: chown("etc", stranger, -1), byRoot: true,
			says: "lies in etc, which belongs to user 65533: allowed is root (chown root etc)"},
		{name: "a folder above is a stranger's", spoil: chown("", stranger, -1), byRoot: true,
			says: "lies in , which belongs to user 65533: allowed is root (chown root )"},
		{name: "the folder is a strange group's", spoil: both(chown("etc", -1, stranger), chmod("etc", 0o770)), byRoot: true,
			says: "lies in etc, which has mode 0770: group 65533 could replace what is in it; allowed is a folder that others cannot write (chmod 0750 etc)"},
		{name: "a strange group reads", spoil: chown("etc", -1, stranger), byRoot: true},
		{name: "the own group writes", spoil: chmod("etc", 0o770)},
		{name: "everybody writes the file", spoil: chmod("etc/policy", 0o666),
			says: "has mode 0666: everybody on this machine could open the gate; allowed is a file that others cannot write (chmod o-w)"},
		{name: "a strange group writes the file", spoil: both(chown("etc/policy", -1, stranger), chmod("etc/policy", 0o660)), byRoot: true,
			says: "has mode 0660: group 65533 could open the gate; allowed is a file that others cannot write (chmod g-w)"},
		{name: "the file is a stranger's", spoil: chown("etc/policy", stranger, -1), byRoot: true,
			says: "belongs to user 65533: allowed is root (chown root etc/policy)"},
		{name: "a link leads to everybody's folder", spoil: both(chmod("etc", 0o777), link("etc/policy", "safe/policy")), path: "safe/policy",
			says: "lies in etc, which has mode 0777: everybody on this machine could replace what is in it; allowed is a folder that others cannot write (chmod 0755 etc)"},
		{name: "a link lies in everybody's folder", spoil: both(link("etc/policy", "open/policy"), chmod("open", 0o777)), path: "open/policy",
			says: "lies in open, which has mode 0777: everybody on this machine could replace what is in it; allowed is a folder that others cannot write (chmod 0755 open)"},
		{name: "a folder is a link out of everybody's", spoil: both(link("etc", "open/to"), chmod("open", 0o777)), path: "open/to/policy",
			says: "lies in open, which has mode 0777: everybody on this machine could replace what is in it; allowed is a folder that others cannot write (chmod 0755 open)"},
		{name: "a way back through everybody's folder", spoil: both(link("etc", "open/to"), chmod("open", 0o777)), path: "open/to/../etc/policy",
			says: "lies in open, which has mode 0777: everybody on this machine could replace what is in it; allowed is a folder that others cannot write (chmod 0755 open)"},
		{name: "a stranger's link in a sticky folder", spoil: both(link("etc/policy", "tmp/policy"), chown("tmp/policy", stranger, -1), chmod("tmp", 0o777|fs.ModeSticky)),
			path: "tmp/policy", byRoot: true, says: "leads through the link tmp/policy, which belongs to user 65533: allowed is root (chown -h root tmp/policy)"},
		{name: "links between closed folders", spoil: both(link("etc", "a/b"), link("a/b/policy", "c")), path: "c"},
		{name: "a link in a circle", spoil: link("c", "c"), path: "c", says: "cannot be read: too many levels of symbolic links"},
		{name: "a link to nowhere", spoil: link("nowhere", "c"), path: "c", says: "cannot be read: no such file or directory"},
		{name: "a folder in place of the file", spoil: func(*testing.T, func(string) string) {}, path: "etc", says: "is not a regular file (d---------)"},
		{name: "a file in place of the folder", spoil: func(*testing.T, func(string) string) {}, path: "etc/policy/x", says: "cannot be read: not a directory"},
		{name: "a pipe", spoil: func(t *testing.T, in func(string) string) { check(t, syscall.Mkfifo(in("pipe"), 0o600)) }, path: "pipe",
			says: "is not a regular file (p---------)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.byRoot && !root {
				t.Skip("only root gives files away")
			}
			folder := site(t)
			in := func(name string) string { return filepath.Join(folder, name) }
			path := folder + "/etc/policy"
			if c.path != "" {
				path = folder + "/" + c.path // as it is written
			}
			c.spoil(t, in)
			f, err := Guard{Draft: c.draft}.Open(path, 0o777)
			said := ""
			if err != nil {
				said = strings.ReplaceAll(strings.ReplaceAll(err.Error(), folder+"/", ""), folder, "")
				said = strings.ReplaceAll(said, fmt.Sprintf("root or user %d", os.Geteuid()), "root")
			} else {
				text, _ := io.ReadAll(f)
				f.Close()
				if string(text) != "good" {
					t.Errorf("the file says %q", text)
				}
			}
			if said != c.says {
				t.Errorf("said %q, want %q", said, c.says)
			}
			_, statErr := Guard{Draft: c.draft}.Stat(path)
			if (statErr == nil) != (err == nil) {
				t.Errorf("Stat says %v, Open %v", statErr, err)
			}
		})
	}
}

// TestFault107FoldersOfOthers: what others put into the state folder, a start
// would believe.
func TestFault107FoldersOfOthers(t *testing.T) {
	folder := site(t)
	etc := filepath.Join(folder, "etc")
	for _, c := range []struct {
		mode fs.FileMode
		says string
	}{
		{0o700, ""},
		{0o755, ""},
		{0o770, ""},
		{0o777, "has mode 0777: everybody on this machine could replace what is in it; allowed is a folder that others cannot write (chmod 0755 " + etc + ")"},
		{0o703, "has mode 0703: everybody on this machine could replace what is in it; allowed is a folder that others cannot write (chmod 0701 " + etc + ")"},
		{0o777 | fs.ModeSticky, "has mode 1777: everybody on this machine could replace what is in it; allowed is a folder that others cannot write (use another folder)"},
	} {
		check(t, os.Chmod(etc, c.mode))
		for _, path := range []string{etc, etc + "/", folder + "/./etc", etc + "/."} {
			if got := text(Guard{}.Folder(path)); got != c.says {
				t.Errorf("mode %v, %s: said %q, want %q", c.mode, path, got, c.says)
			}
		}
	}
	if got := text(Guard{}.Folder(etc + "/policy")); got != "is not a folder (----------)" {
		t.Errorf("a file: said %q", got)
	}
	if err := (Guard{}).Folder("/"); err != nil && os.Geteuid() == 0 {
		t.Errorf("the root: %v", err)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestRootTrustsTheService: root reads the service's files as the service does;
// the service trusts nobody but root.
func TestRootTrustsTheService(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	folder := site(t)
	etc := filepath.Join(folder, "etc")
	check(t, os.Chown(etc, stranger, stranger))
	check(t, os.Chmod(etc, 0o770))
	check(t, os.Chown(filepath.Join(etc, "policy"), stranger, stranger))
	if err := (Guard{}).Folder(etc); err == nil {
		t.Error("without its owner's trust the folder is taken")
	}
	if _, err := GuardFor(etc).Stat(filepath.Join(etc, "policy")); err != nil {
		t.Error(err)
	}
	if got, want := text(GuardFor(etc).Folder(chowned(t, folder))), "belongs to user 65532: allowed is root or user 65533 (chown root "+folder+"/other)"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
	// What is closed to others is of use to its owner alone: that must be the service.
	check(t, os.Chmod(filepath.Join(folder, "other"), 0o700))
	if got, want := text(GuardFor(etc).Folder(folder+"/other")), "belongs to user 65532: allowed is root or user 65533 (chown 65533 "+folder+"/other)"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
	if got := GuardFor(filepath.Join(folder, "nowhere")); got.User != 0 || got.Group != 0 {
		t.Errorf("the owner of a folder that is not there: %+v", got)
	}
}

func chowned(t *testing.T, folder string) string {
	other := filepath.Join(folder, "other")
	check(t, os.Mkdir(other, 0o755))
	check(t, os.Chown(other, stranger-1, -1))
	return other
}

// TestUnknownOwner: in a user namespace of one user, as that of `make demo`, the
// folders above belong to somebody whom it does not know. They are taken, but no
// file or folder of such a user itself. On the machine, nobody (65534) is a user
// like others.
func TestUnknownOwner(t *testing.T) {
	if site := os.Getenv("GUARD_SITE"); site != "" {
		if !unmapped(65534) {
			t.Error("user 65534 counts as known")
		}
		if f, err := (Guard{}).Open(site+"/etc/policy", 0o640); err != nil {
			t.Error(err)
		} else {
			f.Close()
		}
		if err := (Guard{}).Folder(site); err != nil {
			t.Error(err)
		}
		for _, path := range []string{"/etc/passwd", "/proc/sys/kernel/overflowuid"} {
			if _, err := (Guard{}).Stat(path); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
				t.Errorf("%s: %v", path, err)
			}
		}
		return
	}
	if unmapped(65534) {
		t.Skip("this namespace has an unknown user already")
	}
	folder, user := site(t), os.Geteuid()
	if user == 0 { // root's own folders must be unknown
		user = stranger
		check(t, filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
			check(t, err)
			return os.Lchown(path, user, user)
		}))
		check(t, os.Chmod(filepath.Dir(folder), 0o755))
	}
	c := exec.Command("/proc/self/exe", "-test.run=^TestUnknownOwner$", "-test.v")
	c.Env = append(os.Environ(), "GUARD_SITE="+folder)
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: user, Size: 1}}, GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: user, Size: 1}}}
	if os.Geteuid() == 0 {
		c.SysProcAttr.Credential = &syscall.Credential{NoSetGroups: true}
	}
	out, err := c.CombinedOutput()
	if strings.Contains(text(err), "not permitted") {
		t.Skipf("a user namespace is not permitted here: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: TestUnknownOwner") {
		t.Errorf("%v\n%s", err, out)
	}
	// A folder of nobody on the machine itself.
	if os.Geteuid() == 0 {
		check(t, os.Chown(folder, 65534, -1))
		if err := (Guard{}).Folder(filepath.Join(folder, "etc")); err == nil {
			t.Error("a folder in nobody's folder is taken")
		}
	}
}

func TestUserMap(t *testing.T) {
	for text, want := range map[string]bool{
		"         0          0 4294967295\n": true,
		"0 1000 1\n":                         false,
		"0 1000 1\n1 100000 65536\n":         true,
		"0 100000 65534\n":                   false,
		"0 100000 65535\n":                   true,
		"65534 5 1\n":                        true,
		"65535 5 1\n":                        false,
		"":                                   true,
		"what is this\n":                     true,
	} {
		if got := maps(text, 65534); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
