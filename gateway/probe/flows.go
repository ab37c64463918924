package probe

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// tunnelDevice is the interface of a caller's WireGuard.
const tunnelDevice = "wg0"

// inner is a caller with one of its addresses that the site sees: it is inside.
type inner struct {
	*caller
	own    netip.Addr
	listed service           // a service that an open window lists
	others map[Trial]service // services that no open window lists
	device *lab.Capture      // of the interface by which the caller sends and receives
}

// flows tries flows that must pass, and flows that must not.
func (t *trials) flows(all []*caller) {
	t.inside = nil
	for _, x := range all {
		for _, six := range []bool{false, true} {
			if i := t.arrive(x, six); i != nil {
				t.inside = append(t.inside, i)
			}
		}
	}
	for _, x := range all {
		t.connect(x)
	}
	t.each(t.reaches)
	t.refusals()
}

// leave closes the WireGuard clients of all callers.
func (t *trials) leave() {
	for x, client := range t.clients {
		client.Close()
		delete(t.clients, x)
	}
}

// each runs a trial for all that are inside, at once.
func (t *trials) each(trial func(*inner)) {
	var group sync.WaitGroup
	for _, i := range t.inside {
		group.Go(func() { trial(i) })
	}
	group.Wait()
}

// arrive finds a service that a caller may reach by IPv4 or IPv6, and has the site serve it. nil: there is none.
func (t *trials) arrive(x *caller, six bool) *inner {
	n := slices.IndexFunc(x.Addresses, func(a netip.Addr) bool { return a.Is6() == six })
	if n < 0 {
		return nil
	}
	s, ok := t.listedService(x, six)
	if !ok {
		return nil
	}
	i := &inner{caller: x, own: x.Addresses[n], listed: s, others: map[Trial]service{}}
	t.serve(s)
	for _, what := range []Trial{OtherPort, OtherHost} {
		if other, ok := t.unlisted(i, what); ok {
			t.serve(other)
			i.others[what] = other
		} else {
			t.add(x, Check{Trial: what, From: i.own.String(), LeftOut: NoOther})
		}
	}
	return i
}

// listedService returns a service that an open window lists. It prefers TCP to UDP, and UDP to echo requests.
func (t *trials) listedService(x *caller, six bool) (service, bool) {
	var open []*policy.Window
	for _, g := range t.plan.GrantsOf(x.Engineer) {
		if g.Contains(time.Now()) {
			open = append(open, g.Window)
		}
	}
	return serviceIn(open, six)
}

// serviceIn is listedService for these windows.
func serviceIn(windows []*policy.Window, six bool) (found service, ok bool) {
	rank := func(s service) int { return slices.Index([]string{"tcp", "udp", ping}, s.network) }
	for _, w := range windows {
		for _, target := range w.Targets {
			for _, s := range target.Services {
				one, fits := serviceOf(target, s)
				if fits && one.to.Addr().Is6() == six && (!ok || rank(one) < rank(found)) {
					found, ok = one, true
				}
			}
		}
	}
	return found, ok
}

// serviceOf returns a service of a target, at one of its addresses. It is false for a protocol that the probe does not know.
func serviceOf(target *policy.Target, s policy.Service) (service, bool) {
	a := target.Prefix.Masked().Addr()
	if a.BitLen()-target.Prefix.Bits() > 1 {
		a = a.Next()
	}
	switch s.Protocol {
	case policy.TCP:
		return service{"tcp", netip.AddrPortFrom(a, s.First)}, true
	case policy.UDP:
		return service{"udp", netip.AddrPortFrom(a, s.First)}, true
	case policy.ICMP, policy.ICMPv6:
		return service{ping, netip.AddrPortFrom(a, 0)}, true
	}
	return service{}, false
}

