package policy

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMovedWithin: what another policy opens and closes later, by engineer, target and time.
func TestMovedWithin(t *testing.T) {
	for _, c := range []struct {
		name          string
		change        func(p *Policy)
		closes, opens []string
	}{
		{name: "nothing", change: func(*Policy) {}},
		{name: "names", change: func(p *Policy) { p.Vendors[0].Windows[1].Name, p.Targets[0].Name = "night", "db" }},
		{name: "an earlier end", change: func(p *Policy) {
			p.Vendors[0].Windows[1].Schedule.(*Once).Until = LocalTime{mustDate("2026-12-07"), 17*3600 + 1800}
		}, closes: []string{"17:30-19:00 medisys/sato [ehr-db tcp/22]", "17:30-19:00 medisys/suzuki [ehr-db tcp/22]"}},
		{name: "a later end", change: func(p *Policy) {
			p.Vendors[0].Windows[1].Schedule.(*Once).Until = LocalTime{mustDate("2026-12-07"), 21 * 3600}
		}, opens: []string{"20:00-21:00 medisys/sato [ehr-db tcp/22]", "20:00-21:00 medisys/suzuki [ehr-db tcp/22]"}},
		{name: "an engineer less", change: func(p *Policy) { p.Vendors[0].Windows[1].Engineers = p.Vendors[0].Engineers[:1] },
			closes: []string{"17:00-19:00 medisys/suzuki [ehr-db tcp/22]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, p := example(t)
			after, changed := example(t)
			c.change(changed)
			if err := after.Apply(time.Time{}, "test", PolicyLoaded{Digest: "another", Policy: changed}); err != nil {
				t.Fatal(err)
			}
			day := time.Date(2026, 12, 7, 0, 0, 0, 0, p.Zone)
			closes, opens := MovedWithin(before, after, Span{day, day.AddDate(0, 0, 1)})
			for what, x := range map[string]struct {
				got  []Move
				want []string
			}{"closes": {closes, c.closes}, "opens": {opens, c.opens}} {
				var got []string
				for _, m := range x.got {
					got = append(got, fmt.Sprintf("%s-%s %s %v", m.From.In(p.Zone).Format("15:04"), m.Until.In(p.Zone).Format("15:04"), m.Engineer, m.Targets))
				}
				if diff := cmp.Diff(x.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", what, diff)
				}
			}
		})
	}
}
