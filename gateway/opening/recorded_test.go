package opening

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/policy"
)

// TestCovered: a grant opens what both its entry and the policy have.
func TestCovered(t *testing.T) {
	from := time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC)
	// Sources, and targets as name=prefix=protocol/ports,...
	grant := func(sources, targets string, hours int) *policy.Grant {
		v := &policy.Vendor{Name: "acme"}
		e := &policy.Engineer{Vendor: v, Name: "brown", Key: policy.Key{1}}
		for s := range strings.FieldsSeq(sources) {
			e.Sources = append(e.Sources, netip.MustParsePrefix(s))
		}
		w := &policy.Window{Vendor: v, Name: "night"}
		for text := range strings.FieldsSeq(targets) {
			parts := strings.Split(text, "=")
			x := &policy.Target{Name: parts[0], Prefix: netip.MustParsePrefix(parts[1])}
			for ports := range strings.SplitSeq(parts[2], ",") {
				s := policy.Service{Protocol: policy.TCP}
				fmt.Sscanf(ports, "%d-%d", &s.First, &s.Last)
				x.Services = append(x.Services, s)
			}
			w.Targets = append(w.Targets, x)
		}
		return &policy.Grant{ID: "acme/brown/night", Engineer: e, Window: w, Span: policy.Span{From: from, Until: from.Add(time.Duration(hours) * time.Hour)}}
	}
	const all, ehr = "10.0.0.0/8", "ehr=10.1.0.0/24=20-30"
	for _, c := range []struct {
		name                               string
		sources, targets                   string
		hours                              int
		nextSources, nextTargets           string
		nextHours                          int
		wantSources, wantTargets, wantEnds string
	}{
		{"the same", all, ehr, 1, all, ehr, 1, all, ehr, "whole"},
		{"less", all, ehr, 2, "10.1.0.0/16", "ehr=10.1.0.7/32=22-22", 1, "10.1.0.0/16", "ehr=10.1.0.7/32=22-22", "whole"},
		{"more", "10.1.0.0/16", "ehr=10.1.0.7/32=22-22", 1, all, ehr, 2, "10.1.0.0/16", "ehr=10.1.0.7/32=22-22", "02:00"},
		{"an address for another", "10.0.0.1/32 10.0.0.2/32", ehr, 1, "10.0.0.3/32 10.0.0.2/32", ehr, 1, "10.0.0.2/32", ehr, "02:00"},
		{"other addresses", "10.0.0.1/32", ehr, 1, "10.0.0.2/32", ehr, 1, "", "", ""},
		{"a target for another", all, ehr + " pacs=10.2.0.1/32=1-1", 1, all, "lab=10.3.0.1/32=1-1 " + ehr, 1, all, ehr, "02:00"},
		{"a service for another", all, "ehr=10.1.0.0/24=22-22,443-443", 1, all, "ehr=10.1.0.0/24=80-80,22-22", 1, all, "ehr=10.1.0.0/24=22-22", "02:00"},
		{"another place for a target", all, ehr, 1, all, "ehr=10.9.0.0/24=20-30", 1, all, "", "02:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			recorded, next := grant(c.sources, c.targets, c.hours), grant(c.nextSources, c.nextTargets, c.nextHours)
			got := covered(recorded, next, nil)
			if got == nil {
				if c.wantEnds != "" {
					t.Fatal("nothing is open")
				}
				return
			}
			want := grant(c.wantSources, c.wantTargets, 1)
			if a, b := fmt.Sprint(got.Engineer.Sources), fmt.Sprint(want.Engineer.Sources); a != b {
				t.Errorf("from %s, want %s", a, b)
			}
			text := func(w *policy.Window) (all string) {
				for _, x := range w.Targets {
					all += fmt.Sprint(x.Name, x.Prefix, x.Services, " ")
				}
				return all
			}
			if a, b := text(got.Window), text(want.Window); a != b {
				t.Errorf("to %s, want %s", a, b)
			}
			if got == next != (c.wantEnds == "whole") || got != next && got.Until.Format("15:04") != c.wantEnds {
				t.Errorf("whole: %t, until %s, want %s", got == next, got.Until.Format("15:04"), c.wantEnds)
			}
			if covered(got, next, nil) == nil || (covered(got, recorded, nil) == nil) {
				t.Error("the part that is open is not open any more once it is noted")
			}
		})
	}
}

