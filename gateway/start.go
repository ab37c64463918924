package gateway

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// start replays the journal, closes in it what a crash left open, and loads
// the policy. What fails becomes a doubt; the loop runs all the same.
func (l *loop) start() {
	if l.boot < bootWait && !l.synchronized {
		l.doubt(doubtClock, fmt.Sprintf("the machine has just booted and its clock is not synchronized yet; waiting until %s after boot", bootWait))
	}
	if err := l.openJournal(); err != nil {
		l.doubt(doubtJournal, fmt.Sprintf("the journal does not open: %v; `kidoban recover` moves it aside and begins a new one", err))
		if l.cfg.ReadDamaged != nil {
			r := replay{state: l.state}
			r.read(l.cfg.ReadDamaged())
		}
	}
	l.loadMarker()
	if _, err := l.load("gateway"); err != nil {
		l.doubt(doubtPolicy, policyDoubt(err))
	}
}

func policyDoubt(err error) string {
	return fmt.Sprintf("there is no policy in force: %v; mend it, then `kidoban reload`", err)
}

// openJournal opens, replays, and records a start.
func (l *loop) openJournal() error {
	j, err := l.cfg.OpenJournal()
	if err != nil {
		return err
	}
	r := replay{state: l.state, timestamps: map[policy.Key][12]byte{}, open: map[string]journal.Entry{},
		listed: map[policy.Key]time.Time{}, seen: map[policy.Key]time.Time{}}
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
	l.record(append(r.closings(nil), journal.Entry{Kind: journal.Start, Actor: "gateway", Text: l.cfg.Version})...)
	l.doubtClock()
	return nil
}

// replay is what a reading of the journal gives.
type replay struct {
	state      *policy.State
	timestamps map[policy.Key][12]byte
	listed     map[policy.Key]time.Time // when a policy's text first had the key
	seen       map[policy.Key]time.Time // the key's newest admission
	open       map[string]journal.Entry // openings without a closing, by replayName
	order      []string                 // of open
	newest     time.Time
	// accepted is the time of the last entry when an operator accepted a clock
	// that was behind it. The journal's times stand still until that clock
	// has caught up, and say nothing of it meanwhile.
	accepted time.Time
}

// replayName names what an opening opens and a closing closes.
func replayName(e journal.Entry) string {
	if e.Session != "" {
		return "session " + e.Session
	}
	return "grant " + e.Grant
}

// read applies every entry. A nil map is not filled.
func (r *replay) read(entries iter.Seq2[journal.Entry, error]) error {
	for e, err := range entries {
		if err != nil {
			return err
		}
		if e.Time.After(r.newest) && e.Time.After(r.accepted) {
			r.newest = e.Time
		}
		if err := r.apply(e); err != nil {
			return fmt.Errorf("entry of %s, %s: %w", e.Time.Format(time.RFC3339), e.Kind, err)
		}
	}
	return nil
}

func (r *replay) apply(e journal.Entry) error {
	switch e.Kind {
	case journal.Shut:
		var event policy.Shut
		if err := json.Unmarshal(e.Event, &event); err != nil {
			return err
		}
		return r.state.Apply(e.Time, e.Actor, event)
	case journal.Reopened:
		var event policy.Reopened
		if err := json.Unmarshal(e.Event, &event); err != nil {
			return err
		}
		// What was shut by a marker alone was never recorded as shut.
		_ = r.state.Apply(e.Time, e.Actor, event)
	case journal.PolicyText:
		r.lists(e)
	case journal.PolicyLoaded:
		return r.state.Apply(e.Time, e.Actor, policy.PolicyLoaded{Digest: e.Digest})
	case journal.Recovery:
		clear(r.timestamps)
		if !e.From.IsZero() && e.From.Before(e.Time) {
			r.newest, r.accepted = e.From, e.Time
		}
	case journal.Admission:
		key, err := policy.ParseKey(e.Key)
		if err != nil {
			return err
		}
		if r.seen != nil {
			r.seen[key] = e.Time
		}
		raw, err := hex.DecodeString(e.Timestamp)
		if err != nil || len(raw) != 12 {
			return fmt.Errorf("%q is not a TAI64N timestamp", e.Timestamp)
		}
		if have := r.timestamps[key]; r.timestamps != nil && string(raw) > string(have[:]) {
			r.timestamps[key] = [12]byte(raw)
		}
	case journal.WindowOpened, journal.SessionOpened:
		r.opened(e)
	case journal.WindowClosed, journal.SessionClosed:
		delete(r.open, replayName(e))
	}
	return nil
}

// lists notes the keys in a policy's text. One that the text's parts cut in
// two is known by the next policy.
func (r *replay) lists(e journal.Entry) {
	if r.listed == nil {
		return
	}
	for _, text := range keyText.FindAllString(e.Text, -1) {
		key, err := policy.ParseKey(text)
		if _, known := r.listed[key]; err == nil && !known {
			r.listed[key] = e.Time
		}
	}
}

