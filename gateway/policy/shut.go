package policy

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// Scope is a thing that an operator can close: "all", a vendor with those under it, or vendor/engineer.
type Scope string

// All is the scope of everything.
const All Scope = "all"

// reason is the refusal of the scope's engineers.
func (s Scope) reason() Reason {
	switch {
	case s == All:
		return GatewayShut
	case strings.Contains(string(s), "/"):
		return EngineerShut
	}
	return VendorShut
}

// names reports whether the scope contains the engineer by name. A vendor contains those under it.
func (s Scope) names(e *Engineer) bool {
	return s == All || s == Scope(e.String()) || e.Vendor.within(string(s))
}

// Shut closes a scope until it is reopened. It closes the names and also the keys that were in the
// scope meanwhile. Otherwise another name in the policy would reopen it.
type Shut struct {
	Scope  Scope  `json:"scope"`
	Reason string `json:"reason"`
	// Keys are keys in the scope. A state that knows the engineers finds them itself; old journals
	// depend on them.
	Keys []Key `json:"keys,omitempty"`
	// Added says that keys have come to a scope that is closed already; its record stays. If the
	// scope is not closed, the event changes nothing.
	Added bool `json:"added,omitempty"`
}

// Reopened takes a Shut of exactly the same scope back, its keys with it.
type Reopened struct {
	Scope  Scope  `json:"scope"`
	Reason string `json:"reason"`
}

// ShutRecord is a closed scope: when, by which operator, why, and the keys that it closes. A
// reopening takes all its closes back.
type ShutRecord struct {
	Scope  Scope     `json:"scope"`
	At     time.Time `json:"at"`
	Actor  string    `json:"actor"`
	Reason string    `json:"reason"`
	Keys   []Key     `json:"keys,omitempty"` // sorted
	// Again are later closes of the scope, by other operators or for other reasons, in order: the
	// newest mostAgain. The journal has all.
	Again []Close `json:"again,omitempty"`
}

// Close is one close of a scope.
type Close struct {
	At     time.Time `json:"at"`
	Actor  string    `json:"actor"`
	Reason string    `json:"reason"`
}

const mostAgain = 8

// Closes lists the closes of the scope, the first one first.
func (r ShutRecord) Closes() []Close {
	return append([]Close{{r.At, r.Actor, r.Reason}}, r.Again...)
}

// Has reports whether an operator closed the scope for a reason.
func (r ShutRecord) Has(actor, reason string) bool {
	return slices.ContainsFunc(r.Closes(), func(c Close) bool { return c.Actor == actor && c.Reason == reason })
}

// and adds a close.
func (r ShutRecord) and(c Close) ShutRecord {
	if !r.Has(c.Actor, c.Reason) {
		r.Again = append(slices.Clone(r.Again), c)
		r.Again = r.Again[max(len(r.Again)-mostAgain, 0):]
	}
	return r
}

// Without leaves out the closes of an actor. It reports whether there are others.
func (r ShutRecord) Without(actor string) (ShutRecord, bool) {
	closes := slices.DeleteFunc(r.Closes(), func(c Close) bool { return c.Actor == actor })
	if len(closes) == 0 {
		return r, false
	}
	first := closes[0]
	r.At, r.Actor, r.Reason, r.Again = first.At, first.Actor, first.Reason, closes[1:]
	return r, true
}

// Held is an engineer closed by key alone.
type Held struct {
	Engineer string `json:"engineer"` // vendor/engineer, as the policy in force has it
	Scope    Scope  `json:"scope"`    // the scope to reopen
}

// Shuts lists the closed scopes, sorted, without requests that ended long ago.
func (s *State) Shuts() []ShutRecord {
	all := slices.SortedFunc(maps.Values(s.shut), func(a, b ShutRecord) int { return strings.Compare(string(a.Scope), string(b.Scope)) })
	return slices.DeleteFunc(all, func(r ShutRecord) bool { return s.history(r.Scope) })
}

// Shut finds the record that closes a scope itself (not one around it).
func (s *State) Shut(scope Scope) (ShutRecord, bool) {
	r, ok := s.shut[scope]
	return r, ok
}

// Held lists the engineers closed by key alone, sorted.
func (s *State) Held() []Held { return s.held }

