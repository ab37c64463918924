package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync/atomic"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/tally"
	"kidoban/gateway/view"
)

const (
	heartbeat = time.Second
	// factsATurn bounds how many facts that wait are heard in one turn.
	factsATurn = 64
	// lastWords bounds how long a stop waits for the kernel and the disk, all
	// in all.
	lastWords = 5 * time.Second
	// lastWord is what each step has at least, should another take it all. So
	// a stop in which nothing answers takes 8 s, which service managers allow.
	lastWord = 500 * time.Millisecond
)

var errStopped = errors.New("the gateway is stopping")

// loop is the state and its one owner.
type loop struct {
	g   *Gateway
	cfg *Config

	state    *policy.State
	loadedAt time.Time
	warnings []view.Message // of the policy
	warnedOn policy.Date    // the site's date for which they are

	fileError   string // why the file on disk would not survive a restart
	fileChanged bool
	fileChecks  chan fileCheck
	checking    bool // one is under way
	loads       int  // policies loaded, so that a check of the file knows whether it is stale

	// The clock as this turn reads it.
	now          time.Time
	boot         time.Duration
	zero         time.Time // what the wall clock shows for the moment of boot; changes only when the clock is set
	newest       time.Time // the newest instant this gateway has seen or recorded; before it there is doubt
	synchronized bool
	setForward   time.Time // when the wall clock was last set forward, as it then showed; zero: never

	doubts [doubts]view.Message
	plan   *policy.Plan // in force
	raw    *policy.Plan // what the state alone would open; plan narrows it
	replan bool
	edge   time.Time // when it must be worked out anew at the latest; zero: never

	recorded  map[string]*opening       // grants whose opening is on disk, by id
	pending   map[string]*opening       // grants whose opening is on its way there
	tenants   map[netip.Addr]policy.Key // whose a tunnel address is or was last, as far as the ruleset has it
	settledOn *policy.Policy            // whose engineers are all in tenants
	openNow   map[string]*opening       // of recorded what is open now, by engineer and window; nil: not worked out yet for this plan
	began     map[string]beginning      // of grants that are or were open, by id

	sessions   map[string]*session // by engineer
	admissions map[uint64]*admission
	late       map[uint64]time.Duration // admissions cut for want of a record whose record the gate still waits for: when they were, since boot
	severed    Ended                    // the tunnel is about to cut every session, for this reason; empty: it is not
	tunnels    uint64                   // how often that was so: admissions of before are over
	refusals   *tally.Refusals
	totals     map[policy.Key]view.Traffic // as last read; replaced by each reading

	recorder  *recorder
	applier   *applier
	journal   Journal
	slow      bool                     // the doubt about the journal is that an append takes too long
	unwritten map[string]journal.Entry // closings that did not reach the journal, by replayName
	lost      error                    // why the journal that did not open at the start may have shut more than is known; nil: it has not

	keeper     *keeper
	copier     *keeper              // of cfg.Copy
	copied     []policy.ShutRecord  // what it was last given; nil: nothing, or what failed
	copyFailed atomic.Bool          // what it was last given is not written; set by the copier
	copyAgain  bool                 // what it is given next is given again
	marked     bool                 // the marker may say something
	shutting   int                  // shuts on their way to the disk
	shutCount  map[policy.Scope]int // how often each scope was shut by a command

	tunnelBehind bool // the tunnel did not take the plan in force
	ruleset
	narrowing narrowing

	lastBeat time.Duration
}

// Run runs the gateway until the context ends, then shuts it in order. It
// returns an error only if it could not stop cleanly. A loop that hangs does
// not hear of the end, and is not waited for: the end of the process cuts
// everything.
func (g *Gateway) Run(ctx context.Context) error {
	defer close(g.stopped)
	heard := make(chan struct{})
	done := make(chan error, 1)
	go func() { done <- g.run(ctx, heard) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-heard:
		return <-done
	case <-time.After(lastWords):
		err := fmt.Errorf("after %s the loop had not heard of the stop", lastWords)
		g.cfg.Logger.Error("the gateway stopped, but not in order", "err", err)
		return err
	}
}

// run is Run; it closes heard when it has heard of the end.
func (g *Gateway) run(ctx context.Context, heard chan<- struct{}) error {
	l := &loop{
		g: g, cfg: &g.cfg, state: policy.NewState(),
		tenants: map[netip.Addr]policy.Key{}, recorded: map[string]*opening{}, pending: map[string]*opening{}, began: map[string]beginning{},
		sessions: map[string]*session{}, admissions: map[uint64]*admission{}, late: map[uint64]time.Duration{},
		refusals:  tally.New(),
		unwritten: map[string]journal.Entry{}, fileChecks: make(chan fileCheck, 1), shutCount: map[policy.Scope]int{},
		narrowing: narrowing{losses: map[policy.Key]*loss{}},
		recorder:  newRecorder(), applier: newApplier(g.cfg.Firewall, g.cfg.Dropped), keeper: g.keeper, copier: newKeeper(g.cfg.Copy),
	}
	l.now, l.boot = l.readClock()
	l.zero = l.now.Add(-l.boot)
	l.newest = l.now
	l.lastBeat = l.boot
	l.synchronized = l.cfg.Clock.Synchronized()
	l.raw = l.state.Plan(l.now)
	l.plan = l.raw.Doubted(starting)

	go l.applier.run()
	go l.copier.run()
	l.start()
	go l.keeper.run()  // not before what the marker says has been read
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
			close(heard)
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
	return max(l.narrowing.next(d, l.boot), 0)
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
	l.narrowed()
	for range doubts { // an effect that fails may raise a doubt, which is one more plan
		if !l.replan {
			break
		}
		l.replan = false
		l.evaluate()
	}
	l.copyShuts()
	l.publish()
}

