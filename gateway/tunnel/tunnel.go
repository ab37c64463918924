package tunnel

import (
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"

	"kidoban/gateway/clock"
	"kidoban/gateway/policy"
	"kidoban/gateway/tally"
	"kidoban/gateway/view"
)

// Config is the settings of a tunnel. Its addresses come with the policy.
type Config struct {
	Interface  string       // the name of the TUN interface, up to 15 bytes
	ListenPort uint16       // UDP, both families; 0: any
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
	clocks
	config        Config
	log           *slog.Logger
	table         *table
	gate          *gate
	authenticator *authenticator
	peers         *peers

	building  sync.Mutex // held by Set, SetKey, Restart and Close; guards private and addresses
	private   [32]byte   // zero: there is none yet
	addresses []netip.Prefix
	machine   atomic.Pointer[machine] // never nil; a closed one while there is none

	facts   chan policy.Fact
	wake    chan struct{} // wakes the reconciler
	closing chan struct{} // closed by Close
	workers sync.WaitGroup
	failure atomic.Pointer[failure]
}

// instant is one moment on both clocks. The boot clock is read first, so that a
// delay between the readings makes a deadline earlier.
type instant struct {
	boot time.Duration
	wall time.Time
}

type clocks struct {
	boot func() time.Duration // for packets: fast
	now  func() instant       // for deadlines: exact
}

func newClocks(boot func() time.Duration) clocks {
	exact := boot
	if boot == nil {
		boot, exact = clock.Fast(clock.Boot), clock.Boot
	}
	return clocks{boot, func() instant {
		at := exact()
		return instant{at, time.Now()}
	}}
}

// failure is why the tunnel cannot hold its promises.
type failure struct{ err error }

// factsWaiting is how many facts may wait to be read. Refusals take at most
// half of that, so that admissions find room in a flood of them.
const factsWaiting = 1024

