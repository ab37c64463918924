package catalogue

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"kidoban/gateway/evidence"
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// checkSources: no engineer may come from everywhere, and the kernel has had the planned ruleset.
func (c *look) checkSources() Machine {
	if why := c.blank(); !why.Empty() {
		return unknown(why)
	}
	var open, listed []string
	for _, v := range c.vendors(false) {
		for _, e := range v.Engineers {
			if len(e.Sources) == 0 || slices.ContainsFunc(e.Sources, isEverything) {
				open = append(open, e.String())
			}
		}
		for _, s := range v.Sources {
			listed = append(listed, policy.Short(s))
		}
	}
	drifts := c.drifts()
	findings := []view.Message{view.Say("inspect_sources", view.Args{"count": len(listed), "sources": view.Few(listed, 8)})}
	if len(open) > 0 {
		findings = append(findings, view.Say("inspect_sources_open", view.Args{"engineers": view.Few(open, 8)}))
	}
	findings = append(findings, c.ruleset(drifts))
	if len(open) > 0 || len(drifts) > 0 || c.rulesetDiffers() {
		return found(No, drifts, findings...)
	}
	return found(Yes, nil, findings...)
}

// ruleset says how the kernel's ruleset compared with the plan.
func (c *look) ruleset(drifts []int64) view.Message {
	switch {
	case c.rulesetDiffers():
		return view.Say("inspect_ruleset_differs", nil)
	case len(drifts) > 0:
		return view.Say("inspect_drifts", view.Args{"count": len(drifts)})
	case c.live != nil && c.live.RulesetKnown:
		return view.Say("inspect_ruleset_equal", nil)
	}
	return view.Say("inspect_no_drift", nil)
}

func (c *look) rulesetDiffers() bool {
	return c.live != nil && c.live.RulesetKnown && !c.live.RulesetEqual
}

// checkDefaultDeny: the ruleset is the planned one, which drops all but listed flows. Only the running gateway reads it.
func (c *look) checkDefaultDeny() Machine {
	switch {
	case c.live == nil || !c.live.RulesetKnown:
		return unknown(view.Say("inspect_live_only", nil))
	case !c.live.RulesetEqual:
		return found(No, nil, view.Say("inspect_ruleset_differs", nil))
	}
	return found(Yes, nil, view.Say("inspect_ruleset_equal", nil))
}

// checkWindows: each session stood on open grants, from its beginning to its end.
func (c *look) checkWindows() Machine {
	if why := c.blank(); !why.Empty() {
		return unknown(why)
	}
	var outside []int64
	n := 0
	for _, s := range c.r.Sessions {
		if !c.of(s.Vendor) || !c.within(s.OpenedAt) {
			continue
		}
		if n++; !c.allowed(s) {
			outside = append(outside, s.First)
		}
	}
	if len(outside) > 0 {
		return found(No, outside, view.Say("inspect_outside_window", view.Args{"count": len(outside), "sessions": n}))
	}
	return found(Yes, nil, view.Say("inspect_in_window", view.Args{"sessions": n}))
}

// late is how long after the closing of a grant its sessions may end in the journal.
const late = time.Minute

// allowed reports whether a session began on an open grant of its engineer and ended with one.
func (c *look) allowed(s *evidence.Session) bool {
	begun, ended := false, s.Last < 0
	end := s.ClosedAt
	if !s.LastHeard.IsZero() {
		end = s.LastHeard
	}
	for _, o := range c.r.Openings {
		if o.Vendor != s.Vendor || o.Engineer != s.Engineer || o.OpenedAt.After(end) && s.Last >= 0 {
			continue
		}
		begun = begun || !o.OpenedAt.After(s.OpenedAt) && (o.Last < 0 || !o.ClosedAt.Before(s.OpenedAt))
		ended = ended || o.Last < 0 || !o.ClosedAt.Add(late).Before(end)
	}
	return begun && ended && len(s.Grants) > 0
}

