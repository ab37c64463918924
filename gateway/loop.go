package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

const (
	heartbeat = time.Second
	// stepBack is how far the wall clock may be set back without doubt.
	stepBack = 5 * time.Second
	// stepSeen is what tells a clock that was set from one that is slewed:
	// NTP slews at most 0.5 ms a second (RFC 5905, section 11.3).
	stepSeen = 50 * time.Millisecond
	// bootWait bounds how long a machine that has just booted waits for its
	// clock to be synchronized, counted from boot.
	bootWait = 60 * time.Second
	// setAgain is how often a ruleset that could not be set is tried again.
	setAgain = 3 * time.Second
	// renewAfter is how often elements whose end lies further ahead than the
	// kernel is told are renewed.
	renewAfter = time.Hour
	// lastWords bounds how long a stop waits for the disk and the ruleset.
	lastWords = 5 * time.Second
)

var errStopped = errors.New("the gateway is stopping")

// doubt names what keeps the gateway shut. Their order is that in which they are told.
type doubt uint8

const (
	doubtStopping doubt = iota
	doubtJournal
	doubtClock
	doubtPolicy
	doubtTunnel
	doubtRuleset
	doubts
)

// loop is the state and its one owner.
type loop struct {
	g   *Gateway
	cfg *Config

	state    *policy.State
	loadedAt time.Time
	warnings []string

	fileError   string // why the file on disk would not survive a restart
	fileChanged bool

	// The clock as this turn reads it, and as the turn before read it.
	now          time.Time
	boot         time.Duration
	newest       time.Time // the newest instant this gateway has seen or recorded; before it there is doubt
	synchronized bool

	doubts [doubts]string
	plan   *policy.Plan // in force
	raw    *policy.Plan // what the state alone would open; plan narrows it
	replan bool
	edge   time.Time // when it must be worked out anew at the latest; zero: never

	recorded map[string]*opening  // grants whose opening is on disk, by id
	pending  map[string]*opening  // grants whose opening is on its way there
	caps     map[string]time.Time // ends that a clock step brought forward, by grant id

	sessions   map[string]*session // by engineer
	admissions map[uint64]*admission
	refusals   *refusals
	peers      []PeerStatus

	refusalsChanged bool
	refusalList     []RefusalSummary

	recorder *recorder
	applier  *applier
	journal  Journal

	applications uint64 // the number of the newest plan given to the applier
	applied      uint64 // the number of the newest that stands
	appliedAt    time.Duration
	setAgainAt   time.Duration
	renewAt      time.Duration
	closings     []time.Time // ends that gate and kernel have yet to be shown to keep
	waiting      []waiter

	lastBeat time.Duration
}

// opening is what the journal says of a grant: for whom, to what, until when.
type opening struct {
	grant    *policy.Grant
	engineer string // engineerText
	until    time.Time
	targets  map[string]bool // targetText
}

// waiter is told when the ruleset has reached an application.
type waiter struct {
	number uint64
	done   func(error)
}

// Run runs the gateway until the context ends, then shuts it in order. It
// returns an error only if it could not stop cleanly.
func (g *Gateway) Run(ctx context.Context) error {
	l := &loop{
		g: g, cfg: &g.cfg, state: policy.NewState(),
		recorded: map[string]*opening{}, pending: map[string]*opening{}, caps: map[string]time.Time{},
		sessions: map[string]*session{}, admissions: map[uint64]*admission{},
		refusals: newRefusals(), refusalList: []RefusalSummary{},
		recorder: newRecorder(), applier: newApplier(g.cfg.Firewall),
	}
	defer close(g.stopped)
	l.now, l.boot = l.readClock()
	l.newest = l.now
	l.lastBeat = l.boot
	l.synchronized = l.cfg.Clock.Synchronized()
	l.raw = l.state.Plan(l.now)
	l.plan = l.raw.Doubted("starting")

	l.recorder.idle.Go(l.recorder.run)
	l.recorder.idle.Go(l.applier.run)
	l.start()
	l.replan = true
	l.turn()
	l.cfg.Logger.Info("the gateway runs", "ready", l.plan.Doubt == "", "not_ready_reason", l.plan.Doubt)
	l.cfg.Notify("ready")

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(l.sleep())
		select {
		case <-ctx.Done():
			return l.stop()
		case <-timer.C:
		case <-l.cfg.Clock.Set:
		case f := <-l.cfg.Tunnel.Facts():
			l.tick()
			l.fact(f)
		case f := <-l.cfg.Firewall.Facts():
			l.tick()
			l.fact(f)
		case command := <-g.commands:
			l.tick()
			command(l)
		case a := <-l.recorder.acks:
			l.tick()
			l.acknowledged(a)
		case a := <-l.applier.acks:
			l.tick()
			l.stands(a)
		}
		l.turn()
	}
}

