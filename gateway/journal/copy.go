package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/mod/sumdb/tlog"

	"kidoban/gateway/durable"
)

// Copied is the result of Copy.
type Copied struct {
	From int64 // how many entries the copy had
	Size int64 // and has now
}

// Errors of Copy about its destination. Nothing was changed there.
var (
	// ErrOtherJournal says that the destination is a copy of another journal, or of another past.
	ErrOtherJournal = errors.New("it is a copy of another journal, or of another past of this one")
	// ErrAhead says that the destination has more entries than the source.
	ErrAhead = errors.New("it has more entries than the journal: the journal was rolled back")
	// ErrOccupied says that the destination has other files, and no copy.
	ErrOccupied = errors.New("it has other files and is no copy of a journal")
)

// Copy brings a copy of a journal up to date. The copy is a folder like the journal's; it is made if
// it is not there. Copy reads the source's checkpoint first, verifies every new entry, and writes the
// destination's checkpoint last: a copy that verified before verifies whenever Copy is interrupted.
// What the copy already has is not written again.
//
// A fault of the source is a *DamageError. progress, unless nil, hears how many entries of how many
// are done. The journal may be written to meanwhile.
func Copy(from, to, verifierKey string, progress func(done, all int64)) (Copied, error) {
	return copyJournal(realDisk, copyDisk{realDisk}, from, to, verifierKey, progress)
}

// Stream makes a copy as Copy does, and gives its files to put instead of writing them: each once, by
// its path in the folder, with the checkpoint last but for WitnessedFile. After an error what was
// given is worth nothing.
func Stream(from, verifierKey string, put func(name string, data []byte) error) (size int64, err error) {
	copied, err := copyJournal(realDisk, &outlet{put: put}, from, ".", verifierKey, nil)
	return copied.Size, err
}

// outlet is a storage without files, for copies. It hands on what is written.
type outlet struct {
	osDisk
	put  func(name string, data []byte) error
	temp []byte // what was written under a temporary name, until its Rename
}

func (*outlet) readDir(string) ([]fs.DirEntry, error) { return nil, nil }
func (*outlet) stat(string) (fs.FileInfo, error)      { return nil, fs.ErrNotExist }
func (*outlet) mkdir(string) error                    { return nil }
func (*outlet) SyncFolder(string) error               { return nil }
func (*outlet) Remove(string) error                   { return nil }
func (*outlet) lock(string) (io.Closer, error)        { return io.NopCloser(nil), nil }
func (o *outlet) Rename(_, to string) error           { return o.put(filepath.ToSlash(to), o.temp) }
func (o *outlet) Write(path string, data []byte) error {
	if filepath.Ext(path) == ".tmp" { // of durable.ReplaceOn
		o.temp = data
		return nil
	}
	return o.put(filepath.ToSlash(path), data)
}

// copyDisk is a disk that may be a file share: some cannot sync a folder.
type copyDisk struct{ osDisk }

func (d copyDisk) SyncFolder(name string) error {
	err := d.osDisk.SyncFolder(name)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	return err
}

// copyFiles are the files of a copy beside tiles. The lock is inside, since the copy may be the root
// of a share.
const (
	copyLock      = "copy.lock"
	newCheckpoint = "checkpoint.tmp"
)

func copyJournal(source, target storage, from, to, key string, progress func(done, all int64)) (Copied, error) {
	src, err := openFolder(source, from, key)
	if err != nil {
		return Copied{}, err
	}
	witnessed, _, _ := src.Witnessed() // a broken one is no reason against the copy
	lock, err := prepareCopy(target, to)
	if err != nil {
		return Copied{}, err
	}
	defer lock.Close()
	c := copying{source: src, target: writer{reader: reader{target, to}, lasting: map[string]bool{}}, progress: progress}
	c.had = (&edge{}).tree()
	if _, err := target.stat(c.target.path("checkpoint")); err == nil {
		if err := c.compare(key); err != nil {
			return Copied{}, fmt.Errorf("%s: %w", to, err)
		}
	}
	if err := c.run(); err != nil {
		return Copied{}, err
	}
	if witnessed != nil {
		err = durable.ReplaceOn(target, c.target.path(WitnessedFile), witnessed)
	}
	return Copied{c.had.N, src.Tree.N}, err
}

// prepareCopy makes the folder of a copy, and locks it.
func prepareCopy(disk storage, dir string) (io.Closer, error) {
	if err := disk.mkdir(dir); err != nil {
		return nil, err
	}
	if err := disk.SyncFolder(filepath.Dir(dir)); err != nil {
		return nil, err
	}
	names, err := disk.readDir(dir)
	if err != nil {
		return nil, err
	}
	ours := []string{copyLock, newCheckpoint, "tile"}
	for _, n := range names {
		if n.Name() == "checkpoint" {
			ours = nil
			break
		}
	}
	for _, n := range names {
		if ours != nil && !slices.Contains(ours, n.Name()) {
			return nil, fmt.Errorf("%s: %w, as %s", dir, ErrOccupied, n.Name())
		}
	}
	return disk.lock(filepath.Join(dir, copyLock))
}

// copying is one run of Copy.
type copying struct {
	source   *Folder
	target   writer
	had      tlog.Tree // of the copy, before
	progress func(done, all int64)

	edge edge
	tail []byte   // the last bundle's entries
	dirs []string // whose names are not synced yet, each once
}

