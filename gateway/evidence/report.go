package evidence

import (
	"fmt"
	"time"

	"kidoban/gateway/view"
)

// Version is the version of Report's JSON.
const Version = 1

// Report is the month of maintenance. Its JSON is `kidoban report`'s. Times are in the site's zone.
type Report struct {
	Version    int    `json:"version"`
	Month      string `json:"month"`            // YYYY-MM, in the site's zone
	Vendor     string `json:"vendor,omitempty"` // empty: of all vendors
	Site       string `json:"site"`
	Timezone   string `json:"timezone"`
	Origin     string `json:"origin"`     // of the journal
	Entries    Range  `json:"entries"`    // of the month; empty months have To < From
	Size       int64  `json:"size"`       // how many entries the journal had
	Checkpoint string `json:"checkpoint"` // that covers them; empty: it is not known
	// Verified says whether the entries were compared with the checkpoint, and Witnesses who cosigned it.
	Verified  bool     `json:"verified"`
	Witnesses []string `json:"witnesses"`
	// AsOf is the time of the newest entry: what was done later is not in it.
	AsOf     time.Time       `json:"as_of"`
	Policies []ReportPolicy  `json:"policies"` // in force in the month, in order
	Vendors  []VendorSummary `json:"vendors"`  // subcontractors behind their prime
	Sessions []ReportSession `json:"sessions"`
	Unused   []ReportUnused  `json:"unused"`
	Refused  []ReportRefused `json:"refused"`
	// Mismatches are the differences between plan, sessions, use and what was reported.
	Mismatches []Mismatch `json:"mismatches"`
	// NoRequests says that no request was recorded in the month: m02 to m06 compare with windows alone.
	NoRequests bool `json:"no_requests"`
	// Digest is the hex SHA-256 of what happened: it stays as it is when reviews, work reports or
	// entries of other months are added, and changes when something in the month does.
	Digest string `json:"digest"`
}

// ReportPolicy is a policy that was in force in the month.
type ReportPolicy struct {
	Entry  int64     `json:"entry"`
	From   time.Time `json:"from"`
	Digest string    `json:"digest"`
}

// VendorSummary has the sums of a vendor.
type VendorSummary struct {
	Vendor string `json:"vendor"`
	Name   string `json:"vendor_name,omitempty"`
	Under  string `json:"under,omitempty"` // the prime contractor
	// Plain says that some of it came by a line without WireGuard, so that no person is identified.
	Plain bool `json:"plain"`
	// Counts of requests, grants, sessions and refusals in the month.
	Requested int   `json:"requested"`
	Approved  int   `json:"approved"`
	Denied    int   `json:"denied"`
	Opened    int   `json:"opened"`
	Used      int   `json:"used"`
	Unused    int   `json:"unused"`
	Sessions  int   `json:"sessions"`
	Refused   int64 `json:"refused"`
	// Seconds for which something was open, and for which somebody was inside.
	OpenSeconds int64 `json:"open_seconds"`
	UsedSeconds int64 `json:"used_seconds"`
	// Digest is Report.Digest of this vendor alone; reviews of the month sign it.
	Digest    string        `json:"digest"`
	Checked   *ReportSigned `json:"checked"`   // nil: not yet
	Confirmed *ReportSigned `json:"confirmed"` // nil: not yet
	// Stale says that something in the month changed after it was signed.
	Stale bool `json:"stale"`
}

// ReportSigned is a signature: the person and the time.
type ReportSigned struct {
	Entry int64     `json:"entry"`
	At    time.Time `json:"at"`
	By    string    `json:"by"`
	For   string    `json:"for,omitempty"`
	Note  string    `json:"note,omitempty"`
	// Same says that the same person checked and confirmed.
	Same bool `json:"same,omitempty"`
}

// ReportSession is one session: a row of the printed month.
type ReportSession struct {
	ID           string `json:"id"`
	Vendor       string `json:"vendor"`
	VendorName   string `json:"vendor_name,omitempty"`
	Engineer     string `json:"engineer"`
	EngineerName string `json:"engineer_name,omitempty"`
	// Plain says that Engineer is a host behind a line without WireGuard, and no person is identified.
	Plain        bool       `json:"plain"`
	Section      string     `json:"section,omitempty"` // the section of the site that owns the window
	Source       string     `json:"source"`
	SourcePort   uint16     `json:"source_port,omitempty"`
	Line         string     `json:"line,omitempty"`
	OpenedAt     time.Time  `json:"opened_at"`
	ClosedAt     *time.Time `json:"closed_at"` // null: it is open, or the end is not known
	LastHeard    *time.Time `json:"last_heard,omitempty"`
	Ended        string     `json:"ended"`
	Grants       []string   `json:"grants"`
	Request      string     `json:"request,omitempty"`
	RequestedAt  *time.Time `json:"requested_at,omitempty"`
	RequestedBy  string     `json:"requested_by,omitempty"`
	Ticket       string     `json:"ticket,omitempty"`
	Purpose      string     `json:"purpose,omitempty"`
	ApprovedBy   string     `json:"approved_by,omitempty"`
	ApprovedAt   *time.Time `json:"approved_at,omitempty"`
	PlannedFrom  *time.Time `json:"planned_from"`
	PlannedUntil *time.Time `json:"planned_until"`
	// Bytes of the tunnel, from and to the engineer, or of a host's flows; null: not known.
	ReceivedBytes    *int64      `json:"received_bytes"`
	TransmittedBytes *int64      `json:"transmitted_bytes"`
	Used             []ReportUse `json:"used"`
	Counted          bool        `json:"counted"`  // false: the kernel did not count flows, so nothing is known of targets
	Complete         bool        `json:"complete"` // false: some of it is not known
	// CountedAt is when the bytes were counted, of a session that is open or that a crash ended.
	CountedAt *time.Time    `json:"counted_at,omitempty"`
	Refused   int64         `json:"refused"` // flows and handshakes of the engineer, refused meanwhile
	Work      *ReportWork   `json:"work_report"`
	Checked   *ReportSigned `json:"checked"`
	Confirmed *ReportSigned `json:"confirmed"`
	Stale     bool          `json:"stale"`   // something of it changed after it was signed
	Entries   Range         `json:"entries"` // of opening and closing
	Digest    string        `json:"digest"`
}

