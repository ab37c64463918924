package view

import (
	"maps"
	"net/netip"
	"slices"
)

// Handshakes is what is odd about an engineer's handshakes of the last minutes.
type Handshakes struct {
	InTurn       []netip.AddrPort // the last two places, if the key is used from several in turn; nil: it is not
	Unconfirmed  int              // how many were admitted in a row without a confirmation; 0: few
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
		hints = append(hints, Say("unconfirmed_preshared", Args{"engineer": engineer, "count": h.Unconfirmed}))
	} else if h.Unconfirmed > 0 {
		hints = append(hints, Say("unconfirmed", Args{"engineer": engineer, "count": h.Unconfirmed}))
	}
	return hints
}
