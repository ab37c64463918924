package api

import (
	"net/url"
	"slices"
	"time"

	"kidoban/gateway/policy"
)

// Opening is one line of `kidoban calendar`.
type Opening struct {
	Vendor     string    `json:"vendor"`
	VendorName string    `json:"vendor_name,omitempty"`
	Window     string    `json:"window"`
	Request    string    `json:"request,omitempty"` // the id of the request that opens it, as Window
	From       time.Time `json:"from"`
	Until      time.Time `json:"until"`
	Engineers  []string  `json:"engineers"`
	Names      []string  `json:"engineer_names"`  // as many as engineers; empty: the policy has none
	Plain      bool      `json:"plain,omitempty"` // the engineers are hosts behind a line without WireGuard, and no person is identified
	Targets    []string  `json:"targets"`
	ApprovedBy string    `json:"approved_by"` // of a request: the operators who approved it
	Ticket     string    `json:"ticket"`
}

// calendarMost bounds the span of a calendar, so that one question does not keep
// the machine busy.
const calendarMost = 400 * 24 * time.Hour

// Calendar lists the openings of a policy's windows in a span, of all vendors, one vendor or one
// engineer. The defaults of from and until are now and 30 days after from.
func Calendar(p *policy.Policy, q url.Values, now time.Time) ([]Opening, error) {
	return calendar(p, p.Openings, q, now)
}

// planned is Calendar with the approved requests that are not over.
func planned(r request, p *policy.Policy) ([]Opening, error) {
	return calendar(p, func(from, until time.Time) []policy.Opening {
		return slices.DeleteFunc(r.snap.Base.Openings(from, until), func(o policy.Opening) bool { return o.Window.IsRequest() && !o.Until.After(r.now) })
	}, r.query, r.now)
}

func calendar(p *policy.Policy, openings func(from, until time.Time) []policy.Opening, q url.Values, now time.Time) ([]Opening, error) {
	start, err := ParseTime(q.Get("from"), p.Zone, now)
	if err != nil {
		return nil, err
	}
	end, err := ParseTime(q.Get("until"), p.Zone, start.AddDate(0, 0, 30))
	switch {
	case err != nil:
		return nil, err
	case !end.After(start):
		return nil, invalid("the calendar's end %s is not after its beginning %s", end.Format(time.RFC3339), start.Format(time.RFC3339))
	case end.Sub(start) > calendarMost:
		return nil, invalid("the calendar spans %d days: allowed are 400", int(end.Sub(start).Hours()/24))
	}
	var vendor *policy.Vendor
	var engineer *policy.Engineer
	if name := q.Get("vendor"); name != "" {
		if vendor, err = vendorOf(p, name); err != nil {
			return nil, err
		}
	}
	if name := q.Get("engineer"); name != "" {
		if engineer, err = engineerOf(p, name); err != nil {
			return nil, err
		}
		if vendor != nil && vendor != engineer.Vendor {
			return nil, invalid("%s is no engineer of %s: give one of both, or an engineer of that vendor", name, vendor.Name)
		}
	}
	lines := []Opening{}
	for _, o := range openings(start, end) {
		// A request's window may have a copy of the engineer with other sources.
		is := func(e *policy.Engineer) bool { return engineer == nil || e.String() == engineer.String() }
		if vendor != nil && o.Window.Vendor.Name != vendor.Name || !slices.ContainsFunc(o.Window.Engineers, is) {
			continue
		}
		line := Opening{Vendor: o.Window.Vendor.Name, VendorName: o.Window.Vendor.DisplayName, Window: o.Window.Name, From: o.From.In(p.Zone), Until: o.Until.In(p.Zone),
			Engineers: []string{}, Names: []string{}, Plain: o.Window.Vendor.Plain(), Targets: []string{}, ApprovedBy: o.Window.ApprovedBy, Ticket: o.Window.Ticket}
		for _, e := range o.Window.Engineers {
			if !is(e) {
				continue
			}
			line.Engineers = append(line.Engineers, e.Name)
			line.Names = append(line.Names, e.DisplayName)
		}
		if o.Window.IsRequest() {
			line.Request = o.Window.Name
		}
		for _, t := range o.Window.Targets {
			line.Targets = append(line.Targets, t.Name)
		}
		lines = append(lines, line)
	}
	return lines, nil
}
