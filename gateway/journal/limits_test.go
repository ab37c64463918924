package journal

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// again runs this test alone in a process of its own, where child is true.
// Flags are those of clone(2); where they are forbidden the test is skipped.
func again(t *testing.T, flags uintptr) (child bool) {
	t.Helper()
	const mark = "JOURNAL_TEST_CHILD"
	if os.Getenv(mark) == t.Name() {
		return true
	}
	command := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=1m")
	command.Env = append(os.Environ(), mark+"="+t.Name())
	attributes := &syscall.SysProcAttr{Cloneflags: flags}
	if flags != 0 && os.Getuid() != 0 {
		attributes.Cloneflags |= syscall.CLONE_NEWUSER
		attributes.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	command.SysProcAttr = attributes
	output, err := command.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		t.Skipf("a process in namespaces of its own is not permitted here: %v", err)
	case strings.Contains(string(output), "--- SKIP"):
		t.Skipf("%s", output)
	case err != nil || !strings.Contains(string(output), "--- PASS: "+t.Name()):
		t.Errorf("%v\n%s", err, output)
	}
	return false
}

// appendUntil appends until it fails, and says how many entries were
// acknowledged and why no more.
func appendUntil(t *testing.T, j *Journal, size int) (int64, error) {
	t.Helper()
	for count := range int64(1000) {
		e := numbered(count)
		e.Reason = strings.Repeat("x", size)
		if err := j.Append(e); err != nil {
			var failed *FailedError
			if again := j.Append(numbered(count)); !errors.As(err, &failed) || again != error(failed) {
				t.Errorf("failed with %v, then with %v, want the same *FailedError", err, again)
			}
			return count, err
		}
	}
	t.Fatal("1000 entries did not meet the limit")
	return 0, nil
}

// wantAll opens the journal and wants all that was acknowledged, and nothing
// but what was appended.
func (p place) wantAll(t *testing.T, acknowledged int64) {
	t.Helper()
	j := p.open(t)
	got := texts(t, j)
	if int64(len(got)) != acknowledged && int64(len(got)) != acknowledged+1 || fmt.Sprint(got) != fmt.Sprint(counted(int64(len(got)))) {
		t.Errorf("%d entries were acknowledged, there are %d: %v", acknowledged, len(got), got)
	}
	fill(t, j, 1)
	size := j.Size()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if report, err := VerifyDir(p.dir, p.verifierKey(t), nil); err != nil || report.Size != size {
		t.Errorf("VerifyDir: %d entries, %v, want %d", report.Size, err, size)
	}
}

func TestFault50FullDisk(t *testing.T) {
	if !again(t, syscall.CLONE_NEWNS) {
		return
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Skipf("mounts of its own are not permitted here: %v", err)
	}
	state := t.TempDir()
	if err := unix.Mount("tmpfs", state, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		t.Skipf("a tmpfs is not permitted here: %v", err)
	}
	defer unix.Unmount(state, unix.MNT_DETACH)
	ballast := filepath.Join(state, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 200<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	p := place{filepath.Join(state, "journal"), filepath.Join(state, "journal.key")}
	j := p.open(t)
	acknowledged, err := appendUntil(t, j, 20_000)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("failed with %v, want no space left", err)
	}
	j.Close()
	if report, err := VerifyDir(p.dir, p.verifierKey(t), nil); err != nil || report.Size != acknowledged {
		t.Errorf("full: %d entries verify, %v, want %d", report.Size, err, acknowledged)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	p.wantAll(t, acknowledged)
}

func TestFault50FileTooLarge(t *testing.T) {
	if !again(t, 0) {
		return
	}
	p := newPlace(t)
	j := p.open(t)
	signal.Ignore(syscall.SIGXFSZ)
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	limit := before
	limit.Cur = 100 << 10
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	acknowledged, err := appendUntil(t, j, 30_000)
	if !errors.Is(err, syscall.EFBIG) || acknowledged != 3 {
		t.Fatalf("%d entries, then %v, want 3, then file too large", acknowledged, err)
	}
	j.Close()
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	p.wantAll(t, acknowledged)
}

// A process that is killed leaves no lock and loses nothing.
func TestFault47Killed(t *testing.T) {
	const mark = "JOURNAL_TEST_KILLED"
	if dir := os.Getenv(mark); dir != "" {
		j := place{dir, dir + ".key"}.open(t)
		for count := range int64(100_000) {
			if err := j.Append(numbered(count)); err != nil {
				t.Fatal(err)
			}
			fmt.Println("acknowledged", count+1)
		}
		return
	}
	p := newPlace(t)
	command := exec.Command("/proc/self/exe", "-test.run=^TestFault47Killed$", "-test.timeout=1m")
	command.Env = append(os.Environ(), mark+"="+p.dir)
	p.keyFile = p.dir + ".key"
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	var acknowledged int64
	for acknowledged < 30 {
		if _, err := fmt.Fscanf(output, "acknowledged %d\n", &acknowledged); err != nil {
			t.Fatal(err)
		}
	}
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := fmt.Fscanf(output, "acknowledged %d\n", &acknowledged); err != nil {
			break // all that it said before it died
		}
	}
	_ = command.Wait() // it was killed
	p.wantAll(t, acknowledged)
}
