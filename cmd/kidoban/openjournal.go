package main

import (
	"fmt"
	"log/slog"
	"time"

	"kidoban/gateway"
	"kidoban/gateway/journal"
)

// openJournal opens the journal to append to it, and makes one at the first
// start. That nothing was ever shut is believed only where no marker is either,
// which takes its room when the journal has been made.
func openJournal(dir, keyFile string, marker gateway.FileMarker, logger *slog.Logger) (gateway.Journal, error) {
	if !exists(dir) && !exists(keyFile) && exists(marker.Lasting) {
		return nil, fmt.Errorf("journal %s: it is gone with its key, and %s shows that there was one: put both back, or begin another with `kidoban recover`", dir, marker.Lasting)
	}
	j, err := journal.Open(dir, keyFile)
	if exists(dir) || exists(keyFile) {
		if err := marker.Reserve(); err != nil {
			logger.Error("no room for what is closed while the journal is dead: it may last until the next boot only", "err", err)
		}
	}
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
