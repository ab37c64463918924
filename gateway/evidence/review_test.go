package evidence

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// TestReviewsThatAreRefused say why.
func TestReviewsThatAreRefused(t *testing.T) {
	s := usual(t).at("2026-11-23 10:00")
	odd := s.visit("sato", "night", []string{"ehr", "pacs"}, "checked", "confirmed").Session
	plain := s.wait(time.Hour).visit("sato", "day", []string{"ehr"}, "checked", "confirmed").Session
	inside := s.enter("sato").Session
	s.at("2026-11-24 10:00")
	digest := func(sessions ...string) string { return s.r.sessionsDigest(sessions) }
	month := func() string { return s.month("2026-11", "medisys").Digest }
	ref := ""
	for _, m := range s.month("2026-11", "").Mismatches {
		if m.Kind == "m06" {
			ref = m.Ref()
		}
	}
	over := must(time.ParseInLocation("2006-01-02", "2026-12-02", tokyo))
	for _, c := range []struct {
		review Review
		login  string
		now    time.Time
		want   string // "": nothing is wrong
	}{
		{Review{As: "seen", Sessions: []string{plain}}, "tanaka", s.now, "seen is no step of a review"},
		{Review{As: Checked}, "tanaka", s.now, "a review is of sessions, or of the month of a vendor"},
		{Review{As: Checked, Month: "2026-11"}, "tanaka", s.now, "a review is of sessions, or of the month of a vendor"},
		{Review{As: Checked, Month: "2026-11", Vendor: "medisys", Sessions: []string{plain}}, "tanaka", s.now, "a review is of sessions, or of the month of a vendor"},
		{Review{As: Checked, Sessions: []string{plain, "nobody", "none"}, Digest: digest(plain)}, "tanaka", s.now, "the journal does not have the sessions nobody, none"},
		{Review{As: Checked, Sessions: []string{plain, plain}, Digest: digest(plain, plain)}, "tanaka", s.now, "sessions are there twice: " + plain},
		{Review{As: Checked, Sessions: []string{inside}, Digest: digest(inside)}, "tanaka", s.now, "can be signed when they are over: " + inside},
		{Review{As: Checked, Sessions: []string{plain}, Digest: "00"}, "tanaka", s.now, "has the digest 00, and today it has " + digest(plain)},
		{Review{As: Checked, Sessions: []string{odd}, Digest: digest(odd)}, "tanaka", s.now, "these mismatches are open, and need a note: " + ref},
		{Review{As: Checked, Sessions: []string{odd}, Digest: digest(odd), Note: "called", Explained: []string{"m02:1"}}, "tanaka", s.now, "there are no mismatches m02:1: open are " + ref},
		{Review{As: Checked, Sessions: []string{odd}, Digest: digest(odd), Note: "called"}, "tanaka", s.now, ""},
		{Review{As: Checked, Sessions: []string{odd}, Digest: digest(odd), Note: "called", Explained: []string{ref}}, "tanaka", s.now, ""},
		{Review{As: Confirmed, Sessions: []string{odd}, Digest: digest(odd), Note: "called"}, "ueda", s.now, "nobody has checked, or it changed since: " + odd},
		{Review{As: Confirmed, Sessions: []string{odd}, Digest: digest(odd), Note: "called"}, "", s.now, "root is no operator, and confirms nothing"},
		{Review{As: Checked, Sessions: []string{plain}, Digest: digest(plain)}, "", s.now, ""},
		{Review{As: Checked, Month: "2026-11", Vendor: "medisys", Digest: month()}, "tanaka", s.now, "2026-11 can be signed when it is over, from 2026-12-01 00:00:00 JST"},
		{Review{As: Checked, Month: "2026-11", Vendor: "medisys", Digest: month()}, "tanaka", over, "can be signed when they are over: " + inside},
		{Review{As: Checked, Month: "2026-11", Vendor: "medysis"}, "tanaka", over, "neither the journal nor the policy knows a vendor medysis"},
		{Review{As: Checked, Month: "2025-11", Vendor: "medisys"}, "tanaka", over, "the journal has nothing of 2025-11"},
	} {
		err := s.r.CheckReview(c.review, c.login, c.now, true)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v by %q: %v", c.review, c.login, err)
		}
	}
}

