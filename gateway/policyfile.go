package gateway

import (
	"context"
	"errors"
	"slices"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/session"
	"kidoban/gateway/store"
	"kidoban/gateway/view"
)

// policyWatch follows the policy on disk.
type policyWatch struct {
	loadedAt time.Time // of the policy in force
	warnings []view.Message
	warnedOn policy.Date // the site's date that the warnings are for
	problem  error       // why a restart would not take the file
	changed  bool        // the file is not the policy in force
	loads    int         // counts policies taken, so that a check knows whether it is stale
	checking bool        // a check is under way
	checks   chan fileCheck
}

// readWait is how long a reload waits for a reading of the policy file that is
// under way already.
const readWait = 5 * time.Second

// Reload reads the policy file again. A file with errors leaves the policy in
// force as it is, and Reload returns the errors. One reading runs at a time.
func (g *Gateway) Reload(ctx context.Context, actor policy.Actor) (Outcome, error) {
	timeout := time.NewTimer(readWait)
	defer timeout.Stop()
	select {
	case g.reading <- struct{}{}:
	case <-ctx.Done():
		return Outcome{}, ctx.Err()
	case <-timeout.C:
		return Outcome{}, &view.Error{Message: view.Say("reload_waits", view.Args{"wait": readWait})}
	}
	r := g.read()
	e := newEffect()
	compared := make(chan struct{})
	err := g.send(ctx, func(l *loop) {
		if l.doubted(doubtKey) { // the file may be back
			l.takeKey(r.key, false, actor)
			if why := l.doubts[doubtKey]; !why.Empty() {
				e.note(func(out *Outcome) { out.problem(why) })
			}
		}
		t := taken{before: l.granted(), actor: actor, now: l.clock.Now}
		if t.notes, e.refused = l.take(actor, r); e.refused != nil {
			if l.state.Policy() == nil {
				l.doubt(doubtPolicy, noPolicy(e.refused))
			}
			l.cfg.Logger.Error("the policy file has errors, the policy in force stays", "err", e.refused)
			return
		}
		l.stand(e, "")
		t.after = l.granted()
		go func() { // it logs, also if the caller has given up
			defer close(compared)
			e.note(g.compare(t))
		}()
		e.note(func(out *Outcome) { out.warn(r.warnings...) })
		l.add(store.Record{Done: func(err error) { e.recorded <- err }})
	})
	<-g.reading // only now, so that readings are taken in their order
	switch {
	case err != nil:
		return Outcome{}, err
	case e.refused != nil:
		return Outcome{}, errors.Join(e.refused) // errors of the file, as admin tells them apart
	}
	<-compared
	return e.wait(ctx), nil
}

// taken is a policy that a reload has put in force.
type taken struct {
	actor         policy.Actor
	before, after *policy.Plan // what is granted by the policy before, and by this one
	now           time.Time
	notes         []view.Message
}

// compare logs what a policy changes, and returns a function that says it in an
// outcome. It may take long for a large policy, so the loop does not do it.
func (g *Gateway) compare(t taken) func(*Outcome) {
	var c Outcome
	p := t.after.Policy
	if old := t.before.Policy; old != nil {
		c.Differences = policy.Changes(old, p)
		c.Closed, c.Opened = policy.Moved(t.before, t.after, t.now)
	}
	messages := slices.Concat(view.Changes(c.Differences), t.notes, view.Moved("closed_now", c.Closed, p.Zone), view.Moved("opened_now", c.Opened, p.Zone))
	texts := view.Texts(messages)
	g.logLoaded(p, t.actor, texts)
	return func(out *Outcome) {
		out.Changes, out.ChangeMessages, out.Digest = append(out.Changes, texts...), messages, p.Digest
		out.Differences, out.Closed, out.Opened = c.Differences, c.Closed, c.Opened
	}
}

func (g *Gateway) logLoaded(p *policy.Policy, actor policy.Actor, changes []string) {
	g.cfg.Logger.Info("policy loaded", store.EventAttr(journal.PolicyLoaded), "digest", p.Digest, "actor", actor.Text, "changes", changes)
}

// granted is what the policy grants now: nothing while there is a doubt.
func (l *loop) granted() *policy.Plan {
	if l.plans.inForce.Doubt != "" {
		return l.plans.inForce
	}
	return l.plans.wanted
}

func noPolicy(err error) view.Message { return view.Say(view.NoPolicy, view.Args{"cause": err}) }

