package evidence

import "time"

// The details that people add are the `event` of their journal entries.

// Stage is how far a review has come.
type Stage string

// The stages: an operator compares log and plan, and the officer in charge confirms it.
const (
	Checked   Stage = "checked"
	Confirmed Stage = "confirmed"
)

// Review signs sessions, or all of a vendor's month. Kind review.
type Review struct {
	As       Stage    `json:"as"`
	Month    string   `json:"month,omitempty"`    // YYYY-MM
	Vendor   string   `json:"vendor,omitempty"`   // with Month
	Sessions []string `json:"sessions,omitempty"` // or these
	Digest   string   `json:"digest"`             // of the signed month or sessions, as the report has it
	For      string   `json:"for,omitempty"`      // the person who signed on paper
	Note     string   `json:"note,omitempty"`
	// Explained are the mismatches that Note explains, as `m02:1204`: kind and first entry.
	Explained []string `json:"explained,omitempty"`
}

// WorkReport is what a vendor says of its work, as an operator enters it. Kind work_report.
type WorkReport struct {
	Sessions     []string  `json:"sessions,omitempty"` // which it is about
	Vendor       string    `json:"vendor"`
	Engineer     string    `json:"engineer,omitempty"` // short name
	From         time.Time `json:"from"`               // as reported
	Until        time.Time `json:"until"`
	Targets      []string  `json:"targets,omitempty"`       // as reported, by the policy's names; empty: not said
	PersonalData string    `json:"personal_data,omitempty"` // yes, no, or empty: not said; Text says whose, and what was done
	Files        string    `json:"files,omitempty"`         // what was brought in or taken out, and how it was made harmless
	Present      string    `json:"present,omitempty"`       // the site's people who were present
	Text         string    `json:"text"`                    // the work
}

// Answer answers a control of the catalogue. Kind answer.
type Answer struct {
	Control    string    `json:"control"`               // 01 to 36
	Vendor     string    `json:"vendor,omitempty"`      // of a vendor's own answer
	Answer     string    `json:"answer"`                // yes, no, na
	Text       string    `json:"text,omitempty"`        // the reason; of na the justification
	TargetDate string    `json:"target_date,omitempty"` // of no: YYYY-MM-DD, until when it will be yes
	Until      time.Time `json:"until,omitzero"`        // after which it counts no more
	For        string    `json:"for,omitempty"`         // the person who gave the answer
}

// IncidentOpened begins an incident. Kind incident.
type IncidentOpened struct {
	ID       string `json:"id"`   // i and a number, as i-20261130-1
	Kind     string `json:"kind"` // ransomware, ddos, intrusion, leak, outage, other
	Reason   string `json:"reason"`
	Exercise bool   `json:"exercise,omitempty"`
}

// Bundled is a bundle that was made of an incident. Kind incident too, with the verb bundled.
type Bundled struct {
	ID     string `json:"id"`
	Digest string `json:"digest"` // hex SHA-256 of SHA256SUMS
	Size   int64  `json:"size"`   // of the tree that it proves
}

// Sent says that a report or a bundle went to somebody. Kind sent.
type Sent struct {
	ID        string    `json:"id"`
	Recipient string    `json:"recipient"` // a name of the policy's reporting
	At        time.Time `json:"at"`
	How       string    `json:"how"`
}

// IncidentClosed ends an incident. Kind incident too, with the verb closed.
type IncidentClosed struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// Reported says that a month's report was made. Kind reported, without a request.
type Reported struct {
	Month  string `json:"month"`
	Vendor string `json:"vendor,omitempty"`
	Digest string `json:"digest"` // Report.Digest
	Size   int64  `json:"size"`   // how many entries the journal had
}

// Mirrored says that a copy of the journal elsewhere, or a witness, has its first Size entries. Kind mirrored.
type Mirrored struct {
	To      string `json:"to"` // the folder, or the witness's name
	Size    int64  `json:"size"`
	Witness bool   `json:"witness,omitempty"` // it has the hashes alone
}

// Probed says how a trial of the promises by `kidoban probe` ended. Kind probe.
type Probed struct {
	Digest  string         `json:"digest"`  // of the policy
	Version string         `json:"version"` // of the program that tried
	Took    int64          `json:"took_ms"`
	Trials  []ProbeTrial   `json:"trials"`
	Failed  []ProbeFailure `json:"failed,omitempty"` // the first ones
}

// The largest Probed that the gateway records.
const (
	ProbeTrialsMost   = 32  // kinds of trials
	ProbeFailuresMost = 32  // failures that are named
	ProbeTextMost     = 200 // bytes of each text
)

// ProbeTrial counts the trials of one kind.
type ProbeTrial struct {
	Trial   string `json:"trial"` // as wrong_hour
	Kept    int64  `json:"kept"`
	Broken  int64  `json:"broken"`
	LeftOut int64  `json:"left_out"`
}

// ProbeFailure is a trial that found a promise broken.
type ProbeFailure struct {
	Trial    string `json:"trial"`
	Engineer string `json:"engineer"` // vendor/engineer
	From     string `json:"from"`
	To       string `json:"to"`
	Expected string `json:"expected"`
	Seen     string `json:"seen"`
	Reason   string `json:"reason,omitempty"` // of the refusal
}

// Broken counts the trials that found a promise broken.
func (p Probed) Broken() (n int64) {
	for _, t := range p.Trials {
		n += t.Broken
	}
	return n
}
