package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"kidoban/gateway/journal"
)

// Facts are what digests are of. Their JSON is canonical (RFC 8785): fields are in the order of their
// names, times are in UTC. What people say afterwards is no part of it, and neither are names for
// people.

// sessionFacts are of one session.
type sessionFacts struct {
	Closed      *time.Time `json:"closed"`
	Complete    bool       `json:"complete"`
	Counted     bool       `json:"counted"`
	Ended       string     `json:"ended"`
	Engineer    string     `json:"engineer"`
	First       int64      `json:"first"` // entries
	Grants      []string   `json:"grants"`
	Heard       *time.Time `json:"heard"`
	ID          string     `json:"id"`
	Last        int64      `json:"last"`
	Opened      time.Time  `json:"opened"`
	Received    *int64     `json:"received"`
	Source      string     `json:"source"`
	Transmitted *int64     `json:"transmitted"`
	Used        []useFacts `json:"used"`
	Vendor      string     `json:"vendor"`
}

// useFacts are of the use of one service.
type useFacts struct {
	Address            string    `json:"address"`
	Connections        int64     `json:"connections"`
	First              time.Time `json:"first"`
	Last               time.Time `json:"last"`
	Others             int64     `json:"others"`
	ReceivedBytes      int64     `json:"received_bytes"`
	ReceivedPackets    int64     `json:"received_packets"`
	Service            string    `json:"service"`
	Target             string    `json:"target"`
	TransmittedBytes   int64     `json:"transmitted_bytes"`
	TransmittedPackets int64     `json:"transmitted_packets"`
}

// openingFacts are of one opening. An end after the month is not in it: it may not be known yet.
type openingFacts struct {
	ApprovedBy string     `json:"approved_by"`
	Closed     *time.Time `json:"closed"`
	Engineer   string     `json:"engineer"`
	First      int64      `json:"first"` // entry
	From       time.Time  `json:"from"`
	Grant      string     `json:"grant"`
	Reason     string     `json:"reason"`
	Request    string     `json:"request"`
	Section    string     `json:"section"`
	Sources    []string   `json:"sources"`
	Targets    []string   `json:"targets"`
	Ticket     string     `json:"ticket"`
}

// noteFacts are of one entry that stands for itself.
type noteFacts struct {
	At    time.Time    `json:"at"`
	Entry int64        `json:"entry"`
	Kind  journal.Kind `json:"kind"`
}

