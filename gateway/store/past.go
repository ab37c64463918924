package store

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// Past is the state of a gateway as its journal has it.
type Past struct {
	State      *policy.State            // without the policy, which is read from its file
	Timestamps map[policy.Key][12]byte  // the greatest handshake timestamp of each key
	Listed     map[policy.Key]time.Time // when a policy first had the key
	Seen       map[policy.Key]time.Time // the key's newest admission; a host's newest use
	Attempts   map[string]netip.Addr    // by engineer: where the last attempt came from
	Newest     time.Time                // the newest time that an entry shows since the last recovery
	Identity   policy.Key               // the gateway's public key; zero: no entry names it
	Began      time.Time                // the first start, with an empty state folder; zero: not known
	SetBack    []int64                  // the entries at which the times go back

	open   map[string]opening // openings without a closing, by nameOf
	opened int                // how many there were

	begun bool            // an entry was read
	lacks bool            // the first one was not the journal's first; its next whole state says what was before
	parts []journal.Entry // of that state, so far
}

// opening is an opening without a closing.
type opening struct {
	journal.Entry
	place int // among all openings
}

// FirstStart is the reason of a start that found an empty state folder.
const FirstStart = "first_start"

func newPast() *Past {
	return &Past{State: policy.NewState(), Timestamps: map[policy.Key][12]byte{}, Listed: map[policy.Key]time.Time{},
		Seen: map[policy.Key]time.Time{}, Attempts: map[string]netip.Addr{}, open: map[string]opening{}}
}

// EndOf is the end of the grant of a closing, if it was closed at its end; else zero.
func EndOf(closing journal.Entry) time.Time {
	if closing.Reason != windowClosed {
		return time.Time{}
	}
	return closing.Until
}

// nameOf names the session or grant of an opening and of its closing.
func nameOf(e journal.Entry) string {
	if e.Session != "" {
		return "session " + e.Session
	}
	return "grant " + e.Grant
}

// Read reads the past from the entries of a journal.
func Read(entries iter.Seq2[journal.Entry, error]) (*Past, error) {
	p := newPast()
	for e, err := range entries {
		if err != nil {
			return nil, err
		}
		if err := p.apply(e); err != nil {
			return nil, fmt.Errorf("entry of %s, %s: %w", e.Time.Format(time.RFC3339), e.Kind, err)
		}
	}
	return p, nil
}

func (p *Past) apply(e journal.Entry) error {
	if err := e.Newer(); err != nil {
		return err
	}
	if !p.begun {
		p.begun, p.lacks = true, e.Index > 0
	}
	if e.Time.Before(p.Newest) {
		p.SetBack = append(p.SetBack, e.Index)
	} else {
		p.Newest = e.Time
	}
	switch e.Kind {
	case journal.State:
		return p.resume(e)
	case journal.Start:
		if e.Reason == FirstStart {
			p.Began = e.Time
		}
	case journal.Shut, journal.Reopened, journal.PolicyLoaded:
		return p.event(e)
	case journal.Requested, journal.Approved, journal.Denied, journal.Withdrawn, journal.ExtensionAsked, journal.Extended,
		journal.Shortened, journal.Revoked, journal.Ratified, journal.Reported, journal.Reviewed:
		if e.Kind == journal.Reported && e.Request == "" {
			return nil // the report of a month was made
		}
		return p.event(e)
	case journal.SwitchShut, journal.SwitchOpened:
		p.State.Switch(e.Time, e.Reason)
	case journal.Recovery:
		clear(p.Timestamps)
		if !e.From.IsZero() {
			p.accept(e.From)
		}
	case journal.Identity:
		key, err := policy.ParseKey(e.Key)
		if err != nil {
			return err
		}
		p.Identity = key
	case journal.Refused:
		if e.Engineer != "" && e.Target == "" {
			p.attempted(e)
		}
		if e.Timestamp != "" {
			_, err := p.stamped(e)
			return err
		}
	case journal.Admission:
		p.attempted(e)
		key, err := p.stamped(e)
		if err != nil {
			return err
		}
		p.Seen[key] = e.Time
	case journal.WindowOpened, journal.SessionOpened:
		p.begin(e)
		p.hostSeen(e)
		p.State.NoteGrant(e.Request, time.Time{})
	case journal.Used:
		p.hostSeen(p.open[nameOf(e)].Entry)
	case journal.WindowClosed, journal.SessionClosed:
		p.State.NoteGrant(e.Request, EndOf(e))
		delete(p.open, nameOf(e))
	}
	return nil
}

