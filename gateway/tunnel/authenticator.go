package tunnel

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"kidoban/gateway/policy"
)

// Per engineer: initiations at once and per second. WireGuard sends one every
// 5 s at most.
const (
	engineerBurst, engineerRate = 10, 1
	// Of these, those that are admitted, each of which the journal keeps. In a
	// session WireGuard sends one every 120 s. Refused attempts do not count, so that a client that tries
	// until a window opens enters when it does.
	admissionBurst, admissionRate = 60, 1. / 30
	inspectBurst, inspectRate     = 100, 50 // all packets that the kernel dropped
)

// settling is how long after an opening the gate still sees packets that the
// kernel dropped before it.
const settling = 2 * time.Second

// ahead is how far in the future a timestamp may lie.
const ahead = 24 * time.Hour

// echoing is how long networks deliver a packet again, or after a later one:
// WireGuard sends the next initiation after 5 s.
const echoing = 10 * time.Second

// stamps keeps the greatest timestamp of every key. It outlives peers, and
// through the journal the process.
type stamps struct {
	mu       sync.Mutex
	greatest map[policy.Key]greatest
}

// greatest is a key's greatest timestamp, and where and when (since boot) it
// came from; the zero AddrPort: before this process.
type greatest struct {
	stamp [12]byte
	from  netip.AddrPort
	at    time.Duration
}

// newer reports whether a timestamp is newer than all of the key. One that is
// not is an echo if it comes from where the newest has just come, and is hardly
// older: then the network has delivered it again, or late.
func (s *stamps) newer(key policy.Key, stamp [12]byte, from netip.AddrPort, now time.Duration) (newer, echo bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	have := s.greatest[key]
	newer = string(stamp[:]) > string(have.stamp[:])
	return newer, !newer && from == have.from && now-have.at < echoing && stampTime(have.stamp).Sub(stampTime(stamp)) < echoing
}

func (s *stamps) advance(key policy.Key, stamp [12]byte, from netip.AddrPort, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := s.greatest[key]; string(stamp[:]) > string(have.stamp[:]) {
		s.greatest[key] = greatest{stamp, from, now}
	}
}

func (s *stamps) set(all map[policy.Key][12]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.greatest = make(map[policy.Key]greatest, len(all))
	for key, stamp := range all {
		s.greatest[key] = greatest{stamp: stamp}
	}
}

// authenticator opens initiations, one at a time, off the data path.
type authenticator struct {
	t         *Tunnel
	opener    atomic.Pointer[opener]
	stamps    stamps
	secrets   map[policy.Key][32]byte // static-static, of the policy's keys
	of        *policy.Policy          // the policy of secrets
	by        *opener                 // the opener of secrets
	engineers *limiter[policy.Key]
	admitted  *limiter[policy.Key]
	inspected *limiter[struct{}]
	number    uint64 // of the last admission
}

func newAuthenticator(t *Tunnel, o *opener) *authenticator {
	p := &authenticator{
		t: t, stamps: stamps{greatest: map[policy.Key]greatest{}},
		engineers: newLimiter[policy.Key](engineerBurst, engineerRate, 1<<16),
		admitted:  newLimiter[policy.Key](admissionBurst, admissionRate, 1<<16),
		inspected: newLimiter[struct{}](inspectBurst, inspectRate, 1),
	}
	p.opener.Store(o)
	return p
}

func (p *authenticator) run() {
	q := p.t.gate.queues
	for {
		if i, ok := next(q.renewals); ok {
			p.initiation(i)
			continue
		}
		if i, ok := next(q.initiations); ok {
			p.initiation(i)
			continue
		}
		select {
		case <-p.t.closing:
			return
		case i := <-q.renewals:
			p.initiation(i)
		case i := <-q.initiations:
			p.initiation(i)
		case d := <-q.dropped:
			p.inspect(d)
		}
	}
}

// next takes from a channel without waiting.
func next[T any](c <-chan T) (one T, ok bool) {
	select {
	case one = <-c:
		return one, true
	default:
		return one, false
	}
}

// question makes the query to the plan. A packet that was only inspected takes
// nothing of the engineer's rate, nor does one from another source or line: a thief of
// the key could lock its owner out. An echo is to be dropped without a word.
func (p *authenticator) question(packet *packetInitiation, source netip.AddrPort, by int32, plan *policy.Plan, now instant, inspected bool) (q policy.Query, stamp [12]byte, echo bool) {
	q = policy.Query{Fault: policy.Admitted, Source: source.Addr(), Ingress: p.t.gate.named(by)}
	opener := p.opener.Load()
	c, ok := opener.open(packet)
	if !ok {
		return q, stamp, false
	}
	q.Key = c.key
	if plan.ByKey(c.key) == nil {
		return q, stamp, false
	}
	secret, ok := p.secret(plan.Policy, opener, c.key)
	if !ok {
		return q, stamp, false
	}
	if stamp, q.Proven = c.timestamp(packet, secret); !q.Proven {
		return q, stamp, false
	}
	newer, echo := p.stamps.newer(c.key, stamp, source, now.boot)
	switch {
	case !newer:
		q.Fault = policy.Replayed // and takes nothing of the engineer's rate, or it would lock the engineer out
	case !inspected && plan.MayComeFrom(q) && !p.engineers.allow(c.key, now.boot):
		q.Fault = policy.RateLimited
	case stampTime(stamp).After(now.wall.Add(ahead)):
		q.Fault = policy.FutureTimestamp
	}
	return q, stamp, echo
}

