package journal

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// verification compares the entries and hashes of a tree with each other and with the root.
type verification struct {
	reader
	tree     tlog.Tree
	lacks    func(tlog.Tile) // takes a hash tile that is missing; nil: that is a fault
	complete bool            // no hash tile was missing
	first    int64           // the entries before it were pruned
	skips    func()          // called before each of those, unless nil
	edge     edge            // computed from the entries that were visited
}

// verify reads every entry and every hash of a tree, and compares them with each other and with the
// root. visit gets each entry before the root is compared; its error ends the reading. A fault is a
// *DamageError, also if the disk cannot be read.
func (r reader) verify(tree tlog.Tree, visit func(index int64, line []byte) error) (*edge, error) {
	v := r.verification(tree, nil)
	return &v.edge, v.verify(visit)
}

// verification prepares a verify. lacks, unless nil, takes the hash tiles that are missing; the
// entries and the root do without them. It also lets a shorter bundle serve as far as it goes.
func (r reader) verification(tree tlog.Tree, lacks func(tlog.Tile)) *verification {
	return &verification{reader: r, tree: tree, lacks: lacks, complete: true}
}

func (v *verification) verify(visit func(index int64, line []byte) error) error {
	v.first = v.pruned(v.tree)
	for n := range v.first / tileWidth {
		if err := v.skip(n); err != nil {
			return err
		}
	}
	for n := v.first / tileWidth; n*tileWidth < v.tree.N; n++ {
		if err := v.bundle(n, visit); err != nil {
			return err
		}
	}
	for t, hashes := range v.edge.partial() {
		if err := v.compare(t, hashes); err != nil {
			return err
		}
	}
	switch got := v.edge.tree(); {
	case got.Hash == v.tree.Hash:
		return nil
	case v.complete:
		return damaged(0, "the past was rewritten: entries and hash tiles agree with each other, their root is %s; the signed checkpoint's is %s", got.Hash, v.tree.Hash)
	default:
		return damaged(0, "the entries are not those that were signed: their root is %s; the signed checkpoint's is %s", got.Hash, v.tree.Hash)
	}
}

// skip takes the hashes of a pruned bundle. The root says whether they are right.
func (v *verification) skip(n int64) error {
	leaves, err := v.leaves(n)
	for _, leaf := range leaves {
		if v.skips != nil {
			v.skips()
		}
		if err := v.edge.add(leaf, v.compare); err != nil {
			return err
		}
	}
	return err
}

// bundle verifies the entries of a bundle and their hashes.
func (v *verification) bundle(n int64, visit func(index int64, line []byte) error) error {
	start := n * tileWidth
	width := int(min(tileWidth, v.tree.N-start))
	bundle := tlog.Tile{H: tileHeight, L: entriesLevel, N: n, W: width}
	leaves := tlog.Tile{H: tileHeight, L: 0, N: n, W: width}
	lines, bundleErr := v.entries(bundle)
	if v.lacks != nil && isMissing(bundleErr) {
		if other := v.shorter(bundle); len(other) > len(lines) {
			lines = other
		}
	}
	hashes, hashesErr := v.hashes(leaves)
	without := v.forgives(leaves, hashesErr)
	if without {
		hashesErr = nil
	}
	for i, line := range lines {
		index := start + int64(i)
		leaf := tlog.RecordHash(line)
		switch {
		case without:
		case i >= len(hashes):
			return unread(index, hashesErr)
		case leaf != hashes[i]:
			return v.blame(v.tree, index, bundle, leaves)
		}
		if err := visit(index, line); err != nil {
			return err
		}
		if err := v.edge.add(leaf, v.compare); err != nil {
			return err
		}
	}
	if bundleErr != nil {
		return unread(start+int64(len(lines)), bundleErr)
	}
	if hashesErr != nil {
		return unread(start+int64(len(hashes)), hashesErr)
	}
	return nil
}

// forgives reports whether a hash tile may be missing, and takes note of it.
func (v *verification) forgives(t tlog.Tile, err error) bool {
	if v.lacks == nil || !isMissing(err) {
		return false
	}
	v.lacks(t)
	v.complete = false
	return true
}

