package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/device"

	"kidoban/gateway/clock"
	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

func TestMain(m *testing.M) { lab.Main(m) }

// site is a gateway and who is around it:
//
//	medisys   203.0.113.10 ──┐
//	other    198.51.100.10 ──┼── gateway: tunnel kido0, 10.99.0.1
//	outsider    192.0.2.66 ──┘
type site struct {
	t                                 testing.TB
	gateway, medisys, other, outsider *lab.Host
	tunnel                            *Tunnel
	private, public                   lab.Key
	sato, suzuki, tanaka              *engineerAt
	state                             *policy.State
	boot                              *shiftedClock

	deaf  atomic.Bool // nobody records what was admitted
	mu    sync.Mutex
	facts []policy.Fact
}

// engineerAt is an engineer of the policy with the private key.
type engineerAt struct {
	*policy.Engineer
	private lab.Key
}

// shiftedClock is the boot clock with what a test adds to it, which may also
// run slowly for a while.
type shiftedClock struct {
	mu        sync.Mutex
	by        time.Duration
	slow      bool
	slowSince time.Duration // by the boot clock
}

// slowness is how much slower a slow clock runs: what must be done within a
// second may take a busy machine as long as any other wait of a test.
const slowness = 20

func (c *shiftedClock) now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read()
}

func (c *shiftedClock) read() time.Duration {
	now := clock.Boot()
	if c.slow {
		now = c.slowSince + (now-c.slowSince)/slowness
	}
	return now + c.by
}

// setSlow makes it run slowly from now on, or as clocks do.
func (c *shiftedClock) setSlow(slow bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	reads, now := c.read(), clock.Boot()
	c.slow, c.slowSince, c.by = slow, now, reads-now
}

func (c *shiftedClock) advance(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by += by
}

var (
	medisysEndpoint  = netip.MustParseAddrPort("203.0.113.1:51820")
	otherEndpoint    = netip.MustParseAddrPort("198.51.100.1:51820")
	outsiderEndpoint = netip.MustParseAddrPort("192.0.2.1:51820")
	inside           = netip.MustParseAddr("10.99.0.1")
)

func newSite(t testing.TB) *site {
	t.Helper()
	s, _ := newSiteIn(t)
	return s
}

// newSiteIn gives the lab as well, for more links.
func newSiteIn(t testing.TB) (*site, *lab.Lab) {
	t.Helper()
	l := lab.New(t)
	s := &site{t: t, gateway: l.Host("gateway"), medisys: l.Host("medisys"), other: l.Host("other"), outsider: l.Host("outsider"), boot: &shiftedClock{}}
	l.Link(s.gateway, "eth0", lab.Prefixes("203.0.113.1/24", "2001:db8:1::1/64"), s.medisys, "eth0", lab.Prefixes("203.0.113.10/24", "2001:db8:1::10/64"))
	l.Link(s.gateway, "eth1", lab.Prefixes("198.51.100.1/24"), s.other, "eth0", lab.Prefixes("198.51.100.10/24"))
	l.Link(s.gateway, "eth2", lab.Prefixes("192.0.2.1/24"), s.outsider, "eth0", lab.Prefixes("192.0.2.66/24"))
	s.private, s.public = lab.NewKey()
	s.sato, s.suzuki, s.tanaka = newEngineer("sato", 2), newEngineer("suzuki", 3), newEngineer("tanaka", 4)
	s.sato.PresharedKey, _ = lab.NewKey()
	s.state = policy.NewState()
	p := testPolicy(
		testVendor("medisys", lab.Prefixes("203.0.113.0/28", "2001:db8:1::/64"), s.sato.Engineer, s.suzuki.Engineer),
		testVendor("other", lab.Prefixes("198.51.100.10/32"), s.tanaka.Engineer),
	)
	if err := s.state.Apply(time.Now(), "test", policy.PolicyLoaded{Digest: "test", Policy: p}); err != nil {
		t.Fatal(err)
	}
	s.start()
	t.Cleanup(func() { s.tunnel.Close() })
	return s, l
}

