package main

import (
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

// liveJournal is a gateway.Journal over a journal on disk.
type liveJournal struct{ *journal.Journal }

// CheckpointTime implements gateway.Journal.
func (j liveJournal) CheckpointTime() time.Time {
	_, signed := j.Checkpoint()
	return signed
}
