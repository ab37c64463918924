// Package firewall is the kernel's half of the gate: one nftables table that
// holds what a plan opens, for exactly as long as the plan opens it.
//
// The table is `inet kidoban`. Its rules never change with time; what opens
// and closes are elements of timed sets, and every element carries its end.
// So the kernel closes on time also when this process hangs, is stopped, or
// is gone. A packet meets the table here:
//
//	prerouting  before defragmentation and conntrack: what is for the WireGuard port, and from where
//	output_raw  what leaves the WireGuard port, and to where
//	input       nothing from the tunnel to the gateway itself; nobody's word on how large a session's packets may be
//	output      no ICMP error but about a listed flow; nothing of the gateway's own into the tunnel
//	forward     drop, unless a listed flow that a vendor began, by a path to its target
//	postrouting the targets that need no route to the tunnel, if the policy has any
//
// A flow is looked up for every packet, in both directions, by the original
// tuple that conntrack keeps: engineer, target, protocol, port. There is no
// `established accept`, so a held stream ends with its element; and what a
// target begins has the target as its original source, so it matches nothing.
// ICMP errors carry the tuple of the flow that they are about, whoever sends
// them: they are related, and out of the tunnel only those of the engineer who
// began the flow pass.
//
// Conntrack keeps a flow by its addresses, for days, whether or not it may pass.
// So whenever a flow is no longer open, whenever a tunnel address gets another
// engineer, and at the start, the kernel forgets what is not open, before
// anything else opens: a connection that was cut does not go on under a later
// grant. And since conntrack would take up a connection in the middle, one that
// is new to it has to begin with its first segment.
//
// Where a packet goes is the host's routing, which no plan knows: where the
// site's network is down, the way to a target is the default route, to the
// Internet. So each address of a target is listed with the interfaces that
// are paths to it, by name. What comes out of the tunnel leaves by these alone,
// and nothing goes into it, ICMP errors included, that has not come by them. It
// is each target's own paths that count, since the default route may well
// leave by an interface that is a path to another target. A site whose
// answers take another way than its requests needs routes that have both.
//
// Ruleset is pure: options, plan, live endpoints, paths and time in, rules out; its
// String is the text that `nft list ruleset` prints, with absolute ends. New
// denies everything, Firewall.Set makes the kernel hold a plan, and
// Firewall.Check reads all of it back: what is not as written is mended where
// that closes, and reported as drift.
//
//	rules.go       options and plan -> chains, rules, sets
//	flows.go       plan -> elements of the sets and their ends
//	conntrack.go   the flows that the kernel has to forget
//	term.go        the words rules are made of: text and bytecode side by side
//	text.go        the golden text
//	kernel.go      sets, chains and rules as google/nftables takes them
//	message.go     the nf_tables messages that it lacks
//	link.go        the one lasting netlink connection
//	firewall.go    New, Set, SetPaths, Close: what is in force, and the way to the next plan
//	check.go       reading back
//	reports.go     facts on their way to who reads them
//	copies.go      what the kernel dropped and copied to us (NFLOG)
//	forwarding.go  the host's forwarding switches
package firewall