// connect starts the WireGuard client of a caller that is inside, from one of its sources, and its own server.
func (t *trials) connect(x *caller) {
	var own, to []netip.Prefix
	for _, i := range t.inside {
		if i.caller == x {
			own = append(own, single(i.own))
			to = append(to, single(i.listed.to.Addr()))
			for _, other := range i.others {
				to = append(to, single(other.to.Addr()))
			}
		}
	}
	if own == nil {
		return
	}
	name := port
	if !x.Plain() {
		name = tunnelDevice
		to = append(to, t.plan.Policy.Tunnel.Addresses...) // as networks
		from := cmp.Or(x.sources[0], x.sources[1])
		t.clients[x] = x.host.NewClient(lab.ClientConfig{PrivateKey: x.private, PeerKey: t.gate.public, PresharedKey: x.PresharedKey,
			Endpoint: t.door(from), Interface: name, Addresses: own, AllowedIPs: to, MTU: t.config.MTU})
	}
	device := x.host.CaptureUntimed(name)
	for _, i := range t.inside {
		if i.caller == x {
			i.device = device
			x.host.Echo("tcp", netip.AddrPortFrom(i.own, inwardPort).String())
		}
	}
}

// inwardPort is where callers listen.
const inwardPort = 7

// reaches exchanges a message with a listed service.
func (t *trials) reaches(i *inner) {
	c := i.check(Reaches, i.listed, Entry)
	defer func() { t.add(i.caller, c) }()
	if err := t.handshake(i.caller); err != nil {
		c.Reason = err.Error()
		return
	}
	ctx, cancel := within(eventually)
	defer cancel()
	err := lab.Wait(ctx, func() error { return i.exchange(3 * time.Second) })
	if err == nil {
		c.Seen = Entry
	} else {
		c.Reason = err.Error()
	}
}

// handshake makes a caller's WireGuard client do its handshake. It does nothing if that is done, or on a plain line.
func (t *trials) handshake(x *caller) (err error) {
	client := t.clients[x]
	if client == nil {
		return nil
	}
	x.shaking.Lock()
	defer x.shaking.Unlock()
	for range tries {
		if !client.Status().LastHandshake.IsZero() {
			return nil
		}
		ctx, cancel := within(eventually / 2)
		err = client.Handshake(ctx)
		cancel()
	}
	return err
}

func (i *inner) check(what Trial, s service, expected Sight) Check {
	return Check{Trial: what, From: i.own.String(), To: s.String(), Expected: expected, Seen: Unheard}
}

// message sends one message and reads the answer.
func message(ctx context.Context, h *lab.Host, source netip.Addr, s service) error {
	if s.network == ping {
		_, err := h.Ping(ctx, s.to.Addr())
		return err
	}
	c, err := h.DialFrom(ctx, s.network, netip.AddrPortFrom(source, 0), s.to.String())
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	answer := make([]byte, 16)
	if _, err = c.Write([]byte("probe")); err == nil {
		_, err = c.Read(answer)
	}
	return err
}

// exchange is message to the listed service.
func (i *inner) exchange(in time.Duration) error {
	ctx, cancel := within(in)
	defer cancel()
	return message(ctx, i.host, i.own, i.listed)
}

// attempt is a flow that must not pass.
type attempt struct {
	*caller
	check  Check
	from   *lab.Host
	source netip.Addr
	to     service
	wire   *lab.Capture // where its packets would arrive
	// refusal recognizes the refusal of this flow, which proves that it was tried. wanted is the reason that it must have.
	// nil: the ruleset counts such packets, and names none.
	refusal func(policy.Fact) bool
	wanted  policy.Reason
}

// outward is an attempt of a caller to reach the site, from an address of its host.
func (t *trials) outward(what Trial, x *caller, source netip.Addr, to service) *attempt {
	a := &attempt{caller: x, from: x.host, source: source, to: to, wire: t.wire,
		check: Check{Trial: what, From: source.String(), To: to.String(), Expected: Nothing, Seen: Unheard}}
	engineer := t.plan.ByAddress(source)
	q := policy.Query{To: to.to, Proto: to.protocol()}
	if engineer != nil {
		q.Key, q.Proven = engineer.Key, true
	}
	if x.Plain() {
		q.Ingress = t.ingress(x)
	}
	a.wanted = t.plan.Decide(q, time.Now()).Reason
	a.refusal = func(f policy.Fact) bool {
		return f.Engineer == engineer && f.To == to.to && f.Proto == to.protocol() && (engineer != nil || f.Source.Addr() == source)
	}
	return a
}

