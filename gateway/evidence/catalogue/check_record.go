package catalogue

import (
	"slices"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// drifts are the entries of drift in the time.
func (c *look) drifts() (entries []int64) {
	for _, n := range c.r.Drifts {
		if c.within(n.Time) {
			entries = append(entries, n.Entry)
		}
	}
	return entries
}

// checkRecorded: each session has the admission that let it in. A host behind a line without WireGuard has
// none: its session is what the kernel counted.
func (c *look) checkRecorded() Machine {
	if why := c.blank(); !why.Empty() {
		return unknown(why)
	}
	var without []int64
	n, incomplete, hosts := 0, 0, 0
	for _, s := range c.r.Sessions {
		if !c.of(s.Vendor) || !c.within(s.OpenedAt) {
			continue
		}
		n++
		if c.r.Plain(s.Vendor, s.OpenedAt) {
			hosts++
		} else if s.Admission < 0 {
			without = append(without, s.First)
		}
		if s.Last >= 0 && !(s.Count.Known && s.Count.Complete) {
			incomplete++
		}
	}
	findings := []view.Message{view.Say("inspect_recorded", view.Args{"sessions": n - hosts})}
	if hosts > 0 {
		findings = append(findings, view.Say("inspect_plain_recorded", view.Args{"sessions": hosts}))
	}
	if incomplete > 0 {
		findings = append(findings, view.Say("inspect_uncounted", view.Args{"count": incomplete}))
	}
	if len(without) > 0 {
		return found(No, without, view.Say("inspect_unrecorded", view.Args{"count": len(without), "sessions": n - hosts}))
	}
	return found(Yes, nil, findings...)
}

// checkReviewed: no session waits for its check or its confirmation beyond the policy's times.
func (c *look) checkReviewed() Machine {
	if why := c.blank(); !why.Empty() {
		return unknown(why)
	}
	rules := c.p.Reviewing()
	var unchecked, unconfirmed []int64
	n := 0
	for _, s := range c.sessions() {
		end := s.OpenedAt
		if s.ClosedAt != nil {
			end = *s.ClosedAt
		}
		n++
		if (s.Checked == nil || s.Stale) && c.at.After(end.Add(rules.Within)) {
			unchecked = append(unchecked, s.Entries.From)
		}
		if (s.Confirmed == nil || s.Stale) && c.at.After(end.Add(rules.ConfirmWithin)) {
			unconfirmed = append(unconfirmed, s.Entries.From)
		}
	}
	if len(unchecked)+len(unconfirmed) > 0 {
		return found(No, append(unchecked, unconfirmed...), view.Say("inspect_unreviewed", view.Args{"unchecked": len(unchecked), "unconfirmed": len(unconfirmed), "sessions": n}))
	}
	return found(Yes, nil, view.Say("inspect_reviewed", view.Args{"sessions": n}))
}

// checkVerified: the entries agree with a signed checkpoint.
func (c *look) checkVerified() Machine {
	switch {
	case c.o.Damaged:
		return found(No, nil, view.Say("inspect_damaged", nil))
	case !c.o.Verified:
		return unknown(view.Say("inspect_unverified", nil))
	}
	return found(Yes, nil, view.Say("inspect_verified", view.Args{"count": c.r.Entries.To - c.r.Entries.From + 1}))
}

// checkCopied: a copy or a witness has a state of the journal that is not old.
func (c *look) checkCopied() Machine {
	newest, entries := time.Time{}, []int64(nil)
	if c.live != nil {
		newest = later(c.live.Witnessed, c.live.Copied)
	}
	for _, m := range c.r.Mirrored {
		if m.At.After(newest) && !m.At.After(c.at) {
			newest, entries = m.At, []int64{m.Entry}
		}
	}
	switch {
	case newest.IsZero() && c.live == nil:
		return unknown(view.Say("inspect_copy_unknown", nil))
	case newest.IsZero():
		return found(No, nil, view.Say("inspect_no_copy", nil))
	case c.at.Sub(newest) > copyAge:
		return found(No, entries, view.Say("inspect_old_copy", view.Args{"at": c.say(newest)}))
	}
	return found(Yes, entries, view.Say("inspect_copy", view.Args{"at": c.say(newest)}))
}

// checkRetention: the journal has all entries since it began, or those of the time that the policy sets.
func (c *look) checkRetention() Machine {
	if c.p == nil {
		return unknown(view.Say("inspect_no_policy", nil))
	}
	kept, oldest := c.p.Retention, c.say(c.r.Begins)
	switch {
	case kept == 0:
		return unknown(view.Say("inspect_no_retention", nil))
	case c.r.Entries.From == 0:
		return found(Yes, nil, view.Say("inspect_kept_all", view.Args{"retention": kept.String(), "at": oldest}))
	case c.r.Begins.After(kept.Before(c.at)):
		return found(No, []int64{c.r.Entries.From}, view.Say("inspect_not_kept", view.Args{"retention": kept.String(), "at": oldest}))
	}
	return found(Yes, []int64{c.r.Entries.From}, view.Say("inspect_kept", view.Args{"retention": kept.String(), "at": oldest}))
}

// say writes an instant for people.
func (c *look) say(at time.Time) string { return at.In(c.zone).Format("2006-01-02 15:04 MST") }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// checkClock: the kernel synchronizes its clock; only the running gateway can ask it.
func (c *look) checkClock() Machine {
	var steps []int64
	for _, n := range c.r.Steps {
		if n.Kind == journal.ClockStep && c.within(n.Time) {
			steps = append(steps, n.Entry)
		}
	}
	findings := []view.Message{view.Say("inspect_steps", view.Args{"count": len(steps)})}
	switch {
	case c.live == nil:
		return unknown(view.Say("inspect_live_only", nil))
	case !c.live.Synchronized:
		return found(No, steps, append(findings, view.Say("inspect_not_synchronized", nil))...)
	}
	return found(Yes, steps, append(findings, view.Say("inspect_synchronized", nil))...)
}

// checkListeners: what serves people listens to this machine or to a private network.
func (c *look) checkListeners() Machine {
	if c.live == nil || !c.live.ListenersKnown {
		return unknown(view.Say("inspect_live_only", nil))
	}
	all, public := []string{}, []string{}
	for _, l := range c.live.Listeners {
		all = append(all, l.String())
		if a := l.Addr().Unmap(); !a.IsLoopback() && !a.IsPrivate() && !a.IsLinkLocalUnicast() {
			public = append(public, l.String())
		}
	}
	if len(public) > 0 {
		return found(No, nil, view.Say("inspect_public", view.Args{"listeners": view.Few(public, 8)}))
	}
	return found(Yes, nil, view.Say("inspect_private", view.Args{"count": len(all), "listeners": view.Few(all, 8)}))
}

// checkDrift: the ruleset was compared all the time, and never differed.
func (c *look) checkDrift() Machine {
	if why := c.blank(); !why.Empty() {
		return unknown(why)
	}
	drifts := c.drifts()
	if len(drifts) > 0 || c.rulesetDiffers() {
		return found(No, drifts, c.ruleset(drifts))
	}
	return found(Yes, nil, c.ruleset(nil))
}

// checkExercised: somebody made a bundle of an incident, or for exercise.
func (c *look) checkExercised() Machine {
	var entries []int64
	for _, i := range c.r.Incidents {
		for _, b := range i.Bundles {
			if c.within(b.At) {
				entries = append(entries, i.Entry, b.Entry)
			}
		}
	}
	return c.exercised(entries, view.Say("inspect_exercised", view.Args{"count": len(entries) / 2}), view.Say("inspect_not_exercised", nil))
}

// checkKillSwitch: everything was closed once.
func (c *look) checkKillSwitch() Machine {
	var entries []int64
	for _, n := range c.r.Shuts {
		if c.within(n.Time) && (n.Kind == journal.SwitchShut || n.Kind == journal.Shut && n.Scope == string(policy.All)) {
			entries = append(entries, n.Entry)
		}
	}
	return c.exercised(entries, view.Say("inspect_shut", view.Args{"count": len(entries)}), view.Say("inspect_never_shut", nil))
}

// exercised answers by exercises: none is no once the journal is old enough to have one.
func (c *look) exercised(entries []int64, done, not view.Message) Machine {
	switch {
	case len(entries) > 0:
		return found(Yes, entries, done)
	case c.r.Entries.To < 0 || c.r.Begins.After(c.from):
		return unknown(not)
	}
	return found(No, nil, not)
}

// checkReconciled: each difference between plan, sessions and use is explained.
func (c *look) checkReconciled() Machine {
	if why := c.blank(); !why.Empty() {
		return unknown(why)
	}
	var entries []int64
	var kinds []string
	open, explained := 0, 0
	for _, r := range c.reports() {
		for _, m := range r.Mismatches {
			if m.State != "open" {
				explained++
				continue
			}
			open++
			entries = append(entries, m.Entries...)
			if !slices.Contains(kinds, m.Kind) {
				kinds = append(kinds, m.Kind)
			}
		}
	}
	if open > 0 {
		return found(No, entries, view.Say("inspect_mismatches", view.Args{"count": open, "kinds": kinds, "explained": explained}))
	}
	return found(Yes, nil, view.Say("inspect_reconciled", view.Args{"explained": explained}))
}