// sleep is how long nothing is due.
func (l *loop) sleep() time.Duration {
	d := l.lastBeat + heartbeat - l.boot
	if !l.edge.IsZero() {
		d = min(d, l.edge.Sub(l.now))
	}
	for _, a := range l.admissions {
		if !a.recorded {
			d = min(d, a.at+unrecordedAfter-l.boot)
		}
	}
	return max(d, 0)
}

// readClock reads both clocks as of one moment: a process that was stopped
// between the two readings reads them again.
func (l *loop) readClock() (time.Time, time.Duration) {
	var wall time.Time
	var boot time.Duration
	for range 100 {
		before := l.cfg.Clock.Boot()
		wall = l.cfg.Clock.Wall().Round(0)
		boot = l.cfg.Clock.Boot()
		if boot-before < time.Millisecond {
			break
		}
	}
	return wall, boot
}

// tick reads the clock and finds out whether it was set.
func (l *loop) tick() {
	wall, boot := l.readClock()
	step := wall.Sub(l.now) - (boot - l.boot)
	l.now, l.boot = wall, boot
	if step.Abs() >= stepSeen {
		l.stepped(step)
	}
	if l.now.After(l.newest) {
		l.newest = l.now
	}
}

// stepped ends every open grant no later than the boot clock would have, and
// doubts a clock that went back far.
func (l *loop) stepped(step time.Duration) {
	l.cfg.Logger.Warn("the wall clock was set", "by", step)
	l.replan = true
	for id, o := range l.recorded {
		end, ok := l.caps[id]
		if !ok {
			end = o.until
		}
		l.caps[id] = end.Add(step)
	}
	l.record(journal.Entry{Kind: journal.ClockStep, Actor: "gateway", Text: fmt.Sprintf("by %s to %s", step.Round(time.Millisecond), l.now.UTC().Format(time.RFC3339Nano))})
	l.doubtClock()
}

func (l *loop) doubtClock() {
	if back := l.newest.Sub(l.now); back > stepBack {
		l.doubt(doubtClock, fmt.Sprintf("the clock went back: %s has been seen or recorded already; it is trusted again when it passes that, or on `kidoban recover`", l.local(l.newest)))
	}
}

func (l *loop) local(t time.Time) string {
	if p := l.state.Policy(); p != nil {
		t = t.In(p.Zone)
	}
	return t.Format("2006-01-02 15:04:05 MST")
}

// doubt shuts the gateway for a reason, until trust takes it back.
func (l *loop) doubt(d doubt, why string) {
	if l.doubts[d] == why {
		return
	}
	first := l.doubts[d] == ""
	l.doubts[d] = why
	l.replan = true
	if d == doubtStopping {
		return
	}
	l.cfg.Logger.Error("shut in doubt", "why", why)
	if first {
		l.record(journal.Entry{Kind: journal.Doubt, Actor: "gateway", Reason: policy.NotReady.String(), Text: why})
	}
}

func (l *loop) trust(d doubt) {
	if l.doubts[d] == "" {
		return
	}
	l.cfg.Logger.Info("no longer in doubt", "was", l.doubts[d])
	l.doubts[d] = ""
	l.replan = true
}

// inDoubt says everything that keeps the gateway shut; empty: nothing.
func (l *loop) inDoubt() string {
	var all []string
	for _, why := range l.doubts {
		if why != "" {
			all = append(all, why)
		}
	}
	return strings.Join(all, "; ")
}

// turn makes the world match the state.
func (l *loop) turn() {
	l.tick()
	if !l.edge.IsZero() && !l.edge.After(l.now) {
		l.replan = true
	}
	if l.boot-l.lastBeat >= heartbeat {
		l.beat()
	}
	l.unrecorded()
	if l.replan {
		l.replan = false
		l.evaluate()
	}
	l.publish()
}

