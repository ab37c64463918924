package evidence

import (
	"encoding/json"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"kidoban/config"
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

const policyText = `version: 1
site: Hospital
timezone: Asia/Tokyo
tunnel: {addresses: [10.99.0.1/24], endpoint: "gate.example.jp:51820"}
targets:
  ehr: {address: 10.1.0.5, ports: [tcp/443]}
  pacs: {address: 10.1.0.6, ports: [tcp/104]}
operators:
  tanaka: {user: tanaka, may: [record, approve]}
  ueda: {user: ueda, may: [record, approve, ratify]}
  mori: {user: mori, may: [record, approve, ratify]}
vendors:
  medisys:
    name: Medisys
    sources: [203.0.113.1]
    engineers:
      sato: {name: Sato, public_key: "dXNMZIqUTXF8wBRzvq2VYWjqjjQYSjPqJoXCDKHLbWI=", addresses: [10.99.0.2], preshared_key_file: sato.psk}
      suzuki: {name: Suzuki, public_key: "3fZr1LRGbWd6aFQSh7H1gEBSV5iL4x6jrdHJVwTpyE8=", addresses: [10.99.0.3]}
    windows:
      day: {days: [mon], from: "09:00", to: "17:00", targets: [ehr, pacs], approved_by: Head of IT, ticket: R-1}
      night: {days: [mon], from: "21:00", to: "23:00", targets: [ehr], approved_by: Head of IT}
    on_request:
      targets: [ehr]
      approvals: 2
      approvers: [tanaka, ueda, mori]
      max_duration: 4h
      emergency: {max_duration: 1h, ratify_within: 3d, ratifiers: [mori, ueda]}
`

// plainText is the policy with medisys on a line without WireGuard.
var plainText = regexp.MustCompile(`(?s)    engineers:.*?    windows:`).ReplaceAllString(regexp.MustCompile(`(?s)    on_request:.*`).ReplaceAllString(
	strings.NewReplacer("vendors:\n", "lines: {leased: {interface: eth1.310, kind: leased, plain: true}}\nvendors:\n",
		"    sources: [203.0.113.1]\n", "    line: leased\n    sources: [203.0.113.1, 203.0.113.2]\n").Replace(policyText), ""), "    windows:")

// hosts stand in plainText where the engineers are in policyText.
var hosts = map[string]string{"sato": "host-203-0-113-1", "suzuki": "host-203-0-113-2"}

var tokyo = must(time.LoadLocation("Asia/Tokyo"))

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// story writes a journal as the gateway does.
type story struct {
	t       testing.TB
	r       *Record           // of what is written
	text    string            // of the newest policy
	names   map[string]string // of engineers, in place of theirs
	entries []journal.Entry
	now     time.Time
	zone    *time.Location
	number  int
}

func newStory(t testing.TB, text string) *story { return newStoryAt(t, text, "2026-10-01 00:00") }

func newStoryAt(t testing.TB, text, begins string) *story {
	s := &story{t: t, r: NewRecord(config.ReadPast), zone: tokyo}
	s.at(begins)
	s.add(journal.Entry{Kind: journal.Start})
	s.policy(text)
	return s
}

// at sets the clock, to a time of the site's zone.
func (s *story) at(text string) *story {
	s.now = must(time.ParseInLocation("2006-01-02 15:04", text, s.zone))
	return s
}

func (s *story) wait(d time.Duration) *story {
	s.now = s.now.Add(d)
	return s
}

func (s *story) add(e journal.Entry) int64 {
	e.Index, e.Time = int64(len(s.entries)), s.now.UTC()
	e = again(s.t, e)
	s.entries = append(s.entries, e)
	s.r.Add(e)
	return e.Index
}

// again is an entry as it comes out of a journal.
func again(t testing.TB, e journal.Entry) journal.Entry {
	t.Helper()
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var came journal.Entry
	if err := json.Unmarshal(raw, &came); err != nil {
		t.Fatal(err)
	}
	came.Index = e.Index
	return came
}

func (s *story) policy(text string) {
	digest := digestOf(text)
	s.text = text
	s.add(journal.Entry{Kind: journal.PolicyText, Digest: digest, Text: text})
	s.add(journal.Entry{Kind: journal.PolicyLoaded, Digest: digest})
	if _, err := config.ReadPast(text); err != nil {
		s.t.Fatal(err)
	}
}

// person begins an entry about an engineer of medisys, or about the host in his place.
func (s *story) person(kind journal.Kind, engineer string) journal.Entry {
	if name := s.names[engineer]; name != "" {
		engineer = name
	}
	return journal.Entry{Kind: kind, Actor: "gateway", Vendor: "medisys", VendorName: "Medisys", Engineer: engineer}
}

// open opens a grant from now on.
func (s *story) open(engineer, window string, long time.Duration, targets ...string) journal.Entry {
	return s.openFrom(s.source(engineer)+"/32", engineer, window, long, targets...)
}

// source is where an engineer or a host comes from.
func (s *story) source(engineer string) string {
	if s.names[engineer] != "" && engineer == "suzuki" {
		return "203.0.113.2"
	}
	return "203.0.113.1"
}

// openFrom opens a grant to a source.
func (s *story) openFrom(source, engineer, window string, long time.Duration, targets ...string) journal.Entry {
	e := s.person(journal.WindowOpened, engineer)
	e.Sources = []string{source}
	e.Window, e.From, e.Until, e.Targets, e.ApprovedBy = window, s.now.UTC(), s.now.Add(long).UTC(), targets, "Head of IT"
	if strings.HasPrefix(window, policy.RequestMark) {
		e.Request = window
	}
	e.Grant = fmt.Sprintf("medisys/%s/%s@%s", e.Engineer, window, e.From.Format("20060102T150405Z"))
	return s.reopen(e)
}

// reopen opens a grant again, as after a doubt.
func (s *story) reopen(e journal.Entry) journal.Entry {
	e.Index = s.add(e)
	return e
}

func (s *story) close(o journal.Entry, reason string) int64 {
	o.Kind, o.Reason, o.Targets, o.ApprovedBy = journal.WindowClosed, reason, nil, ""
	return s.add(o)
}

// enter opens a session on grants.
func (s *story) enter(engineer string, grants ...journal.Entry) journal.Entry {
	s.number++
	e := s.person(journal.SessionOpened, engineer)
	e.Session, e.Source, e.SourcePort, e.From = fmt.Sprintf("S%d", s.number), s.source(engineer), 51820, s.now.UTC()
	for _, g := range grants {
		e.Grants = append(e.Grants, g.Grant)
	}
	e.Index = s.add(e)
	return e
}

// used counts a session, with a row of bytes for each target.
func (s *story) used(session journal.Entry, bytes int64, targets ...string) int64 {
	e := session
	complete := true
	e.Kind, e.Grants, e.Complete, e.ReceivedBytes, e.TransmittedBytes = journal.Used, nil, &complete, bytes*int64(len(targets)), bytes*int64(len(targets))
	for _, target := range targets {
		address := map[string]string{"ehr": "10.1.0.5", "pacs": "10.1.0.6"}[target]
		service := map[string]string{"ehr": "tcp/443", "pacs": "tcp/104"}[target]
		e.Used = append(e.Used, journal.Use{Target: target, Address: address, Service: service, Connections: 1, ReceivedPackets: bytes / 1000, TransmittedPackets: bytes / 1000,
			ReceivedBytes: bytes, TransmittedBytes: bytes, First: session.From, Last: s.now.UTC()})
	}
	return s.add(e)
}

// leave closes a session.
func (s *story) leave(session journal.Entry, reason string, received, transmitted int64) int64 {
	e := session
	e.Kind, e.Reason, e.ReceivedBytes, e.TransmittedBytes = journal.SessionClosed, reason, received, transmitted
	return s.add(e)
}

// states writes what a person states.
func (s *story) states(kind journal.Kind, actor string, what any) int64 {
	return s.add(journal.Entry{Kind: kind, Actor: actor, Event: must(json.Marshal(what))})
}

// visit is an hour of work with nothing wrong: grant, session, use, report and review. It leaves out
// what it is told to.
func (s *story) visit(engineer, window string, targets []string, without ...string) journal.Entry {
	allowed := map[string][]string{"day": {"ehr", "pacs"}, "night": {"ehr"}}[window]
	grant := s.open(engineer, window, 2*time.Hour, allowed...)
	session := s.wait(10*time.Minute).enter(engineer, grant)
	from := s.now
	s.wait(time.Hour).used(session, 100_000, targets...)
	total := int64(len(targets)) * 104_000
	s.leave(session, "idle", total, total)
	until := s.now
	s.wait(time.Hour)
	s.close(grant, "window_closed")
	s.wait(time.Hour)
	if !slices.Contains(without, "work") {
		s.states(journal.WorkReport, "tanaka", WorkReport{Vendor: "medisys", Engineer: s.person("", engineer).Engineer, From: from, Until: until, Text: "update"})
	}
	s.review(without, session.Session)
	return session
}

func (s *story) review(without []string, sessions ...string) {
	for _, as := range []Stage{Checked, Confirmed} {
		if !slices.Contains(without, string(as)) {
			s.states(journal.Review, map[Stage]string{Checked: "tanaka", Confirmed: "ueda"}[as], Review{As: as, Sessions: sessions, Digest: s.r.sessionsDigest(sessions)})
		}
	}
}

// usual is October and November with nothing wrong.
func usual(t testing.TB) *story { return newStory(t, policyText).usual() }

func (s *story) usual() *story {
	for _, day := range []string{"2026-10-05 10:00", "2026-10-12 10:00", "2026-10-19 10:00", "2026-10-26 10:00", "2026-11-02 10:00", "2026-11-09 10:00"} {
		s.at(day).visit("sato", "day", []string{"ehr", "pacs"})
	}
	s.at("2026-11-16 21:00").visit("sato", "night", []string{"ehr"})
	return s
}

// later is when every deadline of November is over.
func (s *story) later() *story {
	s.at("2027-01-15 09:00").add(journal.Entry{Kind: "newer"})
	return s
}

func (s *story) month(name, vendor string) Report {
	s.t.Helper()
	report, err := s.r.Month(name, vendor)
	if err != nil {
		s.t.Fatal(err)
	}
	return report
}

// all are the entries, from one on.
func (s *story) all(from int) iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		for _, e := range s.entries[from:] {
			if !yield(e, nil) {
				return
			}
		}
	}
}
