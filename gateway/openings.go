package gateway

import (
	"errors"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/session"
	"kidoban/gateway/store"
)

// openGrants sends new grants to the journal.
func (l *loop) openGrants() {
	for _, o := range l.openings.ToRecord(l.plans.wanted) {
		l.state.NoteGrant(string(policy.RequestOf(o.Grant.ID)), time.Time{}) // in the journal's order
		l.add(store.Record{Entries: []journal.Entry{store.GrantEntry(journal.WindowOpened, o.Grant)}, Done: func(err error) {
			if errors.Is(err, store.ErrRefused) {
				return // it would be refused again; TestTheGreatestEntriesFit: no policy's is
			}
			l.plans.stale = l.openings.Recorded(o, err == nil) || l.plans.stale
		}})
	}
}

// closeGrants records the grants that ended.
func (l *loop) closeGrants() {
	var entries []journal.Entry
	for _, c := range l.openings.Close(l.plans.inForce) {
		e := store.GrantEntry(journal.WindowClosed, c.Grant)
		var of []string // a window's name is no request's
		if e.Request != "" {
			of = []string{c.Grant.ID}
		}
		e.Reason = string(session.Why(l.plans.inForce, c.Grant.Engineer, of, c.Until, l.clock.Now, l.doubted(doubtStopping)))
		l.state.NoteGrant(e.Request, store.EndOf(e))
		entries = append(entries, e)
		end := c.Until
		if end.After(l.clock.Now) {
			end = l.clock.Now
		}
		if end.Before(l.clock.SetForward) { // the clock jumped over it, and nothing was late
			end = l.clock.SetForward
		}
		l.kernel.closings = append(l.kernel.closings, end)
	}
	l.record(entries...)
}
