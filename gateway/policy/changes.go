package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Change is one thing that differs between two policies.
type Change struct {
	Kind  string `json:"kind"`           // added, removed or changed
	Thing string `json:"thing"`          // site, timezone, tunnel, calendar, target, vendor, engineer or window
	Name  string `json:"name,omitempty"` // empty for the first three
}

// String is "changed window medisys/patch".
func (c Change) String() string {
	return strings.TrimSuffix(c.Kind+" "+c.Thing+" "+c.Name, " ")
}

// Changes lists the differences between two policies, sorted.
func Changes(old, new *Policy) []Change {
	before, after := old.things(), new.things()
	var all []Change
	for thing, was := range before {
		is, ok := after[thing]
		switch {
		case !ok:
			thing.Kind = "removed"
		case is != was:
			thing.Kind = "changed"
		default:
			continue
		}
		all = append(all, thing)
	}
	for thing := range after {
		if _, ok := before[thing]; !ok {
			thing.Kind = "added"
			all = append(all, thing)
		}
	}
	slices.SortFunc(all, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Thing, b.Thing), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// things maps each named thing, without a Kind, to a text that changes with it.
func (p *Policy) things() map[Change]string {
	all := map[Change]string{
		{Thing: "site"}: p.Site, {Thing: "timezone"}: p.Zone.String(), {Thing: "tunnel"}: fmt.Sprint(p.Tunnel),
	}
	for _, c := range p.Calendars {
		all[Change{Thing: "calendar", Name: c.Name}] = c.text()
	}
	for _, t := range p.Targets {
		all[Change{Thing: "target", Name: t.Name}] = fmt.Sprint(*t)
	}
	for _, v := range p.Vendors {
		all[Change{Thing: "vendor", Name: v.Name}] = fmt.Sprint(v.DisplayName, v.ContractUntil, v.Sources)
		for _, e := range v.Engineers {
			all[Change{Thing: "engineer", Name: e.String()}] = fmt.Sprint(e.DisplayName, e.Key, e.PresharedKey, e.Addresses, e.Sources)
		}
		for _, w := range v.Windows {
			all[Change{Thing: "window", Name: w.String()}] = w.text()
		}
	}
	return all
}

func (c *Calendar) text() string { return fmt.Sprint(c.Name, c.Country, c.Dates) }

func (w *Window) text() string {
	var b strings.Builder
	switch s := w.Schedule.(type) {
	case *Rule:
		fmt.Fprint(&b, "rule ", s.Text, s.At, s.Duration)
	case *Days:
		fmt.Fprint(&b, "days ", s.Weekdays, s.From, s.To)
		for _, c := range s.Calendars {
			b.WriteString(c.text())
		}
	case *Once:
		fmt.Fprint(&b, "once ", s.From, s.Until)
	}
	fmt.Fprint(&b, w.ValidFrom, w.ValidUntil, w.ApprovedBy, w.Ticket)
	for _, c := range w.Except {
		fmt.Fprint(&b, " except ", c.text())
	}
	for _, e := range w.Engineers {
		fmt.Fprint(&b, " ", e.Name)
	}
	for _, t := range w.Targets {
		fmt.Fprint(&b, " ", *t)
	}
	return b.String()
}
