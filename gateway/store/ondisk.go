package store

import (
	"fmt"
	"iter"
	"log/slog"
	"sync"

	"kidoban/gateway/durable"
	"kidoban/gateway/journal"
)

// OnDisk is the place of the journal on disk. It is a Journals.
type OnDisk struct {
	Folder, KeyFile string
	Latch           ShutFile
	Feed            *Feed // of its entries; nil: none
	// Appended hears of entries once they are on disk; nil: nobody does. It must not wait.
	Appended func([]journal.Entry)
	Logger   *slog.Logger

	wholeBelow, stateEvery int64 // of tests; 0: the constants of the same names
}

// None reports whether there is neither a journal nor its key.
func (j OnDisk) None() bool { return !durable.Exists(j.Folder) && !durable.Exists(j.KeyFile) }

// Open opens the journal, and makes one at the first start. It makes none where a
// latch exists: then operators may have shut something. The latch takes its room
// once the journal has been made.
func (j OnDisk) Open() (Journal, error) {
	if j.None() && j.Latch.Exists() {
		return nil, fmt.Errorf("journal %s: it is gone with its key, and %s shows that there was one: put both back, or begin another with `kidoban recover`", j.Folder, j.Latch.Lasting)
	}
	opened, err := journal.OpenUnread(j.Folder, j.KeyFile)
	if !j.None() {
		if err := j.Latch.Reserve(); err != nil {
			j.Logger.Error("no room for the latch on the disk: what is closed while the journal is dead may last until the next boot only", "err", err)
		}
	}
	if err != nil {
		return nil, err
	}
	if r := opened.Recovered(); r != (journal.Recovered{}) {
		j.Logger.Warn("the journal ended in entries that nobody had been told were written: whole entries are signed now, the rest is cut",
			"entries", r.Adopted, "bytes_cut", r.Cut)
	}
	s := &signedJournal{Journal: opened, place: j, faults: make(chan error, 1), done: make(chan struct{})}
	s.end = sync.OnceFunc(func() { close(s.done) })
	if j.Feed != nil {
		j.Feed.begin(j.Folder, opened, s.wrote)
	} else {
		opened.Tell(s.wrote)
	}
	return s, nil
}

// ReadDamaged implements Journals.
func (j OnDisk) ReadDamaged() iter.Seq2[journal.Entry, error] {
	return journal.ReadDamaged(j.Folder, j.KeyFile)
}

// Archive implements Journals.
func (j OnDisk) Archive() (path, checkpoint string, err error) {
	if j.Feed != nil {
		j.Feed.end() // before another journal is in the folder
	}
	path, checkpoint, err = journal.Archive(j.Folder, j.KeyFile)
	if err == nil {
		j.forgetFault()
	}
	return path, checkpoint, err
}
