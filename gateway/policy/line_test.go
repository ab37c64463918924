package policy

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// byLine gives medisys of the example a line, and the state that has it.
func byLine(t *testing.T, l *Line) (*State, *Policy) {
	t.Helper()
	s, p := example(t)
	p.Lines = []*Line{l}
	p.Vendors[0].Line = l
	for _, e := range p.Vendors[0].Engineers {
		e.Line = l
	}
	return s, p
}

var leased = &Line{Name: "kyushoku", Interface: "eth1.310", Kind: Leased}

// TestFault118WrongLine says the reason by the interface of the packet, a case a line.
func TestFault118WrongLine(t *testing.T) {
	for _, c := range []struct {
		name, who, from, by, at string
		fault                   Reason
		shut                    string
		want                    Reason
	}{
		{name: "the vendor's line", who: "sato", from: "203.0.113.10", by: "eth1.310", at: "10:00", want: Admitted},
		{name: "no interface is asked about", who: "sato", from: "203.0.113.10", at: "10:00", want: Admitted},
		{name: "another VLAN of the same wire", who: "sato", from: "203.0.113.10", by: "eth1.31", at: "10:00", want: WrongLine},
		{name: "the wire itself", who: "sato", from: "203.0.113.10", by: "eth1", at: "10:00", want: WrongLine},
		{name: "the Internet", who: "sato", from: "203.0.113.10", by: "eth0", at: "10:00", want: WrongLine},
		{name: "an interface that cannot be told", who: "sato", from: "203.0.113.10", by: UnknownIngress, at: "10:00", want: WrongLine},
		{name: "a vendor without a line comes by any", who: "tanaka", from: "192.0.2.5", by: "eth0", at: "10:00", want: OutsideWindow},
		{name: "a vendor without a line, by an unknown one", who: "tanaka", from: "192.0.2.5", by: UnknownIngress, at: "10:00", want: OutsideWindow},
		{name: "after a wrong source", who: "sato", from: "192.0.2.5", by: "eth0", at: "10:00", want: WrongSource},
		{name: "after a shut vendor", who: "sato", from: "203.0.113.10", by: "eth0", at: "10:00", shut: "medisys", want: VendorShut},
		{name: "after a replay", who: "sato", from: "203.0.113.10", by: "eth0", at: "10:00", fault: Replayed, want: Replayed},
		{name: "before the window", who: "sato", from: "203.0.113.10", by: "eth0", at: "03:00", want: WrongLine},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, p := byLine(t, leased)
			now, err := time.ParseInLocation("2006-01-02 15:04", "2026-12-07 "+c.at, p.Zone)
			if err != nil {
				t.Fatal(err)
			}
			if c.shut != "" {
				if err := s.Apply(now, "test", Shut{Scope: Scope(c.shut), Reason: "test"}); err != nil {
					t.Fatal(err)
				}
			}
			q := Query{Proven: true, Fault: Admitted, Source: netip.MustParseAddr(c.from), Ingress: c.by}
			if c.fault != 0 {
				q.Fault = c.fault
			}
			for _, v := range p.Vendors {
				for _, e := range v.Engineers {
					if e.Name == c.who {
						q.Key = e.Key
					}
				}
			}
			if d := s.Plan(now).Decide(q, now); d.Reason != c.want {
				t.Errorf("%v, want %v", d.Reason, c.want)
			}
		})
	}
}

// TestFault118ListedByItsLine: the source of a vendor with a line is listed by that interface alone.
func TestFault118ListedByItsLine(t *testing.T) {
	s, p := byLine(t, leased)
	now := time.Date(2026, 12, 7, 10, 0, 0, 0, p.Zone)
	plan := s.Plan(now)
	source := netip.MustParseAddr("203.0.113.10")
	for by, want := range map[string]bool{"eth1.310": true, "eth1": false, "eth0": false, "": false, UnknownIngress: false} {
		if got := plan.Listed(source, by, now); got != want {
			t.Errorf("listed by %q: %t, want %t", by, got, want)
		}
	}
	if !plan.HasLines() {
		t.Error("a plan with a line does not ask for the interface")
	}
	other, _ := example(t)
	without := other.Plan(now)
	if !without.Listed(source, UnknownIngress, now) || without.HasLines() {
		t.Error("a source without a line is not listed by any interface")
	}
}

// TestFault118LineHoldsForOneTimeSources: a request has a source of its own, and the vendor's line.
func TestFault118LineHoldsForOneTimeSources(t *testing.T) {
	s, p := byLine(t, leased)
	now := time.Date(2026, 12, 7, 10, 0, 0, 0, p.Zone)
	once := netip.MustParseAddr("198.18.0.9")
	plan := s.Plan(now).Restrict(func(g *Grant) *Grant {
		c, e := *g, *g.Engineer
		e.Sources = []netip.Prefix{netip.PrefixFrom(once, 32)}
		c.Engineer = &e
		return &c
	})
	for by, want := range map[string]Reason{"eth1.310": Admitted, "eth0": WrongLine} {
		q := Query{Key: Key{1}, Proven: true, Fault: Admitted, Source: once, Ingress: by}
		if d := plan.Decide(q, now); d.Reason != want || plan.Listed(once, by, now) != (want == Admitted) || plan.MayComeFrom(q) != (want == Admitted) {
			t.Errorf("by %s: %v, listed %t, may come %t; want %v", by, d.Reason, plan.Listed(once, by, now), plan.MayComeFrom(q), want)
		}
	}
}

// TestFault118LinesAreTold: a change of a line is told, with the access that it opens and closes.
func TestFault118LinesAreTold(t *testing.T) {
	_, before := example(t)
	state, after := byLine(t, &Line{Name: "kyushoku", Interface: "eth1.310", Kind: Leased, Provider: "NTT West"})
	want := []string{"added line kyushoku; interface -[] +[eth1.310]; kind -[] +[leased]; provider -[] +[NTT West]", "changed vendor medisys; line -[] +[kyushoku]"}
	if diff := cmp.Diff(lines(Changes(before, after)), want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
	moved, other := byLine(t, &Line{Name: "kyushoku", Interface: "eth2", Kind: Leased, Provider: "NTT West"})
	if got := strings.Join(lines(Changes(after, other)), "; "); got != "changed line kyushoku; interface -[eth1.310] +[eth2]" {
		t.Error(got)
	}
	now := time.Date(2026, 12, 7, 10, 0, 0, 0, after.Zone)
	closes, opens := Moved(state.Plan(now), moved.Plan(now), now)
	if len(closes) != 1 || len(opens) != 1 || len(closes[0].Sources) != 3 {
		t.Errorf("closes %v, opens %v", closes, opens)
	}
	without, _ := example(t)
	closes, opens = Moved(state.Plan(now), without.Plan(now), now)
	if len(closes) != 0 || len(opens) != 1 {
		t.Errorf("without the line: closes %v, opens %v", closes, opens)
	}
}
