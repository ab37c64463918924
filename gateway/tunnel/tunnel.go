package tunnel

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"

	"kidoban/gateway/clock"
	"kidoban/gateway/policy"
	"kidoban/gateway/tally"
)

// Config says what a tunnel is made of.
type Config struct {
	Interface  string         // the name of the TUN interface, up to 15 bytes
	Addresses  []netip.Prefix // the gateway's own, with the prefix in which engineers lie
	ListenPort uint16         // UDP, both families; 0: any
	PrivateKey [32]byte
	MTU        int          // 1280 to 65455; 0: 1420
	Logger     *slog.Logger // nil: none
	UAPI       bool         // answer `wg show`

	// Boottime gives CLOCK_BOOTTIME, and is asked for every batch of packets;
	// nil: the kernel's, right to a millisecond after the machine slept.
	Boottime func() time.Duration
}

// Tunnel is a running WireGuard interface behind the gate. Its methods may be
// called from any goroutine.
type Tunnel struct {
	config Config
	log    *slog.Logger
	boot   func() time.Duration // for packets
	exact  func() time.Duration // for deadlines
	house  *house
	gate   *gate
	peers  *peers
	stamps *stamps

	building sync.Mutex // one Restart or Close at a time
	machine  atomic.Pointer[machine]

	facts    chan policy.Fact
	refusals *tally.Sum
	dropped  chan dropped  // to the porter
	wake     chan struct{} // wakes the clerk
	closing  chan struct{}
	close    sync.Once
	workers  sync.WaitGroup
	failure  atomic.Pointer[failure]
}

// failure is why the tunnel cannot hold its promises.
type failure struct{ err error }

// factsWaiting is how many facts may wait to be read. Refusals take at most
// half of that, so that admissions find room in a flood of them.
const factsWaiting = 1024