// keyText is a WireGuard key as policies have it.
var keyText = regexp.MustCompile(`[A-Za-z0-9+/]{43}=`)

func (r *replay) opened(e journal.Entry) {
	if r.open == nil {
		return
	}
	name := replayName(e)
	if _, ok := r.open[name]; !ok {
		r.order = append(r.order, name)
	}
	r.open[name] = e
}

// closings closes in the journal what it has open, sessions first, then the
// windows they stood on: with the closing that this process knows of and could
// not write, else as what was open when the last process died.
func (r *replay) closings(known map[string]journal.Entry) []journal.Entry {
	var entries []journal.Entry
	for _, kind := range []journal.Kind{journal.SessionOpened, journal.WindowOpened} {
		for _, name := range r.order {
			e, ok := r.open[name]
			if !ok || e.Kind != kind {
				continue
			}
			delete(r.open, name)
			if closed, ok := known[name]; ok {
				entries = append(entries, closed)
				continue
			}
			closed := journal.SessionClosed
			if kind == journal.WindowOpened {
				closed = journal.WindowClosed
			}
			entries = append(entries, journal.Entry{Kind: closed, Actor: "gateway", Vendor: e.Vendor, Engineer: e.Engineer, Window: e.Window,
				Grant: e.Grant, Grants: e.Grants, Session: e.Session, Source: e.Source, From: e.From, Reason: string(Crashed)})
		}
	}
	return entries
}

// loadMarker shuts what was shut while the journal was dead.
func (l *loop) loadMarker() {
	marked, err := l.cfg.Marker.Load()
	if err != nil {
		// What it said is lost; that something was shut is not.
		l.cfg.Logger.Error("a marker of what is shut cannot be read: everything is shut", "err", err)
		marked = append(marked, policy.ShutRecord{Scope: policy.All, At: l.now, Actor: "gateway", Reason: clip(fmt.Sprintf("the marker cannot be read: %v", err))})
	}
	if len(marked) == 0 {
		return
	}
	l.marked = true
	var entries []journal.Entry
	for _, r := range marked {
		event := policy.Shut{Scope: r.Scope, Reason: r.Reason, Keys: r.Keys}
		if have, ok := l.state.Shut(r.Scope); ok {
			event.Keys, event.Added = without(r.Keys, have.Keys), true
			if len(event.Keys) == 0 {
				continue
			}
		}
		if err := l.state.Apply(r.At, r.Actor, event); err == nil {
			entries = append(entries, shutEntries(r.Actor, event)...)
		}
	}
	// One record: the marker goes when the journal has all that it says.
	l.add(record{entries: entries, done: func(l *loop, err error) {
		if err == nil {
			l.unmark()
		}
	}})
}

// recordEvent sends an operator's decision to the journal.
func (l *loop) recordEvent(e journal.Entry, done func(error)) {
	l.add(record{entries: []journal.Entry{e}, done: func(_ *loop, err error) { done(err) }})
}

// load reads the policy file and puts it in force: what it closes closes in
// this turn, what it opens waits for the disk as every opening does.
func (l *loop) load(actor string) ([]string, error) {
	return l.take(actor, l.g.read())
}

// reading is what the policy file was found to say.
type reading struct {
	number   uint64 // in the order in which readings began
	policy   *policy.Policy
	warnings []string
	err      error
}

// read reads the policy file. It takes as long as the disk does.
func (g *Gateway) read() reading {
	r := reading{number: g.readings.Add(1)}
	r.policy, r.warnings, r.err = g.cfg.LoadPolicy()
	return r
}

func (l *loop) take(actor string, r reading) ([]string, error) {
	if r.number < l.taken {
		return nil, errOvertaken
	}
	l.taken = r.number
	p, warnings, err := r.policy, r.warnings, r.err
	l.cfg.Metrics.reloaded(err == nil)
	if err != nil {
		l.fileError = err.Error()
		return nil, err
	}
	old := l.state.Policy()
	lines := changes(old, p)
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
	l.loadedAt, l.warnings = l.now, warnings
	l.trust(doubtPolicy)
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
		if l.doubts[doubtJournal] != "" {
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
}

// checkFile looks at the policy file, off the loop.
func (l *loop) checkFile() {
	if l.checking {
		return
	}
	l.checking = true
	go func(loads int) {
		digest, err := l.cfg.CheckFile()
		l.fileChecks <- fileCheck{digest, err, loads}
	}(l.loads)
}

// checked hears of the policy file.
func (l *loop) checked(c fileCheck) {
	l.checking = false
	if c.loads != l.loads {
		return
	}
	l.fileError, l.fileChanged = "", c.err == nil && (l.state.Policy() == nil || c.digest != l.state.Digest())
	if c.err != nil {
		l.fileError = c.err.Error()
	}
}