// evaluate plans anew and sets what changed: what closes at once, what opens
// when its entry is on disk.
func (l *loop) evaluate() {
	l.raw = l.state.Plan(l.now)
	doubt := view.Joined(l.inDoubt())
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
	l.narrowing.take(lost(before, next, l.now, l.applied >= l.narrowing.timed), l.applications, l.now, l.boot)
	l.end(ended...)
	l.closeGrants()
	if len(l.inDoubt()) == 0 && doubt == "" {
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
	if l.plan.Doubt != "" {
		clear(l.late) // the gate forgets them with everybody
	}
	err := l.cfg.Tunnel.Set(l.plan)
	l.tunnelBehind = err != nil
	if err != nil {
		l.doubt(doubtTunnel, view.Say(view.TunnelRefused, view.Args{"cause": err}))
	}
}

func (l *loop) stopping() bool { return l.doubted(doubtStopping) }

// beat does what is due once a heartbeat.
func (l *loop) beat() {
	l.usage(l.boot - l.lastBeat)
	l.lastBeat = l.boot
	l.synchronized = l.cfg.Clock.Synchronized()
	if l.doubted(doubtClock) {
		if !l.now.Before(l.newest) && (l.synchronized || l.boot >= bootWait) {
			l.trust(doubtClock)
		}
	}
	if l.recorder.busy() >= journalWait && !l.doubted(doubtJournal) {
		l.slow = true
		l.journalFailed(view.Say(view.DiskSilent, view.Args{"wait": journalWait}))
	}
	if l.applier.busy() >= rulesetWait {
		l.rulesetHangs()
	}
	if l.tunnelBehind {
		l.setTunnel()
	}
	l.copyRetry()
	l.checkFile()
	l.readTraffic()
	for _, s := range l.sessions {
		l.count(s)
	}
	l.idle()
	l.record(refusedEntries(l.refusals.Due(l.now))...)
	switch {
	case l.doubted(doubtRuleset) && l.boot >= l.setAgainAt:
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
		l.doubt(doubtTunnel, view.Say(view.TunnelFailed, view.Args{"cause": f.Err}))
	case policy.Drift:
		l.cfg.Metrics.drifted()
		l.record(journal.Entry{Kind: journal.Drift, Actor: "gateway", Text: clip(fmt.Sprint(f.Err))})
	}
}

// unanswered tells who waits for the ruleset that nobody will hear of it.
func (l *loop) unanswered() {
	for _, w := range l.waiting {
		w.done(errStopped)
	}
	l.waiting = nil
}

// stop shuts the gate, gives the host back, and records it meanwhile. Whatever
// hangs is left to the end of the process: the table then stays, and denies.
func (l *loop) stop() error {
	l.cfg.Notify("stopping")
	l.tick()
	l.doubt(doubtStopping, view.Say(view.Stops, nil))
	l.replan = false
	maps.Copy(l.recorded, l.pending) // what is on its way to the disk has to be closed there too
	l.evaluate()
	l.publish()
	l.record(refusedEntries(l.refusals.Rest(l.now))...)
	l.record(journal.Entry{Kind: journal.Stop, Actor: "gateway"})
	l.unanswered()
	close(l.recorder.quit)
	close(l.applier.quit)
	var errs []error
	end := time.Now().Add(lastWords)
	ended := func(done <-chan struct{}, otherwise string) bool {
		select {
		case <-done:
			return true
		case <-time.After(max(time.Until(end), lastWord)):
			errs = append(errs, fmt.Errorf("after %s %s", lastWords, otherwise))
			return false
		}
	}
	closed := func(shut func() error, otherwise string) {
		done := make(chan struct{})
		var err error
		go func() {
			defer close(done)
			err = shut()
		}()
		if ended(done, otherwise) {
			errs = append(errs, err)
		}
	}
	// Nothing that the host gets back waits for the disk. The firewall closes
	// when what is being set is: it begins the wait all the same.
	ended(l.applier.done, "the ruleset was still being set")
	closed(l.cfg.Tunnel.Close, "the tunnel was not down")
	closed(l.cfg.Firewall.Close, "forwarding was not as it was: the table stays and denies what the host would forward, until the next stop")
	written := ended(l.recorder.done, "the last entries had not reached the disk")
	if written { // whoever commanded something hears whether it is recorded
		for _, a := range l.recorder.untold {
			l.acknowledged(a)
		}
		l.unanswered()
	}
	close(l.keeper.quit)
	close(l.copier.quit)
	ended(l.keeper.done, "the marker of what is shut was still being written")
	ended(l.copier.done, "the copy of what is shut was still being written")
	if l.journal != nil && written { // closing waits for the write under way
		closed(l.journal.Close, "the journal was not closed")
	}
	err := errors.Join(errs...)
	if err != nil {
		l.cfg.Logger.Error("the gateway stopped, but not in order", "err", err)
	} else {
		l.cfg.Logger.Info("the gateway stopped")
	}
	return err
}