// keysOf lists the keys of a scope in the policy last loaded. Scope All needs none.
func (s *State) keysOf(scope Scope) (keys []Key) {
	if scope == All {
		return nil
	}
	for _, l := range s.roster {
		if scope == Scope(l.Vendor) || scope == Scope(l.Vendor+"/"+l.Engineer) || slices.Contains(l.Under, string(scope)) {
			keys = append(keys, l.Key)
		}
	}
	for i, e := range s.index.engineers {
		if s.names(scope, i) {
			keys = append(keys, e.Key)
		}
	}
	return keys
}

// names is Scope.names for the engineers of the policy in force.
func (s *State) names(scope Scope, engineer int) bool {
	return scope == All || scope == Scope(s.index.names[engineer]) || s.index.engineers[engineer].Vendor.within(string(scope))
}

// putShut stores a record. It adds keys, the scope's earlier keys, and those of the policy.
func (s *State) putShut(r ShutRecord, keys []Key) {
	all := slices.Concat(s.shut[r.Scope].Keys, keys, s.keysOf(r.Scope))
	slices.SortFunc(all, Key.compare)
	r.Keys = slices.Compact(all)
	shut := make(map[Scope]ShutRecord, len(s.shut)+1)
	maps.Copy(shut, s.shut)
	shut[r.Scope] = r
	s.shut = shut
}

// closes computes which engineers of the policy are closed.
func (s *State) closes() {
	s.closed, s.held = nil, nil
	if len(s.shut) == 0 && s.switched == nil {
		return
	}
	s.closed = make([]Reason, len(s.index.engineers))
	for i, e := range s.index.engineers {
		s.closed[i] = Admitted
		close := func(scope Scope) {
			if _, ok := s.shut[scope]; ok {
				s.closed[i] = min(s.closed[i], scope.reason())
			}
		}
		close(All)
		close(Scope(s.index.names[i]))
		for v := e.Vendor; v != nil; v = v.Under {
			close(Scope(v.Name))
		}
	}
	for _, r := range s.shut {
		for _, k := range r.Keys {
			i, ok := s.index.byKey[k]
			if !ok {
				continue
			}
			s.closed[i] = min(s.closed[i], r.Scope.reason())
			if !s.names(r.Scope, i) {
				s.held = append(s.held, Held{s.index.names[i], r.Scope})
			}
		}
	}
	if s.switched != nil {
		for i := range s.closed {
			s.closed[i] = min(s.closed[i], GatewayShut)
		}
	}
	slices.SortFunc(s.held, func(a, b Held) int {
		return cmp.Or(strings.Compare(a.Engineer, b.Engineer), strings.Compare(string(a.Scope), string(b.Scope)))
	})
}

// Shut finds the record that closes a scope itself (not one around it). Of scope All it may be the
// shut file's.
func (p *Plan) Shut(scope Scope) (ShutRecord, bool) {
	r, ok := p.shut[scope]
	if !ok && scope == All {
		return p.Switched()
	}
	return r, ok
}

// ShutBy finds the record that closes an engineer, of this policy or another, and its reason;
// Admitted if there is none. The shut file's comes first.
func (p *Plan) ShutBy(e *Engineer) (by ShutRecord, reason Reason) {
	if r, on := p.Switched(); on {
		return r, GatewayShut
	}
	return p.ClosedBy(e)
}

// ClosedBy finds the close by an operator; unlike ShutBy it does not look at the shut file. Of several records the one with
// the smallest reason counts, then the one that names the engineer.
func (p *Plan) ClosedBy(e *Engineer) (by ShutRecord, reason Reason) {
	reason = Admitted
	if i, ok := p.find(e); ok && p.access[i].shut == Admitted {
		return by, reason
	}
	named := false
	for scope, r := range p.shut {
		names := scope.names(e)
		if _, ok := slices.BinarySearchFunc(r.Keys, e.Key, Key.compare); !ok && !names {
			continue
		}
		switch c := cmp.Compare(scope.reason(), reason); {
		case c < 0, c == 0 && names && !named, c == 0 && names == named && scope < by.Scope:
			by, reason, named = r, scope.reason(), names
		}
	}
	return by, reason
}

func (k Key) compare(other Key) int { return bytes.Compare(k[:], other[:]) }
