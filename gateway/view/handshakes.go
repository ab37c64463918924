package view

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"kidoban/gateway/policy"
)

// Handshakes sums up an engineer's odd handshakes of the last minutes.
type Handshakes struct {
	InTurn       []netip.AddrPort // the last two places, if the key is used from several in turn; nil: it is not
	Unconfirmed  int              // how many were admitted in a row without a confirmation; 0: few
	From         netip.Addr       // where the last of these came from
	PresharedKey bool             // the policy has one for the engineer
}

// handshakesNamed is how many engineers hints about handshakes name.
const handshakesNamed = 5

// handshakes has hints about odd handshakes.
func (s *Snapshot) handshakes() (hints []Message) {
	names := slices.Sorted(maps.Keys(s.Handshakes))
	for _, name := range names[:min(len(names), handshakesNamed)] {
		hints = append(hints, s.Handshakes[name].hints(name)...)
	}
	if more := len(names) - handshakesNamed; more > 0 {
		hints = append(hints, Say("handshakes_others", Args{"count": more}))
	}
	return hints
}

// hints are those about one engineer.
func (h Handshakes) hints(engineer string) (hints []Message) {
	if len(h.InTurn) == 2 {
		first, second := h.InTurn[0].Addr().String(), h.InTurn[1].Addr().String()
		if first == second { // behind one router
			first, second = h.InTurn[0].String(), h.InTurn[1].String()
		}
		hints = append(hints, Say("in_turn", Args{"engineer": engineer, "first": first, "second": second}))
	}
	if h.Unconfirmed > 0 && h.PresharedKey {
		hints = append(hints, Say("unconfirmed_preshared", Args{"engineer": engineer, "count": h.Unconfirmed, "source": h.From}))
	} else if h.Unconfirmed > 0 {
		hints = append(hints, Say("unconfirmed", Args{"engineer": engineer, "count": h.Unconfirmed, "source": h.From}))
	}
	return hints
}

// A wrong key in a client is a hint after wrongKeyLeast attempts, for wrongKeyRecent after
// the last one.
const (
	wrongKeyLeast  = 3
	wrongKeyRecent = 10 * time.Minute
)

// wrongKeys has hints about attempts that prove nothing, and come from sources of
// vendors: a client whose own key is not listed, or which has another gateway's key.
// Anybody can send them in the name of such a source.
func (s *Snapshot) wrongKeys(now time.Time, of func(*policy.Engineer) bool) (hints []Message) {
	for _, r := range s.Refusals { // the newest first
		if r.Engineer != "" || r.Target != "" || r.Count < wrongKeyLeast || now.Sub(r.Last) >= wrongKeyRecent || !r.Source.IsValid() {
			continue
		}
		vendors := s.listing(r.Source, of)
		key, err := policy.ParseKey(r.OfferedKey)
		switch {
		case len(vendors) == 0:
		case len(hints) == handshakesNamed:
			return append(hints, Say("wrong_key_others", nil))
		case r.Reason == policy.UnknownKey.String() && err == nil && s.Plan.ByKey(key) == nil:
			hints = append(hints, Say("wrong_own_key", Args{"count": r.Count, "source": r.Source, "vendors": vendors, "key": r.OfferedKey}))
		case r.Foreign:
			hints = append(hints, Say("wrong_gateway_key", Args{"count": r.Count, "source": r.Source, "vendors": vendors}))
		}
	}
	return hints
}

// listing names the vendors with an engineer who may come from a source. Hosts behind a plain line have
// no client.
func (s *Snapshot) listing(source netip.Addr, of func(*policy.Engineer) bool) (vendors []string) {
	if s.Plan.Policy == nil {
		return nil
	}
	for _, v := range s.Plan.Policy.Vendors {
		if slices.ContainsFunc(v.Engineers, func(e *policy.Engineer) bool { return !e.Plain() && of(e) && e.MayComeFrom(source) }) {
			vendors = append(vendors, v.Name)
		}
	}
	return vendors
}
