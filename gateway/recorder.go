package gateway

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"kidoban/gateway/journal"
)

// record is a batch for the journal and what to do on the loop once it is
// durable, or is known never to be.
type record struct {
	entries []journal.Entry
	done    func(l *loop, err error)
	refused error // what is wrong with it, if the journal does not take it; known once it is settled
}

var errNoJournal = errors.New("there is no journal")

// errRefused is what becomes of a record that cannot be one: an entry of it is
// too long. The journal goes on.
var errRefused = errors.New("the journal does not take it")

// dead reports whether an error of Append says that nothing can be appended
// any more. Any other is about the entries.
func dead(err error) bool {
	var failed *journal.FailedError
	return errors.As(err, &failed) || errors.Is(err, journal.ErrClosed) || errors.Is(err, errNoJournal)
}

// recorder appends to one journal off the loop. Records are appended in the
// order of their add; all that wait are appended together.
type recorder struct {
	mu      sync.Mutex
	queue   []record
	flight  *flight
	journal Journal // nil: every record fails
	failed  error
	wake    chan struct{}
	acks    chan ack
	quit    chan struct{}
	done    chan struct{} // closed when run has returned
}

// flight is a batch that is being appended, until the loop has heard of it.
type flight struct {
	records []record
	refused []error // by record, if any was refused; nil: none
	began   time.Time
}

type ack struct {
	flight  *flight
	journal Journal // that it was meant for
	err     error
	took    time.Duration
}

func newRecorder() *recorder {
	return &recorder{wake: make(chan struct{}, 1), acks: make(chan ack), quit: make(chan struct{}), done: make(chan struct{})}
}

func (r *recorder) start() {
	go func() {
		defer close(r.done)
		r.run()
	}()
}

// use gives the recorder its journal.
func (r *recorder) use(j Journal) {
	r.mu.Lock()
	r.journal, r.failed = j, nil
	r.mu.Unlock()
}

// add never blocks.
func (r *recorder) add(rec record) {
	r.mu.Lock()
	r.queue = append(r.queue, rec)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// busy is how long the append under way has taken so far.
func (r *recorder) busy() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flight == nil {
		return 0
	}
	return time.Since(r.flight.began)
}

// settled gives the records that an ack is about.
func (r *recorder) settled(a ack) []record {
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

// abandon ends the recorder without waiting for it and gives back every
// record that is not acknowledged. What is being appended may reach the disk
// all the same.
func (r *recorder) abandon() []record {
	r.mu.Lock()
	left := r.queue
	if r.flight != nil {
		left = append(r.flight.records, left...)
	}
	r.flight, r.queue, r.failed = nil, nil, errNoJournal
	r.mu.Unlock()
	close(r.quit)
	return left
}

// run appends until quit is closed, and what then waits is appended before it
// returns.
func (r *recorder) run() {
	for {
		select {
		case <-r.wake:
			r.drain(true)
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
		j, err := r.journal, r.failed
		if r.queue = nil; len(f.records) > 0 {
			r.flight = f
		}
		r.mu.Unlock()
		if len(f.records) == 0 {
			return
		}
		var refused []error
		if err == nil {
			if j == nil {
				err = errNoJournal
			} else {
				refused, err = appendAll(j, f.records)
			}
		}
		r.mu.Lock()
		f.refused = refused
		if err != nil && r.journal == j && r.failed == nil {
			r.failed = err
		}
		r.mu.Unlock()
		if report {
			select {
			case r.acks <- ack{f, j, err, time.Since(f.began)}:
			case <-r.quit:
				report = false
			}
		}
	}
}

// appendAll appends records in order, in one commit unless the journal refuses
// one of them: then each on its own, so that no other suffers from it, and
// refused says which. The error is that of a dead journal.
func appendAll(j Journal, records []record) (refused []error, err error) {
	var entries []journal.Entry
	for _, rec := range records {
		entries = append(entries, rec.entries...)
	}
	if len(entries) == 0 {
		return nil, nil
	}
	if err = j.Append(entries...); err == nil || dead(err) {
		return nil, err
	}
	refused = make([]error, len(records))
	for i, rec := range records {
		// What somebody waits for is durable whole or not at all.
		parts := [][]journal.Entry{rec.entries}
		if rec.done == nil {
			parts = slices.Collect(slices.Chunk(rec.entries, 1))
		}
		for _, part := range parts {
			switch err := j.Append(part...); {
			case err == nil:
			case dead(err):
				return refused, err
			default:
				refused[i] = errors.Join(refused[i], fmt.Errorf("%w: %w", errRefused, err))
			}
		}
	}
	return refused, nil
}
