package store

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"kidoban/gateway/journal"
)

var (
	// ErrNotOpen says that no journal is open: the gateway starts, or the journal is damaged.
	ErrNotOpen = errors.New("the journal is not open")
	// ErrReplaced says that the journal of a stream is not in use any more: a recovery has
	// opened it again, or has begun another.
	ErrReplaced = errors.New("a recovery has opened the journal anew")
	// ErrBeyond says that the journal has no entry of that index. The index is of another
	// journal.
	ErrBeyond = errors.New("the journal has no such entry")
)

// Bounds of the newest entries, which are kept in memory. Older ones are read from disk.
const (
	feedEntries = 4096
	feedBytes   = 4 << 20
	// streamMost bounds the entries of one Next: as many as a file has.
	streamMost = 256
)

// Feed gives the entries of the journal in use to those who follow it, once they are on disk.
// It holds neither the loop nor the recorder up. Its methods may be called concurrently.
type Feed struct {
	mu  sync.Mutex
	log *followed // nil: none is open
}

// followed is one journal. The lock of the feed guards what changes.
type followed struct {
	folder string
	name   string
	next   int64          // how many entries are on disk
	lines  []journal.Line // the newest entries, as many as the bounds allow
	bytes  int            // of lines
	grown  chan struct{}  // closed when next grows, or the end comes
	ended  bool
}

// begin follows another journal. also hears of its entries first.
func (f *Feed) begin(folder string, j *journal.Journal, also func([]journal.Line)) {
	f.end()
	log := &followed{folder: folder, grown: make(chan struct{})}
	log.next = j.Tell(func(lines []journal.Line) { // before the first append
		also(lines)
		f.add(log, lines)
	})
	log.name = j.Name()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = log
}

// add adds entries that are on disk now.
func (f *Feed) add(log *followed, lines []journal.Line) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if log.next == 0 && len(lines) > 0 {
		log.name = journal.NameOf(lines[0])
	}
	log.next += int64(len(lines))
	log.lines = append(log.lines, lines...)
	for _, l := range lines {
		log.bytes += len(l.JSON)
	}
	for len(log.lines) > feedEntries || log.bytes > feedBytes {
		log.bytes -= len(log.lines[0].JSON)
		log.lines[0] = journal.Line{} // its memory is free before the list moves
		log.lines = log.lines[1:]
	}
	close(log.grown)
	log.grown = make(chan struct{})
}

// end ends all streams of the journal in use.
func (f *Feed) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.log != nil {
		f.log.ended = true
		close(f.log.grown)
		f.log = nil
	}
}

// Stream is a reader of one journal.
type Stream struct {
	// Journal is a name of the journal that no other journal has. Empty: it has no entry yet.
	Journal string
	// After is the index of the newest entry that Next has given, or was not asked for. -1: none.
	After int64

	feed *Feed
	log  *followed
}

// Now gives a stream of the entries that are to come.
func (f *Feed) Now() (*Stream, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.log == nil {
		return nil, ErrNotOpen
	}
	return &Stream{f.log.name, f.log.next - 1, f, f.log}, nil
}

// After gives a stream of all entries after the one with an index; -1: from the first on. The
// journal must have that entry, or the error is ErrBeyond.
func (f *Feed) After(index int64) (*Stream, error) {
	s, err := f.Now()
	if err != nil {
		return nil, err
	}
	if index < -1 || index > s.After {
		return nil, fmt.Errorf("%w: the newest is %d", ErrBeyond, s.After)
	}
	s.After = index
	return s, nil
}

// Next gives the following entries, in order, at least one and a few hundred at most. It waits for
// them until the context ends. Its errors are the context's, ErrReplaced, or say why the
// disk could not be read.
func (s *Stream) Next(ctx context.Context) ([]journal.Line, error) {
	for {
		lines, grown, err := s.Read()
		if err != nil || len(lines) > 0 {
			return lines, err
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Read is Next without waiting. Where there is no entry, grown is closed when there may be one.
func (s *Stream) Read() (lines []journal.Line, grown <-chan struct{}, err error) {
	s.feed.mu.Lock()
	var held []journal.Line
	first, from := s.log.next, s.After+1
	if len(s.log.lines) > 0 {
		first = s.log.lines[0].Index
	}
	if from >= first {
		held = s.log.lines[from-first:]
	}
	lines = append(lines, held[:min(len(held), streamMost)]...)
	end, ended := s.log.next, s.log.ended
	grown = s.log.grown
	s.feed.mu.Unlock()
	switch {
	case len(lines) > 0:
	case ended:
		return nil, nil, ErrReplaced
	case from == end:
		return nil, grown, nil
	default:
		lines, err = s.onDisk(from, min(first, end))
	}
	if err == nil {
		s.After = lines[len(lines)-1].Index
	}
	return lines, grown, err
}

// onDisk reads entries of the journal's files, which stay as they are while it is in use.
func (s *Stream) onDisk(from, end int64) (lines []journal.Line, err error) {
	for line, err := range journal.List(s.log.folder, from) {
		if err == nil && len(lines) == 0 {
			from = line.Index // those before it were pruned
		}
		switch {
		case err == nil && line.Index != from+int64(len(lines)):
			err = fmt.Errorf("entry %d is not there", from+int64(len(lines)))
			fallthrough
		case err != nil:
			return nil, s.unlessReplaced(err)
		}
		lines = append(lines, line)
		if len(lines) == streamMost || line.Index == end-1 {
			break
		}
	}
	if len(lines) == 0 {
		err = fmt.Errorf("entry %d is not there", from)
	}
	return lines, s.unlessReplaced(err)
}

// unlessReplaced is ErrReplaced if the files may be those of another journal.
func (s *Stream) unlessReplaced(err error) error {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	if s.log.ended {
		return ErrReplaced
	}
	return err
}
