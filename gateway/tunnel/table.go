package tunnel

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/device"

	"kidoban/gateway/policy"
	"kidoban/gateway/udp"
	"kidoban/gateway/view"
)

// A client whose handshakes are admitted and never confirmed (another preshared
// key, or answers that do not arrive) goes on for months, and each admission is an
// entry of the journal. vainFree in a row from one address and port are free;
// WireGuard gives up after 18, unless it sends keepalives. Then the pauses grow. A
// client that is switched off and on comes from another port, and begins anew.
const (
	vainFree = 20
	vainStep = 30 * time.Second
	vainMost = 5 * time.Minute
)

// vain counts admissions of a key in a row, none of which was confirmed.
type vain struct {
	engineer *policy.Engineer
	from     netip.AddrPort
	count    int
	last     time.Duration // since boot
}

// Bounds per engineer. WireGuard itself holds three key pairs a peer; the rest
// is for handshakes that cross.
const (
	maximumAdmissions  = 4 // unconfirmed ones; a confirmed one is never evicted
	maximumPending     = 8
	maximumUnconfirmed = 8
	maximumConfirmed   = 3
)

// admission is one engineer at one address, from the first admitted initiation
// to the deadline. Cutting it is final. If the vendor has a line, it is at one
// interface as well.
type admission struct {
	engineer *engineer
	address  netip.Addr
	deadline atomic.Int64 // nanoseconds since boot; 0: cut
	only     atomic.Int32 // the index of the line's interface; 0: any will do

	// Guarded by table.mu.
	by         int32                    // the index of the interface of the newest initiation
	ingress    string                   // its name then
	until      time.Time                // the end in wall-clock time that planned stands for
	planned    int64                    // the deadline if every initiation were on disk; as deadline
	unrecorded map[uint64]time.Duration // initiations that are not on disk, by number, and until when they may wait
	confirmed  bool
}

func (p *admission) open(now time.Duration) bool { return int64(now) < p.deadline.Load() }
func (p *admission) isCut() bool                 { return p.deadline.Load() == 0 }

// bind has data pass by the interface of the newest initiation alone, if the
// engineer has a line.
func (p *admission) bind(e *policy.Engineer) {
	only := int32(0)
	if e.Line != nil {
		only = p.by
	}
	p.only.Store(only)
}

// takes reports whether packets of an endpoint belong to the admission.
func (p *admission) takes(from *udp.Endpoint) bool {
	only := p.only.Load()
	return from.Addr() == p.address && (only == 0 || from.SrcIfidx() == only)
}

// extend sets the deadline to the end that a plan gives. An end that is the
// same as before, or later by so much, moves the deadline by no more than
// that: a wall clock that was set back extends nothing.
func (p *admission) extend(until time.Time, now instant) {
	deadline := int64(now.boot) + int64(until.Sub(now.wall))
	if !p.until.IsZero() {
		deadline = min(deadline, p.planned+int64(until.Sub(p.until)))
	}
	p.until, p.planned = until, deadline
	p.setDeadline()
}

// setDeadline computes the deadline: the plan's, or that of the first initiation
// that is not on disk. It must not be called after the end.
func (p *admission) setDeadline() {
	deadline := p.planned
	for _, due := range p.unrecorded {
		deadline = min(deadline, int64(due))
	}
	p.deadline.Store(max(deadline, 0))
}

// engineer is the state of one key while there are admissions.
type engineer struct {
	deadline atomic.Int64 // the latest of the admissions'; 0: none

	// Guarded by table.mu.
	policy     *policy.Engineer // of the latest plan
	admissions []*admission     // ordered by their newest initiation
	pending    []pending
	entries    []*entry // oldest first
}

// setDeadline takes the latest deadline of the admissions; table.mu is held.
func (e *engineer) setDeadline() {
	var latest int64
	for _, p := range e.admissions {
		latest = max(latest, p.deadline.Load())
	}
	e.deadline.Store(latest)
}

// pending is an admitted initiation that WireGuard has not answered yet.
type pending struct {
	sender   uint32 // the initiator's index, which the response repeats
	number   uint64
	endpoint *endpoint
	since    time.Duration
}

// entry is the state of one receiver index of ours.
type entry struct {
	admission *admission
	index     uint32
	number    uint64
	expires   time.Duration            // REJECT_AFTER_TIME after the response
	last      atomic.Pointer[endpoint] // of the last data that passed the gate; nil: none has

	confirmed bool // guarded by table.mu
}

// unconfirmed reports whether data came with the index, but no confirmation;
// table.mu is held.
func (e *entry) unconfirmed() bool { return e.last.Load() != nil && !e.confirmed }

// endpoint names the engineer of a packet. It is immutable, so that packets may
// share it.
type endpoint struct {
	*udp.Endpoint
	admission *admission
}

