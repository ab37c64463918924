package store

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestFreeOf(t *testing.T) {
	const gib = 1 << 30 / 4096 // blocks
	for _, c := range []struct {
		name          string
		blocks, free  uint64
		files, unused uint64
		entries       uint64
		low           bool
	}{
		{"a new disk", 20 * gib, 15 * gib, 1 << 20, 1 << 19, 15 * gib * 4, false},
		{"little room", 20 * gib, gib / 10, 1 << 20, 1 << 19, gib / 10 * 4, true},
		{"little left, but for years", 100 * gib, 5 * gib, 1 << 20, 1 << 19, 5 * gib * 4, false},
		{"a small disk", gib / 8, gib / 10, 1 << 12, 1 << 11, gib / 10 * 4, false},
		{"full", 20 * gib, 0, 1 << 20, 1 << 19, 0, true},
		{"no inodes", 20 * gib, 15 * gib, 1 << 20, 10, 1000, true},
		{"inodes are not counted", 20 * gib, 15 * gib, 0, 0, 15 * gib * 4, false},
	} {
		r := freeOf(unix.Statfs_t{Bsize: 4096, Blocks: c.blocks, Bavail: c.free, Files: c.files, Ffree: c.unused})
		if r.entries != c.entries || r.low != c.low {
			t.Errorf("%s: %d entries, low %v; want %d, %v", c.name, r.entries, r.low, c.entries, c.low)
		}
	}
}

// TestNoRoomIsKnown: some file systems tell no size, as ramfs and a tmpfs without a limit.
// That is no disk that is full.
func TestNoRoomIsKnown(t *testing.T) {
	var of Room
	of.saw(unix.Statfs_t{Bsize: 4096, Type: unix.RAMFS_MAGIC})
	if entries, known := of.Entries(); known {
		t.Errorf("room for %d entries", entries)
	}
}

// TestWatchRoom: the disk that is there has some room, and one that is not there
// changes nothing.
func TestWatchRoom(t *testing.T) {
	var of Room
	for _, folder := range []string{t.TempDir(), "/nowhere"} {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { of.Watch(ctx, folder); close(ended) }()
		for until := time.Now().Add(time.Minute); of.newest.Load() == nil && time.Now().Before(until); {
			time.Sleep(time.Millisecond)
		}
		cancel()
		<-ended
		if r := of.newest.Load(); r == nil || r.entries == 0 && !r.low {
			t.Fatalf("room of %s: %+v", folder, r)
		}
	}
	of.newest.Store(&free{entries: 5, low: true})
	if h := of.Hints(); len(h) != 1 || h[0].Message.Code != "disk_nearly_full" {
		t.Errorf("hints %v", h)
	}
}
