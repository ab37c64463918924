package metrics

import (
	"context"
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

// room is what the disk of the state folder still takes.
type room struct {
	entries   uint64 // of the journal
	megabytes uint64 // free, in MiB
	low       bool
}

func roomOf(s unix.Statfs_t) room {
	size := uint64(s.Bsize)
	r := room{entries: s.Bavail * size / entryBytes, megabytes: s.Bavail * size >> 20}
	r.low = r.entries < roomLow && s.Bavail < s.Blocks/10
	if s.Files > 0 { // some file systems, as btrfs, do not count them
		files := s.Ffree * entriesOfFile
		r.low = r.low || files < roomLow && s.Ffree < s.Files/10
		r.entries = min(r.entries, files)
	}
	return r
}

// WatchRoom looks how much the disk of a folder still takes: at once, and then every roomInterval until the context ends. Nobody
// waits for a disk that does not answer.
func (m *Metrics) WatchRoom(ctx context.Context, folder string) {
	tick := time.NewTicker(roomInterval)
	defer tick.Stop()
	for {
		var s unix.Statfs_t
		if unix.Statfs(folder, &s) == nil {
			m.sawRoom(s)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sawRoom notes what a disk takes. Some tell no size, as a tmpfs without a limit.
func (m *Metrics) sawRoom(s unix.Statfs_t) {
	if s.Blocks > 0 {
		m.room.Store(new(roomOf(s)))
	}
}

// Hints tells of a disk that is nearly full.
func (m *Metrics) Hints() []view.Hint {
	if now := m.room.Load(); now != nil && now.low {
		return []view.Hint{{Message: view.Say("disk_nearly_full", view.Args{"entries": now.entries, "megabytes": now.megabytes})}}
	}
	return nil
}
