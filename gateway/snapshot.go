package gateway

import (
	"cmp"
	"slices"

	"kidoban/gateway/view"
)

// publish stores the snapshot of this turn.
func (l *loop) publish() {
	s := &view.Snapshot{
		At: l.boot, Plan: l.plan, Base: l.state.Copy(), Doubts: l.inDoubt(), Sessions: []view.SessionStatus{}, Attempts: l.refusals.Attempts(),
		Traffic: l.totals, Journal: l.journalStatus(), Version: l.cfg.Version,
		File:         view.PolicyFile{LoadedAt: l.loadedAt, Error: l.fileError, Changed: l.fileChanged, Warnings: l.warnings},
		Synchronized: l.synchronized, Ruleset: l.applier.busy(), KeptOut: l.narrowing.out(),
	}
	for _, at := range l.late {
		s.Overdue = max(s.Overdue, l.boot-at)
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
	l.g.snapshot.Store(s)
}

// status is the session as the snapshot has it.
func (sess *session) status(s *view.Snapshot) view.SessionStatus {
	st := view.SessionStatus{ID: sess.id, Vendor: sess.engineer.Vendor.Name, Engineer: sess.engineer.Name, Names: view.NamesOf(sess.engineer), Source: sess.source.Addr(),
		OpenedAt: s.Local(sess.openedAt), Until: s.Local(sess.until), Grants: sess.grants,
		Received: sess.received, Transmitted: sess.transmitted, Unanswered: sess.unanswered(s.At)}
	if st.Grants == nil {
		st.Grants = []string{}
	}
	if t := sess.last.LastHandshake; !t.IsZero() {
		t = s.Local(t)
		st.LastHandshake = &t
	}
	return st
}
