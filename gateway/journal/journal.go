package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// FailedError is the error of Append after a failed write. Only opening the journal anew helps.
type FailedError struct {
	Err error // the first failure
}

func (e *FailedError) Error() string {
	return "the journal failed and takes no more entries until it is opened anew: " + e.Err.Error()
}

func (e *FailedError) Unwrap() error { return e.Err }

// ErrClosed is the error of Append after Close.
var ErrClosed = errors.New("the journal is closed")

// Journal is a journal that is open for appending. Its methods may be called concurrently.
type Journal struct {
	key       *key
	read      reader
	lock      io.Closer
	now       func() time.Time
	recovered Recovered

	mu      sync.Mutex // guards the fields below; never held during disk access
	pending *batch     // the lines of the next commit; nil if nothing waits
	last    time.Time  // of the newest entry, pending ones included
	tree    tlog.Tree  // covered by the checkpoint
	text    []byte     // the checkpoint
	signed  time.Time  // when it was
	failed  *FailedError
	closed  bool

	commit sync.Mutex // held during a commit; guards the fields below
	wrote  func([]Line)
	write  writer
	edge   *edge
	tail   []byte // the last bundle's entries; empty if it is full
}

// batch is one commit of several callers of Append.
type batch struct {
	lines [][]byte
	done  bool // guarded by Journal.commit, as is err
	err   error
}

// Recovered counts the data that Open found beyond the signed checkpoint. No Append had acknowledged it.
type Recovered struct {
	Adopted int64 // whole entries, now signed
	Cut     int64 // bytes after them, now gone
}

// Open opens the journal in a folder for appending. It reads and verifies all of it first; a
// journal that does not verify is a *DamageError.
//
// If folder and key file are both missing, Open makes them. If one is missing, Open refuses:
// something was lost. The owner of the key's folder is trusted, since root restores a service's journal.
func Open(dir, keyFile string) (*Journal, error) { return open(diskFor(keyFile), dir, keyFile) }

// OpenUnread is Open without reading all: it verifies what appending needs. Replay verifies the
// rest. Only the user of the process and root are trusted with the key.
func OpenUnread(dir, keyFile string) (*Journal, error) {
	return openAs(realDisk, dir, keyFile, (*Journal).readEnd)
}

func open(disk storage, dir, keyFile string) (*Journal, error) {
	return openAs(disk, dir, keyFile, (*Journal).readAll)
}

// openAs opens a journal of which read reads edge and tail. read returns the newest entry; nil:
// there is none.
func openAs(disk storage, dir, keyFile string, read func(*Journal) (newest []byte, err error)) (*Journal, error) {
	dir = filepath.Clean(dir)
	lock, err := disk.lock(LockFile(dir))
	if err != nil {
		return nil, err
	}
	j, err := openLocked(disk, dir, keyFile, read)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("journal %s: %w", dir, err)
	}
	j.lock = lock
	return j, nil
}

func openLocked(disk storage, dir, keyFile string, read func(*Journal) ([]byte, error)) (*Journal, error) {
	if err := makeIfNew(disk, dir, keyFile); err != nil {
		return nil, err
	}
	key, err := readKey(disk, keyFile)
	if err != nil {
		return nil, err
	}
	j := &Journal{
		key:   key,
		read:  reader{disk, dir},
		write: writer{reader: reader{disk, dir}, lasting: map[string]bool{}},
		now:   time.Now,
	}
	if j.text, j.tree, err = j.read.checkpoint(key.verifier); err != nil {
		return nil, err
	}
	if file, err := disk.stat(j.read.path("checkpoint")); err == nil {
		j.signed = file.ModTime()
	}
	newest, err := read(j)
	if err != nil {
		return nil, err
	}
	if j.tree.N%tileWidth == 0 {
		j.tail = nil
	}
	// The entries are written again, not only signed: if their fsync failed, the cache shows data
	// that is not on disk.
	var entries sequence
	if newest != nil {
		if _, _, err := entries.next(j.tree.N-1, newest); err != nil {
			return nil, err
		}
	}
	lines, torn, entries := j.read.beyond(j.tree.N, j.tail, entries)
	if len(lines) > 0 {
		if err := j.writeLines(lines); err != nil {
			return nil, fmt.Errorf("while signing %d entries beyond the checkpoint: %w", len(lines), err)
		}
	}
	j.last, j.recovered = entries.last, Recovered{int64(len(lines)), torn}
	return j, j.sweep()
}