// compare compares a tile above level 0 with the computed hashes. Those of level 0 are compared
// entry by entry.
func (v *verification) compare(t tlog.Tile, want []tlog.Hash) error {
	if t.L == 0 {
		return nil
	}
	got, err := v.hashes(t)
	if v.forgives(t, err) {
		return nil
	}
	covers := int64(1) << (tileHeight * t.L) // entries a hash
	first := t.N * tileWidth * covers
	for i, h := range got {
		if h != want[i] {
			return damaged(first+int64(i)*covers, "%s: hash %d is not that of its %d entries", tilePath(t), i, covers)
		}
	}
	if err != nil {
		return unread(first+int64(len(got))*covers, err)
	}
	return nil
}

// blame finds out which was changed, the entry or its hash tile: the tile is right if it belongs to
// the signed root.
func (r reader) blame(tree tlog.Tree, index int64, bundle, leaves tlog.Tile) error {
	signed := tlog.TileHashReader(tree, tileReader{r})
	if _, err := signed.ReadHashes([]int64{tlog.StoredHashIndex(0, index)}); err == nil {
		return damaged(index, "%s: the entry is not the one that was signed", tilePath(bundle))
	}
	return damaged(index, "%s and %s do not agree, and the hashes do not belong to the signed checkpoint", tilePath(bundle), tilePath(leaves))
}

// tileReader lets tlog read tiles.
type tileReader struct{ reader }

func (tileReader) Height() int { return tileHeight }

func (t tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	all := make([][]byte, len(tiles))
	for i, tile := range tiles {
		hashes, err := t.hashes(tile)
		if err != nil {
			return nil, err
		}
		all[i] = joinHashes(hashes)
	}
	return all, nil
}

func (tileReader) SaveTiles([]tlog.Tile, [][]byte) {}

// Report is the result of VerifyDir.
type Report struct {
	Origin      string    // the journal's name, in its checkpoints and its key
	Size        int64     // entries
	Root        string    // root hash, base64
	Minimum     int64     // the first entry that is there: those before it were pruned
	First, Last time.Time // of the first and the newest entry; zero if there is none
	SetBack     []SetBack // where a recovery accepted a clock that was behind
	Checkpoint  string    // the signed checkpoint, to be kept elsewhere
	Signed      time.Time // when the checkpoint's file was written, if the copy kept that
	Since       int64     // the size of the older checkpoint, of which this journal is proven to be a continuation; 0 if none was given
	Proven      int64     // how many entries, from the first on, are proven to be those that a checkpoint signed; all, unless there is a fault

	// Of VerifyCopy.
	Beyond  int64    // whole entries after those of the checkpoint; nothing proves them
	Lacking []string // hash tiles that are not there, or end too early
}

// SetBack is a recovery at which the times of a journal go back.
type SetBack struct {
	Entry    int64     `json:"entry"`
	Before   time.Time `json:"before"`   // the time of the entry before it
	Accepted time.Time `json:"accepted"` // the clock that the operator accepted
	Actor    string    `json:"actor"`
	Reason   string    `json:"reason"`
}

// VerifyDir verifies a journal's folder, or a copy of it, and changes nothing. It needs the
// verifier key only. A fault is a *DamageError with the first bad entry; other errors are about the
// reading.
//
// since may be a text with an older checkpoint of this journal: then the journal must continue it.
// Without one, an old copy of the folder verifies, and so does another past signed with the same
// key.
//
// The journal may be written to meanwhile.
func VerifyDir(dir, verifierKey string, since []byte) (Report, error) {
	return verifyDir(realDisk, dir, verifierKey, since, false)
}

// VerifyCopy is VerifyDir for a copy that may have been taken while the gateway wrote, its files in
// any order: the entries that the checkpoint covers must be there, but not the hash tiles. The
// copy of a checkpoint that is newer than the entries lacks some of them, which is a fault.
func VerifyCopy(dir, verifierKey string, since []byte) (Report, error) {
	return verifyDir(realDisk, dir, verifierKey, since, true)
}

// ReadDir is VerifyDir, or VerifyCopy if it is a copy, that gives the entries meanwhile, in order, and
// how many there will be. They are worth nothing if there is an error in the end.
func ReadDir(dir, verifierKey string, since []byte, copied bool, visit func(e Entry, of int64)) (Report, error) {
	return readDir(realDisk, dir, verifierKey, since, copied, visit)
}