// compare reads the copy's checkpoint, and holds it against the source.
func (c *copying) compare(key string) error {
	_, had, err := c.target.checkpoint(key)
	var damage *DamageError
	if errors.As(err, &damage) {
		return fmt.Errorf("%w: %w", ErrOtherJournal, err)
	}
	if err != nil {
		return err
	}
	if had.N > c.source.Tree.N {
		return fmt.Errorf("%w, %d and not %d", ErrAhead, had.N, c.source.Tree.N)
	}
	same, err := c.source.Continues(had)
	if err == nil && !same {
		err = ErrOtherJournal
	}
	c.had = had
	return err
}

// run copies what is new, and puts the checkpoint over it. Tiles are computed from the entries.
func (c *copying) run() error {
	tree := c.source.Tree
	if tree.N == c.had.N && c.had.N > 0 { // a run that was interrupted may have put the checkpoint there
		c.sweep()
		return c.target.disk.SyncFolder(c.target.dir)
	}
	if err := c.begin(); err != nil {
		return err
	}
	first := c.source.read.pruned(tree)
	for n := c.edge.size / tileWidth; n*tileWidth < tree.N; n++ {
		take := c.bundle
		if n < first/tileWidth {
			take = c.pruned
		}
		if err := take(n); err != nil {
			return err
		}
	}
	if c.edge.tree() != tree {
		return damaged(c.had.N, "%s: the entries from %d on are not those that were signed", c.source.read.dir, c.had.N)
	}
	for t, hashes := range c.edge.partial() {
		if err := c.tile(t, hashes); err != nil {
			return err
		}
	}
	for _, dir := range c.dirs {
		if err := c.target.disk.SyncFolder(dir); err != nil {
			return err
		}
	}
	if err := durable.ReplaceOn(c.target.disk, c.target.path("checkpoint"), c.source.Checkpoint); err != nil {
		return err
	}
	c.sweep()
	return nil
}

// begin takes up the right edge of the last whole bundle that the copy has.
func (c *copying) begin() error {
	c.edge.size = c.had.N / tileWidth * tileWidth
	if c.edge.size == 0 {
		return nil
	}
	c.edge.levels = [][]tlog.Hash{nil}
	for level := 1; c.edge.size>>(tileHeight*level) > 0; level++ {
		t := tileOf(level, c.edge.size)
		var places []int64
		for i := range int64(t.W) {
			places = append(places, tlog.StoredHashIndex(tileHeight*level, t.N*tileWidth+i))
		}
		hashes, err := c.source.hashes().ReadHashes(places)
		if err != nil {
			return damaged(c.had.N, "%v", err)
		}
		c.edge.levels = append(c.edge.levels, hashes)
	}
	return nil
}

// bundle copies a bundle of entries, with the hash tiles that are full then.
func (c *copying) bundle(n int64) error {
	start, size := n*tileWidth, c.source.Tree.N
	t := tlog.Tile{H: tileHeight, L: entriesLevel, N: n, W: int(min(tileWidth, size-start))}
	lines, err := c.source.read.entries(t)
	if err != nil {
		return unread(start+int64(len(lines)), err)
	}
	c.tail = nil
	for _, line := range lines {
		c.tail = appendEntry(c.tail, line)
	}
	for _, line := range lines {
		if err := c.edge.add(tlog.RecordHash(line), c.tile); err != nil {
			return err
		}
		if c.edge.size == c.had.N && c.edge.tree() != c.had {
			return damaged(start, "%s: the entry is not the one that was signed", tilePath(t))
		}
	}
	if c.progress != nil {
		c.progress(c.edge.size-c.had.N, size-c.had.N)
	}
	return nil
}

// pruned copies the hashes of a bundle that the source has not any more.
func (c *copying) pruned(n int64) error {
	leaves, err := c.source.read.leaves(n)
	c.tail = nil
	for _, leaf := range leaves {
		if err := c.edge.add(leaf, c.tile); err != nil {
			return err
		}
	}
	return err
}

// tile writes a hash tile, and the entries below it, unless the copy has them.
func (c *copying) tile(t tlog.Tile, hashes []tlog.Hash) error {
	if inTree(t, c.had.N) {
		return nil
	}
	if t.L == 0 && c.tail != nil {
		entries := t
		entries.L = entriesLevel
		if err := c.put(tilePath(entries), c.tail); err != nil {
			return err
		}
	}
	return c.put(tilePath(t), joinHashes(hashes))
}

func (c *copying) put(name string, data []byte) error {
	path := c.target.path(name)
	parent := filepath.Dir(path)
	if err := c.target.makeDirs(parent); err != nil {
		return err
	}
	if !slices.Contains(c.dirs, parent) {
		c.dirs = append(c.dirs, parent)
	}
	return c.target.disk.Write(path, data)
}

// sweep removes tiles that are not in the tree: the partial ones of the checkpoint before, and
// those of a run that was interrupted. What cannot be removed does no harm.
func (c *copying) sweep() {
	for t, err := range c.target.tiles("tile") {
		if err == nil && !inTree(t, c.source.Tree.N) {
			c.target.remove(tilePath(t))
		}
	}
}
