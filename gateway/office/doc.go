// Package office is the process beside the gateway that delivers notices. It has no
// capability and no access to the gateway's state: it asks over a socket of its own.
//
// The queue is the gateway's journal. Each sink has a goroutine and a cursor of its own, so
// a receiver that hangs delays no other. The cursor moves when the receiver has taken a
// notice, and lasts over a crash: each notice is delivered at least once, in order.
package office
