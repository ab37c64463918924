package policy

import (
	"encoding/json"
	"slices"
)

// Event changes a State. The journal keeps events; replaying them in order gives the same State.
type Event interface{ event() }

// PolicyLoaded puts a policy in force. The journal keeps its digest and roster; the policy itself
// is read from the file again after a replay.
type PolicyLoaded struct {
	Digest string  `json:"digest"`
	Policy *Policy `json:"-"`
	// Roster lists the engineers of the policy. Old journals have none. It is also empty if the
	// state has this policy already.
	Roster []Listed `json:"roster,omitempty"`
	// Added says that the roster continues the roster of the entry before.
	Added bool `json:"added,omitempty"`
}

// Listed is an engineer of a policy, by name and key.
type Listed struct {
	Vendor   string `json:"vendor"`
	Engineer string `json:"engineer"`
	Key      Key    `json:"key"`
	// Under are the vendors that the vendor works under, by name.
	Under []string `json:"under,omitempty"`
}

func (PolicyLoaded) event() {}
func (Shut) event()         {}
func (Reopened) event()     {}

// How many engineers fit into one entry: 64 KiB, and up to 210 bytes an engineer, and twice as much with the
// vendors that the vendor works under.
const rosterMax, rosterMaxUnder = 300, 150

// Parts splits the event into events that fit into one entry each.
func (e PolicyLoaded) Parts() []PolicyLoaded {
	var roster []Listed
	most := rosterMax
	for _, v := range e.Policy.Vendors {
		if v.Under != nil {
			most = rosterMaxUnder
		}
		for _, g := range v.Engineers {
			roster = append(roster, Listed{v.Name, g.Name, g.Key, v.Primes()})
		}
	}
	parts := []PolicyLoaded{}
	for part := range slices.Chunk(roster, most) {
		parts = append(parts, PolicyLoaded{Digest: e.Digest, Roster: part, Added: len(parts) > 0})
	}
	if len(parts) == 0 {
		parts = append(parts, PolicyLoaded{Digest: e.Digest})
	}
	return parts
}

// DecodeEvent reads the event of a journal entry of a kind. The result is nil for kinds that change
// no State, and an empty PolicyLoaded for policy_loaded entries of old journals, which have no
// event.
func DecodeEvent(kind string, raw []byte) (Event, error) {
	switch kind {
	case "policy_loaded":
		if len(raw) == 0 {
			return PolicyLoaded{}, nil
		}
		return decode[PolicyLoaded](raw)
	case "shut", "revoked":
		return decode[Shut](raw)
	case "reopened":
		return decode[Reopened](raw)
	case "requested":
		return decode[Requested](raw)
	default:
		if e, ok := reopenApproved(raw); ok && kind == "approved" {
			return e, nil
		}
		if verb := Verb(kind); slices.Contains(Verbs(), verb) {
			var d Verdict
			err := json.Unmarshal(raw, &d)
			d.Verb = verb
			return d, err
		}
	}
	return nil, nil
}

func decode[E Event](raw []byte) (Event, error) {
	var e E
	err := json.Unmarshal(raw, &e)
	return e, err
}
