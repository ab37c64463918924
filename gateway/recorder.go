package gateway

import (
	"errors"
	"sync"
	"time"

	"kidoban/gateway/journal"
)

// record is a batch for the journal and what to do on the loop once it is
// durable, or is known never to be.
type record struct {
	entries []journal.Entry
	done    func(l *loop, err error)
}

var errNoJournal = errors.New("there is no journal")

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
		f := &flight{r.queue, time.Now()}
		j, err := r.journal, r.failed
		if r.queue = nil; len(f.records) > 0 {
			r.flight = f
		}
		r.mu.Unlock()
		if len(f.records) == 0 {
			return
		}
		var entries []journal.Entry
		for _, rec := range f.records {
			entries = append(entries, rec.entries...)
		}
		if err == nil {
			if j == nil {
				err = errNoJournal
			} else if len(entries) > 0 {
				err = j.Append(entries...)
			}
		}
		r.mu.Lock()
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
