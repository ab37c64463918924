// Package tally sums refused packets within bounds, fairly: a Sum while facts
// wait for the loop, and Refusals in the loop, for operators and the journal.
//
// A room bounds the summaries of one kind (strangers, one engineer's
// handshakes, one engineer's flows), so that a flood of one kind cannot evict
// another. A stranger is a sender without a proven key.
package tally

import (
	"net/netip"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// key tells summaries apart.
type key struct {
	reason, vendor, engineer string
	source                   netip.Addr
	target                   string
}

func keyOf(f policy.Fact) key {
	k := key{reason: f.Decision.Reason.String(), source: f.Source.Addr()}
	if e := f.Engineer; e != nil {
		k.vendor, k.engineer = e.Vendor.Name, e.Name
	}
	if f.To.IsValid() {
		k.target = f.To.Addr().String() + ":" + policy.Service{Protocol: f.Proto, First: f.To.Port(), Last: f.To.Port()}.String()
	}
	return k
}

// refusal gives an empty summary.
func (k key) refusal() view.Refusal {
	return view.Refusal{Reason: k.reason, Vendor: k.vendor, Engineer: k.engineer, Source: k.source, Target: k.target}
}

// counts reports whether a summary is the key's.
func (k key) counts(r view.Refusal) bool {
	return k.source == r.Source && k.reason == r.Reason && k.target == r.Target && k.engineer == r.Engineer && k.vendor == r.Vendor
}

type room struct {
	vendor, engineer string
	flow             bool
}

// strangers is the room of all strangers, handshakes and flows alike.
var strangers room

func (k key) room() room { return room{k.vendor, k.engineer, k.engineer != "" && k.target != ""} }

// count adds a fact to a summary.
func count(r *view.Refusal, f policy.Fact) {
	if r.Count == 0 {
		r.First = f.At
	}
	r.Count += max(f.Count, 1)
	r.Last = f.At
	if f.Claim.Key != (policy.Key{}) {
		r.OfferedKey = f.Claim.Key.String()
	}
	r.Foreign = r.Foreign || f.Claim.Foreign
	if r.Engineer != "" {
		r.Names = view.NamesOf(f.Engineer)
	}
}
