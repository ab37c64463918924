package evidence

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// requested records a request of medisys.
func (s *story) requested(id string, emergency bool, by string, needed int) int64 {
	e := policy.Requested{Terms: policy.Terms{ID: id, Vendor: "medisys", Emergency: emergency, From: s.now.UTC(), Until: s.now.Add(time.Hour).UTC(), Purpose: "repair", Ticket: "R-9"},
		By: by, Login: by, Needed: needed}
	if emergency {
		e.RatifyBy = s.now.Add(72 * time.Hour).UTC()
	}
	return s.add(journal.Entry{Kind: journal.Requested, Actor: by, Vendor: "medisys", Request: id, Event: must(json.Marshal(e))})
}

func (s *story) decides(verb policy.Verb, id, by string) int64 {
	return s.add(journal.Entry{Kind: journal.Kind(verb), Actor: by, Vendor: "medisys", Request: id, Event: must(json.Marshal(policy.Verdict{ID: id, By: by, Login: by}))})
}

// seeds put one thing wrong into a month in which nothing is. They return the entries that show it.
var seeds = []struct {
	code string
	seed func(s *story) []int64
}{
	{"mismatch_m01", func(s *story) []int64 {
		session := s.enter("sato")
		s.wait(time.Minute).leave(session, "idle", 100, 100)
		s.states(journal.WorkReport, "tanaka", WorkReport{Sessions: []string{session.Session}, Vendor: "medisys"})
		s.review(nil, session.Session)
		return []int64{session.Index}
	}},
	{"mismatch_m02", func(s *story) []int64 {
		first, second := s.open("sato", "day", time.Hour, "ehr"), s.open("suzuki", "day", time.Hour, "ehr")
		s.wait(time.Hour)
		return []int64{first.Index, second.Index, s.close(first, "window_closed"), s.close(second, "window_closed")}
	}},
	{"mismatch_m03", func(s *story) []int64 {
		session := s.visit("sato", "day", []string{"ehr"}, "work")
		return []int64{session.Index, s.r.is.sessions[session.Session].Last}
	}},
	{"mismatch_m04", func(s *story) []int64 {
		return []int64{s.states(journal.WorkReport, "tanaka", WorkReport{Vendor: "medisys", From: s.now, Until: s.now.Add(time.Hour)})}
	}},
	{"mismatch_m04_request", func(s *story) []int64 {
		asked := s.requested("~a1", false, "tanaka", 1)
		return []int64{s.decides(policy.Report, "~a1", "tanaka"), asked}
	}},
	{"mismatch_m05", func(s *story) []int64 {
		session := s.visit("sato", "day", []string{"ehr"}, "work")
		x := s.r.is.sessions[session.Session]
		return []int64{s.states(journal.WorkReport, "tanaka", WorkReport{Vendor: "medisys", Sessions: []string{x.ID}, From: x.OpenedAt.Add(16 * time.Minute), Until: x.ClosedAt}), x.First, x.Last}
	}},
	{"mismatch_m06", func(s *story) []int64 {
		session := s.visit("sato", "night", []string{"ehr", "pacs"})
		return []int64{s.r.is.sessions[session.Session].Count.Entry, session.Index - 1}
	}},
	{"mismatch_m06_report", func(s *story) []int64 {
		session := s.visit("sato", "day", []string{"ehr", "pacs"}, "work")
		x := s.r.is.sessions[session.Session]
		return []int64{s.states(journal.WorkReport, "tanaka", WorkReport{Vendor: "medisys", Sessions: []string{x.ID}, Targets: []string{"ehr"}, From: x.OpenedAt, Until: x.ClosedAt}), x.Count.Entry}
	}},
	{"mismatch_m07", func(s *story) []int64 {
		grant := s.open("sato", "day", time.Hour, "ehr")
		session := s.enter("sato", grant)
		from := s.now
		s.wait(time.Hour).used(session, 100_000, "ehr")
		last := s.leave(session, "idle", 100_000, 2<<20)
		s.close(grant, "window_closed")
		s.states(journal.WorkReport, "tanaka", WorkReport{Vendor: "medisys", From: from, Until: s.now})
		s.review(nil, session.Session)
		return []int64{session.Index, last}
	}},
	{"mismatch_m08", func(s *story) []int64 {
		under := "  medisys:\n    under: prime\n    consent: {by: Mayor, date: 2026-04-01, until: 2026-11-22}\n    contract: {until: 2026-11-22}\n"
		prime := "  prime:\n    contract: {until: 2027-03-31}\n    sources: [203.0.113.9]\n    engineers: {abe: {public_key: \"CF6FOPvDgrk6GdVPhk0Pv1tf/5ZpVkz0ZpxQaXr7WQE=\", addresses: [10.99.0.9]}}\n" +
			"    windows: {all: {days: [mon], from: \"09:00\", to: \"10:00\", targets: [ehr, pacs], approved_by: Head}}\n"
		s.policy(strings.Replace(s.text, "  medisys:\n", prime+under, 1))
		return []int64{s.visit("sato", "day", []string{"ehr"}).Index}
	}},
	{"mismatch_m09", func(s *story) []int64 {
		var entries []int64
		for _, source := range []string{"198.51.100.7", "198.51.100.8"} {
			e := s.person(journal.Refused, "sato")
			e.Source, e.Reason, e.Count, e.First, e.Last = source, "wrong_source", 3, s.now.UTC(), s.now.UTC()
			entries = append(entries, s.add(e))
		}
		return entries
	}},
	{"mismatch_m10", func(s *story) []int64 { return []int64{s.requested("~a1", true, "tanaka", 0)} }},
	{"mismatch_m11", func(s *story) []int64 {
		session := s.visit("sato", "day", []string{"ehr"}, "checked", "confirmed")
		return []int64{session.Index, s.r.is.sessions[session.Session].Last}
	}},
	{"mismatch_m11_confirmed", func(s *story) []int64 {
		session := s.visit("sato", "day", []string{"ehr"}, "confirmed")
		return []int64{session.Index, s.r.is.sessions[session.Session].Last}
	}},
	{"mismatch_m12", func(s *story) []int64 {
		grant := s.open("sato", "day", time.Hour, "ehr")
		session := s.enter("sato", grant)
		from := s.now
		last := s.wait(time.Minute).leave(session, "superseded", 100, 100)
		s.close(grant, "window_closed")
		s.states(journal.WorkReport, "tanaka", WorkReport{Vendor: "medisys", From: from, Until: s.now})
		s.review(nil, session.Session)
		return []int64{session.Index, last}
	}},
	{"mismatch_m13", func(s *story) []int64 {
		grant := s.open("sato", "day", time.Hour, "ehr")
		session := s.enter("sato", grant)
		from := s.now
		s.wait(20*time.Minute).used(session, 100_000, "ehr")
		doubt := s.add(journal.Entry{Kind: journal.Doubt, Text: "the disk is full"})
		s.leave(session, "gateway_shut", 104_000, 104_000)
		s.close(grant, "gateway_shut")
		s.states(journal.WorkReport, "tanaka", WorkReport{Vendor: "medisys", From: from, Until: s.now})
		s.review(nil, session.Session)
		s.wait(time.Minute).add(journal.Entry{Kind: journal.Trusted, Reason: "journal", Text: "the disk is full"})
		s.close(s.reopen(grant), "window_closed")
		return []int64{doubt, grant.Index}
	}},
	{"mismatch_m13_outage", func(s *story) []int64 {
		grant := s.open("sato", "day", time.Hour, "ehr")
		session := s.enter("sato", grant)
		from := s.now
		s.wait(20*time.Minute).used(session, 100_000, "ehr")
		s.leave(session, "gateway_stopped", 104_000, 104_000)
		s.close(grant, "gateway_stopped")
		stop := s.add(journal.Entry{Kind: journal.Stop})
		s.wait(time.Second).add(journal.Entry{Kind: journal.Start})
		s.states(journal.WorkReport, "tanaka", WorkReport{Vendor: "medisys", From: from, Until: s.now})
		s.review(nil, session.Session)
		return []int64{stop, grant.Index}
	}},
	{"mismatch_m14", func(s *story) []int64 {
		grant := s.open("sato", "day", time.Hour, "ehr")
		session := s.enter("sato", grant)
		from := s.now
		drift := s.wait(time.Minute).add(journal.Entry{Kind: journal.Drift})
		s.wait(time.Minute).leave(session, "idle", 100, 100)
		s.close(grant, "window_closed")
		s.states(journal.WorkReport, "tanaka", WorkReport{Vendor: "medisys", From: from, Until: s.now})
		s.review(nil, session.Session)
		return []int64{session.Index, drift}
	}},
	{"mismatch_m15", func(s *story) []int64 {
		s.visit("suzuki", "day", []string{"ehr"}) // nothing is known before: no first use
		session := s.wait(time.Hour).visit("suzuki", "day", []string{"ehr", "pacs"})
		return []int64{s.r.is.sessions[session.Session].Count.Entry, session.Index}
	}},
	{"mismatch_m15_bytes", func(s *story) []int64 {
		grant := s.open("sato", "day", time.Hour, "ehr")
		session := s.enter("sato", grant)
		from := s.now
		s.wait(time.Minute).used(session, 2_100_000, "ehr")
		last := s.leave(session, "idle", 2_184_000, 2_184_000)
		s.close(grant, "window_closed")
		s.states(journal.WorkReport, "tanaka", WorkReport{Vendor: "medisys", From: from, Until: s.now})
		s.review(nil, session.Session)
		return []int64{session.Index, last}
	}},
	{"mismatch_m16", func(s *story) []int64 {
		asked := s.requested("~a1", false, "tanaka", 2)
		own := s.decides(policy.Approve, "~a1", "tanaka")
		s.decides(policy.Approve, "~a1", "ueda")
		return []int64{asked, own}
	}},
}

