package policy

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// example is the policy of the tables below, in Tokyo:
//
//	medisys/sato, medisys/suzuki (who has a source of their own)
//	  support  Mon to Fri 09:00-17:30, pacs (tcp 104, icmp), sato alone
//	  patch    2026-12-07 (a Monday) 17:00-19:00, ehr-db (tcp 22), both
//	  late     2026-12-07 19:00-20:00, pacs, ehr-db and ehr-6 (tcp 22), both; suzuki has no IPv6 in the tunnel
//	  the contract ends with 2026-12-31
//	other/tanaka: no window
func example(t testing.TB) (*State, *Policy) {
	ehr := &Target{Name: "ehr-db", Prefix: netip.MustParsePrefix("10.1.0.5/32"), Services: []Service{{TCP, 22, 22}}}
	ehr6 := &Target{Name: "ehr-6", Prefix: netip.MustParsePrefix("fd01::5/128"), Services: []Service{{TCP, 22, 22}}}
	pacs := &Target{Name: "pacs", Prefix: netip.MustParsePrefix("10.1.2.0/28"), Services: []Service{{TCP, 104, 104}, {ICMP, 0, 0}}}
	medisys := &Vendor{Name: "medisys", ContractUntil: mustDate("2026-12-31"), Sources: prefixes("203.0.113.10/32", "198.51.100.0/28", "2001:db8:1::/64")}
	sato := &Engineer{Vendor: medisys, Name: "sato", Key: Key{1}, Sources: medisys.Sources, Addresses: []netip.Addr{netip.MustParseAddr("10.99.0.2"), netip.MustParseAddr("fd00:99::2")}}
	suzuki := &Engineer{Vendor: medisys, Name: "suzuki", Key: Key{2}, Sources: prefixes("203.0.113.11/32"), Addresses: []netip.Addr{netip.MustParseAddr("10.99.0.3")}}
	medisys.Engineers = []*Engineer{sato, suzuki}
	window := func(name string, w *Window, engineers []*Engineer, targets ...*Target) {
		w.Vendor, w.Name, w.Engineers, w.Targets = medisys, name, engineers, targets
		medisys.Windows = append(medisys.Windows, w)
	}
	window("late", once("2026-12-07T19:00", "2026-12-07T20:00"), medisys.Engineers, ehr, ehr6, pacs)
	window("patch", once("2026-12-07T17:00", "2026-12-07T19:00"), medisys.Engineers, ehr)
	window("support", days("mon,tue,wed,thu,fri", "09:00", "17:30"), medisys.Engineers[:1], pacs)
	other := &Vendor{Name: "other", Sources: prefixes("192.0.2.0/24")}
	other.Engineers = []*Engineer{{Vendor: other, Name: "tanaka", Key: Key{3}, Sources: other.Sources}}
	p := &Policy{Zone: mustZone(t, "Asia/Tokyo"), Targets: []*Target{ehr, ehr6, pacs}, Vendors: []*Vendor{medisys, other}}
	s := NewState()
	if err := s.Apply(time.Time{}, "test", PolicyLoaded{Digest: "digest", Policy: p}); err != nil {
		t.Fatal(err)
	}
	return s, p
}

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// TestDecide says the reason, and until when, a case a line.
func TestDecide(t *testing.T) {
	const mon, dec31, jan1 = "2026-12-07 ", "2026-12-31 ", "2027-01-01 "
	for _, c := range []struct {
		name   string
		who    string // sato, suzuki, tanaka, nobody (an unknown key), or empty: no key could be read
		forged bool   // the key is not proven
		fault  Reason
		from   string
		to     string // "10.1.2.1:104 tcp"
		at     string
		shut   string // scopes
		doubt  string
		want   string // reason, grant's window, end
	}{
		// Inside and at the edges.
		{name: "inside", who: "sato", from: "203.0.113.10", at: mon + "10:00", want: "admitted support 17:30"},
		{name: "before it opens", who: "sato", at: mon + "08:59:59", want: "outside_window"},
		{name: "the first instant", who: "sato", at: mon + "09:00", want: "admitted support"},
		{name: "the last second of the union", who: "sato", at: mon + "19:59:59", want: "admitted late 20:00"},
		{name: "the end is not part of it", who: "sato", at: mon + "20:00", want: "outside_window"},
		{name: "on a Sunday", who: "sato", at: "2026-12-06 10:00", want: "outside_window"},
		{name: "only sato may use support", who: "suzuki", at: mon + "10:00", want: "outside_window"},
		{name: "no window at all", who: "tanaka", at: mon + "10:00", want: "outside_window"},
		{name: "of two grants the one that ends last", who: "sato", at: mon + "17:10", want: "admitted patch 19:00"},
		{name: "back to back: the next grant is known, and joined", who: "sato", at: mon + "18:59:55", want: "admitted patch 20:00"},

		// Targets.
		{name: "a listed target", who: "sato", to: "10.1.2.1:104 tcp", at: mon + "10:00", want: "admitted support 17:30"},
		{name: "the end for a target is that of the grants that list it", who: "sato", to: "10.1.2.1:104 tcp", at: mon + "17:10", want: "admitted support 17:30"},
		{name: "the other window's target", who: "sato", to: "10.1.0.5:22 tcp", at: mon + "17:10", want: "admitted patch 19:00"},
		{name: "not before that window", who: "sato", to: "10.1.0.5:22 tcp", at: mon + "16:59:59", want: "unlisted_target"},
		{name: "another port", who: "sato", to: "10.1.2.1:105 tcp", at: mon + "10:00", want: "unlisted_target"},
		{name: "another protocol", who: "sato", to: "10.1.2.1:104 udp", at: mon + "10:00", want: "unlisted_target"},
		{name: "another host", who: "sato", to: "10.1.2.16:104 tcp", at: mon + "10:00", want: "unlisted_target"},
		{name: "ping", who: "sato", to: "10.1.2.1:0 icmp", at: mon + "10:00", want: "admitted support 17:30"},
		{name: "ping where none is listed", who: "sato", to: "10.1.0.5:0 icmp", at: mon + "17:10", want: "unlisted_target"},
		{name: "IPv6, with a tunnel address of it", who: "sato", to: "[fd01::5]:22 tcp", at: mon + "19:30", want: "admitted late 20:00"},
		{name: "IPv6, without one", who: "suzuki", to: "[fd01::5]:22 tcp", at: mon + "19:30", want: "unlisted_target"},
		{name: "IPv6, without one and no window", who: "suzuki", to: "[fd01::5]:22 tcp", at: mon + "10:00", want: "outside_window"},

		// Sources.
		{name: "a prefix of the vendor", who: "sato", from: "198.51.100.15", at: mon + "10:00", want: "admitted support"},
		{name: "beside it", who: "sato", from: "198.51.100.16", at: mon + "10:00", want: "wrong_source"},
		{name: "IPv6", who: "sato", from: "2001:db8:1::77", at: mon + "10:00", want: "admitted support"},
		{name: "another vendor's source is as good as none", who: "sato", from: "192.0.2.5", at: mon + "10:00", want: "wrong_source"},
		{name: "the vendor's source is not the engineer's own", who: "suzuki", from: "203.0.113.10", at: mon + "17:10", want: "wrong_source"},
		{name: "the engineer's own", who: "suzuki", from: "203.0.113.11", at: mon + "17:10", want: "admitted patch"},

		// Contract.
		{name: "the contract's last evening", who: "sato", at: dec31 + "17:29:59", want: "admitted support 17:30"},
		{name: "still its last day", who: "sato", at: dec31 + "23:59:59", want: "outside_window"},
		{name: "over", who: "sato", at: jan1 + "00:00", want: "contract_ended"},
		{name: "over, in what would be a window", who: "sato", at: jan1 + "10:00", want: "contract_ended"},

		// Precedence: each line adds what comes before in the list of reasons.
		{name: "1 of many", who: "sato", to: "10.1.0.5:23 tcp", at: jan1 + "10:00", want: "contract_ended"},
		{name: "2", who: "sato", to: "10.1.0.5:23 tcp", at: jan1 + "10:00", from: "192.0.2.5", want: "wrong_source"},
		{name: "3", who: "sato", to: "10.1.0.5:23 tcp", at: jan1 + "10:00", from: "192.0.2.5", shut: "medisys/sato", want: "engineer_shut"},
		{name: "4", who: "sato", to: "10.1.0.5:23 tcp", at: jan1 + "10:00", from: "192.0.2.5", shut: "medisys/sato medisys", want: "vendor_shut"},
		{name: "5", who: "sato", to: "10.1.0.5:23 tcp", at: jan1 + "10:00", from: "192.0.2.5", shut: "medisys/sato medisys all", want: "gateway_shut"},
		{name: "6", who: "sato", fault: FutureTimestamp, at: jan1 + "10:00", from: "192.0.2.5", shut: "medisys/sato medisys all", want: "future_timestamp"},
		{name: "7", who: "sato", fault: Replayed, at: jan1 + "10:00", from: "192.0.2.5", shut: "all", want: "replayed"},
		{name: "8", who: "sato", fault: RateLimited, at: jan1 + "10:00", from: "192.0.2.5", shut: "all", want: "rate_limited"},
		{name: "9", who: "sato", fault: Malformed, at: jan1 + "10:00", from: "192.0.2.5", shut: "all", want: "malformed by nobody"},
		{name: "10", who: "sato", fault: Malformed, at: jan1 + "10:00", shut: "all", doubt: "the clock went back", want: "not_ready"},
		{name: "shut inside a window", who: "sato", at: mon + "10:00", shut: "medisys/sato", want: "engineer_shut"},
		{name: "another engineer's shut", who: "suzuki", at: mon + "17:10", shut: "medisys/sato", want: "admitted patch"},
		{name: "another vendor's shut", who: "suzuki", at: mon + "17:10", shut: "other", want: "admitted patch"},

		// Who says nothing, or what nobody proved, is nobody.
		{name: "an unknown key", who: "nobody", at: mon + "10:00", want: "unknown_key by nobody"},
		{name: "a known key that is not proven", who: "sato", forged: true, at: mon + "10:00", want: "unknown_key by nobody"},
		{name: "the same, of one who is shut", who: "sato", forged: true, at: mon + "10:00", shut: "medisys", want: "unknown_key by nobody"},
		{name: "rate limited before anything was proven", who: "sato", forged: true, fault: RateLimited, at: mon + "10:00", want: "rate_limited by nobody"},
		{name: "rate limited before a key was read", fault: RateLimited, at: mon + "10:00", want: "rate_limited by nobody"},
		{name: "no initiation", from: "203.0.113.10", at: mon + "10:00", want: "unlisted_source by nobody"},
		{name: "in doubt an unproven key stays unnamed", who: "sato", forged: true, at: mon + "10:00", doubt: "x", want: "not_ready by nobody"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, p := example(t)
			now, err := time.ParseInLocation("2006-01-02 15:04:05", c.at+":00"[:3*(2-strings.Count(c.at, ":"))], p.Zone)
			if err != nil {
				t.Fatal(err)
			}
			for scope := range strings.FieldsSeq(c.shut) {
				if err := s.Apply(now, "test", Shut{Scope: Scope(scope), Reason: "test"}); err != nil {
					t.Fatal(err)
				}
			}
			q := Query{Fault: c.fault, Proven: c.who != "" && !c.forged}
			var asks *Engineer
			for _, v := range p.Vendors {
				for _, e := range v.Engineers {
					if e.Name == c.who {
						q.Key, asks = e.Key, e
					}
				}
			}
			if c.who == "nobody" {
				q.Key = Key{9}
			}
			if c.from != "" {
				q.Source = netip.MustParseAddr(c.from)
			}
			if to, protocol, ok := strings.Cut(c.to, " "); ok {
				q.To = netip.MustParseAddrPort(to)
				q.Proto = map[string]uint8{"tcp": TCP, "udp": UDP, "icmp": ICMP}[protocol]
			}
			plan := s.Plan(now)
			if c.doubt != "" {
				plan = plan.Doubted(c.doubt)
			}
			d := plan.Decide(q, now)

			want := strings.Fields(c.want)
			if d.Reason.String() != want[0] {
				t.Fatalf("reason %v, want %s", d.Reason, want[0])
			}
			if by := strings.HasSuffix(c.want, " by nobody"); by != (d.Engineer == nil) || !by && d.Engineer != asks {
				t.Errorf("attributed to %v, want %q", d.Engineer, c.who)
			}
			if d.Reason != Admitted {
				if d.Grant != nil || !d.Until.IsZero() {
					t.Errorf("refused with grant %v until %s", d.Grant, d.Until)
				}
				return
			}
			if d.Grant == nil || d.Grant.Window.Name != want[1] {
				t.Errorf("on grant %v, want window %s", d.Grant, want[1])
			}
			if len(want) > 2 {
				if got := d.Until.In(p.Zone).Format("15:04"); got != want[2] {
					t.Errorf("until %s, want %s", got, want[2])
				}
			}
		})
	}
}

