package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kidoban/gateway/clock"
	"kidoban/gateway/journal"
	"kidoban/gateway/opening"
	"kidoban/gateway/policy"
	"kidoban/gateway/session"
	"kidoban/gateway/store"
	"kidoban/gateway/tally"
	"kidoban/gateway/view"
)

const (
	heartbeat = time.Second
	// bootWait bounds how long a machine that has just booted waits for its
	// clock to be synchronized, counted from boot.
	bootWait = 60 * time.Second
	// startWait is how long a start may take, which reads the whole journal.
	startWait = 15 * time.Minute
	// factsATurn bounds how many waiting facts one turn takes.
	factsATurn = 64
	// stopWait bounds how long a stop waits for the kernel and the disk in all.
	stopWait = 5 * time.Second
	// stepWait is the least time of each step of a stop, also after another step
	// took all of stopWait. A stop in which nothing answers takes 8 s, and service
	// managers allow that.
	stepWait = 500 * time.Millisecond
)

// loop is the state and its one owner.
type loop struct {
	g        *Gateway
	cfg      *Config
	clock    *clock.Watch
	state    *policy.State
	doubts   [doubts]view.Message
	plans    plans
	openings *opening.Set
	sessions *session.Table
	refusals *tally.Refusals
	store    *store.Store
	journal  journalState
	file     policyWatch
	kernel   enforcer
	closes   map[policy.Scope]int // how often a command shut each scope
	lastBeat time.Duration
}

// plans are the plan of the state, and the plan that is in force.
type plans struct {
	wanted  *policy.Plan // by the state alone
	inForce *policy.Plan // the recorded part of wanted; nothing, if there is a doubt
	stale   bool         // something changed: evaluate makes new ones
	warned  time.Time    // when it was last looked whether an end is near
	wakeAt  time.Time    // when they become stale by the clock; zero: never
}

// Run runs the gateway until the context ends, then shuts it in order. It
// returns an error only if it could not stop cleanly. It does not wait for a
// loop that hangs: the end of the process cuts everything.
func (g *Gateway) Run(ctx context.Context) error {
	defer close(g.stopped)
	stopping := make(chan struct{})
	done := make(chan error, 1)
	go func() { done <- g.run(ctx, stopping) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-stopping:
		return <-done
	case <-time.After(stopWait):
		err := fmt.Errorf("after %s the loop had not heard of the stop", stopWait)
		g.cfg.Logger.Error("the gateway stopped, but not in order", "err", err)
		return err
	}
}

// run is Run. It closes stopping when it begins to stop.
func (g *Gateway) run(ctx context.Context, stopping chan<- struct{}) error {
	watch := clock.NewWatch(g.cfg.Clock)
	l := &loop{
		g: g, cfg: &g.cfg, clock: watch, state: policy.NewState(), openings: opening.NewSet(watch), sessions: session.NewTable(watch),
		refusals: tally.New(), store: g.store, closes: map[policy.Scope]int{}, lastBeat: watch.Boot,
		file: policyWatch{checks: make(chan fileCheck, 1)}, kernel: enforcer{applier: newApplier(g.cfg.Firewall, g.cfg.Dropped)},
	}
	l.plans.wanted = l.state.Plan(l.clock.Now)
	l.plans.inForce = l.plans.wanted.Doubted(view.Say(view.Begins, nil).String())

	go l.kernel.applier.run()
	// Everything is denied, and status and close work: the network may come up.
	l.cfg.Notify("ready")
	l.cfg.Notify("status " + l.plans.inForce.Doubt)
	started := make(chan struct{})
	go g.starts(started)
	l.start()
	close(started)
	l.plans.stale = true
	l.waiting()
	l.turn()
	l.cfg.Logger.Info("the gateway runs", "ready", l.plans.inForce.Doubt == "", "not_ready_reason", l.plans.inForce.Doubt)
	l.cfg.Notify("status " + l.plans.inForce.Doubt)

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(l.sleep())
		select {
		case <-ctx.Done():
			close(stopping)
			return l.stop()
		case <-timer.C:
		case <-l.clock.Set():
		case f := <-l.cfg.Tunnel.Facts():
			l.tick()
			l.facts(f, l.cfg.Tunnel.Facts())
		case f := <-l.cfg.Firewall.Facts():
			l.tick()
			l.facts(f, l.cfg.Firewall.Facts())
		case command := <-g.commands:
			l.tick()
			command(l)
		case a := <-l.store.Acks():
			l.tick()
			l.recorded(a)
		case a := <-l.kernel.applier.acks:
			l.tick()
			l.applied(a)
		case c := <-l.file.checks:
			l.tick()
			l.checked(c)
		case why := <-l.cfg.Switch.Results():
			l.tick()
			l.turnSwitch(why)
		}
		l.turn()
	}
}

