// Package evidence reads what happened from a journal: who was inside when, to what, by whose
// approval, and who has checked it. It is pure: entries come in, and records, reports and answers
// come out. The same entries give the same bytes, whenever and wherever they are read.
//
//	record.go  the record of a whole journal, entry by entry
//	report.go  the month of maintenance, as JSON has it
//	event.go   what people add: reviews, answers, incidents, work reports
package evidence

import (
	"net/netip"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// Record is what the entries of a journal say, in their order. Add takes them one by one.
type Record struct {
	Entries  Range     // read so far; To is -1 before the first
	Begins   time.Time // of the first entry
	Now      time.Time // of the newest entry: the only clock that a record has
	Policies []PolicyInForce
	Openings []*Opening
	Sessions []*Session
	Refusals []Refusal
	Doubts   []Span // doubts, and times in which no gateway ran
	Steps    []Note // of the clock, and recoveries
	Drifts   []Note
	Shuts    []Note // closes and reopenings, the shut file's too
	Requests []*Request

	Reviews   []Signed[Review]
	Work      []Signed[WorkReport]
	Answers   []Signed[Answer]
	Incidents []*Incident
	Reported  []Signed[Reported]
	Mirrored  []Signed[Mirrored]
}

// Range is a range of entries by their indexes, inclusive.
type Range struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// PolicyInForce is a policy, and since when it was in force.
type PolicyInForce struct {
	Entry  int64 // of kind policy_loaded
	From   time.Time
	Digest string
	Actor  string
	Text   string         // empty: the journal does not have it
	Policy *policy.Policy // nil: the text cannot be read by this version
}

// Note is an entry that stands for itself.
type Note struct {
	Entry  int64
	Time   time.Time
	Kind   journal.Kind
	Actor  string
	Scope  string
	Reason string
	Text   string
}

// Span is a time, with the entries at both ends.
type Span struct {
	Kind        journal.Kind // doubt, or stop: no gateway ran
	Text        string
	From, Until time.Time // a zero Until: it lasts
	First, Last int64     // entries; Last is -1 while it lasts
}

// Opening is a grant that was open.
type Opening struct {
	Grant, Window, Request            string
	Vendor, VendorName                string
	Engineer, EngineerName            string
	ApprovedBy, Ticket, Section, Text string
	Targets, Sources                  []string
	From, Until                       time.Time // as planned; Until as it was in the end
	OpenedAt, ClosedAt                time.Time // a zero ClosedAt: it is open
	Reason                            string    // why it closed
	First, Last                       int64     // entries of opening and closing; Last is -1 while it is open
	Sessions                          []string  // which stood on it
}

// Session is a session as the journal has it.
type Session struct {
	ID                     string
	Vendor, VendorName     string
	Engineer, EngineerName string
	Source                 netip.AddrPort // a zero port: the entry has none
	Timestamp              string         // of the handshake; empty: the entry has none
	Grants                 []string
	OpenedAt, ClosedAt     time.Time // a zero ClosedAt: it is open
	LastHeard              time.Time // of a session whose closing was written by a later process: its last count
	Ended                  string    // reason; empty: it is open
	// Received and Transmitted are bytes of the tunnel, from and to the engineer. Known says
	// whether they are: a crash leaves them as of the last count, and without one they are not known.
	Received, Transmitted int64
	Known                 bool
	Used                  []journal.Use
	Counted               bool // by the kernel's accounting; false: nothing is known of targets
	Complete              bool // the kernel lost none of it
	First, Last           int64
	Admission             int64 // the entry that admitted it; -1: not found
}

// Refusal is a refused entry about a vendor or an engineer, or about a stranger.
type Refusal struct {
	Entry            int64
	Vendor, Engineer string // empty: a stranger
	Source, Target   string
	Reason           string
	Count            int64
	First, Last      time.Time
}

// Request is a request as the journal has it, without the policy's view of it.
type Request struct {
	ID, Vendor string
	Terms      policy.Terms
	Recorded   Decision
	Decisions  []Decision // after the recording, in order
}

// Decision is one entry about a request.
type Decision struct {
	Entry  int64
	At     time.Time
	Kind   journal.Kind
	By     string // the operator's name; of revocations the actor
	Actor  string
	Reason string
	Until  time.Time // of extensions and shortenings
	Files  string    // of a work report
	Result string
}

// Signed is something that a person stated, in an entry of its own.
type Signed[T any] struct {
	Entry int64     `json:"entry"`
	At    time.Time `json:"at"`
	Actor string    `json:"by"` // the login, as the gateway knew it
	Is    T         `json:"is"`
}

// Incident is an incident, from its opening on.
type Incident struct {
	Signed[IncidentOpened]
	Bundles []Signed[Bundled]
	Sent    []Signed[Sent]
	Closed  *Signed[IncidentClosed] // nil: it is open
}