// TestDecideWithoutPolicy: before the first policy nobody enters, and nothing panics.
func TestDecideWithoutPolicy(t *testing.T) {
	p := NewState().Plan(time.Unix(0, 0))
	for _, q := range []Query{{}, {Key: Key{1}, Proven: true}, {Fault: Malformed}} {
		if d := p.Decide(q, p.At); d.Reason != NotReady || d.Engineer != nil {
			t.Errorf("Decide(%+v) = %v by %v, want not_ready by nobody", q, d.Reason, d.Engineer)
		}
	}
	if p.Doubt == "" || p.Listed(netip.MustParseAddr("203.0.113.10"), "", p.At) || len(p.Grants) > 0 {
		t.Errorf("doubt %q, %d grants", p.Doubt, len(p.Grants))
	}
}

// TestDecideDoesNotAllocate: it runs for every initiation that an attacker sends.
func TestDecideDoesNotAllocate(t *testing.T) {
	s, p := example(t)
	now := time.Date(2026, 12, 7, 17, 10, 0, 0, p.Zone)
	plan := s.Plan(now)
	sato := Query{Key: Key{1}, Proven: true, Source: netip.MustParseAddr("203.0.113.10")}
	target, other := sato, sato
	target.To, target.Proto = netip.MustParseAddrPort("10.1.2.1:104"), TCP
	other.To, other.Proto = netip.MustParseAddrPort("[fd01::5]:22"), TCP
	for name, q := range map[string]Query{"admitted": sato, "target": target, "other family": other, "unknown key": {Key: Key{9}}, "no key": {}, "outside window": {Key: Key{3}, Proven: true}} {
		if n := testing.AllocsPerRun(100, func() { plan.Decide(q, now) }); n != 0 {
			t.Errorf("%s: Decide allocates %v times", name, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { plan.Listed(sato.Source, "", now) }); n != 0 {
		t.Errorf("Listed allocates %v times", n)
	}
}

// TestRestrict holds back one grant and ends another sooner.
func TestRestrict(t *testing.T) {
	s, p := example(t)
	now := time.Date(2026, 12, 7, 17, 10, 0, 0, p.Zone)
	sooner := now.Add(time.Minute)
	whole := s.Plan(now)
	before := names(whole.Grants)
	narrow := whole.Restrict(func(g *Grant) *Grant {
		switch g.Window.Name {
		case "patch":
			return nil
		case "support":
			shorter := *g
			shorter.Until = sooner
			return &shorter
		}
		return g
	})
	sato, suzuki := Query{Key: Key{1}, Proven: true}, Query{Key: Key{2}, Proven: true}
	if d := narrow.Decide(sato, now); d.Reason != Admitted || !d.Until.Equal(sooner) || !narrow.Until(d.Engineer, now).Equal(sooner) {
		t.Errorf("sato: %v until %s, want admitted until %s", d.Reason, d.Until, sooner)
	}
	if d := narrow.Decide(sato, sooner); d.Reason != OutsideWindow {
		t.Errorf("sato when the shorter grant has ended: %v, want outside_window", d.Reason)
	}
	if d := narrow.Decide(suzuki, now); d.Reason != OutsideWindow {
		t.Errorf("suzuki, whose grant is held back: %v, want outside_window", d.Reason)
	}
	source := netip.MustParseAddr("203.0.113.11") // suzuki's own
	if !whole.Listed(source, "", now) || narrow.Listed(source, "", now) {
		t.Errorf("suzuki's source is listed: whole %v, narrow %v; want true, false", whole.Listed(source, "", now), narrow.Listed(source, "", now))
	}
	if len(narrow.Grants) != 1 || len(narrow.Accesses()) != 1 {
		t.Errorf("%d grants of %d engineers, want 1 of 1", len(narrow.Grants), len(narrow.Accesses()))
	}
	if got := whole.Restrict(func(g *Grant) *Grant { return g }); diffPlans(whole, got) != "" {
		t.Errorf("keeping everything changes the plan:\n%s", diffPlans(whole, got))
	}
	doubted := whole.Doubted("the clock went back")
	if d := doubted.Decide(sato, now); d.Reason != NotReady || d.Engineer == nil {
		t.Errorf("in doubt: %v by %v, want not_ready by medisys/sato", d.Reason, d.Engineer)
	}
	if len(doubted.Grants) != 0 || doubted.Listed(source, "", now) || doubted.Doubt != "the clock went back" {
		t.Errorf("in doubt %q: %d grants", doubted.Doubt, len(doubted.Grants))
	}
	if after := names(whole.Grants); strings.Join(before, "\n") != strings.Join(after, "\n") || whole.Doubt != "" {
		t.Errorf("narrowing changed the plan it was made of: %v", after)
	}
}

// TestRestrictSources holds back a source of one grant, and begins another
// elsewhere: from the source only the other grant is open.
func TestRestrictSources(t *testing.T) {
	s, p := example(t)
	now := time.Date(2026, 12, 7, 17, 10, 0, 0, p.Zone)
	kept, held := netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("198.51.100.1")
	// patch, which ends at 19:00, is open from one source alone. support, which
	// ends at 17:30, is open from all.
	narrow := s.Plan(now).Restrict(func(g *Grant) *Grant {
		if g.Engineer.Name != "sato" {
			return nil
		}
		narrower := *g
		if g.Window.Name == "patch" {
			engineer := *g.Engineer
			engineer.Sources = prefixes("203.0.113.10/32")
			narrower.Engineer = &engineer
			narrower.From = now.Add(-10 * time.Hour) // before support's
		}
		return &narrower
	})
	for _, c := range []struct {
		name   string
		source netip.Addr
		to     string
		want   string
	}{
		{"from the source of both", kept, "", "admitted 19:00"},
		{"from the one that is held back", held, "", "admitted 17:30"},
		{"from anywhere", netip.Addr{}, "", "admitted 19:00"},
		{"from what is no source", netip.MustParseAddr("192.0.2.1"), "", "wrong_source"},
		{"to what both sources may reach", held, "10.1.2.1:104", "admitted 17:30"},
		{"to what the one that is held back may not", held, "10.1.0.5:22", "unlisted_target"},
	} {
		q := Query{Key: Key{1}, Proven: true, Source: c.source, Proto: TCP}
		if c.to != "" {
			q.To = netip.MustParseAddrPort(c.to)
		}
		d := narrow.Decide(q, now)
		got := d.Reason.String()
		if d.Reason == Admitted {
			got += d.Until.In(p.Zone).Format(" 15:04")
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if d.Engineer != p.Engineer("medisys/sato") {
			t.Errorf("%s: attributed to %p, want the policy's sato", c.name, d.Engineer)
		}
	}
	half := narrow.Restrict(func(g *Grant) *Grant {
		if g.Window.Name == "patch" {
			return g
		}
		return nil
	})
	if d := half.Decide(Query{Key: Key{1}, Proven: true, Source: held}, now); d.Reason != OutsideWindow || half.Listed(held, "", now) {
		t.Errorf("from a source that no open grant has: %v, listed %v; want outside_window, not listed", d.Reason, half.Listed(held, "", now))
	}
	if n := testing.AllocsPerRun(100, func() { narrow.Decide(Query{Key: Key{1}, Proven: true, Source: held}, now) }); n != 0 {
		t.Errorf("Decide allocates %v times", n)
	}
	if grants := narrow.GrantsOf(p.Engineer("medisys/sato")); len(grants) != 2 || grants[0].Window.Name != "patch" {
		t.Errorf("%d grants of sato, the first on %s: want two in the order of their beginnings", len(grants), grants[0].Window)
	}
}
