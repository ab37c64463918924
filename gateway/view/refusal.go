package view

import (
	"net/netip"
	"time"
)

// Refusal sums the packets that were refused for one reason, of one engineer,
// from one address, to one target. It is an element of the answer of
// `kidoban refusals --json`.
type Refusal struct {
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Count    int       `json:"count"`
	Reason   string    `json:"reason"`
	Vendor   string    `json:"vendor"`
	Engineer string    `json:"engineer"`
	Names
	Source netip.Addr `json:"source"`
	Target string     `json:"target,omitempty"` // the destination of a refused flow
}
