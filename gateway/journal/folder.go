package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"sort"

	"golang.org/x/mod/sumdb/tlog"
)

// Folder is a journal's folder as of one checkpoint, to be read. Every hash that it gives belongs
// to the signed root. The journal may be written to meanwhile.
type Folder struct {
	Checkpoint []byte // signed
	Tree       tlog.Tree

	read reader
	key  string
}

// OpenFolder reads the checkpoint of a folder, and verifies it with the journal's verifier key. The
// entries are verified when they are read.
func OpenFolder(dir, verifierKey string) (*Folder, error) {
	return openFolder(realDisk, dir, verifierKey)
}

func openFolder(disk storage, dir, verifierKey string) (*Folder, error) {
	f := &Folder{read: reader{disk, dir}, key: verifierKey}
	var err error
	f.Checkpoint, f.Tree, err = f.read.checkpoint(verifierKey)
	return f, err
}

func (f *Folder) hashes() tlog.HashReader { return tlog.TileHashReader(f.Tree, tileReader{f.read}) }

// Consistency proves that the tree continues the one of its first entries, 1 at least (RFC 6962,
// section 2.1.2).
func (f *Folder) Consistency(size int64) (tlog.TreeProof, error) {
	if size < 1 || size > f.Tree.N {
		return nil, fmt.Errorf("no proof from %d entries to %d", size, f.Tree.N)
	}
	return tlog.ProveTree(f.Tree.N, size, f.hashes())
}

// Inclusion proves that an entry is in the tree of the first size entries (RFC 6962, section 2.1.1).
func (f *Folder) Inclusion(size, index int64) (tlog.RecordProof, error) {
	if index < 0 || index >= size || size > f.Tree.N {
		return nil, fmt.Errorf("no entry %d of %d: there are %d", index, size, f.Tree.N)
	}
	return tlog.ProveRecord(size, index, f.hashes())
}

// Continues says whether the journal continues a tree.
func (f *Folder) Continues(earlier tlog.Tree) (bool, error) {
	if earlier.N > f.Tree.N {
		return false, nil
	}
	if earlier.N == 0 {
		return earlier == (&edge{}).tree(), nil
	}
	root, err := tlog.TreeHash(earlier.N, f.hashes())
	return root == earlier.Hash, err
}

// Common is how many entries, from the first on, two journals have in common.
func (f *Folder) Common(other *Folder) (int64, error) {
	var fault error
	same := func(size int64) bool {
		a, errA := tlog.TreeHash(size, f.hashes())
		b, errB := tlog.TreeHash(size, other.hashes())
		fault = cmp.Or(fault, errA, errB)
		return a == b
	}
	n := sort.Search(int(min(f.Tree.N, other.Tree.N)), func(i int) bool { return fault != nil || !same(int64(i)+1) })
	return int64(n), fault
}

// Witnessed gives the checkpoint that a witness cosigned, if the folder has one, and its tree. It
// has the journal's own signature; nobody verified the cosignatures.
func (f *Folder) Witnessed() (text []byte, tree tlog.Tree, err error) {
	text, err = f.read.disk.readFile(f.read.path(WitnessedFile), maxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, tlog.Tree{}, nil
	}
	if err == nil {
		tree, err = openCheckpoint(text, f.key)
	}
	if err != nil {
		return nil, tlog.Tree{}, fmt.Errorf("%s: %w", WitnessedFile, err)
	}
	return text, tree, nil
}

// Lines gives the entries from an index to another, both included, each proven to be the one that was
// signed. A fault is the last.
func (f *Folder) Lines(from, to int64) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		for n := from / tileWidth; n*tileWidth <= to && n*tileWidth < f.Tree.N; n++ {
			start := n * tileWidth
			width := min(tileWidth, f.Tree.N-start)
			lines, err := f.read.entries(tlog.Tile{H: tileHeight, L: entriesLevel, N: n, W: int(width)})
			var places []int64
			for i := range width {
				places = append(places, tlog.StoredHashIndex(0, start+i))
			}
			var signed []tlog.Hash
			if err == nil {
				signed, err = f.hashes().ReadHashes(places)
			}
			if err != nil {
				yield(Line{}, unread(start, err))
				return
			}
			for i, line := range lines {
				index := start + int64(i)
				if tlog.RecordHash(line) != signed[i] {
					yield(Line{}, damaged(index, "the entry is not the one that was signed"))
					return
				}
				if from <= index && index <= to && !yield(Line{index, line}, nil) {
					return
				}
			}
		}
	}
}

// wholeMost is how many entries a part of a journal has whole, if there are no more.
const wholeMost = 16 * tileWidth

// Part lists the files that prove the entries from an index to another, both included: the checkpoint,
// the bundles with them, the hashes over those, and all hashes above. Small journals are whole.
// Without entries it has the hashes alone.
func (f *Folder) Part(from, to int64, entries bool) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		if !yield("checkpoint", f.Checkpoint) {
			return
		}
		if text, _, err := f.Witnessed(); err == nil && text != nil && !yield(WitnessedFile, text) {
			return
		}
		if f.Tree.N <= wholeMost {
			from, to = 0, f.Tree.N-1
		}
		for _, t := range tlog.NewTiles(tileHeight, 0, f.Tree.N) {
			if t.L == 0 && (t.N < from/tileWidth || t.N > to/tileWidth) {
				continue
			}
			hashes, err := f.read.hashes(t)
			if err != nil {
				return // the proofs say so
			}
			if !yield(tilePath(t), joinHashes(hashes)) {
				return
			}
			if t.L > 0 || !entries {
				continue
			}
			t.L = entriesLevel
			lines, err := f.read.entries(t)
			var bundle []byte
			for _, line := range lines {
				bundle = appendEntry(bundle, line)
			}
			if err != nil || !yield(tilePath(t), bundle) {
				return
			}
		}
	}
}
