package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// DamageError says that a journal differs from the signed one.
type DamageError struct {
	// Entry is the first entry that is not verified; 0 if none is, as with a bad checkpoint.
	Entry int64
	What  string // the fault and the file

	// Missing: a file is not there or ends too early, and nothing that is there has a fault. A copy
	// that was taken while the gateway wrote may be so.
	Missing bool
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("the journal does not verify from entry %d on: %s", e.Entry, e.What)
}

func damaged(entry int64, format string, arguments ...any) *DamageError {
	return &DamageError{Entry: entry, What: fmt.Sprintf(format, arguments...)}
}

// unread is damage that reading a file found.
func unread(entry int64, err error) *DamageError {
	d := damaged(entry, "%v", err)
	d.Missing = isMissing(err)
	return d
}

// missing is the error of a file that is not there or ends too early.
type missing struct{ error }

func isMissing(err error) bool { return errors.As(err, new(missing)) }

// reader reads the folder of a journal. It trusts nothing in there.
type reader struct {
	disk storage
	dir  string
}

func (r reader) path(name string) string { return filepath.Join(r.dir, filepath.FromSlash(name)) }

// checkpoint reads and verifies the checkpoint.
func (r reader) checkpoint(verifierKey string) (text []byte, tree tlog.Tree, err error) {
	text, err = r.disk.readFile(r.path("checkpoint"), maxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, tlog.Tree{}, &DamageError{What: "there is no checkpoint in " + r.dir, Missing: true}
	}
	if err != nil {
		return nil, tlog.Tree{}, err
	}
	tree, err = openCheckpoint(text, verifierKey)
	if errors.Is(err, errBadVerifierKey) {
		return nil, tlog.Tree{}, err
	}
	if err != nil {
		return nil, tlog.Tree{}, damaged(0, "checkpoint: %v", err)
	}
	return text, tree, nil
}

// tile reads a tile or bundle. A longer one serves in place of a missing partial one: in a copy of
// a living journal the checkpoint may be older than the tiles. The width found is at least t's.
func (r reader) tile(t tlog.Tile) (data []byte, found tlog.Tile, err error) {
	limit := int64(tileWidth * tlog.HashSize)
	if t.L == entriesLevel {
		limit = maxBundle
	}
	// A writer may replace the tile by a longer one at this moment: try again, but not for ever.
	found = t
	for range 16 {
		data, err = r.disk.readFile(r.path(tilePath(found)), limit)
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		longer := r.longer(t)
		if len(longer) == 0 {
			return nil, t, err
		}
		found = longer[0]
	}
	return data, found, err
}

// longer lists the wider tiles at the place of t, shorter ones first.
func (r reader) longer(t tlog.Tile) []tlog.Tile {
	partial, full := t, t
	partial.W, full.W = 1, tileWidth
	var found []tlog.Tile
	names, _ := r.disk.readDir(filepath.Dir(r.path(tilePath(partial))))
	for _, name := range names {
		if w, ok := bundleWidth(name.Name()); ok && !name.IsDir() && w > t.W {
			partial.W = w
			found = append(found, partial)
		}
	}
	slices.SortFunc(found, func(a, b tlog.Tile) int { return a.W - b.W })
	if _, err := r.disk.stat(r.path(tilePath(full))); err == nil && t.W < tileWidth {
		found = append(found, full)
	}
	return found
}

// tiles lists the tiles that are there below a folder. Other files are left out.
func (r reader) tiles(folder string) iter.Seq2[tlog.Tile, error] {
	return func(yield func(tlog.Tile, error) bool) {
		list, err := r.disk.readDir(r.path(folder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !yield(tlog.Tile{}, err) {
			return
		}
		for _, found := range list {
			path := folder + "/" + found.Name()
			if found.IsDir() {
				for t, err := range r.tiles(path) {
					if !yield(t, err) {
						return
					}
				}
			} else if t, err := parseTilePath(path); err == nil && !yield(t, nil) {
				return
			}
		}
	}
}

// entries reads the first t.W entries of a bundle. On an error it gives the whole entries before
// it.
func (r reader) entries(t tlog.Tile) ([][]byte, error) {
	data, found, err := r.tile(t)
	if err != nil {
		return nil, describe(t, err)
	}
	var lines [][]byte
	for rest := data; len(lines) < t.W; {
		line, after, err := nextEntry(rest)
		if err != nil {
			return lines, fmt.Errorf("%s: %w", tilePath(found), err)
		}
		lines, rest = append(lines, line), after
		if len(lines) == found.W && len(rest) > 0 {
			return lines, fmt.Errorf("%s: %d bytes after its last entry", tilePath(found), len(rest))
		}
	}
	return lines, nil
}

// hashes reads the first t.W hashes of a tile. On an error it gives those that are there.
func (r reader) hashes(t tlog.Tile) ([]tlog.Hash, error) {
	data, found, err := r.tile(t)
	if err != nil {
		return nil, describe(t, err)
	}
	hashes := make([]tlog.Hash, min(t.W, len(data)/tlog.HashSize))
	for i := range hashes {
		copy(hashes[i][:], data[i*tlog.HashSize:])
	}
	if want := found.W * tlog.HashSize; len(data) != want {
		err = fmt.Errorf("%s: %d bytes, not %d", tilePath(found), len(data), want)
		if len(data) < want {
			err = missing{err}
		}
	}
	return hashes, err
}

func describe(t tlog.Tile, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return missing{errors.New(tilePath(t) + " is not there")}
	}
	return fmt.Errorf("%s: %w", tilePath(t), err)
}

// shorter reads the entries of the longest bundle that is there in place of a longer one.
func (r reader) shorter(t tlog.Tile) (lines [][]byte) {
	for t.W--; t.W > 0; t.W-- {
		if _, err := r.disk.stat(r.path(tilePath(t))); err == nil {
			lines, _ = r.entries(t)
			break
		}
	}
	return lines
}

// beyond reads the whole entries after those that a checkpoint covers, and counts the bytes behind
// them. A commit may have stopped at any point. tail is the covered part of the last bundle, and
// before ends with the last covered entry, and through with the last of lines.
func (r reader) beyond(size int64, tail []byte, before sequence) (lines [][]byte, torn int64, through sequence) {
	for {
		covered := tileOf(entriesLevel, size)
		var best [][]byte
		after := before
		torn = 0
		for _, t := range r.longer(covered) {
			data, err := r.disk.readFile(r.path(tilePath(t)), maxBundle)
			if err != nil || !bytes.HasPrefix(data, tail) {
				torn = max(torn, int64(len(data)))
				continue
			}
			var whole [][]byte
			entries, rest := before, data[len(tail):]
			for covered.W+len(whole) < t.W {
				line, left, err := nextEntry(rest)
				if err != nil {
					break
				}
				e, err := decode(line)
				if err == nil {
					_, err = entries.check(e)
				}
				if err != nil {
					break // zeros, or another file's blocks, where data never reached the disk
				}
				whole, rest = append(whole, line), left
			}
			if len(whole) > len(best) || len(best) == 0 {
				best, torn, after = whole, int64(len(rest)), entries
			}
		}
		lines, size, tail, before = append(lines, best...), size+int64(len(best)), nil, after
		if len(best) == 0 || size%tileWidth != 0 {
			return lines, torn, before
		}
	}
}
