// Package witness has another machine cosign the journal's checkpoints, so that a gateway that is
// put back to an old state is found out (https://c2sp.org/tlog-witness).
//
//	protocol.go  one request to a witness, and its answer
//	client.go    when to ask, what an answer means, and who is told
//
// Only the size of the journal and hashes leave the machine. A witness is not trusted: what it says
// is an alarm at most. What shuts the gateway is a checkpoint with the gateway's own signature that
// the journal does not continue; no witness can forge one.
package witness
