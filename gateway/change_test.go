package gateway

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// TestWhatAChangeDoesToALiveSession changes one thing of the policy at a time,
// every field of a vendor, an engineer, a window, a target and a line among them, while
// sato and suzuki of medisys are inside, and brown of acme. The disk takes a
// second, so that what is open at once is what the entries on disk cover.
//
// A session either keeps what it has, without a plan in which it is shut; or it
// is cut at once. What comes newly opens when its own entry is on disk. Nothing
// of medisys touches the session of acme.
func TestWhatAChangeDoesToALiveSession(t *testing.T) {
	const (
		ehr, pacs = "ehr 10.1.0.5/32 tcp/22", "pacs 10.1.2.0/28 tcp/104"
		keeps     = "until 02:00 " + ehr
	)
	// Of sato: until when the session is open, and to what.
	rows := []struct {
		field   string // that changes
		change  string
		do      func(*policy.Policy)
		atOnce  string // empty: cut
		then    string // when it is on disk, for who enters again if need be; empty: as at once
		suzuki  bool   // is cut too
		written bool   // sato's opening is recorded anew
	}{
		{"Vendor.Name", "another", func(p *policy.Policy) { p.Vendors[1].Name = "medisys2" }, "", "", true, true},
		{"Vendor.DisplayName", "another", func(p *policy.Policy) { p.Vendors[1].DisplayName = "メディシス" }, keeps, "", false, false},
		{"Vendor.ContractUntil", "a later one than all windows", func(p *policy.Policy) { p.Vendors[1].ContractUntil = date("2000-02-01") }, keeps, "", false, false},
		{"Vendor.ContractUntil", "yesterday", func(p *policy.Policy) { p.Vendors[1].ContractUntil = date("1999-12-31") }, "", "", true, false},
		{"Vendor.Sources", "one more", sources("203.0.113.1/32 203.0.113.2/32 198.51.100.0/28"), keeps, "", false, true},
		{"Vendor.Sources", "one prefix around both", sources("203.0.113.0/28"), keeps, "", false, true},
		{"Vendor.Sources", "in another order", sources("203.0.113.2/32 203.0.113.1/32"), keeps, "", false, false},
		{"Vendor.Sources", "one less, that of sato's session", sources("203.0.113.2/32"), "", keeps, false, false},
		{"Vendor.Sources", "one less, that of suzuki's session", sources("203.0.113.1/32"), keeps, "", true, false},
		{"Vendor.Sources", "others", sources("198.51.100.0/28"), "", keeps, true, true},
		{"Vendor.Line", "that by which the sessions come", line("wan0"), keeps, "", false, false},
		{"Vendor.Line", "another", line("eth1.310"), "", "", true, false},
		{"Line.Name", "another", byLine(policy.Line{Name: "other", Interface: "wan0"}), keeps, "", false, false},
		{"Line.Interface", "another", line("eth1.310"), "", "", true, false},
		{"Line.Kind", "another", byLine(policy.Line{Interface: "wan0", Kind: policy.IPVPN}), keeps, "", false, false},
		{"Line.Provider", "another", byLine(policy.Line{Interface: "wan0", Provider: "NTT"}), keeps, "", false, false},
		{"Line.Plain", "hosts take the place of the engineers", func(p *policy.Policy) {
			byLine(policy.Line{Interface: "wan0", Plain: true})(p)
			v := p.Vendors[1]
			v.Engineers = []*policy.Engineer{policy.HostOf(v, netip.MustParseAddr("203.0.113.1"))}
			night(p).Engineers = v.Engineers
		}, "", "", true, false},
		{"Vendor.Engineers", "one more", func(p *policy.Policy) { join(p, "tanaka") }, keeps, "", false, false},
		{"Vendor.Engineers", "without suzuki", func(p *policy.Policy) { leave(p, "suzuki") }, keeps, "", true, false},
		{"Vendor.Engineers", "without sato", func(p *policy.Policy) { leave(p, "sato") }, "", "", false, false},
		{"Vendor.Windows", "one more", func(p *policy.Policy) {
			more(p, window{name: "medisys/late", from: "01:10:00", until: "03:00:00", targets: "pacs"})
		},
			keeps, "until 03:00 " + ehr + ", " + pacs, false, false},
		{"Vendor.Windows", "without this one", func(p *policy.Policy) { p.Vendors[1].Windows = nil }, "", "", true, false},

		{"Engineer.Vendor", "another", func(p *policy.Policy) { moved(p) }, "", "", false, false},
		{"Engineer.Name", "another", func(p *policy.Policy) { p.Vendors[1].Engineers[0].Name = "sato2" }, "", "", false, false},
		{"Engineer.DisplayName", "another", func(p *policy.Policy) { sato(p).DisplayName = "佐藤" }, keeps, "", false, false},
		{"Engineer.Key", "another", func(p *policy.Policy) { sato(p).Key = policy.Key{200} }, "", keeps, false, true},
		{"Engineer.PresharedKey", "another", func(p *policy.Policy) { sato(p).PresharedKey = [32]byte{1} }, "", keeps, false, true},
		{"Engineer.Addresses", "another", func(p *policy.Policy) { sato(p).Addresses = []netip.Addr{netip.MustParseAddr("10.99.0.77")} }, "", keeps, false, true},
		{"Engineer.Addresses", "one more", func(p *policy.Policy) {
			sato(p).Addresses = append(slices.Clone(sato(p).Addresses), netip.MustParseAddr("fd00:99::2"))
		}, "", keeps, false, true},
		{"Engineer.Sources", "one more", func(p *policy.Policy) { sato(p).Sources = prefixes("203.0.113.1/32 203.0.113.2/32 198.51.100.9/32") }, keeps, "", false, true},
		{"Engineer.Sources", "one for another", func(p *policy.Policy) { sato(p).Sources = prefixes("203.0.113.1/32 198.51.100.9/32") }, keeps, "", false, true},
		{"Engineer.Sources", "one less", func(p *policy.Policy) { sato(p).Sources = prefixes("203.0.113.1/32") }, keeps, "", false, false},
		{"Engineer.Sources", "without that of the session", func(p *policy.Policy) { sato(p).Sources = prefixes("203.0.113.2/32") }, "", keeps, false, false},

		{"Engineer.Line", "that by which the session comes", func(p *policy.Policy) { sato(p).Line = &policy.Line{Name: "wan", Interface: "wan0"} }, keeps, "", false, false},

		{"Window.Name", "another", func(p *policy.Policy) { night(p).Name = "evening" }, keeps, "", false, true},
		{"Window.Schedule", "a later end", times("01:00:00", "03:00:00"), keeps, "until 03:00 " + ehr, false, true},
		{"Window.Schedule", "an earlier end", times("01:00:00", "01:45:00"), "until 01:45 " + ehr, "", false, false},
		{"Window.Schedule", "an end that is over", times("01:00:00", "01:15:00"), "", "", true, false},
		{"Window.Schedule", "an earlier beginning", times("00:30:00", "02:00:00"), keeps, "", false, true},
		{"Window.Schedule", "a later beginning that is over", times("01:15:00", "02:00:00"), keeps, "", false, true},
		{"Window.Schedule", "earlier, and longer", times("00:30:00", "03:00:00"), keeps, "until 03:00 " + ehr, false, true},
		{"Window.Schedule", "earlier, and shorter", times("00:30:00", "01:45:00"), "until 01:45 " + ehr, "", false, true},
		{"Window.Schedule", "a beginning that is to come", times("01:40:00", "02:00:00"), "", "", true, false},
		{"Window.Schedule", "of another form", func(p *policy.Policy) {
			night(p).Schedule = &policy.Days{Weekdays: [7]bool{true, true, true, true, true, true, true}, From: 3600, To: 3 * 3600}
		}, keeps, "until 03:00 " + ehr, false, true},
		{"Window.ValidFrom", "today", func(p *policy.Policy) { night(p).ValidFrom = date("2000-01-01") }, keeps, "", false, false},
		{"Window.ValidFrom", "tomorrow", func(p *policy.Policy) { night(p).ValidFrom = date("2000-01-02") }, "", "", true, false},
		{"Window.ValidUntil", "today", func(p *policy.Policy) { night(p).ValidUntil = date("2000-01-01") }, keeps, "", false, false},
		{"Window.ValidUntil", "yesterday", func(p *policy.Policy) { night(p).ValidUntil = date("1999-12-31") }, "", "", true, false},
		{"Window.Except", "tomorrow", except("2000-01-02"), keeps, "", false, false},
		{"Window.Except", "today", except("2000-01-01"), "", "", true, false},
		{"Window.Targets", "one more", targets("ehr", "pacs"), keeps, "until 02:00 " + ehr + ", " + pacs, false, true},
		{"Window.Targets", "none of those before", targets("pacs"), "until 02:00", "until 02:00 " + pacs, false, true},
		{"Window.Engineers", "one more", func(p *policy.Policy) { night(p).Engineers = append(night(p).Engineers, join(p, "tanaka")) }, keeps, "", false, false},
		{"Window.Engineers", "without suzuki", func(p *policy.Policy) { night(p).Engineers = night(p).Engineers[:1] }, keeps, "", true, false},
		{"Window.ApprovedBy", "another", func(p *policy.Policy) { night(p).ApprovedBy = "情報システム課長" }, keeps, "", false, true},
		{"Window.Section", "another", func(p *policy.Policy) { night(p).Section = "医事課" }, keeps, "", false, false},
		{"Window.Grace", "longer", func(p *policy.Policy) { night(p).Grace = time.Minute }, keeps, "", false, false},
		{"Vendor.Phone", "another", func(p *policy.Policy) { p.Vendor("medisys").Phone = "03-0000-0000" }, keeps, "", false, false},
		{"Vendor.Under", "a prime without an end", func(p *policy.Policy) { p.Vendors[1].Under = p.Vendors[0] }, keeps, "", false, false},
		{"Vendor.Under", "a prime whose contract is over", func(p *policy.Policy) {
			p.Vendors[1].Under = &policy.Vendor{Name: "zeta", ContractUntil: date("1999-12-31")}
		}, "", "", true, false},
		{"Vendor.Consent", "it is over", func(p *policy.Policy) { p.Vendors[1].Consent = &policy.Consent{Until: date("1999-12-31")} }, "", "", true, false},
		{"Vendor.Consent", "it ends today", func(p *policy.Policy) { p.Vendors[1].Consent = &policy.Consent{Until: date("2000-01-01")} }, keeps, "", false, false},
		{"Vendor.Certificates", "one that is over", func(p *policy.Policy) { p.Vendors[1].Certificates = []policy.Certificate{{Until: date("1999-12-31")}} }, keeps, "", false, false},
		{"Vendor.OnRequest", "other than before", func(p *policy.Policy) { p.Vendor("medisys").OnRequest = &policy.OnRequest{} }, keeps, "", false, false},
		{"Window.Ticket", "another", func(p *policy.Policy) { night(p).Ticket = "CHG-2" }, keeps, "", false, true},

		{"Target.Name", "another", func(p *policy.Policy) { p.Targets[0].Name = "karte" }, keeps, "until 02:00 karte 10.1.0.5/32 tcp/22", false, true},
		{"Target.Prefix", "one around it", prefix("10.1.0.0/24"), keeps, "until 02:00 ehr 10.1.0.0/24 tcp/22", false, true},
		{"Target.Prefix", "another", prefix("10.1.0.6/32"), "until 02:00", "until 02:00 ehr 10.1.0.6/32 tcp/22", false, true},
		{"Target.Services", "one more", services(22, 22, 443, 443), keeps, "until 02:00 ehr 10.1.0.5/32 tcp/22 tcp/443", false, true},
		{"Target.Services", "more ports", services(20, 30), keeps, "until 02:00 ehr 10.1.0.5/32 tcp/20-30", false, true},
		{"Target.Services", "another", services(443, 443), "until 02:00", "until 02:00 ehr 10.1.0.5/32 tcp/443", false, true},
		{"Target.Role", "another", func(p *policy.Policy) { p.Targets[0].Role = "ehr" }, keeps, "", false, false},
		{"Target.Zone", "another", func(p *policy.Policy) { p.Targets[0].Zone = "medical" }, keeps, "", false, false},
		{"Target.Masquerade", "other than before", func(p *policy.Policy) { p.Targets[0].Masquerade = true }, keeps, "", false, false},
	}
	said := map[string]bool{}
	for _, c := range rows {
		said[c.field] = true
		t.Run(c.field+": "+c.change, func(t *testing.T) {
			before, after := aNight(), aNight()
			c.do(after)
			after.Digest += "2"
			simulate(t, before, func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.start()
				w.enter("medisys/sato", "203.0.113.1:1000")
				w.enter("medisys/suzuki", "203.0.113.2:1000")
				w.enter("acme/brown", "203.0.113.1:1001")
				written := len(openings(w, "sato"))
				w.do(func() {
					w.append.slow, w.file = time.Second, after
					w.watch = func(p *policy.Plan) {
						for name, from := range map[string]string{"medisys/sato": "203.0.113.1", "medisys/suzuki": "203.0.113.2", "acme/brown": "203.0.113.1"} {
							kept := name == "acme/brown" || name == "medisys/suzuki" && !c.suzuki || name == "medisys/sato" && c.atOnce != ""
							d := p.Decide(policy.Query{Key: before.Engineer(name).Key, Proven: true, Source: netip.MustParseAddr(from)}, w.wall())
							if open := d.Reason == policy.Admitted && d.Engineer.String() == name; kept && !open {
								t.Errorf("a plan in which %s is shut: %v", name, d.Reason)
							}
						}
					}
				})
				answered := make(chan error, 1)
				go func() {
					_, err := w.gateway.Reload(t.Context(), yamada)
					answered <- err
				}()
				time.Sleep(time.Millisecond)
				w.step(0)
				same(t, "sato at once", w.has("medisys/sato"), c.atOnce)
				inside := strings.Join(w.sessions(), ", ")
				same(t, "sato's session", strings.Contains(inside, "medisys/sato"), c.atOnce != "")
				same(t, "suzuki's session", strings.Contains(inside, "medisys/suzuki"), !c.suzuki)
				same(t, "acme's session", strings.Contains(inside, "acme/brown"), true)
				if err := <-answered; err != nil {
					t.Fatal(err)
				}
				time.Sleep(3 * time.Second)
				w.step(0)
				then := c.then
				if then == "" {
					then = c.atOnce
				}
				source := "203.0.113.1:1000"
				if e := after.Engineer("medisys/sato"); c.atOnce == "" && e != nil && then != "" {
					source = netip.AddrPortFrom(e.Sources[0].Addr(), 1000).String()
					w.enter("medisys/sato", source)
				}
				w.do(func() { w.watch = nil })
				same(t, "sato when it is on disk", w.has("medisys/sato"), then)
				same(t, "entries of sato's opening since", len(openings(w, "sato"))-written, map[bool]int{true: 1, false: len(openings(w, "sato", "late"))}[c.written])
			})
		})
	}
	for _, kind := range []reflect.Type{reflect.TypeFor[policy.Vendor](), reflect.TypeFor[policy.Engineer](), reflect.TypeFor[policy.Window](), reflect.TypeFor[policy.Target](), reflect.TypeFor[policy.Line]()} {
		for i := range kind.NumField() {
			field := kind.Name() + "." + kind.Field(i).Name
			if field == "Window.Vendor" {
				continue // the one among whose windows it is
			}
			if !said[field] {
				t.Errorf("no row says what a change of %s does", field)
			}
		}
	}
}

