package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFault112LookAtAShutFile looks at real folders. Only a name that is clearly not there is not
// there.
func TestFault112LookAtAShutFile(t *testing.T) {
	folder := t.TempDir()
	there := filepath.Join(folder, "there")
	if err := errors.Join(os.WriteFile(there, nil, 0o600), os.Symlink("nowhere", filepath.Join(folder, "link")), os.Mkdir(filepath.Join(folder, "folder"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{
		"none": nil, "there": ErrThere, "link": ErrThere, "folder": ErrThere, "gone/none": unix.ENOENT, "there/none": unix.ENOTDIR, "folder/none": nil,
	} {
		if _, err := LookAt(filepath.Join(folder, name)); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	long := make([]byte, 300)
	for i := range long {
		long[i] = 'x'
	}
	if _, err := LookAt(filepath.Join(folder, string(long))); err == nil {
		t.Error("a name that no file can have is said to be missing")
	}
}

// TestShutFileHint: a folder on a disk is hinted at, one on a tmpfs is not.
func TestShutFileHint(t *testing.T) {
	for folder, lasting := range map[string]bool{"/dev/shm": false, "/proc": true} {
		var on unix.Statfs_t
		if err := unix.Statfs(folder, &on); err != nil || folder == "/dev/shm" && on.Type != unix.TMPFS_MAGIC {
			t.Logf("%s: %v, type %x: not looked at", folder, err, on.Type)
			continue
		}
		s := NewSwitch(filepath.Join(folder, "kidoban-test-shut"), LookAt)
		if why := s.Now(); !why.Empty() {
			t.Errorf("%s: %s", folder, why)
		}
		if got := len(s.Warnings()) == 1; got != lasting {
			t.Errorf("%s: hinted at: %t, want %t", folder, got, lasting)
		}
	}
	if s := NewSwitch("", LookAt); !s.Now().Empty() || len(s.Warnings()) > 0 {
		t.Error("a switch without a path says something")
	}
}
