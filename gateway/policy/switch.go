package policy

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// SwitchActor is the actor of what the shut file shuts.
const SwitchActor = "switch"

// Switch takes note of why the shut file shuts everything, or with an empty reason that it does
// not. It is no close of an operator: a reopening does not take it back, and the latch does not
// have it.
func (s *State) Switch(at time.Time, reason string) {
	switch {
	case reason == "":
		s.switched = nil
	case s.switched == nil:
		s.switched = &ShutRecord{Scope: All, At: at, Actor: SwitchActor, Reason: reason}
	default:
		s.switched = &ShutRecord{Scope: All, At: s.switched.At, Actor: SwitchActor, Reason: reason}
	}
	s.closes()
}

// SwitchAs takes over from another state whether the shut file shuts everything.
func (s *State) SwitchAs(other *State) {
	s.switched = other.switched
	s.closes()
}

// Switched is the record of the shut file, while it shuts everything.
func (s *State) Switched() (r ShutRecord, on bool) { return switched(s.switched) }

// Switched is the record of the shut file, while it shuts everything.
func (p *Plan) Switched() (r ShutRecord, on bool) { return switched(p.switched) }

func switched(by *ShutRecord) (r ShutRecord, on bool) {
	if by == nil {
		return r, false
	}
	return *by, true
}

// Closed lists what is shut now, sorted by scope: the closed scopes, and the record of the shut
// file.
func (s *State) Closed() []ShutRecord {
	all := s.Shuts()
	if s.switched != nil {
		all = append(all, *s.switched)
		slices.SortStableFunc(all, func(a, b ShutRecord) int {
			return cmp.Or(strings.Compare(string(a.Scope), string(b.Scope)), a.At.Compare(b.At))
		})
	}
	return all
}
