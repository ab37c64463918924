package view

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"kidoban/gateway/policy"
)

const (
	// RecordWithin is how long an admission may be without its journal entry, and a
	// disk silent without a hint.
	RecordWithin = time.Second
	// EffectWithin is how long an operator's command waits for its effect, and the
	// kernel may be silent without a hint.
	EffectWithin = 3 * time.Second
	// excessRecent is for how long refused flows are a hint, excessNamed how
	// many engineers are named.
	excessRecent = 10 * time.Minute
	excessNamed  = 5
	// firstDay is for how long a first start is a hint.
	firstDay = 24 * time.Hour
	// sourcesHidden takes three of four attempts that prove a key within natRecent,
	// and at least natLeast.
	natRecent = time.Hour
	natLeast  = 2
)

// Hints are the observations of the gateway, each with a way out. Warnings about
// the policy are not included.
func (s *Snapshot) Hints(now time.Time) []Message {
	hints := []Message{}
	hint := func(m Message) {
		if !m.Empty() {
			hints = append(hints, m)
		}
	}
	if r, on := s.Plan.Switched(); on {
		hint(Say("switch_on", Args{"reason": r.Reason}))
	}
	if s.File.Error != "" {
		hint(Say("file_wrong", nil))
	} else if s.File.Changed {
		hint(Say("file_changed", nil))
	}
	if began := s.Journal.Began; !began.IsZero() && now.Sub(began) < firstDay {
		hint(Say("first_start", Args{"at": s.Local(began).Format("2006-01-02 15:04 MST")}))
	}
	if !s.Synchronized {
		hint(Say("clock_unsynchronized", nil))
	}
	hint(s.disk())
	if wait := s.Ruleset.Truncate(100 * time.Millisecond); s.Ready() && s.KeptOut > 0 {
		hint(Say("kernel_slow_out", Args{"wait": wait, "engineers": s.KeptOut}))
	} else if s.Ready() && s.Ruleset >= EffectWithin {
		hint(Say("kernel_slow", Args{"wait": wait}))
	}
	for _, sess := range s.Sessions {
		hint(s.unanswered(sess))
	}
	hint(s.sourcesHidden(now))
	hints = append(hints, s.requestHints(now)...)
	hints = append(hints, s.handshakes()...)
	hints = append(hints, s.wrongKeys(now, func(*policy.Engineer) bool { return true })...)
	excess := s.excess(now)
	for i, engineer := range slices.Sorted(maps.Keys(excess)) {
		if i == excessNamed {
			hint(Say("excess_others", Args{"count": len(excess) - excessNamed}))
			break
		}
		hint(excess[engineer])
	}
	for _, h := range s.Host {
		hint(h.Message)
	}
	slices.SortStableFunc(hints, func(a, b Message) int { return cmp.Compare(a.String(), b.String()) })
	return slices.CompactFunc(hints, Message.Equal)
}

// disk is the hint about a disk that does not answer; later it is a doubt.
func (s *Snapshot) disk() Message {
	wait := max(s.Journal.Waiting, s.Overdue)
	if !s.Ready() || wait < RecordWithin {
		return Message{}
	}
	return Say("disk_slow", Args{"wait": wait.Truncate(time.Second)})
}

func (s *Snapshot) unanswered(sess SessionStatus) Message {
	if sess.Unanswered == 0 {
		return Message{}
	}
	engineer := sess.Vendor + "/" + sess.Engineer
	for _, r := range s.Refusals { // a refused flow gets no answer either
		if r.Vendor == sess.Vendor && r.Engineer == sess.Engineer && r.Target != "" && r.Last.After(sess.OpenedAt) {
			return Say("unanswered_refused", Args{"engineer": engineer, "bytes": sess.Unanswered, "reason": r.Reason, "target": r.Target})
		}
	}
	return Say("unanswered", Args{"engineer": engineer, "bytes": sess.Unanswered})
}

// excess has a hint for each engineer with a session whose flows were lately refused
// by the share. A refused handshake has no target.
func (s *Snapshot) excess(now time.Time) map[string]Message {
	opened := map[string]time.Time{}
	for _, sess := range s.Sessions {
		opened[sess.Vendor+"/"+sess.Engineer] = sess.OpenedAt
	}
	all := map[string]Message{}
	for _, r := range s.Refusals { // the newest first
		engineer := r.Vendor + "/" + r.Engineer
		at, inside := opened[engineer]
		if inside && r.Reason == policy.RateLimited.String() && r.Target != "" && now.Sub(r.Last) < excessRecent &&
			!r.Last.Before(at) && all[engineer].Empty() {
			all[engineer] = Say("excess", Args{"engineer": engineer, "target": r.Target})
		}
	}
	return all
}

// sharedAddresses are those of carriers' NAT (RFC 6598).
var sharedAddresses = netip.MustParsePrefix("100.64.0.0/10")

// sourcesHidden reports that most attempts come from one private address: a router in
// front rewrites sources. Only attempts that prove a key count, since strangers can
// send packets from any address.
func (s *Snapshot) sourcesHidden(now time.Time) Message {
	private := func(a netip.Addr) bool { return a.IsPrivate() || sharedAddresses.Contains(a) }
	if slices.ContainsFunc(s.Sessions, func(sess SessionStatus) bool { return !private(sess.Source) }) {
		return Message{} // this source was not rewritten
	}
	attempts, all := map[netip.Addr]int{}, 0
	for _, r := range s.Refusals {
		if r.Engineer != "" && r.Target == "" && r.Source.IsValid() && now.Sub(r.Last) < natRecent {
			attempts[r.Source] += r.Count
			all += r.Count
		}
	}
	for source, n := range attempts {
		if private(source) && n >= natLeast && 4*n >= 3*all {
			return Say("sources_hidden", Args{"count": n, "all": all, "source": source})
		}
	}
	return Message{}
}
