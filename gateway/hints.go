package gateway

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// hints says in a person's words what the numbers point at, and what to do.
// Excess is of engineers, more what else is known of the host.
func (l *loop) hints(excess map[string]view.Message, more []view.Hint) []view.Message {
	var hints []view.Message
	if l.fileError != "" {
		hints = append(hints, plain("the policy file on disk has errors and would not survive a restart: mend it, then `kidoban check` and `kidoban reload`"))
	} else if l.fileChanged {
		hints = append(hints, plain("the policy file on disk is not the policy in force: `kidoban reload` takes it"))
	}
	if !l.synchronized {
		hints = append(hints, plain("the kernel says that the clock is not synchronized: windows open and close by it, so let chrony or systemd-timesyncd run"))
	}
	if hint := l.diskHint(); !hint.Empty() {
		hints = append(hints, hint)
	}
	if waits, out := l.applier.busy(), l.narrowing.out(); l.plan.Doubt == "" && (waits >= effectWait || out > 0) {
		hint := fmt.Sprintf("the kernel has not answered for %s: until it does nothing new passes its ruleset, and what closes is closed by the gate alone", waits.Truncate(100*time.Millisecond))
		if out > 0 {
			hint += fmt.Sprintf("; engineers kept out until then, because a change took something from them: %d", out)
		}
		hints = append(hints, plain(hint))
	}
	for _, s := range l.sessions {
		if s.unanswered(l.boot) {
			hints = append(hints, plain(fmt.Sprintf("%s sends (%d bytes) and nothing comes back: the target may have no route to the tunnel; give it one, or set masquerade: true on the target%s",
				s.engineer, s.asked, l.refusedFlows(s))))
		}
	}
	if hint := l.natHint(); !hint.Empty() {
		hints = append(hints, hint)
	}
	hints = append(hints, excessHints(excess)...)
	for _, w := range l.warnings {
		hints = append(hints, plain(w))
	}
	for _, h := range more {
		hints = append(hints, h.Message)
	}
	slices.SortFunc(hints, func(a, b view.Message) int { return strings.Compare(a.String(), b.String()) })
	return slices.CompactFunc(hints, func(a, b view.Message) bool { return a.String() == b.String() })
}

// diskHint says that nobody new enters because the disk does not answer, as
// long as that is no doubt yet.
func (l *loop) diskHint() view.Message {
	waits := l.recorder.busy()
	for _, at := range l.late {
		waits = max(waits, l.boot-at)
	}
	if l.plan.Doubt != "" || waits < unrecordedAfter {
		return view.Message{}
	}
	return plain(fmt.Sprintf("the disk has not answered for %s: until it does nobody new enters, since no admission lasts without its record", waits.Truncate(time.Second)))
}

// Sizes of WireGuard's messages in bytes, as Traffic counts them (whitepaper,
// section 5.4), and how often an end sends a keepalive at most (section 6.5).
const (
	initiationSize = 148
	responseSize   = 92
	keepaliveSize  = 32
	keepaliveEvery = 10 * time.Second
)

// A session whose packets nobody answers is told of when this much was asked
// for this long: three attempts at a TCP connection.
const (
	unansweredBytes = 250
	unansweredFor   = 5 * time.Second
)

// carries takes note of what of the bytes since the last reading is more than
// handshakes and keepalives. Sums say nothing: of an upload little comes back,
// and a tunnel at rest sends more than it gets.
func (s *session) carries(received, transmitted uint64, boot time.Duration) {
	passed := boot - s.counted
	s.counted = boot
	if n := payload(received, initiationSize, passed); n > 0 {
		if s.asked == 0 {
			s.askedAt = boot
		}
		s.asked += n
	}
	s.answered += payload(transmitted, responseSize, passed)
}

