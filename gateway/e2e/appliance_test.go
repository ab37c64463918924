package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway/lab"
	"kidoban/gateway/view"
)

const (
	// most is what the process may take at rest, in kB resident.
	most     = 48 << 10
	accounts = 35 // of a university hospital,
	vendors  = 26 // and what they belong to
)

// TestAppliance runs the program as the Dockerfile builds it, and confined as
// it is in a container and as a service.
func TestAppliance(t *testing.T) {
	lab.Require(t)
	binary := filepath.Join(openFolder(t), "out", "kidoban")
	build := exec.Command("sh", "-c", dockerfileBuild(t, filepath.Dir(binary)))
	build.Dir, build.Env = "../..", append(os.Environ(), "VERSION=v0.0.0-test")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build.Args, err, out)
	}
	t.Run("memory", func(t *testing.T) { testMemory(t, binary) })
	t.Run("service", func(t *testing.T) { testService(t, binary) })
	t.Run("container", func(t *testing.T) { testContainer(t, binary) })
}

// dockerfileBuild is the command by which the Dockerfile builds the program,
// with another folder in place of /out.
func dockerfileBuild(t *testing.T, out string) string {
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0 go build .* -o )/out(/kidoban ./cmd/kidoban)$`).FindSubmatch(text)
	if line == nil {
		t.Fatal("the Dockerfile has no line that builds the program")
	}
	return fmt.Sprintf("%s'%s'%s", line[1], out, line[2])
}

// testMemory: 35 accounts, all of whose windows are open, while Prometheus
// looks on. That is more than any site has at rest.
func testMemory(t *testing.T, binary string) {
	a := newAppliance(t, binary)
	a.start(confinement{})
	a.await("ready", func(s view.Status) bool { return s.Ready && len(s.Grants) >= accounts })
	// It settles at the next look at who is inside, and may not grow again.
	lab.WaitFor(t, 20*time.Second, fmt.Sprintf("less than %d kB resident", most), func() bool { return a.resident() < most })
	settled, highest := a.resident(), 0
	const watch = 10 // seconds
	for range watch {
		time.Sleep(time.Second)
		a.scrape()
		highest = max(highest, a.resident())
	}
	t.Logf("%d engineers, all of their windows open: %d kB resident when settled, at most %d kB in the %d s after that, scraped every second",
		accounts, settled, highest, watch)
	if highest >= most {
		t.Errorf("%d kB resident, allowed are %d", highest, most)
	}
}

// testService: the user and the one capability of the unit are enough, from
// an empty disk to a clean stop.
func testService(t *testing.T, binary string) {
	needRoot(t)
	a := newAppliance(t, binary)
	const uid = 64777
	c := confinement{uid: uid, gid: uid}
	for _, folder := range []string{a.state, filepath.Dir(a.socket), "/var/run/wireguard"} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(folder, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chown("/var/run/wireguard", 0, 0) })
	tunForEverybody(t)
	// What a run as root left behind when it was killed.
	left := filepath.Join("/var/run/wireguard", a.device+".sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: left, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if err := os.Chown("/var/run/wireguard", 0, 0); err != nil {
		t.Fatal(err)
	}
	mustRun(t, a.host, "ip", "link", "set", "lan", "down") // the unit starts before the network
	ended := a.start(c)
	a.await("ready", func(s view.Status) bool { return s.Ready && len(s.Grants) >= accounts })
	if got := a.host.ReadSysctl("net.ipv4.conf.lan.forwarding"); got != "0" {
		t.Errorf("no route leads to lan, and net.ipv4.conf.lan.forwarding = %s, want 0", got)
	}
	mustRun(t, a.host, "ip", "link", "set", "lan", "up")
	lab.WaitFor(t, 3*routesAgain, "forwarding where a route leads to targets now", func() bool {
		return a.host.ReadSysctl("net.ipv4.conf.lan.forwarding") == "1"
	})
	for _, i := range []string{a.device, "lan"} {
		if got := a.host.ReadSysctl("net.ipv4.conf." + i + ".forwarding"); got != "1" {
			t.Errorf("net.ipv4.conf.%s.forwarding = %s, want 1", i, got)
		}
	}
	a.await("a hint of wg show that names "+left, func(s view.Status) bool {
		return slices.ContainsFunc(s.Hints, func(h string) bool {
			return strings.Contains(h, "`wg show` shows nothing") && strings.Contains(h, left)
		})
	})
	if err := errors.Join(os.Remove(left), os.Chown("/var/run/wireguard", uid, uid)); err != nil {
		t.Fatal(err)
	}
	a.await("no hint of wg show", func(s view.Status) bool { return !strings.Contains(strings.Join(s.Hints, "\n"), "wg show") })
	if out, err := a.host.Command(t.Context(), "wg", "show", a.device).Output(); err != nil || !bytes.Contains(out, []byte("listening port: ")) || bytes.Contains(out, []byte("peer: ")) {
		t.Errorf("wg show: %v, want the port and no peer, since nobody is inside:\n%s", err, out)
	}
	if out, err := a.kidoban("close", "vendor1", "--reason", "test").CombinedOutput(); err != nil {
		t.Errorf("close: %v: %s", err, out)
	}
	if err := syscall.Kill(a.pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("stopped with %v:\n%s", err, a.log())
		}
	case <-time.After(15 * time.Second):
		t.Errorf("did not stop within TimeoutStopSec:\n%s", a.log())
	}
	if got := a.host.ReadSysctl("net.ipv4.conf.lan.forwarding"); got != "0" {
		t.Errorf("after the stop net.ipv4.conf.lan.forwarding = %s, want 0 as before", got)
	}
	if out, err := a.host.Command(t.Context(), "nft", "list", "tables").Output(); err != nil || len(out) > 0 {
		t.Errorf("after the stop: %v, tables %q, want none", err, out)
	}
	// Nothing of the state is for others.
	err = filepath.Walk(a.state, func(path string, info os.FileInfo, err error) error {
		if err == nil && path != a.state && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %04o", path, info.Mode().Perm())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// testContainer builds the image's final stage with the program in place of
// the first stage, and runs from its files what a container engine would.
func testContainer(t *testing.T, binary string) {
	needRoot(t)
	if _, err := exec.LookPath("buildah"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("no image is built: %v (apt-get install buildah)", err)
	}
	store := t.TempDir()
	buildah := func(args ...string) []byte {
		t.Helper()
		storage := []string{"--storage-driver", "vfs", "--root", filepath.Join(store, "root"), "--runroot", filepath.Join(store, "run")}
		cmd := exec.Command("buildah", append(storage, args...)...)
		var complaint bytes.Buffer
		cmd.Stderr = &complaint
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("buildah %v: %v\n%s%s", args, err, out, complaint.Bytes())
		}
		return bytes.TrimSpace(out)
	}
	image := func(args ...string) string {
		id := string(buildah(append([]string{"build", "--quiet", "--isolation", "chroot", "--format", "docker", "--pull-never"}, args...)...))
		return string(buildah("mount", string(buildah("from", "--pull-never", id))))
	}

	// What .dockerignore leaves is all that the first stage needs.
	everything := filepath.Join(store, "Dockerfile")
	if err := os.WriteFile(everything, []byte("FROM scratch\nCOPY . /\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sources := image("--ignorefile", "../../.dockerignore", "--file", everything, "../..")
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "list", "-deps", "-f", `{{if and .Module .Module.Main}}{{range .GoFiles}}{{$.Dir}}/{{.}}
{{end}}{{range .EmbedFiles}}{{$.Dir}}/{{.}}
{{end}}{{end}}`, "kidoban/cmd/kidoban").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(strings.Fields(string(out)), top+"/go.mod", top+"/go.sum", top+"/THIRD_PARTY_LICENSES.md") {
		if _, err := os.Stat(sources + strings.TrimPrefix(name, top)); err != nil {
			t.Errorf(".dockerignore leaves out what the build needs: %v", err)
		}
	}

	root := image("--build-context", "build="+filepath.Dir(filepath.Dir(binary)), "--file", "../../Dockerfile", "../..")
	var size int64
	err = filepath.Walk(root, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return err
	})
	if err != nil || size > 26<<20 {
		t.Errorf("the image has %d bytes (%v), allowed are 26 MiB", size, err)
	}
	t.Logf("the image has %.1f MB", float64(size)/1e6)

	a := newAppliance(t, "/usr/local/bin/kidoban")
	c := confinement{root: root}
	// The places are those of the image, and the policy is brought along.
	a.environment = []string{"KIDOBAN_INTERFACE=" + a.device}
	a.run = func(args ...string) ([]byte, error) {
		name := filepath.Join(store, "output")
		output, err := os.Create(name)
		if err != nil {
			return nil, err
		}
		defer output.Close()
		_, ended := a.confined(c, output, args...)
		err = <-ended
		text, readErr := os.ReadFile(name)
		if readErr != nil {
			return nil, readErr
		}
		return text, err
	}
	policy, err := os.ReadFile(a.policy)
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "etc/kidoban/policy.yaml"), policy, 0o640)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := a.run("version"); err != nil || string(out) != "kidoban v0.0.0-test\n" {
		t.Errorf("version: %q, %v", out, err)
	}
	if out, err := a.run("check"); err != nil || !bytes.Contains(out, []byte("no errors")) {
		t.Errorf("check: %v\n%s", err, out)
	}
	if out, err := a.run("live"); err == nil {
		t.Errorf("the health check says yes where nothing runs: %s", out)
	}
	ended := a.start(c)
	// /proc/sys cannot be written, and the host does not forward yet.
	a.await("the command that the host has to be given", func(s view.Status) bool {
		return !s.Ready && strings.Contains(s.NotReadyReason, "sysctl -w net.ipv4.conf.")
	})
	// And it stays so: that everything could be closed is no end of it. For the
	// moment of each try it is ready.
	asked, ready := 0, 0
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		out, _ := a.run("status", "--json")
		var s view.Status
		if err := json.Unmarshal(out, &s); err != nil {
			t.Fatalf("status: %v\n%s", err, out)
		}
		if asked++; s.Ready {
			ready++
		}
	}
	if ready > asked/2 {
		t.Errorf("ready %d of %d times, and nobody can pass", ready, asked)
	}
	if out, err := a.run("live"); err != nil || string(out) != "live\n" {
		t.Errorf("the health check of a gateway in doubt: %q, %v, want live", out, err)
	}
	a.host.Sysctl("net.ipv4.ip_forward", "1")
	if out, err := a.run("recover", "--reason", "the host forwards"); err != nil {
		t.Errorf("recover: %v\n%s", err, out)
	}
	a.await("ready", func(s view.Status) bool { return s.Ready && len(s.Grants) >= accounts })
	if err := syscall.Kill(a.pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("stopped with %v:\n%s", err, a.log())
		}
	case <-time.After(15 * time.Second):
		t.Errorf("did not stop:\n%s", a.log())
	}
	if out, err := a.run("journal", "verify"); err != nil {
		t.Errorf("journal verify: %v\n%s", err, out)
	}
	out, err = a.run("journal", "list", "--json")
	if doubts := bytes.Count(out, []byte(`"kind":"doubt"`)); err != nil || doubts == 0 || doubts > 8 {
		t.Errorf("%d doubts in the journal (%v), want one for each try, which are rare", doubts, err)
	}
}

// openFolder is a folder that other users may look into.
func openFolder(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for _, f := range []string{folder, filepath.Dir(folder)} {
		if err := os.Chmod(f, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// needRoot skips where users and mounts of a container cannot be made.
func needRoot(t *testing.T) {
	t.Helper()
	if text, err := os.ReadFile("/proc/self/uid_map"); err != nil || strings.Join(strings.Fields(string(text)), " ") != "0 0 4294967295" {
		t.Skip("takes root of the machine, for other users and a change of root")
	}
}

// tunForEverybody gives /dev/net/tun the mode that udev gives it
// (50-udev-default.rules), for the mount namespace of the tests. A machine
// without udev has it for root alone.
func tunForEverybody(t *testing.T) {
	t.Helper()
	const device = "/dev/net/tun"
	var here unix.Stat_t
	if err := unix.Stat(device, &here); err != nil {
		t.Fatal(err)
	}
	if here.Mode&0o666 == 0o666 {
		return
	}
	node := filepath.Join(openFolder(t), "tun")
	if err := unix.Mknod(node, unix.S_IFCHR|0o666, int(here.Rdev)); err != nil {
		t.Fatalf("make a %s that everybody may open: %v", device, err)
	}
	if err := os.Chmod(node, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(node, device, "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("mount it on %s: %v", device, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(device, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// appliance is a host with a LAN on which the program is run.
type appliance struct {
	t                             *testing.T
	binary, policy, state, socket string
	device                        string
	environment                   []string
	host                          *lab.Host
	run                           func(args ...string) ([]byte, error) // a command of the program
	logFile                       *os.File
	pid                           int
}

func newAppliance(t *testing.T, binary string) *appliance {
	if err := readSources(); err != nil {
		t.Fatal(err)
	}
	l := lab.New(t)
	folder := openFolder(t)
	a := &appliance{t: t, binary: binary, host: l.Host("gateway"), device: fmt.Sprintf("kido%d", grounds.Add(1)),
		policy: filepath.Join(folder, "policy.yaml"), state: filepath.Join(folder, "state"), socket: filepath.Join(folder, "run", "admin.sock")}
	hospital := l.Host("hospital")
	l.Link(a.host, "lan", lab.Prefixes("10.1.0.1/16"), hospital, "eth0", lab.Prefixes("10.1.0.5/16"))
	a.environment = []string{"KIDOBAN_POLICY_FILE=" + a.policy, "KIDOBAN_STATE_DIR=" + a.state, "KIDOBAN_ADMIN_SOCKET=" + a.socket, "KIDOBAN_INTERFACE=" + a.device}
	a.run = func(args ...string) ([]byte, error) { return a.kidoban(args...).Output() }

	var b strings.Builder
	b.WriteString(`version: 1