// TestEachMismatchIsFoundOnce: in a month with one thing wrong it is found, and nothing else.
func TestEachMismatchIsFoundOnce(t *testing.T) {
	if clean := usual(t).later().month("2026-11", ""); len(clean.Mismatches) != 0 {
		t.Errorf("a month with nothing wrong: %+v", clean.Mismatches)
	}
	kinds := map[string]bool{}
	for _, c := range seeds {
		s := usual(t).at("2026-11-23 10:00")
		entries := c.seed(s)
		found := s.later().month("2026-11", "").Mismatches
		if len(found) != 1 || string(found[0].Code) != c.code || found[0].State != Open {
			t.Errorf("%s: found %+v", c.code, found)
			continue
		}
		m := found[0]
		if diff := cmp.Diff(entries, m.Entries); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.code, diff)
		}
		if m.Kind != c.code[len("mismatch_"):][:3] || m.Vendor != "medisys" || m.Text != m.Message().String() || m.Message().In(view.Japanese) == m.Text {
			t.Errorf("%s is told as %+v", c.code, m)
		}
		if of := s.month("2026-11", "medisys").Mismatches; cmp.Diff(found, of) != "" {
			t.Errorf("%s: in the vendor's own report: %+v", c.code, of)
		}
		if other := s.month("2026-10", "").Mismatches; len(other) != 0 {
			t.Errorf("%s: in October: %+v", c.code, other)
		}
		sum := 0
		open := s.r.MismatchesOpen("2026-10", "2026-11", "2029-01")
		for _, n := range open {
			sum += n
		}
		if open[m.Kind] != 1 || sum != 1 || len(open) != MismatchKinds {
			t.Errorf("%s: open are %v", c.code, open)
		}
		kinds[m.Kind] = true
	}
	for i := 1; i <= 16; i++ {
		if kind := fmt.Sprintf("m%02d", i); !kinds[kind] {
			t.Errorf("no seed of %s; there are %v", kind, slices.Sorted(maps.Keys(kinds)))
		}
	}
}

