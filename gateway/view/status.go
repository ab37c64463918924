package view

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"kidoban/gateway/policy"
)

// JournalStatus says how much is recorded.
type JournalStatus struct {
	Size       int64 // entries
	Checkpoint time.Time
	Waiting    time.Duration // age of the append under way; 0: none is
	Began      time.Time     // when it began with an empty state folder; zero: not known
}

// Traffic is the count of WireGuard for one key.
type Traffic struct {
	Received, Transmitted uint64 // bytes, of authenticated packets
	LastHandshake         time.Time
}

// Since gives the bytes that came after an earlier reading.
func (t Traffic) Since(before Traffic) (received, transmitted uint64) {
	return t.Received - min(before.Received, t.Received), t.Transmitted - min(before.Transmitted, t.Transmitted)
}

// Names are the display names of a vendor and an engineer; empty: the policy has none.
type Names struct {
	VendorName   string `json:"vendor_name,omitempty"`
	EngineerName string `json:"engineer_name,omitempty"`
	// Plain: the engineer is a host behind a line without WireGuard, and no person is identified.
	Plain bool `json:"plain,omitempty"`
}

// NamesOf gives the names of an engineer; nil has none.
func NamesOf(e *policy.Engineer) Names {
	if e == nil {
		return Names{}
	}
	return Names{e.Vendor.DisplayName, e.DisplayName, e.Plain()}
}

// String gives both names. The name of a host is its address, which its short name has already.
func (n Names) String() string {
	if n.Plain {
		return n.VendorName
	}
	return strings.TrimSpace(n.VendorName + " " + n.EngineerName)
}

// Status is the answer of `kidoban status --json`.
type Status struct {
	Ready          bool            `json:"ready"`
	NotReadyReason string          `json:"not_ready_reason"`
	Site           string          `json:"site"`
	Policy         PolicyStatus    `json:"policy"`
	Now            time.Time       `json:"now"`
	NextChange     *time.Time      `json:"next_change"` // null: nothing opens or closes within 400 days
	Shut           ShutStatus      `json:"shut"`
	Doubts         []Doubt         `json:"doubts"`
	Hints          []string        `json:"hints"`         // English: hint_messages, then warnings
	HintMessages   []Message       `json:"hint_messages"` // of the gateway
	Warnings       []Message       `json:"warnings"`      // about the policy in force
	Grants         []GrantStatus   `json:"grants"`
	Sessions       []SessionStatus `json:"sessions"`
	Requests       RequestCounts   `json:"requests"`
	ClockOK        bool            `json:"clock_synchronized"`
	Version        string          `json:"version"`
	PublicKey      *policy.Key     `json:"public_key"` // the gateway's; null: it has none
}

// PolicyStatus says which policy is in force.
type PolicyStatus struct {
	Digest   string     `json:"digest"`
	LoadedAt *time.Time `json:"loaded_at"`
	FileOK   bool       `json:"file_ok"`              // the file on disk would survive a restart
	Error    string     `json:"file_error,omitempty"` // why it would not
}

// ShutStatus lists the scopes that operators closed.
type ShutStatus struct {
	All       bool                `json:"all"`
	Vendors   []string            `json:"vendors"`
	Engineers []string            `json:"engineers"` // vendor/engineer
	Records   []policy.ShutRecord `json:"records"`   // without their keys
	// ByKey has the engineers that are shut under an earlier name. Only that scope can
	// be reopened.
	ByKey []policy.Held `json:"by_key,omitempty"`
}

// GrantStatus is an open grant.
type GrantStatus struct {
	ID       string `json:"id"`
	Vendor   string `json:"vendor"`
	Engineer string `json:"engineer"`
	Names
	Window  string         `json:"window"`
	Request string         `json:"request,omitempty"` // the id of the request that opened it, as Window
	From    time.Time      `json:"from"`
	Until   time.Time      `json:"until"`
	Targets []string       `json:"targets"`
	Sources []netip.Prefix `json:"sources"`
}

// SessionStatus is an open session.
type SessionStatus struct {
	ID       string `json:"id"`
	Vendor   string `json:"vendor"`
	Engineer string `json:"engineer"`
	Names
	Source        netip.Addr `json:"source"`
	OpenedAt      time.Time  `json:"opened_at"`
	Until         time.Time  `json:"until"`
	Grants        []string   `json:"grants"`
	Received      uint64     `json:"received_bytes"`
	Transmitted   uint64     `json:"transmitted_bytes"`
	LastHandshake *time.Time `json:"last_handshake"`
	Unanswered    uint64     `json:"-"` // bytes that the engineer sent without any answer; 0: there was one, or it is too early to tell
}

