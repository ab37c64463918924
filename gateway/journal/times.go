package journal

import (
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// times reads the times of a folder's entries, which go back at some of them alone.
type times struct {
	reader
	first, size int64
	falls       []int64 // the entries at which they may go back
	bundle      int64   // the one read last; -1: none
	lines       [][]byte
}

func timesOf(dir string) (*times, error) {
	r := reader{realDisk, dir}
	size, err := r.size()
	if err != nil {
		return nil, err
	}
	first, _ := r.minimum(size)
	return &times{reader: r, first: first, size: size, falls: r.setBacks(size), bundle: -1}, nil
}

// at is the time of an entry.
func (t *times) at(index int64) (time.Time, error) {
	n := index / tileWidth
	if n != t.bundle {
		lines, err := t.entries(tlog.Tile{H: tileHeight, L: entriesLevel, N: n, W: int(min(tileWidth, t.size-n*tileWidth))})
		if err != nil {
			return time.Time{}, err
		}
		t.bundle, t.lines = n, lines
	}
	e, err := decode(t.lines[index%tileWidth])
	return e.Time, err
}

// search is the first entry from begin on, and before end, of which is holds; else end. It must not
// hold of one and not of a later one.
func (t *times) search(begin, end int64, is func(time.Time) bool) (int64, error) {
	for begin < end {
		middle := begin + (end-begin)/2
		at, err := t.at(middle)
		switch {
		case err != nil:
			return 0, err
		case is(at):
			end = middle
		default:
			begin = middle + 1
		}
	}
	return begin, nil
}

// segments are the ranges in which the times only grow, in order: where each begins, and the end of
// the last.
func (t *times) segments() []int64 {
	bounds := []int64{t.first}
	for _, fall := range t.falls {
		if fall > bounds[len(bounds)-1] && fall < t.size {
			bounds = append(bounds, fall)
		}
	}
	return append(bounds, t.size)
}

// FirstSince is the index of the first entry of an instant or later, or how many entries there are.
// It reads a few files of a journal's folder and verifies nothing. An error says that one of them
// cannot be read: then only a look at all entries tells.
func FirstSince(dir string, instant time.Time) (int64, error) {
	t, err := timesOf(dir)
	if err != nil {
		return 0, err
	}
	bounds := t.segments()
	for i, end := range bounds[1:] {
		found, err := t.search(bounds[i], end, func(at time.Time) bool { return !at.Before(instant) })
		if err != nil || found < end {
			return found, err
		}
	}
	return t.size, nil
}

// EndUntil is the index behind the last entry that is not later than an instant; else that of the
// first entry. It reads and tells errors as FirstSince does.
func EndUntil(dir string, instant time.Time) (int64, error) {
	t, err := timesOf(dir)
	if err != nil {
		return 0, err
	}
	bounds := t.segments()
	for i := len(bounds) - 2; i >= 0; i-- {
		found, err := t.search(bounds[i], bounds[i+1], func(at time.Time) bool { return at.After(instant) })
		if err != nil || found > bounds[i] {
			return found, err
		}
	}
	return t.first, nil
}
