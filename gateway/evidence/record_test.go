package evidence

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"kidoban/config"
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// years writes n entries of a site with ten engineers, day by day.
func years(s *story, n int) {
	for day := 0; len(s.entries) < n; day++ {
		s.now = time.Date(2021, 1, 1+day, 9, 0, 0, 0, tokyo)
		var grants []journal.Entry
		for i := range 10 {
			grants = append(grants, s.open(fmt.Sprint("engineer-", i), "day", 8*time.Hour, "ehr", "pacs"))
		}
		session := s.wait(time.Hour).enter("engineer-1", grants[1])
		for range 20 {
			e := s.person(journal.Admission, "engineer-1")
			e.Source, e.Timestamp = "203.0.113.1", "4000000012345678"
			s.wait(2 * time.Minute).add(e)
		}
		s.used(session, 1000, "ehr", "pacs")
		s.leave(session, "idle", 2500, 2500)
		for i := range 10 {
			s.add(journal.Entry{Kind: journal.Refused, Source: fmt.Sprintf("198.51.100.%d", rand.IntN(250)), Reason: "unlisted_source", Count: int64(i)})
		}
		for _, g := range grants {
			s.close(g, "window_closed")
		}
	}
}

// BenchmarkRecord reads 100,000 entries, five years of a site. It tells what a record weighs, and how long a
// month and the counts for metrics take.
func BenchmarkRecord(b *testing.B) {
	s := newStoryAt(b, policyText, "2020-12-31 00:00")
	years(s, 100_000)
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			_, _ = Read(s.all(0), config.ReadPast)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(s.entries)), "ns/entry")
	})
	before := heap()
	r, _ := Read(s.all(0), config.ReadPast)
	b.Run("weight", func(b *testing.B) {
		for b.Loop() {
		}
		b.ReportMetric(float64(heap()-before), "B")
	})
	b.Run("month", func(b *testing.B) {
		for b.Loop() {
			if _, err := r.Month("2023-06", ""); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unreviewed", func(b *testing.B) {
		for b.Loop() {
			r.Unreviewed(r.Now)
		}
	})
	runtime.KeepAlive(s)
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestRefusalsAreBounded: whoever sends from everywhere fills no memory, and is counted.
func TestRefusalsAreBounded(t *testing.T) {
	s := newStory(t, policyText).at("2026-11-10 10:00")
	r := NewRecord(config.ReadPast)
	const many = 20_000
	for i := range many {
		e := journal.Entry{Index: int64(i), Time: s.now.Add(time.Duration(i) * time.Second).UTC(), Kind: journal.Refused, Reason: "unlisted_source", Source: fmt.Sprintf("2001:db8::%x", i), Count: 2}
		if i%2 == 1 {
			e.Vendor, e.Engineer, e.Reason = "medisys", "sato", "wrong_source"
		}
		r.Add(e)
	}
	month, err := r.Month("2026-11", "")
	if err != nil {
		t.Fatal(err)
	}
	counts, rows := map[string]int64{}, map[string]int{}
	for _, x := range month.Refused {
		counts[x.Reason] += x.Count
		rows[x.Reason]++
		if len(x.Entries) > refusedEntries {
			t.Errorf("a row names %d entries", len(x.Entries))
		}
	}
	if counts["unlisted_source"] != many || counts["wrong_source"] != many || rows["unlisted_source"] != strangersMost+1 || rows["wrong_source"] != engineersMost+1 {
		t.Errorf("counts %v in rows %v", counts, rows)
	}
	if len(r.is.strings) > 20 {
		t.Errorf("%d strings are kept", len(r.is.strings))
	}
}

// TestPolicies: texts come in parts, equal ones are read once, and one that this version cannot read is
// passed over.
func TestPolicies(t *testing.T) {
	read := 0
	r := NewRecord(func(text string) (*policy.Policy, error) {
		read++
		return config.ReadPast(text)
	})
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	index := int64(0)
	add := func(kind journal.Kind, digest, text string, part, parts int) {
		now = now.Add(time.Hour)
		r.Add(journal.Entry{Index: index, Time: now, Kind: kind, Digest: digest, Text: text, Part: part, Parts: parts})
		index++
	}
	half := len(policyText) / 2
	add(journal.PolicyText, "a", policyText[:half], 1, 2)
	add(journal.PolicyText, "a", policyText[half:], 2, 2)
	add(journal.PolicyLoaded, "a", "", 0, 0)
	add(journal.PolicyLoaded, "a", "", 0, 0) // more of its roster
	first := now
	add(journal.PolicyText, "b", "of a newer version", 0, 0)
	add(journal.PolicyLoaded, "b", "", 0, 0)
	add(journal.PolicyText, "c", "the second part", 2, 2) // its first part was pruned
	add(journal.PolicyLoaded, "c", "", 0, 0)
	add(journal.PolicyLoaded, "a", "", 0, 0)
	if read != 0 {
		t.Errorf("%d policies were read before anybody asked", read)
	}
	for range 3 {
		if p := r.At(first); p == nil || p.Site != "Hospital" || p.Digest != "" || p.Vendor("medisys").Engineers[0].PresharedKey == [32]byte{} {
			t.Errorf("the first policy is %+v", p)
		}
		if p := r.At(now.Add(-2 * time.Hour)); p == nil || p.Site != "Hospital" {
			t.Errorf("before a policy that cannot be read: %+v", p)
		}
		if p := r.At(time.Time{}); p == nil {
			t.Error("before the first policy there is none")
		}
	}
	if read != 2 || r.Policy("b") != nil || r.Policy("c") != nil || r.Text("c") != "" || r.Text("a") != policyText || r.Text("b") != "of a newer version" {
		t.Errorf("%d texts were read", read)
	}
	if len(r.Policies) != 4 {
		t.Errorf("policies in force: %+v", r.Policies)
	}
	for i := range 3 * parsedMost {
		add(journal.PolicyText, fmt.Sprint(i), policyText+strings.Repeat("\n", i), 0, 0)
		r.Policy(fmt.Sprint(i))
	}
	if len(r.past.parsed) != parsedMost || len(r.past.order) != parsedMost {
		t.Errorf("%d policies stay as they were read", len(r.past.parsed))
	}
}

// TestIncidents: what is about an incident is found with it.
func TestIncidents(t *testing.T) {
	s := newStory(t, policyText)
	type verb struct {
		Verb string `json:"verb"`
		ID   string `json:"id"`
	}
	s.states(journal.Incident, "tanaka", map[string]any{"verb": "opened", "id": "i-1", "kind": "leak", "reason": "called"})
	s.states(journal.Incident, "tanaka", map[string]any{"verb": "opened", "id": "i-1", "kind": "other", "reason": "again"})
	s.states(journal.Incident, "tanaka", map[string]any{"verb": "bundled", "id": "i-1", "digest": "ab", "size": 3})
	s.states(journal.Sent, "tanaka", Sent{ID: "i-1", Recipient: "prefecture", How: "mail"})
	s.states(journal.Sent, "tanaka", Sent{ID: "i-2", Recipient: "nobody"})
	s.states(journal.Incident, "tanaka", verb{"closed", "i-2"})
	if i := s.r.Incidents[0]; len(s.r.Incidents) != 1 || i.Is.Kind != "leak" || len(i.Bundles) != 1 || i.Bundles[0].Is.Size != 3 || len(i.Sent) != 1 || i.Closed != nil {
		t.Errorf("%+v", i)
	}
	s.states(journal.Incident, "ueda", map[string]any{"verb": "closed", "id": "i-1", "reason": "over"})
	if i := s.r.Incidents[0]; i.Closed == nil || i.Closed.Is.Reason != "over" || i.Closed.Actor != "ueda" {
		t.Errorf("%+v", i.Closed)
	}
}

// FuzzAdd: no entry stops a record, and a report can be made of whatever there is.
func FuzzAdd(f *testing.F) {
	s := usual(f).at("2026-11-23 10:00")
	for _, c := range seeds {
		c.seed(s.wait(24 * time.Hour))
	}
	var seed []byte
	for _, e := range s.entries {
		raw := must(json.Marshal(e))
		seed = append(append(seed, raw...), '\n')
		f.Add(append(raw, '\n'))
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := NewRecord(config.ReadPast)
		for i, line := range strings.Split(string(raw), "\n") {
			var e journal.Entry
			if json.Unmarshal([]byte(line), &e) != nil {
				continue
			}
			e.Index = int64(i)
			r.Add(e)
		}
		for _, at := range []time.Time{r.Begins, r.Now} {
			report, err := r.Month(r.monthAt(at), "")
			if err != nil {
				continue
			}
			if _, err := json.Marshal(report); err != nil && at.Year() < 9999 && at.Year() > 1 {
				t.Error(err)
			}
		}
		r.Unreviewed(r.Now)
		if rows := len(r.is.rows) * engineersMost * 2; len(r.is.refused) > rows {
			t.Errorf("%d sums of refusals", len(r.is.refused))
		}
	})
}
