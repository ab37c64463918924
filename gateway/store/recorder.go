package store

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"kidoban/gateway/journal"
)

// Record is a batch of entries for the journal.
type Record struct {
	Entries []journal.Entry
	Done    func(error) // called by Settle with the result; nil: no caller waits
	refused error       // why the journal did not take the record; known once the append is over
}

// Errors that Done hears.
var (
	// ErrNoJournal says that no journal is open.
	ErrNoJournal = errors.New("there is no journal")
	// ErrRefused says that the record cannot be one: an entry is too long. The
	// journal goes on.
	ErrRefused = errors.New("the journal does not take it")
)

// dead reports whether an error of Append says that nothing can be appended any
// more. Any other error is about the entries.
func dead(err error) bool {
	var failed *journal.FailedError
	return errors.As(err, &failed) || errors.Is(err, journal.ErrClosed) || errors.Is(err, ErrNoJournal)
}

// recorder appends to one journal, on a goroutine of its own, in the order of
// add. Records that wait are appended together.
type recorder struct {
	mu      sync.Mutex
	queue   []Record
	flight  *flight // being appended; nil: nothing is
	journal Journal // nil: every record fails
	failed  error
	wake    chan struct{}
	acks    chan Ack
	quit    chan struct{}
	done    chan struct{} // closed when run has returned
	untold  []Ack         // not taken before quit; to be read when done is closed
}

// flight is a batch that is being appended, until Settle.
type flight struct {
	records []Record
	refused []error // by record; nil: none was refused
	began   time.Time
}

// Ack tells the loop that an append is over.
type Ack struct {
	Err  error // the journal is dead
	Took time.Duration

	flight  *flight
	journal Journal
}

func newRecorder() *recorder {
	return &recorder{wake: make(chan struct{}, 1), acks: make(chan Ack), quit: make(chan struct{}), done: make(chan struct{})}
}

// add never blocks.
func (r *recorder) add(rec Record) {
	r.mu.Lock()
	r.queue = append(r.queue, rec)
	r.mu.Unlock()
	kick(r.wake)
}

func kick(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// busy returns how long the append under way has taken so far.
func (r *recorder) busy() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flight == nil {
		return 0
	}
	return time.Since(r.flight.began)
}

// settled returns the records that an ack is about.
func (r *recorder) settled(a Ack) []Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flight == a.flight {
		r.flight = nil
	}
	for i, why := range a.flight.refused {
		a.flight.records[i].refused = why
	}
	return a.flight.records
}

// abandon ends the recorder without waiting for it, and returns every record
// that is not acknowledged. A part of them may still reach the disk.
func (r *recorder) abandon() []Record {
	r.mu.Lock()
	left := r.queue
	if r.flight != nil {
		left = append(r.flight.records, left...)
	}
	r.flight, r.queue, r.failed = nil, nil, ErrNoJournal
	r.mu.Unlock()
	close(r.quit)
	return left
}

// run appends until quit is closed, and then appends the records that wait. It also tells of a fault
// that was found in the journal.
func (r *recorder) run() {
	defer close(r.done)
	var faults <-chan error
	if j, ok := r.journal.(interface{ Faults() <-chan error }); ok {
		faults = j.Faults()
	}
	for {
		select {
		case <-r.wake:
			r.drain(true)
		case err, found := <-faults:
			if faults = nil; !found {
				continue
			}
			select {
			case r.acks <- Ack{Err: err, flight: &flight{}, journal: r.journal}:
			case <-r.quit:
				r.drain(false)
				return
			}
		case <-r.quit:
			r.drain(false)
			return
		}
	}
}

func (r *recorder) drain(report bool) {
	for {
		r.mu.Lock()
		f := &flight{records: r.queue, began: time.Now()}
		err := r.failed
		if r.queue = nil; len(f.records) > 0 {
			r.flight = f
		}
		r.mu.Unlock()
		if len(f.records) == 0 {
			return
		}
		var refused []error
		if err == nil {
			refused, err = appendAll(r.journal, f.records)
		}
		r.mu.Lock()
		f.refused = refused
		if r.failed == nil {
			r.failed = err
		}
		r.mu.Unlock()
		a := Ack{Err: err, Took: time.Since(f.began), flight: f, journal: r.journal}
		if report {
			select {
			case r.acks <- a:
			case <-r.quit:
				report = false
			}
		}
		if !report {
			r.untold = append(r.untold, a)
		}
	}
}

// appendAll appends records in order, in one commit. If the journal refuses one,
// each is appended on its own, so that no other suffers, and refused has the
// reasons. The error says that the journal is dead.
func appendAll(j Journal, records []Record) (refused []error, err error) {
	if j == nil {
		return nil, ErrNoJournal
	}
	var entries []journal.Entry
	for _, rec := range records {
		entries = append(entries, rec.Entries...)
	}
	if len(entries) == 0 {
		return nil, nil
	}
	if err = j.Append(entries...); err == nil || dead(err) {
		return nil, err
	}
	refused = make([]error, len(records))
	for i, rec := range records {
		// A record with a waiting caller is durable whole or not at all.
		parts := [][]journal.Entry{rec.Entries}
		if rec.Done == nil {
			parts = slices.Collect(slices.Chunk(rec.Entries, 1))
		}
		for _, part := range parts {
			switch err := j.Append(part...); {
			case err == nil:
			case dead(err):
				return refused, err
			default:
				refused[i] = errors.Join(refused[i], fmt.Errorf("%w: %w", ErrRefused, err))
			}
		}
	}
	return refused, nil
}