// start makes the tunnel, once more if there was one.
func (s *site) start() {
	s.t.Helper()
	if s.tunnel != nil {
		s.tunnel.Close()
	}
	err := s.gateway.Do(func() (err error) {
		s.tunnel, err = New(Config{
			Interface: "kido0", ListenPort: 51820, UAPI: true, Boottime: s.boot.now,
		})
		if err == nil && s.private != (lab.Key{}) {
			err = s.tunnel.SetKey(s.private)
		}
		if err != nil {
			return err
		}
		if err := s.tunnel.Set(s.state.Plan(time.Now()).Doubted("closed")); err != nil {
			return err
		}
		return s.tunnel.Set(policy.NewState().Plan(time.Now()))
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, t := s.t.Context(), s.tunnel
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case f := <-t.Facts():
				if f.Kind == policy.Admission && !s.deaf.Load() {
					t.Recorded(f.Admission)
				}
				s.mu.Lock()
				s.facts = append(s.facts, f)
				s.mu.Unlock()
			}
		}
	}()
}

func newEngineer(name string, host byte) *engineerAt {
	private, public := lab.NewKey()
	return &engineerAt{&policy.Engineer{Name: name, Key: public, Addresses: []netip.Addr{
		netip.AddrFrom4([4]byte{10, 99, 0, host}), netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x99, 15: host}),
	}}, private}
}

func testVendor(name string, sources []netip.Prefix, engineers ...*policy.Engineer) *policy.Vendor {
	v := &policy.Vendor{Name: name, Sources: sources, Engineers: engineers}
	for _, e := range engineers {
		e.Vendor, e.Sources = v, sources
	}
	today := policy.DateOf(time.Now().UTC())
	v.Windows = []*policy.Window{{
		Vendor: v, Name: "work", Engineers: engineers, ApprovedBy: "test",
		Schedule: &policy.Once{From: policy.LocalTime{Date: today.AddDays(-1)}, Until: policy.LocalTime{Date: today.AddDays(2)}},
	}}
	return v
}

func testPolicy(vendors ...*policy.Vendor) *policy.Policy {
	return &policy.Policy{Site: "test", Zone: time.UTC, Vendors: vendors, Digest: "test",
		Tunnel: policy.Tunnel{Addresses: lab.Prefixes("10.99.0.1/24", "fd00:99::1/64")}}
}

// open puts a plan in force that admits the engineers until then.
func (s *site) open(until time.Time, who ...*engineerAt) {
	s.t.Helper()
	p := s.state.Plan(time.Now()).Restrict(func(g *policy.Grant) *policy.Grant {
		if !slices.ContainsFunc(who, func(e *engineerAt) bool { return e.Engineer == g.Engineer }) {
			return nil
		}
		shorter := *g
		shorter.Until = until
		return &shorter
	})
	if err := s.gateway.Do(func() error { return s.tunnel.Set(p) }); err != nil {
		s.t.Fatalf("Set: %v", err)
	}
}

func later() time.Time { return time.Now().Add(time.Hour) }

// client makes an engineer's WireGuard on a host.
func (s *site) client(h *lab.Host, e *engineerAt, endpoint netip.AddrPort) *lab.Client {
	s.t.Helper()
	var addresses []netip.Prefix
	for _, a := range e.Addresses {
		addresses = append(addresses, netip.PrefixFrom(a, a.BitLen()))
	}
	return h.NewClient(lab.ClientConfig{
		PrivateKey: e.private, PeerKey: s.public, PresharedKey: e.PresharedKey, Endpoint: endpoint,
		Addresses: addresses, AllowedIPs: lab.Prefixes("10.99.0.1/32", "fd00:99::1/128"), MTU: 1340,
		Interface: "wg-" + e.Name,
	})
}