// endpoint gives the endpoint for a packet that came with this index.
func (e *entry) endpoint(from *udp.Endpoint) *endpoint {
	last := e.last.Load()
	if last == nil || last.Endpoint != from {
		last = &endpoint{from, e.admission}
		e.last.Store(last)
	}
	return last
}

// table knows the admissions.
type table struct {
	// mu is never held over a device call or a wait.
	mu        sync.Mutex
	plans     []inForce // of the last moments; the newest is in force
	engineers map[policy.Key]*engineer
	stale     map[policy.Key]bool   // their keys in the device must go before the next handshake
	due       map[uint64]*admission // initiations that are not known to be on disk, by number
	vain      map[policy.Key]vain

	// The tables of the data path. Locked after mu, if both are.
	lookup  sync.RWMutex
	indices map[uint32]*entry
	inner   map[netip.Addr]*engineer // by tunnel address
	live    map[netip.AddrPort]bool  // from where sessions last sent, as of a second ago or their confirmation
}

// inForce is a plan and since when it is in force.
type inForce struct {
	plan  *policy.Plan
	since instant
}

// maximumPlans bounds how many plans of the last moments are kept.
const maximumPlans = 16

func newTable() *table {
	return &table{
		plans:     []inForce{{plan: policy.NewState().Plan(time.Now())}},
		engineers: map[policy.Key]*engineer{},
		stale:     map[policy.Key]bool{},
		due:       map[uint64]*admission{},
		vain:      map[policy.Key]vain{},
		indices:   map[uint32]*entry{},
		inner:     map[netip.Addr]*engineer{},
	}
}

func (h *table) current() *policy.Plan {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.plan()
}

// plan is the plan in force; mu is held.
func (h *table) plan() *policy.Plan { return h.plans[len(h.plans)-1].plan }

// follow puts a plan in force, or looks at the one in force again if it is nil:
// it cuts admissions that the plan does not admit, and sets deadlines anew.
func (h *table) follow(p *policy.Plan, now instant) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p != nil {
		h.plans = append(h.plans, inForce{p, now})
		h.forgetPlans(now.boot)
		if p.Doubt != "" {
			clear(h.due) // the plan cuts every admission
		}
	}
	plan := h.plan()
	for key, e := range h.engineers {
		switch next := plan.ByKey(key); {
		case next == e.policy:
		case policy.SamePeer(next, e.policy):
			e.policy = next
		case len(e.admissions) > 0: // else the device's keys are stale already, or new ones by now
			h.cut(e, nil)
		}
		for _, p := range slices.Clone(e.admissions) {
			var d policy.Decision
			if p.open(now.boot) {
				d = plan.Decide(policy.Query{Key: key, Proven: true, Source: p.address, Ingress: p.ingress}, now.wall)
			}
			if d.Reason == policy.Admitted {
				p.bind(d.Engineer)
				p.extend(d.Until, now)
			} else {
				h.cut(e, p)
			}
		}
		e.setDeadline()
	}
}

// forgetPlans drops plans that were replaced before the last moments; mu is held.
func (h *table) forgetPlans(now time.Duration) {
	n := max(0, len(h.plans)-maximumPlans)
	for n+1 < len(h.plans) && now-h.plans[n+1].since.boot >= settling {
		n++
	}
	h.plans = slices.Delete(h.plans, 0, n)
}

// admittedForLong reports whether the gate has admitted this for longer than
// the last moments, so that it had come to the kernel.
func (h *table) admittedForLong(q policy.Query, now instant) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forgetPlans(now.boot)
	for _, p := range h.plans {
		at := now.wall.Add(-settling)
		if p.since.wall.After(at) {
			at = p.since.wall
		}
		if p.plan.Decide(q, at).Reason != policy.Admitted {
			return false
		}
	}
	return true
}

// recordWithin is how long an admission lasts without its journal entry; the
// status tells late records by the same number.
const recordWithin = view.RecordWithin

// overdue reports whether an initiation has waited too long for its record, as
// the record of another would; mu is held.
func (h *table) overdue(now time.Duration) bool {
	for number, p := range h.due {
		if now >= p.unrecorded[number] {
			return true
		}
	}
	return false
}

// recorded takes note that an admitted initiation is on disk. It reports whether
// that was in time.
func (h *table) recorded(number uint64, now time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, ok := h.due[number]
	if !ok {
		return true // it was cut together with all others
	}
	delete(h.due, number)
	if now >= p.unrecorded[number] {
		return false
	}
	delete(p.unrecorded, number)
	if p.open(now) {
		p.setDeadline()
		p.engineer.setDeadline()
	}
	return true
}