// TestReviewOfAMonth goes through the steps of one.
func TestReviewOfAMonth(t *testing.T) {
	s := newStory(t, policyText).at("2026-11-02 10:00")
	session := s.visit("sato", "day", []string{"ehr"}, "checked", "confirmed").Session
	s.at("2026-12-02 10:00")
	review := func(as Stage) Review {
		return Review{As: as, Month: "2026-11", Vendor: "medisys", Digest: s.month("2026-11", "medisys").Vendors[0].Digest, For: "the mayor"}
	}
	refused := func(as Stage, login string, distinct bool) string {
		if err := s.r.CheckReview(review(as), login, s.now, distinct); err != nil {
			return err.Error()
		}
		return ""
	}
	if got := refused(Confirmed, "ueda", true); !strings.HasPrefix(got, "nobody has checked") {
		t.Errorf("confirmed first: %s", got)
	}
	if got := s.r.Unreviewed(s.now); got["medisys"] != (Backlog{1, 1}) {
		t.Errorf("before: %+v", got)
	}
	checked := s.states(journal.Review, "tanaka", review(Checked))
	if got := s.r.Unreviewed(s.now); got["medisys"] != (Backlog{0, 0}) {
		t.Errorf("checked: %+v", got)
	}
	if got := s.r.Unreviewed(s.now.AddDate(0, 0, 30)); got["medisys"] != (Backlog{0, 1}) {
		t.Errorf("checked, and a month later: %+v", got)
	}
	if got := refused(Confirmed, "tanaka", true); got != "tanaka checked it; the policy wants another person to confirm it" {
		t.Errorf("the same person: %s", got)
	}
	if got := refused(Confirmed, "tanaka", false) + refused(Confirmed, "ueda", true); got != "" {
		t.Errorf("confirmed: %s", got)
	}
	confirmed := s.states(journal.Review, "ueda", review(Confirmed))
	r := s.month("2026-11", "")
	v, x := r.Vendors[0], r.Sessions[0]
	want := &ReportSigned{Entry: checked, At: s.now, By: "tanaka", For: "the mayor"}
	if diff := cmp.Diff(want, v.Checked); diff != "" || v.Confirmed.Entry != confirmed || v.Confirmed.Same || v.Stale || x.Stale || x.Checked.Entry != checked || x.Confirmed.By != "ueda" {
		t.Errorf("signed: %+v, session %+v\n%s", v, x, diff)
	}
	if got := s.r.Unreviewed(s.now.AddDate(1, 0, 0)); got["medisys"] != (Backlog{0, 0}) {
		t.Errorf("confirmed, and a year later: %+v", got)
	}

	// A new entry about the month reopens it.
	late := s.entries[s.r.is.sessions[session].Count.Entry]
	late.ReceivedBytes++
	late.Used[0].Connections++
	s.add(late)
	r = s.month("2026-11", "")
	if v, x = r.Vendors[0], r.Sessions[0]; !v.Stale || !x.Stale || v.Checked == nil || x.Confirmed == nil {
		t.Errorf("a later entry: %+v, session %+v", v, x)
	}
	if got := s.r.Unreviewed(s.now); got["medisys"] != (Backlog{1, 1}) {
		t.Errorf("after a later entry: %+v", got)
	}
	if got := refused(Confirmed, "ueda", true); !strings.HasPrefix(got, "nobody has checked") {
		t.Errorf("confirmed again before it is checked: %s", got)
	}

	// One person may do both where the policy says so, and the report tells it.
	s.states(journal.Review, "ueda", review(Checked))
	s.states(journal.Review, "ueda", review(Confirmed))
	if v := s.month("2026-11", "").Vendors[0]; v.Stale || !v.Confirmed.Same {
		t.Errorf("by one person: %+v", v)
	}
	// What root states confirms nothing, however it came into the journal.
	s.add(late)
	late.Used[0].Connections++
	s.add(late)
	s.states(journal.Review, "tanaka", review(Checked))
	s.states(journal.Review, "root (no login)", review(Confirmed))
	if v := s.month("2026-11", "").Vendors[0]; !v.Stale || v.Confirmed.By != "ueda" || s.r.Unreviewed(s.now.AddDate(1, 0, 0))["medisys"] != (Backlog{0, 1}) {
		t.Errorf("by root: %+v", v.Confirmed)
	}
}