// waiting takes the commands that came while the journal was read: a close comes
// before the first opening.
func (l *loop) waiting() {
	for {
		select {
		case command := <-l.g.commands:
			l.tick()
			command(l)
		default:
			return
		}
	}
}

// starts pets the service manager's watchdog while the journal is read, for
// startWait at most.
func (g *Gateway) starts(done <-chan struct{}) {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for range startWait / heartbeat {
		select {
		case <-done:
			return
		case <-tick.C:
			g.cfg.Notify("watchdog")
		}
	}
}

// sleep returns the time until the next turn is due.
func (l *loop) sleep() time.Duration {
	d := l.lastBeat + heartbeat - l.clock.Boot
	if !l.plans.wakeAt.IsZero() {
		d = min(d, l.plans.wakeAt.Sub(l.clock.Now))
	}
	return max(l.openings.Narrowing.Next(l.sessions.Next(d), l.clock.Boot), 0)
}

// turn makes gate, kernel and journal match the state.
func (l *loop) turn() {
	l.tick()
	if !l.plans.wakeAt.IsZero() && !l.plans.wakeAt.After(l.clock.Now) {
		l.plans.stale = true
	}
	if l.clock.Boot-l.lastBeat >= heartbeat {
		l.beat()
	}
	for _, a := range l.sessions.Unrecorded() {
		l.cut(a)
	}
	l.cutNarrowed()
	for range doubts { // an effect that fails may raise a doubt, which makes one more plan
		if !l.plans.stale {
			break
		}
		l.evaluate()
	}
	l.latch()
	l.publish()
}

// latch brings the latch up to date. Without a journal it writes no empty latch:
// the next start would believe that nothing was shut.
func (l *loop) latch() {
	if shuts := l.state.Shuts(); len(shuts) > 0 || l.store.HasJournal() {
		l.store.Latch.Set(shuts)
	}
}

// tick reads the clock. A clock that was set makes new plans, and one that went
// back far is in doubt.
func (l *loop) tick() {
	step := l.clock.Tick()
	if step == 0 {
		return
	}
	l.cfg.Metrics.ClockStepped()
	if step > 0 {
		l.openings.Narrowing.Timed(l.kernel.asked + 1)
	}
	l.plans.stale = true
	l.record(journal.Entry{Kind: journal.ClockStep, Actor: "gateway",
		Text: fmt.Sprintf("by %s to %s", step.Round(time.Millisecond), l.local(l.clock.Now))})
	l.doubtClock()
}

func (l *loop) doubtClock() {
	if l.clock.Behind() {
		l.doubt(doubtClock, view.Say("clock_back", view.Args{"newest": l.local(l.clock.HighWater)}))
	}
}

// local shows an instant in the site's zone; without a policy in the machine's.
func (l *loop) local(t time.Time) string {
	t = t.Local()
	if p := l.state.Policy(); p != nil {
		t = t.In(p.Zone)
	}
	return t.Format(view.Moment)
}

// evaluate plans anew and puts the plan in force. It closes in this order: gate,
// firewall, records. New grants go to the journal first; they open in a later
// turn, when they are on disk.
func (l *loop) evaluate() {
	l.plans.stale = false
	before := l.plans.inForce
	l.plans.wanted = l.state.Plan(l.clock.Now)
	doubts := l.inDoubt()
	if len(doubts) > 0 {
		l.plans.inForce = l.plans.wanted.Doubted(view.Joined(doubts))
	} else {
		l.plans.inForce = l.openings.Restrict(l.plans.wanted)
	}
	l.openings.Freeze(before, l.plans.inForce)
	l.openings.Begin(l.plans.inForce)
	l.setTunnel()
	if l.sessions.HasHosts() {
		l.counts(nil) // before the kernel lets more hosts in
	}
	ended := l.sessions.Review(l.plans.inForce, l.doubted(doubtStopping))
	l.apply()
	l.end(ended)
	l.closeGrants()
	l.record(store.NoteEntries(opening.Thaw(before, l.plans.inForce))...)
	if len(doubts) == 0 && len(l.inDoubt()) == 0 {
		l.openGrants()
	}
	l.plans.wakeAt = l.plans.inForce.Due()
	if (before.Doubt == "") != (l.plans.inForce.Doubt == "") {
		l.cfg.Notify("status " + l.plans.inForce.Doubt)
	}
}

