// Package probe tests on the real kernel whether a gate keeps its promises with a policy. It builds a site of hosts in
// network namespaces (gateway/lab). One of them has a second gate and a second ruleset, compiled from that policy with
// throw-away keys. Then it tries accesses that must fail, and accesses that must succeed:
//
//	callers of sampled vendors, from their sources ---+
//	an outsider, from an address that is not listed --+-- a router for each line -- gateway -- site, with the targets
//
// No packet leaves these namespaces, so the live gateway is not touched. The whole policy is in force. Of up to Most
// vendors, one engineer or host each, chosen at random, tries. Windows count at the hours for which they are
// written: the probe takes the plan of an hour at which a window is open, or shut, and sets it as if that hour were now.
package probe
