package policy

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// plainly puts a caterer with two hosts behind a plain line into the example. Its window is that of medisys.
func plainly(t *testing.T) (*State, *Policy, *Vendor) {
	t.Helper()
	s, p := example(t)
	l := &Line{Name: "kyushoku", Interface: "eth1.310", Kind: Leased, Plain: true}
	v := &Vendor{Name: "caterer", DisplayName: "給食会社", Line: l}
	for _, a := range []string{"10.20.0.5", "fd00:20::5"} {
		h := HostOf(v, netip.MustParseAddr(a))
		v.Sources, v.Engineers = append(v.Sources, h.Sources...), append(v.Engineers, h)
	}
	w := *p.Vendors[0].Windows[2]
	w.Name, w.Vendor, w.Engineers = "meals", v, v.Engineers
	v.Windows = []*Window{&w}
	p.Lines, p.Vendors = []*Line{l}, append([]*Vendor{v}, p.Vendors...)
	load(t, s, p)
	return s, p, v
}

func load(t *testing.T, s *State, p *Policy) {
	t.Helper()
	if err := s.Apply(time.Time{}, "test", PolicyLoaded{Digest: "digest", Policy: p}); err != nil {
		t.Fatal(err)
	}
}

// TestHostOf: a host is known by its address, in one way of writing it.
func TestHostOf(t *testing.T) {
	v := &Vendor{Name: "caterer", Line: &Line{Name: "kyushoku", Plain: true}}
	four, six := HostOf(v, netip.MustParseAddr("10.20.0.5")), HostOf(v, netip.MustParseAddr("fd00:20::5"))
	for h, want := range map[*Engineer]string{four: "caterer/host-10-20-0-5", six: "caterer/host-fd00-0020-0000-0000-0000-0000-0000-0005"} {
		a := h.Addresses[0]
		if h.String() != want || h.DisplayName != a.String() || !h.Plain() || !h.MayComeFrom(a) || len(h.Sources) != 1 || !h.Sources[0].IsSingleIP() || h.Key == (Key{}) || !IsHost(h.Name) {
			t.Errorf("%+v, want %s", h, want)
		}
	}
	other := HostOf(&Vendor{Name: "kitchen", Line: v.Line}, netip.MustParseAddr("10.20.0.5"))
	if other.Key != four.Key || four.Key == six.Key {
		t.Error("the key is not that of the address")
	}
	for _, person := range []string{"yamada", "host-yamada", "host-10-20-0-05", "host-fd00-20--5", "10-20-0-5", ""} {
		if IsHost(person) {
			t.Errorf("%q is taken for a host", person)
		}
	}
}

// TestDecideOfHosts says the reason for a host.
func TestDecideOfHosts(t *testing.T) {
	for _, c := range []struct {
		name, from, by, to, at, shut string
		want                         Reason
	}{
		{name: "in its window", from: "10.20.0.5", by: "eth1.310", at: "10:00", want: Admitted},
		{name: "to its target", from: "10.20.0.5", by: "eth1.310", to: "10.1.2.3:104", at: "10:00", want: Admitted},
		{name: "before its window", from: "10.20.0.5", by: "eth1.310", at: "03:00", want: OutsideWindow},
		{name: "to another port", from: "10.20.0.5", by: "eth1.310", to: "10.1.2.3:23", at: "10:00", want: UnlistedTarget},
		{name: "to the other family", from: "10.20.0.5", by: "eth1.310", to: "[fd01::5]:104", at: "10:00", want: UnlistedTarget},
		{name: "from another address", from: "10.20.0.6", by: "eth1.310", at: "10:00", want: WrongSource},
		{name: "by another interface", from: "10.20.0.5", by: "eth1", at: "10:00", want: WrongLine},
		{name: "by an interface that cannot be told", from: "10.20.0.5", by: UnknownIngress, at: "10:00", want: WrongLine},
		{name: "the vendor is shut", from: "10.20.0.5", by: "eth1.310", at: "10:00", shut: "caterer", want: VendorShut},
		{name: "the host is shut", from: "10.20.0.5", by: "eth1.310", at: "10:00", shut: "caterer/host-10-20-0-5", want: EngineerShut},
		{name: "the other host is shut", from: "10.20.0.5", by: "eth1.310", at: "10:00", shut: "caterer/host-fd00-0020-0000-0000-0000-0000-0000-0005", want: Admitted},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, p, v := plainly(t)
			now, err := time.ParseInLocation("2006-01-02 15:04", "2026-12-07 "+c.at, p.Zone)
			if err != nil {
				t.Fatal(err)
			}
			if c.shut != "" {
				if err := s.Apply(now, "test", Shut{Scope: Scope(c.shut), Reason: "test"}); err != nil {
					t.Fatal(err)
				}
			}
			q := Query{Key: v.Engineers[0].Key, Proven: true, Fault: Admitted, Source: netip.MustParseAddr(c.from), Ingress: c.by}
			if c.to != "" {
				q.To, q.Proto = netip.MustParseAddrPort(c.to), TCP
			}
			if d := s.Plan(now).Decide(q, now); d.Reason != c.want {
				t.Errorf("%v, want %v", d.Reason, c.want)
			}
		})
	}
}

