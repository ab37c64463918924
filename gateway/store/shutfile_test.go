package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"kidoban/gateway/policy"
)

func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestShutFile(t *testing.T) {
	shut := []policy.ShutRecord{{Scope: "acme", At: time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC), Actor: "yamada", Reason: "点検"}}
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	bad := filepath.Join(dir, "no such folder", "three")
	for _, c := range []struct {
		name      string
		file      ShutFile
		fails     bool
		untilBoot bool
		loads     int
	}{
		{"one place", ShutFile{Lasting: one}, false, false, 1},
		{"two places keep it twice", ShutFile{one, two}, false, false, 2},
		{"without the passing one it lasts", ShutFile{one, bad}, false, false, 1},
		{"without the lasting one it does not", ShutFile{bad, two}, true, true, 1},
		{"no place", ShutFile{bad, bad}, true, false, 0},
		{"the only place does not take it", ShutFile{Lasting: bad}, true, false, 0},
	} {
		for _, reserved := range []bool{false, true} {
			t.Run(c.name, func(t *testing.T) {
				if reserved {
					if err := c.file.Reserve(); (err != nil) != (c.file.Lasting == bad) {
						t.Errorf("reserve: %v", err)
					}
				}
				err := c.file.Save(shut)
				if (err != nil) != c.fails || errors.Is(err, ErrUntilBoot) != c.untilBoot {
					t.Errorf("save: %v, want an error: %t, until the next boot: %t", err, c.fails, c.untilBoot)
				}
				got, _, err := c.file.Load()
				if err != nil {
					t.Errorf("load: %v", err)
				}
				same(t, "records", len(got), c.loads)
				for _, r := range got {
					same(t, "record", r, shut[0])
				}
				if err := c.file.Save(nil); (err != nil) != c.fails {
					t.Errorf("saving that nothing is shut: %v", err)
				}
				if got, _, err := c.file.Load(); err != nil || len(got) != 0 {
					t.Errorf("when removed: %v, %v", got, err)
				}
				os.Remove(two)
				left, err := filepath.Glob(filepath.Join(dir, "*"))
				if err != nil || len(left) > 1 || len(left) == 1 && left[0] != one {
					t.Errorf("files left: %q, %v", left, err)
				}
				os.Remove(one)
			})
		}
	}
	t.Run("what cannot be read is an error beside what can", func(t *testing.T) {
		m := ShutFile{one, two}
		if err := m.Save(shut); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(one, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		got, _, err := m.Load()
		if err == nil {
			t.Error("no error")
		}
		same(t, "records", len(got), 1)
	})
	t.Run("room is taken once, and never over records", func(t *testing.T) {
		m := ShutFile{Lasting: filepath.Join(t.TempDir(), "kept")}
		for _, path := range []string{m.Lasting, m.Lasting + stale} {
			if err := os.WriteFile(path, []byte(`[{"scope":"acme"}]`), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := m.Reserve(); err != nil {
				t.Fatal(err)
			}
			got, known, err := m.Load()
			if err != nil || len(got) != 1 || known != (path == m.Lasting) {
				t.Errorf("%v, known %t, %v", got, known, err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(m.Lasting); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("beside %s: %v", path, err)
			}
		}
		for range 2 {
			if err := m.Reserve(); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(m.Lasting)
			if err != nil || info.Size() != room {
				t.Errorf("%v, %v: want %d bytes", info, err, room)
			}
		}
	})
	t.Run("shorter, longer, and more than the room", func(t *testing.T) {
		m := ShutFile{Lasting: filepath.Join(t.TempDir(), "kept")}
		if err := m.Reserve(); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{3, 1, 40, 400, 2} {
			var all []policy.ShutRecord
			for range n {
				all = append(all, policy.ShutRecord{Scope: "acme", Reason: strings.Repeat("r", 1000)})
			}
			if err := m.Save(all); err != nil {
				t.Fatal(err)
			}
			if got, _, err := m.Load(); err != nil || len(got) != n {
				t.Errorf("%d records, %v, want %d", len(got), err, n)
			}
		}
	})
}

// TestShutFileOnAFullDisk: the room that is reserved takes a first and a
// second save, and is free again for others.
func TestShutFileOnAFullDisk(t *testing.T) {
	dir := smallDisk(t)
	with, without := ShutFile{Lasting: filepath.Join(dir, "reserved")}, ShutFile{Lasting: filepath.Join(dir, "not")}
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
		if got, _, err := with.Load(); err != nil || len(got) != 1 {
			t.Errorf("%v, %v", got, err)
		}
		if err := with.Save(nil); err != nil {
			t.Error(err)
		}
	}
}

// A latch that says that nothing is shut is another thing than none.
func TestShutFileThatWasNeverSaved(t *testing.T) {
	f := ShutFile{Lasting: filepath.Join(t.TempDir(), "shut.json")}
	if _, known, err := f.Load(); known || err != nil {
		t.Errorf("no file: known %t, %v", known, err)
	}
	if err := f.Reserve(); err != nil {
		t.Fatal(err)
	}
	if _, known, err := f.Load(); known || err != nil {
		t.Errorf("only room: known %t, %v", known, err)
	}
	some := []policy.ShutRecord{{Scope: "acme", At: time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC), Actor: "yamada", Reason: "a test", Keys: []policy.Key{{1}}}}
	for _, want := range [][]policy.ShutRecord{nil, some, {}} {
		if err := f.Save(want); err != nil {
			t.Fatal(err)
		}
		got, known, err := f.Load()
		if err != nil || !known || !slices.EqualFunc(got, want, sameRecord) {
			t.Errorf("of %v the latch says %v, known %t, %v", want, got, known, err)
		}
	}
	for _, text := range []string{"[{", "{}"} {
		if err := os.WriteFile(f.Lasting, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, known, err := f.Load(); err == nil || known {
			t.Errorf("a latch of %q says %v", text, got)
		}
	}
}

// A latch that cannot be written keeps its records, and does not say that they
// are all.
func TestShutFileThatCannotBeWritten(t *testing.T) {
	dir := smallDisk(t)
	f := ShutFile{Lasting: filepath.Join(dir, "shut.json")}
	before := []policy.ShutRecord{{Scope: "medisys"}}
	if err := f.Save(before); err != nil {
		t.Fatal(err)
	}
	fill := filepath.Join(dir, "fill")
	if err := os.WriteFile(fill, make([]byte, 2<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	// The room takes no more than it has.
	shut := []policy.ShutRecord{{Scope: "acme", Reason: strings.Repeat("r", 2*room)}}
	for range 2 {
		if err := f.Save(shut); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("save: %v", err)
		}
		if got, known, err := f.Load(); known || err != nil || !slices.EqualFunc(got, before, sameRecord) {
			t.Errorf("a latch that cannot be written says %v, known %t, %v", got, known, err)
		}
	}
	// It is no less room for a shorter one.
	if err := f.Save(before); err != nil {
		t.Error(err)
	}
	if got, known, err := f.Load(); !known || err != nil || len(got) != 1 {
		t.Errorf("a shorter one: %v, known %t, %v", got, known, err)
	}
	if err := f.Save(shut); err == nil {
		t.Error("the disk took a longer one")
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	if err := f.Save(nil); err != nil {
		t.Error(err)
	}
	if got, known, err := f.Load(); !known || err != nil || len(got) != 0 {
		t.Errorf("with room again: known %t, %v", known, err)
	}
}

// smallDisk is a folder on a disk of 1 MB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		t.Skipf("a tmpfs is not permitted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}