// hostSeen notes the session of a host behind a plain line as its use at p.Newest: it has no admissions.
func (p *Past) hostSeen(opened journal.Entry) {
	if a, err := netip.ParseAddr(opened.Source); err == nil && opened.Session != "" && policy.IsHost(opened.Engineer) {
		if key := policy.HostKey(a); !p.Listed[key].IsZero() {
			p.Seen[key] = p.Newest
		}
	}
}

// begin notes an opening. One that is noted already keeps its place.
func (p *Past) begin(e journal.Entry) {
	e.Index = 0
	was, ok := p.open[nameOf(e)]
	if !ok {
		p.opened++
		was.place = p.opened
	}
	p.open[nameOf(e)] = opening{e, was.place}
}

// stillOpen lists the openings without a closing, in order.
func (p *Past) stillOpen() (entries []journal.Entry) {
	for _, o := range slices.SortedFunc(maps.Values(p.open), func(a, b opening) int { return cmp.Compare(a.place, b.place) }) {
		entries = append(entries, o.Entry)
	}
	return entries
}

// accept takes the times later than a clock that an operator accepted back to it.
func (p *Past) accept(clock time.Time) {
	p.Newest = clock
	if p.Began.After(clock) {
		p.Began = clock
	}
	for _, times := range []map[policy.Key]time.Time{p.Listed, p.Seen} {
		for key, at := range times {
			if at.After(clock) {
				times[key] = clock
			}
		}
	}
}

// event applies an operator's decision.
func (p *Past) event(e journal.Entry) error {
	event, err := policy.DecodeEvent(string(e.Kind), e.Event)
	if err != nil {
		return err
	}
	if loaded, ok := event.(policy.PolicyLoaded); ok {
		for _, x := range loaded.Roster {
			if _, known := p.Listed[x.Key]; !known {
				p.Listed[x.Key] = e.Time
			}
		}
		loaded.Digest = e.Digest
		event = loaded
	}
	err = p.State.Apply(e.Time, e.Actor, event)
	if e.Kind == journal.Reopened || e.Request != "" {
		// A scope that only the latch had was never recorded as shut. An event of a request
		// whose record was overtaken was recorded, and did not count.
		return nil
	}
	return err
}

// stamped notes the timestamp of an initiation, and returns its key.
func (p *Past) stamped(e journal.Entry) (policy.Key, error) {
	key, err := policy.ParseKey(e.Key)
	if err != nil {
		return key, err
	}
	raw, err := hex.DecodeString(e.Timestamp)
	if err != nil || len(raw) != 12 {
		return key, fmt.Errorf("%q is not a TAI64N timestamp", e.Timestamp)
	}
	if have := p.Timestamps[key]; string(raw) > string(have[:]) {
		p.Timestamps[key] = [12]byte(raw)
	}
	return key, nil
}

// attempted notes where an engineer came from.
func (p *Past) attempted(e journal.Entry) {
	if a, err := netip.ParseAddr(e.Source); err == nil {
		p.Attempts[e.Vendor+"/"+e.Engineer] = a
	}
}

// Closings returns entries that close the openings without a closing: sessions,
// then windows. It takes them from known, the closings that this process could not
// write; all others have the reason crashed.
func (p *Past) Closings(known map[string]journal.Entry) (entries []journal.Entry) {
	for _, kind := range []journal.Kind{journal.SessionOpened, journal.WindowOpened} {
		for _, e := range p.stillOpen() {
			name := nameOf(e)
			if e.Kind != kind {
				continue
			}
			delete(p.open, name)
			if closed, ok := known[name]; ok {
				p.State.NoteGrant(closed.Request, EndOf(closed))
				entries = append(entries, closed)
				continue
			}
			p.State.NoteGrant(e.Request, time.Time{})
			closed := journal.SessionClosed
			if kind == journal.WindowOpened {
				closed = journal.WindowClosed
			}
			entries = append(entries, journal.Entry{Kind: closed, Actor: "gateway", Vendor: e.Vendor, VendorName: e.VendorName,
				Engineer: e.Engineer, EngineerName: e.EngineerName, Request: e.Request, Window: e.Window, Grant: e.Grant, Grants: e.Grants, Session: e.Session, Source: e.Source, From: e.From, Reason: crashed})
		}
	}
	return entries
}

// Reasons of closings; package session lists them among the endings.
const (
	crashed      = "crashed" // the last process did not write the closing
	unrecorded   = "unrecorded"
	windowClosed = "window_closed" // a grant came to its end
)
