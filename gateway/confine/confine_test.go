package confine

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"kidoban/gateway/durable"
)

// placesVariable has the places for the process that is confined, as JSON.
const placesVariable = "CONFINE_PLACES"

// threads is how many threads there are of each kind: made before Apply, and after it.
const threads = 40

type places struct{ Read, Write, Outside string }

func TestMain(m *testing.M) {
	if text := os.Getenv(placesVariable); text != "" {
		var p places
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			panic(err)
		}
		confined(p)
		os.Exit(0)
	}
	run := map[string]func() error{confinedOne: forgotten, besideOne: remount}[os.Getenv(procVariable)]
	if call := os.Getenv(withoutVariable); call != "" {
		run = func() error { return without(call) }
	}
	if run != nil {
		if err := run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestFault129EveryThread: every thread of a confined process reads and writes where the rules let it,
// and nowhere else, and can start nothing.
func TestFault129EveryThread(t *testing.T) {
	dir := durable.Real(t.TempDir())
	p := places{filepath.Join(dir, "read"), filepath.Join(dir, "write"), filepath.Join(dir, "outside")}
	for _, folder := range []string{p.Read, p.Write, p.Outside} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "secret"), []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(p.Outside, "secret"), filepath.Join(p.Read, "link")); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), placesVariable+"="+string(text))
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if want := fmt.Sprintf("%d threads tried", 2*threads); !slices.Contains(lines, want) {
		t.Errorf("the process does not say %q", want)
	}
	for _, line := range lines {
		switch {
		case !strings.HasSuffix(line, "tried"):
			t.Error(line)
		}
	}
}

// confined is the process under test. It prints what is wrong.
func confined(p places) {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	var mu sync.Mutex
	tried := 0
	apply, done := make(chan struct{}), sync.WaitGroup{}
	thread := func(made string, ready *sync.WaitGroup) {
		runtime.LockOSThread() // the thread ends with the goroutine
		ready.Done()
		<-apply
		wrong := attempts(p)
		mu.Lock()
		defer mu.Unlock()
		tried++
		for _, w := range wrong {
			fmt.Fprintf(out, "a thread made %s Apply: %s\n", made, w)
		}
	}
	var before, after sync.WaitGroup
	before.Add(threads)
	after.Add(threads)
	for range threads {
		done.Go(func() { thread("before", &before) })
	}
	before.Wait()
	for _, m := range Apply(Rules{Read: []string{p.Read, filepath.Join(p.Read, "missing")}, Write: []string{p.Write}, Change: []string{"/dev/null"}}) {
		fmt.Fprintf(out, "missing: %v\n", m)
	}
	for range threads {
		done.Go(func() { thread("after", &after) })
	}
	after.Wait()
	close(apply)
	done.Wait()
	fmt.Fprintf(out, "%d threads tried\n", tried)
}

// attempts tries what is allowed, and what is not, on the calling thread.
func attempts(p places) (wrong []string) {
	for what, try := range map[string]func() error{
		"read":                   func() error { _, err := os.ReadFile(filepath.Join(p.Read, "secret")); return err },
		"list":                   func() error { _, err := os.ReadDir(p.Read); return err },
		"read where it writes":   func() error { _, err := os.ReadFile(filepath.Join(p.Write, "secret")); return err },
		"make, rename, remove":   func() error { return changes(p.Write) },
		"write to a device":      func() error { return os.WriteFile("/dev/null", []byte("x"), 0) },
		"look whether one is":    func() error { _, err := os.Stat(filepath.Join(p.Outside, "secret")); return err },
		"signal the own process": func() error { return unix.Tgkill(os.Getpid(), os.Getpid(), 0) },
	} {
		if err := try(); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %v, want no error", what, err))
		}
	}
	for what, try := range map[string]func() error{
		"read outside":            func() error { _, err := os.ReadFile(filepath.Join(p.Outside, "secret")); return err },
		"list outside":            func() error { _, err := os.ReadDir(p.Outside); return err },
		"read through a link":     func() error { _, err := os.ReadFile(filepath.Join(p.Read, "link")); return err },
		"read /etc/passwd":        func() error { _, err := os.ReadFile("/etc/passwd"); return err },
		"write outside":           func() error { return os.WriteFile(filepath.Join(p.Outside, "new"), nil, 0o600) },
		"write where it reads":    func() error { return os.WriteFile(filepath.Join(p.Read, "new"), nil, 0o600) },
		"empty where it reads":    func() error { return os.Truncate(filepath.Join(p.Read, "secret"), 0) },
		"remove outside":          func() error { return os.Remove(filepath.Join(p.Outside, "secret")) },
		"bring in":                func() error { return os.Link(filepath.Join(p.Outside, "secret"), filepath.Join(p.Write, "linked")) },
		"make a link":             func() error { return os.Symlink("/", filepath.Join(p.Write, "symlink")) },
		"make a pipe":             func() error { return unix.Mkfifo(filepath.Join(p.Write, "pipe"), 0o600) },
		"run a program":           func() error { return unix.Exec("/bin/true", []string{"true"}, nil) },
		"run itself":              func() error { return unix.Exec("/proc/self/exe", []string{"true"}, nil) },
		"run a descriptor":        runDescriptor,
		"make a process":          func() error { return call(unix.SYS_CLONE, uintptr(unix.SIGCHLD)) },
		"make a process anew":     func() error { return call(unix.SYS_CLONE3, 0) },
		"make a namespace":        func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
		"trace its parent":        func() error { return unix.PtraceAttach(os.Getppid()) },
		"signal its parent":       func() error { return unix.Kill(os.Getppid(), 0) },
		"read its parent's files": func() error { _, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", os.Getppid())); return err },
		"load bpf":                func() error { return call(unix.SYS_BPF, 1<<20) },
		"use io_uring":            func() error { return call(unix.SYS_IO_URING_SETUP, 1) },
		"make memory code":        makeCode,
		"make a file code":        mapCode,
		"call by other numbers":   func() error { return call(otherABI|unix.SYS_GETPID, 0) },
	} {
		err := try()
		if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EXDEV) {
			wrong = append(wrong, fmt.Sprintf("%s: error %v, want that it is refused", what, err))
		}
	}
	return wrong
}

func changes(folder string) error {
	sub, err := os.MkdirTemp(folder, "")
	if err != nil {
		return err
	}
	name := filepath.Join(sub, "a")
	if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
		return err
	}
	return errors.Join(os.Rename(name, sub+".b"), os.Remove(sub+".b"), os.Remove(sub))
}

func call(number, first uintptr) error {
	if result, _, failed := syscall.RawSyscall6(number, first, 0, 0, 0, 0, 0); failed != 0 {
		return failed
	} else if number == unix.SYS_CLONE && result == 0 { // the child
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return nil
}

func runDescriptor() error {
	fd, err := unix.MemfdCreate("program", 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return call(unix.SYS_EXECVEAT, uintptr(fd))
}

func makeCode() error {
	memory, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	defer unix.Munmap(memory)
	return unix.Mprotect(memory, unix.PROT_READ|unix.PROT_EXEC)
}

// mapCode maps what was written to a file in memory.
func mapCode() error {
	fd, err := unix.MemfdCreate("code", 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, int64(os.Getpagesize())); err != nil {
		return err
	}
	memory, err := unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	return unix.Munmap(memory)
}
