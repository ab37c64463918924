package policy

import (
	"net/netip"
	"time"
)

// FactKind says what a Fact reports.
type FactKind uint8

const (
	// Refusal: a packet was refused; Decision says why.
	Refusal FactKind = iota
	// Admission: an initiation was admitted and handed to WireGuard. Its
	// journal entry is due on disk within a second.
	Admission
	// Confirmation: an authenticated packet confirmed the admission's
	// handshake from Source.
	Confirmation
	// Failure: the layer can no longer hold its promises; Err says why.
	Failure
	// Drift: the kernel's ruleset is not what was written; Err says what.
	Drift
)

// Fact is what tunnel and firewall report. Sending one never blocks a packet:
// a channel without room for refusals drops them and counts them in Count of
// the next of the same engineer for the same reason. What else finds no room
// is sent later.
type Fact struct {
	Kind      FactKind
	At        time.Time
	Engineer  *Engineer      // nil unless proven
	Source    netip.AddrPort // the outer address, unmapped
	To        netip.AddrPort // of a refused flow: the destination
	Proto     uint8          // of a refused flow
	Decision  Decision
	Timestamp [12]byte // Admission: the TAI64N timestamp that opened; Refusal: the greatest that counts as seen from now on, zero: none
	Admission uint64   // Admission and Confirmation: the number of the admission, unique in this process
	Count     int      // Refusal: how many packets it stands for, at least 1
	Err       error    // Failure and Drift
}
