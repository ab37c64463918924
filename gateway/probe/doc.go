// Package probe tries on the real kernel whether a gate keeps its promises with a policy. It builds a site of hosts in
// network namespaces (gateway/lab), and in one of them a second gate and a second ruleset, compiled from that policy with
// throw-away keys. Then it does what must not succeed, and what must:
//
//	callers of sampled vendors, from their sources ---+
//	an outsider, from an address nobody lists --------+-- a router for each line -- gateway -- site, with the targets
//
// Nothing leaves these namespaces, so that nothing on the live gateway is touched. The policy is in force whole; one
// engineer or host of up to Most vendors, chosen at random, does the trying. Windows count at the hours for which they are
// written: the plan of an hour in which a window is open, or none is, is set as if that hour were now.
package probe
