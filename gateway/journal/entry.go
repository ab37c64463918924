package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"
)

// Version is the version of the entry format.
const Version = 1

// MaxEntry is the greatest length of an entry's JSON in bytes. The length in a bundle is a uint16.
const MaxEntry = 1<<16 - 1

// Kind is the kind of an entry.
type Kind string

// The kinds of entries. A newer version may write others: readers pass them on, and Newer tells.
const (
	Start         Kind = "start"          // the gateway started
	Stop          Kind = "stop"           // the gateway stopped in order
	PolicyText    Kind = "policy_text"    // a part of the policy's text, named by Digest; precedes PolicyLoaded
	PolicyLoaded  Kind = "policy_loaded"  // the policy named by Digest is in force
	WindowOpened  Kind = "window_opened"  // a grant opens: From, Until, with its approval
	WindowClosed  Kind = "window_closed"  // a grant closed, with Reason
	Frozen        Kind = "frozen"         // a grant ended by its end; its connections are kept until Until
	Warned        Kind = "warned"         // a grant ends in Count minutes
	Resumed       Kind = "resumed"        // it opened again before
	SessionOpened Kind = "session_opened" // an admission was confirmed
	SessionClosed Kind = "session_closed" // with Reason
	Admission     Kind = "admission"      // an initiation was admitted
	Refused       Kind = "refused"        // Count refusals between First and Last, with Reason
	Shut          Kind = "shut"           // an operator closed something
	Reopened      Kind = "reopened"       // an operator took that back
	SwitchShut    Kind = "switch_shut"    // the shut file shuts everything, for Reason
	SwitchOpened  Kind = "switch_opened"  // it does not any more
	Drift         Kind = "drift"          // the ruleset read back differently
	ClockStep     Kind = "clock_step"     // the wall clock was set
	Recovery      Kind = "recovery"       // an operator led out of doubt
	Doubt         Kind = "doubt"          // the gateway shut itself, for a reason
	Identity      Kind = "identity"       // Key is the gateway's public key from now on

	// Of a request, which Request names; Event says what was decided.
	Requested      Kind = "requested"
	Approved       Kind = "approved"
	Denied         Kind = "denied"
	Withdrawn      Kind = "withdrawn"
	ExtensionAsked Kind = "extension_asked"
	Extended       Kind = "extended"
	Shortened      Kind = "shortened"
	Revoked        Kind = "revoked" // a Shut of its scope
	Ratified       Kind = "ratified"
	Reported       Kind = "reported" // the work of a request; without Request a month's report was made
	Reviewed       Kind = "reviewed"

	// Kinds that the gateway writes, and kinds by which people state something. Event has the details of a statement.
	Used       Kind = "used"        // what a session has used so far, in sum
	Trusted    Kind = "trusted"     // a doubt is over; Reason is its subject
	WorkReport Kind = "work_report" // a vendor tells of its work
	Review     Kind = "review"      // a person signed sessions or a month
	Answer     Kind = "answer"      // a person answered a control of the catalogue
	Incident   Kind = "incident"    // an incident was opened, bundled or closed
	Sent       Kind = "sent"        // a report of an incident went to a recipient
	Mirrored   Kind = "mirrored"    // a copy or a witness has the first Count entries
	Probe      Kind = "probe"       // the promises were tried with the policy Digest; Reason says how that ended, Count how many trials were broken
	State      Kind = "state"       // the state of the gateway, so that a start need not read what is before
	Pruned     Kind = "pruned"      // the entries before Count were taken away
	Restored   Kind = "restored"    // a backup took the place of a journal, of which Count entries, between First and Last, are not in this one
)

