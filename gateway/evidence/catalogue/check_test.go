package catalogue

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

func noPolicy(f *fixture) { f.site = "" }
func offline(f *fixture)  { f.live = nil }

// young leaves only what came after a day.
func young(f *fixture) {
	f.drop(func(e journal.Entry) bool { return e.Time.Before(at("2026-11-20 00:00")) })
}

// TestChecks: each check has a journal that makes it yes, one that makes it no, and one without its data.
func TestChecks(t *testing.T) {
	same := func(*fixture) {}
	for _, test := range []struct {
		check       string
		yes         func(*fixture)
		no          []func(*fixture)
		notAssessed func(*fixture)
	}{
		{"sources", offline, []func(*fixture){
			func(f *fixture) {
				f.mend = func(p *policy.Policy) {
					p.Vendors[0].Engineers[0].Sources = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
				}
			},
			func(f *fixture) { f.add(journal.Entry{Kind: journal.Drift, Time: at("2026-11-25 10:00")}) },
			func(f *fixture) { f.live.RulesetEqual = false },
		}, noPolicy},
		{"default-deny", same, []func(*fixture){func(f *fixture) { f.live.RulesetEqual = false }}, offline},
		{"windows", offline, []func(*fixture){
			func(f *fixture) {
				f.change(journal.SessionOpened, func(e *journal.Entry) { e.Time = at("2026-11-28 21:00") })
			},
			func(f *fixture) {
				f.change(journal.SessionClosed, func(e *journal.Entry) { e.Time = at("2026-11-29 01:00") })
			},
			func(f *fixture) {
				f.drop(func(e journal.Entry) bool { return e.Kind == journal.WindowOpened || e.Kind == journal.WindowClosed })
			},
		}, noPolicy},
		{"approvals", offline, []func(*fixture){func(f *fixture) { f.change(journal.WindowOpened, func(e *journal.Entry) { e.ApprovedBy = "" }) }}, noPolicy},
		{"emergencies", offline, []func(*fixture){func(f *fixture) { f.emergency("2026-11-20 10:00") }}, noPolicy},
		{"disconnected", offline, []func(*fixture){
			func(f *fixture) { f.drop(func(e journal.Entry) bool { return e.Kind == journal.SessionClosed }) },
			func(f *fixture) { f.live.RulesetEqual = false },
		}, noPolicy},
		{"standing", offline, []func(*fixture){
			func(f *fixture) {
				f.change(journal.WindowOpened, func(e *journal.Entry) { e.Time = at("2026-11-25 10:00") })
			},
			func(f *fixture) {
				for day := at("2026-11-01 00:00"); day.Before(at("2026-11-30 00:00")); day = day.AddDate(0, 0, 1) {
					name := day.Format(time.DateOnly)
					f.add(journal.Entry{Kind: journal.WindowOpened, Time: day, Vendor: "medisys", Engineer: "sato", Grant: name, From: day, Until: day.Add(20 * time.Hour)},
						journal.Entry{Kind: journal.WindowClosed, Time: day.Add(20 * time.Hour), Vendor: "medisys", Engineer: "sato", Grant: name})
				}
			},
		}, noPolicy},
		{"destinations", offline, []func(*fixture){
			func(f *fixture) {
				f.mend = func(p *policy.Policy) { p.Targets[1].Prefix = netip.MustParsePrefix("10.1.0.0/16") }
			},
			func(f *fixture) { f.mend = func(p *policy.Policy) { p.Targets[0].Services[0].Last = 65535 } },
		}, noPolicy},
		{"persons", offline, []func(*fixture){func(f *fixture) {
			f.add(journal.Entry{Kind: journal.SessionOpened, Time: at("2026-11-28 22:30"), Vendor: "medisys", Engineer: "sato", Session: "S2", Source: "203.0.113.11"})
		}}, noPolicy},
		{"dormant", offline, []func(*fixture){
			func(f *fixture) { f.drop(func(e journal.Entry) bool { return e.Engineer == "suzuki" }) },
			func(f *fixture) {
				f.mend = func(p *policy.Policy) { p.Vendors[0].ContractUntil = policy.Date{Year: 2026, Month: 10, Day: 31} }
			},
		}, func(f *fixture) {
			young(f)
			f.drop(func(e journal.Entry) bool { return e.Engineer == "suzuki" })
		}},
		{"encryption", offline, []func(*fixture){func(f *fixture) { f.mend = func(p *policy.Policy) { p.Vendors[0].Engineers[0].Key = policy.Key{} } }}, noPolicy},
		{"contracts", offline, []func(*fixture){
			func(f *fixture) { f.mend = func(p *policy.Policy) { p.Vendors[0].ContractUntil = policy.Date{} } },
			func(f *fixture) {
				f.mend = func(p *policy.Policy) { p.Vendors[0].ContractUntil = policy.Date{Year: 2026, Month: 11, Day: 27} }
			},
		}, noPolicy},
		{"consents", func(f *fixture) { f.under(policy.Date{Year: 2027, Month: 3, Day: 31}) }, []func(*fixture){
			func(f *fixture) { f.under(policy.Date{Year: 2026, Month: 11, Day: 27}) },
			func(f *fixture) {
				f.mend = func(p *policy.Policy) { p.Vendors[0].Under = &policy.Vendor{Name: "prime"} }
			},
		}, offline},
		{"zones", func(f *fixture) { f.zoned("lgwan", "lgwan") }, []func(*fixture){
			func(f *fixture) { f.zoned("lgwan", "") },
			func(f *fixture) { f.zoned("lgwan", "internet") },
			func(f *fixture) {
				f.zoned("lgwan", "internet")
				f.mend = policyWithoutWindows(f.mend)
				f.change(journal.WindowOpened, func(e *journal.Entry) { e.Targets = []string{"ehr-db", "pacs"} })
			},
		}, offline},
		{"recorded", offline, []func(*fixture){func(f *fixture) { f.drop(func(e journal.Entry) bool { return e.Kind == journal.Admission }) }}, noPolicy},
		{"reviewed", offline, []func(*fixture){func(f *fixture) { f.visit("2026-11-24", "sato", "203.0.113.10") }}, noPolicy},
		{"verified", offline, []func(*fixture){func(f *fixture) { f.options.Damaged = true }}, func(f *fixture) { f.options.Verified = false }},
		{"copied", offline, []func(*fixture){
			func(f *fixture) { f.drop(func(e journal.Entry) bool { return e.Kind == journal.Mirrored }) },
			func(f *fixture) {
				f.change(journal.Mirrored, func(e *journal.Entry) { e.Time = at("2026-11-20 00:00") })
			},
		}, func(f *fixture) {
			offline(f)
			f.drop(func(e journal.Entry) bool { return e.Kind == journal.Mirrored })
		}},
		{"clock", same, []func(*fixture){func(f *fixture) { f.live.Synchronized = false }}, offline},
		{"retention", func(f *fixture) { f.retained(12, 5) }, []func(*fixture){func(f *fixture) { f.retained(18, 5) }}, offline},
		{"retention", func(f *fixture) { f.retained(18, 0) }, []func(*fixture){func(f *fixture) { f.retained(18, 1) }}, noPolicy},
		{"listeners", func(f *fixture) {
			f.live.Listeners = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9586"), netip.MustParseAddrPort("10.1.9.1:9586")}
		}, []func(*fixture){
			func(f *fixture) { f.live.Listeners = []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:9586")} },
			func(f *fixture) { f.live.Listeners = []netip.AddrPort{netip.MustParseAddrPort("203.0.113.1:9586")} },
		}, offline},
		{"drift", offline, []func(*fixture){
			func(f *fixture) { f.add(journal.Entry{Kind: journal.Drift, Time: at("2026-11-25 10:00")}) },
			func(f *fixture) { f.live.RulesetEqual = false },
		}, func(f *fixture) {
			f.drop(func(e journal.Entry) bool { return e.Time.After(at("2026-10-01 00:00")) })
			f.add(journal.Entry{Kind: journal.Stop, Time: at("2026-10-01 00:00")})
		}},
		{"exercised", offline, []func(*fixture){func(f *fixture) { f.drop(func(e journal.Entry) bool { return e.Kind == journal.Incident }) }}, young},
		{"kill-switch", offline, []func(*fixture){
			func(f *fixture) { f.drop(func(e journal.Entry) bool { return e.Kind == journal.Shut }) },
			func(f *fixture) { f.change(journal.Shut, func(e *journal.Entry) { e.Scope = "medisys" }) },
			func(f *fixture) { f.change(journal.Shut, func(e *journal.Entry) { e.Time = at("2025-11-01 00:00") }) },
		}, young},
		{"reconciled", offline, []func(*fixture){func(f *fixture) { f.visit("2026-11-24", "sato", "203.0.113.10") }}, noPolicy},
	} {
		ask := func(what string, prepare func(*fixture), want Verdict) {
			t.Helper()
			f := good()
			f.options.Tier = 3
			prepare(f)
			for _, c := range data().controls {
				if c.Check != test.check {
					continue
				}
				if x := control(t, f.inspect(t), c.ID); x.Machine.Answer != want || len(x.Machine.Findings) == 0 {
					t.Errorf("%s, %s: the machine says %s %v, want %s", test.check, what, x.Machine.Answer, x.Machine.Findings, want)
				}
			}
		}
		ask("yes", test.yes, Yes)
		for n, no := range test.no {
			ask("no "+string(rune('1'+n)), no, No)
		}
		ask("without data", test.notAssessed, NotAssessed)
	}
}

// TestPlainLines: while somebody may come without WireGuard, no machine says that persons have keys, and
// hosts are counted neither as persons nor as keys.
func TestPlainLines(t *testing.T) {
	stale := func(f *fixture) { f.drop(func(e journal.Entry) bool { return e.Vendor == "kyushoku" }) }
	for _, test := range []struct {
		name, id, vendor string
		change           func(*fixture)
		want             Verdict
		says, not        string // in the findings in Japanese
	}{
		{"persons", "12", "", nil, No, "個人の識別なし: WireGuard を使わない回線 kyushoku（業者: kyushoku） 作業者 2 人", "host-"},
		{"persons of the vendor", "12", "kyushoku", nil, No, "個人の識別なし", "一人に一つの鍵"},
		{"persons of another vendor", "12", "medisys", nil, Yes, "作業者 2 人", "個人の識別なし"},
		{"persons with no gateway", "12", "", func(f *fixture) {
			f.drop(func(e journal.Entry) bool { return e.Time.After(at("2025-09-01 00:00")) })
			f.add(journal.Entry{Kind: journal.Stop, Time: at("2025-10-01 00:00")})
		}, No, "個人の識別なし", ""},
		{"a line that nobody uses", "12", "", func(f *fixture) {
			stale(f)
			f.mend = withLine(nil)
		}, No, "個人の識別なし: WireGuard を使わない回線 kyushoku", "host-"},
		{"a line with WireGuard", "12", "", func(f *fixture) {
			stale(f)
			f.mend = func(p *policy.Policy) { withLine(nil)(p); p.Lines[0].Plain = false }
		}, Yes, "作業者 2 人", "個人の識別なし"},
		{"no policy", "12", "", noPolicy, NotAssessed, "", "個人の識別なし"},
		{"dormant", "14", "", nil, NotAssessed, "kyushoku は鍵を使わない", "host-"},
		{"dormant for long", "14", "", stale, No, "3か月以上、回線の利用がない業者: kyushoku", "host-"},
		{"dormant elsewhere", "14", "medisys", stale, Yes, "使われた鍵 2 件", "個人の識別なし"},
		{"encryption", "15", "", nil, No, "認証も暗号化も行いません: kyushoku", ""},
		{"recorded", "16", "", nil, Yes, "2 セッション。すべて、認証の記録と突き合わせました ほかに 1 セッション", ""},
		{"sources", "01", "", nil, Yes, "接続元 3 件", ""},
		{"factors", "13", "", nil, NotAssessed, "個人の識別なし", ""},
		{"factors of the vendor", "13", "kyushoku", nil, NotAssessed, "個人の識別なし", ""},
		{"factors elsewhere", "13", "medisys", nil, NotAssessed, "", "個人の識別なし"},
		{"inventory", "11", "", nil, NotAssessed, "業者 2、作業者 2、接続先 2、時間帯 1 作業者のほか、WireGuard を使わない回線の機器（個人の識別なし）: 1", ""},
	} {
		f := good()
		f.mend = withLine(f)
		if test.change != nil {
			test.change(f)
		}
		f.options.Vendor = test.vendor
		x := control(t, f.inspect(t), test.id)
		var said []string
		machine := NotAssessed
		if x.Machine != nil {
			machine = x.Machine.Answer
			for _, m := range x.Machine.Findings {
				said = append(said, m.In(view.Japanese))
			}
		}
		for _, m := range x.Facts {
			said = append(said, m.In(view.Japanese))
		}
		text := strings.Join(said, " ")
		if machine != test.want || !strings.Contains(text, test.says) || test.not != "" && strings.Contains(text, test.not) {
			t.Errorf("%s: %s %q, want %s with %q, without %q", test.name, machine, text, test.want, test.says, test.not)
		}
	}
}

// withLine adds a vendor on a line without WireGuard to the policy, and a visit of its host to a journal;
// nil: the line alone.
func withLine(f *fixture) func(*policy.Policy) {
	if f != nil {
		n := len(f.entries)
		f.visit("2026-11-27", "host-10-20-0-5", "10.20.0.5")
		for i := range f.entries[n:] {
			f.entries[n+i].Vendor, f.entries[n+i].VendorName = "kyushoku", "給食センター"
		}
		f.drop(func(e journal.Entry) bool { return e.Vendor == "kyushoku" && e.Kind == journal.Admission })
	}
	return func(p *policy.Policy) {
		line := &policy.Line{Name: "kyushoku", Interface: "eth1.310", Kind: policy.Leased, Plain: true}
		p.Lines = append(p.Lines, line)
		if f == nil {
			return
		}
		a := netip.MustParseAddr("10.20.0.5")
		v := &policy.Vendor{Name: "kyushoku", DisplayName: "給食センター", Sources: []netip.Prefix{netip.PrefixFrom(a, 32)}, Line: line}
		v.Engineers = []*policy.Engineer{policy.HostOf(v, a)}
		p.Vendors = append([]*policy.Vendor{v}, p.Vendors...) // in the order of names
	}
}

// emergency adds an emergency that nobody signed.
func (f *fixture) emergency(when string) {
	from := at(when)
	terms := policy.Terms{Emergency: true, ID: "~1", Vendor: "medisys", From: from.UTC(), Until: from.Add(time.Hour).UTC(), Version: 1}
	f.add(event(journal.Requested, when, policy.Requested{Terms: terms, By: "tanaka", Needed: 1, RatifyBy: from.Add(24 * time.Hour)}))
	f.entries[len(f.entries)-1].Request = "~1"
}

// under makes the vendor a subcontractor with a consent.
func (f *fixture) under(until policy.Date) {
	f.mend = func(p *policy.Policy) {
		p.Vendors[0].Under, p.Vendors[0].Consent = &policy.Vendor{Name: "prime"}, &policy.Consent{By: "mayor", Until: until}
	}
}

// retained sets for how many months the policy keeps entries, and which entry is the first.
func (f *fixture) retained(months policy.Retention, first int64) {
	f.mend, f.first = func(p *policy.Policy) { p.Retention = months }, first
}

// zoned puts both targets into zones.
func (f *fixture) zoned(ehr, pacs string) {
	f.mend = func(p *policy.Policy) {
		p.Zones = []*policy.Zone{{Name: "internet"}, {Name: "lgwan"}}
		p.Targets[0].Zone, p.Targets[1].Zone = ehr, pacs
	}
}

func policyWithoutWindows(mend func(*policy.Policy)) func(*policy.Policy) {
	return func(p *policy.Policy) {
		mend(p)
		p.Vendors[0].Windows = nil
	}
}
