package main

import (
	"encoding/json"
	"iter"
	"log/slog"
	"time"

	"kidoban/gateway"
	"kidoban/gateway/journal"
)

// openJournal opens the journal to append to it.
func openJournal(dir, keyFile string, logger *slog.Logger) (gateway.Journal, error) {
	j, err := journal.Open(dir, keyFile)
	if err != nil {
		return nil, err
	}
	if r := j.Recovered(); r != (journal.Recovered{}) {
		logger.Warn("the journal ended in what nobody had been told was written: whole entries are signed now, the rest is cut",
			"entries", r.Adopted, "bytes_cut", r.Cut)
	}
	return liveJournal{j}, nil
}

// readDamaged gives what can be read of a journal that does not verify, up to
// the first entry that cannot.
func readDamaged(dir string) iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		for line, err := range journal.List(dir, 0) {
			var e journal.Entry
			if err != nil || json.Unmarshal(line, &e) != nil || !yield(e, nil) {
				return
			}
		}
	}
}

// liveJournal is a gateway.Journal over a journal on disk.
type liveJournal struct{ *journal.Journal }

// CheckpointTime implements gateway.Journal.
func (j liveJournal) CheckpointTime() time.Time {
	_, signed := j.Checkpoint()
	return signed
}
