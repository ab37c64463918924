// Package policy decides who may pass. It is pure: it knows no clock, no
// network, no disk; `now` is a parameter, and the same inputs give the same
// answers wherever they are asked.
//
// A Policy is what the policy file says. A State is the policy in force and
// what operators closed; Events change it. A Plan is the State at an instant:
// all grants, and when that changes. Plan.Decide gives every answer this
// program gives about a packet, a flow, or an operator's question.
//
// When a window is open is told in three steps, a file each: schedule.go and
// rule.go find the local dates on which it begins (calendar.go knows the
// holidays); zone.go turns local times into instants, always by the narrower
// reading where clocks are set; and Window.Spans cuts out every minute of a
// local date that validity, an exception or the contract's end covers.
// All spans are [From, Until).
package policy
