package confine

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// procVariable says which process of TestFault129ProcForgets this is.
const (
	procVariable = "CONFINE_PROC"
	confinedOne  = "confined"
	besideOne    = "beside"
)

// TestFault129ProcForgets: the kernel forgets the folders of /proc that nobody uses when memory is short, and
// makes them anew. The rules hold after that.
func TestFault129ProcForgets(t *testing.T) {
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), procVariable+"="+confinedOne)
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}
	if os.Geteuid() != 0 {
		child.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		child.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		child.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// forgotten is the process under test. The process beside it has /proc forget, since this one may
// not, once it is confined.
func forgotten() error {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	beside := exec.Command("/proc/self/exe")
	beside.Env = append(os.Environ(), procVariable+"="+besideOne)
	beside.Stderr = os.Stderr
	now, err := beside.StdinPipe()
	if err == nil {
		err = beside.Start()
	}
	if err != nil {
		return err
	}
	const file = "/proc/sys/net/ipv4/ip_forward"
	for _, m := range Apply(Rules{Change: []string{"/proc/sys/net"}}) {
		return fmt.Errorf("%v", m)
	}
	if _, err := os.ReadFile(file); err != nil {
		return err
	}
	now.Close()
	if err := beside.Wait(); err != nil {
		return err
	}
	_, err = os.ReadFile(file)
	return err
}

// remount waits for the other process. A remount has the kernel forget what nobody uses.
func remount() error {
	if _, err := io.ReadAll(os.Stdin); err != nil {
		return err
	}
	return unix.Mount("proc", "/proc", "proc", unix.MS_REMOUNT, "")
}
