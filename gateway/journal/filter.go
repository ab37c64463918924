package journal

import (
	"slices"
	"strings"
	"time"
)

// kinds are the kinds that this version writes, in the order in which they are declared.
var kinds = []Kind{Start, Stop, PolicyText, PolicyLoaded, WindowOpened, WindowClosed, Frozen, Warned, Resumed, SessionOpened, SessionClosed, Admission, Refused,
	Shut, Reopened, SwitchShut, SwitchOpened, Drift, ClockStep, Recovery, Doubt, Identity,
	Requested, Approved, Denied, Withdrawn, ExtensionAsked, Extended, Shortened, Revoked, Ratified, Reported, Reviewed,
	Used, Trusted, WorkReport, Review, Answer, Incident, Sent, Mirrored, Probe, State, Pruned, Restored}

// Kinds lists the names of kinds.
func Kinds() (names []string) {
	for _, k := range kinds {
		names = append(names, string(k))
	}
	return names
}

// Filter chooses entries. A field that is empty chooses all.
type Filter struct {
	Since   time.Time // the first entry of this time or later, and all that follow: a recovery may have set the clock back
	Until   time.Time // only entries that are not later; zero: all
	Kinds   []string
	Vendor  string // of an engineer, or of a scope that was closed or reopened
	Request string // the id

	begun bool // Since is reached
}

// Matches takes entries in order, and reports whether the filter chooses the next one.
func (f *Filter) Matches(e Entry) bool {
	f.begun = f.begun || !e.Time.Before(f.Since)
	scope, _, _ := strings.Cut(e.Scope, "/")
	return f.begun && (f.Until.IsZero() || !e.Time.After(f.Until)) && (len(f.Kinds) == 0 || slices.Contains(f.Kinds, string(e.Kind))) &&
		(f.Vendor == "" || f.Vendor == e.Vendor || f.Vendor == scope) && (f.Request == "" || f.Request == e.Request)
}
