package packages_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A root is a fresh Debian, in which no systemd runs.
type root struct {
	t      *testing.T
	folder string
}

func newRoot(t *testing.T) root {
	t.Helper()
	needRoot(t)
	need(t, "debootstrap", "unshare", "setpriv")
	r := root{t, filepath.Join(t.TempDir(), "root")}
	began := time.Now()
	run(t, "", "debootstrap", "--variant=minbase", "bookworm", r.folder)
	t.Logf("debootstrap took %.0f s", time.Since(began).Seconds())
	return r
}

// run runs a command of the shell in the root, and gives its output.
func (r root) run(command string) string {
	r.t.Helper()
	return run(r.t, "", "chroot", r.folder, "sh", "-ec", command)
}

// apt installs a package, or does something else with packages.
func (r root) apt(args ...string) string {
	r.t.Helper()
	for i, a := range args {
		if strings.HasSuffix(a, ".deb") {
			run(r.t, "", "cp", a, filepath.Join(r.folder, "tmp"))
			args[i] = "/tmp/" + filepath.Base(a)
		}
	}
	return run(r.t, "", "chroot", append([]string{r.folder, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--yes", "--no-install-recommends"}, args...)...)
}

// site gives mode, owner and contents of all that is the site's.
func (r root) site() string {
	r.t.Helper()
	var all []string
	for _, top := range []string{"etc/kidoban", "etc/kidoban-office", "var/lib/kidoban"} {
		err := filepath.WalkDir(filepath.Join(r.folder, top), func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			var digest [32]byte
			if info.Mode().IsRegular() {
				text, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				digest = sha256.Sum256(text)
			}
			owner := info.Sys().(*syscall.Stat_t)
			all = append(all, fmt.Sprintf("%s %v %d:%d %x", strings.TrimPrefix(path, r.folder), info.Mode(), owner.Uid, owner.Gid, digest[:6]))
			return nil
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	return strings.Join(all, "\n")
}

// TestInstall takes the package through its life on a fresh Debian.
func TestInstall(t *testing.T) {
	t.Parallel() // it waits for a mirror
	folder, err := made()
	if err != nil {
		t.Fatal(err)
	}
	deb := file(t, folder, ".deb")
	before, err := makeAll(filepath.Join(t.TempDir(), "older"), older, "", "deb")
	if err != nil {
		t.Fatal(err)
	}
	r := newRoot(t)
	oldDeb := file(t, before, ".deb")
	r.fakeSystemd()

	r.apt("install", oldDeb)
	r.installed(older)
	r.run(`
		install -m 0640 -g kidoban /usr/share/doc/kidoban/examples/policy.yaml /etc/kidoban/
		echo KIDOBAN_LOG_LEVEL=debug >> /etc/kidoban/environment
		install -m 0640 -g kidoban-office /dev/null /etc/kidoban-office/siem.secret`)
	r.runByHand()
	site := r.site()
	if !strings.Contains(site, "journal") {
		t.Fatalf("the gateway has left no journal:\n%s", site)
	}
	same := func(after string) {
		t.Helper()
		if got := r.site(); got != site {
			t.Errorf("after %s the site has\n%s\nwant\n%s", after, got, site)
		}
	}

	r.active("kidoban.service")
	r.apt("install", deb)
	r.version(newer)
	same("the upgrade")
	r.asked("restart kidoban.service", "kidoban-office.service")
	r.active("")
	r.apt("install", "--allow-downgrades", oldDeb)
	r.version(older)
	same("the downgrade")
	r.asked("daemon-reload", "restart")
	r.run("touch /usr/local/bin/kidoban")
	if out := r.apt("install", deb); !strings.Contains(out, "/usr/local/bin/kidoban hides") {
		t.Errorf("a program that hides the package's is not named:\n%s", out)
	}
	r.run("rm /usr/local/bin/kidoban")
	same("the second upgrade")

	r.apt("remove", "kidoban")
	r.asked("stop kidoban-probe.timer kidoban-office.service kidoban.service", "restart")
	same("the removal")
	for _, gone := range []string{"usr/bin/kidoban", "usr/lib/systemd/system/kidoban.service", "usr/share/man/man1/kidoban.1.gz"} {
		if _, err := os.Lstat(filepath.Join(r.folder, gone)); err == nil {
			t.Errorf("the removal leaves %s", gone)
		}
	}
	r.purged(site)

	// It is all there for a package that comes back.
	r.apt("install", deb)
	r.run("kidoban journal verify; mv /var/lib/kidoban /tmp/state; ln -s /tmp/state /var/lib/kidoban") // on another disk
	r.apt("purge", "kidoban")
	// And what the purge has said removes the rest.
	r.run("rm -r /etc/kidoban /etc/kidoban-office /var/lib/kidoban")
	// A rescue system may give its own /run to a root without systemd.
	r.run("rm /usr/bin/systemctl")
	r.apt("install", deb)
	r.apt("purge", "kidoban")
	if out := r.run("find / -xdev -name '*kidoban*' ! -path '/tmp/*' ! -path '/run/*' ! -path '/proc/*' ! -path '/var/log/*' ! -path '/var/lib/dpkg/*'"); out != "" {
		t.Errorf("a purge where nothing was recorded leaves\n%s", out)
	}
}

// installed checks what an installation has made, and that it has enabled nothing.
func (r root) installed(version string) {
	r.t.Helper()
	r.version(version)
	got := r.run(`stat --format '%A %U:%G %n' /usr/bin/kidoban /etc/kidoban /etc/kidoban/* /etc/kidoban-office /var/lib/kidoban; id -Gn kidoban; id -Gn kidoban-office`)
	want := `-rwxr-xr-x root:root /usr/bin/kidoban
drwxr-x--- root:kidoban /etc/kidoban
-rw-r----- root:kidoban /etc/kidoban/environment
drwxr-x--- root:kidoban-office /etc/kidoban-office
drwx------ kidoban:kidoban /var/lib/kidoban
kidoban kidoban-office
kidoban-office
`
	if got != want {
		r.t.Errorf("the package has made\n%s\nwant\n%s", got, want)
	}
	if out := r.run("find /etc/systemd -name '*kidoban*'"); out != "" {
		r.t.Errorf("the package has enabled %s", out)
	}
	r.asked("daemon-reload", "start")
	r.run("kidoban check /usr/share/doc/kidoban/examples/policy.yaml")
	// What systemd would make of users and folders at a boot is what is there already.
	for _, tool := range [][]string{{"systemd-sysusers", "usr/lib/sysusers.d/kidoban.conf"}, {"systemd-tmpfiles", "--create", "usr/lib/tmpfiles.d/kidoban.conf"}} {
		if _, err := exec.LookPath(tool[0]); err != nil {
			continue
		}
		users, site := r.run("cat /etc/passwd /etc/group"), r.site()
		tool[len(tool)-1] = filepath.Join(r.folder, tool[len(tool)-1])
		run(r.t, "", tool[0], append([]string{"--root=" + r.folder}, tool[1:]...)...)
		if r.run("cat /etc/passwd /etc/group") != users || r.site() != site {
			r.t.Errorf("%s and postinst make different things", tool[0])
		}
	}
}

func (r root) version(want string) {
	r.t.Helper()
	if got := r.run("kidoban version"); got != "kidoban "+want+"\n" {
		r.t.Errorf("installed is %q, want %s", got, want)
	}
}

// purged purges the package: its own file of settings goes, all else of the site stays and is named.
func (r root) purged(site string) {
	r.t.Helper()
	out := r.apt("purge", "kidoban")
	for _, kept := range []string{"/etc/kidoban", "/etc/kidoban-office", "/var/lib/kidoban"} {
		if !strings.Contains(out, "kidoban: "+kept+" is kept.") {
			r.t.Errorf("the purge does not say that %s is kept:\n%s", kept, out)
		}
	}
	want := slices.DeleteFunc(strings.Split(site, "\n"), func(line string) bool { return strings.HasPrefix(line, "/etc/kidoban/environment ") })
	if got := r.site(); got != strings.Join(want, "\n") {
		r.t.Errorf("after the purge the site has\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

// fakeSystemd puts a systemctl into the root that writes down what it is asked, and makes the
// scripts believe that systemd runs.
func (r root) fakeSystemd() {
	r.t.Helper()
	const systemctl = `#!/bin/sh
echo "$*" >> /tmp/systemctl
case "$*" in
*is-active*) [ "${*##* }" = "$(cat /tmp/active)" ] ;;
*is-enabled*) echo disabled; exit 1 ;;
esac
`
	if err := os.WriteFile(filepath.Join(r.folder, "usr/bin/systemctl"), []byte(systemctl), 0o755); err != nil {
		r.t.Fatal(err)
	}
	r.run("mkdir -p /run/systemd/system; rm -f /usr/sbin/policy-rc.d")
	r.active("")
}

// active says which unit runs.
func (r root) active(unit string) {
	r.t.Helper()
	r.run("echo " + unit + " > /tmp/active; : > /tmp/systemctl")
}

// asked checks what systemctl was asked for, and was not, since the last active.
func (r root) asked(want, not string) {
	r.t.Helper()
	asked := r.run("grep -v 'is-' /tmp/systemctl || true")
	if !strings.Contains(asked, want) {
		r.t.Errorf("systemctl was asked for\n%s\nwant %q", asked, want)
	}
	for line := range strings.Lines(asked) {
		if strings.HasPrefix(strings.TrimPrefix(line, "--quiet --system "), not+" ") || strings.HasSuffix(line, " "+not+"\n") {
			r.t.Errorf("systemctl was asked for %q, want no %q", line, not)
		}
	}
}

// runByHand does what README.Debian says for a host without systemd, in a network of its own, until
// the gateway has answered and been stopped.
func (r root) runByHand() {
	r.t.Helper()
	readme := r.run("cat /usr/share/doc/kidoban/README.Debian")
	_, typed, found := strings.Cut(readme, "at every boot:\n")
	typed, _, found2 := strings.Cut(typed, "\n\n")
	if !found || !found2 {
		r.t.Fatalf("README.Debian does not say how to run without systemd:\n%s", readme)
	}
	typed = strings.Replace(typed, "setpriv", "exec setpriv", 1)
	var log bytes.Buffer
	gateway := exec.Command("unshare", "--net", "--mount", "sh", "-ec", `
		mount -t proc proc "$1/proc"
		mkdir -p "$1/dev/net"; touch "$1/dev/net/tun"; mount --bind /dev/net/tun "$1/dev/net/tun"
		ip link set lo up
		exec chroot "$1" sh -ec "$2"`, "sh", r.folder, typed)
	gateway.Stdout, gateway.Stderr = &log, &log
	if err := gateway.Start(); err != nil {
		r.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- gateway.Wait() }()
	stop := time.After(time.Minute)
	for answered := false; !answered; {
		// 3 is a well-formed no: the gateway need not be ready here, where there are no targets.
		status := exec.Command("chroot", r.folder, "kidoban", "status")
		out, err := status.CombinedOutput()
		answered = err == nil || status.ProcessState.ExitCode() == 3
		select {
		case err := <-ended:
			r.t.Fatalf("the gateway has ended: %v\n%s", err, log.Bytes())
		case <-stop:
			_ = gateway.Process.Kill()
			r.t.Fatalf("kidoban status: %v\n%s%s", err, out, log.Bytes())
		case <-time.After(50 * time.Millisecond):
		}
	}
	if err := gateway.Process.Signal(syscall.SIGTERM); err != nil {
		r.t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			r.t.Fatalf("the gateway: %v\n%s", err, log.Bytes())
		}
	case <-time.After(time.Minute):
		_ = gateway.Process.Kill()
		r.t.Fatalf("the gateway does not stop\n%s", log.Bytes())
	}
	r.run("kidoban journal verify")
}
