package store

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"kidoban/gateway/policy"
)

// ErrUntilBoot says that the latch outlives the process, and not the machine's
// next boot.
var ErrUntilBoot = errors.New("kept until the next boot only")

// LatchFile is where the latch is kept.
type LatchFile interface {
	// Save returns when the records are durable, or with an error that wraps
	// ErrUntilBoot when they are so until the machine boots. After a Save that
	// fails, Load still has the records before, and known is false.
	Save([]policy.ShutRecord) error
	// Load returns the records. Known says that they are all. An error says that
	// there are records that cannot be read.
	Load() (shut []policy.ShutRecord, known bool, err error)
}

// Latch keeps a copy of the closes outside the journal. Each close in force is in
// it: a close is added before any other step, and removed when its reopening is on
// disk and in force. So a close holds over a restart while the journal is dead, slow or
// damaged, and while the loop hangs.
//
// One goroutine writes the newest state, and gives the result to all waiting calls.
type Latch struct {
	file   LatchFile
	logger *slog.Logger

	mu      sync.Mutex
	shut    []policy.ShutRecord // by the newest Set; before it, by begin
	added   []*Added            // not in shut yet
	waiting []chan<- error
	known   bool // Set has been called
	wake    chan struct{}
	quit    chan struct{}
	done    chan struct{} // closed when run has returned
}

// Added is a close that the loop has not handled yet.
type Added struct{ record policy.ShutRecord }

// latchRetry is how soon a write that failed is tried again.
const latchRetry = time.Second

func newLatch(file LatchFile, logger *slog.Logger) *Latch {
	return &Latch{file: file, logger: logger, wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
}

// begin reads the file. It is called once, before run.
func (l *Latch) begin(everything policy.ShutRecord) (shut []policy.ShutRecord, known bool, err error) {
	shut, known, err = l.file.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut = shut; !known || err != nil {
		l.shut = append(slices.Clone(shut), everything)
	}
	return shut, known, err
}

// Add adds a close. It never blocks. The result comes when the close is durable.
// The loop gives the Added to Set once it has handled the close.
func (l *Latch) Add(r policy.ShutRecord) (a *Added, kept <-chan error) {
	a = &Added{record: r}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.added = append(l.added, a)
	return a, l.ask()
}

// Set sets all closes by the state, and drops the added closes that are handled.
// It never blocks. The result comes when that is durable. If nothing changes, the
// channel is nil.
func (l *Latch) Set(shut []policy.ShutRecord, handled ...*Added) (kept <-chan error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := len(l.added)
	l.added = slices.DeleteFunc(l.added, func(a *Added) bool { return slices.Contains(handled, a) })
	if l.known && len(l.added) == before && slices.EqualFunc(l.shut, shut, sameRecord) {
		return nil
	}
	l.shut, l.known = slices.Clone(shut), true
	return l.ask()
}

func sameRecord(a, b policy.ShutRecord) bool {
	return a.Scope == b.Scope && a.Reason == b.Reason && a.Actor == b.Actor && a.At.Equal(b.At) && slices.Equal(a.Keys, b.Keys) &&
		slices.EqualFunc(a.Again, b.Again, func(a, b policy.Close) bool { return a.Actor == b.Actor && a.Reason == b.Reason && a.At.Equal(b.At) })
}

// Rewrite writes the latch once more. The result comes when it is durable.
func (l *Latch) Rewrite() <-chan error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ask()
}

// ask asks for a write. The lock is held.
func (l *Latch) ask() <-chan error {
	result := make(chan error, 1)
	l.waiting = append(l.waiting, result)
	kick(l.wake)
	return result
}

// Quit ends the goroutine after a last write, if one waits. The channel is closed
// then.
func (l *Latch) Quit() <-chan struct{} {
	close(l.quit)
	return l.done
}

// run writes until quit is closed, and then once more if a write waits.
func (l *Latch) run() {
	defer close(l.done)
	var failed bool
	for quit := false; !quit; {
		var again <-chan time.Time
		if failed {
			again = time.After(latchRetry)
		}
		select {
		case <-l.wake:
		case <-again:
		case <-l.quit:
			quit = true
		}
		for {
			l.mu.Lock()
			waiting := l.waiting
			shut := slices.Clone(l.shut)
			for _, a := range l.added {
				shut = append(shut, a.record)
			}
			l.waiting = nil
			l.mu.Unlock()
			if len(waiting) == 0 && !failed {
				break
			}
			err := l.file.Save(shut)
			for _, w := range waiting {
				w <- err
			}
			switch {
			case err != nil && !failed:
				l.logger.Error("the latch, which says what is shut, cannot be written; it is tried again", "err", err)
			case err == nil && failed:
				l.logger.Info("the latch is written again")
			}
			if failed = err != nil; failed {
				break
			}
		}
	}
}