// refusals tries flows that are forbidden to those inside.
func (t *trials) refusals() {
	var all []*attempt
	for _, i := range t.inside {
		for what, to := range i.others {
			all = append(all, t.outward(what, i.caller, i.own, to))
		}
		all = append(all, t.beside(i)...)
		if stranger := i.outsider[family(i.own)]; i.Plain() && i.listed.network != ping {
			all = append(all, t.outward(Outsider, i.caller, stranger, i.listed))
		}
		s := service{"tcp", netip.AddrPortFrom(i.own, inwardPort)}
		all = append(all, &attempt{caller: i.caller, from: t.site, source: i.listed.to.Addr(), to: s, wire: i.device,
			check: Check{Trial: Inward, From: i.listed.to.Addr().String(), To: s.String(), Expected: Nothing, Seen: Unheard}})
	}
	t.attempt(all)
}

// beside tries flows from one that is inside to the gateway itself, and to an engineer of another vendor.
func (t *trials) beside(i *inner) (all []*attempt) {
	if i.Plain() {
		return nil
	}
	add := func(to netip.Addr, wire *lab.Capture) {
		a := t.outward(OtherHost, i.caller, i.own, service{"tcp", netip.AddrPortFrom(to, 22)})
		if a.wire = wire; a.wanted == policy.UnlistedTarget {
			all = append(all, a)
		}
	}
	for _, p := range t.plan.Policy.Tunnel.Addresses {
		if p.Addr().Is6() == i.own.Is6() {
			add(p.Addr(), t.wire) // no server listens there: a reset without a refusal is not Nothing
		}
	}
	if n := slices.IndexFunc(t.inside, func(o *inner) bool { return o.Vendor != i.Vendor && !o.Plain() && o.own.Is6() == i.own.Is6() }); n >= 0 {
		add(t.inside[n].own, t.inside[n].device)
	}
	return all
}

// attempt tries flows at once, and adds their checks.
func (t *trials) attempt(all []*attempt) {
	t.wire.Forget()
	before := t.inward()
	var group sync.WaitGroup
	for _, a := range all {
		group.Go(func() { t.try(a) })
	}
	group.Wait()
	heard := t.inward() > before
	for _, a := range all {
		if a.refusal == nil && a.check.Seen == Unheard && heard {
			a.check.Seen = Nothing
		}
		if len(a.wire.Packets(lab.Incoming, begins(a.to.to))) > 0 {
			a.check.Seen = Passed
		}
		t.add(a.caller, a.check)
	}
}

// inward counts packets that the ruleset dropped on their way to callers.
func (t *trials) inward() uint64 { return t.gate.dropped("inward") + t.gate.dropped("forward") }

// begins matches packets for an address and port, of TCP those that begin a connection.
func begins(to netip.AddrPort) func(lab.Packet) bool {
	const syn, ack = 2, 16
	return func(p lab.Packet) bool {
		return p.Destination == to && (p.Protocol != policy.TCP || p.Flags&(syn|ack) == syn)
	}
}

// try makes an attempt, and waits for the refusal.
func (t *trials) try(a *attempt) {
	for range tries {
		ctx, cancel := within(patience)
		err := message(ctx, a.from, a.source, a.to)
		cancel()
		switch {
		case err == nil:
			a.check.Seen = Passed
			return
		case a.refusal == nil:
			return
		}
		if refusal, heard := t.gate.refused(a.refusal); heard {
			a.check.Reason = refusal.Decision.Reason.String()
			if a.check.Seen = Nothing; refusal.Decision.Reason != a.wanted {
				a.check.Seen = Mistaken
			}
			return
		}
	}
}

