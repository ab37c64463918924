package evidence

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kidoban/config"
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// TestMonthOfOneSession: the row has what plan, session and use say.
func TestMonthOfOneSession(t *testing.T) {
	s := usual(t).at("2026-11-20 10:00")
	asked := s.requested("~a1", false, "tanaka", 1)
	s.wait(time.Minute).decides(policy.Approve, "~a1", "ueda")
	grant := s.wait(time.Minute).open("sato", "~a1", time.Hour, "ehr")
	session := s.wait(time.Minute).enter("sato", grant)
	s.wait(time.Minute).used(session, 1000, "ehr")
	refusal := s.person(journal.Refused, "sato")
	refusal.Reason, refusal.Target, refusal.Count = "unlisted_target", "10.1.0.9:22", 4
	s.add(refusal)
	closing := s.wait(time.Minute).leave(session, "idle", 5000, 6000)
	s.states(journal.WorkReport, "tanaka", WorkReport{Vendor: "medisys", Sessions: []string{session.Session}, Text: "disk changed"})
	month := s.month("2026-11", "")
	got := month.Sessions[len(month.Sessions)-1]
	if got.Work == nil || got.Work.Text != "disk changed" {
		t.Errorf("work report %+v", got.Work)
	}
	day := func(minute int) time.Time { return time.Date(2026, 11, 20, 10, minute, 0, 0, tokyo) }
	at := func(minute int) *time.Time { x := day(minute); return &x }
	received, transmitted := int64(5000), int64(6000)
	want := ReportSession{ID: session.Session, Vendor: "medisys", VendorName: "Medisys", Engineer: "sato", Source: "203.0.113.1", SourcePort: 51820, OpenedAt: day(3), ClosedAt: at(5), Ended: "idle",
		Grants: []string{grant.Grant}, Request: "~a1", RequestedAt: at(0), RequestedBy: "tanaka", Ticket: "R-9", Purpose: "repair", ApprovedBy: "Head of IT", ApprovedAt: at(1),
		PlannedFrom: at(2), PlannedUntil: at(62), ReceivedBytes: &received, TransmittedBytes: &transmitted, Counted: true, Complete: true, Refused: 4, Work: got.Work,
		Used:    []ReportUse{{Target: "ehr", Address: "10.1.0.5", Service: "tcp/443", Connections: 1, ReceivedBytes: 1000, TransmittedBytes: 1000, First: day(3), Last: day(4)}},
		Entries: Range{session.Index, closing}, Digest: got.Digest}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if v := month.Vendors[0]; v.Requested != 1 || v.Approved != 1 || v.Opened != 4 || v.Used != 4 || v.Sessions != 4 || v.Refused != 4 || v.UsedSeconds != 3*3600+120 {
		t.Errorf("summary %+v", v)
	}
	if month.Site != "Hospital" || month.Timezone != "Asia/Tokyo" || month.NoRequests || len(month.Policies) != 1 || asked < month.Entries.From || closing >= month.Size {
		t.Errorf("head %+v", month)
	}
}

// TestGrantsInBetween: a session stands on each grant that was open meanwhile for its source, also if no
// entry of the session names it.
func TestGrantsInBetween(t *testing.T) {
	s := newStory(t, policyText).at("2026-11-02 09:00")
	first := s.open("sato", "a", 3*time.Hour, "ehr")
	session := s.enter("sato", first)
	between := s.wait(time.Hour).open("sato", "b", time.Hour, "pacs")
	elsewhere := s.openFrom("198.51.100.0/24", "sato", "c", time.Hour, "pacs")
	s.wait(30*time.Minute).used(session, 10, "pacs")
	s.wait(30*time.Minute).close(between, "window_closed")
	s.close(elsewhere, "window_closed")
	ahead := s.openFrom("203.0.113.0/24", "sato", "d", time.Hour, "pacs")
	s.leave(session, "idle", 100, 100)
	s.close(first, "window_closed")
	s.wait(time.Hour).close(ahead, "window_closed")
	r := s.month("2026-11", "")
	if diff := cmp.Diff([]string{first.Grant, between.Grant, ahead.Grant}, r.Sessions[0].Grants); diff != "" {
		t.Errorf("grants (-want +got):\n%s", diff)
	}
	if len(r.Unused) != 1 || r.Unused[0].Grant != elsewhere.Grant {
		t.Errorf("unused %+v", r.Unused)
	}
}

