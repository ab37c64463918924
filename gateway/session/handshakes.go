package session

import (
	"net/netip"
	"slices"
	"time"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

const (
	// unconfirmedLeast admissions in a row without a confirmation are a hint, for
	// unconfirmedTold after the last one. The gate slows such a client down to one in 5 min.
	unconfirmedLeast = 3
	unconfirmedTold  = 15 * time.Minute
	// returnsLeast returns to an earlier place within returnsWithin are two machines,
	// or a very restless one: the places are A, B, A, B, A, B.
	returnsLeast  = 4
	returnsWithin = 10 * time.Minute
	placesKept    = 8
)

// handshakes sums up an engineer's last handshakes.
type handshakes struct {
	engineer    *policy.Engineer
	unconfirmed int           // admissions since the last confirmation
	last        time.Duration // boot time of the last admission
	from        netip.Addr    // its outer address
	places      []place       // of confirmed handshakes; no two neighbours are equal
}

// place is an outer address and port, and the boot time at which it became the
// engineer's.
type place struct {
	source netip.AddrPort
	at     time.Duration
}

// of gives the sum of an engineer's handshakes. Another preshared key or
// tunnel address begins anew.
func (t *Table) of(e *policy.Engineer) *handshakes {
	h := t.handshakes[e.String()]
	if h == nil || !policy.SamePeer(h.engineer, e) {
		h = &handshakes{engineer: e}
		t.handshakes[e.String()] = h
	}
	return h
}

// moved takes note of where a handshake was confirmed.
func (t *Table) moved(e *policy.Engineer, source netip.AddrPort) {
	h := t.of(e)
	if n := len(h.places); n > 0 && h.places[n-1].source == source {
		return
	}
	h.places = append(h.places, place{source, t.clock.Boot})
	h.places = slices.Delete(h.places, 0, max(0, len(h.places)-placesKept))
}

// inTurn gives the last two places if the engineer returned often enough to
// earlier ones.
func (h *handshakes) inTurn() []netip.AddrPort {
	returns := 0
	for i, p := range h.places {
		if slices.ContainsFunc(h.places[:i], func(before place) bool { return before.source == p.source }) {
			returns++
		}
	}
	if n := len(h.places); returns >= returnsLeast {
		return []netip.AddrPort{h.places[n-2].source, h.places[n-1].source}
	}
	return nil
}

// Handshakes lists the odd handshakes of a plan's engineers, by vendor/engineer.
func (t *Table) Handshakes(plan *policy.Plan) map[string]view.Handshakes {
	all := map[string]view.Handshakes{}
	for name, h := range t.handshakes {
		odd := view.Handshakes{InTurn: h.inTurn(), PresharedKey: h.engineer.PresharedKey != [32]byte{}}
		if h.unconfirmed >= unconfirmedLeast {
			odd.Unconfirmed, odd.From = h.unconfirmed, h.from
		}
		if (odd.InTurn != nil || odd.Unconfirmed > 0) && policy.SamePeer(plan.ByKey(h.engineer.Key), h.engineer) {
			all[name] = odd
		}
	}
	return all
}

// forgetHandshakes drops handshakes that are too old for a hint.
func (t *Table) forgetHandshakes() {
	for name, h := range t.handshakes {
		h.places = slices.DeleteFunc(h.places, func(p place) bool { return t.clock.Boot-p.at > returnsWithin })
		if t.clock.Boot-h.last > unconfirmedTold {
			h.unconfirmed = 0
		}
		if h.unconfirmed == 0 && len(h.places) == 0 {
			delete(t.handshakes, name)
		}
	}
}
