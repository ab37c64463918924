package policy

import (
	"encoding/json"
	"slices"
)

// ReopenApproved is an operator's approval of a reopening of everything, where the policy wants
// several (Policy.ReopenAll). The approvals count until everything is reopened or closed again.
type ReopenApproved struct {
	Scope Scope  `json:"scope"`           // All
	By    string `json:"by"`              // the operator's name
	Login string `json:"login,omitempty"` // as Requested.Login
}

func (ReopenApproved) event() {}

// Reopening is the event that an actor's reopening of a scope leads to: the reopening itself, or an
// approval of it. left is how many more operators must approve then. The error is a *RefusedError if
// the actor may not. Operators count by their names, each login once, and only those whom the policy still lists.
func (s *State) Reopening(a Actor, e Reopened) (event Event, left int, err error) {
	_, shut := s.shut[All]
	if e.Scope != All || !shut || s.policy == nil || s.policy.ReopenAll < 2 {
		return e, 0, nil
	}
	o := s.policy.OperatorOf(a)
	switch {
	case o == nil:
		return nil, 0, &RefusedError{Code: "no_operator", Names: s.policy.operatorNames(func(*Operator) bool { return true })}
	case !o.May(MayApprove):
		return nil, 0, &RefusedError{Code: "operator_may_not", Name: string(MayApprove),
			Names: s.policy.operatorNames(func(o *Operator) bool { return o.May(MayApprove) })}
	}
	approved := 1
	for _, by := range s.reopening {
		if !by.same(o.sign()) && s.policy.Operator(by.By).May(MayApprove) {
			approved++
		}
	}
	if left = s.policy.ReopenAll - approved; left > 0 {
		return ReopenApproved{All, o.Name, a.ID}, left, nil
	}
	return e, 0, nil
}

// approveReopening takes note of an approval.
func (s *State) approveReopening(e ReopenApproved) {
	if by := (Sign{By: e.By, Login: e.Login}); !slices.ContainsFunc(s.reopening, by.same) {
		s.reopening = append(slices.Clip(s.reopening), by)
	}
}

// operatorNames lists the names of those operators, as the policy sorts them.
func (p *Policy) operatorNames(of func(*Operator) bool) (names []string) {
	for _, o := range p.Operators {
		if of(o) {
			names = append(names, o.Name)
		}
	}
	return names
}

// reopenApproved reads the event of an entry of kind approved, if it is one of a reopening: those of
// requests have no scope.
func reopenApproved(raw []byte) (e ReopenApproved, ok bool) {
	err := json.Unmarshal(raw, &e)
	return e, err == nil && e.Scope == All
}
