package gateway

import (
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
)

// journalWait is how long an append may take before the gateway is in doubt.
const journalWait = 30 * time.Second

// journalState describes the journal to the loop.
type journalState struct {
	identity policy.Key // the newest public key of the gateway that it names; zero: none
	began    time.Time  // when it began, with an empty state folder; zero: it did not begin so
	slow     bool       // the doubt is that an append takes too long
	// lost: the journal did not open at the start and its closes cannot all be
	// read, so everything is shut.
	lost bool
	// unlatched: the latch cannot be read either, so a journal that opens later
	// may lack closes.
	unlatched bool
}

// record sends entries to the journal without waiting.
func (l *loop) record(entries ...journal.Entry) {
	if len(entries) > 0 {
		l.add(store.Record{Entries: entries})
	}
}

// add sends a record to the journal without waiting. Its time is now, whenever
// it reaches the disk.
func (l *loop) add(r store.Record) {
	l.stamp(r)
	l.store.Add(r)
}

func (l *loop) stamp(r store.Record) {
	for i := range r.Entries {
		r.Entries[i].Time = l.clock.Now
		store.Tell(l.cfg.Logger, r.Entries[i])
	}
}

// recorded takes the answer of an append.
func (l *loop) recorded(a store.Ack) {
	switch {
	case a.Err == nil:
		l.cfg.Metrics.Appended(a.Took)
		if l.journal.slow {
			l.journal.slow = false
			l.trust(doubtJournal)
			// The latch alone has the closes of the meantime. The journal gets them
			// when each reopening that waited for the disk is in force.
			l.add(store.Record{Done: func(error) { l.record(store.StateEntries(l.state)...) }})
		}
	case l.store.Current(a) && (!l.doubted(doubtJournal) || l.journal.slow):
		l.journal.slow = false
		l.journalFailed(a.Err)
	}
	if refused := l.store.Settle(a); refused != nil {
		l.cfg.Logger.Error("not recorded", "err", refused)
	}
}

// journalFailed shuts the gateway; cause is an error or a message.
func (l *loop) journalFailed(cause any) {
	l.doubt(doubtJournal, store.Failure(cause))
}
