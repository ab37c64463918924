package policy

import (
	"errors"
	"testing"
	"time"
)

// TestClosesOfAPrime: a close of a vendor closes those under it, names and keys, also in a replay, and a
// reopening takes it back.
func TestClosesOfAPrime(t *testing.T) {
	s, p := example(t)
	medisys, other := p.Vendors[0], p.Vendors[1]
	other.Under = medisys
	tanaka := other.Engineers[0]
	at := time.Date(2026, 12, 7, 12, 0, 0, 0, time.UTC)
	journal := &recorded{}
	journal.apply(t, s, at, PolicyLoaded{Digest: "under", Policy: p})
	reason := func(s *State, e *Engineer) Reason { _, reason := s.Plan(at).ShutBy(e); return reason }

	journal.apply(t, s, at, Shut{Scope: "medisys", Reason: "call"})
	moved := *p
	moved.Vendors = []*Vendor{medisys, {Name: "elsewhere", Engineers: []*Engineer{}}}
	again := *tanaka
	again.Vendor = moved.Vendors[1]
	moved.Vendors[1].Engineers = []*Engineer{&again}
	for name, s := range map[string]*State{"at once": s, "after a replay": journal.replay(t, at, p)} {
		by, _ := s.Plan(at).ShutBy(tanaka)
		if got := reason(s, tanaka); got != VendorShut || by.Scope != "medisys" || len(s.Held()) > 0 {
			t.Errorf("%s: %v by %q, held %v, want vendor_shut by medisys", name, got, by.Scope, s.Held())
		}
		var none *NoMatchError
		if err := s.Apply(at, "test", Reopened{Scope: "other"}); !errors.As(err, &none) || none.Around != "medisys" {
			t.Errorf("%s: reopening it alone gives %v", name, err)
		}
		c := s.Copy()
		if err := c.Apply(at, "test", Reopened{Scope: "medisys"}); err != nil || reason(c, tanaka) != Admitted {
			t.Errorf("%s: after the reopening it is %v, %v", name, reason(c, tanaka), err)
		}
		c = s.Copy()
		if err := c.Apply(at, "test", PolicyLoaded{Digest: "moved", Policy: &moved}); err != nil || reason(c, &again) != VendorShut {
			t.Errorf("%s: its key under another name is %v, %v", name, reason(c, &again), err)
		}
	}
}

// TestLastDay is the first end of all.
func TestLastDay(t *testing.T) {
	day := func(d int) Date { return Date{2027, time.March, d} }
	prime := &Vendor{Name: "prime", ContractUntil: day(20)}
	for _, c := range []struct {
		contract, consent, want Date
	}{{want: day(20)}, {contract: day(10), want: day(10)}, {contract: day(30), want: day(20)}, {consent: day(5), contract: day(10), want: day(5)}, {consent: day(25), want: day(20)}} {
		v := &Vendor{Name: "sub", Under: prime, Consent: &Consent{Until: c.consent}, ContractUntil: c.contract}
		if got := v.LastDay(); got != c.want {
			t.Errorf("contract %v, consent %v: %v, want %v", c.contract, c.consent, got, c.want)
		}
	}
	if got := (&Vendor{}).LastDay(); !got.IsZero() {
		t.Errorf("a vendor without an end ends on %v", got)
	}
}