// checkApprovals: each session was approved, by another person than its requester.
func (c *look) checkApprovals() Machine {
	if why := c.blank(); !why.Empty() {
		return unknown(why)
	}
	var without, self []int64
	all := c.sessions()
	for _, s := range all {
		switch {
		case s.ApprovedBy == "":
			without = append(without, s.Entries.From)
		case s.Request != "" && s.RequestedBy == s.ApprovedBy:
			self = append(self, s.Entries.From)
		}
	}
	var findings []view.Message
	if len(without) > 0 {
		findings = append(findings, view.Say("inspect_unapproved", view.Args{"count": len(without), "sessions": len(all)}))
	}
	if len(self) > 0 {
		findings = append(findings, view.Say("inspect_self_approved", view.Args{"count": len(self), "sessions": len(all)}))
	}
	if len(findings) > 0 {
		return found(No, append(without, self...), findings...)
	}
	return found(Yes, nil, view.Say("inspect_approved", view.Args{"sessions": len(all)}))
}

// checkEmergencies: none waits for its signature beyond its time.
func (c *look) checkEmergencies() Machine {
	if why := c.blank(); !why.Empty() {
		return unknown(why)
	}
	var overdue []int64
	n := 0
	for _, q := range c.r.Requests {
		if !q.Terms.Emergency || !c.of(q.Vendor) {
			continue
		}
		signed := slices.ContainsFunc(q.Decisions, func(d evidence.Decision) bool { return d.Kind == journal.Ratified })
		if !signed && c.at.After(q.RatifyBy) {
			overdue = append(overdue, q.Recorded.Entry)
		}
		if c.within(q.Recorded.At) {
			n++
		}
	}
	if len(overdue) > 0 {
		return found(No, overdue, view.Say("inspect_unratified", view.Args{"count": len(overdue)}))
	}
	return found(Yes, nil, view.Say("inspect_ratified", view.Args{"count": n}))
}

// checkDisconnected: no session outlives the grants of its engineer.
func (c *look) checkDisconnected() Machine {
	if why := c.blank(); !why.Empty() {
		return unknown(why)
	}
	var left []int64
	ended := 0
	for _, s := range c.r.Sessions {
		switch {
		case !c.of(s.Vendor):
		case s.Last >= 0:
			if c.within(s.ClosedAt) {
				ended++
			}
		case !slices.ContainsFunc(c.r.Openings, func(o *evidence.Opening) bool {
			return o.Vendor == s.Vendor && o.Engineer == s.Engineer && (o.Last < 0 || o.ClosedAt.Add(late).After(c.at))
		}):
			left = append(left, s.First)
		}
	}
	findings := []view.Message{view.Say("inspect_ended", view.Args{"sessions": ended})}
	if len(left) > 0 {
		findings = []view.Message{view.Say("inspect_left", view.Args{"count": len(left)})}
	}
	if len(left) > 0 || c.rulesetDiffers() {
		return found(No, left, append(findings, c.ruleset(nil))...)
	}
	return found(Yes, nil, findings...)
}

// checkStanding: no vendor is open for more than half of the time, or for too long in one piece.
func (c *look) checkStanding() Machine {
	if why := c.blank(); !why.Empty() {
		return unknown(why)
	}
	vendors := map[string][]*evidence.Opening{}
	for _, o := range c.openings() {
		vendors[o.Vendor] = append(vendors[o.Vendor], o)
	}
	from := c.from
	if from.Before(c.r.Begins) {
		from = c.r.Begins
	}
	var findings []view.Message
	var entries []int64
	for _, name := range sorted(vendors) {
		sum, longest := open(vendors[name], from, c.at)
		if 2*sum <= c.at.Sub(from) && longest <= longestOpen {
			continue
		}
		findings = append(findings, view.Say("inspect_standing", view.Args{"vendor": name, "percent": percent(sum, c.at.Sub(from)), "hours": int(longest.Hours())}))
		for _, o := range vendors[name] {
			entries = append(entries, o.First)
		}
	}
	if len(findings) > 0 {
		return found(No, entries, findings...)
	}
	return found(Yes, nil, view.Say("inspect_not_standing", view.Args{"vendors": len(vendors)}))
}

func percent(part, whole time.Duration) int {
	return int(100 * part.Seconds() / max(whole.Seconds(), 1))
}

