package gateway

import (
	"cmp"
	"slices"

	"kidoban/gateway/view"
)

// publish stores the snapshot of this turn.
func (l *loop) publish() {
	s := &view.Snapshot{
		At: l.boot, Plan: l.plan, Base: l.state.Copy(), Doubts: l.toldDoubts(), Sessions: []view.SessionStatus{}, Attempts: l.refusals.Attempts(),
		Traffic: l.totals, Journal: l.journalStatus(), Version: l.cfg.Version, LoadedAt: l.loadedAt, FileError: l.fileError,
		Synchronized: l.synchronized, Ruleset: l.applier.busy(), Late: len(l.late) > 0, Disk: l.diskHint(),
	}
	for _, sess := range l.sessions {
		s.Sessions = append(s.Sessions, sess.status(s))
	}
	slices.SortFunc(s.Sessions, func(a, b view.SessionStatus) int {
		return cmp.Or(a.OpenedAt.Compare(b.OpenedAt), cmp.Compare(a.ID, b.ID))
	})
	s.Refusals = l.refusals.List()
	if l.cfg.Hints != nil {
		s.Host = l.cfg.Hints()
	}
	s.Excess = l.excess()
	s.Hints = l.hints(s.Excess, s.Host)
	l.g.snapshot.Store(s)
}

func (sess *session) status(s *view.Snapshot) view.SessionStatus {
	st := view.SessionStatus{ID: sess.id, Vendor: sess.engineer.Vendor.Name, Engineer: sess.engineer.Name, Source: sess.source.Addr(),
		OpenedAt: s.Local(sess.openedAt), Until: s.Local(sess.until), Grants: sess.grants,
		Received: sess.received, Transmitted: sess.transmitted}
	if st.Grants == nil {
		st.Grants = []string{}
	}
	if t := sess.last.LastHandshake; !t.IsZero() {
		t = s.Local(t)
		st.LastHandshake = &t
	}
	return st
}
