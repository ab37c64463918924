package main

import (
	"fmt"
	"iter"
	"log/slog"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/store"
)

// journals is the place of the journal on disk.
type journals struct {
	dir, keyFile string
	latch        store.ShutFile
	logger       *slog.Logger
}

// none reports whether there is neither a journal nor its key.
func (j journals) none() bool { return !exists(j.dir) && !exists(j.keyFile) }

// Open opens the journal, and makes one at the first start. It makes none where a
// latch exists: then operators may have shut something. The latch takes its room
// once the journal has been made.
func (j journals) Open() (store.Journal, error) {
	if j.none() && j.latch.Exists() {
		return nil, fmt.Errorf("journal %s: it is gone with its key, and %s shows that there was one: put both back, or begin another with `kidoban recover`", j.dir, j.latch.Lasting)
	}
	opened, err := journal.Open(j.dir, j.keyFile)
	if !j.none() {
		if err := j.latch.Reserve(); err != nil {
			j.logger.Error("no room for the latch on the disk: what is closed while the journal is dead may last until the next boot only", "err", err)
		}
	}
	if err != nil {
		return nil, err
	}
	if r := opened.Recovered(); r != (journal.Recovered{}) {
		j.logger.Warn("the journal ended in entries that nobody had been told were written: whole entries are signed now, the rest is cut",
			"entries", r.Adopted, "bytes_cut", r.Cut)
	}
	return signedJournal{opened}, nil
}

func (j journals) ReadDamaged() iter.Seq2[journal.Entry, error] {
	return journal.ReadDamaged(j.dir, j.keyFile)
}

func (j journals) Archive() (path, checkpoint string, err error) {
	return journal.Archive(j.dir, j.keyFile)
}

// signedJournal is a store.Journal on disk.
type signedJournal struct{ *journal.Journal }

func (j signedJournal) CheckpointTime() time.Time {
	_, signed := j.Checkpoint()
	return signed
}