// TestOldJournals: entries without fields for approvals have them in their text, and uses without a name
// are named by the policy of their time.
func TestOldJournals(t *testing.T) {
	s := newStory(t, policyText).at("2026-11-02 09:00")
	for text, want := range map[string]string{
		"approved by Head of IT R-1": "Head of IT|R-1",
		"approved by Head of IT R-1; and 3 more targets, as the policy names them": "Head of IT|R-1",
		"approved by Somebody Else X-2":                                            "Somebody Else X-2|",
		"":                                                                         "|",
	} {
		o := &Opening{Person: Person{Vendor: "medisys"}, Window: "day", Text: text, OpenedAt: s.now}
		if by, ticket := s.r.approvalOf(o); by+"|"+ticket != want {
			t.Errorf("%q: %s|%s", text, by, ticket)
		}
	}
	session := s.enter("sato", s.open("sato", "day", time.Hour, "ehr"))
	e := session
	e.Kind, e.Used = journal.Used, []journal.Use{{Address: "10.1.0.5", Service: "tcp/443"}, {Address: "10.1.0.6", Service: "tcp/104"}, {Address: "10.1.0.7", Service: "icmp"}, {Others: 3}}
	s.add(e)
	var names []string
	for _, u := range s.month("2026-11", "").Sessions[0].Used {
		names = append(names, u.Target)
	}
	if strings.Join(names, ",") != "ehr,pacs,," {
		t.Errorf("targets %q", names)
	}
}

// TestTargetsThatOverlap: what lies in two targets is of the one that was allowed. The policy tells the line.
func TestTargetsThatOverlap(t *testing.T) {
	text := strings.Replace(policyText, "vendors:", "lines: {lan: {interface: eth1, kind: leased}}\nvendors:", 1)
	s := newStory(t, strings.Replace(strings.Replace(text, "    sources:", "    line: lan\n    sources:", 1), "  pacs:", "  all: {address: 10.1.0.0/24, ports: [tcp/443]}\n  pacs:", 1)).at("2026-11-02 09:00")
	session := s.enter("sato", s.open("sato", "day", time.Hour, "ehr"))
	e := session
	e.Kind, e.Used = journal.Used, []journal.Use{{Target: "all", Address: "10.1.0.5", Service: "tcp/443"}, {Target: "all", Address: "10.1.0.9", Service: "tcp/443"}}
	s.add(e)
	r := s.month("2026-11", "")
	if line := r.Sessions[0].Line; line != "lan" {
		t.Errorf("line %q", line)
	}
	if u := r.Sessions[0].Used; u[0].Target != "ehr" || u[1].Target != "all" {
		t.Errorf("used %+v", u)
	}
	if len(r.Mismatches) != 1 || r.Mismatches[0].Args["targets"] != "all" {
		t.Errorf("mismatches %+v", r.Mismatches)
	}
}

// TestNotCounted: without the kernel's accounting nothing is known of targets.
func TestNotCounted(t *testing.T) {
	s := newStory(t, policyText).at("2026-11-02 09:00")
	session := s.enter("sato", s.open("sato", "day", time.Hour, "ehr"))
	s.leave(session, "idle", 3<<20, 3<<20)
	e, complete := session, false
	e.Kind, e.Reason, e.Complete, e.ReceivedBytes = journal.Used, "not_counted", &complete, 3<<20
	s.add(e)
	r := s.month("2026-11", "")
	if x := r.Sessions[0]; x.Counted || x.Complete || *x.ReceivedBytes != 3<<20 || len(r.Mismatches) != 0 {
		t.Errorf("session %+v, mismatches %+v", x, r.Mismatches)
	}
}