// open is how long something was open, in sum and in one piece.
func open(all []*evidence.Opening, from, until time.Time) (sum, longest time.Duration) {
	slices.SortFunc(all, func(a, b *evidence.Opening) int { return a.OpenedAt.Compare(b.OpenedAt) })
	var begin, end time.Time
	for _, o := range all {
		first, last := o.OpenedAt, o.ClosedAt
		if first.Before(from) {
			first = from
		}
		if o.Last < 0 {
			last = until
		}
		if first.After(end) {
			sum, begin, end = sum+end.Sub(begin), first, first
		}
		if last.After(end) {
			end = last
		}
		longest = max(longest, end.Sub(begin))
	}
	return sum + end.Sub(begin), longest
}

// checkDestinations: targets are hosts or small networks, with few ports.
func (c *look) checkDestinations() Machine {
	if c.p == nil {
		return unknown(view.Say("inspect_no_policy", nil))
	}
	var wide, risky []string
	for _, t := range c.p.Targets {
		most := widestBits4
		if t.Prefix.Addr().Is6() {
			most = widestBits6
		}
		if t.Prefix.Bits() < most || slices.ContainsFunc(t.Services, func(s policy.Service) bool { return int(s.Last)-int(s.First) >= mostPorts }) {
			wide = append(wide, t.Name)
		}
		if slices.ContainsFunc(t.Services, func(s policy.Service) bool { return s.Allows(policy.TCP, 3389) || s.Allows(policy.TCP, 445) }) {
			risky = append(risky, t.Name)
		}
	}
	findings := []view.Message{view.Say("inspect_targets", view.Args{"count": len(c.p.Targets)})}
	if len(risky) > 0 {
		findings = append(findings, view.Say("inspect_risky", view.Args{"targets": view.Few(risky, 8)}))
	}
	if len(wide) > 0 {
		return found(No, nil, append(findings, view.Say("inspect_wide", view.Args{"targets": view.Few(wide, 8)}))...)
	}
	return found(Yes, nil, findings...)
}

// plain names the lines without WireGuard, and the vendors that come by them: of the vendor that is
// asked, or of all. No lines: there are none.
func (c *look) plain() (lines, vendors []string) {
	if c.p == nil {
		return nil, nil
	}
	for _, l := range c.p.Lines {
		by := len(vendors)
		for _, v := range c.vendors(false) {
			if l.Plain && v.Line == l {
				vendors = append(vendors, v.Name)
			}
		}
		if l.Plain && (c.o.Vendor == "" || len(vendors) > by) {
			lines = append(lines, l.Name)
		}
	}
	return lines, vendors
}

// plainly says something of the lines without WireGuard, if there are any.
func (c *look) plainly(code view.Code) []view.Message {
	lines, vendors := c.plain()
	if len(lines) == 0 {
		return []view.Message{}
	}
	if len(vendors) == 0 {
		vendors = []string{"–"}
	}
	return []view.Message{view.Say(code, view.Args{"lines": view.Few(lines, 8), "vendors": view.Few(vendors, 8)})}
}

// persons are the engineers of a vendor. Hosts on lines without WireGuard are none.
func persons(v *policy.Vendor) []*policy.Engineer {
	if v.Plain() {
		return nil
	}
	return v.Engineers
}

// checkPersons: no key was in use at two places at once, and nobody comes without one.
func (c *look) checkPersons() Machine {
	findings := c.plainly("inspect_plain")
	plain := len(findings) > 0
	if why := c.blank(); !why.Empty() {
		if plain {
			return found(No, nil, append(findings, why)...)
		}
		return unknown(why)
	}
	var twice []int64
	last := map[string]*evidence.Session{}
	for _, s := range c.r.Sessions {
		if !c.of(s.Vendor) || c.r.Plain(s.Vendor, s.OpenedAt) {
			continue
		}
		name := s.Vendor + "/" + s.Engineer
		before := last[name]
		last[name] = s
		if before != nil && c.within(s.OpenedAt) && (before.Last < 0 || before.ClosedAt.After(s.OpenedAt)) && before.Source.Addr() != s.Source.Addr() {
			twice = append(twice, before.First, s.First)
		}
	}
	engineers := []string{}
	for _, v := range c.vendors(false) {
		for _, e := range persons(v) {
			engineers = append(engineers, cmp.Or(e.DisplayName, e.Name))
		}
	}
	if len(engineers) > 0 || !plain {
		findings = append(findings, view.Say("inspect_keys", view.Args{"count": len(engineers), "engineers": view.Few(engineers, 8)}))
	}
	if len(twice) > 0 {
		findings = append(findings, view.Say("inspect_two_places", view.Args{"count": len(twice) / 2}))
	}
	if len(twice) > 0 || plain {
		return found(No, twice, findings...)
	}
	return found(Yes, nil, findings...)
}

