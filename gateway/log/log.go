// Package log writes the program's log. A reader that hangs does not hold up the program.
package log

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of a queue.
const (
	Waiting = 1024            // lines that wait to be written
	Flush   = 2 * time.Second // how long the end of the program waits for them
)

// Queue writes lines to a reader that may hang: a terminal that was stopped, a
// collector that is away. Write never waits; lines that find no room, and lines
// that cannot be written, are dropped and counted.
type Queue struct {
	to      io.Writer
	lines   chan []byte
	missing *slog.Logger // writes to the same, and waits; nil: gaps are not told
	dropped atomic.Uint64
	quit    chan struct{}
	done    chan struct{} // closed when run has returned
	close   sync.Once
}

// NewQueue begins to write. After a gap, missing is told how many lines it has.
func NewQueue(to io.Writer, missing *slog.Logger) *Queue {
	q := &Queue{to: to, missing: missing, lines: make(chan []byte, Waiting), quit: make(chan struct{}), done: make(chan struct{})}
	go q.run()
	return q
}

// Write implements io.Writer for whole lines. It never blocks and never fails.
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

// run writes until quit is closed, and then the rest of the queue.
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
		if _, err := q.to.Write(line); err != nil {
			q.dropped.Add(1)
		}
		if n := q.Dropped(); q.missing != nil && n != told && len(q.lines) == 0 {
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
	case <-time.After(Flush):
	}
}

// In gives what slog.HandlerOptions need as ReplaceAttr to show every time in a zone.
func In(zone func() *time.Location) func([]string, slog.Attr) slog.Attr {
	return func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindTime {
			a.Value = slog.TimeValue(a.Value.Time().In(zone()))
		}
		return a
	}
}

// New gives a logger in a format, "json" or text, with times in a zone, and its
// queue, which the caller closes. If systemd's journal reads the log, it is told
// the levels as sd-daemon(3) has it, so that journalctl -p finds lines by them.
func New(to io.Writer, level slog.Level, format string, zone func() *time.Location) (*slog.Logger, *Queue) {
	plain := func(to io.Writer) slog.Handler {
		o := &slog.HandlerOptions{Level: level, ReplaceAttr: In(zone)}
		if format == "json" {
			return slog.NewJSONHandler(to, o)
		}
		return slog.NewTextHandler(to, o)
	}
	form := plain
	if toJournald(to, os.Getenv("JOURNAL_STREAM")) {
		form = func(to io.Writer) slog.Handler {
			return Framed(plain, func(r slog.Record, _ string, line []byte) error {
				_, err := to.Write(fmt.Appendf(nil, "<%d>%s", Severity(r.Level), line))
				return err
			})
		}
	}
	queue := NewQueue(to, slog.New(form(to)))
	return slog.New(form(queue)), queue
}

// toJournald reports whether the log goes to systemd's journal, as
// systemd.exec(5) has programs find out.
func toJournald(to io.Writer, stream string) bool {
	f, ok := to.(*os.File)
	if !ok || stream == "" {
		return false
	}
	var s unix.Stat_t
	return unix.Fstat(int(f.Fd()), &s) == nil && fmt.Sprintf("%d:%d", s.Dev, s.Ino) == stream
}
