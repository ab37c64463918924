package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// NoMatchError says that a well-formed command matched nothing.
type NoMatchError struct{ What string }

func (e *NoMatchError) Error() string { return e.What }

// State is everything that decides who may pass: the policy in force and
// what operators closed. It has one owner and is not safe for concurrent
// use; the Plans it gives are immutable.
type State struct {
	policy  *Policy
	roster  []Listed // of the policy last loaded; nil once policy is known
	index   *index
	digest  string
	shut    map[Scope]ShutRecord // copied on every change, so that Plans may share it
	closed  []Reason             // what closes each engineer of index.engineers, Admitted: nothing; nil: nobody is closed. Made anew on every change
	held    []Held               // made anew on every change
	windows []windowCursor       // where each window of the policy stands, in the order of index.windows
}

// NewState is the state before the first policy: nobody may pass.
func NewState() *State { return &State{index: &index{}} }

// Copy gives a state of its own to who wants to ask "what if" or "when".
func (s *State) Copy() *State {
	c := *s
	c.windows = make([]windowCursor, len(s.windows))
	return &c
}

// Policy is the policy in force, or nil.
func (s *State) Policy() *Policy { return s.policy }

// Digest names the policy last loaded, also when a replay knows no more of it.
func (s *State) Digest() string { return s.digest }

// Lists reports whether the state knows the engineers of the policy with this
// digest. If not, the journal has to keep them.
func (s *State) Lists(digest string) bool {
	return s.digest == digest && (s.policy != nil || s.roster != nil)
}

// Apply changes the state, all or nothing. A scope that the policy does not
// know, and a Reopened of what is not shut, give a *NoMatchError.
//
// During a replay no policy is loaded yet, and any scope is taken: what was
// shut stays shut, whatever the policy file says now.
func (s *State) Apply(at time.Time, actor string, e Event) error {
	switch e := e.(type) {
	case PolicyLoaded:
		switch {
		case e.Policy != nil:
			s.roster, s.policy, s.index = nil, e.Policy, newIndex(e.Policy)
			s.windows = make([]windowCursor, len(s.index.windows))
		case e.Added:
			s.roster = slices.Concat(s.roster, e.Roster)
		case e.Digest != s.digest || e.Roster != nil:
			s.roster = e.Roster
		}
		s.digest = e.Digest
		for _, r := range s.Shuts() { // an engineer who comes to a shut scope is closed with it
			s.putShut(r, nil)
		}
	case Shut:
		record := ShutRecord{Scope: e.Scope, At: at, Actor: actor, Reason: e.Reason}
		if e.Added {
			var ok bool
			if record, ok = s.shut[e.Scope]; !ok {
				return nil
			}
		} else if s.policy != nil && !s.policy.knows(e.Scope) {
			return &NoMatchError{fmt.Sprintf("the policy has no vendor or engineer %q", e.Scope)}
		}
		s.putShut(record, e.Keys)
	case Reopened:
		if _, ok := s.shut[e.Scope]; !ok {
			return &NoMatchError{s.whyNotShut(e.Scope)}
		}
		s.shut = maps.Clone(s.shut)
		delete(s.shut, e.Scope)
	default:
		return fmt.Errorf("unknown event %T", e)
	}
	s.closes()
	return nil
}

// whyNotShut says that a scope is not shut, and what is in its place.
func (s *State) whyNotShut(scope Scope) string {
	for _, h := range s.held {
		if vendor, _, _ := strings.Cut(h.Engineer, "/"); scope == Scope(h.Engineer) || scope == Scope(vendor) {
			return fmt.Sprintf("%q is not shut itself: %s was closed as %q, which can be reopened", scope, h.Engineer, h.Scope)
		}
	}
	return fmt.Sprintf("%q is not shut", scope)
}

func (p *Policy) knows(scope Scope) bool {
	return scope == All || p.Vendor(string(scope)) != nil || p.Engineer(string(scope)) != nil
}