// payload gives the bytes that are neither handshakes of a size nor
// keepalives. Data takes multiples of 16 bytes, so the rest says how many of
// up to three handshakes are among them. Full packets need not be padded and
// are taken for handshakes in part; they are long.
func payload(n, handshake uint64, passed time.Duration) uint64 {
	keepalives := uint64(2 + passed/keepaliveEvery)
	for range 4 {
		if n%16 == 0 {
			break
		}
		if n < handshake {
			return n
		}
		n -= handshake
		keepalives++ // it is confirmed with one
	}
	if n <= keepalives*keepaliveSize {
		return 0
	}
	return n
}

// unanswered reports that the engineer sends, and nothing comes back.
func (s *session) unanswered(boot time.Duration) bool {
	return s.answered == 0 && s.asked >= unansweredBytes && boot-s.askedAt >= unansweredFor
}

// refusedFlows says where else to look: what is refused is not answered either.
func (l *loop) refusedFlows(s *session) string {
	for _, r := range l.refusals.List() {
		if r.Vendor == s.engineer.Vendor.Name && r.Engineer == s.engineer.Name && r.Target != "" && r.Last.After(s.openedAt) {
			return fmt.Sprintf("; or it is what `kidoban refusals` shows: %s to %s", r.Reason, r.Target)
		}
	}
	return ""
}

// excessRecent is for how long operators hear of flows that were refused because
// an engineer has a share, and excessHinted of how many engineers by name.
const (
	excessRecent = 10 * time.Minute
	excessHinted = 5
)

// excess says of each engineer who is inside, and was lately refused flows
// because of the share, so. A handshake that came too fast has no target, and
// is another matter.
func (l *loop) excess() map[string]view.Message {
	all := map[string]view.Message{}
	for _, r := range l.refusals.List() { // the newest first
		if r.Reason != policy.RateLimited.String() || r.Engineer == "" || r.Target == "" || l.now.Sub(r.Last) >= excessRecent {
			continue
		}
		who := r.Vendor + "/" + r.Engineer
		if s := l.sessions[who]; s != nil && all[who].Empty() && !r.Last.Before(s.openedAt) {
			all[who] = plain(fmt.Sprintf("%s has as many connections open as one engineer may have, or begins them too fast, and more are refused (last: to %s): ask what runs there; `kidoban close %s` cuts all of them",
				who, r.Target, who))
		}
	}
	return all
}

// excessHints gives what excess found, but not all of much.
func excessHints(all map[string]view.Message) (hints []view.Message) {
	for _, who := range slices.Sorted(maps.Keys(all)) {
		if len(hints) == excessHinted {
			return append(hints, plain(fmt.Sprintf("%d other engineers are refused connections as well, as `kidoban refusals` shows: rate_limited", len(all)-excessHinted)))
		}
		hints = append(hints, all[who])
	}
	return hints
}

// What natHint looks at, and when it is sure: attempts that prove a key, within
// the last hour, three of four of them.
const (
	natRecent = time.Hour
	natLeast  = 2
)

// sharedAddresses are those of carriers' NAT (RFC 6598).
var sharedAddresses = netip.MustParsePrefix("100.64.0.0/10")

// natHint sees most attempts come from one private address: a router in front
// that rewrites sources, so that no vendor can be told from another. Only what
// proves a key counts: anybody can send junk from anywhere.
func (l *loop) natHint() view.Message {
	private := func(a netip.Addr) bool { return a.IsPrivate() || sharedAddresses.Contains(a) }
	attempts := map[netip.Addr]int{}
	all := 0
	for _, r := range l.refusals.List() {
		if r.Engineer != "" && r.Target == "" && r.Source.IsValid() && l.now.Sub(r.Last) < natRecent {
			attempts[r.Source] += r.Count
			all += r.Count
		}
	}
	for _, s := range l.sessions {
		if !private(s.source.Addr()) {
			return view.Message{} // this source was not rewritten
		}
	}
	for a, n := range attempts {
		if private(a) && n >= natLeast && 4*n >= 3*all {
			return plain(fmt.Sprintf("%d of %d attempts of engineers come from %s, a private address: a NAT in front hides the vendors' addresses; let the router forward UDP without rewriting sources (no source NAT on the port forward)", n, all, a))
		}
	}
	return view.Message{}
}