// New makes the interface and a WireGuard device on it. Until the first Set
// everything is closed. It needs CAP_NET_ADMIN, and takes the interface and
// the sockets in the network namespace of the calling thread.
func New(c Config) (*Tunnel, error) {
	if c.MTU == 0 {
		c.MTU = device.DefaultMTU
	}
	switch {
	case c.Interface == "" || len(c.Interface) >= unix.IFNAMSIZ:
		return nil, fmt.Errorf("interface %q: allowed is a name of 1 to %d bytes", c.Interface, unix.IFNAMSIZ-1)
	case c.MTU < 1280 || c.MTU > device.MaxContentSize:
		return nil, fmt.Errorf("MTU %d: allowed is 1280 to %d", c.MTU, device.MaxContentSize)
	case c.PrivateKey == [32]byte{}:
		return nil, errors.New("private key: none is given")
	}
	o, err := newOpener(c.PrivateKey)
	if err != nil {
		return nil, err
	}
	t := &Tunnel{
		config:  c,
		log:     c.Logger,
		boot:    c.Boottime,
		exact:   c.Boottime,
		house:   newHouse(),
		stamps:  &stamps{greatest: map[policy.Key][12]byte{}},
		facts:   make(chan policy.Fact, factsWaiting),
		dropped: make(chan dropped, 64),
		wake:    make(chan struct{}, 1),
		closing: make(chan struct{}),
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	if t.boot == nil {
		t.boot, t.exact = clock.Fast(clock.Boot), clock.Boot
	}
	t.refusals = &tally.Sum{Wake: t.kick}
	t.gate = &gate{
		house: t.house, now: t.now, boot: t.boot,
		checker:     &device.CookieChecker{},
		sources:     newLimiter[netip.Addr](sourceBurst, sourceRate, maximumSources),
		proven:      newLimiter[netip.Addr](cookieBurst, cookieRate, maximumSources),
		replies:     newLimiter[struct{}](replyBurst, replyRate, 1),
		live:        newLimiter[netip.AddrPort](liveBurst, liveRate, maximumSources),
		refusals:    t.refusals,
		initiations: make(chan initiation, waiting),
		renewals:    make(chan initiation, renewing),
		inspect:     t.Inspect,
		seen:        t.kick,
		again:       make(chan admitted, 1),
		answers:     make(chan struct{}, inFlight),
		inner:       newSockets(),
	}
	t.gate.checker.Init(o.public)
	t.peers = newPeers(t.house)
	if err := t.build(); err != nil {
		return nil, err
	}
	p := &porter{
		t: t, opener: o, secrets: map[policy.Key][32]byte{},
		engineers: newLimiter[policy.Key](engineerBurst, engineerRate, 1<<16),
		admitted:  newLimiter[policy.Key](admissionBurst, admissionRate, 1<<16),
		inspected: newLimiter[struct{}](inspectBurst, inspectRate, 1),
	}
	t.workers.Go(p.run)
	t.workers.Go(t.clerk)
	return t, nil
}

// Restart makes interface and device anew, as New did: the way out of a
// failure. Every session ends; plan, counts and timestamps stay. It may take
// a second.
func (t *Tunnel) Restart() error {
	t.building.Lock()
	defer t.building.Unlock()
	select {
	case <-t.closing:
		return errors.New("the tunnel is closed")
	default:
	}
	t.house.endAll()
	t.machine.Load().close()
	t.failure.Store(nil)
	if err := t.build(); err != nil {
		t.fail(err)
		return err
	}
	t.kick()
	return nil
}

// Close shuts the gate, removes the interface and waits until all has ended.
func (t *Tunnel) Close() error {
	t.building.Lock()
	defer t.building.Unlock()
	t.close.Do(func() {
		t.house.follow(policy.NewState().Plan(time.Now()), t.now())
		close(t.closing)
		t.machine.Load().close()
		t.workers.Wait()
	})
	return nil
}

// Port is the UDP port in use.
func (t *Tunnel) Port() uint16 { return uint16(t.gate.port.Load()) }

// Facts gives admissions, confirmations, refusals and failures. It must be
// read: when it is full, nobody new is admitted, and an admission that is not
// answered with Recorded is cut. It is never closed.
func (t *Tunnel) Facts() <-chan policy.Fact { return t.facts }

// Set puts a plan in force. When it returns, nothing passes any more in
// either direction that the plan does not admit. It waits for no device, disk
// or network; the device's peers follow by themselves. The error is that of
// Err: the plan is in force all the same.
func (t *Tunnel) Set(p *policy.Plan) error {
	if p == nil {
		return errors.New("no plan: allowed is one that opens nothing")
	}
	t.house.follow(p, t.now())
	t.kick()
	return t.Err()
}

// Cut ends whatever the engineer has open. The plan still holds: a new
// handshake may be admitted.
func (t *Tunnel) Cut(e *policy.Engineer) {
	t.house.end(e.Key)
	t.kick()
}

// Recorded tells that an admission is on disk. Until then it lasts for a
// second only, and what its engineer has open at that address with it: the
// gate holds that by itself, whatever the caller does. While one has waited
// longer than that, nobody new is admitted. The answer is whether this came
// in time; if not, what was open has been cut.
func (t *Tunnel) Recorded(admission uint64) bool {
	return t.house.recorded(admission, t.boot())
}

// Inspect names who sent a UDP payload that the kernel dropped on its way to
// the WireGuard port: it becomes a Refusal. Nothing is answered, and nothing
// changes, but that an initiation from the engineer's own address cannot be
// played again. It never blocks; what exceeds the rate is counted, not opened.
func (t *Tunnel) Inspect(payload []byte, source netip.AddrPort) {
	d := dropped{size: len(payload), source: unmapped(source)}
	if d.size == len(d.packet) {
		copy(d.packet[:], payload)
	}
	select {
	case t.dropped <- d:
	default:
		now := t.now()
		decision := t.house.current().Decide(policy.Query{Fault: policy.RateLimited, Source: d.source.Addr()}, now.wall)
		t.refusals.Add(policy.Fact{At: now.wall, Source: d.source, Decision: decision})
	}
}

// Peers lists every key that the device has known since the start and that the
// policy in force lists, or the one before it.
func (t *Tunnel) Peers() []Peer { return t.peers.all() }

// SetPeers goes on with what another tunnel counted, which is closed. It is
// called before the first Set.
func (t *Tunnel) SetPeers(counted []Peer) { t.peers.takeOver(counted) }

// Timestamps gives the greatest TAI64N timestamp seen of every key.
func (t *Tunnel) Timestamps() map[policy.Key][12]byte { return t.stamps.all() }

// SetTimestamps replaces them, with what a journal kept. An empty map forgets
// them, so that a key whose owner's clock was ahead may enter again; then
// whatever is open ends, since the device remembers too.
func (t *Tunnel) SetTimestamps(all map[policy.Key][12]byte) {
	if len(all) == 0 {
		t.house.endAll()
	}
	t.stamps.set(all)
	t.kick()
}

// Unshown says why `wg show` shows nothing, or is nil. Nothing else suffers
// from that.
func (t *Tunnel) Unshown() error {
	if u := t.machine.Load().uapi; u != nil {
		if err := u.problem.Load(); err != nil {
			return *err
		}
	}
	return nil
}

// Err says why the tunnel cannot hold its promises now, or is nil. While it
// is not, nobody new is admitted.
func (t *Tunnel) Err() error {
	if f := t.failure.Load(); f != nil {
		return f.err
	}
	return nil
}

func (t *Tunnel) now() instant {
	boot := t.exact()
	return instant{boot, time.Now()}
}

func (t *Tunnel) kick() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// send reports a fact if there is room.
func (t *Tunnel) send(f policy.Fact) bool {
	if f.Kind == policy.Refusal && len(t.facts) >= factsWaiting/2 {
		return false
	}
	select {
	case t.facts <- f:
		return true
	default:
		return false
	}
}

// fail takes note of why the tunnel cannot hold its promises.
func (t *Tunnel) fail(err error) {
	t.failure.CompareAndSwap(nil, &failure{err})
	t.kick()
}

// ready makes sure that a handshake of the engineer can succeed.
func (t *Tunnel) ready(e *policy.Engineer) error {
	if err := t.Err(); err != nil {
		return err
	}
	return t.peers.ensure(e)
}
