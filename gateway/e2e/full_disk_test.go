package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"kidoban/gateway/lab"
)

// TestCloseOutlivesABoot: an operator closes everything while the journal is
// dead, and the machine boots, so that what lay in /run is gone.
func TestCloseOutlivesABoot(t *testing.T) {
	for _, c := range []struct {
		name string
		kept bool // the room that was taken for it at the start is there
	}{
		{"the disk is full", true},
		{"the disk is full, and the room for it is gone", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
			g.smallDisk("2m")
			g.open([]string{hour("work", "ehr")}, []string{hour("work", "pacs")})
			if !c.kept {
				room := filepath.Join(g.stateDir(), "shut.json")
				lab.WaitFor(t, eventually, "the room is taken, and has one name", func() bool {
					var s unix.Stat_t
					return unix.Stat(room, &s) == nil && s.Nlink == 1
				})
				g.check(os.Remove(room))
			}
			room := g.fillDisk()
			got, complaint, exit := g.close("--all")
			if want := map[bool]int{true: exitYes, false: exitFailed}[c.kept]; exit != want || got.Recorded || got.Kept != c.kept || got.UntilBoot == c.kept {
				t.Errorf("close: exit %d, want %d; %+v: %s", exit, want, got, complaint)
			}
			g.kill()
			if !c.kept {
				return // a boot forgets it, and it was said so
			}
			if err := os.Remove(filepath.Join(g.folder, "shut.json")); err != nil {
				t.Errorf("it is not in the place that a boot empties: %v", err)
			}
			room()
			g.start()
			lab.WaitFor(t, eventually, "everything is shut after a boot", func() bool {
				s := g.status()
				return s.Shut.All && len(s.Grants) == 0
			})
			g.must("reopen", "--all", "--reason", "over")
			g.kill()
			g.startReady()
			if s := g.status(); s.Shut.All {
				t.Errorf("reopened, and shut again after a restart: %+v", s.Shut)
			}
		})
	}
}

// smallDisk gives the gateway's state a disk of this size.
func (g *ground) smallDisk(size string) {
	g.t.Helper()
	g.check(os.MkdirAll(g.stateDir(), 0o700))
	g.check(unix.Mount("tmpfs", g.stateDir(), "tmpfs", 0, "mode=0700,size="+size))
	g.t.Cleanup(func() {
		if err := unix.Unmount(g.stateDir(), unix.MNT_DETACH); err != nil {
			g.t.Error(err)
		}
	})
}

// fillDisk fills that disk, until room is called.
func (g *ground) fillDisk() (room func()) {
	g.t.Helper()
	fill := filepath.Join(g.stateDir(), "fill")
	if err := os.WriteFile(fill, make([]byte, 4<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		g.t.Fatalf("the disk is not full: %v", err)
	}
	return func() {
		g.t.Helper()
		g.check(os.Remove(fill))
	}
}