// TestMonthEnds: what belongs to a month goes by the site's zone, also where its clocks change.
func TestMonthEnds(t *testing.T) {
	for zone, months := range map[string][]string{
		"Asia/Tokyo":         {"2026-11", "2027-02"},
		"Europe/Berlin":      {"2026-03", "2026-10"},
		"America/New_York":   {"2026-03", "2026-11"},
		"Pacific/Kiritimati": {"2026-11"}, "Pacific/Pago_Pago": {"2026-11"}, "Asia/Kathmandu": {"2026-11"},
		"Australia/Lord_Howe": {"2026-10", "2026-04"},
	} {
		location := must(time.LoadLocation(zone))
		for _, month := range months {
			first := must(time.ParseInLocation("2006-01", month, location))
			last := first.AddDate(0, 1, 0)
			for name, c := range map[string]struct {
				at time.Time
				is bool
			}{
				"a second before": {first.Add(-time.Second), false}, "at the beginning": {first, true},
				"a second before the end": {last.Add(-time.Second), true}, "at the end": {last, false},
			} {
				s := newStory(t, strings.Replace(policyText, "Asia/Tokyo", zone, 1))
				s.zone = location
				s.r, s.entries = NewRecord(config.ReadPast), nil
				s.now = first.Add(-72 * time.Hour)
				s.policy(strings.Replace(policyText, "Asia/Tokyo", zone, 1))
				s.now = c.at
				grant := s.open("sato", "day", time.Hour, "ehr")
				session := s.enter("sato", grant)
				refusal := s.person(journal.Refused, "sato")
				refusal.Reason, refusal.First = "replayed", c.at.UTC()
				s.add(refusal)
				s.wait(3*time.Hour).leave(session, "idle", 1, 1)
				s.wait(72 * time.Hour).add(journal.Entry{Kind: "newer"})
				r := s.month(month, "")
				if got := len(r.Sessions) == 1 && len(r.Refused) == 1 && r.Vendors[0].Used == 1; got != c.is || !c.is && len(r.Sessions)+len(r.Refused) > 0 {
					t.Errorf("%s %s, %s: %d sessions, %d refusals", zone, month, name, len(r.Sessions), len(r.Refused))
				}
				if c.is && (r.Sessions[0].ClosedAt == nil || !r.Sessions[0].OpenedAt.Equal(c.at) || r.Vendors[0].UsedSeconds != 3*3600) {
					t.Errorf("%s %s, %s: the session is %+v", zone, month, name, r.Sessions[0])
				}
				if own := s.r.monthAt(c.at); (own == month) != c.is {
					t.Errorf("%s %s, %s: the month of the session is %s", zone, month, name, own)
				}
			}
		}
	}
}

// TestMonthsThatCannotBe are errors that say what can.
func TestMonthsThatCannotBe(t *testing.T) {
	s := usual(t)
	for _, c := range []struct{ month, vendor, want string }{
		{"2026-13", "", "2026-13 is no month: allowed is YYYY-MM, as in 2026-11"},
		{"2026-1", "", "2026-1 is no month: allowed is YYYY-MM, as in 2026-11"},
		{"2026-09", "", "the journal has nothing of 2026-09: allowed is from 2026-10 to 2026-11"},
		{"2026-12", "", "the journal has nothing of 2026-12: allowed is from 2026-10 to 2026-11"},
		{"2026-11", "medysis", "neither the journal nor the policy knows a vendor medysis: known are medisys"},
	} {
		if _, err := s.r.Month(c.month, c.vendor); err == nil || err.Error() != c.want {
			t.Errorf("%s %s: %v", c.month, c.vendor, err)
		}
	}
	if _, err := NewRecord(nil).Month("2026-11", ""); err == nil || err.Error() != "the journal has no entries" {
		t.Errorf("no entries: %v", err)
	}
}

// TestCrash: a session that a crash ended has the bytes of its last count, and no end. Without a count
// nothing is known, and nothing is zero.
func TestCrash(t *testing.T) {
	for _, counted := range []bool{true, false} {
		s := newStory(t, policyText).at("2026-11-02 10:00")
		grant := s.open("sato", "day", 2*time.Hour, "ehr")
		session := s.enter("sato", grant)
		if counted {
			s.wait(15*time.Minute).used(session, 1000, "ehr")
		}
		admission := s.person(journal.Admission, "sato")
		admission.Source = "203.0.113.1"
		s.wait(2 * time.Minute).add(admission)
		heard := s.now
		s.wait(time.Hour).leave(session, "crashed", 0, 0)
		s.close(grant, "crashed")
		s.add(journal.Entry{Kind: journal.Start})
		r := s.month("2026-11", "")
		x := r.Sessions[0]
		if x.ClosedAt != nil || x.LastHeard == nil || !x.LastHeard.Equal(heard) || x.Complete || x.Ended != "crashed" {
			t.Errorf("counted %v: %+v", counted, x)
		}
		if counted && (x.ReceivedBytes == nil || *x.ReceivedBytes != 1000 || x.CountedAt == nil || !x.CountedAt.Equal(heard.Add(-2*time.Minute)) || len(x.Used) != 1) {
			t.Errorf("bytes of the last count: %+v", x)
		}
		if !counted && (x.ReceivedBytes != nil || x.TransmittedBytes != nil || x.Counted) {
			t.Errorf("without a count: %+v", x)
		}
		if raw := must(json.Marshal(x)); !counted && (!bytes.Contains(raw, []byte(`"received_bytes":null`)) || !bytes.Contains(raw, []byte(`"closed_at":null`))) {
			t.Errorf("as JSON: %s", raw)
		}
		var kinds []string
		for _, m := range r.Mismatches {
			kinds = append(kinds, string(m.Code))
		}
		if strings.Join(kinds, " ") != "mismatch_m12 mismatch_m13_outage" {
			t.Errorf("mismatches %v", kinds)
		}
		if outage := s.r.Doubts[0]; !outage.From.Equal(heard) || !outage.Until.Equal(s.now) {
			t.Errorf("the outage is %+v", outage)
		}
	}
}

