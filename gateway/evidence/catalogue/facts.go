package catalogue

import (
	"fmt"
	"slices"
	"strings"

	"kidoban/gateway/evidence"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// requestedAhead tells how many sessions were asked for before they could begin.
func (c *look) requestedAhead() []view.Message {
	ahead, all := 0, c.sessions()
	for _, s := range all {
		if s.RequestedAt != nil && s.PlannedFrom != nil && s.RequestedAt.Before(*s.PlannedFrom) {
			ahead++
		}
	}
	return []view.Message{view.Say("inspect_ahead", view.Args{"count": ahead, "sessions": len(all)})}
}

// inventory counts, or names for a vendor, what the policy lists.
func (c *look) inventory() []view.Message {
	if c.p == nil {
		return []view.Message{view.Say("inspect_no_policy", nil)}
	}
	if c.o.Vendor != "" {
		targets := []string{}
		for _, v := range c.vendors(false) {
			targets = targetsOf(v)
		}
		return []view.Message{view.Say("inspect_vendor_targets", view.Args{"targets": targets})}
	}
	engineers, hosts, windows := 0, 0, 0
	for _, v := range c.p.Vendors {
		people := len(persons(v))
		engineers, hosts, windows = engineers+people, hosts+len(v.Engineers)-people, windows+len(v.Windows)
	}
	all := []view.Message{view.Say("inspect_inventory", view.Args{"vendors": len(c.p.Vendors), "engineers": engineers, "targets": len(c.p.Targets), "windows": windows})}
	if hosts > 0 {
		all = append(all, view.Say("inspect_plain_hosts", view.Args{"hosts": hosts}))
	}
	return all
}

// targetsOf are the targets that windows and requests of a vendor may open.
func targetsOf(v *policy.Vendor) []string {
	names := map[string]bool{}
	for _, t := range v.Targets() {
		names[fmt.Sprintf("%s (%s)", t.Name, policy.Short(t.Prefix))] = true
	}
	return sorted(names)
}

// factors tells of lines on which no factor is asked for.
func (c *look) factors() []view.Message { return c.plainly("inspect_plain_factors") }

// version tells the program's version.
func (c *look) version() []view.Message {
	if c.live == nil {
		return []view.Message{view.Say("inspect_live_only", nil)}
	}
	return []view.Message{view.Say("inspect_version", view.Args{"version": c.live.Version})}
}

// files counts the work reports that say something about files.
func (c *look) files() []view.Message {
	told, all := 0, 0
	for _, w := range c.r.Work {
		if c.of(w.Is.Vendor) && c.within(w.At) {
			all++
			if w.Is.Files != "" {
				told++
			}
		}
	}
	return []view.Message{view.Say("inspect_files", view.Args{"count": told, "reports": all})}
}

// coverage counts the answers so far: it is about the controls before it.
func (c *look) coverage() []view.Message {
	assessed := 0
	for _, x := range c.results {
		if x.Answer != NotAssessed {
			assessed++
		}
	}
	return []view.Message{view.Say("inspect_coverage", view.Args{"count": assessed, "controls": len(c.results)})}
}

// vendorAnswers names the vendors that have answered, and those that have not.
func (c *look) vendorAnswers() []view.Message {
	var done, missing []string
	for _, v := range c.vendors(true) {
		if slices.ContainsFunc(c.r.Answers, func(s evidence.Signed[evidence.Answer]) bool { return s.Is.Vendor == v.Name && c.within(s.At) }) {
			done = append(done, v.Name)
		} else {
			missing = append(missing, v.Name)
		}
	}
	return []view.Message{view.Say("inspect_vendor_answers", view.Args{"done": len(done), "vendors": len(done) + len(missing), "missing": view.Few(missing, 8)})}
}

// certificates lists what vendors showed. It is for people: nothing depends on it.
func (c *look) certificates() []view.Message {
	all := []view.Message{}
	for _, v := range c.vendors(false) {
		for _, x := range v.Certificates {
			code := view.Code("inspect_certificate")
			if over(x.Until, c.at, c.zone) {
				code = "inspect_certificate_over"
			}
			all = append(all, view.Say(code, view.Args{"vendor": v.Name, "certificate": x.String()}))
		}
	}
	if len(all) == 0 {
		all = append(all, view.Say("inspect_no_certificate", nil))
	}
	return all
}

// sorted are the keys of a map.
func sorted[V any](m map[string]V) []string {
	keys := []string{}
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, strings.Compare)
	return keys
}
