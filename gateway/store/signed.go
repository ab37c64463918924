package store

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"time"

	"kidoban/gateway/durable"
	"kidoban/gateway/journal"
	"kidoban/gateway/view"
)

const (
	// wholeBelow is how many entries a journal may have for a start to read and verify all of them
	// before anything opens: that takes 2 s. Of a longer one it reads the newest state and what follows;
	// the rest is verified afterwards.
	wholeBelow = 100_000
	// stateEvery is how many entries follow a state until the next one.
	stateEvery = 50_000
	// verifyRests is how many times as long as it works the verifying of the rest pauses.
	verifyRests = 3
)

// signedJournal is a Journal on disk. The store compares journals, so it is used by pointer.
type signedJournal struct {
	*journal.Journal
	place OnDisk

	// shadow is the past of the entries on disk, as a start would read it; nil: none is known, and no
	// state is written. The recorder's goroutine alone has it.
	shadow *Past
	since  int64 // how many entries follow the newest state
	unread bool  // the start has not read all

	faults chan error    // what was found in the rest
	done   chan struct{} // closed by end, which ends the verifying
	end    func()
}

// Append also appends a state when one is due.
func (j *signedJournal) Append(entries ...journal.Entry) error {
	if err := j.append(entries); err != nil || len(entries) == 0 {
		return err
	}
	stops := entries[len(entries)-1].Kind == journal.Stop
	if j.shadow == nil || j.since == 0 || !stops && j.since < cmp.Or(j.place.stateEvery, stateEvery) {
		return nil
	}
	state, err := j.shadow.entries(j.Size())
	if err == nil {
		err = j.append(state)
	}
	if j.since = 0; err != nil { // the entries are on disk all the same
		j.place.Logger.Error("the state was not recorded, so the next start reads more of the journal", "err", err)
	}
	return nil
}

func (j *signedJournal) append(entries []journal.Entry) error {
	err := j.Journal.Append(entries...)
	if err == nil && j.place.Appended != nil {
		j.place.Appended(entries)
	}
	return err
}

// wrote applies entries that are on disk now to the shadow.
func (j *signedJournal) wrote(lines []journal.Line) {
	for _, line := range lines {
		if j.shadow == nil {
			return
		}
		var e journal.Entry
		err := json.Unmarshal(line.JSON, &e)
		if e.Index = line.Index; err == nil {
			err = j.shadow.apply(e)
		}
		if err != nil {
			j.shadow = nil
			j.place.Logger.Error("no state is recorded any more", "entry", line.Index, "err", err)
		}
		j.since++
	}
}

func (j *signedJournal) CheckpointTime() time.Time {
	_, signed := j.Checkpoint()
	return signed
}

// Replay reads and verifies a short journal whole. Of a long one, and of one whose first entries were
// pruned, it gives the newest state and what follows.
func (j *signedJournal) Replay() iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		from, err := j.resumesAt()
		if err != nil {
			yield(journal.Entry{}, fmt.Errorf("journal %s: %w", j.place.Folder, err))
			return
		}
		j.since = 0
		entries := j.Journal.Replay()
		if j.unread = from > 0 && j.long() && !j.faulty(); j.unread {
			entries = j.ReplayFrom(from)
		}
		for e, err := range entries {
			if j.since++; e.Kind == journal.State && e.Part == e.Parts {
				j.since = 0
			}
			switch {
			case err != nil:
				err = fmt.Errorf("journal %s: %w", j.place.Folder, err)
			case e.Index < from:
				continue
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
		if !j.unread {
			j.place.forgetFault()
		}
	}
}

func (j *signedJournal) long() bool { return j.Size() >= cmp.Or(j.place.wholeBelow, wholeBelow) }

// resumesAt is where the newest state is that can be read, if the reading does not begin with the
// first entry; else 0.
func (j *signedJournal) resumesAt() (from int64, err error) {
	pruned := !j.long() && j.Minimum() > 0
	if !j.long() && !pruned {
		return 0, nil
	}
	why := error(nil) // the newest state is not read
	for state := range j.States() {
		_, err := pastOf(state)
		if err == nil {
			return state[0].Index, nil
		}
		why = cmp.Or(why, err)
	}
	if pruned || j.Minimum() > 0 {
		return 0, errors.Join(errNoState, why)
	}
	return 0, nil
}

// begin keeps a copy of the past that was read, and verifies what was not read.
func (j *signedJournal) begin(past *Past) {
	state, err := past.entries(j.Size())
	if err == nil {
		j.shadow, err = pastOf(state)
	}
	if err != nil {
		j.place.Logger.Error("no state is recorded", "err", err)
	} else {
		j.shadow.begun = true
	}
	if j.unread {
		go j.verify()
	}
}

// Faults gives what is found in a journal that is in use. It is closed when all was read.
func (j *signedJournal) Faults() <-chan error { return j.faults }

// verify reads the whole journal, gently. What it finds is kept for the next start, which then reads
// all before anything opens.
func (j *signedJournal) verify() {
	defer close(j.faults)
	began := time.Now()
	worked := began
	for e, err := range j.Journal.Replay() {
		if err == nil && e.Index%verifyAtOnce != 0 {
			continue
		}
		select {
		case <-j.done:
			return
		case <-time.After(verifyRests * time.Since(worked)):
			worked = time.Now()
		}
		if err != nil {
			j.place.keepFault(err)
			j.faults <- err
			return
		}
	}
	j.place.Logger.Info("the journal was verified whole", "entries", j.Size(), "took", time.Since(began).Round(time.Millisecond))
}

// verifyAtOnce is how many entries are verified between two pauses: a file of them.
const verifyAtOnce = 256

// Close also ends the verifying.
func (j *signedJournal) Close() error {
	j.end()
	return j.Journal.Close()
}

// Failure says why a journal in use is in doubt. cause is an error or a message.
func Failure(cause any) view.Message {
	code := view.Code("journal_unwritten")
	if err, ok := cause.(error); ok && errors.As(err, new(*journal.DamageError)) {
		code = "journal_faulty"
	}
	return view.Say(code, view.Args{"cause": cause})
}

// faultFile says that the rest of the journal has a fault.
func (j OnDisk) faultFile() string { return j.Folder + ".fault" }

func (j *signedJournal) faulty() bool { return durable.Exists(j.place.faultFile()) }

func (j OnDisk) keepFault(found error) {
	if err := durable.Replace(j.faultFile(), []byte(found.Error()+"\n"), 0o600); err != nil {
		j.Logger.Error("a fault of the journal is not kept for the next start", "fault", found, "err", err)
	}
}

func (j OnDisk) forgetFault() {
	if err := os.Remove(j.faultFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		j.Logger.Error("the fault of a journal that has none any more is still kept", "file", j.faultFile(), "err", err)
	}
}