// TestMismatchesOfHosts: by a line without WireGuard the same is wrong as with engineers, but that there is
// no tunnel whose bytes could be more than its flows, and no key that proves who was refused.
func TestMismatchesOfHosts(t *testing.T) {
	begin := func() *story {
		s := newStory(t, plainText)
		s.names = hosts
		return s.usual()
	}
	quiet := begin().at("2026-11-23 10:00")
	tries := quiet.person(journal.Refused, "sato") // which a machine does by itself
	tries.Source, tries.Reason, tries.Count, tries.First, tries.Last = "203.0.113.1", "outside_window", 40, quiet.now.UTC(), quiet.now.UTC()
	quiet.add(tries)
	clean := quiet.later().month("2026-11", "")
	if len(clean.Refused) != 1 {
		t.Errorf("refused: %+v", clean.Refused)
	}
	if len(clean.Mismatches) != 0 {
		t.Errorf("a month with nothing wrong: %+v", clean.Mismatches)
	}
	for _, x := range clean.Sessions {
		if !x.Plain || x.Line != "leased" || x.ReceivedBytes == nil {
			t.Errorf("%+v", x)
		}
	}
	if v := clean.Vendors[0]; !v.Plain {
		t.Errorf("the vendor %+v is not plain", v)
	}
	others := map[string]string{"mismatch_m07": "", "mismatch_m09": "mismatch_m09_host"}
	for _, c := range seeds {
		if c.code == "mismatch_m04_request" || c.code == "mismatch_m10" || c.code == "mismatch_m16" {
			continue // there are no requests by such a line
		}
		want, other := others[c.code]
		if !other {
			want = c.code
		}
		s := begin().at("2026-11-23 10:00")
		entries := c.seed(s)
		found := s.later().month("2026-11", "").Mismatches
		switch {
		case want == "" && len(found) > 0:
			t.Errorf("%s: found %+v", c.code, found)
		case want == "":
		case len(found) != 1 || string(found[0].Code) != want || !slices.Equal(found[0].Entries, entries):
			t.Errorf("%s: found %+v, want %s of %v", c.code, found, want, entries)
		case strings.Contains(found[0].Text, "sato") || strings.Contains(found[0].Text, "suzuki"):
			t.Errorf("%s names a person: %s", c.code, found[0].Text)
		}
	}
}

