package policy

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestChanges(t *testing.T) {
	calendar := func(country string) *Calendar { return &Calendar{Name: "holidays", Country: country} }
	for _, c := range []struct {
		name   string
		change func(*Policy)
		want   []string
	}{
		{"nothing", func(*Policy) {}, nil},
		{"the frame", func(p *Policy) { p.Site, p.Zone, p.Tunnel.Endpoint = "Another", time.UTC, "vpn.example.jp:51820" },
			[]string{"changed site", "changed timezone", "changed tunnel"}},
		{"a calendar comes", func(p *Policy) { p.Calendars = []*Calendar{calendar("JP")} }, []string{"added calendar holidays"}},
		{"a target of two windows", func(p *Policy) { p.Targets[0].Masquerade = true },
			[]string{"changed target ehr-db", "changed window medisys/late", "changed window medisys/patch"}},
		{"a vendor goes", func(p *Policy) { p.Vendors = p.Vendors[:1] }, []string{"removed engineer other/tanaka", "removed vendor other"}},
		{"a contract", func(p *Policy) { p.Vendors[0].ContractUntil = mustDate("2027-12-31") }, []string{"changed vendor medisys"}},
		{"a key", func(p *Policy) { p.Vendors[0].Engineers[0].Key = Key{9} }, []string{"changed engineer medisys/sato"}},
		{"a preshared key", func(p *Policy) { p.Vendors[0].Engineers[0].PresharedKey[0] = 1 }, []string{"changed engineer medisys/sato"}},
		{"an address", func(p *Policy) { p.Vendors[0].Engineers[1].Addresses = []netip.Addr{netip.MustParseAddr("10.99.0.9")} }, []string{"changed engineer medisys/suzuki"}},
		{"an exception", func(p *Policy) { p.Vendors[0].Windows[2].Except = []*Calendar{calendar("US")} }, []string{"changed window medisys/support"}},
		{"another name", func(p *Policy) { p.Vendors[0].Windows[1].Name = "night" }, []string{"added window medisys/night", "removed window medisys/patch"}},
		{"another schedule", func(p *Policy) { p.Vendors[0].Windows[1].Schedule = days("mon", "09:00", "17:30").Schedule }, []string{"changed window medisys/patch"}},
	} {
		_, before := example(t)
		_, after := example(t)
		c.change(after)
		var got []string
		for _, change := range Changes(before, after) {
			got = append(got, fmt.Sprint(change))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
