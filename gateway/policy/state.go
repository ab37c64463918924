package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Event is what changes a State. Events are what the journal keeps of
// operators' decisions; replaying them in order gives the same State.
type Event interface{ event() }

// PolicyLoaded puts a policy in force. Only the digest is kept in the
// journal's event: a replay learns which policy was in force, and the file
// is read anew.
type PolicyLoaded struct {
	Digest string  `json:"digest"`
	Policy *Policy `json:"-"`
}

// Shut closes a scope until it is reopened.
type Shut struct {
	Scope  Scope  `json:"scope"`
	Reason string `json:"reason"`
}

// Reopened takes a Shut of exactly the same scope back.
type Reopened struct {
	Scope  Scope  `json:"scope"`
	Reason string `json:"reason"`
}

func (PolicyLoaded) event() {}
func (Shut) event()         {}
func (Reopened) event()     {}

// Scope names what an operator closes: "all", a vendor, or vendor/engineer.
type Scope string

// All is the scope of everything.
const All Scope = "all"

// ShutRecord says who closed a scope, when and why.
type ShutRecord struct {
	Scope  Scope     `json:"scope"`
	At     time.Time `json:"at"`
	Actor  string    `json:"actor"`
	Reason string    `json:"reason"`
}

// NoMatchError says that a well-formed command matched nothing.
type NoMatchError struct{ What string }

func (e *NoMatchError) Error() string { return e.What }

// State is everything that decides who may pass: the policy in force and
// what operators closed. It has one owner and is not safe for concurrent
// use; the Plans it gives are immutable.
type State struct {
	policy  *Policy
	index   *index
	digest  string
	shut    map[Scope]ShutRecord // copied on every change, so that Plans may share it
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

// Shuts lists what is closed, sorted by scope.
func (s *State) Shuts() []ShutRecord {
	return slices.SortedFunc(maps.Values(s.shut), func(a, b ShutRecord) int { return strings.Compare(string(a.Scope), string(b.Scope)) })
}

// Apply changes the state, all or nothing. A scope that the policy does not
// know, and a Reopened of what is not shut, give a *NoMatchError.
//
// During a replay no policy is loaded yet, and any scope is taken: what was
// shut stays shut, whatever the policy file says now.
func (s *State) Apply(at time.Time, actor string, e Event) error {
	switch e := e.(type) {
	case PolicyLoaded:
		s.digest = e.Digest
		if e.Policy != nil {
			s.policy = e.Policy
			s.index = newIndex(e.Policy)
			s.windows = make([]windowCursor, len(s.index.windows))
		}
		return nil
	case Shut:
		if s.policy != nil && !s.policy.knows(e.Scope) {
			return &NoMatchError{fmt.Sprintf("the policy has no vendor or engineer %q", e.Scope)}
		}
		s.shut = cloneShut(s.shut)
		s.shut[e.Scope] = ShutRecord{e.Scope, at, actor, e.Reason}
		return nil
	case Reopened:
		if _, ok := s.shut[e.Scope]; !ok {
			return &NoMatchError{fmt.Sprintf("%q is not shut", e.Scope)}
		}
		s.shut = cloneShut(s.shut)
		delete(s.shut, e.Scope)
		return nil
	}
	return fmt.Errorf("unknown event %T", e)
}

func cloneShut(m map[Scope]ShutRecord) map[Scope]ShutRecord {
	c := make(map[Scope]ShutRecord, len(m)+1)
	maps.Copy(c, m)
	return c
}

func (p *Policy) knows(scope Scope) bool {
	return scope == All || p.Vendor(string(scope)) != nil || p.Engineer(string(scope)) != nil
}
