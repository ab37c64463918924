package policy

import (
	"fmt"
	"slices"
)

// Reason explains a decision. The order is the precedence: of several that apply, the smallest
// counts.
type Reason uint8

const (
	NotReady        Reason = iota // the gateway is in doubt and admits no engineer
	Malformed                     // not a well-formed WireGuard packet for this gateway
	RateLimited                   // more initiations or connections than this source or engineer is allowed
	UnknownKey                    // the initiation proves no engineer's key
	Replayed                      // its timestamp is not newer than the newest seen of this key
	FutureTimestamp               // its timestamp is more than 24 h ahead
	GatewayShut                   // an operator closed everything
	VendorShut                    // an operator closed the vendor
	EngineerShut                  // an operator closed the engineer
	WrongSource                   // a proven key from an address that is not its own
	WrongLine                     // a proven key from its own address, by an interface that is not the vendor's line
	ContractEnded                 // the vendor's contract is over
	OutsideWindow                 // no approved window is open for this engineer
	UnlistedTarget                // no open grant lists the destination, or no tunnel address of the engineer is of its family
	Admitted
	UnlistedSource // carries no readable initiation, from an address that no open grant lists

	reasons // how many there are
)

var reasonNames = [reasons]string{
	"not_ready", "malformed", "rate_limited", "unknown_key", "replayed", "future_timestamp",
	"gateway_shut", "vendor_shut", "engineer_shut", "wrong_source", "wrong_line", "contract_ended",
	"outside_window", "unlisted_target", "admitted", "unlisted_source",
}

// Reasons lists all reasons in order of precedence.
func Reasons() []Reason {
	all := make([]Reason, reasons)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

// String is the name used in journal, metrics, JSON and messages.
func (r Reason) String() string {
	if r < reasons {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// MarshalText is String.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is the inverse of String.
func (r *Reason) UnmarshalText(text []byte) error {
	i := slices.Index(reasonNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("%q is not a reason", text)
	}
	*r = Reason(i)
	return nil
}
