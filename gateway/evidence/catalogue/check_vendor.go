package catalogue

import "kidoban/gateway/view"

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

// checkConsents has nothing to look at: the policy names no subcontractors.
func (c *look) checkConsents() Machine { return unknown(view.Say("inspect_no_subcontractors", nil)) }

// checkZones has nothing to look at: the policy names no zones.
func (c *look) checkZones() Machine { return unknown(view.Say("inspect_no_zones", nil)) }

// checkRetention has nothing to look at: the policy sets no retention.
func (c *look) checkRetention() Machine { return unknown(view.Say("inspect_no_retention", nil)) }