// unlisted finds a service that no open window of the caller lists: for OtherPort another port of the listed address, for
// OtherHost another address, which is one of the policy's targets if possible.
func (t *trials) unlisted(i *inner, what Trial) (service, bool) {
	lists := func(s service) bool {
		return t.plan.Decide(policy.Query{Key: i.Key, Proven: true, To: s.to, Proto: s.protocol()}, time.Now()).Reason != policy.UnlistedTarget
	}
	if what == OtherPort {
		for _, network := range []string{"tcp", "udp"} {
			for n := range 1 << 10 {
				s := service{network, netip.AddrPortFrom(i.listed.to.Addr(), uint16(20000+(i.place<<10+n*7)%40000))}
				if !lists(s) {
					return s, true
				}
			}
		}
		return service{}, false
	}
	for _, target := range t.plan.Policy.Targets {
		for _, one := range target.Services {
			if s, ok := serviceOf(target, one); ok && s.to.Addr().Is4() == i.own.Is4() && s.network != ping && !lists(s) {
				return s, true
			}
		}
	}
	s := service{"tcp", netip.AddrPortFrom(t.free.free(i.own.Is6()), 22)}
	return s, s.to.Addr().IsValid()
}

// held is a flow that goes on as long as it is answered.
type held struct {
	*inner
	mu   sync.Mutex
	last time.Time // of the newest answer
}

func (h *held) answered() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// slack is how long after the end of a window the kernel may let packets pass, as the README promises.
const slack = time.Second

// ends holds a flow of each that is inside until its window ends, and looks whether packets pass after that. Only the
// deadlines of gate and ruleset end the flows: no new plan is set at the end.
func (t *trials) ends() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	var all []*held
	for _, i := range t.inside {
		h := &held{inner: i}
		all = append(all, h)
		group.Go(func() { h.hold(ctx) })
	}
	flows := func(since time.Time) {
		waiting, stop := within(eventually / 2)
		defer stop()
		_ = lab.Wait(waiting, func() error { // a flow without answers is Unheard below
			for _, h := range all {
				if !h.answered().After(since) {
					return fmt.Errorf("no answer from %v", h.listed)
				}
			}
			return nil
		})
	}
	flows(time.Time{})
	end := time.Now().Add(untilEnd)
	if err := t.gate.set(ending(t.plan, end)); err != nil {
		return err
	}
	set := time.Now()
	time.Sleep(time.Until(end.Add(slack)))
	t.wire.Forget()
	for _, h := range all {
		h.device.Forget()
	}
	time.Sleep(patience)
	for _, h := range all {
		c := h.check(WindowEnds, h.listed, Nothing)
		switch {
		case h.answered().After(end.Add(slack)),
			len(t.wire.Packets(lab.Incoming, func(p lab.Packet) bool { return p.Destination == h.listed.to }))+
				len(h.device.Packets(lab.Incoming, lab.From(h.listed.to.Addr()))) > 0:
			c.Seen = Passed
		case h.answered().After(set):
			c.Seen = Nothing
		}
		t.add(h.caller, c)
	}
	return nil
}

// untilEnd is how long windows stay open once flows are held.
const untilEnd = time.Second

// hold exchanges messages until the context ends.
func (h *held) hold(ctx context.Context) {
	const pause = 20 * time.Millisecond
	for ctx.Err() == nil {
		if h.listed.network == ping {
			if h.exchange(patience) == nil {
				h.answer()
			}
			time.Sleep(pause)
			continue
		}
		dialing, cancel := within(patience)
		conn, err := h.host.DialFrom(dialing, h.listed.network, netip.AddrPortFrom(h.own, 0), h.listed.to.String())
		cancel()
		if err != nil {
			continue
		}
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		buffer := make([]byte, 16)
		for err == nil {
			if h.listed.network == "udp" { // a datagram may be lost
				_ = conn.SetReadDeadline(time.Now().Add(patience))
			}
			if _, err = conn.Write([]byte("probe")); err == nil {
				_, err = conn.Read(buffer)
			}
			if err == nil {
				h.answer()
				time.Sleep(pause)
			}
		}
		stop()
		conn.Close()
	}
}

func (h *held) answer() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = time.Now()
}
