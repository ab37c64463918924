package confine

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// TestFilter asks the filter itself, also about calls that this machine cannot make.
func TestFilter(t *testing.T) {
	vm, err := bpf.NewVM(filter())
	if err != nil {
		t.Fatal(err)
	}
	const thread = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD // runtime/os_linux.go
	const allow, eperm, enosys = unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_ERRNO | int(unix.EPERM), unix.SECCOMP_RET_ERRNO | int(unix.ENOSYS)
	for _, c := range []struct {
		what                string
		arch, number, first uint32
		want                int
	}{
		{"read", architecture, unix.SYS_READ, 0, allow},
		{"a futex", architecture, unix.SYS_FUTEX, 0, allow},
		{"a thread of Go", architecture, unix.SYS_CLONE, thread, allow},
		{"a process", architecture, unix.SYS_CLONE, uint32(unix.SIGCHLD), eperm},
		{"a process as vfork makes it", architecture, unix.SYS_CLONE, unix.CLONE_VM | unix.CLONE_VFORK, eperm},
		{"a thread in another network", architecture, unix.SYS_CLONE, thread | unix.CLONE_NEWNET, eperm},
		{"a user namespace", architecture, unix.SYS_CLONE, unix.CLONE_NEWUSER, eperm},
		{"clone3", architecture, unix.SYS_CLONE3, 0, enosys},
		{"execve", architecture, unix.SYS_EXECVE, 0, eperm},
		{"the last of the list", architecture, uint32(denied[len(denied)-1]), 0, eperm},
		{"a call of x32", architecture, otherABI | unix.SYS_READ, 0, eperm},
		{"a negative number", architecture, 1<<32 - 1, 0, eperm},
		{"read of i386", unix.AUDIT_ARCH_I386, 3, 0, eperm},
		{"execve of i386", unix.AUDIT_ARCH_I386, 11, 0, eperm},
		{"execve of arm", unix.AUDIT_ARCH_ARM, 11, 0, eperm},
	} {
		// The machine of x/net/bpf reads as networks do, the kernel as the processor does.
		data := make([]byte, 64)
		for at, value := range map[int]uint32{0: c.number, 4: c.arch, 16: c.first} {
			binary.BigEndian.PutUint32(data[at:], value)
		}
		if got, err := vm.Run(data); err != nil || got != c.want {
			t.Errorf("%s: %#x, %v, want %#x", c.what, got, err, c.want)
		}
	}
}

// withoutVariable has the number of a call that the kernel of the process under test does not have.
const withoutVariable = "CONFINE_WITHOUT"

// TestFault129MissingLayers: a kernel, or a container's engine, without one of the layers is told of, and the
// other layer is there.
func TestFault129MissingLayers(t *testing.T) {
	for call, want := range map[int]string{
		unix.SYS_LANDLOCK_CREATE_RULESET: "confine_files",
		unix.SYS_SECCOMP:                 "confine_calls",
	} {
		child := exec.Command("/proc/self/exe")
		child.Env = append(os.Environ(), withoutVariable+"="+strconv.Itoa(call))
		if out, err := child.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("without call %d: %v, told of %q, want %s", call, err, out, want)
		}
	}
}

// without is the process under test. It prints what is missing.
func without(call string) error {
	number, err := strconv.ParseUint(call, 10, 32)
	if err != nil {
		return err
	}
	if err := load([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(number), SkipFalse: 1},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW},
	}); err != nil {
		return err
	}
	for _, m := range Apply(Rules{}) {
		if os.Stdout.WriteString(string(m.Code) + "\n"); !strings.Contains(m.String(), unix.ENOSYS.Error()) {
			return errors.New("the cause is not named: " + m.String())
		}
	}
	_, err = os.ReadFile("/etc/passwd")
	if readable := number == unix.SYS_LANDLOCK_CREATE_RULESET; readable != (err == nil) {
		return errors.New("reading a file is not as it should be")
	}
	if err := unix.Exec("/bin/true", []string{"true"}, nil); !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		return errors.New("a program was started")
	}
	return nil
}