// cut ends an admission of an engineer, or all of them if it is nil. With the
// last one the device's keys are stale: it would go on sending with them as
// soon as the engineer has an admission again.
func (h *table) cut(e *engineer, one *admission) {
	for _, p := range e.admissions {
		if one == nil || p == one {
			p.deadline.Store(0)
		}
	}
	e.admissions = slices.DeleteFunc(e.admissions, (*admission).isCut)
	e.pending = slices.DeleteFunc(e.pending, func(a pending) bool { return a.endpoint.admission.isCut() })
	h.forget(e, func(x *entry) bool { return x.admission.isCut() })
	e.setDeadline()
	if len(e.admissions) == 0 {
		h.stale[e.policy.Key] = true
	}
}

// takeStale reports whether the device holds keys of a cut admission, which the
// caller must remove.
func (h *table) takeStale(key policy.Key) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	stale := h.stale[key]
	delete(h.stale, key)
	return stale
}

// forget removes an engineer's entries that drop selects, from the table too
// unless the index has been given to another one since.
func (h *table) forget(e *engineer, drop func(*entry) bool) {
	e.entries = slices.DeleteFunc(e.entries, func(x *entry) bool {
		if !drop(x) {
			return false
		}
		h.lookup.Lock()
		if h.indices[x.index] == x {
			delete(h.indices, x.index)
		}
		h.lookup.Unlock()
		return true
	})
}

// tooSoon reports whether an engineer was admitted in vain from there again and
// again, and the pause after the last time is not over.
func (h *table) tooSoon(e *policy.Engineer, from netip.AddrPort, now time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := h.vain[e.Key]
	return v.count >= vainFree && v.from == from && policy.SamePeer(v.engineer, e) &&
		now-v.last < min(time.Duration(v.count-vainFree+1)*vainStep, vainMost)
}

// admit makes an admission out of an initiation if the plan in force still
// admits it. announce is called when nothing can fail any more but itself.
func (h *table) admit(q policy.Query, from *udp.Endpoint, sender uint32, number uint64, now instant, announce func(policy.Decision) bool) (*endpoint, policy.Decision) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.plan().Decide(q, now.wall)
	if d.Reason != policy.Admitted {
		return nil, d
	}
	if h.stale[q.Key] || h.overdue(now.boot) || !announce(d) {
		d.Reason = policy.NotReady
		return nil, d
	}
	e := h.engineers[q.Key]
	if e == nil {
		e = &engineer{policy: d.Engineer}
		h.engineers[q.Key] = e
	}
	if !policy.SamePeer(e.policy, d.Engineer) {
		h.unmap(e) // follow has cut its admissions
	}
	e.policy = d.Engineer
	h.lookup.Lock()
	for _, a := range d.Engineer.Addresses {
		h.inner[a] = e
	}
	h.lookup.Unlock()

	i := slices.IndexFunc(e.admissions, func(p *admission) bool {
		return p.address == from.Addr() && (d.Engineer.Line == nil || p.by == from.SrcIfidx()) && p.open(now.boot)
	})
	var p *admission
	if i >= 0 {
		p = e.admissions[i]
		e.admissions = slices.Delete(e.admissions, i, i+1)
	} else {
		p = &admission{engineer: e, address: from.Addr(), unrecorded: map[uint64]time.Duration{}}
		unconfirmed := slices.DeleteFunc(slices.Clone(e.admissions), func(p *admission) bool { return p.confirmed })
		if len(unconfirmed) >= maximumAdmissions {
			h.cut(e, unconfirmed[0])
		}
	}
	e.admissions = append(e.admissions, p)
	p.by, p.ingress = from.SrcIfidx(), q.Ingress
	p.bind(d.Engineer)
	// A renewal puts the open session at stake as well.
	p.unrecorded[number] = now.boot + recordWithin
	h.due[number] = p
	p.extend(d.Until, now)
	e.setDeadline()
	to := &endpoint{from, p}
	e.pending = slices.Delete(e.pending, 0, max(0, len(e.pending)-maximumPending+1))
	e.pending = append(e.pending, pending{sender, number, to, now.boot})
	v := h.vain[q.Key]
	if v.from != from.AddrPort || !policy.SamePeer(v.engineer, d.Engineer) {
		v = vain{engineer: d.Engineer, from: from.AddrPort}
	}
	v.count, v.last = v.count+1, now.boot
	h.vain[q.Key] = v
	return to, d
}

// answered finds the admission that a response answers and registers the
// index that data of the new session will carry. It gives nil if there is
// none, or its time is over.
func (h *table) answered(from *engineer, initiator, index uint32, now time.Duration) *endpoint {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(from.pending, func(a pending) bool { return a.sender == initiator })
	if i < 0 {
		return nil
	}
	a := from.pending[i]
	from.pending = slices.Delete(from.pending, i, i+1)
	p := a.endpoint.admission
	if !p.open(now) || !p.takes(a.endpoint.Endpoint) {
		return nil
	}
	x := &entry{admission: p, index: index, number: a.number, expires: now + device.RejectAfterTime}
	h.trim(from, false, maximumUnconfirmed-1)
	from.entries = append(from.entries, x)
	h.lookup.Lock()
	h.indices[index] = x
	h.lookup.Unlock()
	return a.endpoint
}