// evaluate plans anew and sets what changed: what closes at once, what opens
// when its entry is on disk.
func (l *loop) evaluate() {
	l.raw = l.state.Plan(l.now)
	doubt := l.inDoubt()
	if doubt == "" {
		doubt = l.raw.Doubt
	}
	next := l.raw.Doubted(doubt)
	if doubt == "" {
		next = l.raw.Restrict(l.narrow)
	}
	before := l.plan
	l.plan = next
	if err := l.cfg.Tunnel.Set(next); err != nil {
		l.doubt(doubtTunnel, fmt.Sprintf("the tunnel did not take the plan: %v; `kidoban recover` builds it anew", err))
	}
	l.endSessions()
	l.closeGrants()
	l.apply()
	if doubt == "" {
		l.openGrants()
	}
	l.edge = l.raw.Wake
	for _, g := range l.plan.Grants {
		for _, t := range []time.Time{g.From, g.Until} {
			if t.After(l.now) && (l.edge.IsZero() || t.Before(l.edge)) {
				l.edge = t
			}
		}
	}
	if (before.Doubt == "") != (next.Doubt == "") {
		l.cfg.Notify("status " + next.Doubt)
	}
}

// narrow leaves of a grant what its entry on disk covers.
func (l *loop) narrow(g *policy.Grant) *policy.Grant {
	o := l.recorded[g.ID]
	if o == nil || o.engineer != engineerText(g.Engineer) {
		return nil
	}
	until := g.Until
	if o.until.Before(until) {
		until = o.until
	}
	if end, ok := l.caps[g.ID]; ok && end.Before(until) {
		until = end
	}
	if !until.After(l.now) {
		return nil
	}
	var listed []*policy.Target
	for _, t := range g.Window.Targets {
		if o.targets[targetText(t)] {
			listed = append(listed, t)
		}
	}
	if len(listed) == len(g.Window.Targets) && until.Equal(g.Until) {
		return g
	}
	narrower := *g
	narrower.Until = until
	if len(listed) < len(g.Window.Targets) {
		window := *g.Window
		window.Targets = listed
		narrower.Window = &window
	}
	return &narrower
}

// covers reports whether the entry covers all that the grant opens.
func (o *opening) covers(g *policy.Grant) bool {
	if o == nil || o.until.Before(g.Until) || o.engineer != engineerText(g.Engineer) {
		return false
	}
	for _, t := range g.Window.Targets {
		if !o.targets[targetText(t)] {
			return false
		}
	}
	return true
}

func newOpening(g *policy.Grant) *opening {
	o := &opening{grant: g, engineer: engineerText(g.Engineer), until: g.Until, targets: map[string]bool{}}
	for _, t := range g.Window.Targets {
		o.targets[targetText(t)] = true
	}
	return o
}

// openGrants sends to the journal what is to open and is not there yet.
func (l *loop) openGrants() {
	var due []*opening
	var entries []journal.Entry
	for _, g := range l.raw.Grants {
		if l.recorded[g.ID].covers(g) || l.pending[g.ID].covers(g) {
			continue
		}
		if end, ok := l.caps[g.ID]; ok && !end.After(l.now) {
			continue
		}
		o := newOpening(g)
		l.pending[g.ID] = o
		due = append(due, o)
		entries = append(entries, grantEntry(journal.WindowOpened, g))
	}
	if len(due) == 0 {
		return
	}
	l.recorder.add(record{entries, func(l *loop, err error) {
		for _, o := range due {
			if l.pending[o.grant.ID] == o {
				delete(l.pending, o.grant.ID)
			}
			if err == nil {
				l.recorded[o.grant.ID] = o
			}
		}
		l.replan = true
	}})
}

func grantEntry(kind journal.Kind, g *policy.Grant) journal.Entry {
	e := journal.Entry{Kind: kind, Actor: "gateway", Vendor: g.Engineer.Vendor.Name, Engineer: g.Engineer.Name, Window: g.Window.Name,
		Grant: g.ID, From: g.From, Until: g.Until}
	if kind == journal.WindowOpened {
		e.Text = strings.TrimSpace("approved by " + g.Window.ApprovedBy + " " + g.Window.Ticket)
		for _, t := range g.Window.Targets {
			e.Targets = append(e.Targets, t.Name)
		}
	}
	return e
}

