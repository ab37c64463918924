package store

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway/view"
)

const (
	roomInterval = 10 * time.Second
	// An entry takes half a KiB on disk, and a file holds 256 of them; both are
	// estimates with some reserve.
	entryBytes, entriesOfFile = 1 << 10, 100
	// The hint comes below roomLow entries, on a small disk below a tenth of it.
	roomLow = 200_000
)

// Room is what the disk of the state folder still takes.
type Room struct{ newest atomic.Pointer[free] } // nil: not known yet

// free is a reading of the disk.
type free struct {
	entries   uint64 // of the journal
	megabytes uint64 // free, in MiB
	low       bool
}

func freeOf(s unix.Statfs_t) free {
	size := uint64(s.Bsize)
	r := free{entries: s.Bavail * size / entryBytes, megabytes: s.Bavail * size >> 20}
	r.low = r.entries < roomLow && s.Bavail < s.Blocks/10
	if s.Files > 0 { // some file systems, as btrfs, do not count them
		files := s.Ffree * entriesOfFile
		r.low = r.low || files < roomLow && s.Ffree < s.Files/10
		r.entries = min(r.entries, files)
	}
	return r
}

// Watch looks at the disk of a folder at once, and then every roomInterval until the
// context ends. Nobody waits for a disk that does not answer.
func (r *Room) Watch(ctx context.Context, folder string) {
	tick := time.NewTicker(roomInterval)
	defer tick.Stop()
	for {
		var s unix.Statfs_t
		if unix.Statfs(folder, &s) == nil {
			r.saw(s)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// saw notes what a disk takes. Some tell no size, as a tmpfs without a limit.
func (r *Room) saw(s unix.Statfs_t) {
	if s.Blocks > 0 {
		r.newest.Store(new(freeOf(s)))
	}
}

// Entries is about how many more entries the disk takes.
func (r *Room) Entries() (entries uint64, known bool) {
	if now := r.newest.Load(); now != nil {
		return now.entries, true
	}
	return 0, false
}

// Hints tells of a disk that is nearly full.
func (r *Room) Hints() []view.Hint {
	if now := r.newest.Load(); now != nil && now.low {
		return []view.Hint{{Message: view.Say("disk_nearly_full", view.Args{"entries": now.entries, "megabytes": now.megabytes})}}
	}
	return nil
}
