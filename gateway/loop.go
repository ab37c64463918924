package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
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
	// stepSeen is what tells a wall clock that was set from two readings that
	// were not quite of one moment. Slewing (adjtime(3)) moves both clocks
	// alike and is never seen.
	stepSeen = 10 * time.Millisecond
	// bootWait bounds how long a machine that has just booted waits for its
	// clock to be synchronized, counted from boot.
	bootWait = 60 * time.Second
	// setAgain is how often a ruleset that could not be set is tried again.
	setAgain = 3 * time.Second
	// renewAfter is how often elements whose end lies further ahead than the
	// kernel is told are renewed.
	renewAfter = time.Hour
	// journalWait is how long an append may take before nothing more is
	// expected of it.
	journalWait = 30 * time.Second
	// factsATurn bounds how many facts that wait are heard in one turn.
	factsATurn = 64
	// textMax bounds, in bytes, a text that becomes part of an entry.
	textMax = 4000
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

// doubtNames are the doubts that an operator can do something about.
var doubtNames = [doubts]string{doubtJournal: "journal", doubtClock: "clock", doubtPolicy: "policy", doubtTunnel: "tunnel", doubtRuleset: "ruleset"}

// loop is the state and its one owner.
type loop struct {
	g   *Gateway
	cfg *Config

	state    *policy.State
	loadedAt time.Time
	warnings []string

	fileError   string // why the file on disk would not survive a restart
	fileChanged bool
	fileChecks  chan fileCheck
	checking    bool   // one is under way
	taken       uint64 // the number of the newest reading of the file that was decided on
	loads       int    // policies loaded, so that a check of the file knows whether it is stale

	// The clock as this turn reads it.
	now          time.Time
	boot         time.Duration
	zero         time.Time // what the wall clock shows for the moment of boot; changes only when the clock is set
	newest       time.Time // the newest instant this gateway has seen or recorded; before it there is doubt
	synchronized bool
	setForward   time.Time // when the wall clock was last set forward, as it then showed; zero: never

	doubts [doubts]string
	plan   *policy.Plan // in force
	raw    *policy.Plan // what the state alone would open; plan narrows it
	replan bool
	edge   time.Time // when it must be worked out anew at the latest; zero: never

	recorded map[string]*opening  // grants whose opening is on disk, by id
	pending  map[string]*opening  // grants whose opening is on its way there
	openNow  map[string]*opening  // of recorded what is open now, by engineer and window; nil: not worked out yet for this plan
	began    map[string]beginning // of grants that are or were open, by id

	sessions   map[string]*session // by engineer
	admissions map[uint64]*admission
	severed    Ended  // the tunnel is about to cut every session, for this reason; empty: it is not
	tunnels    uint64 // how often that was so: admissions of before are over
	refusals   *refusals
	peers      []PeerStatus
	totals     map[string]Traffic // by engineer, as last read

	refusalsChanged bool
	refusalList     []RefusalSummary

	recorder  *recorder
	applier   *applier
	journal   Journal
	slow      bool                     // the doubt about the journal is that an append takes too long
	unwritten map[string]journal.Entry // closings that did not reach the journal, by replayName

	keeper   *keeper
	marked   bool                 // the marker may say something
	shutting int                  // shuts on their way to the disk
	closed   map[policy.Scope]int // how often each scope was shut by a command

	tunnelBehind bool // the tunnel did not take the plan in force
	checkFailed  bool // the ruleset did not read back as set

	applications uint64 // the number of the newest plan given to the applier
	applied      uint64 // the number of the newest that stands
	setAgainAt   time.Duration
	renewAt      time.Duration
	closings     []time.Time // ends that gate and kernel have yet to be shown to keep
	waiting      []waiter

	lastBeat time.Duration
}

// opening is what the journal says of a grant.
type opening struct {
	grant              *policy.Grant // as much of it as the entry covers and the policy still opens
	approvedBy, ticket string
}