// reading is the content of the policy file, and of the private key's.
type reading struct {
	at       time.Time // when the reading began
	policy   *policy.Policy
	warnings []view.Message
	err      error
	key      keyReading
}

// read reads policy file and private key; g.reading is held. It takes as long as
// the disk does.
func (g *Gateway) read() reading {
	r := reading{at: g.cfg.Clock.Wall(), key: g.readKey()}
	r.policy, r.warnings, r.err = g.cfg.PolicyFile.Load()
	return r
}

// take puts a policy in force: closing in this turn, opening when the new grants
// are on disk. It returns what the operator must know besides the changes.
func (l *loop) take(actor policy.Actor, r reading) (notes []view.Message, err error) {
	p := r.policy
	if r.err != nil {
		l.cfg.Metrics.Reloaded(nil, l.clock.Now)
		l.file.problem = r.err
		return nil, r.err
	}
	old, entries := l.state.Policy(), store.PolicyEntries(actor.Text, p, l.state)
	shuts, held := l.state.Shuts(), l.state.Held()
	if err := l.state.Apply(l.clock.Now, actor.Text, policy.PolicyLoaded{Digest: p.Digest, Policy: p}); err != nil {
		return nil, err
	}
	if old == nil {
		notes = append(notes, view.Say("first_policy", nil))
	}
	for _, h := range l.state.Held() {
		if !slices.Contains(held, h) { // another name does not help
			notes = append(notes, view.Say("stays_shut", view.Args{"engineer": h.Engineer, "scope": string(h.Scope)}))
		}
	}
	if old != nil && !slices.Equal(old.Tunnel.Addresses, p.Tunnel.Addresses) {
		notes = append(notes, view.Say("tunnel_anew", nil))
		l.tearDown(session.PolicyChanged)
	}
	l.file.problem, l.file.changed = nil, false
	l.file.loads++
	l.file.loadedAt, l.file.warnings, l.file.warnedOn = l.clock.Now, r.warnings, policy.DateOf(r.at.In(p.Zone))
	l.trust(doubtPolicy)
	l.kernel.openAt = 0 // the kernel may take the openings of another policy
	l.plans.stale = true
	l.cfg.Metrics.Reloaded(p, l.clock.Now)
	for _, event := range store.NewKeys(shuts, l.state.Shuts()) {
		entries = append(entries, store.ShutEntries(actor.Text, event, l.state)...)
	}
	l.record(entries...)
	return notes, nil
}

// fileCheck is how the policy file on disk was found.
type fileCheck struct {
	digest string
	err    error
	loads  int // policyWatch.loads when the check began

	warnings []view.Message // of the policy in force
	on       policy.Date    // the date that they are for; zero: the check did not ask for them
}

// checkFile looks at the policy file, off the loop. On a new date it asks for the
// warnings of the policy in force, too.
func (l *loop) checkFile() {
	if l.file.checking {
		return
	}
	select {
	case l.g.reading <- struct{}{}:
	default:
		return // it is being read
	}
	l.file.checking = true
	p, now := l.state.Policy(), l.clock.Now
	c := fileCheck{loads: l.file.loads}
	if p != nil {
		if c.on = policy.DateOf(now.In(p.Zone)); c.on == l.file.warnedOn {
			c.on = policy.Date{}
		}
	}
	go func() {
		c.digest, c.err = l.cfg.PolicyFile.Check()
		if !c.on.IsZero() {
			c.warnings = l.cfg.PolicyFile.Warnings(p, now)
		}
		<-l.g.reading
		l.file.checks <- c
	}()
}

// turnSwitch takes the result of a look at the shut file.
func (l *loop) turnSwitch(why view.Message) {
	_, was := l.state.Switched()
	l.state.Switch(l.clock.Now, why.String())
	if _, on := l.state.Switched(); on != was {
		l.plans.stale = true
		l.record(store.SwitchEntry(why.String()))
	}
}

// checked takes the result of a check.
func (l *loop) checked(c fileCheck) {
	l.file.checking = false
	if c.loads != l.file.loads {
		return
	}
	if !c.on.IsZero() {
		l.file.warnings, l.file.warnedOn = c.warnings, c.on
	}
	news := c.err != nil && l.file.problem == nil
	l.file.problem, l.file.changed = c.err, c.err == nil && (l.state.Policy() == nil || c.digest != l.state.Digest())
	if news {
		l.cfg.Logger.Warn("the policy file on disk would not survive a restart", "err", c.err)
	}
}