// closeGrants records what was open and no longer is.
func (l *loop) closeGrants() {
	planned := make(map[string]bool, len(l.raw.Grants))
	for _, g := range l.raw.Grants {
		planned[g.ID] = true
	}
	for id := range l.caps {
		if !planned[id] {
			delete(l.caps, id)
		}
	}
	still := make(map[string]bool, len(l.plan.Grants))
	for _, g := range l.plan.Grants {
		still[g.ID] = true
	}
	var entries []journal.Entry
	for id, o := range l.recorded {
		if still[id] {
			continue
		}
		end := o.until
		if c, ok := l.caps[id]; ok && c.Before(end) {
			end = c
		}
		delete(l.recorded, id)
		e := grantEntry(journal.WindowClosed, o.grant)
		e.Reason = string(whyEnded(l.plan, o.grant.Engineer, end, l.now, l.stopping()))
		entries = append(entries, e)
		if end.After(l.now) {
			end = l.now
		}
		l.closings = append(l.closings, end)
	}
	slices.SortFunc(entries, func(a, b journal.Entry) int { return strings.Compare(a.Grant, b.Grant) })
	l.record(entries...)
}

// apply gives the plan in force to the firewall.
func (l *loop) apply() {
	l.applications++
	l.renewAt = l.boot + renewAfter
	l.applier.set(application{l.applications, l.plan, l.live()})
}

// live lists the outer addresses of open sessions.
func (l *loop) live() []netip.AddrPort {
	var all []netip.AddrPort
	for _, s := range l.sessions {
		all = append(all, s.source)
	}
	return all
}

// stands hears from the applier.
func (l *loop) stands(a applied) {
	if a.checked {
		if a.err != nil {
			l.rulesetDoubt(a.err)
		} else if l.doubts[doubtRuleset] != "" && l.boot >= l.setAgainAt {
			l.apply()
			l.setAgainAt = l.boot + setAgain
		}
		return
	}
	if a.err != nil {
		l.rulesetDoubt(a.err)
	} else {
		l.applied = a.number
		if a.number == l.applications {
			l.trust(doubtRuleset)
			for _, end := range l.closings {
				l.cfg.Metrics.closed(max(l.now.Sub(end), 0))
			}
			l.closings = nil
		}
	}
	l.waiting = slices.DeleteFunc(l.waiting, func(w waiter) bool {
		if w.number > a.number {
			return false
		}
		w.done(a.err)
		return true
	})
}

func (l *loop) rulesetDoubt(err error) {
	l.cfg.Metrics.reconcileFailed()
	l.setAgainAt = l.boot + setAgain
	l.doubt(doubtRuleset, fmt.Sprintf("the ruleset is not as planned: %v; it is set again every %s, and `kidoban recover` does it now", err, setAgain))
}

// acknowledged hears from the recorder.
func (l *loop) acknowledged(a ack) {
	if a.err == nil {
		l.cfg.Metrics.appended(a.took)
	} else if a.journal == l.journal && l.doubts[doubtJournal] == "" {
		l.journalFailed(a.err)
	}
	for _, r := range a.records {
		if r.done != nil {
			r.done(l, a.err)
		}
	}
}

func (l *loop) journalFailed(err error) {
	l.doubt(doubtJournal, fmt.Sprintf("the journal cannot be written: %v; mend the disk, then `kidoban recover`", err))
	l.saveMarker()
}

// saveMarker keeps what is shut where a restart finds it while the journal is dead.
func (l *loop) saveMarker() error {
	err := l.cfg.Marker.Save(l.state.Shuts())
	if err != nil {
		l.cfg.Logger.Error("what is shut could not be kept outside the journal either", "err", err)
	}
	return err
}

// record sends entries to the journal without waiting.
func (l *loop) record(entries ...journal.Entry) {
	if len(entries) > 0 {
		l.recorder.add(record{entries: entries})
	}
}

func (l *loop) stopping() bool { return l.doubts[doubtStopping] != "" }

// beat does what is due once a heartbeat.
func (l *loop) beat() {
	l.lastBeat = l.boot
	l.synchronized = l.cfg.Clock.Synchronized()
	if l.doubts[doubtClock] != "" {
		if !l.now.Before(l.newest) && (l.synchronized || l.boot >= bootWait) {
			l.trust(doubtClock)
		}
	}
	l.count()
	l.idle()
	l.record(l.refusals.entries(l.now)...)
	if l.doubts[doubtRuleset] != "" && l.boot >= l.setAgainAt || l.boot >= l.renewAt {
		l.setAgainAt = l.boot + setAgain
		l.apply()
	} else {
		l.applier.verify()
	}
	for n, a := range l.admissions {
		if a.recorded && (a.confirmed || l.boot-a.at > unconfirmedAfter) {
			delete(l.admissions, n)
		}
	}
	l.cfg.Notify("watchdog")
}