// checkDormant: each engineer's contract runs, and each was inside within three months. Of a vendor on a
// line without WireGuard, one host is enough. Its leavers have no keys to look for.
func (c *look) checkDormant() Machine {
	if c.p == nil {
		return unknown(view.Say("inspect_no_policy", nil))
	}
	since := c.at.Add(-dormantAfter)
	used, came := map[string]bool{}, map[string]bool{}
	for _, s := range c.r.Sessions {
		switch {
		case !c.of(s.Vendor) || !s.OpenedAt.After(since) && s.Last >= 0:
		case c.r.Plain(s.Vendor, s.OpenedAt):
			came[s.Vendor] = true
		default:
			used[s.Vendor+"/"+s.Engineer] = true
		}
	}
	known := c.r.Begins.Before(since) // else the journal is too young to tell
	before := c.r.At(since)
	var ended, dormant, young, idle []string
	_, plain := c.plain()
	for _, v := range c.vendors(false) {
		if over(v.ContractUntil, c.at, c.zone) {
			ended = append(ended, v.Name)
			continue
		}
		was := func(e *policy.Engineer) bool { return policy.SamePeer(before.Engineer(e.String()), e) }
		if v.Plain() && known && slices.ContainsFunc(v.Engineers, was) && !came[v.Name] {
			idle = append(idle, v.Name)
		}
		for _, e := range persons(v) {
			switch {
			case used[e.String()]:
			case known && was(e):
				dormant = append(dormant, e.String())
			default:
				young = append(young, e.String())
			}
		}
	}
	var findings []view.Message
	if len(ended) > 0 {
		findings = append(findings, view.Say("inspect_contract_over", view.Args{"vendors": view.Few(ended, 8)}))
	}
	if len(dormant) > 0 {
		findings = append(findings, view.Say("inspect_dormant", view.Args{"engineers": view.Few(dormant, 8)}))
	}
	if len(idle) > 0 {
		findings = append(findings, view.Say("inspect_plain_unused", view.Args{"vendors": view.Few(idle, 8)}))
	}
	wrong := len(findings) > 0
	if len(plain) > 0 {
		findings = append(findings, view.Say("inspect_plain_leavers", view.Args{"vendors": view.Few(plain, 8)}))
	}
	switch {
	case wrong:
		return found(No, nil, findings...)
	case len(findings) > 0:
		return found(NotAssessed, nil, findings...)
	case len(young) > 0 && !known:
		return unknown(view.Say("inspect_young", view.Args{"engineers": view.Few(young, 8)}))
	}
	return found(Yes, nil, view.Say("inspect_all_used", view.Args{"count": len(used), "engineers": view.Few(sorted(used), 8)}))
}

// over reports whether a contract's last day is over.
func over(until policy.Date, at time.Time, zone *time.Location) bool {
	return until != (policy.Date{}) && until.String() < at.In(zone).Format(time.DateOnly)
}

// checkEncryption: each engineer has a key, and nobody comes without one.
func (c *look) checkEncryption() Machine {
	if c.p == nil {
		return unknown(view.Say("inspect_no_policy", nil))
	}
	var without []string
	n := 0
	for _, v := range c.vendors(false) {
		for _, e := range persons(v) {
			if n++; e.Key == (policy.Key{}) {
				without = append(without, e.String())
			}
		}
	}
	findings := c.plainly("inspect_plain_encryption")
	if len(without) > 0 {
		findings = append(findings, view.Say("inspect_no_key", view.Args{"engineers": view.Few(without, 8)}))
	}
	if len(findings) > 0 {
		return found(No, nil, findings...)
	}
	return found(Yes, nil, view.Say("inspect_encrypted", view.Args{"count": n}))
}

// isEverything reports whether a prefix has every address.
func isEverything(p netip.Prefix) bool { return p.Bits() == 0 }
