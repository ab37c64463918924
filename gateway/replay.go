package gateway

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"net/netip"
	"regexp"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// replay is what a reading of the journal gives.
type replay struct {
	state      *policy.State
	timestamps map[policy.Key][12]byte
	listed     map[policy.Key]time.Time // when a policy's text first had the key
	seen       map[policy.Key]time.Time // the key's newest admission
	attempts   map[string]netip.Addr    // by engineer: where the last attempt came from
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
	case journal.Refused:
		if e.Engineer != "" && e.Target == "" {
			r.attempted(e)
		}
		if e.Timestamp != "" {
			_, err := r.stamped(e)
			return err
		}
	case journal.Admission:
		r.attempted(e)
		key, err := r.stamped(e)
		if err != nil {
			return err
		}
		if r.seen != nil {
			r.seen[key] = e.Time
		}
	case journal.WindowOpened, journal.SessionOpened:
		r.opened(e)
	case journal.WindowClosed, journal.SessionClosed:
		delete(r.open, replayName(e))
	}
	return nil
}

// stamped notes the timestamp of an initiation, and gives its key.
func (r *replay) stamped(e journal.Entry) (policy.Key, error) {
	key, err := policy.ParseKey(e.Key)
	if err != nil {
		return key, err
	}
	raw, err := hex.DecodeString(e.Timestamp)
	if err != nil || len(raw) != 12 {
		return key, fmt.Errorf("%q is not a TAI64N timestamp", e.Timestamp)
	}
	if have := r.timestamps[key]; r.timestamps != nil && string(raw) > string(have[:]) {
		r.timestamps[key] = [12]byte(raw)
	}
	return key, nil
}

// attempted notes where an engineer came from.
func (r *replay) attempted(e journal.Entry) {
	if a, err := netip.ParseAddr(e.Source); err == nil && r.attempts != nil {
		r.attempts[e.Vendor+"/"+e.Engineer] = a
	}
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
