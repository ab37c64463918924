package gateway

import (
	"net/netip"
	"slices"
	"time"

	"kidoban/gateway/policy"
)

// Ended is why a session ended.
type Ended string

// The reasons for which sessions end. A gateway in doubt, or led out of it by
// an operator, shuts itself, which is GatewayShut too.
const (
	WindowClosed   Ended = "window_closed"
	PolicyChanged  Ended = "policy_changed"
	GatewayShut    Ended = "gateway_shut"
	VendorShut     Ended = "vendor_shut"
	EngineerShut   Ended = "engineer_shut"
	Idle           Ended = "idle"
	Superseded     Ended = "superseded"
	Unrecorded     Ended = "unrecorded"
	GatewayStopped Ended = "gateway_stopped"
	Crashed        Ended = "crashed"
)

// Endings lists all reasons for which a session ends.
func Endings() []Ended {
	return []Ended{WindowClosed, PolicyChanged, GatewayShut, VendorShut, EngineerShut, Idle, Superseded, Unrecorded, GatewayStopped, Crashed}
}

const (
	// unrecordedAfter is how long an admission may be without its journal entry.
	unrecordedAfter = time.Second
	// idleAfter is how long a session lives without a received byte. A
	// WireGuard session that is in use is heard from at least this often:
	// its keys are rejected after the same time (whitepaper, section 6.1).
	idleAfter = 180 * time.Second
	// unconfirmedAfter is how long an admission waits for its confirmation:
	// as long as WireGuard takes data under its keys (whitepaper, section 6.1).
	unconfirmedAfter = 180 * time.Second
)

// session is one engineer's presence from one address.
type session struct {
	id       string
	engineer *policy.Engineer
	source   netip.AddrPort
	openedAt time.Time
	until    time.Time
	grants   []string
	first    Traffic       // what the engineer's totals were when it opened
	last     Traffic       // what they are now
	heard    time.Duration // when a byte was last received, in boot time

	// What went through beside handshakes and keepalives, for hints.
	asked, answered  uint64        // bytes from and to the engineer
	askedAt, counted time.Duration // when the first was asked, and when it was last counted, in boot time
}

// received is how many bytes came from the engineer in the session.
func (s *session) received() uint64 {
	return s.last.Received - min(s.first.Received, s.last.Received)
}

// transmitted is how many bytes went to the engineer in the session.
func (s *session) transmitted() uint64 {
	return s.last.Transmitted - min(s.first.Transmitted, s.last.Transmitted)
}

// admission is an initiation that was admitted, until its session is open and
// its entry on disk.
type admission struct {
	number    uint64
	tunnel    uint64 // loop.tunnels when it was admitted
	engineer  *policy.Engineer
	at        time.Duration // in boot time
	recorded  bool
	confirmed bool
}

// whyEnded gives the reason for which an engineer who held grants until an
// instant has none open now.
func whyEnded(p *policy.Plan, e *policy.Engineer, held []string, until, now time.Time, stopping bool) Ended {
	if stopping {
		return GatewayStopped
	}
	if p.Doubt != "" {
		return GatewayShut
	}
	switch _, reason := p.ShutBy(e); reason {
	case policy.GatewayShut:
		return GatewayShut
	case policy.VendorShut:
		return VendorShut
	case policy.EngineerShut:
		return EngineerShut
	}
	if !until.After(now) {
		return WindowClosed
	}
	for _, g := range p.GrantsOf(e) {
		if slices.Contains(held, g.ID) && g.From.After(now) {
			return WindowClosed // the clock was set back to before the opening
		}
	}
	return PolicyChanged
}
