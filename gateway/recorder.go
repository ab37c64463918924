package gateway

import (
	"fmt"
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

// recorder appends to the journal off the loop. Records are appended in the
// order of their add; all that wait are appended together.
type recorder struct {
	mu      sync.Mutex
	queue   []record
	journal Journal // nil: every record fails
	failed  error
	wake    chan struct{}
	acks    chan ack
	quit    chan struct{}
	idle    sync.WaitGroup
}

type ack struct {
	records []record
	journal Journal // that it was meant for
	err     error
	took    time.Duration
}

func newRecorder() *recorder {
	return &recorder{wake: make(chan struct{}, 1), acks: make(chan ack), quit: make(chan struct{})}
}

// use puts a journal in place of whatever was there before.
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

// backlog is how many records wait.
func (r *recorder) backlog() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue)
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
		batch, j, err := r.queue, r.journal, r.failed
		r.queue = nil
		r.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		var entries []journal.Entry
		for _, rec := range batch {
			entries = append(entries, rec.entries...)
		}
		began := time.Now()
		if err == nil {
			if j == nil {
				err = fmt.Errorf("there is no journal")
			} else if len(entries) > 0 {
				err = j.Append(entries...)
			}
			if err != nil {
				r.mu.Lock()
				if r.journal == j {
					r.failed = err
				}
				r.mu.Unlock()
			}
		}
		if !report {
			continue
		}
		select {
		case r.acks <- ack{batch, j, err, time.Since(began)}:
		case <-r.quit:
			report = false
		}
	}
}