// aNight is a policy under which sato, suzuki and brown reach ehr from 01:00
// to 02:00, those of medisys from two addresses.
func aNight() *policy.Policy {
	p := site(window{name: "acme/night", from: "01:00:00", until: "02:00:00"}, window{name: "medisys/night", from: "01:00:00", until: "02:00:00"})
	sources("203.0.113.1/32 203.0.113.2/32")(p)
	return p
}

func sato(p *policy.Policy) *policy.Engineer { return p.Engineer("medisys/sato") }
func night(p *policy.Policy) *policy.Window  { return p.Vendors[1].Windows[0] }

func date(text string) policy.Date {
	d, err := policy.ParseDate(text)
	if err != nil {
		panic(err)
	}
	return d
}

// sources are the vendor's, and so its engineers'.
func sources(texts string) func(*policy.Policy) {
	return func(p *policy.Policy) {
		v := p.Vendors[1]
		v.Sources = prefixes(texts)
		for _, e := range v.Engineers {
			e.Sources = v.Sources
		}
	}
}

// line is the vendor's, and so its engineers'.
func line(name string) func(*policy.Policy) {
	return byLine(policy.Line{Name: "line", Interface: name})
}

func byLine(l policy.Line) func(*policy.Policy) {
	return func(p *policy.Policy) {
		v := p.Vendors[1]
		v.Line = &l
		for _, e := range v.Engineers {
			e.Line = v.Line
		}
	}
}

