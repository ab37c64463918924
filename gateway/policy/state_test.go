package policy

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestApply says which events change a state, and that one that fails does not.
func TestApply(t *testing.T) {
	at := time.Date(2026, 12, 7, 10, 0, 0, 0, time.UTC)
	shut := func(s *State, scopes ...Scope) {
		for _, scope := range scopes {
			if err := s.Apply(at, "uid 0", Shut{Scope: scope, Reason: "incident"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	scopes := func(s *State) (all []string) {
		for _, r := range s.Shuts() {
			all = append(all, string(r.Scope))
		}
		return all
	}
	for _, c := range []struct {
		name  string
		event Event
		want  string // the error
		then  []string
	}{
		{"shut a vendor", Shut{Scope: "other", Reason: "x"}, "", []string{"all", "medisys/sato", "other"}},
		{"shut again: the first record stays", Shut{Scope: "all", Reason: "x"}, "", []string{"all", "medisys/sato"}},
		{"shut an unknown engineer", Shut{Scope: "medisys/tanaka", Reason: "x"}, `the policy has no vendor or engineer "medisys/tanaka"`, []string{"all", "medisys/sato"}},
		{"shut an unknown vendor", Shut{Scope: "medi", Reason: "x"}, `the policy has no vendor or engineer "medi"`, []string{"all", "medisys/sato"}},
		{"shut nothing", Shut{Scope: "", Reason: "x"}, `the policy has no vendor or engineer ""`, []string{"all", "medisys/sato"}},
		{"reopen", Reopened{"all", "x"}, "", []string{"medisys/sato"}},
		{"reopen what is not shut itself", Reopened{"medisys", "x"}, `"medisys" is not shut itself: "all" is, and can be reopened`, []string{"all", "medisys/sato"}},
		{"reopen what nobody has", Reopened{"medi", "x"}, `"medi" is not shut`, []string{"all", "medisys/sato"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _ := example(t)
			shut(s, "medisys/sato", "all")
			before := s.Plan(at)
			err := s.Apply(at.Add(time.Second), "uid 1000", c.event)
			var noMatch *NoMatchError
			if c.want == "" && err != nil || c.want != "" && (!errors.As(err, &noMatch) || err.Error() != c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if diff := cmp.Diff(c.then, scopes(s)); diff != "" {
				t.Errorf("shut then (-want +got):\n%s", diff)
			}
			if r, ok := before.Shut("all"); !ok || r.Actor != "uid 0" || !r.At.Equal(at) {
				t.Errorf("the plan made before now says %+v", r)
			}
		})
	}
}

// TestApplyDuringReplay: what was shut stays shut, whatever the policy says
// that is loaded afterwards, and can be reopened then.
func TestApplyDuringReplay(t *testing.T) {
	at := time.Date(2026, 12, 7, 10, 0, 0, 0, time.UTC)
	s := NewState()
	for _, e := range []Event{PolicyLoaded{Digest: "old"}, Shut{Scope: "medisys/sato", Reason: "x"}, Shut{Scope: "gone/nobody", Reason: "x"}} {
		if err := s.Apply(at, "replay", e); err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
	}
	if s.Policy() != nil || s.Digest() != "old" || s.Plan(at).Doubt == "" {
		t.Errorf("a replay put a policy in force: %v, digest %q", s.Policy(), s.Digest())
	}
	_, p := example(t)
	if err := s.Apply(at, "start", PolicyLoaded{Digest: "new", Policy: p}); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 12, 7, 10, 0, 0, 0, p.Zone)
	if d := s.Plan(now).Decide(Query{Key: Key{1}, Proven: true}, now); d.Reason != EngineerShut {
		t.Errorf("sato, shut before: %v, want engineer_shut", d.Reason)
	}
	if err := s.Apply(at, "uid 0", Reopened{"gone/nobody", "x"}); err != nil {
		t.Errorf("reopening one whom the policy no longer has: %v", err)
	}
}

// TestPolicyLoadedAnew: another policy takes the place of the first at once,
// and engineers of the old one are found by name and key.
func TestPolicyLoadedAnew(t *testing.T) {
	s, old := example(t)
	now := time.Date(2026, 12, 7, 10, 0, 0, 0, old.Zone)
	s.Plan(now)
	_, p := example(t)
	medisys := p.Vendor("medisys")
	medisys.Windows = medisys.Windows[:2] // no support
	if err := s.Apply(now, "reload", PolicyLoaded{Digest: "new", Policy: p}); err != nil {
		t.Fatal(err)
	}
	plan := s.Plan(now)
	if len(plan.Grants) != 0 || plan.Policy != p {
		t.Errorf("%d grants of a window that is gone", len(plan.Grants))
	}
	evening := s.Plan(now.Add(8 * time.Hour))
	if got := len(evening.GrantsOf(old.Engineer("medisys/sato"))); got != 1 {
		t.Errorf("sato of the old policy has %d grants, want 1", got)
	}
	stranger := &Engineer{Vendor: &Vendor{Name: "other"}, Name: "sato", Key: Key{1}}
	if got := len(evening.GrantsOf(stranger)); got != 0 {
		t.Errorf("one of another name with the same key has %d grants, want 0", got)
	}
}

// TestFindByAddress: the inner address names the engineer.
func TestFindByAddress(t *testing.T) {
	s, p := example(t)
	plan := s.Plan(time.Date(2026, 12, 7, 10, 0, 0, 0, p.Zone))
	for _, e := range []*Engineer{p.Engineer("medisys/sato"), p.Engineer("medisys/suzuki")} {
		for _, a := range e.Addresses {
			if got := plan.ByAddress(a); got != e {
				t.Errorf("ByAddress(%s) = %v, want %s", a, got, e)
			}
		}
		if got := plan.ByKey(e.Key); got != e {
			t.Errorf("ByKey of %s = %v", e, got)
		}
	}
	if plan.ByKey(Key{9}) != nil || p.Engineer("medisys/nobody") != nil || p.Engineer("medisys") != nil || p.Engineer("nobody/sato") != nil {
		t.Error("found one who is not there")
	}
}

func TestDates(t *testing.T) {
	order := []Date{{}, mustDate("2023-12-31"), mustDate("2024-01-01"), mustDate("2024-02-29"), mustDate("2024-03-01"), mustDate("2024-12-01")}
	for i, a := range order {
		for j, b := range order {
			if got, want := a.Compare(b), min(max(i-j, -1), 1); got != want {
				t.Errorf("%s.Compare(%s) = %d, want %d", a, b, got, want)
			}
		}
	}
	if got := mustDate("2024-02-28").AddDays(2).String(); got != "2024-03-01" {
		t.Errorf("two days after 2024-02-28: %s", got)
	}
	for _, text := range []string{"", "2026-02-29", "2026-13-01", "2026-1-1", "01.02.2026", "2026-01-01T00:00"} {
		if d, err := ParseDate(text); err == nil {
			t.Errorf("ParseDate(%q) = %s", text, d)
		}
	}
}

func TestReasonText(t *testing.T) {
	for _, r := range Reasons() {
		text, _ := r.MarshalText()
		var back Reason
		if err := back.UnmarshalText(text); err != nil || back != r {
			t.Errorf("%s reads as %v, %v", text, back, err)
		}
	}
	if n := len(Reasons()); n != 16 || slices.Contains(Reasons(), reasons) {
		t.Errorf("%d reasons, want 16", n)
	}
	var r Reason
	if err := r.UnmarshalText([]byte("because")); err == nil || err.Error() != `"because" is not a reason` {
		t.Errorf("because: %v", err)
	}
}

func TestServiceText(t *testing.T) {
	for want, s := range map[string]Service{"tcp/22": {TCP, 22, 22}, "udp/161-162": {UDP, 161, 162}, "icmp": {ICMP, 0, 0}} {
		if got := s.String(); got != want {
			t.Errorf("%+v is written %q, want %q", s, got, want)
		}
	}
}

func TestParseKey(t *testing.T) {
	const text = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
	if k, err := ParseKey(text); err != nil || k.String() != text {
		t.Errorf("ParseKey(%q) = %s, %v", text, k, err)
	}
	for _, bad := range []string{"", text[:43], text + "=", "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dh=", "AAAA"} {
		if _, err := ParseKey(bad); err == nil {
			t.Errorf("ParseKey(%q) is taken", bad)
		}
	}
}