// New prepares a tunnel. Set makes the interface and the WireGuard device, once there
// is a key (SetKey).
func New(c Config) (*Tunnel, error) {
	if c.MTU == 0 {
		c.MTU = device.DefaultMTU
	}
	switch {
	case c.Interface == "" || len(c.Interface) >= unix.IFNAMSIZ:
		return nil, fmt.Errorf("interface %q: allowed is a name of 1 to %d bytes", c.Interface, unix.IFNAMSIZ-1)
	case c.MTU < 1280 || c.MTU > device.MaxContentSize:
		return nil, fmt.Errorf("MTU %d: allowed is 1280 to %d", c.MTU, device.MaxContentSize)
	}
	// A random key stands in until SetKey. A known key would be a hole: its owner could
	// prove to be any engineer.
	var unknown [32]byte
	rand.Read(unknown[:]) // never fails
	o, err := newOpener(unknown)
	if err != nil {
		return nil, err
	}
	o.standIn = true
	t := &Tunnel{
		config:  c,
		clocks:  newClocks(c.Boottime),
		log:     c.Logger,
		table:   newTable(),
		facts:   make(chan policy.Fact, factsWaiting),
		wake:    make(chan struct{}, 1),
		closing: make(chan struct{}),
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.gate = newGate(t.table, t.clocks, o.public, &tally.Sum{Wake: t.kick}, t.kick)
	t.authenticator = newAuthenticator(t, o)
	t.peers = newPeers(t.table)
	none := &machine{}
	none.closed.Store(true)
	t.machine.Store(none)
	t.workers.Go(t.authenticator.run)
	t.workers.Go(t.reconcile)
	return t, nil
}

// SetKey gives the gateway's private key. If there was another, every session ends.
func (t *Tunnel) SetKey(private [32]byte) error {
	o, err := newOpener(private)
	if err != nil {
		return err
	}
	t.building.Lock()
	defer t.building.Unlock()
	if private == t.private {
		return nil
	}
	t.private = private
	t.gate.checker.Init(o.public)
	t.authenticator.opener.Store(o)
	if t.machine.Load().closed.Load() {
		return nil // Set builds it
	}
	return t.rebuild()
}

// Restart makes interface and device anew: the way out of a failure. Every
// session ends; plan, counts and timestamps stay. It may take a second. Before
// the first policy it does nothing.
func (t *Tunnel) Restart() error {
	t.building.Lock()
	defer t.building.Unlock()
	if t.isClosed() {
		return errors.New("the tunnel is closed")
	}
	if t.addresses == nil {
		return nil
	}
	err := t.rebuild()
	if err != nil {
		t.fail(err)
	}
	return err
}

// suit gives the tunnel the addresses of a policy.
func (t *Tunnel) suit(p *policy.Policy) error {
	t.building.Lock()
	defer t.building.Unlock()
	built := !t.machine.Load().closed.Load()
	if p == nil || t.isClosed() || t.private == [32]byte{} || built && slices.Equal(p.Tunnel.Addresses, t.addresses) {
		return nil
	}
	if built {
		t.log.Warn("the tunnel's own addresses changed: every session ends")
	}
	t.addresses = slices.Clone(p.Tunnel.Addresses)
	return t.rebuild()
}

// rebuild replaces interface and device; building is held.
func (t *Tunnel) rebuild() error {
	t.table.endAll()
	t.machine.Load().close()
	t.failure.Store(nil)
	defer t.kick()
	return t.build()
}

func (t *Tunnel) isClosed() bool {
	select {
	case <-t.closing:
		return true
	default:
		return false
	}
}

// Close shuts the gate, removes the interface and waits until all has ended.
func (t *Tunnel) Close() error {
	t.building.Lock()
	defer t.building.Unlock()
	if !t.isClosed() {
		t.table.follow(policy.NewState().Plan(time.Now()), t.now())
		close(t.closing)
		t.machine.Load().close()
		t.workers.Wait()
	}
	return nil
}

// Port is the UDP port in use.
func (t *Tunnel) Port() uint16 { return uint16(t.gate.port.Load()) }

// Facts gives admissions, confirmations, refusals and failures. It must be read:
// while it is full, the gate admits nobody new, and an admission that is not
// answered with Recorded is cut. It is never closed.
func (t *Tunnel) Facts() <-chan policy.Fact { return t.facts }

// Set puts a plan in force. When it returns, nothing passes any more in either
// direction that the plan does not admit. It waits for no disk or network; the
// device's peers follow by themselves. The first policy, and one with other
// tunnel addresses, has interface and device made anew. That takes CAP_NET_ADMIN
// and up to a second, in the network namespace of the calling thread.
//
// After an error the plan is in force all the same.
func (t *Tunnel) Set(p *policy.Plan) error {
	if p == nil {
		return errors.New("no plan: allowed is one that opens nothing")
	}
	t.table.follow(p, t.now())
	t.kick()
	if err := t.suit(p.Policy); err != nil {
		return err
	}
	return t.Err()
}

// Cut ends the engineer's admissions. The plan still holds: a new handshake may
// be admitted.
func (t *Tunnel) Cut(e *policy.Engineer) {
	t.table.end(e.Key)
	t.kick()
}

// Recorded tells that an admission is on disk. Without it the gate by itself
// cuts the engineer at that address after a second, and then admits nobody new.
// The answer is whether it came in time.
func (t *Tunnel) Recorded(number uint64) bool {
	return t.table.recorded(number, t.boot())
}

// Inspect names the sender of a UDP payload that the kernel dropped: it becomes
// a Refusal. Nothing is answered, and nothing changes, but that an initiation
// from the engineer's own address cannot be played again. by is the index of the
// interface by which it came; 0: unknown. It never blocks; payloads beyond the rate
// are counted, not opened.
func (t *Tunnel) Inspect(payload []byte, source netip.AddrPort, by int32) {
	t.gate.inspect(payload, netip.AddrPortFrom(source.Addr().Unmap(), source.Port()), by)
}

// Traffic counts the bytes of every key that the device has known since the
// start and that the policy in force lists, or the one before it.
func (t *Tunnel) Traffic() iter.Seq2[policy.Key, view.Traffic] {
	return func(yield func(policy.Key, view.Traffic) bool) {
		for _, p := range *t.peers.counts.Load() {
			if !yield(p.key, p.Traffic) {
				return
			}
		}
	}
}

// SetTimestamps replaces the greatest timestamp of each key. An empty map
// forgets all, so that a key whose owner's clock was ahead may enter again. Then
// all admissions end, since the device remembers timestamps too.
func (t *Tunnel) SetTimestamps(all map[policy.Key][12]byte) {
	if len(all) == 0 {
		t.table.endAll()
	}
	t.authenticator.stamps.set(all)
	t.kick()
}

// Hints gives hints about the tunnel for operators.
func (t *Tunnel) Hints() (hints []view.Hint) {
	m := t.machine.Load()
	if m.uapi != nil {
		if err := m.uapi.problem.Load(); err != nil {
			hints = append(hints, view.Hint{Message: view.Say("unshown", view.Args{"cause": *err, "uid": os.Geteuid()})})
		}
	}
	if m.link != nil {
		if unset := m.link.unset.Load(); unset != nil && len(*unset) > 0 {
			hints = append(hints, view.Hint{Message: view.Say("ipv6_off", view.Args{"addresses": *unset, "interface": t.config.Interface})})
		}
	}
	return hints
}

// Err says why the tunnel cannot hold its promises now, or is nil. While it
// is not, nobody new is admitted.
func (t *Tunnel) Err() error {
	if f := t.failure.Load(); f != nil {
		return f.err
	}
	return nil
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

func (t *Tunnel) fail(err error) {
	t.failure.CompareAndSwap(nil, &failure{err})
	t.kick()
}

// ready makes sure that a handshake of the engineer can succeed.
func (t *Tunnel) ready(e *policy.Engineer) error {
	if err := t.Err(); err != nil {
		return err
	}
	if t.machine.Load().closed.Load() {
		return errors.New("there is no device")
	}
	return t.peers.ensure(e)
}
