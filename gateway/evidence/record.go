// Package evidence reads what happened from a journal: who was inside when, to what, by whose
// approval, and who has checked it. It is pure: entries come in, and records, reports and answers
// come out. The same entries give the same bytes, whenever and wherever they are read.
//
//	record.go    the record of a whole journal
//	add.go       what each entry adds to it
//	presence.go  grants and sessions, of these
//	policies.go  the policies of the record, which are read when they are asked for
//	refusals.go  refusals, in sums
//	month.go     the report of a month
//	report.go    its JSON
//	mismatch.go  its mismatches
//	facts.go     its digests
//	signed.go    who signed what
//	event.go     what people add: reviews, answers, incidents, work reports
package evidence

import (
	"iter"
	"net/netip"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// Record is what the entries of a journal say, in their order. Add takes them one by one. It is not
// safe for use by several goroutines: Month reads policies when it needs them, and keeps them.
type Record struct {
	Entries  Range     // read so far; To is -1 before the first
	Begins   time.Time // of the first entry
	Now      time.Time // of the newest entry: the only clock that a record has
	Policies []PolicyInForce
	Openings []*Opening
	Sessions []*Session
	Doubts   []*Span // doubts, and times in which no gateway ran
	Steps    []Note  // of the clock, and recoveries
	Drifts   []Note
	Shuts    []Note // closes and reopenings, the shut file's too
	Requests []*Request

	Reviews   []Signed[Review]
	Work      []Signed[WorkReport]
	Answers   []Signed[Answer]
	Incidents []*Incident
	Reported  []Signed[Reported]
	Mirrored  []Signed[Mirrored]
	Probed    *Signed[Probed] // the newest one; nil: there was none
	ProbeKept time.Time       // when a probe last found all promises kept; zero: never

	past past
	is   index
}

// NewRecord is a record without entries. parse reads the text of a policy that was in force; it gets
// each text once at most while the policy is in use. config.ReadPast does it.
func NewRecord(parse func(text string) (*policy.Policy, error)) *Record {
	return &Record{Entries: Range{To: -1}, past: newPast(parse), is: newIndex()}
}

// Read makes the record of entries, which may begin in the middle of a journal. The error is the
// first of the entries.
func Read(entries iter.Seq2[journal.Entry, error], parse func(text string) (*policy.Policy, error)) (*Record, error) {
	r := NewRecord(parse)
	for e, err := range entries {
		if err != nil {
			return nil, err
		}
		r.Add(e)
	}
	return r, nil
}

// Range is a range of entries by their indexes, inclusive. An empty one has To < From.
type Range struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// PolicyInForce is a policy, and since when it was in force. Record.Policy and Record.Text have what
// it says.
type PolicyInForce struct {
	Entry  int64 // of kind policy_loaded
	From   time.Time
	Digest string
	Actor  string
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
	Kind        journal.Kind // doubt; or stop: no gateway ran
	About       string       // of a doubt: its subject, known from its end; empty: an old journal does not say
	Text        string
	From, Until time.Time // a zero Until: it lasts
	First, Last int64     // entries; Last is -1 while it lasts
}

// Person is an engineer of a vendor, by the policy's names and those for people.
type Person struct {
	Vendor, VendorName     string
	Engineer, EngineerName string
}

// Opening is a grant that was open.
type Opening struct {
	Person
	Grant, Window, Request            string
	ApprovedBy, Ticket, Section, Text string // as the entry has them
	Targets, Sources                  []string
	From, Until                       time.Time // as planned; Until as it was in the end
	OpenedAt, ClosedAt                time.Time // a zero ClosedAt: it is open
	Reason                            string    // why it closed
	First, Last                       int64     // entries of opening and closing; Last is -1 while it is open
	Sessions                          []string  // which stood on it
}

// Session is a session as the journal has it.
type Session struct {
	Person
	ID                 string
	Source             netip.AddrPort // a zero port: the entry has none
	Timestamp          string         // of the handshake; empty: the entry has none
	Grants             []string
	OpenedAt, ClosedAt time.Time // a zero ClosedAt: it is open
	// LastHeard is of a session that a crash ended: the newest sign of it. Its ClosedAt is the
	// time of the start after that.
	LastHeard   time.Time
	Ended       string // reason; empty: it is open
	Refused     int64  // flows and handshakes of the engineer meanwhile
	First, Last int64  // entries; Last is -1 while it is open
	Admission   int64  // the entry that admitted it; -1: not found
	Count       Count
}

// Count is what a session used, as of its newest count.
type Count struct {
	// Received and Transmitted are bytes of the tunnel, from and to the engineer. Known says
	// whether they are: a crash leaves them as of At, and without a count they are not known.
	Received, Transmitted int64
	Known                 bool
	Used                  []journal.Use
	Counted               bool      // by the kernel's accounting; false: nothing is known of targets
	Complete              bool      // the kernel lost none of it
	At                    time.Time // of the count
	Entry                 int64     // of the newest `used`; -1: there is none
}

// Request is a request as the journal has it, without the policy's view of it.
type Request struct {
	ID, Vendor string
	Terms      policy.Terms
	Needed     int       // how many approvals it needed then
	RatifyBy   time.Time // of an emergency; zero: at once
	Recorded   Decision
	Decisions  []Decision // after the recording, in order
}

// Decision is one entry about a request.
type Decision struct {
	Entry  int64
	At     time.Time
	Kind   journal.Kind
	By     string // the operator's name; of revocations the actor
	Login  string // the operator's login then
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
