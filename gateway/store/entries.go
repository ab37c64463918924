package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// KeysMax is how many keys of a shut one entry takes: 47 bytes each, of 64 KiB.
const KeysMax = 500

// EventEntry is an operator's decision as the journal keeps it.
func EventEntry(kind journal.Kind, actor, reason string, scope policy.Scope, event policy.Event) journal.Entry {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // as the journal's: six bytes for one would not fit
	if err := encoder.Encode(event); err != nil {
		panic(err) // our own types
	}
	return journal.Entry{Kind: kind, Actor: actor, Reason: reason, Scope: string(scope), Event: bytes.TrimSpace(text.Bytes())}
}

// RequestEntry is the entry of an event of a request, whose terms these are.
func RequestEntry(actor string, event policy.RequestEvent, t policy.Terms) journal.Entry {
	kind, reason := journal.Requested, t.Purpose
	if d, ok := event.(policy.Verdict); ok {
		kind, reason = journal.Kind(d.Verb), d.Reason
		if !d.Until.IsZero() {
			t.Until = d.Until
		} else if d.Verb == policy.Approve && t.For > 0 { // as it opens, if this is the last approval
			t.From = d.Given.Truncate(time.Second)
			t.Until = t.From.Add(time.Duration(t.For) * time.Second)
		}
	}
	entry := EventEntry(kind, actor, reason, "", event)
	if kind == journal.Requested && t.Emergency {
		entry.Text = "emergency"
	}
	entry.Request, entry.Vendor, entry.From, entry.Until = event.Request(), t.Vendor, t.From, t.Until
	return entry
}

// ShutEntries are the entries of a shut: one, and more for the keys that find
// no room in it. s knows the request that it revokes, if it revokes one.
func ShutEntries(actor string, event policy.Shut, s *policy.State) (entries []journal.Entry) {
	chunks := slices.Collect(slices.Chunk(event.Keys, KeysMax))
	if len(chunks) == 0 {
		chunks = [][]policy.Key{nil}
	}
	for i, keys := range chunks {
		event.Keys, event.Added = keys, event.Added || i > 0
		e := EventEntry(journal.Shut, actor, event.Reason, event.Scope, event)
		if event.Scope.IsRequest() {
			e.Kind, e.Request = journal.Revoked, string(event.Scope)
			if r := s.Request(e.Request); r != nil {
				e.Vendor = r.Vendor
			}
		}
		if event.Added {
			e.Text = fmt.Sprintf("%d keys more", len(keys))
		}
		entries = append(entries, e)
	}
	return entries
}

// PolicyEntries say that a policy is in force. They have its digest, and its text
// and engineers if the state before lacks these.
func PolicyEntries(actor string, p *policy.Policy, before *policy.State) (entries []journal.Entry) {
	if before.Digest() != p.Digest {
		entries = journal.SplitText(journal.Entry{Kind: journal.PolicyText, Actor: actor, Digest: p.Digest, Text: p.Text})
	}
	loaded := policy.PolicyLoaded{Digest: p.Digest, Policy: p}
	parts := []policy.PolicyLoaded{{Digest: p.Digest}}
	if !before.Lists(p.Digest) {
		parts = loaded.Parts()
	}
	for _, part := range parts {
		e := EventEntry(journal.PolicyLoaded, actor, "", "", part)
		e.Digest = p.Digest
		entries = append(entries, e)
	}
	return entries
}

// ReopenEntry records a reopening, or what it led to: an approval of it.
func ReopenEntry(actor string, asked policy.Reopened, event policy.Event) journal.Entry {
	kind := journal.Reopened
	if _, ok := event.(policy.ReopenApproved); ok {
		kind = journal.Approved
	}
	return EventEntry(kind, actor, asked.Reason, asked.Scope, event)
}

// SwitchEntry records why the shut file shuts everything from now on; with an empty reason that it
// does not any more.
func SwitchEntry(reason string) journal.Entry {
	kind := journal.SwitchShut
	if reason == "" {
		kind = journal.SwitchOpened
	}
	return journal.Entry{Kind: kind, Actor: policy.SwitchActor, Scope: string(policy.All), Reason: reason}
}

// StateEntries record the closes, the shut file's too, and the policy in force.
func StateEntries(s *policy.State) (entries []journal.Entry) {
	if r, on := s.Switched(); on {
		entries = append(entries, SwitchEntry(r.Reason))
	}
	for _, r := range s.Shuts() {
		keys := r.Keys
		for _, c := range r.Closes() {
			entries = append(entries, ShutEntries(c.Actor, policy.Shut{Scope: r.Scope, Reason: c.Reason, Keys: keys}, s)...)
			keys = nil
		}
	}
	if p := s.Policy(); p != nil {
		entries = append(entries, PolicyEntries(policy.Gateway.Text, p, policy.NewState())...)
	}
	return entries
}

// ShutAlso adds closes to a state without a policy, which takes any scope. It
// returns the entries of the closes that the state did not have.
func ShutAlso(state *policy.State, shut []policy.ShutRecord) (entries []journal.Entry) {
	for _, r := range shut {
		for _, c := range r.Closes() {
			have, ok := state.Shut(r.Scope)
			event := policy.Shut{Scope: r.Scope, Reason: c.Reason, Keys: without(r.Keys, have.Keys), Added: ok && have.Has(c.Actor, c.Reason)}
			if event.Added && len(event.Keys) == 0 {
				continue
			}
			if err := state.Apply(c.At, c.Actor, event); err == nil {
				entries = append(entries, ShutEntries(c.Actor, event, state)...)
			}
		}
	}
	return entries
}

// NewKeys returns the keys that came to scopes which were shut before, as events
// of their own.
func NewKeys(before, now []policy.ShutRecord) (events []policy.Shut) {
	had := map[policy.Scope][]policy.Key{}
	for _, r := range before {
		had[r.Scope] = r.Keys
	}
	for _, r := range now {
		if keys := without(r.Keys, had[r.Scope]); len(keys) > 0 {
			events = append(events, policy.Shut{Scope: r.Scope, Reason: r.Reason, Keys: keys, Added: true})
		}
	}
	return events
}

// without returns the keys that are not among others.
func without(keys, others []policy.Key) []policy.Key {
	set := make(map[policy.Key]bool, len(others))
	for _, k := range others {
		set[k] = true
	}
	return slices.DeleteFunc(slices.Clone(keys), func(k policy.Key) bool { return set[k] })
}