// Entry is one thing that happened. The kind determines the fields. Empty fields are not written.
type Entry struct {
	// Index is the entry's place, from 0. Replay sets it; it is not written.
	Index int64 `json:"-"`

	Version int `json:"v"` // of this format; Append sets it

	// Time is when it happened. Append sets a zero Time to now, and a Time before the previous
	// entry's to that one. Times go back at a Recovery alone: its Time is the clock that the
	// operator accepted, which From states.
	Time time.Time `json:"time"`

	Kind  Kind   `json:"kind"`
	Actor string `json:"actor,omitempty"` // the operator, "SIGHUP", or "gateway": itself

	Vendor       string `json:"vendor,omitempty"`      // the short name
	VendorName   string `json:"vendor_name,omitempty"` // for people, as the policy had it
	Engineer     string `json:"engineer,omitempty"`    // the short name, with Vendor
	EngineerName string `json:"engineer_name,omitempty"`

	Request    string    `json:"request,omitempty"` // the id of a request, of whatever is about it
	Window     string    `json:"window,omitempty"`
	Grant      string    `json:"grant,omitempty"`
	Session    string    `json:"session,omitempty"`
	Source     string    `json:"source,omitempty"`
	SourcePort uint16    `json:"source_port,omitempty"` // with Source
	Target     string    `json:"target,omitempty"`
	Targets    []string  `json:"targets,omitempty"` // of an opening
	Sources    []string  `json:"sources,omitempty"` // of an opening: prefixes
	Grants     []string  `json:"grants,omitempty"`  // of a session: its grants
	Scope      string    `json:"scope,omitempty"`   // of Shut and Reopened: all, a vendor, or vendor/engineer
	Reason     string    `json:"reason,omitempty"`
	From       time.Time `json:"from,omitzero"`
	Until      time.Time `json:"until,omitzero"`

	// Of an opening, as the policy or the request has them.
	ApprovedBy string `json:"approved_by,omitempty"`
	Ticket     string `json:"ticket,omitempty"`
	Section    string `json:"section,omitempty"` // of the site, which owns the window

	Count int64     `json:"count,omitempty"` // how many it stands for, between First and Last
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`

	Key              string `json:"key,omitempty"`               // an engineer's public key, base64; of Identity the gateway's
	Timestamp        string `json:"timestamp,omitempty"`         // the TAI64N timestamp of an initiation, 24 hex digits; of a session its first
	ReceivedBytes    int64  `json:"received_bytes,omitempty"`    // of a session, from the engineer
	TransmittedBytes int64  `json:"transmitted_bytes,omitempty"` // of a session, to the engineer

	// Of Used: what the session used since it opened. Complete is false if the kernel may have lost
	// some of it; nil in other entries.
	Used     []Use `json:"used,omitempty"`
	Complete *bool `json:"complete,omitempty"`

	Digest string `json:"digest,omitempty"` // of the policy, hex SHA-256
	Text   string `json:"text,omitempty"`   // for people; of PolicyText a part of the policy file
	Part   int    `json:"part,omitempty"`   // of a text that needs several entries: 1 to Parts
	Parts  int    `json:"parts,omitempty"`

	// Event is the event of the policy's state, if the entry has one.
	Event json.RawMessage `json:"event,omitempty"`
}

// Use is the use of one service of one target in a session, since the session opened. Received is
// from the engineer, transmitted to the engineer.
type Use struct {
	Target             string    `json:"target,omitempty"`  // the policy's name of it
	Address            string    `json:"address,omitempty"` // of the destination
	Service            string    `json:"service,omitempty"` // as in tcp/443
	Others             int64     `json:"others,omitempty"`  // this row sums up so many more, and names none
	Connections        int64     `json:"connections"`
	ReceivedPackets    int64     `json:"received_packets"`
	TransmittedPackets int64     `json:"transmitted_packets"`
	ReceivedBytes      int64     `json:"received_bytes"`
	TransmittedBytes   int64     `json:"transmitted_bytes"`
	First              time.Time `json:"first"`
	Last               time.Time `json:"last"`
}

// NewerError says that a newer version of the program wrote an entry, which this one does not understand.
type NewerError struct {
	Entry   int64
	Kind    Kind
	Version int // of the entry's format
}

func (e *NewerError) Error() string {
	what := fmt.Sprintf("the kind %.40q is not known to this one", string(e.Kind))
	if e.Version > Version {
		what = fmt.Sprintf("its format has version %d, this one knows %d", e.Version, Version)
	}
	return fmt.Sprintf("a newer kidoban wrote entry %d of the journal: %s. Start that kidoban, or a newer one", e.Entry, what)
}

// Newer is a *NewerError if a newer version wrote the entry. Who acts by the journal must not pass over
// it: it may close something.
func (e Entry) Newer() error {
	if e.Version <= Version && slices.Contains(kinds, e.Kind) {
		return nil
	}
	return &NewerError{e.Index, e.Kind, e.Version}
}

// SplitText splits an entry with a long text into several that fit into MaxEntry bytes each; Part
// and Parts number them. Other entries stay as they are.
func SplitText(e Entry) []Entry {
	// Time, version and numbers are not there yet: leave room for them.
	const reserve = 128
	if line, err := encode(e); err == nil && len(line) <= MaxEntry-reserve {
		return []Entry{e}
	}
	frame := e
	frame.Text = ""
	line, err := encode(frame)
	room := MaxEntry - reserve - len(line)
	if err != nil || room < MaxEntry/2 {
		return []Entry{e} // the text is not too long; Append explains
	}
	var parts []Entry
	for text := e.Text; text != ""; {
		length, used := 0, 0
		for length < len(text) {
			r, size := utf8.DecodeRuneInString(text[length:])
			escaped := escapedLength(r, size)
			if used+escaped > room {
				break
			}
			used += escaped
			length += size
		}
		frame.Text, text = text[:length], text[length:]
		parts = append(parts, frame)
	}
	for i := range parts {
		parts[i].Part, parts[i].Parts = i+1, len(parts)
	}
	return parts
}

// escapedLength is how many bytes a rune takes in a JSON string, at most.
func escapedLength(r rune, size int) int {
	switch {
	case r == '"' || r == '\\':
		return 2
	case r < 0x20 || r == 0x7f, r == '\u2028' || r == '\u2029', r == utf8.RuneError:
		return 6
	}
	return size
}

// encode is the entry's JSON, one line without its end.
func encode(e Entry) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // people read it, no browser does
	if err := encoder.Encode(e); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// decodeSigned decodes an entry that belongs to the signed tree.
func decodeSigned(index int64, line []byte) (Entry, error) {
	e, err := decode(line)
	if err != nil {
		return e, damaged(index, "signed, but not an entry: %v", err)
	}
	if e.Index = index; e.Version > Version {
		return e, e.Newer()
	}
	return e, nil
}

// sequence reads entries in order, and holds their times to the rule of Entry.Time.
type sequence struct{ last time.Time } // of the entry before; zero: there is none

// next decodes the next entry of the signed tree. back is the time of the entry before it, if
// that is later.
func (s *sequence) next(index int64, line []byte) (e Entry, back time.Time, err error) {
	if e, err = decodeSigned(index, line); err == nil {
		back, err = s.check(e)
	}
	return e, back, err
}

func (s *sequence) check(e Entry) (back time.Time, err error) {
	if e.Time.Before(s.last) {
		back = s.last
		if e.Kind != Recovery || !e.From.Equal(e.Time) {
			err = damaged(e.Index, "signed, but its time %s is before %s, the time of the entry before it: allowed is that at a recovery alone, which has the accepted clock as its `from`",
				e.Time.Format(time.RFC3339Nano), s.last.Format(time.RFC3339Nano))
		}
	}
	s.last = e.Time
	return back, err
}

// decode reads an entry. Unknown fields are ignored; List shows them.
func decode(line []byte) (Entry, error) {
	var e Entry
	if err := json.Unmarshal(line, &e); err != nil {
		return Entry{}, err
	}
	if e.Kind == "" || e.Time.IsZero() {
		return Entry{}, errors.New("no kind or no time")
	}
	return e, nil
}