// TestOnePersonTwice: neither sudo nor a user without a name makes two persons of one.
func TestOnePersonTwice(t *testing.T) {
	for actor, want := range map[string]string{"tanaka": "tanaka", "root (login tanaka)": "tanaka", "uid 1005": "1005", "root (login uid 1005)": "1005", "root (no login)": "", "gateway": ""} {
		s := newStory(t, policyText).at("2026-11-02 10:00")
		session := s.visit("sato", "day", []string{"ehr"}, "checked", "confirmed").Session
		v := Review{As: Checked, Sessions: []string{session}, Digest: s.r.sessionsDigest([]string{session})}
		s.states(journal.Review, actor, v)
		v.As = Confirmed
		if err := s.r.CheckReview(v, "ueda", s.now, true); err != nil {
			t.Errorf("%s, then ueda: %v", actor, err)
		}
		if want == "" {
			continue
		}
		if err := s.r.CheckReview(v, want, s.now, true); err == nil || !strings.Contains(err.Error(), want+" checked it") {
			t.Errorf("%s, then %s: %v", actor, want, err)
		}
		s.states(journal.Review, want, v)
		if x := s.month("2026-11", "").Sessions[0].Confirmed; x == nil || !x.Same {
			t.Errorf("%s, then %s: the report tells %+v", actor, want, x)
		}
	}
}

// TestAReviewIsDigestedOnce in a report, though it is about many sessions: else a few thousand take minutes.
func TestAReviewIsDigestedOnce(t *testing.T) {
	s := newStory(t, policyText).at("2026-11-02 10:00")
	var all []string
	for range 3 {
		all = append(all, s.visit("sato", "day", []string{"ehr"}, "checked", "confirmed").Session)
	}
	entry := s.states(journal.Review, "tanaka", Review{As: Checked, Sessions: all, Digest: s.r.sessionsDigest(all)})
	b := must(s.r.made("2026-11", ""))
	if len(b.sessions) != 3 || len(b.reviewed) != 1 || b.reviewed[entry] != s.r.sessionsDigest(all) {
		t.Fatalf("%d sessions, digests %v", len(b.sessions), b.reviewed)
	}
	b.reviewed[entry] = "another"
	for _, x := range b.sessions {
		if both := b.signaturesOf(x, x.Vendor); !both.stale() {
			t.Errorf("session %s: its digest was made again", x.ID)
		}
	}
}

// TestReviewsOfAPrunedMonth: where the prune ends within a month, nobody is reminded of what is left of it.
func TestReviewsOfAPrunedMonth(t *testing.T) {
	s := newStory(t, policyText).at("2026-11-02 10:00")
	s.visit("sato", "day", []string{"ehr"}, "checked", "confirmed")
	cut := len(s.entries)
	s.at("2026-11-03 10:00").visit("sato", "day", []string{"ehr"}, "checked", "confirmed")
	s.at("2026-12-02 10:00")
	digest := s.month("2026-11", "medisys").Digest
	s.states(journal.Review, "tanaka", Review{As: Checked, Month: "2026-11", Vendor: "medisys", Digest: digest})
	s.states(journal.Review, "ueda", Review{As: Confirmed, Month: "2026-11", Vendor: "medisys", Digest: digest})
	s.visit("sato", "day", []string{"ehr"}, "checked", "confirmed")
	s.at("2028-12-02 10:00")
	s.states(journal.Mirrored, "gateway", Mirrored{To: "/mnt", Size: 3})
	r := NewRecord(s.r.past.parse)
	for _, e := range s.entries[cut:] {
		r.Add(e)
	}
	if got := r.Unreviewed(s.now)["medisys"]; got != (Backlog{1, 1}) {
		t.Errorf("%+v wait: only the session of December does", got)
	}
	count := func(month string) (n int) {
		for _, m := range must(r.Month(month, "")).Mismatches {
			if m.Kind == "m11" {
				n++
			}
		}
		return n
	}
	if count("2026-11") != 0 || count("2026-12") != 1 {
		t.Errorf("%d and %d of m11", count("2026-11"), count("2026-12"))
	}
}