// readAll verifies all entries.
func (j *Journal) readAll() (newest []byte, err error) {
	j.edge, err = j.read.verify(j.tree, func(index int64, line []byte) error {
		if index%tileWidth == 0 {
			j.tail = j.tail[:0]
		}
		j.tail = appendEntry(j.tail, line)
		newest = line
		return nil
	})
	return newest, err
}

// readEnd verifies the end alone.
func (j *Journal) readEnd() (newest []byte, err error) {
	j.edge, j.tail, newest, err = j.read.end(j.tree)
	return newest, err
}

// Recovered reports the result of Open.
func (j *Journal) Recovered() Recovered { return j.recovered }

// Append records entries in this order. It returns when they are on disk and signed. Concurrent
// callers share a commit.
//
// If one entry is not valid (see MaxEntry and Kind), the whole call is refused. Other errors are
// ErrClosed and *FailedError. After a *FailedError some of the entries may be in the journal when
// it is opened anew: the first ones of the call, without a gap.
func (j *Journal) Append(entries ...Entry) error {
	if len(entries) == 0 {
		return nil
	}
	b, err := j.enqueue(entries)
	if err != nil {
		return err
	}
	j.commit.Lock()
	defer j.commit.Unlock()
	if b.done { // by an earlier caller
		return b.err
	}
	j.mu.Lock()
	j.pending = nil // it was b: batches are taken whole and in order
	switch {
	case j.failed != nil:
		err = j.failed
	case j.closed:
		err = ErrClosed
	}
	j.mu.Unlock()
	if err == nil {
		err = j.writeLines(b.lines)
	}
	b.done, b.err = true, err
	return err
}

// enqueue gives the entries their times and places.
func (j *Journal) enqueue(entries []Entry) (*batch, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil {
		return nil, j.failed
	}
	if j.closed {
		return nil, ErrClosed
	}
	last := j.last
	lines := make([][]byte, len(entries))
	for i, e := range entries {
		e.Version = Version
		if e.Time.IsZero() {
			e.Time = j.now()
		}
		// UTC also drops the monotonic reading, which would order times wrongly across a clock
		// step.
		e.Time, e.From, e.Until, e.First, e.Last = e.Time.UTC(), e.From.UTC(), e.Until.UTC(), e.First.UTC(), e.Last.UTC()
		switch {
		case e.Kind == Recovery && !e.From.IsZero():
			e.Time = e.From
		case e.Time.Before(last):
			e.Time = last
		}
		last = e.Time
		line, err := encode(e)
		switch {
		case err != nil:
		case e.Kind == "":
			err = errors.New("an entry without a kind")
		case len(line) > MaxEntry:
			err = fmt.Errorf("an entry of kind %s takes %d bytes of JSON, allowed are %d: split its text", e.Kind, len(line), MaxEntry)
		}
		if err != nil {
			return nil, fmt.Errorf("journal: entry %d of %d: %w", i+1, len(entries), err)
		}
		lines[i] = line
	}
	j.last = last
	if j.pending == nil {
		j.pending = &batch{}
	}
	j.pending.lines = append(j.pending.lines, lines...)
	return j.pending, nil
}

// writeLines commits lines. The caller holds j.commit, or has j to itself.
func (j *Journal) writeLines(lines [][]byte) error {
	before := j.edge.size
	text, err := j.writeTiles(lines)
	if err != nil {
		failed := &FailedError{err}
		j.mu.Lock()
		j.failed = failed
		j.mu.Unlock()
		return failed
	}
	j.mu.Lock()
	j.tree, j.text, j.signed = j.edge.tree(), text, j.now()
	j.mu.Unlock()
	if j.wrote != nil {
		written := make([]Line, len(lines))
		for i, line := range lines {
			written[i] = Line{before + int64(i), line}
		}
		j.wrote(written)
	}
	// The checkpoint is on disk, so the shorter tiles are not needed.
	j.removeBefore(before)
	return nil
}

