package lab_test

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"kidoban/gateway/lab"
)

// programVariable has this test's executable run one of programs instead of
// the tests.
const programVariable = "LAB_TEST_PROGRAM"

type program func() int

func (p program) Run() int { return p() }

var programs = map[string]program{
	"seven": func() int { return 7 },
	"killed": func() int {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	},
	"copy": func() int {
		fmt.Fprintln(os.Stderr, "to standard error")
		if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
			return 1
		}
		return 0
	},
	"signal": func() int {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		fmt.Println("ready")
		select {
		case <-c:
			return 9
		case <-time.After(20 * time.Second):
			return 1
		}
	},
	"available": func() int {
		if err := lab.Available(); err != nil {
			fmt.Println(err)
			return 3
		}
		return 0
	},
	"network": func() int {
		link, err := os.Readlink("/proc/self/ns/net")
		if err != nil {
			return 1
		}
		fmt.Print(link)
		return 0
	},
}

// run runs this test's executable as the named program, from outside any
// namespaces as far as lab.Main can tell.
func run(name string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), programVariable+"="+name, "LAB_OUTSIDE=")
	return cmd
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return 0
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return exit.ExitCode()
}

func TestMainPassesTheExitCodeOn(t *testing.T) {
	lab.Require(t)
	for name, want := range map[string]int{"seven": 7, "killed": 128 + 9, "available": 0} {
		if got := exitCode(t, run(name).Run()); got != want {
			t.Errorf("program %q: exit code %d, want %d", name, got, want)
		}
	}
}

func TestMainPassesTheStreamsOn(t *testing.T) {
	lab.Require(t)
	cmd := run("copy")
	var out, complaint strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("in and out"), &out, &complaint
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if out.String() != "in and out" || complaint.String() != "to standard error\n" {
		t.Errorf("out %q, error %q", &out, &complaint)
	}
}

func TestMainPassesSignalsOn(t *testing.T) {
	lab.Require(t)
	cmd := run("signal")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := exitCode(t, cmd.Wait()); got != 9 {
		t.Errorf("exit code %d, want 9: the program inside received SIGTERM", got)
	}
}

func TestMainEntersOnlyOnce(t *testing.T) {
	// What runs inside a host, or is started by a program inside, stays in
	// the namespace where it was started.
	h := lab.New(t).Host("host")
	var want string
	if err := h.Do(func() (err error) { want, err = os.Readlink("/proc/thread-self/ns/net"); return err }); err != nil {
		t.Fatal(err)
	}
	cmd := h.Command(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), programVariable+"=network")
	got, err := cmd.Output()
	if err != nil || string(got) != want {
		t.Errorf("a program in a host runs in %s, %v, want %s", got, err, want)
	}
	inside, err := exec.Command("nsenter", "--net="+h.Namespace(), "readlink", "/proc/self/ns/net").Output()
	if err != nil || strings.TrimSpace(string(inside)) != want {
		t.Errorf("nsenter by Namespace enters %s, %v, want %s", inside, err, want)
	}
	if outside, err := run("network").Output(); err != nil || string(outside) == want {
		t.Errorf("a program outside runs in %s, %v, want a namespace of its own", outside, err)
	}
}

func TestRunIsPrivate(t *testing.T) {
	lab.Require(t)
	var s syscall.Statfs_t
	if err := syscall.Statfs("/run", &s); err != nil {
		t.Fatal(err)
	}
	const tmpfs = 0x01021994
	if s.Type != tmpfs {
		t.Errorf("/run is of type %#x, want a tmpfs", s.Type)
	}
	const name = "/run/lab-test-was-here"
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(name) })
	if out, err := exec.Command("nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", os.Getppid()), "ls", name).CombinedOutput(); err == nil {
		t.Errorf("%s is seen outside: %s", name, out)
	}
}

// TestForbiddenSaysWhatToDo takes away the right to make namespaces, in a
// user namespace of its own: the limit that it sets holds only there.
func TestForbiddenSaysWhatToDo(t *testing.T) {
	lab.Require(t)
	for _, tool := range []string{"unshare", "setpriv"} { // of util-linux
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	cmd := exec.Command("unshare", "--user", "--map-root-user", "sh", "-c",
		"echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --bounding-set -sys_admin "+os.Args[0])
	cmd.Env = run("available").Env
	out, err := cmd.CombinedOutput()
	if got := exitCode(t, err); got != 3 || !strings.Contains(string(out), "`sysctl user.max_user_namespaces=10000`") {
		t.Errorf("exit code %d and %q, want 3 and what to do about user.max_user_namespaces", got, out)
	}
}

func TestCommandsRunInsideAndEndWithTheLab(t *testing.T) {
	var sleep *lab.Cmd
	t.Run("lab", func(t *testing.T) {
		l := lab.New(t)
		h := l.Host("host")
		l.Link(h, "odd0", lab.Prefixes("192.0.2.1/24"), l.Host("other"), "eth0", nil)
		out, err := h.Command(t.Context(), "cat", "/proc/net/dev").Output()
		if err != nil || !strings.Contains(string(out), "odd0:") {
			t.Errorf("/proc/net/dev inside: %q, %v, want odd0 in it", out, err)
		}
		if _, err := h.Command(t.Context(), "sh", "-c", "echo complaint >&2; exit 4").Output(); err == nil || !strings.Contains(err.Error(), "complaint") {
			t.Errorf("a command that fails: error %v, want its complaint in it", err)
		}
		sleep = h.Command(t.Context(), "sleep", "60")
		if err := sleep.Start(); err != nil {
			t.Fatal(err)
		}
	})
	if sleep == nil {
		return
	}
	if err := sleep.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("sleep after the lab's end: %v, want killed", err)
	}
}

// TestNothingIsLeft makes and ends labs, and counts what the process holds.
func TestNothingIsLeft(t *testing.T) {
	lab.Require(t)
	files := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	one := func() {
		t.Run("lab", func(t *testing.T) {
			client, _, near, _ := pair(t)
			client.Capture("eth0")
			if err := near.Handshake(within(t, 5*time.Second)); err != nil {
				t.Error(err)
			}
			client.Echo("tcp", "192.0.2.2:0")
			if err := client.Send(lab.UDPPacket(netip.MustParseAddrPort("192.0.2.2:1"), netip.MustParseAddrPort("192.0.2.1:1"), nil)); err != nil {
				t.Error(err)
			}
		})
	}
	one() // what the runtime opens once
	before := files()
	for range 3 {
		one()
	}
	lab.WaitFor(t, 5*time.Second, fmt.Sprintf("at most %d open files", before), func() bool { return files() <= before })
}
