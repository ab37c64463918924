package gateway

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kidoban/gateway/policy"
)

func TestFileMarker(t *testing.T) {
	shut := []policy.ShutRecord{{Scope: "acme", At: moment("01:00:00"), Actor: "yamada", Reason: "点検"}}
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	bad := filepath.Join(dir, "no such folder", "three")
	for _, c := range []struct {
		name      string
		marker    FileMarker
		fails     bool
		untilBoot bool
		loads     int
	}{
		{"one place", FileMarker{Lasting: one}, false, false, 1},
		{"two places keep it twice", FileMarker{one, two}, false, false, 2},
		{"without the passing one it lasts", FileMarker{one, bad}, false, false, 1},
		{"without the lasting one it does not", FileMarker{bad, two}, true, true, 1},
		{"no place", FileMarker{bad, bad}, true, false, 0},
		{"the only place does not take it", FileMarker{Lasting: bad}, true, false, 0},
	} {
		for _, reserved := range []bool{false, true} {
			t.Run(c.name, func(t *testing.T) {
				if reserved {
					if err := c.marker.Reserve(); (err != nil) != (c.marker.Lasting == bad) {
						t.Errorf("reserve: %v", err)
					}
				}
				err := c.marker.Save(shut)
				if (err != nil) != c.fails || errors.Is(err, ErrUntilBoot) != c.untilBoot {
					t.Errorf("save: %v, want an error: %t, until the next boot: %t", err, c.fails, c.untilBoot)
				}
				got, err := c.marker.Load()
				if err != nil {
					t.Errorf("load: %v", err)
				}
				same(t, "records", len(got), c.loads)
				for _, r := range got {
					same(t, "record", r, shut[0])
				}
				if err := c.marker.Save(nil); err != nil {
					t.Errorf("removing: %v", err)
				}
				if got, err := c.marker.Load(); err != nil || len(got) != 0 {
					t.Errorf("when removed: %v, %v", got, err)
				}
				left, err := filepath.Glob(filepath.Join(dir, "*"))
				if err != nil || len(left) > 1 || len(left) == 1 && left[0] != one {
					t.Errorf("files left: %q, %v", left, err)
				}
				os.Remove(one)
			})
		}
	}
	t.Run("what cannot be read is an error beside what can", func(t *testing.T) {
		m := FileMarker{one, two}
		if err := m.Save(shut); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(one, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := m.Load()
		if err == nil {
			t.Error("no error")
		}
		same(t, "records", len(got), 1)
	})
	t.Run("room that is taken leaves what is there", func(t *testing.T) {
		m := FileMarker{Lasting: filepath.Join(t.TempDir(), "kept")}
		if err := os.WriteFile(m.Lasting, []byte(`[{"scope":"acme"}]`), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := m.Reserve(); err != nil {
				t.Fatal(err)
			}
		}
		got, err := m.Load()
		if err != nil || len(got) != 1 {
			t.Errorf("%v, %v", got, err)
		}
		info, err := os.Stat(m.Lasting)
		if err != nil || info.Size() != markerRoom {
			t.Errorf("%v, %v: want %d bytes", info, err, markerRoom)
		}
	})
	t.Run("shorter, longer, and more than the room", func(t *testing.T) {
		m := FileMarker{Lasting: filepath.Join(t.TempDir(), "kept")}
		if err := m.Reserve(); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{3, 1, 40, 400, 2} {
			var all []policy.ShutRecord
			for range n {
				all = append(all, policy.ShutRecord{Scope: "acme", Reason: strings.Repeat("r", ReasonMax)})
			}
			if err := m.Save(all); err != nil {
				t.Fatal(err)
			}
			if got, err := m.Load(); err != nil || len(got) != n {
				t.Errorf("%d records, %v, want %d", len(got), err, n)
			}
		}
	})
}

// TestFileMarkerOnAFullDisk: the room that is reserved takes a first and a
// second save, and is free again for others.
func TestFileMarkerOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("a tmpfs is not permitted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	with, without := FileMarker{Lasting: filepath.Join(dir, "reserved")}, FileMarker{Lasting: filepath.Join(dir, "not")}
	if err := with.Reserve(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "fill"), make([]byte, 2<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	shut := []policy.ShutRecord{{Scope: "acme"}}
	if err := without.Save(shut); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("without room: %v", err)
	}
	for range 2 {
		if err := with.Save(shut); err != nil {
			t.Errorf("with room: %v", err)
		}
		if got, err := with.Load(); err != nil || len(got) != 1 {
			t.Errorf("%v, %v", got, err)
		}
		if err := with.Save(nil); err != nil {
			t.Error(err)
		}
	}
}

// A copy that says that nothing is shut is another thing than none.
func TestFileCopy(t *testing.T) {
	c := FileCopy{filepath.Join(t.TempDir(), "closed.json")}
	if _, err := c.Load(); err == nil {
		t.Error("a copy that was never saved can be read")
	}
	some := []policy.ShutRecord{{Scope: "acme", At: moment("01:00:00"), Actor: "yamada", Reason: "a test", Keys: []policy.Key{{1}}}}
	for _, want := range [][]policy.ShutRecord{nil, some, {}} {
		if err := c.Save(want); err != nil {
			t.Fatal(err)
		}
		got, err := c.Load()
		if err != nil || !slices.EqualFunc(got, want, sameRecord) {
			t.Errorf("of %v the copy says %v, %v", want, got, err)
		}
	}
	for _, text := range []string{"", "null", "[{", "{}"} {
		if err := os.WriteFile(c.Path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Load(); err == nil {
			t.Errorf("a copy of %q says %v", text, got)
		}
	}
}

// TestFileCopyOnAFullDisk: what was saved before is not true any more, and goes.
func TestFileCopyOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("a tmpfs is not permitted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	c := FileCopy{filepath.Join(dir, "closed.json")}
	if err := c.Save(nil); err != nil {
		t.Fatal(err)
	}
	fill := filepath.Join(dir, "fill")
	if err := os.WriteFile(fill, make([]byte, 2<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	// Removing it makes some room: what is saved needs more.
	shut := []policy.ShutRecord{{Scope: "acme", Reason: strings.Repeat("r", 64<<10)}}
	for range 2 {
		if err := c.Save(shut); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("save: %v", err)
		}
		if got, err := c.Load(); err == nil {
			t.Errorf("a copy that cannot be replaced says %v", got)
		}
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	if err := c.Save(shut); err != nil {
		t.Error(err)
	}
	if got, err := c.Load(); err != nil || !slices.EqualFunc(got, shut, sameRecord) {
		t.Errorf("with room again: %v, %v", got, err)
	}
}