// fact waits for a fact that fits, and takes it and all before it.
func (s *site) fact(what string, fits func(policy.Fact) bool) policy.Fact {
	s.t.Helper()
	var found policy.Fact
	err := lab.Wait(within(s.t, 5*time.Second), func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, f := range s.facts {
			if fits(f) {
				found = f
				s.facts = s.facts[i+1:]
				return nil
			}
		}
		return fmt.Errorf("no fact %s among %d: %s", what, len(s.facts), factLines(s.facts))
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

func (s *site) refusal(reason policy.Reason) policy.Fact {
	s.t.Helper()
	return s.fact("refused: "+reason.String(), func(f policy.Fact) bool {
		return f.Kind == policy.Refusal && f.Decision.Reason == reason
	})
}

func (s *site) kind(kind policy.FactKind) policy.Fact {
	s.t.Helper()
	return s.fact(fmt.Sprintf("of kind %d", kind), func(f policy.Fact) bool { return f.Kind == kind })
}

func factLines(facts []policy.Fact) string {
	var all string
	for _, f := range facts {
		all += fmt.Sprintf("\n\tkind %d %v %v %v count %d err %v", f.Kind, f.Decision.Reason, f.Engineer, f.Source, f.Count, f.Err)
	}
	return all
}

// within gives the time after which the test stops waiting.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), d, errors.New("too late"))
	t.Cleanup(cancel)
	return ctx
}

// enter has a client complete a handshake and waits for its confirmation.
func (s *site) enter(c *lab.Client) policy.Fact {
	s.t.Helper()
	if err := c.Handshake(within(s.t, 5*time.Second)); err != nil {
		s.t.Fatal(err)
	}
	return s.kind(policy.Confirmation)
}

func (s *site) ping(h *lab.Host, d time.Duration) error {
	_, err := h.Ping(within(s.t, d), inside)
	return err
}

// send sends a payload to the gateway's WireGuard port, from any address.
func (s *site) send(from *lab.Host, source string, to netip.AddrPort, payload []byte) {
	s.t.Helper()
	if err := from.Send(lab.UDPPacket(netip.MustParseAddrPort(source), to, payload)); err != nil {
		s.t.Fatal(err)
	}
}

// answers counts what the gateway sent from its WireGuard port into a link.
func answers(c *lab.Capture) []lab.Packet {
	return c.Packets(lab.Incoming, lab.Protocol(17))
}

// initiate builds an initiation for the gateway with a timestamp. With claimed
// set, it names that key as its static key: a forgery.
func initiate(t testing.TB, private, gateway lab.Key, stamp [12]byte, claimed *lab.Key) []byte {
	t.Helper()
	ephemeral, err := newOpener(private) // only for its methods
	if err != nil {
		t.Fatal(err)
	}
	oncePrivate, oncePublic := lab.NewKey()
	once, err := newOpener(oncePrivate)
	if err != nil {
		t.Fatal(err)
	}
	static := ephemeral.public
	if claimed != nil {
		static = *claimed
	}
	packet := make([]byte, device.MessageInitiationSize)
	packet[0] = device.MessageInitiationType
	copy(packet[4:], []byte{1, 2, 3, 4})
	copy(packet[ephemeralAt:], oncePublic[:])
	hash := mixHash(mixHash(device.InitialHash, gateway[:]), oncePublic[:])
	var chain [32]byte
	device.KDF1(&chain, device.InitialChainKey[:], oncePublic[:])
	seal := func(at int, secret [32]byte, plain []byte) {
		var key [32]byte
		device.KDF2(&chain, &key, chain[:], secret[:])
		sealed := aeadSeal(t, key, plain, hash[:])
		copy(packet[at:], sealed)
		hash = mixHash(hash, sealed)
	}
	secret, err := once.shared(gateway)
	if err != nil {
		t.Fatal(err)
	}
	seal(staticAt, secret, static[:])
	secret, err = ephemeral.shared(gateway)
	if err != nil {
		t.Fatal(err)
	}
	seal(timestampAt, secret, stamp[:])
	var macs device.CookieGenerator
	macs.Init(gateway)
	macs.AddMacs(packet)
	return packet
}

// live lists from where sessions last sent.
func (s *site) live() []netip.AddrPort {
	s.tunnel.table.mu.Lock()
	defer s.tunnel.table.mu.Unlock()
	var live []netip.AddrPort
	for _, e := range s.tunnel.table.engineers {
		for _, x := range slices.Backward(e.entries) {
			if last := x.last.Load(); last != nil && x.admission.confirmed {
				live = append(live, last.AddrPort)
				break
			}
		}
	}
	return live
}

// Peer is a key that the device knows, or knew.
type Peer struct {
	Key  policy.Key
	Open bool // it does now
	view.Traffic
}

// matched reports whether the peers were compared with the policy in force.
func (s *site) matched() bool {
	s.tunnel.peers.mu.Lock()
	defer s.tunnel.peers.mu.Unlock()
	return s.tunnel.peers.listed == s.tunnel.table.current().Policy
}

func (s *site) peers() []Peer {
	s.tunnel.peers.mu.Lock()
	defer s.tunnel.peers.mu.Unlock()
	var all []Peer
	for key, p := range s.tunnel.peers.known {
		all = append(all, Peer{key, p.engineer != nil, p.Traffic})
	}
	return all
}

// timestamps copies the greatest timestamp of every key.
func (s *site) timestamps() map[policy.Key][12]byte {
	s.tunnel.authenticator.stamps.mu.Lock()
	defer s.tunnel.authenticator.stamps.mu.Unlock()
	all := map[policy.Key][12]byte{}
	for key, g := range s.tunnel.authenticator.stamps.greatest {
		all[key] = g.stamp
	}
	return all
}
