// Package gateway is the one loop. Facts from the tunnel and the firewall and
// events from operators come in; the state changes; a plan comes of it; the
// journal, the gate and the kernel's ruleset are made to match, in this order:
//
//	opening: journal, gate and peers, firewall
//	closing: gate, firewall, peers, journal
//
// An opening waits for the disk and a closing waits for nothing. The loop never
// waits for a disk or for netlink: the store appends to the journal and the
// applier sets the ruleset, each on a goroutine of its own, and their answers
// come back as turns of the loop. One exception: a tunnel that is built, for the
// first policy, for other tunnel addresses or to recover, may take a second. Open
// grants end in time meanwhile, since gate and kernel have their deadlines.
//
// Where anything is in doubt (no policy, a journal that does not verify, a clock
// that went back, a ruleset that reads back differently, a lost TUN) the loop
// sets a plan without grants, says why, and goes on serving status and metrics.
// Each doubt names the way out of it.
//
// Words: a fact is an event that the tunnel or the firewall reports. An application
// is a plan that was given to the firewall, by number; it stands when the kernel has
// it.
//
//	gateway.go     the parts of a gateway
//	loop.go        the turns: facts, events, plans, effects
//	do.go          operators' events: closing, opening, and the outcome
//	policyfile.go  reading the policy
//	recovery.go    the way out of doubt
//	start.go       from nothing to the first plan
//	doubts.go      the reasons to admit no engineer
//	openings.go    grants in the journal
//	sessions.go    admissions and sessions in the journal
//	refusals.go    refusals in the journal
//	records.go     the journal's answers
//	enforcer.go    tunnel and ruleset follow the plan
//	applier.go     the goroutine that sets the ruleset
//	snapshot.go    the view of all other packages
//	metrics.go     the counters
package gateway