// count reads every engineer's traffic.
func (l *loop) count() {
	l.peers = nil
	for e, t := range l.cfg.Tunnel.Traffic() {
		l.peers = append(l.peers, PeerStatus{e, t})
		s := l.sessions[e.String()]
		if s == nil {
			continue
		}
		if t.Received != s.last.Received {
			s.heard = l.boot
		}
		l.cfg.Metrics.traffic(e.Vendor.Name, t.Received-min(s.last.Received, t.Received), t.Transmitted-min(s.last.Transmitted, t.Transmitted))
		s.last = t
	}
	slices.SortFunc(l.peers, func(a, b PeerStatus) int { return strings.Compare(a.Engineer.String(), b.Engineer.String()) })
}

// fact hears from tunnel and firewall.
func (l *loop) fact(f policy.Fact) {
	switch f.Kind {
	case policy.Refusal:
		l.refused(f)
	case policy.Admission:
		l.admitted(f)
	case policy.Confirmation:
		l.confirmed(f)
	case policy.Failure:
		l.doubt(doubtTunnel, fmt.Sprintf("the tunnel failed: %v; `kidoban recover` builds it anew", f.Err))
	case policy.Drift:
		l.cfg.Metrics.drifted()
		l.cfg.Logger.Warn("the ruleset had drifted", "what", f.Err)
		l.record(journal.Entry{Kind: journal.Drift, Actor: "gateway", Text: f.Err.Error()})
	}
}

func (l *loop) refused(f policy.Fact) {
	if f.At.IsZero() {
		f.At = l.now
	}
	if f.Engineer == nil {
		f.Engineer = f.Decision.Engineer
	}
	l.refusals.add(f)
	l.refusalsChanged = true
	l.cfg.Metrics.refused(f)
}

// admitted sends an admission to the journal. The gate has let its initiation
// through; the session it may become is cut if the entry is not on disk in time.
func (l *loop) admitted(f policy.Fact) {
	a := &admission{number: f.Admission, engineer: f.Engineer, at: l.boot}
	l.admissions[a.number] = a
	l.cfg.Metrics.admitted(f.Engineer.Vendor.Name)
	e := f.Engineer
	entry := journal.Entry{Kind: journal.Admission, Actor: "gateway", Vendor: e.Vendor.Name, Engineer: e.Name,
		Source: f.Source.Addr().String(), Reason: policy.Admitted.String(), Key: e.Key.String(), Timestamp: hex.EncodeToString(f.Timestamp[:])}
	if g := f.Decision.Grant; g != nil {
		entry.Grant, entry.Window, entry.Until = g.ID, g.Window.Name, f.Decision.Until
	}
	l.recorder.add(record{[]journal.Entry{entry}, func(l *loop, err error) {
		if err == nil {
			a.recorded = true
		}
	}})
}

// unrecorded cuts whose admission did not reach the disk in time.
func (l *loop) unrecorded() {
	for n, a := range l.admissions {
		if a.recorded || l.boot-a.at < unrecordedAfter {
			continue
		}
		delete(l.admissions, n)
		l.cfg.Logger.Error("cut: the admission is not on disk", "engineer", a.engineer.String())
		l.cfg.Tunnel.Cut(a.engineer)
		if s := l.sessions[a.engineer.String()]; s != nil {
			l.end(s, Unrecorded)
		}
	}
}

// confirmed opens a session, or continues the one that is open.
func (l *loop) confirmed(f policy.Fact) {
	if a := l.admissions[f.Admission]; a != nil {
		a.confirmed = true
	}
	until := l.plan.Until(f.Engineer, l.now)
	if until.IsZero() {
		return // closed meanwhile
	}
	name := f.Engineer.String()
	if s := l.sessions[name]; s != nil {
		if s.source.Addr() == f.Source.Addr() {
			if s.source != f.Source {
				s.source = f.Source
				l.apply()
			}
			return
		}
		l.end(s, Superseded)
	}
	s := &session{id: rand.Text()[:16], engineer: f.Engineer, source: f.Source, openedAt: l.now, until: until, heard: l.boot}
	for e, t := range l.cfg.Tunnel.Traffic() {
		if e.String() == name {
			s.first, s.last = t, t
		}
	}
	l.sessions[name] = s
	l.holds(s)
	entry := l.sessionEntry(journal.SessionOpened, s)
	l.record(entry)
	l.cfg.Logger.Info("session opened", "session", s.id, "engineer", name, "source", s.source.Addr(), "until", s.until)
	l.apply()
}

