package policy

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// prefecture is a policy of 10,000 engineers: 500 vendors of 20, each vendor
// with a working-day window, a monthly night, and one long window, all with
// holidays cut out, two sources each.
func prefecture(b testing.TB) (*State, *Policy) {
	zone := mustZone(b, "Asia/Tokyo")
	holidays, err := NewCalendar("holidays", "JP", []DateRange{{mustDate("2026-12-29"), mustDate("2027-01-03")}})
	if err != nil {
		b.Fatal(err)
	}
	p := &Policy{Zone: zone, Calendars: []*Calendar{holidays}}
	for i := range 500 {
		v := &Vendor{Name: fmt.Sprintf("vendor%03d", i), ContractUntil: mustDate("2027-03-31"), Sources: []netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), 32),
			netip.PrefixFrom(netip.AddrFrom4([4]byte{198, byte(i >> 8), byte(i), 0}), 28),
		}}
		target := &Target{Name: fmt.Sprintf("target%03d", i), Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 32), Services: []Service{{TCP, 22, 22}, {TCP, 443, 443}}}
		for j := range 20 {
			e := &Engineer{Vendor: v, Name: fmt.Sprintf("engineer%02d", j), Sources: v.Sources, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 99, byte((i*20 + j) >> 8), byte(i*20 + j)})}}
			binary.BigEndian.PutUint32(e.Key[:], uint32(i*20+j+1))
			v.Engineers = append(v.Engineers, e)
		}
		for name, w := range map[string]*Window{
			"support": days("mon,tue,wed,thu,fri", "09:00", "17:30"),
			"patch":   rule("FREQ=MONTHLY;BYDAY=2SU", "22:00", 4*time.Hour),
			"cutover": once("2026-12-01T00:00", "2026-12-20T00:00"),
		} {
			w.Vendor, w.Name, w.Engineers, w.Targets, w.Except = v, name, v.Engineers, []*Target{target}, []*Calendar{holidays}
			v.Windows = append(v.Windows, w)
		}
		p.Vendors = append(p.Vendors, v)
	}
	s := NewState()
	if err := s.Apply(time.Time{}, "test", PolicyLoaded{Digest: "digest", Policy: p}); err != nil {
		b.Fatal(err)
	}
	return s, p
}

// BenchmarkPlan works out who may enter at 10,000 engineers, 20,000 of the
// 30,000 grants open. warm: nothing changed since the last plan; edge: 500
// windows have just opened; cold: the policy was just loaded; quiet: at night;
// shut: a hundred vendors are closed.
func BenchmarkPlan(b *testing.B) {
	s, p := prefecture(b)
	noon := time.Date(2026, 12, 7, 12, 0, 0, 0, p.Zone)
	b.Run("warm", func(b *testing.B) {
		if n := len(s.Plan(noon).Grants); n != 20000 {
			b.Fatalf("%d grants", n)
		}
		b.ReportAllocs()
		for b.Loop() {
			s.Plan(noon)
		}
	})
	b.Run("edge", func(b *testing.B) {
		nine := time.Date(2026, 12, 7, 9, 0, 0, 0, p.Zone)
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			s.Plan(nine.Add(-time.Second))
			b.StartTimer()
			s.Plan(nine)
		}
	})
	b.Run("cold", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Copy().Plan(noon)
		}
	})
	b.Run("quiet", func(b *testing.B) {
		s.Plan(noon.Add(40 * 24 * time.Hour).Add(10 * time.Hour))
		b.ReportAllocs()
		for b.Loop() {
			s.Plan(noon.Add(40 * 24 * time.Hour).Add(10 * time.Hour))
		}
	})
	b.Run("shut", func(b *testing.B) {
		s, _ := shutHundred(b)
		if n := len(s.Plan(noon).Grants); n != 16000 {
			b.Fatalf("%d grants", n)
		}
		b.ReportAllocs()
		for b.Loop() {
			s.Plan(noon)
		}
	})
}

// BenchmarkShut closes a vendor where a hundred are closed.
func BenchmarkShut(b *testing.B) {
	s, _ := shutHundred(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Apply(time.Time{}, "test", Shut{Scope: "vendor250", Reason: "test"}); err != nil {
			b.Fatal(err)
		}
	}
}

func shutHundred(b *testing.B) (*State, *Policy) {
	s, p := prefecture(b)
	for i := range 100 {
		if err := s.Apply(time.Time{}, "test", Shut{Scope: Scope(fmt.Sprintf("vendor%03d", 2*i)), Reason: "test"}); err != nil {
			b.Fatal(err)
		}
	}
	return s, p
}

func BenchmarkDecide(b *testing.B) {
	s, p := prefecture(b)
	now := time.Date(2026, 12, 7, 12, 0, 0, 0, p.Zone)
	plan := s.Plan(now)
	e := p.Vendors[250].Engineers[10]
	admitted := Query{Key: e.Key, Proven: true, Source: e.Sources[1].Addr()}
	target := admitted
	target.To, target.Proto = netip.AddrPortFrom(e.Vendor.Windows[0].Targets[0].Prefix.Addr(), 443), TCP
	wrong := admitted
	wrong.Source = netip.MustParseAddr("192.0.2.1")
	for _, c := range []struct {
		name   string
		query  Query
		now    time.Time
		reason Reason
	}{
		{"admitted", admitted, now, Admitted},
		{"target", target, now, Admitted},
		{"wrong_source", wrong, now, WrongSource},
		{"contract_ended", admitted, now.Add(365 * 24 * time.Hour), ContractEnded},
		{"unknown_key", Query{Key: Key{9}, Proven: true}, now, UnknownKey},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if d := plan.Decide(c.query, c.now); d.Reason != c.reason {
					b.Fatal(d.Reason)
				}
			}
		})
	}
}