// TestNotesExplain: what a note explains is what was open, and what it names.
func TestNotesExplain(t *testing.T) {
	s := usual(t).at("2026-11-23 10:00")
	odd := s.visit("sato", "night", []string{"ehr", "pacs"}, "checked", "confirmed").Session
	states := func() string {
		var all []string
		for _, m := range s.month("2026-11", "").Mismatches {
			all = append(all, m.Kind+" "+m.State)
		}
		return strings.Join(all, ", ")
	}
	sign := func(r Review) {
		r.As, r.Digest = Checked, "00"
		s.states(journal.Review, "tanaka", r)
	}
	for _, c := range []struct {
		review Review
		want   string
	}{
		{Review{Sessions: []string{odd}}, "m06 open"},
		{Review{Sessions: []string{"other"}, Note: "n"}, "m06 open"},
		{Review{Sessions: []string{odd}, Note: "n", Explained: []string{"m06:1"}}, "m06 open"},
		{Review{Month: "2026-10", Vendor: "medisys", Note: "n"}, "m06 open"},
		{Review{Month: "2026-11", Vendor: "other", Note: "n"}, "m06 open"},
		{Review{Month: "2026-11", Vendor: "medisys", Note: "agreed by telephone"}, "m06 explained"},
	} {
		if sign(c.review); states() != c.want {
			t.Errorf("%+v: %s, not %s", c.review, states(), c.want)
		}
	}
	if m := s.month("2026-11", "").Mismatches[0]; m.By != "tanaka" || m.Note != "agreed by telephone" || m.At == nil || !m.At.Equal(s.now) {
		t.Errorf("explained: %+v", m)
	}
	s.requested("~a1", true, "tanaka", 0)
	sign(Review{Month: "2026-11", Vendor: "medisys", Note: "all is well"}) // the emergency is not due yet
	s.later()
	if got := states(); got != "m06 explained, m10 open, m11 open" {
		t.Errorf("later: %s", got)
	}
}