// beginning is when a grant opened, told by where the wall clock then put the
// moment of boot, and the latest end it has had.
type beginning struct{ zero, until time.Time }

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
		recorded: map[string]*opening{}, pending: map[string]*opening{}, began: map[string]beginning{},
		sessions: map[string]*session{}, admissions: map[uint64]*admission{},
		refusals: newRefusals(), refusalList: []RefusalSummary{},
		totals: map[string]Traffic{}, unwritten: map[string]journal.Entry{}, fileChecks: make(chan fileCheck, 1), closed: map[policy.Scope]int{},
		recorder: newRecorder(), applier: newApplier(g.cfg.Firewall, g.cfg.Dropped), keeper: newKeeper(g.cfg.Marker),
	}
	defer close(g.stopped)
	l.now, l.boot = l.readClock()
	l.zero = l.now.Add(-l.boot)
	l.newest = l.now
	l.lastBeat = l.boot
	l.synchronized = l.cfg.Clock.Synchronized()
	l.raw = l.state.Plan(l.now)
	l.plan = l.raw.Doubted("starting")

	go l.applier.run()
	go l.keeper.run()
	l.start()
	l.recorder.start() // what was recorded meanwhile has waited for the journal
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
			l.facts(f, l.cfg.Tunnel.Facts())
		case f := <-l.cfg.Firewall.Facts():
			l.tick()
			l.facts(f, l.cfg.Firewall.Facts())
		case command := <-g.commands:
			l.tick()
			command(l)
		case a := <-l.recorder.acks:
			l.tick()
			l.acknowledged(a)
		case a := <-l.applier.acks:
			l.tick()
			l.stands(a)
		case c := <-l.fileChecks:
			l.tick()
			l.checked(c)
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
	l.now, l.boot = l.readClock()
	zero := l.now.Add(-l.boot)
	if step := zero.Sub(l.zero); step.Abs() >= stepSeen {
		if shown := l.zero.Add(l.boot); shown.After(l.newest) {
			l.newest = shown // what it showed just before, as far as can be told
		}
		l.zero = zero
		l.stepped(step)
	}
	if l.now.After(l.newest) {
		l.newest = l.now
	}
}

// stepped plans anew by a clock that was set, and doubts one that went back far.
func (l *loop) stepped(step time.Duration) {
	l.cfg.Metrics.clockStepped()
	if step > 0 {
		l.setForward = l.now
	}
	l.replan = true
	l.record(journal.Entry{Kind: journal.ClockStep, Actor: "gateway", Text: fmt.Sprintf("by %s to %s", step.Round(time.Millisecond), l.now.UTC().Format(time.RFC3339Nano))})
	l.doubtClock()
}

func (l *loop) doubtClock() {
	if back := l.newest.Sub(l.now); back > stepBack {
		l.doubt(doubtClock, fmt.Sprintf("the clock went back: %s has been seen or recorded already; it is trusted again when it passes that, or on `kidoban recover`", l.local(l.newest)))
	}
}

// bounded gives the end of a grant on the wall clock as it is set now: no
// later than as much time after the opening as was approved then, by the boot
// clock, so that setting the wall clock back extends nothing.
func (l *loop) bounded(id string, until time.Time) time.Time {
	if b, ok := l.began[id]; ok {
		if step := l.zero.Sub(b.zero); step < 0 {
			until = until.Add(step)
		}
	}
	return until
}

// begin notes which grants of the plan in force are open. A beginning is kept
// until no clock that is trusted can show a time before the grant's end again.
func (l *loop) begin() {
	for _, g := range l.plan.Grants {
		if g.From.After(l.now) {
			continue
		}
		b, ok := l.began[g.ID]
		if !ok {
			b.zero = l.zero
		}
		if o := l.recorded[g.ID]; o != nil && o.grant.Until.After(b.until) {
			b.until = o.grant.Until
		}
		l.began[g.ID] = b
	}
	for id, b := range l.began {
		if l.newest.Sub(b.until) > stepBack {
			delete(l.began, id)
		}
	}
}