func BenchmarkListed(b *testing.B) {
	s, p := prefecture(b)
	now := time.Date(2026, 12, 7, 12, 0, 0, 0, p.Zone)
	plan := s.Plan(now)
	for name, source := range map[string]netip.Addr{"listed": p.Vendors[250].Sources[1].Addr(), "unlisted": netip.MustParseAddr("192.0.2.1")} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				plan.Listed(source, "", now)
			}
		})
	}
}

// threeHundred adds 300 requests to the prefecture, each of five engineers: 250 are open, the others
// wait for approvals.
func threeHundred(b testing.TB, now time.Time) (*State, []*Request) {
	s, p := prefecture(b)
	p.Operators = []*Operator{{Name: "ito", User: "ito", Rights: Rights()}, {Name: "tanaka", User: "tanaka", Rights: Rights()}}
	var undecided []*Request
	for i := range 300 {
		v := p.Vendors[i]
		v.OnRequest = &OnRequest{Targets: v.Windows[0].Targets, Engineers: v.Engineers, Approvals: 1, Approvers: p.Operators[:1], MaxDuration: 4 * time.Hour, MaxTotal: 8 * time.Hour,
			Ahead: 24 * time.Hour, Undecided: 24 * time.Hour}
	}
	if err := s.Apply(now, "test", PolicyLoaded{Digest: "requests", Policy: p}); err != nil {
		b.Fatal(err)
	}
	for i := range 300 {
		a := Ask{Vendor: p.Vendors[i].Name, Targets: []string{p.Vendors[i].OnRequest.Targets[0].Name}, For: 4 * time.Hour, From: now, Purpose: "work"}
		for _, e := range p.Vendors[i].Engineers[:5] {
			a.Engineers = append(a.Engineers, e.Name)
		}
		terms, err := p.Resolve(a, fmt.Sprintf("~%05d", i), now)
		if err == nil {
			err = s.Apply(now, "tanaka", Requested{Terms: terms, By: "tanaka"})
		}
		if err == nil && i < 250 {
			err = s.Apply(now, "ito", Verdict{Verb: Approve, ID: terms.ID, By: "ito", Digest: terms.Digest()})
		}
		if err != nil {
			b.Fatal(err)
		}
		if i >= 250 {
			undecided = append(undecided, s.Request(terms.ID))
		}
	}
	return s, undecided
}

// BenchmarkRequests works with 300 requests at 10,000 engineers. approve: a decision and the plan after
// it; plan: one where nothing changed; stands: a list of all. The ratio is to the same plan without
// requests.
func BenchmarkRequests(b *testing.B) {
	without, p := prefecture(b)
	noon := time.Date(2026, 12, 7, 12, 0, 0, 0, p.Zone)
	s, undecided := threeHundred(b, noon)
	if n := len(s.Plan(noon).Grants); n != 20000+250*5 {
		b.Fatalf("%d grants", n)
	}
	without.Plan(noon)
	began := time.Now()
	for range 20 {
		without.Plan(noon)
	}
	usual := time.Since(began) / 20
	ratio := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(usual), "plans")
	}
	b.Run("approve", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c := s.Copy()
			b.StopTimer()
			c.Plan(noon) // a copy knows no grants
			b.StartTimer()
			r := undecided[b.N%len(undecided)]
			if err := c.Apply(noon, "ito", Verdict{Verb: Approve, ID: r.ID, By: "ito", Digest: r.Digest()}); err != nil {
				b.Fatal(err)
			}
			c.Plan(noon)
		}
		ratio(b)
	})
	b.Run("plan", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Plan(noon)
		}
		ratio(b)
	})
	b.Run("stands", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for _, r := range s.Requests() {
				s.Stands(r, noon)
			}
		}
		ratio(b)
	})
}

// BenchmarkWithin works out the kernel's plan at 10,000 engineers: without a request of another source,
// and with one.
func BenchmarkWithin(b *testing.B) {
	s, p := prefecture(b)
	plan := s.Plan(time.Date(2026, 12, 7, 12, 0, 0, 0, p.Zone))
	one := plan.Restrict(func(g *Grant) *Grant {
		if g != plan.Grants[777] {
			return g
		}
		copied, e := *g, *g.Engineer
		e.Sources, copied.Engineer = e.Sources[:1], &e
		return &copied
	})
	for name, plan := range map[string]*Plan{"none": plan, "one": one} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if within := plan.Within(func(*Engineer) netip.Addr { return netip.Addr{} }); (within == plan) != (name == "none") || len(within.Grants) != len(plan.Grants) {
					b.Fatal("another plan")
				}
			}
		})
	}
}
