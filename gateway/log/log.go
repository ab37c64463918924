// Package log writes the program's log. A reader that hangs holds up nobody.
package log

import (
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the log.
const (
	logWaiting = 1024            // lines that wait to be written
	logFlush   = 2 * time.Second // how long the end of the program waits for them
)

// Queue writes a log that perhaps nobody reads: a terminal that was stopped, a
// collector that hangs. No logger waits for it; lines that find no room are
// dropped and counted.
type Queue struct {
	to      io.Writer
	lines   chan []byte
	missing *slog.Logger // writes to the same, and waits
	dropped atomic.Uint64
	quit    chan struct{}
	done    chan struct{} // closed when run has returned
	close   sync.Once
}

// newQueue writes to a writer, in the form of a handler.
func newQueue(to io.Writer, form func(io.Writer) slog.Handler) *Queue {
	q := &Queue{to: to, missing: slog.New(form(to)), lines: make(chan []byte, logWaiting), quit: make(chan struct{}), done: make(chan struct{})}
	go q.run()
	return q
}

// Write implements io.Writer for a slog handler, which gives whole lines. It
// never blocks and never fails.
func (q *Queue) Write(line []byte) (int, error) {
	select {
	case q.lines <- append([]byte(nil), line...):
	default:
		q.dropped.Add(1)
	}
	return len(line), nil
}

// Dropped is how many lines were not written.
func (q *Queue) Dropped() uint64 { return q.dropped.Load() }

// run writes until quit is closed, and what then waits before it returns.
// After a gap it says how much is missing.
func (q *Queue) run() {
	defer close(q.done)
	told := uint64(0)
	for {
		var line []byte
		select {
		case line = <-q.lines:
		case <-q.quit:
			select {
			case line = <-q.lines:
			default:
				return
			}
		}
		// An error is nothing that could be told anywhere.
		_, _ = q.to.Write(line)
		if n := q.dropped.Load(); n != told && len(q.lines) == 0 {
			q.missing.Warn("lines of this log were dropped, because nobody read it", "dropped", n-told)
			told = n
		}
	}
}

// Close waits, bounded, until everything is written.
func (q *Queue) Close() {
	q.close.Do(func() { close(q.quit) })
	select {
	case <-q.done:
	case <-time.After(logFlush):
	}
}

// New gives a logger in a format, "json" or text, and its queue, which the caller
// closes. If systemd's journal reads the log, it is told the levels.
func New(to io.Writer, level slog.Level, format string) (*slog.Logger, *Queue) {
	plain := func(to io.Writer) slog.Handler {
		o := &slog.HandlerOptions{Level: level}
		if format == "json" {
			return slog.NewJSONHandler(to, o)
		}
		return slog.NewTextHandler(to, o)
	}
	form := plain
	if toJournald(to, os.Getenv("JOURNAL_STREAM")) {
		form = func(to io.Writer) slog.Handler { return newPriorities(to, plain) }
	}
	queue := newQueue(to, form)
	return slog.New(form(queue)), queue
}
