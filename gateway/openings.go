package gateway

import (
	"errors"
	"fmt"
	"strings"
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
		l.add(store.Record{Entries: []journal.Entry{grantEntry(journal.WindowOpened, o.Grant)}, Done: func(err error) {
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
		e := grantEntry(journal.WindowClosed, c.Grant)
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

// noted gives the entries of notes.
func noted(notes []policy.Note) (entries []journal.Entry) {
	for _, n := range notes {
		e := grantEntry(journal.Kind(n.Kind), n.Grant)
		if e.Until, e.Count = n.Until, int64(n.Count); n.All {
			e.Engineer, e.EngineerName, e.Grant = "", "", ""
		}
		entries = append(entries, e)
	}
	return entries
}

// targetsMax and sourcesMax are how many targets and sources an entry names: a
// target's name has up to 63 bytes, a source up to 43, and an entry fits into 64
// KiB.
const targetsMax, sourcesMax = 500, 100

func grantEntry(kind journal.Kind, g *policy.Grant) journal.Entry {
	e := entryOf(kind, g.Engineer)
	e.Window, e.Grant, e.From, e.Until = g.Window.Name, g.ID, g.From, g.Until
	e.Request = string(policy.RequestOf(g.ID))
	if kind != journal.WindowOpened {
		return e
	}
	e.Text = clip(strings.TrimSpace("approved by " + g.Window.ApprovedBy + " " + g.Window.Ticket))
	targets, sources := g.Window.Targets, g.Engineer.Sources
	if more := len(targets) - targetsMax; more > 0 {
		targets = targets[:targetsMax]
		e.Text += fmt.Sprintf("; and %d more targets, as the policy names them", more)
	}
	if more := len(sources) - sourcesMax; more > 0 {
		sources = sources[:sourcesMax]
		e.Text += fmt.Sprintf("; and from %d more sources, as the policy names them", more)
	}
	for _, t := range targets {
		e.Targets = append(e.Targets, t.Name)
	}
	for _, s := range sources {
		e.Sources = append(e.Sources, s.String())
	}
	return e
}