func join(p *policy.Policy, name string) *policy.Engineer {
	v := p.Vendors[1]
	e := &policy.Engineer{Vendor: v, Name: name, Key: policy.Key{99}, Sources: v.Sources, Addresses: []netip.Addr{netip.MustParseAddr("10.99.0.99")}}
	v.Engineers = append(slices.Clone(v.Engineers), e)
	return e
}

func leave(p *policy.Policy, name string) {
	not := func(e *policy.Engineer) bool { return e.Name == name }
	v := p.Vendors[1]
	v.Engineers = slices.DeleteFunc(slices.Clone(v.Engineers), not)
	night(p).Engineers = slices.DeleteFunc(slices.Clone(night(p).Engineers), not)
}

// moved gives sato to acme.
func moved(p *policy.Policy) {
	e := sato(p)
	leave(p, "sato")
	e.Vendor, e.Sources = p.Vendors[0], p.Vendors[0].Sources
	p.Vendors[0].Engineers = append(p.Vendors[0].Engineers, e)
}

// more gives medisys a window.
func more(p *policy.Policy, x window) {
	w := site(x).Vendors[1].Windows[0]
	w.Vendor, w.Engineers, w.Targets = p.Vendors[1], p.Vendors[1].Engineers, p.Targets[1:]
	p.Vendors[1].Windows = append([]*policy.Window{w}, p.Vendors[1].Windows...)
}

