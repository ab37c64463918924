package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// readWithin is how long a reload waits for a reading of the policy file that is
// under way already.
const readWithin = 5 * time.Second

// Reload reads the policy file again. One with errors leaves the policy in
// force as it is and gives the errors. There is one reading of the file at a
// time: of several reloads each waits for the one before it.
func (g *Gateway) Reload(ctx context.Context, actor string) (Outcome, error) {
	timeout := time.NewTimer(readWithin)
	defer timeout.Stop()
	select {
	case g.reading <- struct{}{}:
	case <-ctx.Done():
		return Outcome{}, ctx.Err()
	case <-timeout.C:
		return Outcome{}, fmt.Errorf("nothing was done: the policy file is being read already, for more than %s, and there is one reading at a time; try again, and if that does not help its disk does not answer", readWithin)
	}
	r := g.read()
	p, warnings := r.policy, r.warnings
	e := newEffect()
	var refused error
	err := g.send(ctx, func(l *loop) {
		var lines []string
		if lines, refused = l.take(actor, r); refused != nil {
			if l.state.Policy() == nil {
				l.doubt(doubtPolicy, noPolicy(refused))
			}
			l.cfg.Logger.Error("the policy file has errors, the policy in force stays", "err", refused)
			return
		}
		l.standing(e)
		e.note(func(out *Outcome) {
			out.Changes, out.Digest = lines, p.Digest
			for _, w := range warnings {
				out.Warnings = append(out.Warnings, w.String())
			}
		})
		l.add(record{done: func(_ *loop, err error) { e.recorded <- err }})
	})
	<-g.reading // only now: what is read later is taken later
	switch {
	case err != nil:
		return Outcome{}, err
	case refused != nil:
		return Outcome{}, errors.Join(refused) // errors of the file, as admin tells them apart
	}
	return e.wait(ctx), nil
}

func noPolicy(err error) view.Message { return view.Say(view.NoPolicy, view.Args{"cause": err}) }

// load reads the policy file and puts it in force: what it closes closes in
// this turn, what it opens waits for the disk as every opening does.
func (l *loop) load(actor string) ([]string, error) {
	l.g.reading <- struct{}{}
	defer func() { <-l.g.reading }()
	return l.take(actor, l.g.read())
}

// reading is what the policy file was found to say.
type reading struct {
	at       time.Time // when it began
	policy   *policy.Policy
	warnings []view.Message
	err      error
}

// read reads the policy file, for who holds g.reading. It takes as long as the
// disk does.
func (g *Gateway) read() reading {
	r := reading{at: g.cfg.Clock.Wall()}
	r.policy, r.warnings, r.err = g.cfg.LoadPolicy()
	return r
}

func (l *loop) take(actor string, r reading) ([]string, error) {
	p, warnings, err := r.policy, r.warnings, r.err
	l.cfg.Metrics.reloaded(err == nil)
	if err != nil {
		l.fileError = err.Error()
		return nil, err
	}
	old := l.state.Policy()
	lines := []string{"first policy"}
	if old != nil {
		lines = nil
		for _, c := range policy.Changes(old, p) {
			lines = append(lines, c.String())
		}
	}
	known := l.state.Digest() == p.Digest // then the journal has its text already
	shut, held := l.state.Shuts(), l.state.Held()
	if err := l.state.Apply(l.now, actor, policy.PolicyLoaded{Digest: p.Digest, Policy: p}); err != nil {
		return nil, err
	}
	lines = append(lines, stayShut(held, l.state.Held())...)
	if old != nil && !slices.Equal(old.Tunnel.Addresses, p.Tunnel.Addresses) {
		lines = append(lines, "the tunnel has other addresses of its own and is built anew: every session ends")
		l.sever(PolicyChanged)
	}
	l.fileError, l.fileChanged = "", false
	l.loads++
	l.loadedAt, l.warnings, l.warnedOn = l.now, warnings, policy.DateOf(r.at.In(p.Zone))
	l.trust(doubtPolicy)
	l.openAt = 0 // another policy may open what the kernel takes
	l.replan = true
	l.cfg.Metrics.policy(p, l.now)
	var entries []journal.Entry
	if !known {
		entries = journal.SplitText(journal.Entry{Kind: journal.PolicyText, Actor: actor, Digest: p.Digest, Text: p.Text})
	}
	entries = append(entries, journal.Entry{Kind: journal.PolicyLoaded, Actor: actor, Digest: p.Digest})
	if keys := came(shut, l.state.Shuts()); len(keys) > 0 {
		for _, event := range keys {
			entries = append(entries, shutEntries(actor, event)...)
		}
		if l.doubted(doubtJournal) {
			l.mark()
		}
	}
	l.record(entries...)
	l.cfg.Logger.Info("policy loaded", eventAttr(journal.PolicyLoaded), "digest", p.Digest, "actor", actor, "changes", slices.Clone(lines))
	return lines, nil
}

// fileCheck is how the policy file on disk was found.
type fileCheck struct {
	digest string
	err    error
	loads  int // loop.loads when it was asked

	warnings []view.Message // of the policy in force
	on       policy.Date    // the date for which they are; zero: nobody asked for them
}

// checkFile looks at the policy file, off the loop, and on another date than
// before at what is to be warned of in the policy in force.
func (l *loop) checkFile() {
	if l.checking {
		return
	}
	select {
	case l.g.reading <- struct{}{}:
	default:
		return // somebody reads it
	}
	l.checking = true
	p, now := l.state.Policy(), l.now
	var today policy.Date
	if p != nil && l.cfg.Warn != nil {
		if today = policy.DateOf(now.In(p.Zone)); today == l.warnedOn {
			today = policy.Date{}
		}
	}
	go func(loads int) {
		c := fileCheck{loads: loads, on: today}
		c.digest, c.err = l.cfg.CheckFile()
		if !today.IsZero() {
			c.warnings = l.cfg.Warn(p, now)
		}
		<-l.g.reading
		l.fileChecks <- c
	}(l.loads)
}

// checked hears of the policy file.
func (l *loop) checked(c fileCheck) {
	l.checking = false
	if c.loads != l.loads {
		return
	}
	if !c.on.IsZero() {
		l.warnings, l.warnedOn = c.warnings, c.on
	}
	before := l.fileError
	l.fileError, l.fileChanged = "", c.err == nil && (l.state.Policy() == nil || c.digest != l.state.Digest())
	if c.err != nil {
		l.fileError = c.err.Error()
	}
	if l.fileError != "" && l.fileError != before {
		l.cfg.Logger.Warn("the policy file on disk would not survive a restart", "err", l.fileError)
	}
}