// TestReadEqualsAdd: a record that took entries one by one, and was asked meanwhile, says the same as one
// that read them at once; also where it begins in the middle, each twice.
func TestReadEqualsAdd(t *testing.T) {
	s := usual(t).at("2026-11-23 10:00")
	for _, c := range seeds {
		c.seed(s.wait(24 * time.Hour))
	}
	s.later()
	for range 8 {
		from := 0
		if rand.IntN(2) == 0 {
			from = rand.IntN(len(s.entries) - 10)
		}
		live := NewRecord(config.ReadPast)
		for e := range s.all(from) {
			live.Add(e)
			if rand.IntN(30) == 0 {
				live.Unreviewed(live.Now)
				live.MismatchesOpen("2026-10", "2026-11")
			}
		}
		for range 2 {
			read, err := Read(s.all(from), config.ReadPast)
			if err != nil {
				t.Fatal(err)
			}
			for _, month := range []string{"2026-10", "2026-11", "2026-12"} {
				got, err1 := live.Month(month, "")
				want, err2 := read.Month(month, "")
				if diff := cmp.Diff(string(must(json.Marshal(want))), string(must(json.Marshal(got)))); diff != "" || (err1 == nil) != (err2 == nil) {
					t.Errorf("from entry %d, %s: %v %v (-read +added)\n%s", from, month, err1, err2, diff)
				}
			}
			if diff := cmp.Diff(read.Unreviewed(live.Now), live.Unreviewed(live.Now)); diff != "" {
				t.Errorf("from entry %d: unreviewed (-read +added)\n%s", from, diff)
			}
		}
	}
}

// TestNoListIsNull: a report has no list that is null.
func TestNoListIsNull(t *testing.T) {
	s := newStory(t, policyText).at("2026-11-02 10:00")
	s.add(journal.Entry{Kind: "newer"})
	empty := must(json.Marshal(s.month("2026-11", "")))
	s.visit("sato", "day", nil)
	s.wait(time.Hour)
	s.close(s.open("suzuki", "night", time.Hour), "window_closed")
	for _, raw := range [][]byte{empty, must(json.Marshal(s.month("2026-11", "")))} {
		for _, list := range []string{"sessions", "unused", "refused", "mismatches", "vendors", "policies", "witnesses", "used", "grants", "entries", "targets"} {
			if bytes.Contains(raw, []byte(`"`+list+`":null`)) {
				t.Errorf("%s is null in %s", list, raw)
			}
		}
	}
}

// TestSubcontractorsStandBehindTheirPrime in the sums.
func TestSubcontractorsStandBehindTheirPrime(t *testing.T) {
	vendor := func(name string, number int, under string) string {
		text := fmt.Sprintf("  %s:\n    contract: {until: 2027-03-31}\n    sources: [203.0.113.%d]\n", name, number)
		if under != "" {
			text += "    under: " + under + "\n    consent: {by: Mayor, date: 2026-04-01, until: 2027-03-31}\n"
		}
		key := base64.StdEncoding.EncodeToString(append([]byte{9: byte(number)}, make([]byte, 22)...))
		return text + fmt.Sprintf("    engineers: {abe: {public_key: %q, addresses: [10.99.0.%d]}}\n    windows: {all: {days: [mon], from: \"09:00\", to: \"10:00\", targets: [ehr], approved_by: Head}}\n", key, number)
	}
	s := newStory(t, strings.Replace(policyText, "vendors:\n", "vendors:\n"+vendor("zeta", 21, "")+vendor("alpha", 22, "zeta")+vendor("beta", 23, "alpha"), 1)).at("2026-11-02 10:00")
	s.add(journal.Entry{Kind: "newer"})
	var all []string
	for _, v := range s.month("2026-11", "").Vendors {
		all = append(all, v.Vendor+"<"+v.Under)
	}
	if got := strings.Join(all, " "); got != "medisys< zeta< alpha<zeta beta<alpha" {
		t.Errorf("vendors: %s", got)
	}
}
