package gateway

import (
	"cmp"
	"slices"

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
		s.Sessions = append(s.Sessions, l.sessions.Status(x, s.Local))
	}
	slices.SortFunc(s.Sessions, func(a, b view.SessionStatus) int {
		return cmp.Or(a.OpenedAt.Compare(b.OpenedAt), cmp.Compare(a.ID, b.ID))
	})
	if l.cfg.Hints != nil {
		s.Host = l.cfg.Hints()
	}
	l.g.snapshot.Store(s)
}