// TestDigests: a digest changes with what happened in its month, and with nothing else.
func TestDigests(t *testing.T) {
	build := func(change func(*story)) (*story, Report) {
		s := usual(t).at("2026-11-23 10:00")
		s.visit("sato", "day", []string{"ehr"}, "work", "checked", "confirmed")
		change(s)
		return s, s.month("2026-11", "")
	}
	base, was := build(func(*story) {})
	session := was.Sessions[len(was.Sessions)-1].ID
	for name, c := range map[string]struct {
		change         func(s *story)
		session, month bool // changes
	}{
		"a review": {func(s *story) { s.review(nil, session) }, false, false},
		"a work report": {func(s *story) {
			s.states(journal.WorkReport, "tanaka", WorkReport{Sessions: []string{session}, Vendor: "medisys"})
		}, false, false},
		"an answer":     {func(s *story) { s.states(journal.Answer, "tanaka", Answer{Control: "01", Answer: "yes"}) }, false, false},
		"a mirror":      {func(s *story) { s.states(journal.Mirrored, "gateway", Mirrored{To: "/mnt", Size: 3}) }, false, false},
		"another month": {func(s *story) { s.at("2026-12-07 10:00").visit("sato", "day", []string{"ehr"}) }, false, false},
		"refused later": {func(s *story) {
			e := s.person(journal.Refused, "sato")
			e.Reason = "replayed"
			s.at("2026-12-07 10:00").add(e)
		}, false, false},
		"a restart": {func(s *story) { s.add(journal.Entry{Kind: journal.Stop}); s.add(journal.Entry{Kind: journal.Start}) }, false, true},
		"a drift":   {func(s *story) { s.add(journal.Entry{Kind: journal.Drift}) }, false, true},
		"a refusal": {func(s *story) { e := s.person(journal.Refused, "sato"); e.Reason = "replayed"; s.add(e) }, false, true},
		"a stranger": {func(s *story) {
			s.add(journal.Entry{Kind: journal.Refused, Reason: "unknown_key", Source: "192.0.2.1"})
		}, false, true},
		"a request":      {func(s *story) { s.requested("~a1", false, "tanaka", 1) }, false, true},
		"a grant":        {func(s *story) { s.open("suzuki", "night", time.Hour, "ehr") }, false, true},
		"another policy": {func(s *story) { s.policy(policyText + "# \n") }, false, true},
		"a late count": {func(s *story) {
			e := s.entries[s.r.is.sessions[session].Count.Entry]
			e.Used[0].Connections++
			s.add(e)
		}, true, true},
	} {
		_, is := build(c.change)
		if got := is.Digest != was.Digest; got != c.month {
			t.Errorf("%s: the digest of the month changes: %v", name, got)
		}
		for _, x := range is.Sessions {
			if x.ID == session && (x.Digest != was.Sessions[len(was.Sessions)-1].Digest) != c.session {
				t.Errorf("%s: the digest of the session changes: %v", name, !c.session)
			}
		}
		if own := base.month("2026-11", "medisys"); own.Digest != was.Vendors[0].Digest || own.Digest != own.Vendors[0].Digest {
			t.Errorf("the vendor's own report has another digest")
		}
	}
}

// TestDigestOverAMonthsEnd: what begins in a month and ends after it has the same digest when it ends.
func TestDigestOverAMonthsEnd(t *testing.T) {
	s := newStory(t, policyText).at("2026-11-30 23:00")
	s.visitUntilDone()
	grant := s.at("2026-11-30 23:30").open("suzuki", "night", 2*time.Hour, "ehr")
	s.at("2026-12-01 00:10").add(journal.Entry{Kind: "newer"})
	before := s.month("2026-11", "medisys")
	s.at("2026-12-01 01:30").close(grant, "window_closed")
	after := s.month("2026-11", "medisys")
	if before.Digest != after.Digest || len(before.Unused)+1 != len(after.Unused) {
		t.Errorf("digest %s, then %s; unused %d, then %d", before.Digest, after.Digest, len(before.Unused), len(after.Unused))
	}
}

// visitUntilDone is a short visit.
func (s *story) visitUntilDone() {
	grant := s.open("sato", "night", 20*time.Minute, "ehr")
	session := s.enter("sato", grant)
	s.wait(10*time.Minute).leave(session, "idle", 1, 1)
	s.close(grant, "window_closed")
}

// TestSample: the draw can be repeated with sha256sum.
func TestSample(t *testing.T) {
	r := Report{Digest: "d1", Sessions: []ReportSession{{ID: "A"}, {ID: "B"}, {ID: "C"}, {ID: "D"}}}
	draw := func(n int, seed string) (ids string) {
		for _, s := range Sample(r, n, seed) {
			ids += s.ID
		}
		return ids
	}
	// for s in A B C D; do echo $(printf '%s %s %s' d1 42 $s | sha256sum) $s; done | sort
	for _, c := range []struct {
		n    int
		seed string
		want string
	}{{4, "42", "DBCA"}, {2, "42", "DB"}, {9, "42", "DBCA"}, {0, "42", ""}, {-1, "42", ""}} {
		if got := draw(c.n, c.seed); got != c.want {
			t.Errorf("%d with %s: %s", c.n, c.seed, got)
		}
	}
	if draw(4, "43") == draw(4, "42") {
		t.Error("another seed draws the same")
	}
	if a, b, c := SampleSize(policy.Tier1), SampleSize(policy.Tier2), SampleSize(policy.Tier3); a != 3 || b != 10 || c != 25 {
		t.Errorf("sizes %d %d %d", a, b, c)
	}
}
