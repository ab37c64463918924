package journal

import (
	"errors"
	"fmt"
	"io/fs"

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

// Inclusion proves that an entry is in the tree (RFC 6962, section 2.1.1).
func (f *Folder) Inclusion(index int64) (tlog.RecordProof, error) {
	if index < 0 || index >= f.Tree.N {
		return nil, fmt.Errorf("no entry %d: there are %d", index, f.Tree.N)
	}
	return tlog.ProveRecord(f.Tree.N, index, f.hashes())
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