// TestHostWithoutCount: the bytes of a host are those of its flows, so that they are not known where the
// kernel did not count these. Sessions like that are no measure for others either.
func TestHostWithoutCount(t *testing.T) {
	for _, text := range []string{policyText, plainText} {
		s := newStory(t, text)
		if text == plainText {
			s.names = hosts
		}
		plain := s.names != nil
		uncounted := func(day string) {
			grant := s.at(day).open("sato", "day", time.Hour, "ehr")
			session := s.enter("sato", grant)
			e := session
			e.Kind, e.Grants, e.Reason = journal.Used, nil, notCounted
			s.add(e)
			s.wait(time.Minute).leave(session, "idle", 0, 0)
			s.close(grant, "window_closed")
		}
		for _, day := range []string{"2026-11-02 10:00", "2026-11-03 10:00", "2026-11-04 10:00", "2026-11-05 10:00", "2026-11-06 10:00"} {
			uncounted(day)
		}
		s.at("2026-11-09 10:00").visit("sato", "day", []string{"ehr"})
		report := s.month("2026-11", "")
		if known := report.Sessions[0].ReceivedBytes != nil; known == plain {
			t.Errorf("plain %t: the bytes are known: %t", plain, known)
		}
		unusual := slices.ContainsFunc(report.Mismatches, func(m Mismatch) bool { return m.Code == "mismatch_m15_bytes" })
		if unusual == plain {
			t.Errorf("plain %t: compared with nothing: %t", plain, unusual)
		}
	}
}

// TestLineBecomesPlain: the policy of the time tells whether a person is identified.
func TestLineBecomesPlain(t *testing.T) {
	s := newStory(t, policyText)
	s.at("2026-11-02 10:00").visit("sato", "day", []string{"ehr"})
	s.policy(plainText)
	s.names = hosts
	s.at("2026-11-09 10:00").visit("sato", "day", []string{"ehr"})
	unused := s.at("2026-11-10 10:00").open("suzuki", "day", time.Hour, "ehr")
	refused := s.person(journal.Refused, "suzuki")
	refused.Source, refused.Reason, refused.Count = "203.0.113.2", "unlisted_target", 2
	s.add(refused)
	s.wait(time.Hour).close(unused, "window_closed")
	s.policy(policyText)
	s.names = nil
	s.at("2026-11-16 10:00").visit("sato", "day", []string{"ehr"})
	report := s.month("2026-11", "")
	var plain []bool
	for _, x := range report.Sessions {
		plain = append(plain, x.Plain)
	}
	if !slices.Equal(plain, []bool{false, true, false}) || !report.Unused[0].Plain || !report.Refused[0].Plain || !report.Vendors[0].Plain {
		t.Errorf("plain are %v; %+v %+v %+v", plain, report.Unused, report.Refused, report.Vendors)
	}
	if of := s.month("2026-10", ""); of.Vendors[0].Plain {
		t.Errorf("October: %+v", of.Vendors)
	}
}

// TestWorkOfHosts: a vendor's report may name the person, whom the record does not know.
func TestWorkOfHosts(t *testing.T) {
	for name, found := range map[string]bool{"": true, "yamada": true, "host-yamada": true, "host-203-0-113-1": true, "host-203-0-113-2": false} {
		s := newStory(t, plainText)
		s.names = hosts
		session := s.at("2026-11-02 10:00").visit("sato", "day", []string{"ehr"}, "work")
		x := s.r.is.sessions[session.Session]
		s.states(journal.WorkReport, "tanaka", WorkReport{Vendor: "medisys", Engineer: name, From: x.OpenedAt, Until: x.ClosedAt, Text: "update"})
		if got := s.month("2026-11", "").Sessions[0].Work != nil; got != found {
			t.Errorf("a report of %q: found %t, want %t", name, got, found)
		}
	}
}