// beat does the work of a heartbeat.
func (l *loop) beat() {
	l.usage(l.clock.Boot - l.lastBeat)
	l.lastBeat = l.clock.Boot
	l.clock.Synchronize()
	if l.doubted(doubtClock) && !l.clock.Now.Before(l.clock.HighWater) && (l.clock.Synchronized || l.clock.Boot >= bootWait) {
		l.trust(doubtClock)
	}
	if l.store.Busy() >= journalWait && !l.doubted(doubtJournal) {
		l.journal.slow = true
		l.journalFailed(view.Say("disk_silent", view.Args{"wait": journalWait}))
	}
	inside := func(e *policy.Engineer) bool { return l.sessions.Of(e) != nil }
	l.record(store.NoteEntries(l.plans.inForce.Warnings(l.plans.warned, l.clock.Now, inside))...)
	l.plans.warned = l.clock.Now
	l.checkFile()
	l.cfg.Switch.Look()
	l.traffic()
	l.hosts()
	for s := range l.sessions.All() {
		l.count(s)
	}
	if over := l.sessions.Idle(); len(over) > 0 {
		for _, x := range over {
			if !x.Session.Engineer.Plain() {
				l.cfg.Tunnel.Cut(x.Session.Engineer)
			}
		}
		l.end(over)
		l.apply()
	}
	l.use(false)
	l.record(store.RefusedEntries(l.refusals.Due(l.clock.Now))...)
	l.beatKernel()
	l.sessions.Forget()
	l.cfg.Notify("watchdog")
}

// facts takes a fact and those that wait behind it, so that a flood of refusals
// costs a few turns and not one each.
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

// fact takes a fact of tunnel or firewall.
func (l *loop) fact(f policy.Fact) {
	switch f.Kind {
	case policy.Refusal:
		l.refused(f)
	case policy.Admission:
		l.admitted(f)
	case policy.Confirmation:
		l.confirmed(f)
	case policy.Failure:
		l.doubt(doubtTunnel, view.Say("tunnel_failed", view.Args{"cause": f.Err}))
	case policy.Drift:
		l.cfg.Metrics.Drifted()
		l.record(journal.Entry{Kind: journal.Drift, Actor: "gateway", Text: store.Clip(fmt.Sprint(f.Err))})
	}
}

// stop shuts the gate, restores the host's settings, and records the stop
// meanwhile. It does not wait for a step that hangs: the table then stays, and
// denies.
func (l *loop) stop() error {
	l.cfg.Notify("stopping")
	l.tick()
	l.doubt(doubtStopping, view.Say(view.Stops, nil))
	l.openings.Stop()
	l.evaluate()
	l.publish()
	for range 10 { // until the kernel has counted the last flows
		if until, _ := l.cfg.Firewall.Counted(); !l.sessions.Awaits(until) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	l.traffic()
	l.hosts()
	l.use(true)
	l.record(store.RefusedEntries(l.refusals.Rest(l.clock.Now))...)
	l.record(journal.Entry{Kind: journal.Stop, Actor: "gateway"})
	l.kernel.unanswered()
	written := l.store.Quit()
	close(l.kernel.applier.quit)
	var errs []error
	end := time.Now().Add(stopWait)
	ended := func(done <-chan struct{}, otherwise string) bool {
		select {
		case <-done:
			return true
		case <-time.After(max(time.Until(end), stepWait)):
			errs = append(errs, fmt.Errorf("after %s %s", stopWait, otherwise))
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
	// The host's settings do not wait for the disk. The firewall closes after
	// the ruleset that is being set, so that one is waited for first.
	ended(l.kernel.applier.done, "the ruleset was still being set")
	closed(l.cfg.Tunnel.Close, "the tunnel was not down")
	closed(l.cfg.Firewall.Close, "forwarding was not as it was: the table stays and denies what the host would forward, until the next stop")
	all := ended(written, "the last entries had not reached the disk")
	if all { // commands hear whether they are recorded
		l.store.Untold(l.recorded)
		l.kernel.unanswered()
		l.latch()
	}
	ended(l.store.Latch.Quit(), "the latch was still being written")
	if all { // closing waits for the write under way
		closed(l.store.Close, "the journal was not closed")
	}
	err := errors.Join(errs...)
	if err != nil {
		l.cfg.Logger.Error("the gateway stopped, but not in order", "err", err)
	} else {
		l.cfg.Logger.Info("the gateway stopped")
	}
	return err
}
