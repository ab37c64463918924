package policy

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Kept is all that a replay has made of a State, as JSON keeps it. The policy is not in it: a start
// reads that from its file.
type Kept struct {
	Digest    string       `json:"digest"`
	Roster    []Listed     `json:"roster"`
	Shuts     []ShutRecord `json:"shuts"` // sorted by scope, those of requests that ended long ago too
	Switched  *ShutRecord  `json:"switched"`
	Reopening []Sign       `json:"reopening"`
	Requests  []*Request   `json:"requests"` // the oldest first
	At        time.Time    `json:"at"`       // of the newest event
}

// Keep gives what is to be kept of a state without a policy. Nothing in it may be changed.
func (s *State) Keep() Kept {
	shuts := slices.SortedFunc(maps.Values(s.shut), func(a, b ShutRecord) int { return strings.Compare(string(a.Scope), string(b.Scope)) })
	return Kept{Digest: s.digest, Roster: s.roster, Shuts: shuts, Switched: s.switched, Reopening: s.reopening, Requests: s.Requests(), At: s.at}
}

// State is the state that was kept.
func (k Kept) State() *State {
	s := NewState()
	s.digest, s.roster, s.switched, s.reopening, s.at = k.Digest, k.Roster, k.Switched, k.Reopening, k.At
	s.requests, s.shut = make(map[string]*Request, len(k.Requests)), make(map[Scope]ShutRecord, len(k.Shuts))
	for _, r := range k.Requests {
		s.requests[r.ID] = r
	}
	for _, r := range k.Shuts {
		s.shut[r.Scope] = r
	}
	s.closes()
	return s
}
