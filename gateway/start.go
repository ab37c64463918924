package gateway

import (
	"fmt"
	"net/netip"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// start replays the journal, closes in it what a crash left open, and loads
// the policy. What fails becomes a doubt; the loop runs all the same.
func (l *loop) start() {
	if l.boot < bootWait && !l.synchronized {
		l.doubt(doubtClock, view.Say(view.ClockUnsettled, view.Args{"wait": bootWait}))
	}
	if err := l.openJournal(); err != nil {
		l.readDamaged()
		code := view.JournalClosed
		if l.lost != nil {
			code = view.JournalLost
		}
		l.doubt(doubtJournal, view.Say(code, view.Args{"cause": err}))
	}
	l.loadMarker()
	if _, err := l.load("gateway"); err != nil {
		l.doubt(doubtPolicy, noPolicy(err))
	}
}

// openJournal opens, replays, and records a start.
func (l *loop) openJournal() error {
	j, err := l.cfg.OpenJournal()
	if err != nil {
		return err
	}
	r := replay{state: l.state, timestamps: map[policy.Key][12]byte{}, open: map[string]journal.Entry{},
		listed: map[policy.Key]time.Time{}, seen: map[policy.Key]time.Time{}, attempts: map[string]netip.Addr{}}
	if err := r.read(j.Replay()); err != nil {
		j.Close()
		return err
	}
	l.journal = j
	l.recorder.use(j)
	if r.newest.After(l.newest) {
		l.newest = r.newest
	}
	l.cfg.Tunnel.SetTimestamps(r.timestamps)
	l.cfg.Metrics.remember(r.listed, r.seen)
	l.refusals.SetAttempts(r.attempts)
	l.record(append(r.closings(nil), journal.Entry{Kind: journal.Start, Actor: "gateway", Text: l.cfg.Version})...)
	l.doubtClock()
	return nil
}

// readDamaged keeps shut what a journal that does not open says is shut, and
// notes whether it may have said more.
func (l *loop) readDamaged() {
	r := replay{state: l.state}
	for e, err := range l.cfg.ReadDamaged() {
		if err == nil {
			err = r.apply(e)
		}
		if err != nil && l.lost == nil {
			l.lost = err
		}
	}
	if l.lost == nil {
		return
	}
	if l.cfg.Copy != nil {
		shut, err := l.cfg.Copy.Load()
		if err == nil {
			l.cfg.Logger.Warn("what the journal had shut cannot all be read, and is known from its copy", "err", l.lost)
			l.lost = nil
			shutAlso(l.state, shut)
			return
		}
		l.lost = fmt.Errorf("%w; nor is there a copy of what is shut: %w", l.lost, err)
	}
	l.cfg.Logger.Error("what the journal had shut cannot all be read", "err", l.lost)
}
