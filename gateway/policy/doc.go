// Package policy decides who may pass. It is pure: it knows no clock, no network and no disk. The
// time is a parameter, and the same inputs give the same answers.
//
// A Policy is the content of the policy file. A State is the policy in force and the scopes that
// operators closed; Events change it. A Plan has all grants at an instant and the time of the next
// change. Plan.Decide answers every question about a packet or a flow.
//
// Opening times are computed in three steps. schedule.go and rule.go find the local dates on which
// a window begins; calendar.go knows the holidays. zone.go turns local times into instants, by the
// narrower reading where clocks are set. Window.Spans removes the dates that validity, exceptions
// and the contract exclude. All spans are [From, Until).
package policy