// TestPartOfOtherSources: an entry stays as far as grants open it together, but no source gets a
// target that its grant does not have.
func TestPartOfOtherSources(t *testing.T) {
	from := time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC)
	v := &policy.Vendor{Name: "acme"}
	grant := func(name, sources string, hours int, targets ...*policy.Target) *policy.Grant {
		e := &policy.Engineer{Vendor: v, Name: "brown", Key: policy.Key{1}}
		for s := range strings.FieldsSeq(sources) {
			e.Sources = append(e.Sources, netip.MustParsePrefix(s))
		}
		return &policy.Grant{ID: "acme/brown/" + name, Engineer: e, Window: &policy.Window{Vendor: v, Name: name, Targets: targets},
			Span: policy.Span{From: from, Until: from.Add(time.Duration(hours) * time.Hour)}}
	}
	target := func(name, prefix string) *policy.Target {
		return &policy.Target{Name: name, Prefix: netip.MustParsePrefix(prefix), Services: []policy.Service{{Protocol: policy.TCP, First: 22, Last: 22}}}
	}
	ehr, pacs := target("ehr", "10.1.0.5/32"), target("pacs", "10.1.2.7/32")
	const here, there = "203.0.113.0/28", "198.51.100.7/32"
	for _, c := range []struct {
		name     string
		recorded *policy.Grant
		grants   []*policy.Grant // those that end last first
		want     string
	}{
		{"a window beside a request of another source", grant("night", here, 1, ehr), []*policy.Grant{grant("~1", there, 2, ehr, pacs), grant("night", here, 1, ehr)}, "[203.0.113.0/28] ehr until 02:00"},
		{"a wide entry, by its own grant", grant("night", here+" "+there, 2, ehr, pacs), []*policy.Grant{grant("~1", there, 2, pacs), grant("night", here, 1, ehr)}, "[203.0.113.0/28] ehr until 02:00"},
		{"a wide entry without a grant of its own", grant("old", here+" "+there, 2, ehr, pacs), []*policy.Grant{grant("~1", there, 2, pacs), grant("night", here, 1, ehr)}, "[198.51.100.7/32] pacs until 03:00"},
		{"grants of the same sources", grant("old", here, 2, ehr, pacs), []*policy.Grant{grant("~1", here, 2, pacs), grant("night", here, 1, ehr)}, "[203.0.113.0/28] pacs ehr until 02:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &restriction{NewSet(nil), nil, map[pair]*policy.Window{}, map[pair]*policy.Window{}}
			p := r.part(c.recorded, c.grants)
			if p == nil {
				t.Fatal("nothing of it stays")
			}
			got := fmt.Sprint(p.Engineer.Sources)
			for _, x := range p.Window.Targets {
				got += " " + x.Name
			}
			if got += " until " + p.Until.Format("15:04"); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// TestFault118CoveredByTheLine: until a new entry is on disk, an engineer comes by the line that both
// the entry and the policy have.
func TestFault118CoveredByTheLine(t *testing.T) {
	grant := func(by string) *policy.Grant {
		e := &policy.Engineer{Vendor: &policy.Vendor{Name: "acme"}, Name: "brown", Key: policy.Key{1}, Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
		if by != "" {
			e.Line = &policy.Line{Name: "line", Interface: by}
		}
		return &policy.Grant{ID: "acme/brown/night", Engineer: e, Window: &policy.Window{Name: "night"}}
	}
	for _, c := range []struct {
		recorded, next, want string
		whole                bool
	}{
		{"", "", "any", true},
		{"", "eth1", "eth1", true},
		{"eth1", "eth1", "eth1", true},
		{"eth1", "", "eth1", false},
		{"eth1", "eth2", "none", false},
	} {
		next := grant(c.next)
		got, is := covered(grant(c.recorded), next, nil), "none"
		if got != nil {
			if is = "any"; got.Engineer.Line != nil {
				is = got.Engineer.Line.Interface
			}
		}
		if is != c.want || (got == next) != c.whole {
			t.Errorf("from %q to %q: by %s, whole %t; want %s, %t", c.recorded, c.next, is, got == next, c.want, c.whole)
		}
	}
}