// keep keeps the timestamp of an initiation, so that nobody plays it again once
// a window opens or a doubt is over. It does not keep one from another source or line: a
// thief of the key could lock its owner out with a timestamp of tomorrow. Then
// seen is zero.
func (p *authenticator) keep(q policy.Query, stamp [12]byte, source netip.AddrPort, plan *policy.Plan, now instant) (seen [12]byte) {
	if q.Proven && q.Fault == policy.Admitted && plan.MayComeFrom(q) {
		p.stamps.advance(q.Key, stamp, source, now.boot)
		seen = stamp
	}
	return seen
}

// secret gives the static-static secret with a key of the policy, worked out
// at its first claim.
func (p *authenticator) secret(of *policy.Policy, by *opener, key policy.Key) ([32]byte, bool) {
	if p.of != of || p.by != by {
		p.of, p.by, p.secrets = of, by, map[policy.Key][32]byte{}
	}
	secret, ok := p.secrets[key]
	if !ok {
		var err error
		if secret, err = by.shared(key); err != nil {
			return secret, false
		}
		p.secrets[key] = secret
	}
	return secret, true
}

func (p *authenticator) initiation(i initiation) {
	t := p.t
	plan, now := t.table.current(), t.now()
	q, stamp, echo := p.question(&i.packet, i.from.AddrPort, i.from.SrcIfidx(), plan, now, false)
	if echo {
		return
	}
	if q.Key == (policy.Key{}) {
		q.Fault = policy.Malformed // sealed to another key, though its MAC names ours
	}
	f := policy.Fact{At: now.wall, Source: i.from.AddrPort, Timestamp: p.keep(q, stamp, i.from.AddrPort, plan, now)}
	refuse := func(d policy.Decision) {
		f.Engineer, f.Decision, f.Claim = d.Engineer, d, claimed(q)
		t.gate.refusals.Add(f)
	}
	d := plan.Decide(q, now.wall)
	if d.Reason == policy.Admitted && (t.table.tooSoon(d.Engineer, i.from.AddrPort, now.boot) || !p.admitted.allow(q.Key, now.boot)) {
		q.Fault = policy.RateLimited
		d = plan.Decide(q, now.wall)
	}
	if d.Reason != policy.Admitted {
		refuse(d)
		return
	}
	if err := t.ready(d.Engineer); err != nil {
		t.log.Warn("an initiation is refused because the tunnel cannot take it", "engineer", d.Engineer, "err", err)
		refuse(policy.Decision{Reason: policy.NotReady, Engineer: d.Engineer})
		return
	}
	p.number++
	now = t.now()
	sender := binary.LittleEndian.Uint32(i.packet[senderAt:])
	to, d := t.table.admit(q, i.from, sender, p.number, now, func(d policy.Decision) bool {
		return t.send(policy.Fact{
			Kind: policy.Admission, At: now.wall, Engineer: d.Engineer, Source: i.from.AddrPort,
			Decision: d, Timestamp: stamp, Admission: p.number, Count: 1,
		})
	})
	if to == nil {
		refuse(d)
		return
	}
	select {
	case t.gate.again <- admitted{i.packet, to}:
	case <-t.closing:
	}
}

// claimed gives the key that an initiation carries and does not prove.
func claimed(q policy.Query) (c policy.Claim) {
	if !q.Proven {
		c.Key = q.Key
	}
	return c
}

// inspect names the sender of a packet that the kernel dropped.
func (p *authenticator) inspect(d dropped) {
	t := p.t
	plan, now := t.table.current(), t.now()
	q := policy.Query{Fault: policy.Admitted, Source: d.source.Addr()}
	var stamp [12]byte
	var echo, foreign bool
	keyed := !p.opener.Load().standIn // else every initiation seems to be for another gateway
	switch whole := d.size == len(d.packet); {
	case !whole || !wellFormed(d.packet[:], t.gate.checker):
		foreign = keyed && whole && shaped(d.packet[:])
	case p.inspected.allow(struct{}{}, now.boot):
		q, stamp, echo = p.question(&d.packet, d.source, d.by, plan, now, true)
	default:
		q.Fault = policy.RateLimited
	}
	if echo {
		return
	}
	decision, seen := plan.Decide(q, now.wall), p.keep(q, stamp, d.source, plan, now)
	if decision.Reason == policy.Admitted {
		if !t.table.admittedForLong(q, now) {
			return // it came a moment before the kernel let it through: no refusal to speak of
		}
		// So it was beyond the kernel's rate.
		q.Fault = policy.RateLimited
		decision = plan.Decide(q, now.wall)
	}
	claim := claimed(q)
	claim.Foreign = foreign
	t.gate.refusals.Add(policy.Fact{At: now.wall, Source: d.source, Engineer: decision.Engineer, Decision: decision, Timestamp: seen, Claim: claim})
}
