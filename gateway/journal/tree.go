package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	tileHeight = 8 // as tlog-tiles has it
	tileWidth  = 1 << tileHeight

	entriesLevel = -1 // tlog's level for the entries themselves

	maxBundle = tileWidth * (2 + MaxEntry) // bytes
)

// tilePath is the path of a tile or bundle inside the folder. tlog's tile/8/0/000 and
// tile/8/data/000 are tile/0/000 and tile/entries/000 in tlog-tiles.
func tilePath(t tlog.Tile) string {
	path := strings.TrimPrefix(t.Path(), "tile/8/")
	if t.L == entriesLevel {
		path = "entries" + strings.TrimPrefix(path, "data")
	}
	return "tile/" + path
}

// parseTilePath is the inverse of tilePath.
func parseTilePath(path string) (tlog.Tile, error) {
	rest := strings.TrimPrefix(path, "tile/")
	if entries, ok := strings.CutPrefix(rest, "entries/"); ok {
		rest = "data/" + entries
	}
	t, err := tlog.ParseTilePath("tile/8/" + rest)
	if err != nil || tilePath(t) != path {
		return tlog.Tile{}, fmt.Errorf("%q is not a tile", path)
	}
	return t, nil
}

// tileOf is the last, partial tile of a level. Its width is 0 if the last tile is full.
func tileOf(level int, size int64) tlog.Tile {
	hashes := size >> (tileHeight * max(level, 0))
	return tlog.Tile{H: tileHeight, L: level, N: hashes / tileWidth, W: int(hashes % tileWidth)}
}

// inTree reports whether a tree of a size consists of this tile among others.
func inTree(t tlog.Tile, size int64) bool {
	if t.L > 6 {
		return false // 256^7 entries are more than maxSize
	}
	edge := tileOf(t.L, size)
	return t.N < edge.N && t.W == tileWidth || t == edge
}

// edge is the right edge of the Merkle tree: the hashes of the last tile of each level, 0 to 255.
// It suffices to append.
type edge struct {
	size   int64
	levels [][]tlog.Hash
}

// add adds a leaf. It calls full, unless nil, for every tile that becomes full, lower levels first,
// until one fails. The leaf is added then as well.
func (e *edge) add(leaf tlog.Hash, full func(t tlog.Tile, hashes []tlog.Hash) error) (err error) {
	e.size++
	h := leaf
	for level := 0; ; level++ {
		if level == len(e.levels) {
			e.levels = append(e.levels, nil)
		}
		e.levels[level] = append(e.levels[level], h)
		hashes := e.levels[level]
		if len(hashes) < tileWidth {
			return err
		}
		if full != nil && err == nil {
			t := tileOf(level, e.size)
			t.N, t.W = t.N-1, tileWidth
			err = full(t, hashes)
		}
		h = perfectRoot(hashes)
		e.levels[level] = hashes[:0]
	}
}

// partial lists the tiles that are not full, but not empty, lower levels first.
func (e *edge) partial() iter.Seq2[tlog.Tile, []tlog.Hash] {
	return func(yield func(tlog.Tile, []tlog.Hash) bool) {
		for level, hashes := range e.levels {
			if len(hashes) > 0 && !yield(tileOf(level, e.size), hashes) {
				return
			}
		}
	}
}

// tree is size and root hash (RFC 6962, section 2.1).
func (e *edge) tree() tlog.Tree {
	hash, err := tlog.TreeHash(e.size, tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			t := tlog.TileForIndex(tileHeight, index)
			at := e.levels[t.L]
			h, err := tlog.HashFromTile(tlog.Tile{H: tileHeight, L: t.L, N: t.N, W: len(at)}, joinHashes(at), index)
			if err != nil {
				return nil, err
			}
			hashes[i] = h
		}
		return hashes, nil
	}))
	if err != nil {
		panic("journal: an edge that lacks a subtree of its own tree: " + err.Error())
	}
	return tlog.Tree{N: e.size, Hash: hash}
}

// perfectRoot is the root over a power of two of hashes.
func perfectRoot(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	half := len(hashes) / 2
	return tlog.NodeHash(perfectRoot(hashes[:half]), perfectRoot(hashes[half:]))
}

func joinHashes(hashes []tlog.Hash) []byte {
	data := make([]byte, 0, len(hashes)*tlog.HashSize)
	for _, h := range hashes {
		data = append(data, h[:]...)
	}
	return data
}

// appendEntry appends an entry of up to MaxEntry bytes to a bundle.
func appendEntry(bundle, line []byte) []byte {
	bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(line)))
	return append(bundle, line...)
}

var errTorn = missing{errors.New("ends inside an entry")}

// nextEntry takes the first entry off a bundle, or gives errTorn if it is not complete. The entry
// shares the bundle's memory.
func nextEntry(bundle []byte) (line, rest []byte, err error) {
	if len(bundle) < 2 {
		return nil, nil, errTorn
	}
	end := 2 + int(binary.BigEndian.Uint16(bundle))
	if len(bundle) < end {
		return nil, nil, errTorn
	}
	return bundle[2:end:end], bundle[end:], nil
}

// bundleWidth reads a directory entry of <N>.p/ as a width.
func bundleWidth(name string) (int, bool) {
	w, err := strconv.Atoi(name)
	return w, err == nil && 0 < w && w < tileWidth && strconv.Itoa(w) == name
}

// BundleOf gives the first entry of a bundle of entries by its path in the folder.
func BundleOf(path string) (first int64, ok bool) {
	t, err := parseTilePath(path)
	return t.N * tileWidth, err == nil && t.L == entriesLevel
}
