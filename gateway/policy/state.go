package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// NoMatchError says that a well-formed command matched nothing.
type NoMatchError struct {
	Scope  Scope
	Reopen bool   // the scope is not shut; else the policy does not know it
	Held   Held   // of a reopening: an engineer of the scope who is closed under an earlier name
	Around Scope  // of a reopening: the scope around it that is shut; empty: none is
	Near   string // the scope that may be meant; empty: there is none
	Switch string // of a reopening of all: why the shut file shuts everything; empty: it does not
}

func (e *NoMatchError) Error() string {
	near := ""
	if e.Near != "" {
		near = "; did you mean " + e.Near + "?"
	}
	switch {
	case !e.Reopen:
		return fmt.Sprintf("the policy has no vendor or engineer %q", e.Scope) + near
	case e.Switch != "":
		return fmt.Sprintf("no operator closed everything: %s", e.Switch)
	case e.Held.Engineer != "":
		return fmt.Sprintf("%q is not shut itself: %s was closed as %q, which can be reopened", e.Scope, e.Held.Engineer, e.Held.Scope)
	case e.Around != "":
		return fmt.Sprintf("%q is not shut itself: %q is, and can be reopened", e.Scope, e.Around)
	}
	return fmt.Sprintf("%q is not shut", e.Scope) + near
}

// State is the policy in force and the scopes that operators closed. It has one owner and is not
// safe for concurrent use. Its Plans are immutable.
type State struct {
	policy    *Policy
	roster    []Listed // of the policy last loaded; nil once policy is known
	index     *index
	digest    string
	shut      map[Scope]ShutRecord // copied on every change, so that Plans may share it
	closed    []Reason             // the reason that closes each engineer of index.engineers, or Admitted; nil if no scope is closed. Replaced on every change
	held      []Held               // made anew on every change
	switched  *ShutRecord          // by the shut file; nil: it shuts nothing. Replaced on every change
	reopening []Sign               // of operators who approved a reopening of everything; copied on every change
	windows   []windowCursor       // where each window stands, in the order of index.windows

	requests map[string]*Request  // by id; copied on every change, as its requests are
	opens    map[*Request]*Window // what each opens under a policy, nil: nothing. Made anew on every change
	opensBy  *Policy              // that policy
	bridges  map[string]*Bridge   // by id: approved requests that open nothing, since zones would be joined. Made anew on every change
	at       time.Time            // of the newest event
}

// NewState is the state before the first policy. It admits no engineer.
func NewState() *State { return &State{index: &index{}} }

// Copy gives an independent state.
func (s *State) Copy() *State {
	c := *s
	c.windows = make([]windowCursor, len(s.windows))
	return &c
}

// Policy is the policy in force, or nil.
func (s *State) Policy() *Policy { return s.policy }

// Digest names the policy last loaded, also when a replay knows no more of it.
func (s *State) Digest() string { return s.digest }

// Lists reports whether the state knows the engineers of the policy with this digest. If not, the
// journal needs the roster.
func (s *State) Lists(digest string) bool {
	return s.digest == digest && (s.policy != nil || s.roster != nil)
}

// Apply changes the state, or gives an error and changes nothing. A Shut of an unknown scope and a
// Reopened of a scope that is not shut give a *NoMatchError. Before the first policy, as in a
// replay, any scope may be shut.
func (s *State) Apply(at time.Time, actor string, e Event) error {
	s.at = at
	switch e := e.(type) {
	case PolicyLoaded:
		switch {
		case e.Policy != nil:
			s.roster, s.policy, s.index = nil, e.Policy, newIndex(e.Policy)
			s.windows = make([]windowCursor, len(s.index.windows))
			s.reindex(at)
		case e.Added:
			s.roster = slices.Concat(s.roster, e.Roster)
		case e.Digest != s.digest || e.Roster != nil:
			s.roster = e.Roster
		}
		s.digest = e.Digest
		for _, r := range s.Shuts() { // a new engineer of a shut scope is closed too
			s.putShut(r, nil)
		}
	case Shut:
		record, ok := s.shut[e.Scope]
		switch {
		case e.Added && !ok:
			return nil
		case e.Added:
		case e.Scope.IsRequest():
			if err := s.revocable(e.Scope); err != nil {
				return err
			}
			if !ok { // the first revocation counts
				record = ShutRecord{Scope: e.Scope, At: at, Actor: actor, Reason: e.Reason}
			}
		case s.policy != nil && !s.policy.knows(e.Scope):
			return &NoMatchError{Scope: e.Scope, Near: s.policy.Nearest(string(e.Scope))}
		case ok:
			record = record.and(Close{at, actor, e.Reason})
		default:
			record = ShutRecord{Scope: e.Scope, At: at, Actor: actor, Reason: e.Reason}
		}
		if e.Scope == All && !e.Added {
			s.reopening = nil
		}
		s.putShut(record, e.Keys)
		if e.Scope.IsRequest() {
			s.reindex(at)
		}
	case ReopenApproved:
		s.approveReopening(e)
	case RequestEvent:
		if err := s.applyRequest(at, e); err != nil {
			return err
		}
		s.reindex(at)
	case Reopened:
		if e.Scope.IsRequest() {
			return &RefusedError{Code: "request_final", ID: string(e.Scope)}
		}
		if _, ok := s.shut[e.Scope]; !ok {
			return s.notShut(e.Scope)
		}
		if e.Scope == All {
			s.reopening = nil
		}
		s.shut = maps.Clone(s.shut)
		delete(s.shut, e.Scope)
	default:
		return fmt.Errorf("unknown event %T", e)
	}
	s.closes()
	return nil
}

// notShut is the error of a scope that cannot be reopened.
func (s *State) notShut(scope Scope) *NoMatchError {
	e := &NoMatchError{Scope: scope, Reopen: true}
	if r, on := s.Switched(); on && scope == All {
		e.Switch = r.Reason
		return e
	}
	for _, h := range s.held {
		if vendor, _, _ := strings.Cut(h.Engineer, "/"); scope == Scope(h.Engineer) || scope == Scope(vendor) {
			e.Held = h
			return e
		}
	}
	if p := s.Policy(); p != nil && p.knows(scope) {
		name, _, _ := strings.Cut(string(scope), "/")
		around := []string{name}
		if v := p.Vendor(name); v != nil {
			around = append(around, v.Primes()...)
		}
		for _, name := range append(around, string(All)) {
			if _, ok := s.shut[Scope(name)]; ok {
				e.Around = Scope(name)
				return e
			}
		}
	}
	var shut []string
	for _, r := range s.Shuts() {
		if !r.Scope.IsRequest() {
			shut = append(shut, string(r.Scope))
		}
	}
	e.Near = Nearest(string(scope), shut)
	return e
}

func (p *Policy) knows(scope Scope) bool {
	return scope == All || p.Vendor(string(scope)) != nil || p.Engineer(string(scope)) != nil
}