func (l *loop) local(t time.Time) string {
	if p := l.state.Policy(); p != nil {
		t = t.In(p.Zone)
	}
	return t.Format("2006-01-02 15:04:05 MST")
}

// doubt shuts the gateway for a reason, until trust takes it back. Another
// reason for the same doubt is shown from the next plan on and changes nothing
// by itself: a failure whose words differ each time must not drive the loop.
func (l *loop) doubt(d doubt, why string) {
	first := l.doubts[d] == ""
	l.doubts[d] = why
	if !first {
		return
	}
	l.replan = true
	if d == doubtStopping {
		return
	}
	l.record(journal.Entry{Kind: journal.Doubt, Actor: "gateway", Reason: policy.NotReady.String(), Text: clip(why)})
}

// clip shortens a text to what an entry takes beside everything else.
func clip(text string) string {
	if len(text) <= textMax {
		return text
	}
	return strings.ToValidUTF8(text[:textMax], "") + " [shortened]"
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
	for range doubts { // an effect that fails may raise a doubt, which is one more plan
		if !l.replan {
			break
		}
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
		l.openNow = nil
		next = l.raw.Restrict(l.narrow)
	}
	before := l.plan
	l.plan = next
	l.begin()
	l.setTunnel()
	ended := l.endSessions()
	l.apply()
	l.end(ended...)
	l.closeGrants()
	if l.inDoubt() == "" && doubt == "" {
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

// setTunnel gives the plan in force to the gate.
func (l *loop) setTunnel() {
	err := l.cfg.Tunnel.Set(l.plan)
	l.tunnelBehind = err != nil
	if err != nil {
		l.doubt(doubtTunnel, fmt.Sprintf("the tunnel did not take the plan: %v; `kidoban recover` builds it anew", err))
	}
}

// narrow leaves of a grant what its entry on disk covers. Of the entry it
// forgets what the policy no longer opens: should a later policy open it
// again, that is a new opening and recorded anew.
func (l *loop) narrow(g *policy.Grant) *policy.Grant {
	o := l.recorded[g.ID]
	if o == nil {
		o = l.instead(g)
	}
	if o == nil {
		return nil
	}
	c := covered(o.grant, g)
	if c == nil {
		return nil
	}
	o.grant = c
	until := l.bounded(c.ID, c.Until)
	if !until.After(l.now) {
		return nil
	}
	if until.Equal(c.Until) {
		return c
	}
	shorter := *c
	shorter.Until = until
	return &shorter
}

// instead finds the entry by which a grant is open that has no entry of its
// own yet, because its window now begins at another time: that of the same
// engineer and window as they were.
func (l *loop) instead(g *policy.Grant) *opening {
	if !g.Contains(l.now) {
		return nil
	}
	if l.openNow == nil {
		l.openNow = map[string]*opening{}
		for id, o := range l.recorded {
			if o.grant.Contains(l.now) {
				l.openNow[withoutInstant(id)] = o
			}
		}
	}
	return l.openNow[withoutInstant(g.ID)]
}

// withoutInstant is the part of a grant's name that says who and by what window.
func withoutInstant(id string) string {
	name, _, _ := strings.Cut(id, "@")
	return name
}

// covers reports whether the entry says all that is to be said of the grant.
func (o *opening) covers(g *policy.Grant) bool {
	return o != nil && o.approvedBy == g.Window.ApprovedBy && o.ticket == g.Window.Ticket && covered(o.grant, g) == g
}

// openGrants sends to the journal what is to open and is not there yet.
func (l *loop) openGrants() {
	for _, g := range l.raw.Grants {
		if l.recorded[g.ID].covers(g) {
			delete(l.pending, g.ID) // of a policy that is not in force any more
			continue
		}
		if l.pending[g.ID].covers(g) {
			continue
		}
		if !l.bounded(g.ID, g.Until).After(l.now) {
			continue
		}
		o := &opening{grant: g, approvedBy: g.Window.ApprovedBy, ticket: g.Window.Ticket}
		l.pending[g.ID] = o
		l.add(record{entries: []journal.Entry{grantEntry(journal.WindowOpened, g)}, done: func(l *loop, err error) {
			if l.pending[g.ID] != o {
				return // the policy changed meanwhile, and a later entry says what opens
			}
			if errors.Is(err, errRefused) {
				return // it would be refused again
			}
			delete(l.pending, g.ID)
			if err == nil {
				l.recorded[g.ID] = o
			}
			l.replan = true
		}})
	}
}

func grantEntry(kind journal.Kind, g *policy.Grant) journal.Entry {
	e := journal.Entry{Kind: kind, Actor: "gateway", Vendor: g.Engineer.Vendor.Name, Engineer: g.Engineer.Name, Window: g.Window.Name,
		Grant: g.ID, From: g.From, Until: g.Until}
	if kind == journal.WindowOpened {
		e.Text = clip(strings.TrimSpace("approved by " + g.Window.ApprovedBy + " " + g.Window.Ticket))
		for i, t := range g.Window.Targets {
			if i == targetsMax {
				e.Text += fmt.Sprintf("; and %d more targets, as the policy names them", len(g.Window.Targets)-targetsMax)
				break
			}
			e.Targets = append(e.Targets, t.Name)
		}
		for i, s := range g.Engineer.Sources {
			if i == sourcesMax {
				e.Text += fmt.Sprintf("; and from %d more sources, as the policy names them", len(g.Engineer.Sources)-sourcesMax)
				break
			}
			e.Sources = append(e.Sources, s.String())
		}
	}
	return e
}

// How many targets, sources and grants an entry names: a target's name has up
// to 63 bytes, a source up to 43, a grant's id up to 208, and an entry fits into
// 64 KiB.
const targetsMax, sourcesMax, grantsMax = 500, 100, 200

// closeGrants records what was open and no longer is.
func (l *loop) closeGrants() {
	still := make(map[string]bool, len(l.plan.Grants))
	for _, g := range l.plan.Grants {
		still[g.ID] = true
	}
	var entries []journal.Entry
	for id, o := range l.recorded {
		if still[id] {
			continue
		}
		end := l.bounded(id, o.grant.Until)
		delete(l.recorded, id)
		delete(l.pending, id) // of a wider opening: the closing follows it into the journal
		e := grantEntry(journal.WindowClosed, o.grant)
		e.Reason = string(whyEnded(l.plan, o.grant.Engineer, nil, end, l.now, l.stopping()))
		entries = append(entries, e)
		if end.After(l.now) {
			end = l.now
		}
		if end.Before(l.setForward) { // the clock jumped over it, and nothing was late
			end = l.setForward
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
	l.cfg.Metrics.dropped(a.dropped)
	if a.checked {
		l.checkFailed = a.err != nil
		if a.err != nil {
			l.rulesetDoubt(a.err)
		} else if l.applied == l.applications {
			l.trust(doubtRuleset)
		}
		return
	}
	if a.err != nil {
		l.rulesetDoubt(a.err)
	} else {
		l.cfg.Metrics.reconciled(a.took)
		l.applied = a.number
		if a.number == l.applications {
			if !l.checkFailed { // else only a reading that finds it right is trusted
				l.trust(doubtRuleset)
			}
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
	records := l.recorder.settled(a)
	if a.err == nil {
		l.cfg.Metrics.appended(a.took)
		if l.slow {
			l.slow = false
			l.trust(doubtJournal)
			l.recordState() // what was shut meanwhile is in the marker only
		}
	} else if a.journal == l.journal && (l.doubts[doubtJournal] == "" || l.slow) {
		l.slow = false
		l.journalFailed(a.err)
	}
	l.settle(records, a.err)
}

// settle tells whoever waits for records what became of them, and keeps the
// closings that are not in the journal for the one that will take them.
func (l *loop) settle(records []record, err error) {
	for _, r := range records {
		if err != nil {
			for _, e := range r.entries {
				if e.Kind == journal.SessionClosed || e.Kind == journal.WindowClosed {
					l.unwritten[replayName(e)] = e
				}
			}
		}
		why := err
		if why == nil && r.refused != nil {
			why = r.refused
			l.cfg.Logger.Error("not recorded", "err", why)
		}
		if r.done != nil {
			r.done(l, why)
		}
	}
}

func (l *loop) journalFailed(err error) {
	l.doubt(doubtJournal, fmt.Sprintf("the journal cannot be written: %v; mend the disk, then `kidoban recover`", err))
	l.mark()
}

// record sends entries to the journal without waiting.
func (l *loop) record(entries ...journal.Entry) {
	if len(entries) > 0 {
		l.add(record{entries: entries})
	}
}

// add gives a record to the recorder. What it says happened now, whenever it
// reaches the disk.
func (l *loop) add(r record) {
	for i := range r.entries {
		r.entries[i].Time = l.now
		l.tell(r.entries[i])
	}
	l.recorder.add(r)
}

func (l *loop) stopping() bool { return l.doubts[doubtStopping] != "" }

// beat does what is due once a heartbeat.
func (l *loop) beat() {
	l.usage(l.boot - l.lastBeat)
	l.lastBeat = l.boot
	l.synchronized = l.cfg.Clock.Synchronized()
	if l.doubts[doubtClock] != "" {
		if !l.now.Before(l.newest) && (l.synchronized || l.boot >= bootWait) {
			l.trust(doubtClock)
		}
	}
	if l.recorder.busy() >= journalWait && l.doubts[doubtJournal] == "" {
		l.slow = true
		l.journalFailed(fmt.Errorf("the disk has not answered for %s", journalWait))
	}
	if l.tunnelBehind {
		l.setTunnel()
	}
	l.checkFile()
	l.count()
	l.idle()
	l.record(l.refusals.entries(l.now)...)
	switch {
	case l.doubts[doubtRuleset] != "" && l.boot >= l.setAgainAt:
		l.setAgainAt = l.boot + setAgain
		l.replan = true
	case l.boot >= l.renewAt:
		l.apply()
	}
	l.applier.verify()
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
		l.totals[e.String()] = t
		s := l.sessions[e.String()]
		if s == nil {
			continue
		}
		if t.Received != s.last.Received {
			s.heard = l.boot
			l.cfg.Metrics.heard(e.Key, l.now)
		}
		l.cfg.Metrics.traffic(e.Vendor.Name, t.Received-min(s.last.Received, t.Received), t.Transmitted-min(s.last.Transmitted, t.Transmitted))
		s.carries(t, l.boot)
	}
	slices.SortFunc(l.peers, func(a, b PeerStatus) int { return strings.Compare(a.Engineer.String(), b.Engineer.String()) })
}

// facts hears a fact and those that wait behind it, so that a flood of
// refusals costs a few turns and not one each.
func (l *loop) facts(f policy.Fact, more <-chan policy.Fact) {
	l.fact(f)
	for range factsATurn - 1 {
		select {
		case f := <-more:
			l.fact(f)
		default:
			return
		}
	}
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
		l.record(journal.Entry{Kind: journal.Drift, Actor: "gateway", Text: clip(fmt.Sprint(f.Err))})
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
	a := &admission{number: f.Admission, tunnel: l.tunnels, engineer: f.Engineer, at: l.boot}
	l.admissions[a.number] = a
	l.cfg.Metrics.admitted(f.Engineer.Vendor.Name)
	l.cfg.Metrics.heard(f.Engineer.Key, l.now)
	e := f.Engineer
	entry := journal.Entry{Kind: journal.Admission, Actor: "gateway", Vendor: e.Vendor.Name, Engineer: e.Name,
		Source: f.Source.Addr().String(), Reason: policy.Admitted.String(), Key: e.Key.String(), Timestamp: hex.EncodeToString(f.Timestamp[:])}
	if g := f.Decision.Grant; g != nil {
		entry.Grant, entry.Window, entry.Until = g.ID, g.Window.Name, f.Decision.Until
	}
	l.add(record{entries: []journal.Entry{entry}, done: func(l *loop, err error) {
		if err != nil || a.tunnel != l.tunnels {
			return
		}
		inTime := l.cfg.Tunnel.Recorded(a.number)
		a.recorded = true
		if !inTime && l.admissions[a.number] == a {
			l.cutUnrecorded(a) // the gate has cut it, a moment before the loop would have
		}
	}})
}

// unrecorded cuts whose admission did not reach the disk in time.
func (l *loop) unrecorded() {
	for _, a := range l.admissions {
		if a.recorded || l.boot-a.at < unrecordedAfter {
			continue
		}
		l.cutUnrecorded(a)
	}
}

func (l *loop) cutUnrecorded(a *admission) {
	delete(l.admissions, a.number)
	l.cfg.Logger.Error("cut: the admission was not on disk in time", "engineer", a.engineer.String(), "allowed", unrecordedAfter)
	l.cfg.Tunnel.Cut(a.engineer)
	if s := l.sessions[a.engineer.String()]; s != nil {
		l.end(ending{s, Unrecorded})
		l.apply()
	}
}

// confirmed opens a session, or continues the one that is open.
func (l *loop) confirmed(f policy.Fact) {
	a := l.admissions[f.Admission]
	if a == nil {
		return // cut meanwhile
	}
	a.confirmed = true
	until := l.admits(f.Engineer, f.Source.Addr())
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
		l.end(ending{s, Superseded})
	}
	s := &session{id: rand.Text()[:16], engineer: f.Engineer, source: f.Source, openedAt: l.now, until: until, heard: l.boot, counted: l.boot}
	s.first, s.last = l.totals[name], l.totals[name]
	l.sessions[name] = s
	l.holds(s)
	l.record(l.sessionEntry(journal.SessionOpened, s))
	l.apply()
}

// admits is until when an engineer is admitted from an address: zero, if not.
func (l *loop) admits(e *policy.Engineer, source netip.Addr) time.Time {
	d := l.plan.Decide(policy.Query{Key: e.Key, Proven: true, Fault: policy.Admitted, Source: source}, l.now)
	if d.Reason != policy.Admitted || d.Engineer.String() != e.String() {
		return time.Time{}
	}
	return d.Until
}

// holds notes on which grants a session stands.
func (l *loop) holds(s *session) {
	s.grants = nil
	for _, g := range l.plan.GrantsOf(s.engineer) {
		if g.Contains(l.now) && g.Engineer.MayComeFrom(s.source.Addr()) {
			s.grants = append(s.grants, g.ID)
		}
	}
}

func (l *loop) sessionEntry(kind journal.Kind, s *session) journal.Entry {
	e := journal.Entry{Kind: kind, Actor: "gateway", Vendor: s.engineer.Vendor.Name, Engineer: s.engineer.Name, Session: s.id,
		Source: s.source.Addr().String(), From: s.openedAt, Until: s.until, Grants: s.grants}
	if more := len(s.grants) - grantsMax; more > 0 {
		e.Grants = s.grants[:grantsMax]
		e.Text = fmt.Sprintf("and %d more grants, each with an entry of its own", more)
	}
	return e
}

// sever takes note that the next plan finds a tunnel in which everybody was
// cut, whatever it admits.
func (l *loop) sever(why Ended) {
	l.severed = why
	l.tunnels++
	clear(l.admissions)
	l.replan = true
}

// endSessions finds those whose engineer has no open grant any more, or none
// from where the session is, and moves the end of the others.
func (l *loop) endSessions() []ending {
	var over []ending
	severed := l.severed
	l.severed = ""
	for name, s := range l.sessions {
		if severed != "" {
			delete(l.sessions, name)
			over = append(over, ending{s, severed})
			continue
		}
		until := l.admits(s.engineer, s.source.Addr())
		if until.IsZero() {
			delete(l.sessions, name)
			over = append(over, ending{s, whyEnded(l.plan, s.engineer, s.grants, s.until, l.now, l.stopping())})
			continue
		}
		if e := l.plan.ByKey(s.engineer.Key); e != nil {
			s.engineer = e
		}
		s.until = until
		l.holds(s)
	}
	slices.SortFunc(over, func(a, b ending) int { return a.session.openedAt.Compare(b.session.openedAt) })
	return over
}

// idle ends what has not been heard from.
func (l *loop) idle() {
	for _, s := range l.sessions {
		if l.boot-s.heard >= idleAfter {
			l.cfg.Tunnel.Cut(s.engineer)
			l.end(ending{s, Idle})
			l.apply()
		}
	}
}

// ending is a session that is over, and why.
type ending struct {
	session *session
	why     Ended
}

// end closes sessions in the records. Whoever calls it has closed the gate.
func (l *loop) end(over ...ending) {
	if len(over) == 0 {
		return
	}
	for e, t := range l.cfg.Tunnel.Traffic() {
		l.totals[e.String()] = t
	}
	for _, x := range over {
		s, name, vendor := x.session, x.session.engineer.String(), x.session.engineer.Vendor.Name
		delete(l.sessions, name)
		t := l.totals[name]
		l.cfg.Metrics.traffic(vendor, t.Received-min(s.last.Received, t.Received), t.Transmitted-min(s.last.Transmitted, t.Transmitted))
		s.last = t
		entry := l.sessionEntry(journal.SessionClosed, s)
		entry.Reason = string(x.why)
		entry.ReceivedBytes, entry.TransmittedBytes = int64(s.received()), int64(s.transmitted())
		entry.Until = time.Time{}
		l.record(entry)
		l.cfg.Metrics.sessionEnded(vendor, s.id, x.why, max(l.now.Sub(s.openedAt), 0))
	}
}

// journalStatus reads what the journal says of itself.
func (l *loop) journalStatus() JournalStatus {
	if l.journal == nil {
		return JournalStatus{}
	}
	return JournalStatus{Size: l.journal.Size(), Checkpoint: l.journal.CheckpointTime(), Waiting: l.recorder.busy()}
}

// stop shuts the gate, records it, and gives the host back.
func (l *loop) stop() error {
	l.cfg.Notify("stopping")
	l.tick()
	l.doubt(doubtStopping, "the gateway is stopping")
	l.replan = false
	maps.Copy(l.recorded, l.pending) // what is on its way to the disk has to be closed there too
	l.evaluate()
	l.publish()
	l.record(l.refusals.entries(l.now.Add(time.Minute))...)
	l.record(journal.Entry{Kind: journal.Stop, Actor: "gateway"})
	for _, w := range l.waiting {
		w.done(errStopped)
	}
	close(l.recorder.quit)
	close(l.applier.quit)
	close(l.keeper.quit)
	var errs []error
	written := true
	select {
	case <-l.recorder.done:
	case <-time.After(lastWords):
		written = false
		errs = append(errs, fmt.Errorf("the last entries did not reach the disk within %s", lastWords))
	}
	errs = append(errs, l.cfg.Tunnel.Close())
	select {
	case <-l.applier.done:
	case <-time.After(lastWords):
		errs = append(errs, fmt.Errorf("the ruleset was still being set after %s", lastWords))
	}
	errs = append(errs, l.cfg.Firewall.Close())
	select {
	case <-l.keeper.done:
	case <-time.After(lastWords):
		errs = append(errs, fmt.Errorf("the marker of what is shut was still being written after %s", lastWords))
	}
	if l.journal != nil && written { // closing waits for the write under way
		errs = append(errs, l.journal.Close())
	}
	err := errors.Join(errs...)
	l.cfg.Logger.Info("the gateway stopped", "err", err)
	return err
}
