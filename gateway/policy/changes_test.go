package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// lines shows changes, each with the values that went and came, by field.
func lines(changes []Change) (all []string) {
	for _, c := range changes {
		line := strings.TrimSpace(c.Kind + " " + c.Thing + " " + c.FullName())
		for _, f := range c.Fields {
			line += fmt.Sprintf("; %s -%s +%s", f.Name, f.Before, f.After)
		}
		if len(c.Windows) > 0 {
			line += fmt.Sprint("; in ", c.Windows)
		}
		all = append(all, line)
	}
	return all
}

// TestFault103ChangesAreTold: field by field, with the values that went and came.
func TestFault103ChangesAreTold(t *testing.T) {
	calendar := func(country string, dates ...DateRange) *Calendar {
		return &Calendar{Name: "holidays", Country: country, Dates: dates}
	}
	sato := func(p *Policy) *Engineer { return p.Vendors[0].Engineers[0] }
	window := func(p *Policy, name string) *Window {
		for _, w := range p.Vendors[0].Windows {
			if w.Name == name {
				return w
			}
		}
		panic(name)
	}
	newYear := DateRange{mustDate("2026-12-29"), mustDate("2027-01-03")}
	for _, c := range []struct {
		name   string
		change func(*Policy)
		want   []string
	}{
		{"nothing", func(*Policy) {}, nil},
		{"the order of lists", func(p *Policy) {
			s := p.Vendors[0].Sources
			s[0], s[1] = s[1], s[0]
			window(p, "late").Targets = []*Target{p.Targets[2], p.Targets[0], p.Targets[1]}
		}, nil},
		{"the frame", func(p *Policy) { p.Site, p.Zone, p.Tunnel.Endpoint = "Another", time.UTC, "vpn.example.jp:51820" },
			[]string{"changed site; name -[] +[Another]", "changed timezone; name -[Asia/Tokyo] +[UTC]", "changed tunnel; endpoint -[] +[vpn.example.jp:51820]"}},
		{"whom to call", func(p *Policy) { p.Contact = "088-000-0000" }, []string{"added contact; text -[] +[088-000-0000]"}},
		{"a calendar comes", func(p *Policy) { p.Calendars = []*Calendar{calendar("JP", newYear)} },
			[]string{"added calendar holidays; country -[] +[JP]; dates -[] +[2026-12-29..2027-01-03]"}},
		{"a target of two windows", func(p *Policy) { p.Targets[0].Masquerade, p.Targets[0].Services[0].Last = true, 23 },
			[]string{"changed target ehr-db; ports -[tcp/22] +[tcp/22-23]; masquerade -[] +[true]; in [medisys/late medisys/patch]"}},
		{"a target of another address", func(p *Policy) { p.Targets[2].Prefix = netip.MustParsePrefix("10.1.2.0/29") },
			[]string{"changed target pacs; address -[10.1.2.0/28] +[10.1.2.0/29]; in [medisys/late medisys/support]"}},
		{"a vendor goes", func(p *Policy) { p.Vendors = p.Vendors[:1] },
			[]string{"removed engineer other/tanaka; public_key -[" + (Key{3}).String() + "] +[]; sources -[192.0.2.0/24] +[]", "removed vendor other; sources -[192.0.2.0/24] +[]"}},
		{"a contract", func(p *Policy) { p.Vendors[0].ContractUntil = mustDate("2027-12-31") }, []string{"changed vendor medisys; contract -[2026-12-31] +[2027-12-31]"}},
		{"zones, and roles of targets", func(p *Policy) {
			p.Zones = []*Zone{{Name: "medical", Prefixes: prefixes("10.1.0.0/16")}}
			p.Targets[0].Zone, p.Targets[0].Role = "medical", "ehr"
		}, []string{"added zone medical; prefixes -[] +[10.1.0.0/16]", "changed target ehr-db; role -[] +[ehr]; zone -[] +[medical]; in [medisys/late medisys/patch]"}},
		{"a subcontractor", func(p *Policy) {
			v := p.Vendors[1]
			v.Under, v.Consent = p.Vendors[0], &Consent{By: "Mayor", Date: mustDate("2026-04-01"), Until: mustDate("2027-03-31"), Document: "12-3"}
			v.Certificates = []Certificate{{Kind: "ISO/IEC 27001", Number: "IS 1", Until: mustDate("2027-01-31")}, {Kind: "JIS Q 15001", Until: mustDate("2027-02-28")}}
		}, []string{"changed vendor other; certificates -[] +[ISO/IEC 27001 IS 1 until 2027-01-31 JIS Q 15001 until 2027-02-28]; under -[] +[medisys]; consent -[] +[by Mayor on 2026-04-01, until 2027-03-31, document 12-3]"}},
		{"a vendor's source, which the engineer without one of its own has too", func(p *Policy) {
			p.Vendors[0].Sources = prefixes("203.0.113.10/32", "203.0.113.12/32", "2001:db8:1::/64")
			sato(p).Sources = p.Vendors[0].Sources
		}, []string{"changed vendor medisys; sources -[198.51.100.0/28] +[203.0.113.12]"}},
		{"sources of an engineer", func(p *Policy) { sato(p).Sources = prefixes("203.0.113.10/32") },
			[]string{"changed engineer medisys/sato; sources -[198.51.100.0/28 2001:db8:1::/64] +[]"}},
		{"a key", func(p *Policy) { sato(p).Key = Key{9} },
			[]string{"changed engineer medisys/sato; public_key -[" + (Key{1}).String() + "] +[" + (Key{9}).String() + "]"}},
		{"a preshared key", func(p *Policy) { sato(p).PresharedKey[0] = 1 }, []string{"changed engineer medisys/sato; preshared_key -[] +[(secret)]"}},
		{"an address", func(p *Policy) { p.Vendors[0].Engineers[1].Addresses = []netip.Addr{netip.MustParseAddr("10.99.0.9")} },
			[]string{"changed engineer medisys/suzuki; addresses -[10.99.0.3] +[10.99.0.9]"}},
		{"an exception", func(p *Policy) { window(p, "support").Except = []*Calendar{calendar("US")} }, []string{"changed window medisys/support; except -[] +[holidays]"}},
		{"who may use a window", func(p *Policy) { window(p, "support").Engineers = p.Vendors[0].Engineers }, []string{"changed window medisys/support; engineers -[] +[suzuki]"}},
		{"an engineer comes, whom windows for everybody have too", func(p *Policy) {
			v := p.Vendors[0]
			v.Engineers = append(v.Engineers, &Engineer{Vendor: v, Name: "ueda", Sources: v.Sources})
			window(p, "late").Engineers, window(p, "patch").Engineers = v.Engineers, v.Engineers
		}, []string{"added engineer medisys/ueda; public_key -[] +[" + (Key{}).String() + "]; sources -[] +[203.0.113.10 198.51.100.0/28 2001:db8:1::/64]"}},
		{"targets, approval and validity", func(p *Policy) {
			w := window(p, "support")
			w.Targets, w.ApprovedBy, w.Ticket, w.Section, w.ValidUntil = p.Targets[:1], "Head of IT", "CHG-1", "Radiology", mustDate("2027-03-31")
		}, []string{"changed window medisys/support; valid -[] +[..2027-03-31]; targets -[pacs] +[ehr-db]; approved_by -[] +[Head of IT]; ticket -[] +[CHG-1]; section -[] +[Radiology]"}},
		{"another name", func(p *Policy) { window(p, "patch").Name = "night" },
			[]string{"added window medisys/night; once -[] +[2026-12-07T17:00..2026-12-07T19:00]; targets -[] +[ehr-db]; engineers -[] +[sato suzuki]",
				"removed window medisys/patch; once -[2026-12-07T17:00..2026-12-07T19:00] +[]; targets -[ehr-db] +[]; engineers -[sato suzuki] +[]"}},
		{"days and times", func(p *Policy) { window(p, "support").Schedule = days("mon,tue,sat", "09:00", "24:00").Schedule },
			[]string{"changed window medisys/support; days -[wed thu fri] +[sat]; to -[17:30] +[24:00]"}},
		{"another kind of schedule", func(p *Policy) {
			window(p, "support").Schedule = &Rule{Text: "FREQ=DAILY", At: 22*3600 + 30, Duration: 90 * time.Minute}
		}, []string{"changed window medisys/support; rrule -[] +[FREQ=DAILY]; at -[] +[22:00:30]; duration -[] +[1h30m]; days -[mon tue wed thu fri] +[]; from -[09:00] +[]; to -[17:30] +[]"}},
		{"a telephone number", func(p *Policy) { p.Vendors[0].Phone = "03-0000-0000" }, []string{"changed vendor medisys; phone -[] +[03-0000-0000]"}},
		{"grace", func(p *Policy) { window(p, "support").Grace = 15 * time.Minute }, []string{"changed window medisys/support; grace -[] +[15m]"}},
	} {
		_, before := example(t)
		_, after := example(t)
		c.change(after)
		if diff := cmp.Diff(c.want, lines(Changes(before, after))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	for _, c := range []struct {
		name   string
		change func(*Policy)
		want   []string
	}{
		{"nothing", func(*Policy) {}, nil},
		{"no requests any more", func(p *Policy) {
			p.Operators, p.ReopenAll, p.Review, p.Sinks, p.Vendors[0].OnRequest = nil, 0, nil, nil, nil
		}, []string{"removed notify mail; smtp -[mail.hosp.example:587] +[]; tls -[required] +[]; from -[k@hosp.example] +[]; to -[a@hosp.example] +[]; user -[k] +[]; secret_file -[/etc/kidoban/mail] +[]; language -[ja] +[]",
			"removed notify siem; webhook -[https://10.1.9.9/k] +[]; format -[slack] +[]; ca_file -[/etc/kidoban/ca.pem] +[]; kinds -[shut drift] +[]; language -[en] +[]",
			"removed on_request medisys; targets -[ehr-db] +[]; engineers -[sato suzuki] +[]; valid -[..2027-03-31] +[]; approvals -[1] +[]; approvers -[tanaka] +[]; max_duration -[4h] +[]; max_total -[2d] +[]; ahead -[14d] +[]; undecided -[24h] +[]",
			"removed operator tanaka; name -[田中] +[]; user -[tanaka] +[]; may -[record approve] +[]; passkeys -[es256:MFkw] +[]",
			"removed operator ueda; may -[review] +[]",
			"removed reopen_all; approvals -[2] +[]", "removed review; within -[3d] +[]; confirm_within -[31d] +[]; distinct -[false] +[]"}},
		{"reviews, and the section of requests", func(p *Policy) {
			p.Review, p.Vendors[0].OnRequest.Section = &ReviewRules{Within: ReviewWithin, ConfirmWithin: 14 * 24 * time.Hour, Distinct: true}, "医事課"
		}, []string{"changed on_request medisys; section -[] +[医事課]", "changed review; confirm_within -[31d] +[14d]; distinct -[false] +[true]"}},
		{"an operator and reopen_all", func(p *Policy) {
			p.Operators[0].User, p.Operators[0].Rights, p.Operators[0].Passkeys, p.ReopenAll = "yamada", []Right{MayApprove, MayRatify}, []string{"es256:MFkx"}, 1
		}, []string{"changed operator tanaka; user -[tanaka] +[yamada]; may -[record] +[ratify]; passkeys -[es256:MFkw] +[es256:MFkx]", "changed reopen_all; approvals -[2] +[1]"}},
		{"every field of on_request", func(p *Policy) {
			v := p.Vendors[0]
			*v.OnRequest = OnRequest{Targets: p.Targets[1:2], Engineers: v.Engineers[:1], ValidFrom: mustDate("2026-12-01"), ValidUntil: mustDate("2027-03-31"), Approvals: 2, Approvers: p.Operators,
				SelfApproval: true, MaxDuration: 90 * time.Minute, MaxTotal: 36 * time.Hour, Ahead: 90 * 24 * time.Hour, Undecided: time.Hour, Grace: time.Minute,
				OneTimeSource: prefixes("198.51.100.0/24"), Emergency: &Emergency{MaxDuration: time.Hour, RatifyWithin: 3 * 24 * time.Hour, Ratifiers: p.Operators[1:]}}
		}, []string{"changed on_request medisys; targets -[ehr-db] +[ehr-6]; engineers -[suzuki] +[]; valid -[..2027-03-31] +[2026-12-01..2027-03-31]; approvals -[1] +[2]; approvers -[] +[ueda]; " +
			"self_approval -[] +[true]; max_duration -[4h] +[1h30m]; max_total -[2d] +[36h]; ahead -[14d] +[90d]; undecided -[24h] +[1h]; grace -[] +[1m]; one_time_source.within -[] +[198.51.100.0/24]; " +
			"emergency.max_duration -[] +[1h]; emergency.ratify_within -[] +[3d]; emergency.ratifiers -[] +[ueda]"}},
		{"a target that can be requested", func(p *Policy) { p.Targets[0].Prefix = netip.MustParsePrefix("10.1.0.6/32") },
			[]string{"changed target ehr-db; address -[10.1.0.5] +[10.1.0.6]; in [medisys/late medisys/patch medisys/on_request]"}},
		{"an engineer comes, who can be requested as everybody can", func(p *Policy) {
			v := p.Vendors[0]
			v.Engineers = append(v.Engineers, &Engineer{Vendor: v, Name: "ueda", Sources: v.Sources})
			v.OnRequest.Engineers, window(p, "late").Engineers, window(p, "patch").Engineers = v.Engineers, v.Engineers, v.Engineers
		}, []string{"added engineer medisys/ueda; public_key -[] +[" + (Key{}).String() + "]; sources -[] +[203.0.113.10 198.51.100.0/28 2001:db8:1::/64]"}},
	} {
		before, after := withRequests(t), withRequests(t)
		c.change(after)
		if diff := cmp.Diff(c.want, lines(Changes(before, after))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	secret := func(first byte) *Policy {
		_, p := example(t)
		sato(p).PresharedKey[0] = first
		return p
	}
	if diff := cmp.Diff([]string{"changed engineer medisys/sato; preshared_key -[(secret)] +[(secret)]"}, lines(Changes(secret(1), secret(2)))); diff != "" {
		t.Errorf("another preshared key (-want +got):\n%s", diff)
	}
	covers := func(year int) *Policy {
		_, p := example(t)
		p.Calendars = []*Calendar{calendar("", DateRange{mustDate(fmt.Sprint(year, "-01-01")), mustDate(fmt.Sprint(year, "-01-01"))})}
		window(p, "late").Except = p.Calendars
		window(p, "support").Schedule.(*Days).Calendars = p.Calendars
		return p
	}
	if diff := cmp.Diff([]string{"changed calendar holidays; dates -[2027-01-01] +[2028-01-01]; in [medisys/late medisys/support]"}, lines(Changes(covers(2027), covers(2028)))); diff != "" {
		t.Errorf("dates of a calendar (-want +got):\n%s", diff)
	}
}

// withRequests is the example with operators, on_request and notices.
func withRequests(t *testing.T) *Policy {
	_, p := example(t)
	p.Operators = []*Operator{{Name: "tanaka", DisplayName: "田中", User: "tanaka", Rights: []Right{MayRecord, MayApprove}, Passkeys: []string{"es256:MFkw"}}, {Name: "ueda", Rights: []Right{MayReview}}}
	p.ReopenAll, p.Review = 2, &ReviewRules{Within: ReviewWithin, ConfirmWithin: ConfirmWithin}
	p.Sinks = []*Sink{
		{Name: "mail", SMTP: "mail.hosp.example:587", TLS: "required", From: "k@hosp.example", To: []string{"a@hosp.example"}, User: "k", SecretFile: "/etc/kidoban/mail", Language: "ja"},
		{Name: "siem", Webhook: "https://10.1.9.9/k", Format: "slack", CAFile: "/etc/kidoban/ca.pem", Kinds: []string{"shut", "drift"}, Language: "en"},
	}
	v := p.Vendors[0]
	v.OnRequest = &OnRequest{Targets: p.Targets[:1], Engineers: v.Engineers, ValidUntil: mustDate("2027-03-31"), Approvals: 1, Approvers: p.Operators[:1],
		MaxDuration: 4 * time.Hour, MaxTotal: 48 * time.Hour, Ahead: 14 * 24 * time.Hour, Undecided: 24 * time.Hour}
	return p
}

// TestFault103Moved: what closes and opens is judged by engineer, source, target and port, and not
// by names.
func TestFault103Moved(t *testing.T) {
	const sato, suzuki = "medisys/sato", "medisys/suzuki"
	for _, c := range []struct {
		name          string
		at            string // of 2026-12-07; empty: 18:00, when patch is open
		change        func(p *Policy)
		closes, opens []string
	}{
		{name: "nothing", change: func(*Policy) {}},
		{name: "names", change: func(p *Policy) { p.Vendors[0].Windows[1].Name, p.Targets[0].Name = "night", "db" }},
		{name: "a window that is not open", change: func(p *Policy) { p.Vendors[0].Windows[2].Targets = nil }},
		{name: "the window", change: func(p *Policy) { p.Vendors[0].Windows = p.Vendors[0].Windows[2:] },
			closes: []string{sato + " [ehr-db tcp/22] [] 20:00", suzuki + " [ehr-db tcp/22] [] 20:00"}},
		{name: "its end passed", change: func(p *Policy) {
			p.Vendors[0].Windows[1].Schedule.(*Once).Until = LocalTime{mustDate("2026-12-07"), 17*3600 + 1800}
		}, closes: []string{sato + " [ehr-db tcp/22] [] 20:00", suzuki + " [ehr-db tcp/22] [] 20:00"}},
		{name: "ports", change: func(p *Policy) { p.Targets[0].Services = []Service{{TCP, 20, 21}, {TCP, 22, 24}} },
			opens: []string{sato + " [ehr-db tcp/20-21 tcp/23-24] [] 20:00", suzuki + " [ehr-db tcp/20-21 tcp/23-24] [] 20:00"}},
		{name: "another protocol", change: func(p *Policy) { p.Targets[0].Services[0].Protocol = UDP },
			closes: []string{sato + " [ehr-db tcp/22] [] 20:00", suzuki + " [ehr-db tcp/22] [] 20:00"},
			opens:  []string{sato + " [ehr-db udp/22] [] 20:00", suzuki + " [ehr-db udp/22] [] 20:00"}},
		{name: "a wider address", change: func(p *Policy) { p.Targets[0].Prefix = netip.MustParsePrefix("10.1.0.0/24") },
			opens: []string{sato + " [ehr-db tcp/22] [] 20:00", suzuki + " [ehr-db tcp/22] [] 20:00"}},
		{name: "a target of a family that one does not have", change: func(p *Policy) {
			p.Vendors[0].Windows[1].Targets = append(p.Vendors[0].Windows[1].Targets, p.Targets[1])
		}, opens: []string{sato + " [ehr-6 tcp/22] [] 20:00"}},
		{name: "sources", change: func(p *Policy) { p.Vendors[0].Engineers[0].Sources = prefixes("203.0.113.10/32", "198.51.100.0/24") },
			closes: []string{sato + " [] [2001:db8:1::/64] 20:00"}, opens: []string{sato + " [] [198.51.100.0/24] 20:00"}},
		{name: "another person of the window", change: func(p *Policy) { p.Vendors[0].Windows[1].Engineers = p.Vendors[0].Engineers[:1] },
			closes: []string{suzuki + " [ehr-db tcp/22] [] 20:00"}},
		{name: "a key", change: func(p *Policy) { p.Vendors[0].Engineers[0].Key = Key{9} },
			closes: []string{sato + " [ehr-db tcp/22] [] 20:00"}, opens: []string{sato + " [ehr-db tcp/22] [] 20:00"}},
		{name: "a preshared key", change: func(p *Policy) { p.Vendors[0].Engineers[0].PresharedKey = [32]byte{9} },
			closes: []string{sato + " [ehr-db tcp/22] [] 20:00"}, opens: []string{sato + " [ehr-db tcp/22] [] 20:00"}},
		{name: "two windows for one target, less one", at: "17:10", change: func(p *Policy) { p.Vendors[0].Windows[1].Targets = p.Targets[2:] },
			closes: []string{sato + " [ehr-db tcp/22] [] 19:00", suzuki + " [ehr-db tcp/22] [] 19:00"}, opens: []string{suzuki + " [pacs tcp/104 icmp] [] 19:00"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			state := func(change func(*Policy)) (*Plan, time.Time) {
				s, p := example(t)
				change(p)
				if err := s.Apply(time.Time{}, "test", PolicyLoaded{Digest: "another", Policy: p}); err != nil {
					t.Fatal(err)
				}
				clock := c.at
				if clock == "" {
					clock = "18:59:55" // late is open in a moment
				}
				at, err := time.ParseInLocation("2006-01-02 15:04:05", "2026-12-07 "+(clock + ":00")[:8], p.Zone)
				if err != nil {
					t.Fatal(err)
				}
				return s.Plan(at), at
			}
			before, now := state(func(*Policy) {})
			after, _ := state(c.change)
			closes, opens := Moved(before, after, now)
			for what, x := range map[string]struct {
				got  []Reach
				want []string
			}{"closes": {closes, c.closes}, "opens": {opens, c.opens}} {
				var got []string
				for _, r := range x.got {
					got = append(got, fmt.Sprint(r.Engineer, " ", r.Targets, " ", r.Sources, " ", r.Until.Format("15:04")))
				}
				if diff := cmp.Diff(x.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", what, diff)
				}
			}
		})
	}
}
