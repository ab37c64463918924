package journal

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// Line is an entry as it is on disk.
type Line struct {
	Index int64
	JSON  []byte // one object in one line without its end, fields of newer versions included
}

// Decode gives the entry of a line.
func Decode(l Line) (Entry, error) {
	e, err := decode(l.JSON)
	e.Index = l.Index
	return e, err
}

// List gives the entries from an index on, or from the first one that is not pruned. It verifies nothing, so that a damaged journal can be
// read. After an error further entries may follow.
func List(dir string, from int64) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		r := reader{realDisk, dir}
		size, err := r.size()
		if err != nil {
			size = -1
		}
		if err != nil && !yield(Line{}, err) {
			return
		}
		from = r.present(from, size)
		r.each(from, size, func(index int64, line []byte, err error) bool {
			return yield(Line{index, line}, err)
		})
	}
}

// ReadDamaged gives the readable entries of a journal that Open refuses, in order. The last result
// is an error unless they are exactly the entries that the checkpoint covers. Without an error
// nothing is missing or changed.
func ReadDamaged(dir, keyFile string) iter.Seq2[Entry, error] {
	return readDamaged(realDisk, dir, keyFile)
}

func readDamaged(disk storage, dir, keyFile string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		r := reader{disk, dir}
		tree := tlog.Tree{N: -1}
		key, lost := readKey(disk, keyFile)
		if lost == nil {
			var signed tlog.Tree
			if _, signed, lost = r.checkpoint(key.verifier); lost == nil {
				tree = signed
			}
		}
		all, entries, stopped := &edge{}, sequence{}, false
		first := r.pruned(tree)
		for n := range first / tileWidth {
			leaves, err := r.leaves(n)
			for _, leaf := range leaves {
				_ = all.add(leaf, nil) // never fails
			}
			lost = cmp.Or(lost, err)
		}
		r.each(first, tree.N, func(index int64, line []byte, err error) bool {
			var e Entry
			if err == nil {
				err = all.add(tlog.RecordHash(line), nil)
			}
			if err == nil {
				e, err = decode(line)
			}
			if err != nil {
				lost = cmp.Or(lost, err)
				return true
			}
			e.Index = index
			if _, err := entries.check(e); err != nil {
				lost = cmp.Or(lost, err)
			}
			stopped = !yield(e, nil)
			return !stopped
		})
		if lost == nil && all.tree() != tree {
			lost = errors.New("its entries are not those that were signed")
		}
		if lost != nil && !stopped {
			yield(Entry{}, lost)
		}
	}
}

// each visits the entries from an index on. It reports an unreadable entry and continues, with the
// next bundle if the start of the next entry is unknown. Size -1 means everything.
func (r reader) each(from, size int64, visit func(index int64, line []byte, err error) bool) {
	var there []tlog.Tile // looked for where something is missing: a living journal replaces them meanwhile
	if size < 0 {
		there = r.bundles()
		size = endOf(there)
	}
	garbled := false
	for index := max(from, 0); index < size; {
		start := index / tileWidth * tileWidth
		t := tlog.Tile{H: tileHeight, L: entriesLevel, N: index / tileWidth, W: int(min(tileWidth, size-start))}
		lines, err := r.entries(t)
		for ; index < start+int64(len(lines)); index++ {
			line := lines[index-start]
			was := garbled
			if garbled = !json.Valid(line); !garbled {
				if !visit(index, line, nil) {
					return
				}
			} else if !was && !visit(index, nil, fmt.Errorf("entry %d: %s: not JSON", index, tilePath(t))) {
				return
			}
		}
		if err == nil {
			continue
		}
		if !visit(index, nil, fmt.Errorf("entry %d: %w", index, err)) {
			return
		}
		if there == nil {
			there = r.bundles()
		}
		// An unverified checkpoint may claim more entries than there are.
		if end := endOf(there); index < end && end < start+int64(t.W) {
			size = end
			continue
		}
		index = size
		if i := slices.IndexFunc(there, func(next tlog.Tile) bool { return next.N > t.N }); i >= 0 {
			index = there[i].N * tileWidth
		}
	}
}

// bundles lists the bundles that are there, in order, of each place the widest.
func (r reader) bundles() []tlog.Tile {
	found := []tlog.Tile{}
	for t, err := range r.tiles("tile/entries") {
		if err == nil && 0 <= t.N && t.N < maxSize/tileWidth {
			found = append(found, t)
		}
	}
	slices.SortFunc(found, func(a, b tlog.Tile) int { return cmp.Or(cmp.Compare(a.N, b.N), cmp.Compare(b.W, a.W)) })
	return slices.CompactFunc(found, func(a, b tlog.Tile) bool { return a.N == b.N })
}

// endOf is the number of entries before the end of the last bundle.
func endOf(bundles []tlog.Tile) int64 {
	if len(bundles) == 0 {
		return 0
	}
	last := bundles[len(bundles)-1]
	return last.N*tileWidth + int64(last.W)
}
