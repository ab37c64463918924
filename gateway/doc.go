// Package gateway is the one loop. Facts from the tunnel and the firewall and
// commands from operators come in; the state changes; a plan comes of it; the
// journal, the gate and the kernel's ruleset are made to match, in this order:
//
//	opening: journal, gate and peers, firewall
//	closing: gate, firewall, peers, journal
//
// An opening waits for the disk and a closing waits for nothing. Nothing on
// the loop's own goroutine waits for a disk or for netlink: the recorder
// appends to the journal and the applier sets the ruleset, each on a goroutine
// of its own, and their answers come back as turns of the loop. The exception
// is a tunnel that is built, for the first policy, for one with other tunnel
// addresses, or to recover: that may take a second, in which what is open ends
// in time all the same, since gate and kernel have its deadline.
//
// Where anything is in doubt (no policy, a journal that does not verify, a
// clock that went back, a ruleset that reads back differently, a lost TUN) the
// loop sets a plan without grants, says why, and goes on serving status and
// metrics. Each doubt names what leads out of it.
//
//	gateway.go    what a gateway is made of
//	loop.go       the turns: facts, commands, plan, effects
//	clock.go      what time it is, and what a clock that was set extends
//	openings.go   what opens once it is on disk, and what closes
//	cover.go      how much of a grant the entry of an earlier one covers
//	sessions.go   admissions become sessions; sessions end for one reason
//	refusals.go   refusals on their way to tally, and from there to the journal
//	doubts.go     what keeps everybody out
//	recorder.go   the journal, off the loop
//	applier.go    the firewall, off the loop
//	start.go      from nothing to the first plan
//	replay.go     what the journal says of the time before
//	reload.go     the policy file
//	changes.go    what a new one changes
//	commands.go   what operators can ask for
//	shut.go       what the journal keeps of what they closed
//	marker.go     and what is kept while it is dead
//	recovery.go   the way out of doubt
//	snapshot.go   what everyone else sees
//	hints.go      what the numbers point at
//	usage.go      how long windows were open, and in use
//	events.go     the log, in the journal's words
//	metrics*.go   the only place that touches Prometheus
package gateway
