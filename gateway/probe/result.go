package probe

import (
	"slices"
	"time"
)

// Result is the outcome of one probe.
type Result struct {
	Digest  string    `json:"digest"` // of the policy
	Version string    `json:"version"`
	Began   time.Time `json:"began"`
	Took    int64     `json:"took_ms"`
	Checks  []Check   `json:"checks"`
}

// Trial is a kind of trial. Its text for people is in gateway/view, as probe_ and this value.
type Trial string

// The trials, in the order in which they are told.
const (
	Outsider   Trial = "outsider"    // the engineer's key from an unlisted address
	ForeignKey Trial = "foreign_key" // another vendor's key, or an unknown one, from this vendor's address
	WrongHour  Trial = "wrong_hour"  // the right key from the right address, while no window is open
	Enters     Trial = "enters"      // the same while a window is open
	Reaches    Trial = "reaches"     // a listed target on a listed port
	OtherPort  Trial = "other_port"  // a listed target on a port that is not listed
	OtherHost  Trial = "other_host"  // an address that no open window lists
	Inward     Trial = "inward"      // the site begins a flow to the engineer
	WindowEnds Trial = "window_ends" // a flow that is held while the window ends
)

// Trials lists all trials.
func Trials() []Trial {
	return []Trial{Outsider, ForeignKey, WrongHour, Enters, Reaches, OtherPort, OtherHost, Inward, WindowEnds}
}

// Sight is the observed outcome of a trial.
type Sight string

// The sights.
const (
	Silence  Sight = "silence"  // no byte came back, and the gate or the ruleset refused it
	Answer   Sight = "answer"   // a byte came back
	Entry    Sight = "entry"    // a handshake, or the answer of a target
	Nothing  Sight = "nothing"  // no packet passed in either direction, and the ruleset refused it
	Passed   Sight = "passed"   // a packet passed
	Unheard  Sight = "unheard"  // nothing came back, but neither gate nor ruleset has refused anything
	Mistaken Sight = "mistaken" // it was refused for another reason than the policy gives
)

// Why a trial was left out.
const (
	AlwaysOpen = "always_open" // a window of the engineer is open at every hour that was tried
	NeverOpen  = "never_open"  // no window opens for the engineer within 400 days
	OtherTime  = "other_time"  // its hours are none of those that were tried
	NoOther    = "no_other"    // the policy leaves nothing that could be tried
)

// Check is one trial.
type Check struct {
	Trial    Trial  `json:"trial"`
	Engineer string `json:"engineer"`           // vendor/engineer
	From     string `json:"from"`               // the address that tried
	To       string `json:"to"`                 // the gateway's port, or the service, that it tried
	Expected Sight  `json:"expected,omitempty"` // Silence, Entry or Nothing
	Seen     Sight  `json:"seen,omitempty"`     // empty: the trial was left out
	Reason   string `json:"reason,omitempty"`   // of the refusal
	LeftOut  string `json:"left_out,omitempty"` // why it was
	Kept     bool   `json:"kept"`               // false: a promise was broken; true also if it was left out
}

// Failed are the checks that found a promise broken.
func (r *Result) Failed() []Check {
	return slices.DeleteFunc(slices.Clone(r.Checks), func(c Check) bool { return c.Kept })
}

// sort puts the checks in the order in which they are told.
func (r *Result) sort() {
	order := Trials()
	slices.SortStableFunc(r.Checks, func(a, b Check) int { return slices.Index(order, a.Trial) - slices.Index(order, b.Trial) })
}
