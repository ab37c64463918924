package gateway

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/view"
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
	untold  []ack         // what nobody heard of any more; to be read then
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
		a := ack{f, j, err, time.Since(f.began)}
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

const (
	// journalWait is how long an append may take before nothing more is
	// expected of it.
	journalWait = 30 * time.Second
	// textMax bounds, in bytes, a text that becomes part of an entry.
	textMax = 4000
)

// record sends entries to the journal without waiting.
func (l *loop) record(entries ...journal.Entry) {
	if len(entries) > 0 {
		l.add(record{entries: entries})
	}
}

// add gives a record to the recorder. What it says happened now, whenever it
// reaches the disk.
func (l *loop) add(r record) {
	for i := range r.entries {
		r.entries[i].Time = l.now
		l.tell(r.entries[i])
	}
	l.recorder.add(r)
}

// recordEvent sends an operator's decision to the journal.
func (l *loop) recordEvent(e journal.Entry, done func(error)) {
	l.add(record{entries: []journal.Entry{e}, done: func(_ *loop, err error) { done(err) }})
}

// acknowledged hears from the recorder.
func (l *loop) acknowledged(a ack) {
	records := l.recorder.settled(a)
	if a.err == nil {
		l.cfg.Metrics.appended(a.took)
		if l.slow {
			l.slow = false
			l.trust(doubtJournal)
			l.recordState() // what was shut meanwhile is in the marker only
		}
	} else if a.journal == l.journal && (!l.doubted(doubtJournal) || l.slow) {
		l.slow = false
		l.journalFailed(a.err)
	}
	l.settle(records, a.err)
}

// settle tells whoever waits for records what became of them, and keeps the
// closings that are not in the journal for the one that will take them.
func (l *loop) settle(records []record, err error) {
	for _, r := range records {
		if err != nil {
			for _, e := range r.entries {
				if e.Kind == journal.SessionClosed || e.Kind == journal.WindowClosed {
					l.unwritten[replayName(e)] = e
				}
			}
		}
		why := err
		if why == nil && r.refused != nil {
			why = r.refused
			l.cfg.Logger.Error("not recorded", "err", why)
		}
		if r.done != nil {
			r.done(l, why)
		}
	}
}

// journalFailed shuts the gateway; cause is a text or a message.
func (l *loop) journalFailed(cause any) {
	l.doubt(doubtJournal, view.Say(view.JournalUnwritten, view.Args{"cause": cause}))
	l.mark()
}

// journalStatus reads what the journal says of itself.
func (l *loop) journalStatus() view.JournalStatus {
	if l.journal == nil {
		return view.JournalStatus{}
	}
	return view.JournalStatus{Size: l.journal.Size(), Checkpoint: l.journal.CheckpointTime(), Waiting: l.recorder.busy()}
}

// clip shortens a text to what an entry takes beside everything else.
func clip(text string) string {
	if len(text) <= textMax {
		return text
	}
	return strings.ToValidUTF8(text[:textMax], "") + " [shortened]"
}