// audit gathers a Report from the entries that verify visits, in order.
type audit struct {
	Report
	earlier tlog.Tree // of the earlier checkpoint; empty if none was given
	prefix  tlog.Tree // of the first earlier.N entries
	there   *edge     // of the entries before the one that is visited
	tail    []byte    // those of the last bundle
	entries sequence
	tell    func(e Entry, of int64) // gets each entry; nil: not called
}

func (a *audit) visit(index int64, line []byte) error {
	a.reached()
	e, back, err := a.entries.next(index, line)
	if err != nil {
		return err
	}
	if !back.IsZero() {
		a.SetBack = append(a.SetBack, SetBack{index, back, e.Time, e.Actor, e.Reason})
	}
	if a.First.IsZero() {
		a.First = e.Time
	}
	a.Last = e.Time
	if a.tell != nil {
		a.tell(e, a.Size)
	}
	if index%tileWidth == 0 {
		a.tail = a.tail[:0]
	}
	a.tail = appendEntry(a.tail, line)
	return nil
}

// reached takes the tree of the entries so far, if the earlier checkpoint is of so many.
func (a *audit) reached() {
	if a.there.size == a.earlier.N {
		a.prefix = a.there.tree()
	}
}

// lacks takes note of a hash tile that a copy is without.
func (a *audit) lacks(t tlog.Tile) { a.Lacking = append(a.Lacking, tilePath(t)) }

// proven is how many entries a checkpoint covers although the journal has a fault.
func (a *audit) proven(r reader, tree tlog.Tree) int64 {
	signed, err := tlog.TreeHash(a.there.size, tlog.TileHashReader(tree, tileReader{r}))
	switch {
	case err == nil && signed == a.there.tree().Hash:
		return a.there.size
	case a.prefix == a.earlier:
		return a.earlier.N
	}
	return 0
}

func verifyDir(disk storage, dir, verifierKey string, since []byte, copied bool) (Report, error) {
	return readDir(disk, dir, verifierKey, since, copied, nil)
}

func readDir(disk storage, dir, verifierKey string, since []byte, copied bool, tell func(e Entry, of int64)) (Report, error) {
	none := (&edge{}).tree()
	a := &audit{earlier: none, prefix: none, tell: tell}
	if since != nil {
		var err error
		if a.earlier, err = FindCheckpoint(since, verifierKey); err != nil {
			return Report{}, fmt.Errorf("the earlier checkpoint: %w", err)
		}
	}
	if _, err := disk.stat(dir); err != nil {
		return Report{}, err
	}
	r := reader{disk, dir}
	text, tree, err := r.checkpoint(verifierKey)
	if err != nil {
		return Report{}, err
	}
	origin, _, _ := strings.Cut(verifierKey, "+")
	a.Report = Report{Origin: origin, Size: tree.N, Root: tree.Hash.String(), Checkpoint: string(text), Since: a.earlier.N}
	if file, err := disk.stat(r.path("checkpoint")); err == nil {
		a.Signed = file.ModTime()
	}
	if a.earlier.N > tree.N {
		return a.Report, damaged(tree.N, "rolled back: it has %d entries, the earlier checkpoint has %d", tree.N, a.earlier.N)
	}
	var lacks func(tlog.Tile)
	if copied {
		lacks = a.lacks
	}
	v := r.verification(tree, lacks)
	a.there, v.skips = &v.edge, a.reached
	err = v.verify(a.visit)
	a.Minimum = v.first
	a.reached()
	if err != nil {
		a.Proven = a.proven(r, tree)
		return a.Report, err
	}
	a.Proven = tree.N
	if a.prefix != a.earlier {
		return a.Report, damaged(0, "another past: its first %d entries have root %s, the earlier checkpoint %s; someone rewrote it, or `kidoban recover` began it anew", a.earlier.N, a.prefix.Hash, a.earlier.Hash)
	}
	if copied {
		if tree.N%tileWidth == 0 {
			a.tail = nil
		}
		lines, _, _ := r.beyond(tree.N, a.tail, a.entries)
		a.Beyond = int64(len(lines))
	}
	return a.Report, nil
}
