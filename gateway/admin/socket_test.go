package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway/lab"
)

// clientVariable names the socket that the test binary, started anew as
// another user, asks.
const clientVariable = "ADMIN_TEST_SOCKET"

func TestMain(m *testing.M) {
	if socket := os.Getenv(clientVariable); socket != "" {
		text, _, err := Client{Socket: socket}.Post("/v1/close", map[string]string{"scope": "medisys", "reason": "test"})
		fmt.Printf("%s%v", text, err)
		os.Exit(0)
	}
	lab.Main(m) // for mounts of its own
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "admin.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := info.Mode(), fs.ModeSocket|0o660; got != want {
		t.Errorf("mode %v, want %v", got, want)
	}

	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), path+" is served already: another gateway runs") {
		t.Errorf("a socket that is served: %v", err)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("after somebody tried to take it, the socket is gone: %v", err)
	} else {
		c.Close()
	}

	// Whoever was killed leaves the socket behind.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	if l, err = Listen(path); err != nil {
		t.Fatalf("a socket that nobody serves: %v", err)
	}
	l.Close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after an orderly end the socket is still there: %v", err)
	}
}

// TestListenBesideABusyGateway: one that is too busy to accept is alive.
func TestListenBesideABusyGateway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	full := false
	for range 10 {
		c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(c)
		if full = errors.Is(unix.Connect(c, &unix.SockaddrUnix{Name: path}), unix.EAGAIN); full {
			break
		}
	}
	if !full {
		t.Fatal("its queue could not be filled")
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "is served already") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("its socket is gone: %v", err)
	}
}

func TestListenLeavesOtherFilesAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "admin.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || err.Error() != path+" is there and is no socket" {
		t.Errorf("a file: %v", err)
	}
	if text, err := os.ReadFile(path); string(text) != "precious" {
		t.Errorf("the file is %q, %v", text, err)
	}
	link := filepath.Join(dir, "link.sock")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(link); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("a symbolic link: %v", err)
	}
	if _, err := Listen(filepath.Join(path, "admin.sock")); err == nil {
		t.Error("a socket below a file")
	}
}

// TestListenGroup: operators belong to a group, and the socket to it.
func TestListenGroup(t *testing.T) {
	lab.Require(t)
	const gid = 48213
	file := filepath.Join(t.TempDir(), "group")
	text, err := os.ReadFile("/etc/group")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, fmt.Appendf(text, "\n%s:x:%d:\n", group, gid), 0o644); err != nil {
		t.Fatal(err)
	}
	// The mount is seen in the namespace of these tests alone.
	if err := unix.Mount(file, "/etc/group", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount("/etc/group", 0); err != nil {
			t.Error(err)
		}
	}()
	path := filepath.Join(t.TempDir(), "admin.sock")
	l, err := Listen(path)
	if mayBecome(gid) {
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Sys().(*syscall.Stat_t).Gid; got != gid || info.Mode().Perm() != 0o660 {
			t.Errorf("group %d, mode %v, want %d and 0660", got, info.Mode(), gid)
		}
		return
	}
	// A group that cannot own it would leave the socket to nobody: said at once.
	if err == nil || !strings.Contains(err.Error(), "to group "+group) {
		t.Errorf("a group that is not mapped into this namespace: %v", err)
	}
}

// mayBecome reports whether the id exists in this user namespace.
func mayBecome(id int) bool {
	text, err := os.ReadFile("/proc/self/gid_map")
	var inside, outside, length int
	if err == nil {
		_, err = fmt.Sscan(string(text), &inside, &outside, &length)
	}
	return err == nil && id >= inside && id-inside < length && os.Geteuid() == 0
}

// as asks the socket as another user, and gives what the client says.
func (s *served) as(uid uint32) string {
	s.t.Helper()
	if !mayBecome(int(uid)) {
		s.t.Skipf("this user may not become uid %d: run as root", uid)
	}
	for dir := filepath.Dir(s.socket); dir != "/"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o001 == 0 {
			if err := os.Chmod(dir, 0o755); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{clientVariable + "=" + s.socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("as uid %d: %v %s", uid, err, out)
	}
	return string(out)
}

func TestWhoAsks(t *testing.T) {
	s := serve(t)
	// The mode keeps strangers out.
	if got := s.as(12345); !strings.Contains(got, "permission denied: operators belong to group kidoban") {
		t.Errorf("a stranger: %s", got)
	}
	// The kernel says who is in, whatever they say.
	if err := os.Chmod(s.socket, 0o666); err != nil {
		t.Fatal(err)
	}
	if got := s.as(12345); !strings.Contains(got, `"applied":true`) {
		t.Errorf("an operator: %s", got)
	}
	if actor := s.closed.Load(); actor == nil || *actor != "uid 12345" {
		t.Errorf("closed by: %v", actor)
	}
	if got := s.as(nobody); !strings.Contains(got, "uid 65534 is not mapped into the gateway's user namespace: it could be anybody") {
		t.Errorf("nobody: %s", got)
	}
}

func TestActor(t *testing.T) {
	if name, err := (peer{cred: &unix.Ucred{Uid: nobody}}).actor(); err == nil {
		t.Errorf("uid %d is %q", nobody, name)
	}
	if name, err := (peer{err: errors.New("no credentials")}).actor(); err == nil {
		t.Errorf("who has no credentials is %q", name)
	}
	// This process is root, or plays it, or is somebody else: never without a name.
	name, err := peer{cred: &unix.Ucred{Uid: uint32(os.Getuid()), Pid: int32(os.Getpid())}}.actor()
	if err != nil || name.Text == "" {
		t.Errorf("this user is %q, %v", name, err)
	}
	if os.Getuid() == 0 && !strings.Contains(name.Text, "login") {
		t.Errorf("root is %q: who became root?", name)
	}
}

func TestClientWithoutGateway(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"nosuch.sock", "stale.sock", "file.sock"} {
		path := filepath.Join(dir, name)
		switch name {
		case "stale.sock":
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			l.Close()
		case "file.sock":
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, _, err := Client{Socket: path}.Get("/v1/status", nil)
		if !errors.Is(err, ErrNoGateway) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestClientWithoutAnswer: a gateway that is stopped takes nobody from its
// queue, or its queue is full.
func TestClientWithoutAnswer(t *testing.T) {
	const again = "what was asked for may still take effect when it goes on"
	path := filepath.Join(t.TempDir(), "admin.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err == nil {
		err = unix.Listen(fd, 1) // two wait
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	c := Client{Socket: path, wait: 50 * time.Millisecond}
	for _, queue := range []string{"is not full", "is not full", "is full"} {
		_, _, err := c.Get("/v1/status", nil)
		if !errors.Is(err, ErrNoAnswer) || !strings.Contains(err.Error(), "`systemctl restart kidoban`") || strings.Contains(err.Error(), again) {
			t.Errorf("the queue %s: status: %v", queue, err)
		}
	}
	if _, _, err := c.Post("/v1/close", map[string]string{"scope": "medisys", "reason": "test"}); !errors.Is(err, ErrNoAnswer) || !strings.HasSuffix(err.Error(), again) {
		t.Errorf("close: %v", err)
	}
}
