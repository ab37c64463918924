package journal

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/mod/sumdb/tlog"

	"kidoban/gateway/durable"
)

// A journal may be pruned (https://c2sp.org/tlog-tiles): the full bundles of the entries before a
// minimum index, a multiple of 256, are taken away. The hash tiles stay, so that the root still
// follows from what is there. An entry of kind pruned says so, with the minimum in Count. It must be
// among the entries that are there and signed: whoever takes bundles away without it damages the
// journal.

// minimum is the index of the first entry that is there, and of the entry that says that those
// before it were pruned. Without such an entry the minimum is 0. It verifies nothing.
func (r reader) minimum(size int64) (first, by int64) {
	full := tlog.Tile{H: tileHeight, L: entriesLevel, W: tileWidth}
	if size <= tileWidth {
		return 0, 0
	}
	if _, err := r.disk.stat(r.path(tilePath(full))); err == nil {
		return 0, 0
	}
	there := r.bundles()
	if len(there) == 0 || there[0].N == 0 {
		return 0, 0
	}
	first = there[0].N * tileWidth
	for index, line := range r.backwards(size) {
		if e, ok := kindOf(index, line, Pruned); ok && e.Count >= first {
			return first, index
		}
	}
	return 0, 0
}

// present is the index itself if its entry is there. If that was pruned, it is the index of the first entry.
func (r reader) present(index, size int64) int64 {
	t := tlog.Tile{H: tileHeight, L: entriesLevel, N: max(index, 0) / tileWidth, W: tileWidth}
	if t.N >= size/tileWidth {
		return index // in a bundle that is not full
	}
	if _, err := r.disk.stat(r.path(tilePath(t))); err == nil {
		return index
	}
	first, _ := r.minimum(size)
	return max(index, first)
}

// pruned is minimum, by an entry that belongs to a signed tree.
func (r reader) pruned(tree tlog.Tree) int64 {
	first, by := r.minimum(tree.N)
	if first == 0 {
		return 0
	}
	lines, err := r.signed(tree).bundle(by / tileWidth)
	if err != nil {
		return 0
	}
	if e, ok := kindOf(by, lines[by%tileWidth], Pruned); !ok || e.Count < first {
		return 0
	}
	return first
}

// leaves reads the hashes of the entries of a pruned bundle.
func (r reader) leaves(n int64) ([]tlog.Hash, error) {
	hashes, err := r.hashes(tlog.Tile{H: tileHeight, L: 0, N: n, W: tileWidth})
	if err != nil {
		return nil, unread(n*tileWidth+int64(len(hashes)), err)
	}
	return hashes, nil
}

// Name tells journals apart: no two begin with the same entry, which has its time. It is empty while
// there is no entry.
func (j *Journal) Name() string {
	size := j.Size()
	if size == 0 {
		return ""
	}
	leaves, err := j.read.hashes(tlog.Tile{H: tileHeight, L: 0, N: 0, W: int(min(size, tileWidth))})
	if err != nil {
		return ""
	}
	return nameOf(leaves[0])
}

// NameOf is the name of the journal that begins with an entry.
func NameOf(first Line) string { return nameOf(tlog.RecordHash(first.JSON)) }

func nameOf(leaf tlog.Hash) string { return hex.EncodeToString(leaf[:8]) }

// Minimum is the index of the first entry that is not pruned.
func (j *Journal) Minimum() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.read.pruned(j.tree)
}

// First is the index of the first entry that a folder has, and how many entries there are. It
// verifies nothing.
func First(dir string) (first, size int64, err error) {
	r := reader{realDisk, dir}
	size, err = r.size()
	if err != nil {
		return 0, 0, err
	}
	first, _ = r.minimum(size)
	return first, size, nil
}

// size is what an unverified checkpoint says.
func (r reader) size() (int64, error) {
	text, err := r.disk.readFile(r.path("checkpoint"), maxCheckpoint)
	if err != nil {
		return 0, err
	}
	_, tree, err := parseCheckpoint(string(text))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", r.path("checkpoint"), err)
	}
	return tree.N, nil
}

// PrunedTo rounds an index down to one before which a journal can be pruned.
func PrunedTo(index int64) int64 { return index / tileWidth * tileWidth }

// Prune records why entries are pruned, and then moves the bundles of all entries before Count, a
// multiple of 256, into another folder, the oldest first. It returns how many it moved. What is
// interrupted can be done again.
func (j *Journal) Prune(to string, why Entry) (moved int, err error) {
	if why.Kind != Pruned || why.Count%tileWidth != 0 || why.Count > PrunedTo(j.Size()) {
		return 0, fmt.Errorf("nothing can be pruned before entry %d of %d", why.Count, j.Size())
	}
	first := j.Minimum()
	if err := os.MkdirAll(filepath.Join(to, "tile", "entries"), 0o700); err != nil {
		return 0, err
	}
	if err := j.Append(why); err != nil {
		return 0, err
	}
	folders := map[string]bool{}
	for n := first / tileWidth; n < why.Count/tileWidth; n++ {
		name := tilePath(tlog.Tile{H: tileHeight, L: entriesLevel, N: n, W: tileWidth})
		source, target := j.read.path(name), filepath.Join(to, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return moved, err
		}
		if err := move(source, target); err != nil {
			return moved, err
		}
		moved++
		folders[filepath.Dir(source)], folders[filepath.Dir(target)] = true, true
	}
	for folder := range folders {
		if err := durable.SyncFolder(folder); err != nil {
			return moved, err
		}
	}
	return moved, nil
}

// move moves a file, also to another disk.
func move(from, to string) error {
	err := os.Rename(from, to)
	if !errors.Is(err, syscall.EXDEV) {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := durable.Replace(to, data, 0o600); err != nil {
		return err
	}
	return os.Remove(from)
}

// DeletePruned deletes a folder of pruned bundles. It deletes no folder that has anything else.
func DeletePruned(dir string) (bundles int, err error) {
	r := reader{realDisk, dir}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		t, err := parseTilePath(filepath.ToSlash(name))
		if err != nil || t.L != entriesLevel || t.W != tileWidth || !d.Type().IsRegular() {
			return fmt.Errorf("%s has %s, which is no pruned file of a journal: nothing was deleted", dir, name)
		}
		bundles++
		return nil
	})
	if err == nil && bundles == 0 {
		err = fmt.Errorf("%s has no pruned files of a journal: nothing was deleted", dir)
	}
	if err != nil {
		return 0, err
	}
	return bundles, os.RemoveAll(r.dir)
}