func times(from, until string) func(*policy.Policy) {
	return func(p *policy.Policy) {
		night(p).Schedule = site(window{name: "medisys/night", from: from, until: until}).Vendors[1].Windows[0].Schedule
	}
}

func except(day string) func(*policy.Policy) {
	return func(p *policy.Policy) {
		c, err := policy.NewCalendar("closed", "", []policy.DateRange{{First: date(day), Last: date(day)}})
		if err != nil {
			panic(err)
		}
		night(p).Except = []*policy.Calendar{c}
	}
}

func targets(names ...string) func(*policy.Policy) {
	return func(p *policy.Policy) {
		night(p).Targets = slices.DeleteFunc(slices.Clone(p.Targets), func(t *policy.Target) bool { return !slices.Contains(names, t.Name) })
	}
}

func prefix(text string) func(*policy.Policy) {
	return func(p *policy.Policy) { p.Targets[0].Prefix = netip.MustParsePrefix(text) }
}

// services are TCP ports, first and last of each range.
func services(ports ...uint16) func(*policy.Policy) {
	return func(p *policy.Policy) {
		p.Targets[0].Services = nil
		for pair := range slices.Chunk(ports, 2) {
			p.Targets[0].Services = append(p.Targets[0].Services, policy.Service{Protocol: policy.TCP, First: pair[0], Last: pair[1]})
		}
	}
}

// has tells until when a session of the engineer is open, and to what by the
// tunnel's plan; empty: there is none.
func (w *world) has(name string) string {
	for _, s := range w.gateway.Snapshot().Sessions {
		if s.Vendor+"/"+s.Engineer != name {
			continue
		}
		var reach []string
		for _, g := range w.plan().GrantsOf(w.plan().Policy.Engineer(name)) {
			if !g.Contains(w.wall()) {
				continue
			}
			for _, t := range g.Window.Targets {
				reach = append(reach, strings.Trim(fmt.Sprint(t.Name, " ", t.Prefix, " ", t.Services), "]"))
			}
		}
		return strings.TrimSpace("until " + s.Until.Format("15:04 ") + strings.ReplaceAll(strings.Join(reach, ", "), "[", ""))
	}
	return ""
}

// openings are the entries of an engineer's windows, of all names or of some.
func openings(w *world, engineer string, windows ...string) (all []journal.Entry) {
	for _, e := range w.durable() {
		if e.Kind == journal.WindowOpened && e.Engineer == engineer && (len(windows) == 0 || slices.Contains(windows, e.Window)) {
			all = append(all, e)
		}
	}
	return all
}
