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
		s.policy(strings.Replace(policyText, "  medisys:\n", prime+under, 1))
		return []int64{s.visit("sato", "day", []string{"ehr"}).Index}
	}},
	{"mismatch_m09", func(s *story) []int64 {
		var entries []int64
		for _, source := range []string{"198.51.100.7", "198.51.100.8"} {
			e := person(journal.Refused, "sato")
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