// TestHostsAreNotListed: no host's address is a source for WireGuard's port.
func TestHostsAreNotListed(t *testing.T) {
	s, p, _ := plainly(t)
	now := time.Date(2026, 12, 7, 10, 0, 0, 0, p.Zone)
	plan := s.Plan(now)
	for _, by := range []string{"eth1.310", "eth0", ""} {
		if plan.Listed(netip.MustParseAddr("10.20.0.5"), by, now) {
			t.Errorf("listed by %q", by)
		}
	}
	if plan.HasLines() || !plan.Listed(netip.MustParseAddr("203.0.113.10"), "eth0", now) {
		t.Error("the hosts change what is listed of others")
	}
}

// TestShutHostStaysShut: a host that is shut stays shut when the vendor has another name.
func TestShutHostStaysShut(t *testing.T) {
	for _, scope := range []Scope{"caterer/host-10-20-0-5", "caterer"} {
		s, p, v := plainly(t)
		now := time.Date(2026, 12, 7, 10, 0, 0, 0, p.Zone)
		if err := s.Apply(now, "test", Shut{Scope: scope, Reason: "test"}); err != nil {
			t.Fatal(err)
		}
		renamed := *p
		kitchen := *v
		kitchen.Name, kitchen.Engineers = "kitchen", []*Engineer{HostOf(&kitchen, netip.MustParseAddr("10.20.0.5"))}
		w := *v.Windows[0]
		w.Vendor, w.Engineers = &kitchen, kitchen.Engineers
		kitchen.Windows = []*Window{&w}
		renamed.Vendors = append([]*Vendor{&kitchen}, p.Vendors[1:]...)
		load(t, s, &renamed)
		q := Query{Key: kitchen.Engineers[0].Key, Proven: true, Fault: Admitted}
		if d := s.Plan(now).Decide(q, now); d.Reason != EngineerShut && d.Reason != VendorShut {
			t.Errorf("%s is shut, and the host under another name is %v", scope, d.Reason)
		}
	}
}

// TestHostsBridge: the machine of a vendor joins zones as an engineer's does.
func TestHostsBridge(t *testing.T) {
	_, p, v := plainly(t)
	p.Zones = []*Zone{{Name: "medical"}, {Name: "office"}}
	a, b := *v.Windows[0].Targets[0], *v.Windows[0].Targets[0]
	a.Zone, b.Zone = "medical", "office"
	first, second := *v.Windows[0], *v.Windows[0]
	first.Targets, second.Targets, second.Name = []*Target{&a}, []*Target{&b}, "labels"
	v.Windows = []*Window{&first, &second}
	p.Vendors = []*Vendor{v}
	if all := p.Bridges(time.Date(2026, 12, 7, 0, 0, 0, 0, p.Zone)); len(all) != 1 || !slices.Equal(all[0].Zones(), []string{"medical", "office"}) {
		t.Errorf("%v", all)
	}
}

// TestChangesOfHosts: the vendor's sources tell of its hosts; these have no key to tell of.
func TestChangesOfHosts(t *testing.T) {
	_, before, _ := plainly(t)
	_, after, v := plainly(t)
	h := HostOf(v, netip.MustParseAddr("10.20.0.6"))
	v.Sources, v.Engineers = append(v.Sources, h.Sources...), append(v.Engineers, h)
	v.Windows[0].Engineers = v.Engineers
	if diff := cmp.Diff(lines(Changes(before, after)), []string{"changed vendor caterer; sources -[] +[10.20.0.6]"}); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
	v.Line.Plain = false
	if got := lines(Changes(before, after)); !slices.Contains(got, "changed line kyushoku; plain -[true] +[]") {
		t.Errorf("%q", got)
	}
}

func TestTargetTable(t *testing.T) {
	var table TargetTable
	table.Add(&Target{Name: "imaging", Prefix: netip.MustParsePrefix("10.1.2.0/28")})
	copied := table.Clone()
	copied.Add(&Target{Name: "ehr", Prefix: netip.MustParsePrefix("fd00:1::5/128")})
	for _, c := range []struct{ address, before, after string }{
		{"10.1.2.0", "imaging", "imaging"}, {"10.1.2.15", "imaging", "imaging"}, {"10.1.2.16", "", ""},
		{"fd00:1::5", "", "ehr"}, {"fd00:1::6", "", ""},
	} {
		for table, want := range map[*TargetTable]string{&table: c.before, &copied: c.after, {}: ""} {
			got := ""
			if x := table.At(netip.MustParseAddr(c.address)); x != nil {
				got = x.Name
			}
			if got != want {
				t.Errorf("%s is in %q, want %q", c.address, got, want)
			}
		}
	}
}
