package journal

import (
	"bytes"
	"encoding/json"
	"iter"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// signedReader reads some entries of a signed tree and compares them with its root, by the tiles
// between them and the root. It does not read the other entries.
type signedReader struct {
	reader
	tree   tlog.Tree
	hashes tlog.HashReader // compares with the root
}

func (r reader) signed(tree tlog.Tree) signedReader {
	return signedReader{r, tree, tlog.TileHashReader(tree, tileCache{tileReader{r}, map[tlog.Tile][]byte{}})}
}

// tileCache keeps the tiles above level 0, which many bundles share: one for 65,536 entries.
type tileCache struct {
	tileReader
	kept map[tlog.Tile][]byte
}

func (c tileCache) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	all := make([][]byte, len(tiles))
	for i, t := range tiles {
		data, ok := c.kept[t]
		if !ok {
			read, err := c.tileReader.ReadTiles([]tlog.Tile{t})
			if err != nil {
				return nil, err
			}
			if data = read[0]; t.L > 0 {
				c.kept[t] = data
			}
		}
		all[i] = data
	}
	return all, nil
}

// bundle reads a bundle. A fault is a *DamageError.
func (s signedReader) bundle(n int64) ([][]byte, error) {
	start := n * tileWidth
	bundle := tlog.Tile{H: tileHeight, L: entriesLevel, N: n, W: int(min(tileWidth, s.tree.N-start))}
	lines, err := s.entries(bundle)
	if err != nil {
		return nil, unread(start+int64(len(lines)), err)
	}
	indexes := make([]int64, len(lines))
	for i := range indexes {
		indexes[i] = tlog.StoredHashIndex(0, start+int64(i))
	}
	signed, err := s.hashes.ReadHashes(indexes)
	if err != nil {
		return nil, unread(start, err)
	}
	for i, line := range lines {
		if tlog.RecordHash(line) != signed[i] {
			return nil, damaged(start+int64(i), "%s: the entry is not the one that was signed", tilePath(bundle))
		}
	}
	return lines, nil
}

// end reads what appending needs: the edge of the tree, the entries of the last bundle if that is
// not full, and the newest entry.
func (r reader) end(tree tlog.Tree) (e *edge, tail, newest []byte, err error) {
	e = &edge{size: tree.N}
	for level := 0; tree.N>>(tileHeight*level) > 0; level++ {
		var hashes []tlog.Hash
		if t := tileOf(level, tree.N); t.W > 0 {
			if hashes, err = r.hashes(t); err != nil {
				return nil, nil, nil, unread(t.N*tileWidth<<(tileHeight*level), err)
			}
		}
		e.levels = append(e.levels, hashes)
	}
	if got := e.tree(); got != tree {
		return nil, nil, nil, damaged(0, "the last hash tiles do not belong to the signed checkpoint: their root is %s, its is %s", got.Hash, tree.Hash)
	}
	if tree.N == 0 {
		return e, nil, nil, nil
	}
	lines, err := r.signed(tree).bundle((tree.N - 1) / tileWidth)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, line := range lines {
		tail = appendEntry(tail, line)
	}
	return e, tail, lines[len(lines)-1], nil
}

// ReplayFrom is Replay of the entries from an index on. It compares them with the signed root, and
// reads no others. An error comes last.
func (j *Journal) ReplayFrom(from int64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		j.mu.Lock()
		signed := j.read.signed(j.tree)
		j.mu.Unlock()
		var entries sequence
		for n := from / tileWidth; n*tileWidth < signed.tree.N; n++ {
			lines, err := signed.bundle(n)
			for i, line := range lines {
				index := n*tileWidth + int64(i)
				if index < from {
					continue
				}
				e, _, err := entries.next(index, line)
				if !yield(e, err) || err != nil {
					return
				}
			}
			if err != nil {
				yield(Entry{}, err)
				return
			}
		}
	}
}

// SetBacks are, in the Event of a State, the entries at which times go back.
type SetBacks struct {
	SetBack []int64 `json:"set_back,omitempty"`
}

// States gives the states that the journal has whole, the newest first, each with all its entries.
// It verifies nothing, and looks no further than to a file that it cannot read.
func (j *Journal) States() iter.Seq[[]Entry] { return j.read.states(j.Size()) }

func (r reader) states(size int64) iter.Seq[[]Entry] {
	return func(yield func([]Entry) bool) {
		for index, line := range r.backwards(size) {
			if e, ok := kindOf(index, line, State); ok {
				if parts := r.parts(e); parts != nil && !yield(parts) {
					return
				}
			}
		}
	}
}

// backwards gives the entries below a size, the last one first, until one cannot be read.
func (r reader) backwards(size int64) iter.Seq2[int64, []byte] {
	return func(yield func(int64, []byte) bool) {
		for end := size; end > 0; {
			n := (end - 1) / tileWidth
			lines, err := r.entries(tlog.Tile{H: tileHeight, L: entriesLevel, N: n, W: int(end - n*tileWidth)})
			if err != nil {
				return
			}
			for ; end > n*tileWidth; end-- {
				if !yield(end-1, lines[end-1-n*tileWidth]) {
					return
				}
			}
		}
	}
}

// kindOf decodes an entry if it is of a kind.
func kindOf(index int64, line []byte, kind Kind) (Entry, bool) {
	if !bytes.Contains(line, []byte(`"kind":"`+string(kind)+`"`)) { // quick, and never wrong about our own JSON
		return Entry{}, false
	}
	e, err := decode(line)
	e.Index = index
	return e, err == nil && e.Kind == kind
}

// parts gives all entries of a state by its last one; nil: it is not that, or some are missing.
func (r reader) parts(last Entry) (all []Entry) {
	count := max(last.Parts, 1)
	if last.Part != last.Parts || last.Index-last.Count != int64(count-1) {
		return nil
	}
	r.each(last.Count, last.Index+1, func(index int64, line []byte, err error) bool {
		var e Entry
		ok := err == nil
		if ok {
			e, ok = kindOf(index, line, State)
		}
		if !ok || e.Count != last.Count || count > 1 && (e.Part != len(all)+1 || e.Parts != count) {
			all = nil
			return false
		}
		all = append(all, e)
		return true
	})
	if len(all) != count {
		return nil
	}
	return all
}

// setBacks lists the entries below a size at which times go back, in order, as far as the newest
// state tells or the entries after it.
func (r reader) setBacks(size int64) (all []int64) {
	for index, line := range r.backwards(size) {
		if e, ok := kindOf(index, line, Recovery); ok && !e.From.IsZero() {
			all = append(all, index)
		}
		if e, ok := kindOf(index, line, State); ok && r.parts(e) != nil {
			var before SetBacks
			if json.Unmarshal(e.Event, &before) == nil {
				slices.Reverse(all)
				return append(before.SetBack, all...)
			}
		}
	}
	slices.Reverse(all)
	return all
}