// writeTiles writes the tiles that lines change and the checkpoint over them.
func (j *Journal) writeTiles(lines [][]byte) (checkpoint []byte, err error) {
	var tiles []file
	add := func(t tlog.Tile, hashes []tlog.Hash) error {
		if t.L == 0 {
			entries := t
			entries.L = entriesLevel
			tiles = append(tiles, file{tilePath(entries), j.tail})
			if t.W == tileWidth {
				j.tail = nil
			}
		}
		tiles = append(tiles, file{tilePath(t), joinHashes(hashes)})
		return nil
	}
	before := j.edge.size
	for _, line := range lines {
		j.tail = appendEntry(j.tail, line)
		if err := j.edge.add(tlog.RecordHash(line), add); err != nil {
			return nil, err
		}
	}
	for t, hashes := range j.edge.partial() {
		if !inTree(t, before) {
			_ = add(t, hashes) // never fails
		}
	}
	checkpoint, err = j.key.sign(j.edge.tree())
	if err != nil {
		return nil, err
	}
	return checkpoint, j.write.commit(tiles, checkpoint)
}

// removeBefore removes the partial tiles of the tree of an earlier size.
func (j *Journal) removeBefore(size int64) {
	for level := entriesLevel; size>>(tileHeight*max(level, 0)) > 0; level++ {
		if t := tileOf(level, size); t.W > 0 && !inTree(t, j.edge.size) {
			j.write.remove(tilePath(t))
		}
	}
}

// sweep removes tiles that are not in the tree: shorter ones, and those of a commit without a
// checkpoint.
func (j *Journal) sweep() error {
	disk, dir := j.read.disk, j.read.dir
	for t, err := range j.read.tiles("tile") {
		if err == nil && !inTree(t, j.tree.N) {
			if err = disk.Remove(j.read.path(tilePath(t))); err == nil && t.W < tileWidth {
				j.write.removeEmpty(filepath.Dir(tilePath(t)))
			}
		}
		if err != nil {
			return err
		}
	}
	for _, leftover := range []string{filepath.Join(dir, "checkpoint.tmp"), filepath.Join(dir+".new", "checkpoint.tmp"), filepath.Join(dir+".new", "checkpoint"), dir + ".new"} {
		if err := disk.Remove(leftover); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Replay reads and verifies the entries on disk that are not pruned, up to the newest at this moment. An
// error comes last.
func (j *Journal) Replay() iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		j.mu.Lock()
		tree := j.tree
		j.mu.Unlock()
		stopped := errors.New("the caller has seen enough")
		var entries sequence
		_, err := j.read.verify(tree, func(index int64, line []byte) error {
			e, _, err := entries.next(index, line)
			if err != nil {
				return err
			}
			if !yield(e, nil) {
				return stopped
			}
			return nil
		})
		if err != nil && err != stopped {
			yield(Entry{}, err)
		}
	}
}

// Tell has f called after each commit, with the entries that are on disk now. It returns the
// index of the first of them. f must neither wait nor change the entries.
func (j *Journal) Tell(f func([]Line)) (next int64) {
	j.commit.Lock()
	defer j.commit.Unlock()
	j.wrote = f
	return j.edge.size
}

// Size is how many entries are on disk.
func (j *Journal) Size() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.tree.N
}

// Checkpoint is the signed checkpoint on disk, and its time. A copy elsewhere lets VerifyDir find a
// rollback.
func (j *Journal) Checkpoint() (text string, signed time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return string(j.text), j.signed
}

// Close waits for the commit under way and unlocks the journal. Waiting entries are refused with
// ErrClosed.
func (j *Journal) Close() error {
	j.commit.Lock()
	defer j.commit.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	j.closed = true
	return j.lock.Close()
}
