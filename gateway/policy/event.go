package policy

import (
	"encoding/json"
	"slices"
)

// Event changes a State. The journal keeps the events, and replaying them in
// order gives the same State.
type Event interface{ event() }

// PolicyLoaded puts a policy in force. The journal keeps the digest and the
// roster only: after a replay the policy file is read anew.
type PolicyLoaded struct {
	Digest string  `json:"digest"`
	Policy *Policy `json:"-"`
	// Roster lists the engineers of the policy. It is empty in entries of
	// version 1.0 and where the state before has the same policy.
	Roster []Listed `json:"roster,omitempty"`
	// Added says that the roster goes on from that of the entry before.
	Added bool `json:"added,omitempty"`
}

// Listed is an engineer of a policy, by name and key.
type Listed struct {
	Vendor   string `json:"vendor"`
	Engineer string `json:"engineer"`
	Key      Key    `json:"key"`
}

func (PolicyLoaded) event() {}
func (Shut) event()         {}
func (Reopened) event()     {}

// rosterMax is how many engineers one entry of the journal has room for: an
// entry takes 64 KiB, and an engineer up to 210 bytes.
const rosterMax = 300

// Parts gives the event as the journal keeps it: several events with a part of
// the roster each, if it is long.
func (e PolicyLoaded) Parts() []PolicyLoaded {
	var roster []Listed
	for _, v := range e.Policy.Vendors {
		for _, g := range v.Engineers {
			roster = append(roster, Listed{v.Name, g.Name, g.Key})
		}
	}
	parts := []PolicyLoaded{}
	for part := range slices.Chunk(roster, rosterMax) {
		parts = append(parts, PolicyLoaded{Digest: e.Digest, Roster: part, Added: len(parts) > 0})
	}
	if len(parts) == 0 {
		parts = append(parts, PolicyLoaded{Digest: e.Digest})
	}
	return parts
}

// DecodeEvent reads an event of a journal entry by the entry's kind. It gives
// nil for a kind that changes no State. An entry policy_loaded of an old journal
// has no event; it gives an empty PolicyLoaded.
func DecodeEvent(kind string, raw []byte) (Event, error) {
	switch kind {
	case "policy_loaded":
		if len(raw) == 0 {
			return PolicyLoaded{}, nil
		}
		return decode[PolicyLoaded](raw)
	case "shut":
		return decode[Shut](raw)
	case "reopened":
		return decode[Reopened](raw)
	}
	return nil, nil
}

func decode[E Event](raw []byte) (Event, error) {
	var e E
	err := json.Unmarshal(raw, &e)
	return e, err
}
