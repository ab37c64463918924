package view

import (
	"net/netip"
	"time"
)

// Refusal is what was refused for one reason, of one engineer, from one address.
type Refusal struct {
	First    time.Time  `json:"first"`
	Last     time.Time  `json:"last"`
	Count    int        `json:"count"`
	Reason   string     `json:"reason"`
	Vendor   string     `json:"vendor"`
	Engineer string     `json:"engineer"`
	Source   netip.Addr `json:"source"`
	Target   string     `json:"target,omitempty"` // of a refused flow: its destination
}
