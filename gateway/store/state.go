package store

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
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

// An entry of kind state has in Count how many entries precede it and what Past they make, so that a
// start need not read them. Its Text is the JSON of remembered. One that is too long is several
// entries in a row, which are appended at once; only all of them are a state.

// stateVersion is the version of that JSON. A start passes over states of others.
const stateVersion = 1

// stateHeader is the Event of a state's entries.
type stateHeader struct {
	Version int `json:"version"`
	journal.SetBacks
}

// remembered is a Past as a state has it.
type remembered struct {
	State    policy.Kept           `json:"state"`
	Keys     []rememberedKey       `json:"keys"`     // sorted
	Attempts map[string]netip.Addr `json:"attempts"` // by engineer
	Newest   time.Time             `json:"newest"`
	Identity string                `json:"identity,omitempty"` // base64; empty: no entry names it
	Began    time.Time             `json:"began,omitzero"`
	Open     []journal.Entry       `json:"open"` // in order
}

// rememberedKey has the facts about an engineer's key.
type rememberedKey struct {
	Key       policy.Key `json:"key"`
	Timestamp string     `json:"timestamp,omitempty"` // hex
	Listed    *time.Time `json:"listed,omitempty"`
	Seen      *time.Time `json:"seen,omitempty"`
}

// entries are the state after the first count entries.
func (p *Past) entries(count int64) ([]journal.Entry, error) {
	r := remembered{State: p.State.Keep(), Attempts: p.Attempts, Newest: p.Newest, Began: p.Began, Open: p.stillOpen()}
	if p.Identity != (policy.Key{}) {
		r.Identity = p.Identity.String()
	}
	keys := map[policy.Key]bool{}
	for _, all := range []map[policy.Key]time.Time{p.Listed, p.Seen} {
		for key := range all {
			keys[key] = true
		}
	}
	for key := range p.Timestamps {
		keys[key] = true
	}
	for _, key := range slices.SortedFunc(maps.Keys(keys), func(a, b policy.Key) int { return bytes.Compare(a[:], b[:]) }) {
		k := rememberedKey{Key: key}
		if at, ok := p.Listed[key]; ok {
			k.Listed = &at
		}
		if at, ok := p.Seen[key]; ok {
			k.Seen = &at
		}
		if stamp, ok := p.Timestamps[key]; ok {
			k.Timestamp = hex.EncodeToString(stamp[:])
		}
		r.Keys = append(r.Keys, k)
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // as the journal's
	if err := encoder.Encode(r); err != nil {
		return nil, err
	}
	header, err := json.Marshal(stateHeader{stateVersion, journal.SetBacks{SetBack: p.SetBack}})
	if err != nil {
		return nil, err
	}
	return journal.SplitText(journal.Entry{Kind: journal.State, Actor: "gateway", Count: count, Event: header, Text: strings.TrimSpace(text.String())}), nil
}

// pastOf reads the entries of a state. They must be whole.
func pastOf(entries []journal.Entry) (*Past, error) {
	var header stateHeader
	if err := json.Unmarshal(entries[0].Event, &header); err != nil {
		return nil, err
	}
	if header.Version != stateVersion {
		return nil, fmt.Errorf("entry %d is a state of version %d: this kidoban knows version %d, so start one that knows it", entries[0].Index, header.Version, stateVersion)
	}
	var text strings.Builder
	for _, e := range entries {
		text.WriteString(e.Text)
	}
	var r remembered
	if err := json.Unmarshal([]byte(text.String()), &r); err != nil {
		return nil, err
	}
	p := newPast()
	p.State, p.Newest, p.Began, p.SetBack = r.State.State(), r.Newest, r.Began, header.SetBack
	maps.Copy(p.Attempts, r.Attempts)
	if r.Identity != "" {
		key, err := policy.ParseKey(r.Identity)
		if err != nil {
			return nil, err
		}
		p.Identity = key
	}
	for _, k := range r.Keys {
		if k.Listed != nil {
			p.Listed[k.Key] = *k.Listed
		}
		if k.Seen != nil {
			p.Seen[k.Key] = *k.Seen
		}
		if k.Timestamp == "" {
			continue
		}
		raw, err := hex.DecodeString(k.Timestamp)
		if err != nil || len(raw) != 12 {
			return nil, fmt.Errorf("%q is not a TAI64N timestamp", k.Timestamp)
		}
		p.Timestamps[k.Key] = [12]byte(raw)
	}
	for _, e := range r.Open {
		p.begin(e)
	}
	return p, nil
}

// resume takes an entry of a state, which counts if the past lacks what was before.
func (p *Past) resume(e journal.Entry) error {
	if !p.lacks {
		return nil
	}
	switch {
	case e.Index == e.Count:
		p.parts = []journal.Entry{e}
	case len(p.parts) > 0 && p.parts[0].Count == e.Count && p.parts[len(p.parts)-1].Index == e.Index-1:
		p.parts = append(p.parts, e)
	default:
		p.parts = nil
	}
	if len(p.parts) == 0 || len(p.parts) < max(e.Parts, 1) {
		return nil
	}
	whole, err := pastOf(p.parts)
	if err != nil {
		return err
	}
	whole.begun = true
	if e.Time.After(whole.Newest) {
		whole.Newest = e.Time
	}
	*p = *whole
	return nil
}

var errNoState = errors.New("its first entries are not there, and no state after them says what they were")
