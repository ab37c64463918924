package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestOpenings lists a week of the example, then with an engineer shut.
func TestOpenings(t *testing.T) {
	s, p := example(t)
	from, until := time.Date(2026, 12, 7, 12, 0, 0, 0, p.Zone), time.Date(2026, 12, 8, 12, 0, 0, 0, p.Zone)
	list := func(all []Opening) string {
		text := ""
		for _, o := range all {
			text += "\n" + o.Window.String() + " " + describe(p.Zone, o.Span)
			for _, e := range o.Engineers {
				text += " " + e.Name
			}
		}
		return text
	}
	want := `
medisys/support Mon 2026-12-07 09:00+09 - Mon 2026-12-07 17:30+09 8h30m sato
medisys/patch Mon 2026-12-07 17:00+09 - Mon 2026-12-07 19:00+09 2h sato suzuki
medisys/late Mon 2026-12-07 19:00+09 - Mon 2026-12-07 20:00+09 1h sato suzuki
medisys/support Tue 2026-12-08 09:00+09 - Tue 2026-12-08 17:30+09 8h30m sato`
	if diff := cmp.Diff(want, list(p.Openings(from, until))); diff != "" {
		t.Errorf("openings (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, list(s.Plan(from).Openings(from, until))); diff != "" {
		t.Errorf("openings of a plan (-want +got):\n%s", diff)
	}
	if err := s.Apply(from, "test", Shut{Scope: "medisys/sato", Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	want = `
medisys/patch Mon 2026-12-07 17:00+09 - Mon 2026-12-07 19:00+09 2h suzuki
medisys/late Mon 2026-12-07 19:00+09 - Mon 2026-12-07 20:00+09 1h suzuki`
	if diff := cmp.Diff(want, list(s.Plan(from).Openings(from, until))); diff != "" {
		t.Errorf("openings with sato shut (-want +got):\n%s", diff)
	}
	if got := list(NewState().Plan(from).Openings(from, until)); got != "" {
		t.Errorf("openings without a policy: %s", got)
	}
}

func TestNextOpening(t *testing.T) {
	for _, c := range []struct{ who, after, shut, doubt, want string }{
		{who: "medisys/sato", after: "2026-12-07T08:00", want: "2026-12-07T09:00"},
		{who: "medisys/sato", after: "2026-12-07T09:00", want: "2026-12-07T17:00"},
		{who: "medisys/sato", after: "2026-12-07T19:00", want: "2026-12-08T09:00"},
		{who: "medisys/sato", after: "2026-12-11T12:00", want: "2026-12-14T09:00"},
		{who: "medisys/sato", after: "2026-12-31T09:00", want: ""}, // the contract ends that night
		{who: "medisys/sato", after: "2027-01-05T12:00", want: ""}, // it has ended
		{who: "medisys/suzuki", after: "2026-01-01T00:00", want: "2026-12-07T17:00"},
		{who: "medisys/suzuki", after: "2025-10-01T00:00", want: ""}, // more than 400 days ahead
		{who: "medisys/suzuki", after: "2026-12-07T19:00", want: ""}, // nothing is left
		{who: "other/tanaka", after: "2026-12-07T08:00", want: ""},   // no window
		{who: "medisys/sato", after: "2026-12-07T08:00", shut: "medisys/sato", want: ""},
		{who: "medisys/sato", after: "2026-12-07T08:00", shut: "medisys", want: ""},
		{who: "medisys/sato", after: "2026-12-07T08:00", shut: "all", want: ""},
		{who: "medisys/sato", after: "2026-12-07T08:00", shut: "medisys/suzuki", want: "2026-12-07T09:00"},
		{who: "medisys/sato", after: "2026-12-07T08:00", doubt: "x", want: ""},
	} {
		s, p := example(t)
		after, _ := time.ParseInLocation("2006-01-02T15:04", c.after, p.Zone)
		for scope := range strings.FieldsSeq(c.shut) {
			if err := s.Apply(after, "test", Shut{Scope: Scope(scope), Reason: "test"}); err != nil {
				t.Fatal(err)
			}
		}
		plan := s.Plan(after)
		if c.doubt != "" {
			plan = plan.Doubted(c.doubt)
		}
		got := ""
		if next := plan.NextOpening(p.Engineer(c.who), after); !next.IsZero() {
			got = next.In(p.Zone).Format("2006-01-02T15:04")
		}
		if got != c.want {
			t.Errorf("NextOpening(%s, %s) with %q shut, doubt %q = %q, want %q", c.who, c.after, c.shut, c.doubt, got, c.want)
		}
	}
}

// requestable is the example with a request of sato and suzuki for an hour, approved or not.
func requestable(t *testing.T, from time.Time, approved bool) (*State, *Policy, *Request) {
	t.Helper()
	s, p := example(t)
	p.Operators = []*Operator{{Name: "suzuki-it", User: "suzuki"}, {Name: "tanaka", User: "tanaka"}}
	v := p.Vendor("medisys")
	v.OnRequest = &OnRequest{Targets: p.Targets, Engineers: v.Engineers, Approvals: 1, Approvers: p.Operators,
		MaxDuration: 4 * time.Hour, MaxTotal: 8 * time.Hour, Ahead: 30 * 24 * time.Hour, Undecided: 24 * time.Hour}
	ask := Ask{Vendor: "medisys", Targets: []string{p.Targets[0].Name}, From: from, For: time.Hour, Purpose: "the server is slow", Ticket: "T-1"}
	for _, e := range v.Engineers {
		ask.Engineers = append(ask.Engineers, e.Name)
	}
	terms, err := p.Resolve(ask, "~7k2m9x", from)
	if err != nil {
		t.Fatal(err)
	}
	events := []Event{Requested{Terms: terms, By: "tanaka"}, Verdict{Verb: Approve, ID: "~7k2m9x", By: "suzuki-it", Digest: terms.Digest()}}
	for _, e := range events[:map[bool]int{false: 1, true: 2}[approved]] {
		if err := s.Apply(from, "test", e); err != nil {
			t.Fatal(err)
		}
	}
	return s, p, s.Request("~7k2m9x")
}

// TestOpeningsOfRequests: an approved request is among the openings, in order, and an undecided or a
// revoked one is not.
func TestOpeningsOfRequests(t *testing.T) {
	zone := time.FixedZone("JST", 9*3600)
	from, after := time.Date(2026, 12, 12, 3, 0, 0, 0, zone), time.Date(2026, 12, 11, 23, 0, 0, 0, zone)
	for _, approved := range []bool{true, false} {
		s, p, r := requestable(t, from, approved)
		sato := p.Engineer("medisys/sato")
		count := func() (n int) {
			for _, o := range s.Openings(after, after.Add(48*time.Hour)) {
				if o.Window.IsRequest() && o.From.Equal(from) && o.Until.Equal(from.Add(time.Hour)) && len(o.Engineers) == 2 {
					n++
				}
			}
			return n
		}
		want := map[bool]int{true: 1}[approved]
		if got := count(); got != want {
			t.Errorf("approved %t: %d openings of the request", approved, got)
		}
		if next := s.Plan(after).NextOpening(sato, after); next.Equal(from) != approved {
			t.Errorf("approved %t: the next opening is %s", approved, next)
		}
		shut := s.Copy()
		if err := shut.Apply(after, "test", Shut{Scope: "medisys/sato", Reason: "test"}); err != nil {
			t.Fatal(err)
		}
		for _, o := range shut.Plan(after).Openings(after, after.Add(48*time.Hour)) {
			if o.Window.IsRequest() && (len(o.Engineers) != 1 || o.Engineers[0].Name != "suzuki") {
				t.Errorf("with sato shut the request admits %v", o.Engineers)
			}
		}
		if err := s.Apply(after, "test", Shut{Scope: r.Scope(), Reason: "test"}); err != nil {
			t.Fatal(err)
		}
		if got := count(); got != 0 {
			t.Errorf("revoked: %d openings", got)
		}
		if next := s.Plan(after).NextOpening(sato, after); next.Equal(from) {
			t.Error("the next opening is a revoked request's")
		}
	}
	if all := NewState().Openings(after, from); all != nil {
		t.Errorf("without a policy: %v", all)
	}
}
