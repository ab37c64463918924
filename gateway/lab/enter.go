package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// outsideVariable has the machine's network namespace, for the process inside. Once the namespaces
// are prepared, the suffix prepared tells child processes to leave them alone.
const (
	outsideVariable = "LAB_OUTSIDE"
	prepared        = " prepared"
)

// errForbidden says why this process cannot make hosts; nil: it can.
var errForbidden = errors.New("lab: Main has not run: call it from TestMain or main")

// Main runs m in new namespaces and exits with the code of m's Run. It is for TestMain and main.
//
// The program is started again with the same arguments, environment and standard streams. SIGHUP,
// SIGINT, SIGQUIT and SIGTERM are passed on. Where namespaces are forbidden, m runs outside, and New
// and Require give the reason.
func Main(m interface{ Run() int }) {
	outside := os.Getenv(outsideVariable)
	here, err := os.Readlink("/proc/self/ns/net")
	switch {
	case err != nil:
		errForbidden = fmt.Errorf("lab: no network namespaces: %w (is /proc mounted?)", err)
	case strings.HasSuffix(outside, prepared):
		errForbidden = nil
	case outside != "" && outside != here:
		if errForbidden = prepare(); errForbidden == nil {
			os.Setenv(outsideVariable, outside+prepared)
		}
	default:
		var code int
		if code, errForbidden = enter(here); errForbidden == nil {
			os.Exit(code)
		}
	}
	os.Exit(m.Run())
}

// Available says why this process cannot make hosts, and how to change that; nil: it can.
func Available() error { return errForbidden }

// OtherUsers says why this process cannot start others under other users, and how to change that;
// nil: it can.
func OtherUsers() error {
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil || strings.Join(strings.Fields(string(text)), " ") != "0 0 4294967295" {
		return errors.New("other users take root of the machine: run it as root")
	}
	return nil
}

// Require skips the test where hosts cannot be made. With CI=true in the environment it fails the
// test.
func Require(t T) {
	t.Helper()
	if errForbidden == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%v", errForbidden)
		return
	}
	t.Skipf("%v", errForbidden)
}

// enter runs this program inside new namespaces and waits for its end. The error is about the
// start; otherwise the caller exits.
func enter(here string) (code int, err error) {
	// Pdeathsig comes when the starting thread ends, so this goroutine keeps its thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM)
	defer signal.Stop(signals)

	cmd, err := Isolate(unix.CLONE_NEWNET|unix.CLONE_NEWNS, func() *exec.Cmd {
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Args[0] = os.Args[0]
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.Env = append(os.Environ(), outsideVariable+"="+here)
		return cmd
	})
	if err != nil {
		return 0, err
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // it fails only if the child is gone
		}
	}()
	_ = cmd.Wait() // the state says how it ended
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil // as a shell tells it
	}
	return cmd.ProcessState.ExitCode(), nil
}

// Isolate starts a command in namespaces of its own, flags of clone(2), and where the caller may not make these in a user
// namespace, in which the caller is root. The caller keeps its thread (runtime.LockOSThread) until the command has ended:
// with the thread the command is killed.
func Isolate(own uintptr, command func() *exec.Cmd) (*exec.Cmd, error) {
	start := func(attributes *syscall.SysProcAttr) (*exec.Cmd, error) {
		cmd := command()
		cmd.SysProcAttr = attributes
		attributes.Pdeathsig = syscall.SIGKILL
		return cmd, cmd.Start()
	}
	// With plain namespaces the caller keeps its rights over files. A container's root without
	// CAP_SYS_ADMIN may still own a user namespace.
	cmd, err := start(&syscall.SysProcAttr{Cloneflags: own})
	if err != nil {
		cmd, err = start(&syscall.SysProcAttr{Cloneflags: own | syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}})
	}
	if err != nil {
		return nil, refused("a user namespace", err)
	}
	return cmd, nil
}

// Inside makes a process fit for hosts that Isolate has started in a network namespace of its own.
func Inside() error {
	errForbidden = equip()
	return errForbidden
}

// prepare makes the new namespaces fit to work in.
func prepare() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return refused("mounts of its own", err)
	}
	// Hide the machine's /run/wireguard, /run/kidoban and /run/netns.
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return refused("a private /run", err)
	}
	return equip()
}

// equip sets up loopback, and looks whether tunnels can be made.
func equip() error {
	if err := netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo"}}); err != nil {
		return refused("its own loopback interface", err)
	}
	tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("lab: tunnels need /dev/net/tun: %w (load the module with `modprobe tun`; "+
			"the device must be readable and writable by this user: mode 0666 is usual)", err)
	}
	return tun.Close()
}

// refused explains why the kernel did not let this process have something.
func refused(what string, err error) error {
	for _, s := range []struct {
		name, forbidding, allowing string
	}{
		{"kernel/unprivileged_userns_clone", "0", "1"},
		{"kernel/apparmor_restrict_unprivileged_userns", "1", "0"},
		{"user/max_user_namespaces", "0", "10000"},
		{"user/max_net_namespaces", "0", "10000"},
	} {
		value, readErr := os.ReadFile("/proc/sys/" + s.name)
		if readErr == nil && strings.TrimSpace(string(value)) == s.forbidding {
			name := strings.ReplaceAll(s.name, "/", ".")
			return fmt.Errorf("lab: this process may not have %s: %w (%s is %s: run as root, or `sysctl %s=%s`)",
				what, err, name, s.forbidding, name, s.allowing)
		}
	}
	return fmt.Errorf("lab: this process may not have %s: %w (run as root; in a container with CAP_SYS_ADMIN and "+
		"CAP_NET_ADMIN, or with a seccomp profile that allows user namespaces)", what, err)
}
