package gateway

import (
	"fmt"
	"slices"
	"strings"

	"kidoban/gateway/policy"
)

// changes says what a reload changed, one line a thing, sorted.
func changes(old, new *policy.Policy) []string {
	if old == nil {
		return []string{"first policy"}
	}
	before, after := describe(old), describe(new)
	var lines []string
	for name, was := range before {
		switch is, ok := after[name]; {
		case !ok:
			lines = append(lines, "removed "+name)
		case is != was:
			lines = append(lines, "changed "+name)
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			lines = append(lines, "added "+name)
		}
	}
	slices.Sort(lines)
	return lines
}

// describe gives each named thing of a policy a text that changes when it does.
func describe(p *policy.Policy) map[string]string {
	d := map[string]string{"site": p.Site, "timezone": p.Zone.String(), "tunnel": fmt.Sprint(p.Tunnel)}
	for _, c := range p.Calendars {
		d["calendar "+c.Name] = fmt.Sprint(c.Country, c.Dates)
	}
	for _, t := range p.Targets {
		d["target "+t.Name] = targetText(t)
	}
	for _, v := range p.Vendors {
		d["vendor "+v.Name] = fmt.Sprint(v.DisplayName, v.ContractUntil, v.Sources)
		for _, e := range v.Engineers {
			d["engineer "+e.String()] = e.DisplayName + engineerText(e)
		}
		for _, w := range v.Windows {
			d["window "+w.String()] = windowText(w)
		}
	}
	return d
}

func windowText(w *policy.Window) string {
	var b strings.Builder
	switch s := w.Schedule.(type) {
	case *policy.Rule:
		fmt.Fprint(&b, "rule ", s.Text, s.At, s.Duration)
	case *policy.Days:
		fmt.Fprint(&b, "days ", s.Weekdays, s.From, s.To)
		for _, c := range s.Calendars {
			fmt.Fprint(&b, c.Name, c.Country, c.Dates)
		}
	case *policy.Once:
		fmt.Fprint(&b, "once ", s.From, s.Until)
	}
	fmt.Fprint(&b, w.ValidFrom, w.ValidUntil, w.ApprovedBy, w.Ticket)
	for _, c := range w.Except {
		fmt.Fprint(&b, " except ", c.Name, c.Country, c.Dates)
	}
	for _, e := range w.Engineers {
		fmt.Fprint(&b, " ", e.Name)
	}
	for _, t := range w.Targets {
		fmt.Fprint(&b, " ", targetText(t))
	}
	return b.String()
}

// targetText changes when anything of the target does.
func targetText(t *policy.Target) string {
	return fmt.Sprint(t.Name, " ", t.Prefix, t.Services, t.Masquerade)
}

// engineerText changes when anything of the engineer does but what people read.
func engineerText(e *policy.Engineer) string {
	return fmt.Sprint(e.String(), e.Key, e.PresharedKey, e.Addresses, e.Sources)
}
