package policy

import (
	"net/netip"
	"time"
)

// FactKind is the kind of a Fact.
type FactKind uint8

const (
	// Refusal: a packet was refused; Decision says why.
	Refusal FactKind = iota
	// Admission: an initiation was admitted and handed to WireGuard. Its entry is due on disk
	// within 1 s.
	Admission
	// Confirmation: an authenticated packet from Source confirmed the handshake of the admission.
	Confirmation
	// Failure: the layer can no longer hold its promises; Err says why.
	Failure
	// Drift: the kernel's ruleset differs from the one that was written; Err has the difference.
	Drift
)

// Claim is the content of an initiation that proves no engineer's key. Anybody can send it, from any
// address.
type Claim struct {
	Key     Key  // the static key that it carries; zero: none could be read
	Foreign bool // it is an initiation, but for a gateway with another public key
}

// Fact is a report of the tunnel or the firewall. Sending never blocks a packet. A refusal that
// finds the channel full is dropped, and counted in the next one of the same engineer and reason.
// Other facts are sent later.
type Fact struct {
	Kind      FactKind
	At        time.Time
	Engineer  *Engineer      // nil unless proven
	Source    netip.AddrPort // the outer address, unmapped
	Ingress   string         // of a Confirmation: the interface by which the session's packets come
	To        netip.AddrPort // of a refused flow: the destination
	Proto     uint8          // of a refused flow
	Decision  Decision
	Timestamp [12]byte // Admission: the TAI64N timestamp that opened; Refusal: the greatest that counts as seen from now on, zero: none
	Admission uint64   // Admission and Confirmation: the number of the admission, unique in this process
	Claim     Claim    // Refusal of a stranger
	Count     int      // Refusal: how many packets it stands for, at least 1
	Err       error    // Failure and Drift
}
