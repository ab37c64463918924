// Package opening is the set of grants that the journal lets open. It is a pure
// state machine: a plan comes in; the plan that may be in force, the grants to
// record and the grants that closed come out.
//
//	opening.go    which grants are recorded, or on their way to the disk
//	recorded.go   the part of a plan that the entries let open
//	targets.go    which targets, sources and services contain others
//	freeze.go     the grants whose connections the kernel keeps for a while
//	span.go       how long a grant may last when the wall clock is set
//	narrowing.go  losses that the kernel has not taken away yet
package opening

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"kidoban/gateway/clock"
	"kidoban/gateway/policy"
)

// Opening is the journal entry of a grant.
type Opening struct {
	Grant              *policy.Grant // as much of it as the entry covers and the policy still opens
	approvedBy, ticket string
}

// Set holds the openings. One goroutine owns it.
type Set struct {
	Narrowing Narrowing

	clock    *clock.Watch
	recorded map[string]*Opening  // on disk, by the grant's id
	pending  map[string]*Opening  // on their way to the disk, by the grant's id
	spans    map[string]beginning // of grants that are or were open, by id
	frozenAt time.Time            // the wall time of boot at the newest Freeze

	addressOwners map[netip.Addr]policy.Key // the owner of each tunnel address in the ruleset
	settled       *policy.Policy            // its engineers are all in addressOwners
}

// NewSet makes an empty set.
func NewSet(c *clock.Watch) *Set {
	return &Set{Narrowing: Narrowing{losses: map[policy.Key]*loss{}}, clock: c, recorded: map[string]*Opening{}, pending: map[string]*Opening{},
		spans: map[string]beginning{}, addressOwners: map[netip.Addr]policy.Key{}}
}

// covers reports whether the entry has all of the grant, its approver and ticket.
func (o *Opening) covers(g *policy.Grant) bool {
	return o != nil && o.approvedBy == g.Window.ApprovedBy && o.ticket == g.Window.Ticket && covered(o.Grant, g, nil) == g
}

// ToRecord returns the grants of a plan that may open once they are recorded,
// and takes note that they are on their way to the disk.
func (s *Set) ToRecord(wanted *policy.Plan) (openings []*Opening) {
	for _, g := range wanted.Grants {
		if s.quarantined(g.Engineer) || s.Narrowing.keepsOut(g.Engineer.Key) {
			continue
		}
		if s.recorded[g.ID].covers(g) {
			delete(s.pending, g.ID) // of a policy that is no longer in force
			continue
		}
		if s.pending[g.ID].covers(g) || !s.end(g.ID, g.Until).After(s.clock.Now) {
			continue
		}
		o := &Opening{Grant: g, approvedBy: g.Window.ApprovedBy, ticket: g.Window.Ticket}
		s.pending[g.ID] = o
		openings = append(openings, o)
	}
	return openings
}

// Recorded takes note that an opening is on disk, or failed to get there. It
// reports whether that changes anything: an opening that a later policy has
// replaced changes nothing.
func (s *Set) Recorded(o *Opening, onDisk bool) (changed bool) {
	if s.pending[o.Grant.ID] != o {
		return false
	}
	delete(s.pending, o.Grant.ID)
	if onDisk {
		s.recorded[o.Grant.ID] = o
	}
	return true
}

// Pending reports whether an opening is on its way to the disk.
func (s *Set) Pending() bool { return len(s.pending) > 0 }

// Stop counts the openings that are on their way to the disk as recorded, so
// that they are closed there too.
func (s *Set) Stop() {
	maps.Copy(s.recorded, s.pending)
}

// Closing is the end of an opening.
type Closing struct {
	Grant *policy.Grant
	Until time.Time // when it should have ended, on the wall clock as it is set now
}

// Close returns the openings that a plan in force no longer has, sorted by id.
func (s *Set) Close(inForce *policy.Plan) (closings []Closing) {
	still := make(map[string]bool, len(inForce.Grants))
	for _, g := range inForce.Grants {
		still[g.ID] = true
	}
	for id, o := range s.recorded {
		if still[id] {
			continue
		}
		closings = append(closings, Closing{o.Grant, s.end(id, o.Grant.Until)})
		delete(s.recorded, id)
		delete(s.pending, id) // of a wider opening: the closing follows it into the journal
	}
	slices.SortFunc(closings, func(a, b Closing) int { return strings.Compare(a.Grant.ID, b.Grant.ID) })
	return closings
}

// quarantined reports whether the ruleset may still have an engineer's tunnel
// address for another engineer, with flows that the kernel has not forgotten.
func (s *Set) quarantined(e *policy.Engineer) bool {
	return slices.ContainsFunc(e.Addresses, func(a netip.Addr) bool {
		key, known := s.addressOwners[a]
		return known && key != e.Key
	})
}

// Stands takes note that the ruleset of an application stands, made from a
// policy: the flows of earlier owners of its tunnel addresses are gone. It
// reports whether something can open that could not before.
func (s *Set) Stands(application uint64, p *policy.Policy) (changed bool) {
	changed = s.Narrowing.Stands(application)
	if p == nil || p == s.settled {
		return changed
	}
	s.settled = p
	for _, v := range p.Vendors {
		for _, e := range v.Engineers {
			changed = changed || s.quarantined(e)
			for _, a := range e.Addresses {
				s.addressOwners[a] = e.Key
			}
		}
	}
	return changed
}

// InForce takes note of the plan that the kernel is to have in place of another, and
// of the application that brings it to the kernel; applied is the newest
// application that stands.
func (s *Set) InForce(before, plan *policy.Plan, application, applied uint64) {
	if before == plan {
		return
	}
	timed := applied >= s.Narrowing.timed
	s.Narrowing.take(Lost(before, plan, s.clock.Now, timed), application, s.clock.Now, s.clock.Boot)
}