site: Kido Hospital
timezone: Asia/Tokyo
tunnel: {addresses: [10.99.0.1/24], endpoint: "vpn.example.jp:51820"}
targets:
  ehr-db: {address: 10.1.0.5, ports: [tcp/22, tcp/1521, icmp], masquerade: true}
  pacs: {address: 10.1.2.0/28, ports: [tcp/104, tcp/11112]}
vendors:
`)
	last := time.Now().AddDate(0, 1, 0).Format(time.DateOnly)
	for v := range vendors {
		fmt.Fprintf(&b, "  vendor%d:\n    sources: [203.0.113.%d]\n    engineers:\n", v, v+1)
		for e := v; e < accounts; e += vendors {
			_, public := lab.NewKey()
			fmt.Fprintf(&b, "      engineer%d: {public_key: %q, addresses: [10.99.0.%d]}\n", e, base64.StdEncoding.EncodeToString(public[:]), e+2)
		}
		fmt.Fprintf(&b, `    windows:
      support: {days: [mon, tue, wed, thu, fri, sat, sun], from: "00:00", to: "24:00", valid: {from: 2026-01-01, until: %s}, targets: [ehr-db, pacs],
        approved_by: Head of IT, ticket: CHG-%d}
`, last, v)
	}
	if err := os.WriteFile(a.policy, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return a
}

// kidoban is a command of the program, not confined.
func (a *appliance) kidoban(args ...string) *lab.Cmd {
	cmd := a.host.Command(a.t.Context(), a.binary, args...)
	cmd.Env = append(os.Environ(), a.environment...)
	return cmd
}

// confinement is what the program may do.
type confinement struct {
	root     string // its files; empty: the machine's
	uid, gid uint32
}

// start starts the gateway, and gives how it ends.
func (a *appliance) start(c confinement) <-chan error {
	a.t.Helper()
	var err error
	if a.logFile, err = os.Create(filepath.Join(a.t.TempDir(), "log")); err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { a.logFile.Close() })
	process, ended := a.confined(c, a.logFile, "run")
	if process == nil {
		a.t.Fatal(<-ended)
	}
	a.pid = process.Pid
	return ended
}

func (a *appliance) log() []byte {
	text, err := os.ReadFile(a.logFile.Name())
	if err != nil {
		a.t.Error(err)
	}
	return text
}

// confined starts the program in the host, with CAP_NET_ADMIN alone and
// without a way to get more, as a container engine or systemd would. It is
// killed when the test ends. The process is nil if it could not start.
func (a *appliance) confined(c confinement, output *os.File, args ...string) (*os.Process, <-chan error) {
	ended, started := make(chan error, 1), make(chan *os.Process, 1)
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		// Never unlocked: what is done to the thread ends with it.
		runtime.LockOSThread()
		cmd := exec.CommandContext(ctx, a.binary, args...)
		cmd.Env = append([]string{"PATH=/usr/local/bin"}, a.environment...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = output, output, output
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if c.uid != 0 {
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.uid, Gid: c.gid}
			cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN}
		}
		err := confine(a.host, c.root)
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			started <- nil
			ended <- err
			return
		}
		started <- cmd.Process
		ended <- cmd.Wait()
	}()
	a.t.Cleanup(func() { cancel(); <-gone })
	return <-started, ended
}

// confine confines the calling thread, and what it starts.
func confine(h *lab.Host, root string) error {
	namespace, err := os.Open(h.Namespace())
	if err != nil {
		return err
	}
	defer namespace.Close()
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	if root != "" {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		device := filepath.Join(root, "dev/net/tun")
		if err := os.MkdirAll(filepath.Dir(device), 0o755); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(root, "proc"), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(device, nil, 0o600); err != nil {
			return err
		}
		const readOnly = unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
		for _, m := range []struct {
			source, target string
			flags          uintptr
		}{
			{"", "/", unix.MS_REC | unix.MS_PRIVATE},
			{"/dev/net/tun", device, unix.MS_BIND},
			{"/proc", filepath.Join(root, "proc"), unix.MS_BIND | unix.MS_REC},
			{"/proc/sys", filepath.Join(root, "proc/sys"), unix.MS_BIND | unix.MS_REC},
			{"", filepath.Join(root, "proc/sys"), readOnly},
		} {
			if err := unix.Mount(m.source, m.target, "", m.flags, ""); err != nil {
				return fmt.Errorf("mount %s: %w", m.target, err)
			}
		}
		if err := unix.Chroot(root); err != nil {
			return err
		}
		if err := unix.Chdir("/"); err != nil {
			return err
		}
	}
	for capability := range uintptr(64) {
		if capability == unix.CAP_NET_ADMIN {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err == unix.EINVAL && capability > unix.CAP_LAST_CAP {
			break
		} else if err != nil && err != unix.EINVAL {
			return fmt.Errorf("drop capability %d: %w", capability, err)
		}
	}
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// await waits until `kidoban status` tells something.
func (a *appliance) await(what string, told func(view.Status) bool) {
	a.t.Helper()
	var last []byte
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		out, _ := a.run("status", "--json") // 3 if it is not ready
		var s view.Status
		if json.Unmarshal(out, &s) == nil && told(s) {
			return
		}
		last = out
	}
	a.t.Fatalf("status does not tell within 30 s: %s\n%.2000s\nlog:\n%s", what, last, a.log())
}

// scrape reads the metrics, as Prometheus does.
func (a *appliance) scrape() {
	a.t.Helper()
	_, text, err := get(a.host, "http://127.0.0.1:9586/metrics", 5*time.Second)
	if err != nil || !strings.Contains(text, "\nkidoban_ready 1\n") {
		a.t.Fatalf("metrics: %v\n%.1000s", err, text)
	}
}

// resident is the resident memory of the gateway, in kB, with what of its
// file is in use.
func (a *appliance) resident() int {
	a.t.Helper()
	return memory(a.t, a.pid, "VmRSS")
}

// memory reads a field of a process's status (proc_pid_status(5)), in kB.
func memory(t *testing.T, pid int, field string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n"+field+":")
	size, err := strconv.Atoi(strings.Fields(rest + " ?")[0])
	if err != nil {
		t.Fatalf("/proc/%d/status has no %s:\n%s", pid, field, text)
	}
	return size
}
