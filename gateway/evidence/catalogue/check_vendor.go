package catalogue

import (
	"slices"

	"kidoban/gateway/evidence"
	"kidoban/gateway/view"
)

// checkContracts: each vendor has a contract with an end, and nothing opened after it.
func (c *look) checkContracts() Machine {
	if why := c.blank(); !why.Empty() {
		return unknown(why)
	}
	var without []string
	var entries []int64
	for _, v := range c.vendors(false) {
		if v.ContractUntil.IsZero() {
			without = append(without, v.Name)
			continue
		}
		for _, o := range c.openings() {
			if o.Vendor == v.Name && over(v.ContractUntil, o.OpenedAt, c.zone) {
				entries = append(entries, o.First)
			}
		}
	}
	var findings []view.Message
	if len(without) > 0 {
		findings = append(findings, view.Say("inspect_no_contract", view.Args{"vendors": view.Few(without, 8)}))
	}
	if len(entries) > 0 {
		findings = append(findings, view.Say("inspect_after_contract", view.Args{"count": len(entries)}))
	}
	if len(findings) > 0 {
		return found(No, entries, findings...)
	}
	return found(Yes, nil, view.Say("inspect_contracts", view.Args{"vendors": len(c.vendors(false))}))
}

// checkConsents: each subcontractor has a consent that has not ended, and nothing opened without one.
func (c *look) checkConsents() Machine {
	if c.p == nil {
		return unknown(view.Say("inspect_no_policy", nil))
	}
	under := 0
	var without []string
	var entries []int64
	for _, v := range c.vendors(false) {
		if v.Under == nil {
			continue
		}
		under++
		if v.Consent == nil || over(v.Consent.Until, c.at, c.zone) {
			without = append(without, v.Name)
		}
		for _, o := range c.openings() {
			if o.Vendor == v.Name && (v.Consent == nil || over(v.Consent.Until, o.OpenedAt, c.zone)) {
				entries = append(entries, o.First)
			}
		}
	}
	switch {
	case under == 0:
		return unknown(view.Say("inspect_no_subcontractors", nil))
	case len(without)+len(entries) > 0:
		return found(No, entries, view.Say("inspect_no_consent", view.Args{"vendors": view.Few(without, 8), "count": len(entries)}))
	}
	return found(Yes, nil, view.Say("inspect_consents", view.Args{"vendors": under}))
}

// checkZones: no window joins zones, and no engineer had grants in two zones at once.
func (c *look) checkZones() Machine {
	if c.p == nil {
		return unknown(view.Say("inspect_no_policy", nil))
	}
	if len(c.p.Zones) == 0 {
		return unknown(view.Say("inspect_no_zones", nil))
	}
	zones := map[string]string{}
	var outside, windows []string
	for _, t := range c.p.Targets {
		if zones[t.Name] = t.Zone; t.Zone == "" {
			outside = append(outside, t.Name)
		}
	}
	for _, v := range c.vendors(false) {
		for _, w := range v.Windows {
			if len(w.Zones()) > 1 {
				windows = append(windows, w.String())
			}
		}
	}
	for _, b := range c.p.Bridges(c.at) {
		windows = append(windows, b.First.String(), b.Then.String())
	}
	entries := c.joined(zones)
	if len(outside)+len(windows)+len(entries) > 0 {
		return found(No, entries, view.Say("inspect_bridged", view.Args{"targets": view.Few(outside, 8), "windows": view.Few(windows, 8), "count": len(entries)}))
	}
	return found(Yes, nil, view.Say("inspect_zones", view.Args{"count": len(c.p.Zones)}))
}

// joined are the openings that let an engineer reach two zones at once.
func (c *look) joined(zones map[string]string) (entries []int64) {
	all := c.openings()
	of := func(o *evidence.Opening) (names []string) {
		for _, t := range o.Targets {
			if zone := zones[t]; zone != "" && !slices.Contains(names, zone) {
				names = append(names, zone)
			}
		}
		return names
	}
	for n, o := range all {
		mine := of(o)
		for _, other := range all[n:] {
			at := later(o.OpenedAt, other.OpenedAt)
			together := o.Vendor == other.Vendor && o.Engineer == other.Engineer && (o.Last < 0 || o.ClosedAt.After(at)) && (other.Last < 0 || other.ClosedAt.After(at))
			if together && slices.ContainsFunc(of(other), func(zone string) bool { return slices.ContainsFunc(mine, func(m string) bool { return m != zone }) }) {
				entries = append(entries, o.First, other.First)
			}
		}
	}
	return entries
}
