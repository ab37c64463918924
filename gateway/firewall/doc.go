// Package firewall is the kernel's half of the gate: one nftables table that
// holds the openings of a plan, for exactly as long as the plan.
//
// The table is `inet kidoban`. Its rules never change with time; elements of
// timed sets open and close, and every element carries its end.
// So the kernel closes on time also when this process hangs, is stopped, or
// is gone. A packet meets the table here:
//
//	prerouting  before defragmentation and conntrack: packets to the WireGuard port, by source
//	output_raw  packets from the WireGuard port, by destination
//	input       nothing from the tunnel to the gateway itself; no error about the size of a session's packets
//	output      no ICMP error but about a listed flow; nothing of the gateway's own into the tunnel
//	forward     drop, unless a listed flow that a vendor began, by a path to its target
//	postrouting the targets that need no route to the tunnel, if the policy has any
//
// A flow is looked up for every packet, in both directions, by the original
// tuple that conntrack keeps: engineer, target, protocol, port. There is no
// `established accept`, so a held stream ends with its element; and a flow that
// a target begins has the target as its original source and matches nothing.
// ICMP errors carry the tuple of the flow that they are about: they are related,
// and out of the tunnel only those of the flow's own engineer pass.
//
// Conntrack keeps a flow by its addresses, for days, whether or not it may pass.
// So whenever a flow closes, whenever a tunnel address gets another engineer, and
// at the start, the kernel forgets all closed flows before anything else opens: a
// connection that was cut does not go on under a later grant. And since conntrack
// would take up a connection in the middle, one that is new to it has to begin
// with its first segment.
//
// The host's routing decides where a packet goes, and no plan knows it: when the
// site's network is down, the way to a target is the default route, to the
// Internet. So each address of a target is listed with the interfaces that are
// paths to it. Packets out of the tunnel leave by these alone, and packets into
// it, ICMP errors included, must have come by them. Each target has its own paths,
// since the default route may leave by an interface that is a path to another. If
// answers take another way than requests, the site needs routes that have both.
//
// Ruleset is pure: options, plan, live endpoints, paths and time in, rules out; its
// String is the text that `nft list ruleset` prints, with absolute ends. New
// denies everything, Firewall.Set makes the kernel hold a plan, and Firewall.Check
// reads all of it back: differences are reported as drift, and mended.
package firewall
