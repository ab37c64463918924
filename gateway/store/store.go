package store

import (
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// Journal is the append-only record.
type Journal interface {
	// Append returns when all entries are durable, in order.
	// Once it has failed it fails for good.
	Append(...journal.Entry) error
	Replay() iter.Seq2[journal.Entry, error]
	Size() int64
	CheckpointTime() time.Time
	Close() error
}

// Journals is the place where the journal is kept.
type Journals interface {
	// Open opens, verifies and locks the journal.
	Open() (Journal, error)
	// ReadDamaged returns the readable entries of a journal that does not open.
	// An error, the last it yields, says that the journal had more.
	ReadDamaged() iter.Seq2[journal.Entry, error]
	// Archive moves a broken journal aside. It returns where the journal is now,
	// and its last checkpoint.
	Archive() (path, checkpoint string, err error)
}

// closeWait bounds how long Replace waits until the broken journal is closed.
const closeWait = 3 * time.Second

// Store is the journal in use, and the latch. The loop owns it; Replace alone is
// called elsewhere.
type Store struct {
	Latch *Latch

	journals  Journals
	journal   Journal // in use; nil: none
	broken    Journal // detached, and not closed yet
	recorder  *recorder
	unwritten map[string]journal.Entry // closings that did not reach the journal, by Past.open's names
}

// New makes a store without a journal. Records wait until Open.
func New(journals Journals, file LatchFile, logger *slog.Logger) *Store {
	return &Store{Latch: newLatch(file, logger), journals: journals, recorder: newRecorder(), unwritten: map[string]journal.Entry{}}
}

// Begin reads the latch and starts to write it. The results are those of
// LatchFile.Load. If the latch cannot be read whole, it also has the close
// `everything`, until the first Set.
func (s *Store) Begin(everything policy.ShutRecord) (shut []policy.ShutRecord, known bool, err error) {
	defer func() { go s.Latch.run() }()
	return s.Latch.begin(everything)
}

// Open opens the journal and reads the past from it.
func (s *Store) Open() (*Past, error) {
	j, past, err := s.open()
	s.use(j)
	return past, err
}

func (s *Store) open() (Journal, *Past, error) {
	j, err := s.journals.Open()
	if err != nil {
		return nil, nil, err
	}
	past, err := Read(j.Replay())
	if err != nil {
		j.Close()
		return nil, nil, err
	}
	if j, ok := j.(interface{ begin(*Past) }); ok {
		j.begin(past)
	}
	return j, past, nil
}

// use gives the recorder its journal; nil: every record fails.
func (s *Store) use(j Journal) {
	s.journal = j
	s.recorder.journal = j
	go s.recorder.run()
}

// Damaged reads the closes of a journal that does not open. The error says that
// it may have had more.
func (s *Store) Damaged() (*Past, error) {
	past := newPast()
	var lost error
	for e, err := range s.journals.ReadDamaged() {
		if err == nil {
			err = past.apply(e)
		}
		if lost == nil {
			lost = err
		}
	}
	return past, lost
}

// HasJournal reports whether a journal is in use.
func (s *Store) HasJournal() bool { return s.journal != nil }

// Add sends a record to the journal. It never blocks.
func (s *Store) Add(r Record) { s.recorder.add(r) }

// Acks tells when appends are over. The loop gives each to Settle.
func (s *Store) Acks() <-chan Ack { return s.recorder.acks }

// Current reports whether an ack is about the journal in use.
func (s *Store) Current(a Ack) bool { return a.journal == s.journal }

// Busy returns how long the append under way has waited for the disk; 0: none
// is under way.
func (s *Store) Busy() time.Duration { return s.recorder.busy() }

// Size returns how many entries the journal has, and when it was last signed.
func (s *Store) Size() (entries int64, signed time.Time) {
	if s.journal == nil {
		return 0, time.Time{}
	}
	return s.journal.Size(), s.journal.CheckpointTime()
}

// Settle calls Done of the records that an ack is about. It returns the errors
// of those that the journal refused.
func (s *Store) Settle(a Ack) error { return s.settle(s.recorder.settled(a), a.Err) }

func (s *Store) settle(records []Record, err error) (refused error) {
	for _, r := range records {
		if err != nil {
			for _, e := range r.Entries {
				if e.Kind == journal.SessionClosed || e.Kind == journal.WindowClosed {
					s.unwritten[nameOf(e)] = e
				}
			}
		}
		why := err
		if why == nil {
			why = r.refused
			refused = errors.Join(refused, r.refused)
		}
		if r.Done != nil {
			r.Done(why)
		}
	}
	return refused
}

// Detach stops the use of a journal that is in doubt. Until Take every record
// gets ErrNoJournal, also if Replace fails.
func (s *Store) Detach() {
	if s.journal != nil {
		s.broken = s.journal
	}
	s.abandon()
	s.use(nil)
}

// abandon begins another recorder. Records that wait get ErrNoJournal.
func (s *Store) abandon() {
	left := s.recorder.abandon()
	s.recorder = newRecorder()
	_ = s.settle(left, ErrNoJournal)
}

// Replacement is a journal that takes the place of a dead one.
type Replacement struct {
	Anew  bool   // it is a new one
	Aside string // where the broken one is now; empty: nothing was left of it
	Text  string // for the new one's first entry: the broken one's last checkpoint, and its fault
	Past  *Past  // the past that the journal has

	journal Journal
}

// Replace opens the journal again if it only failed to be written, or moves it
// aside and begins a new one. It leaves a journal of a newer version alone. It takes as long as the disk does, and is called
// off the loop between Detach and Take, one at a time.
func (s *Store) Replace() (Replacement, error) {
	if broken := s.broken; broken != nil {
		closed := make(chan struct{})
		go func() {
			broken.Close()
			close(closed)
		}()
		select {
		case <-closed:
		case <-time.After(closeWait):
			return Replacement{}, fmt.Errorf("the disk still holds the journal's last entries back after %s: mend it, then try again", closeWait)
		}
		s.broken = nil
	}
	j, past, why := s.open()
	if why == nil {
		return Replacement{Past: past, journal: j}, nil
	}
	if errors.As(why, new(*journal.NewerError)) { // nothing is wrong with it
		return Replacement{}, why
	}
	path, last, err := s.journals.Archive()
	if err != nil {
		return Replacement{}, fmt.Errorf("the broken journal cannot be moved aside: %w", errors.Join(err, why))
	}
	if j, past, err = s.open(); err != nil {
		return Replacement{}, fmt.Errorf("a new journal cannot be begun, the broken one is now %s: %w", path, err)
	}
	return Replacement{Anew: true, Aside: path, Past: past, journal: j,
		Text: fmt.Sprintf("begins anew after %s; its last checkpoint:\n%s\nwhat was wrong with it: %v", path, last, why)}, nil
}

// Take puts a journal in the place of the dead one, with first, a recovery, as
// its first entry. The closings that the dead one did not take follow, with the
// recovery's time: their own may be of a clock that it does not accept.
func (s *Store) Take(r Replacement, first Record) {
	s.abandon()
	var closings []journal.Entry
	if !r.Anew {
		closings = r.Past.Closings(s.unwritten)
	} else {
		names := slices.Sorted(maps.Keys(s.unwritten))
		slices.Reverse(names) // sessions before the windows they stood on
		for _, name := range names {
			closings = append(closings, s.unwritten[name])
		}
	}
	clear(s.unwritten)
	for i := range closings {
		closings[i].Time = first.Entries[0].Time
	}
	s.recorder.queue = append([]Record{first, {Entries: closings}}, s.recorder.queue...)
	s.use(r.journal)
	kick(s.recorder.wake)
}

// Drop closes the journal of a replacement that is not taken.
func (r Replacement) Drop() { r.journal.Close() }

// Quit ends the recorder, which appends the records that wait. The channel is
// closed when it has.
func (s *Store) Quit() <-chan struct{} {
	close(s.recorder.quit)
	return s.recorder.done
}

// Untold calls f for the acks that the loop did not take before Quit was done.
func (s *Store) Untold(f func(Ack)) {
	for _, a := range s.recorder.untold {
		f(a)
	}
}

// Close closes the journal, if all is written.
func (s *Store) Close() error {
	if s.journal == nil {
		return nil
	}
	return s.journal.Close()
}