// trim drops the oldest confirmed or unconfirmed entries beyond keep.
func (h *table) trim(e *engineer, confirmed bool, keep int) {
	excess := -keep
	for _, x := range e.entries {
		if x.confirmed == confirmed {
			excess++
		}
	}
	h.forget(e, func(x *entry) bool {
		if x.confirmed != confirmed || excess <= 0 {
			return false
		}
		excess--
		return true
	})
}

// confirm takes note that the device completed another handshake of the key: the
// newest one with data. It supersedes admissions at other addresses. It reports
// whether there was a handshake to confirm.
func (h *table) confirm(key policy.Key) (policy.Fact, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.engineers[key]
	if e == nil {
		return policy.Fact{}, false
	}
	var x *entry // the newest
	for _, other := range e.entries {
		if other.unconfirmed() {
			x = other
		}
	}
	if x == nil {
		return policy.Fact{}, false
	}
	for _, older := range e.entries {
		if older.last.Load() != nil && older.admission == x.admission {
			older.confirmed = true
		}
		if older == x {
			break
		}
	}
	x.admission.confirmed = true
	delete(h.vain, key)
	for _, p := range slices.Clone(e.admissions) {
		if p != x.admission {
			h.cut(e, p)
		}
	}
	h.trim(e, true, maximumConfirmed)
	h.noteLive()
	return policy.Fact{
		Kind: policy.Confirmation, Engineer: e.policy, Admission: x.number, Source: x.last.Load().AddrPort, Ingress: x.admission.ingress,
		Decision: policy.Decision{Reason: policy.Admitted, Engineer: e.policy, Until: x.admission.until},
	}, true
}

// noteLive takes note of where sessions are; mu is held.
func (h *table) noteLive() {
	live := map[netip.AddrPort]bool{}
	for _, e := range h.engineers {
		for _, x := range e.entries {
			if x.confirmed {
				live[x.last.Load().AddrPort] = true
			}
		}
	}
	h.lookup.Lock()
	h.live = live
	h.lookup.Unlock()
}

// liveEndpoint reports whether a session was last seen at this address and port.
func (h *table) liveEndpoint(a netip.AddrPort) bool {
	h.lookup.RLock()
	defer h.lookup.RUnlock()
	return h.live[a]
}

// unconfirmed reports whether it is worth asking the device for confirmations.
func (h *table) unconfirmed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.engineers {
		for _, x := range e.entries {
			if x.unconfirmed() {
				return true
			}
		}
	}
	return false
}

// patience is how long an admission may stay unanswered by the device.
const patience = 10 * time.Second

// sweep forgets expired state.
func (h *table) sweep(now time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forgetPlans(now)
	maps.DeleteFunc(h.vain, func(_ policy.Key, v vain) bool { return now-v.last > 2*vainMost })
	for key, e := range h.engineers {
		e.pending = slices.DeleteFunc(e.pending, func(a pending) bool { return now-a.since > patience })
		h.forget(e, func(x *entry) bool { return now >= x.expires })
		for _, p := range slices.Clone(e.admissions) {
			used := slices.ContainsFunc(e.entries, func(x *entry) bool { return x.admission == p }) ||
				slices.ContainsFunc(e.pending, func(a pending) bool { return a.endpoint.admission == p })
			if !used {
				h.cut(e, p)
			}
		}
		if len(e.admissions) == 0 && len(e.pending) == 0 {
			delete(h.engineers, key)
			h.unmap(e)
		}
	}
	h.noteLive()
}

// unmap takes an engineer's tunnel addresses out of the table.
func (h *table) unmap(e *engineer) {
	h.lookup.Lock()
	defer h.lookup.Unlock()
	for _, a := range e.policy.Addresses {
		if h.inner[a] == e {
			delete(h.inner, a)
		}
	}
}

// end cuts everything of a key.
func (h *table) end(key policy.Key) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.engineers[key]; e != nil {
		h.cut(e, nil)
	}
}

// mayPass reports whether an engineer with this tunnel address is inside now.
func (h *table) mayPass(inner netip.Addr, now time.Duration) bool {
	h.lookup.RLock()
	e := h.inner[inner]
	h.lookup.RUnlock()
	return e != nil && int64(now) < e.deadline.Load()
}

// staleKeys copies the set of stale keys.
func (h *table) staleKeys() map[policy.Key]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.stale)
}

// endAll cuts all admissions, and has every peer in the device made anew.
func (h *table) endAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.engineers {
		h.cut(e, nil)
	}
	clear(h.due)
	for _, a := range h.plan().Accesses() {
		h.stale[a.Engineer.Key] = true
	}
}