// refusedFacts are of refusals.
type refusedFacts struct {
	Count    int64     `json:"count"`
	Engineer string    `json:"engineer"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Reason   string    `json:"reason"`
	Source   string    `json:"source"`
	Target   string    `json:"target"`
}

// vendorFacts are of a vendor's month.
type vendorFacts struct {
	Decisions []noteFacts    `json:"decisions"`
	Month     string         `json:"month"`
	Openings  []openingFacts `json:"openings"`
	Refused   []refusedFacts `json:"refused"`
	Sessions  []string       `json:"sessions"` // digests
	Vendor    string         `json:"vendor"`
	Version   int            `json:"version"`
}

// monthFacts are of the month of all vendors.
type monthFacts struct {
	Gateway   []noteFacts    `json:"gateway"`
	Month     string         `json:"month"`
	Policies  []string       `json:"policies"` // digests
	Strangers []refusedFacts `json:"strangers"`
	Vendors   []string       `json:"vendors"` // digests
	Version   int            `json:"version"`
}

// digestOf is the hex SHA-256 of facts.
func digestOf(facts any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(facts); err != nil {
		panic(err) // our own types
	}
	sum := sha256.Sum256(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
	return hex.EncodeToString(sum[:])
}

func (f sessionFacts) digest() string { return digestOf(f) }
func (f vendorFacts) digest() string  { return digestOf(f) }

func utc(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	at = at.UTC()
	return &at
}

func (r *Record) factsOf(s *Session) sessionFacts {
	f := sessionFacts{Closed: utc(s.ClosedAt), Complete: s.Count.Complete, Counted: s.Count.Counted, Ended: s.Ended, Engineer: s.Engineer, First: s.First,
		Grants: append([]string{}, s.Grants...), Heard: utc(s.LastHeard), ID: s.ID, Last: s.Last, Opened: s.OpenedAt.UTC(), Used: []useFacts{}, Vendor: s.Vendor}
	if s.Source.IsValid() {
		f.Source = s.Source.String()
	}
	if c := s.Count; c.Known {
		f.Received, f.Transmitted = &c.Received, &c.Transmitted
	}
	for _, u := range s.Count.Used {
		f.Used = append(f.Used, useFacts{u.Address, u.Connections, u.First.UTC(), u.Last.UTC(), u.Others, u.ReceivedBytes, u.ReceivedPackets, u.Service, u.Target, u.TransmittedBytes, u.TransmittedPackets})
	}
	return f
}

// vendorFacts are those of a vendor's month.
func (b *monthly) vendorFacts(vendor string) vendorFacts {
	f := vendorFacts{Decisions: []noteFacts{}, Month: b.m.name, Openings: []openingFacts{}, Refused: b.refusedFacts(vendor), Sessions: []string{}, Vendor: vendor, Version: Version}
	for _, q := range b.r.Requests {
		if q.Vendor != vendor {
			continue
		}
		for _, d := range append([]Decision{q.Recorded}, q.Decisions...) {
			if b.m.has(d.At) && d.Kind != journal.Reported && d.Kind != journal.Reviewed && d.Kind != journal.Ratified {
				f.Decisions = append(f.Decisions, noteFacts{d.At.UTC(), d.Entry, d.Kind})
			}
		}
	}
	for _, o := range b.openings {
		if o.Vendor != vendor {
			continue
		}
		x := openingFacts{ApprovedBy: o.ApprovedBy, Engineer: o.Engineer, First: o.First, From: o.From.UTC(), Grant: o.Grant, Request: o.Request, Section: o.Section,
			Sources: append([]string{}, o.Sources...), Targets: append([]string{}, o.Targets...), Ticket: o.Ticket}
		if o.Last >= 0 && o.ClosedAt.Before(b.m.until) {
			x.Closed, x.Reason = utc(o.ClosedAt), o.Reason
		}
		f.Openings = append(f.Openings, x)
	}
	for _, s := range b.sessions {
		if s.Vendor == vendor {
			f.Sessions = append(f.Sessions, b.r.factsOf(s).digest())
		}
	}
	return f
}

// refusedFacts are those of a vendor, or of strangers: empty.
func (b *monthly) refusedFacts(vendor string) []refusedFacts {
	all := []refusedFacts{}
	for _, x := range b.report.Refused {
		if x.Vendor == vendor {
			all = append(all, refusedFacts{x.Count, x.Engineer, x.First.UTC(), x.Last.UTC(), x.Reason, x.Source, x.Target})
		}
	}
	return all
}

// digest is Report.Digest. A report of one vendor has that vendor's.
func (b *monthly) digest() string {
	f := monthFacts{Gateway: []noteFacts{}, Month: b.m.name, Policies: []string{}, Strangers: b.refusedFacts(""), Vendors: []string{}, Version: Version}
	for _, v := range b.report.Vendors {
		if v.Vendor == b.vendor {
			return v.Digest
		}
		f.Vendors = append(f.Vendors, v.Digest)
	}
	for _, p := range b.report.Policies {
		f.Policies = append(f.Policies, p.Digest)
	}
	for _, all := range [][]Note{b.r.Steps, b.r.Drifts, b.r.Shuts} {
		for _, n := range all {
			if b.m.has(n.Time) {
				f.Gateway = append(f.Gateway, noteFacts{n.Time.UTC(), n.Entry, n.Kind})
			}
		}
	}
	for _, s := range b.r.Doubts {
		if b.m.has(s.From) {
			f.Gateway = append(f.Gateway, noteFacts{s.From.UTC(), s.First, s.Kind})
		}
	}
	return digestOf(f)
}