// Refusal sums the packets that were refused for one reason, of one engineer,
// from one address, to one target. It is an element of the answer of
// `kidoban refusals --json`.
type Refusal struct {
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Count    int       `json:"count"`
	Reason   string    `json:"reason"`
	Vendor   string    `json:"vendor"`
	Engineer string    `json:"engineer"`
	Names
	Source netip.Addr `json:"source"`
	Target string     `json:"target,omitempty"` // the destination of a refused flow
	// Of a stranger: the last key that was offered, which proves nothing, and whether
	// an initiation was for a gateway with another public key.
	OfferedKey string `json:"offered_key,omitempty"`
	Foreign    bool   `json:"foreign,omitempty"`
}

// StatusAt is the status at an instant.
func (s *Snapshot) StatusAt(now time.Time) Status {
	st := Status{
		Ready: s.Ready(), NotReadyReason: s.Plan.Doubt, Now: s.Local(now), Shut: s.Shut(), Grants: s.GrantsAt(now), Sessions: s.Sessions, Requests: s.requests(now),
		Policy: PolicyStatus{FileOK: s.File.Error == "", Error: s.File.Error}, ClockOK: s.Synchronized, Version: s.Version,
		Doubts: append([]Doubt{}, s.Doubts...), HintMessages: s.Hints(now), Warnings: append([]Message{}, s.File.Warnings...),
	}
	st.Hints = append(Texts(st.HintMessages), Texts(st.Warnings)...)
	if p := s.Plan.Policy; p != nil {
		st.Site, st.Policy.Digest, st.Policy.LoadedAt = p.Site, p.Digest, new(s.Local(s.File.LoadedAt))
	}
	if s.Key != (policy.Key{}) {
		st.PublicKey = &s.Key
	}
	if !s.Plan.NextChange.IsZero() {
		st.NextChange = new(s.Local(s.Plan.NextChange))
	}
	return st
}

// Shut lists the scopes that operators closed.
func (s *Snapshot) Shut() ShutStatus {
	st := ShutStatus{Vendors: []string{}, Engineers: []string{}, Records: []policy.ShutRecord{}, ByKey: s.Base.Held()}
	for _, r := range s.Shuts() {
		r = s.LocalShut(r)
		st.Records = append(st.Records, r)
		switch scope := string(r.Scope); {
		case r.Scope == policy.All:
			st.All = true
		case strings.Contains(scope, "/"):
			st.Engineers = append(st.Engineers, scope)
		default:
			st.Vendors = append(st.Vendors, scope)
		}
	}
	return st
}

// Shuts lists the closed vendors and engineers, and all. A revoked request is none of them: it cannot
// be reopened.
func (s *Snapshot) Shuts() []policy.ShutRecord {
	return slices.DeleteFunc(s.Base.Closed(), func(r policy.ShutRecord) bool { return r.Scope.IsRequest() })
}

// LocalShut is a record for operators: with local times, and without keys.
func (s *Snapshot) LocalShut(r policy.ShutRecord) policy.ShutRecord {
	r.At, r.Keys, r.Again = s.Local(r.At), nil, slices.Clone(r.Again)
	for i, c := range r.Again {
		r.Again[i].At = s.Local(c.At)
	}
	return r
}

// GrantsAt lists the grants that are open at an instant.
func (s *Snapshot) GrantsAt(now time.Time) []GrantStatus {
	open := []GrantStatus{}
	for _, g := range s.Plan.Grants {
		if !g.Contains(now) {
			continue
		}
		o := GrantStatus{ID: g.ID, Vendor: g.Engineer.Vendor.Name, Engineer: g.Engineer.Name, Window: g.Window.Name, Names: NamesOf(g.Engineer),
			From: s.Local(g.From), Until: s.Local(g.Until), Targets: []string{}, Sources: g.Engineer.Sources}
		if g.Window.IsRequest() {
			o.Request = g.Window.Name
		}
		for _, t := range g.Window.Targets {
			o.Targets = append(o.Targets, t.Name)
		}
		open = append(open, o)
	}
	return open
}

// RefusalsLocal lists the refusals with times as operators read them.
func (s *Snapshot) RefusalsLocal() []Refusal {
	all := append([]Refusal{}, s.Refusals...)
	for i, r := range all {
		all[i].First, all[i].Last = s.Local(r.First), s.Local(r.Last)
	}
	return all
}
