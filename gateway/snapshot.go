package gateway

import (
	"cmp"
	"slices"

	"kidoban/gateway/session"
	"kidoban/gateway/view"
)

// publish stores the snapshot of this turn.
func (l *loop) publish() {
	entries, signed := l.store.Size()
	s := &view.Snapshot{
		At: l.clock.Boot, Plan: l.plans.inForce, Base: l.state.Copy(), Doubts: l.inDoubt(), Sessions: []view.SessionStatus{},
		Refusals: l.refusals.List(), Attempts: l.refusals.Attempts(), Traffic: l.sessions.Totals(), Handshakes: l.sessions.Handshakes(l.plans.inForce),
		Journal: view.JournalStatus{Size: entries, Checkpoint: signed, Waiting: l.store.Busy(), Began: l.journal.began}, Version: l.cfg.Version, Key: l.kernel.public,
		File:         view.PolicyFile{LoadedAt: l.file.loadedAt, Changed: l.file.changed, Warnings: l.file.warnings},
		Synchronized: l.clock.Synchronized, Ruleset: l.kernel.applier.busy(), KeptOut: l.openings.Narrowing.Out(), Overdue: l.sessions.Overdue(),
	}
	if l.file.problem != nil {
		s.File.Error = l.file.problem.Error()
	}
	for x := range l.sessions.All() {
		s.Sessions = append(s.Sessions, l.status(s, x))
	}
	slices.SortFunc(s.Sessions, func(a, b view.SessionStatus) int {
		return cmp.Or(a.OpenedAt.Compare(b.OpenedAt), cmp.Compare(a.ID, b.ID))
	})
	if l.cfg.Hints != nil {
		s.Host = l.cfg.Hints()
	}
	l.g.snapshot.Store(s)
}

// status is a session as the snapshot has it.
func (l *loop) status(s *view.Snapshot, x *session.Session) view.SessionStatus {
	st := view.SessionStatus{ID: x.ID, Vendor: x.Engineer.Vendor.Name, Engineer: x.Engineer.Name, Names: view.NamesOf(x.Engineer), Source: x.Source.Addr(),
		OpenedAt: s.Local(x.OpenedAt), Until: s.Local(x.Until), Grants: x.Grants, Received: x.Received, Transmitted: x.Transmitted,
		Unanswered: l.sessions.Unanswered(x)}
	if st.Grants == nil {
		st.Grants = []string{}
	}
	if t := x.Last.LastHandshake; !t.IsZero() {
		t = s.Local(t)
		st.LastHandshake = &t
	}
	return st
}