// ReportUse is the use of one target's service in one session.
type ReportUse struct {
	Target           string    `json:"target"`           // empty with Others
	Address          string    `json:"address"`          // of the destination
	Service          string    `json:"service"`          // as in tcp/443
	Others           int64     `json:"others,omitempty"` // this row is the sum of so many more
	Connections      int64     `json:"connections"`
	ReceivedBytes    int64     `json:"received_bytes"`    // from the engineer
	TransmittedBytes int64     `json:"transmitted_bytes"` // to the engineer
	First            time.Time `json:"first"`
	Last             time.Time `json:"last"`
}

// ReportWork is a work report about a session.
type ReportWork struct {
	Entry        int64      `json:"entry"`
	At           time.Time  `json:"at"`
	By           string     `json:"by"`
	From         *time.Time `json:"from"`
	Until        *time.Time `json:"until"`
	Targets      []string   `json:"targets"`
	PersonalData string     `json:"personal_data"`
	Files        string     `json:"files"`
	Present      string     `json:"present"`
	Text         string     `json:"text"`
	Result       string     `json:"result,omitempty"`
}

// ReportUnused is a grant on which no session stood.
type ReportUnused struct {
	Grant        string     `json:"grant"`
	Vendor       string     `json:"vendor"`
	VendorName   string     `json:"vendor_name,omitempty"`
	Engineer     string     `json:"engineer"`
	EngineerName string     `json:"engineer_name,omitempty"`
	Plain        bool       `json:"plain"` // as in ReportSession
	Section      string     `json:"section,omitempty"`
	Request      string     `json:"request,omitempty"`
	Ticket       string     `json:"ticket,omitempty"`
	ApprovedBy   string     `json:"approved_by,omitempty"`
	From         time.Time  `json:"from"`
	Until        time.Time  `json:"until"`
	ClosedAt     *time.Time `json:"closed_at"`
	Reason       string     `json:"reason"`
	Targets      []string   `json:"targets"`
	Entries      Range      `json:"entries"`
}

// ReportRefused sums refusals of one source, engineer, target and reason.
type ReportRefused struct {
	Vendor   string    `json:"vendor"` // empty: a stranger
	Engineer string    `json:"engineer"`
	Plain    bool      `json:"plain"` // as in ReportSession
	Source   string    `json:"source"`
	Target   string    `json:"target"`
	Reason   string    `json:"reason"`
	Count    int64     `json:"count"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Entries  []int64   `json:"entries"` // at most the first 20
}

// MismatchKinds is how many kinds of mismatches there are: m01 to m16.
const MismatchKinds = 16

// Mismatch is a difference, with the entries that show it.
type Mismatch struct {
	Kind    string  `json:"kind"` // m01 to m16
	Entries []int64 `json:"entries"`
	Vendor  string  `json:"vendor"`
	Session string  `json:"session,omitempty"`
	Grant   string  `json:"grant,omitempty"`
	Text    string  `json:"text"`  // in English; Message says it in the reader's language
	State   string  `json:"state"` // open or explained
	// By and At are who explained it, and when; Note is the explanation.
	By   string     `json:"by,omitempty"`
	At   *time.Time `json:"at,omitempty"`
	Note string     `json:"note,omitempty"`
	// Code and Args are what Text is made of. Code begins with mismatch_ and the kind.
	Code view.Code         `json:"code"`
	Args map[string]string `json:"args,omitempty"`
}

// The states of a mismatch.
const (
	Open      = "open"
	Explained = "explained"
)

// Ref names a mismatch of a vendor, as Review.Explained has it: its kind and first entry.
func (m Mismatch) Ref() string { return fmt.Sprintf("%s:%d", m.Kind, m.Entries[0]) }

// Message is the text in every language.
func (m Mismatch) Message() view.Message {
	args := view.Args{}
	for name, value := range m.Args {
		args[name] = value
	}
	return view.Say(m.Code, args)
}