// holds notes on which grants a session stands.
func (l *loop) holds(s *session) {
	s.grants = nil
	for _, g := range l.plan.GrantsOf(s.engineer) {
		if g.Contains(l.now) {
			s.grants = append(s.grants, g.ID)
		}
	}
}

func (l *loop) sessionEntry(kind journal.Kind, s *session) journal.Entry {
	return journal.Entry{Kind: kind, Actor: "gateway", Vendor: s.engineer.Vendor.Name, Engineer: s.engineer.Name, Session: s.id,
		Source: s.source.Addr().String(), From: s.openedAt, Until: s.until, Grants: s.grants}
}

// endSessions ends those whose engineer has no open grant any more, and moves
// the end of the others.
func (l *loop) endSessions() {
	for _, s := range l.sessions {
		until := l.plan.Until(s.engineer, l.now)
		if until.IsZero() {
			l.end(s, whyEnded(l.plan, s.engineer, s.until, l.now, l.stopping()))
			continue
		}
		if e := l.plan.ByKey(s.engineer.Key); e != nil {
			s.engineer = e
		}
		s.until = until
		l.holds(s)
	}
}

// idle ends what has not been heard from.
func (l *loop) idle() {
	for _, s := range l.sessions {
		if l.boot-s.heard >= idleAfter {
			l.cfg.Tunnel.Cut(s.engineer)
			l.end(s, Idle)
			l.apply()
		}
	}
}

// end closes a session in the records. Whoever calls it has closed the gate.
func (l *loop) end(s *session, why Ended) {
	delete(l.sessions, s.engineer.String())
	for e, t := range l.cfg.Tunnel.Traffic() {
		if e.String() == s.engineer.String() && t.Received >= s.last.Received {
			l.cfg.Metrics.traffic(e.Vendor.Name, t.Received-s.last.Received, t.Transmitted-min(s.last.Transmitted, t.Transmitted))
			s.last = t
		}
	}
	entry := l.sessionEntry(journal.SessionClosed, s)
	entry.Reason = string(why)
	entry.ReceivedBytes, entry.TransmittedBytes = int64(s.last.Received-s.first.Received), int64(s.last.Transmitted-s.first.Transmitted)
	entry.Until = time.Time{}
	l.record(entry)
	l.cfg.Metrics.sessionEnded(s.engineer.Vendor.Name, why, l.now.Sub(s.openedAt))
	l.cfg.Logger.Info("session closed", "session", s.id, "engineer", s.engineer.String(), "why", string(why))
}

// journalStatus reads what the journal says of itself.
func (l *loop) journalStatus() JournalStatus {
	if l.journal == nil {
		return JournalStatus{}
	}
	return JournalStatus{Size: l.journal.Size(), Checkpoint: l.journal.CheckpointTime()}
}

// stop shuts the gate, records it, and gives the host back.
func (l *loop) stop() error {
	l.cfg.Notify("stopping")
	l.tick()
	l.doubt(doubtStopping, "the gateway is stopping")
	l.replan = false
	l.evaluate()
	l.publish()
	l.record(l.refusals.entries(l.now.Add(time.Minute))...)
	l.record(journal.Entry{Kind: journal.Stop, Actor: "gateway"})
	for _, w := range l.waiting {
		w.done(errStopped)
	}
	close(l.recorder.quit)
	close(l.applier.quit)
	written := make(chan struct{})
	go func() { l.recorder.idle.Wait(); close(written) }()
	select {
	case <-written:
	case <-time.After(lastWords):
		l.cfg.Logger.Error("the last entries did not reach the disk in time")
	}
	err := errors.Join(l.cfg.Tunnel.Close(), l.cfg.Firewall.Close())
	if l.journal != nil {
		err = errors.Join(err, l.journal.Close())
	}
	l.cfg.Logger.Info("the gateway stopped")
	return err
}
