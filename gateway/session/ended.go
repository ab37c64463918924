package session

import (
	"slices"
	"time"

	"kidoban/gateway/policy"
)

// Ended is why a session ended, or an opening.
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
	Revoked        Ended = "revoked" // the request was
)

// Endings lists all reasons for which a session ends.
func Endings() []Ended {
	return []Ended{WindowClosed, PolicyChanged, GatewayShut, VendorShut, EngineerShut, Idle, Superseded, Unrecorded, GatewayStopped, Crashed, Revoked}
}

// Why returns the reason for which an engineer has no open grant now. The engineer
// had these grants, until an end.
func Why(p *policy.Plan, e *policy.Engineer, grants []string, until, now time.Time, stopping bool) Ended {
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
	if slices.ContainsFunc(grants, func(id string) bool { _, revoked := p.Shut(policy.RequestOf(id)); return revoked }) {
		return Revoked
	}
	for _, g := range p.GrantsOf(e) {
		if slices.Contains(grants, g.ID) && g.From.After(now) {
			return WindowClosed // the clock was set back to before the opening
		}
	}
	return PolicyChanged
}
