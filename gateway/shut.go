package gateway

import (
	"encoding/json"
	"fmt"
	"slices"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// keysMax is how many keys of a shut an entry takes: 47 bytes each, of 64 KiB.
const keysMax = 500

// shutEntries are what the journal keeps of a shut: one entry, and others for
// the keys that find no room in it.
func shutEntries(actor string, event policy.Shut) []journal.Entry {
	chunks := slices.Collect(slices.Chunk(event.Keys, keysMax))
	if len(chunks) == 0 {
		chunks = [][]policy.Key{nil}
	}
	var entries []journal.Entry
	for i, keys := range chunks {
		event.Keys, event.Added = keys, event.Added || i > 0
		e := eventEntry(journal.Shut, actor, event.Reason, event.Scope, event)
		if event.Added {
			e.Text = fmt.Sprintf("%d keys more", len(keys))
		}
		entries = append(entries, e)
	}
	return entries
}

// eventEntry is an operator's decision as the journal keeps it.
func eventEntry(kind journal.Kind, actor, reason string, scope policy.Scope, event policy.Event) journal.Entry {
	text, err := json.Marshal(event)
	if err != nil {
		panic(err) // our own types
	}
	return journal.Entry{Kind: kind, Actor: actor, Reason: reason, Scope: string(scope), Event: text}
}

// came gives the keys that have come to scopes that were shut before, as
// events of their own.
func came(before, now []policy.ShutRecord) []policy.Shut {
	had := map[policy.Scope][]policy.Key{}
	for _, r := range before {
		had[r.Scope] = r.Keys
	}
	var events []policy.Shut
	for _, r := range now {
		if keys := without(r.Keys, had[r.Scope]); len(keys) > 0 {
			events = append(events, policy.Shut{Scope: r.Scope, Reason: r.Reason, Keys: keys, Added: true})
		}
	}
	return events
}

func without(keys, these []policy.Key) []policy.Key {
	set := make(map[policy.Key]bool, len(these))
	for _, k := range these {
		set[k] = true
	}
	return slices.DeleteFunc(slices.Clone(keys), func(k policy.Key) bool { return set[k] })
}

// stayShut says whom a reload gave another name that does not help.
func stayShut(before, now []policy.Held) []string {
	var lines []string
	for _, h := range now {
		if !slices.Contains(before, h) {
			lines = append(lines, fmt.Sprintf("%s stays shut: it was closed as %s", h.Engineer, h.Scope))
		}
	}
	return lines
}
