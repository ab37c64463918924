// Package tunnel is the WireGuard end of the gateway: an unmodified
// wireguard-go device between two seams, and the gate that sits in both.
//
// The outer seam is a conn.Bind. An initiation passes only if its source is
// listed by an open grant, it is within its rate, it proves an engineer's key,
// and the plan admits that engineer from that source now. The rest of a
// handshake is tied to the exact address it came from: the response goes
// there, the receiver index in it names the engineer, and only data with that
// index from that address reaches WireGuard. The port may change. Nothing
// else passes, and nothing else is answered; the gateway never initiates.
//
// The inner seam is a tun.Device. It drops packets that still wait in WireGuard's
// queues when an engineer's time is over.
//
// Both seams compare CLOCK_BOOTTIME, read after the packet was, with one
// atomic deadline. So the time at which everything stops needs no timer, no
// call and no message, and holds for packets buffered while the process was
// stopped.
//
//	UDP → receive ─ data ───────────────────────────→ WireGuard → gatedTUN → TUN
//	         └ initiation → authenticator: proof, Decide ─→ again ↑
//	UDP ← send: deadline, indices ←────────────────── WireGuard ← gatedTUN ← TUN
//
// Three kinds of goroutines work here. WireGuard's own run the seams; they
// never wait for a device call, a disk or the consumer of facts. The authenticator
// does the cryptography of initiations, one at a time. The reconciler makes the
// device's peers match the plan, watches which handshakes were confirmed, and
// reports.
package tunnel
