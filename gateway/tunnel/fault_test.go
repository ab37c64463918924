package tunnel

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// Tests of this package whose names begin with TestFault and a number provoke
// the faults of that number in docs/FAULTS.md.

// flood sends packets over and over until it is stopped, one each pause, and
// gives how many it has sent.
func (s *site) flood(from *lab.Host, pause time.Duration, packets [][]byte) (sent *atomic.Int64, stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	sent = &atomic.Int64{}
	var work sync.WaitGroup
	work.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if err := from.Send(packets[i%len(packets)]); err == nil {
				sent.Add(1)
			}
			time.Sleep(pause)
		}
	})
	stop = func() { cancel(); work.Wait() }
	s.t.Cleanup(stop)
	return sent, stop
}

// keyless builds packets from an address, each from another port and with
// other contents, as whoever knows the gateway's public key can.
func (s *site) keyless(from netip.Addr, to netip.AddrPort, kind uint32, size, count int) [][]byte {
	var all [][]byte
	for i := range count {
		p := make([]byte, size)
		rand.Read(p)
		binary.LittleEndian.PutUint32(p, kind)
		if kind != device.MessageTransportType {
			withMACs(s.public, p)
		}
		all = append(all, lab.UDPPacket(netip.AddrPortFrom(from, uint16(1+i*7919%20000)), to, p))
	}
	return all
}

// oneAttempt is how long a handshake may take that must succeed at once:
// WireGuard tries again after 5 s.
const oneAttempt = 4500 * time.Millisecond

// rekey has a client renew its keys once.
func (s *site) rekey(c *lab.Client) error {
	s.t.Helper()
	// What was admitted before is cut if it is told to be on disk after that.
	lab.WaitFor(s.t, 5*time.Second, "all that was admitted is told to be on disk", func() bool {
		s.tunnel.table.mu.Lock()
		defer s.tunnel.table.mu.Unlock()
		return len(s.tunnel.table.due) == 0
	})
	s.boot.advance(time.Second) // at which one engineer's rate refills by one
	last := c.Status().LastHandshake
	lab.WaitFor(s.t, 5*time.Second, "40 ms later, by when WireGuard's timestamps tell", func() bool { return time.Since(last) > 40*time.Millisecond })
	return c.Handshake(within(s.t, oneAttempt))
}

// TestFault28GatewayNeverInitiates: WireGuard would like to renew its keys
// for what the inside sends; an initiation of ours would tell whoever now has
// the vendor's address that we are here.
func TestFault28GatewayNeverInitiates(t *testing.T) {
	s := newSite(t)
	s.open(later(), s.sato)
	c := s.client(s.medisys, s.sato, medisysEndpoint)
	s.enter(c)
	if err := s.ping(s.medisys, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	peer := s.tunnel.machine.Load().device.LookupPeer([32]byte(s.sato.Key))
	if err := c.Down(); err != nil {
		t.Fatal(err)
	}
	wire := s.medisys.Capture("eth0")
	send := func() {
		t.Helper()
		if err := s.gateway.Send(lab.UDPPacket(netip.AddrPortFrom(inside, 9), netip.AddrPortFrom(s.sato.Addresses[0], 9), []byte("hello"))); err != nil {
			t.Fatal(err)
		}
	}
	sends := func() {
		t.Helper()
		for range 3 {
			send()
			time.Sleep(50 * time.Millisecond) // patience: nothing should come of it
		}
	}
	// While its keys are young WireGuard sends data, which shows that there
	// is a way. All of it has left before the keys are taken.
	for i := range 3 {
		send()
		lab.WaitFor(t, 5*time.Second, "the data leaves for the engineer, who has a session", func() bool { return len(answers(wire)) == i+1 })
	}
	wire.Forget()
	peer.ExpireCurrentKeypairs()
	sends()
	if err := peer.SendHandshakeInitiation(false); err != nil {
		t.Fatal(err)
	}
	if got := answers(wire); len(got) != 0 {
		t.Errorf("without keys the gateway sent\n%s", lab.Lines(got))
	}
	s.open(later(), s.suzuki)
	sends()
	if got := answers(wire); len(got) != 0 {
		t.Errorf("outside the window the gateway sent\n%s", lab.Lines(got))
	}
}

// TestFault32LiveEndpointKeepsItsRate: a session renews its keys however many
// initiations come in the name of its address.
func TestFault32LiveEndpointKeepsItsRate(t *testing.T) {
	g, o := testGate(t, 1)
	stopTime(g)
	public := [32]byte{7}
	g.checker.Init(public)
	live := netip.MustParseAddrPort("203.0.113.10:4000")
	for key := range g.table.engineers {
		g.table.indices[1].endpoint(stdEndpoint(live))
		if _, ok := g.table.confirm(key); !ok {
			t.Fatal("the session is not confirmed")
		}
	}
	sift := func(from netip.AddrPort) {
		p := make([]byte, device.MessageInitiationSize)
		p[0] = device.MessageInitiationType
		g.sift([][]byte{withMACs(public, p)}, []int{len(p)}, []conn.Endpoint{stdEndpoint(from)})
	}
	for i := range 20_000 {
		sift(netip.AddrPortFrom(live.Addr(), uint16(5000+i)))
	}
	o.sent = nil
	for i := range liveBurst {
		sift(live)
		if len(g.renewals) != i+1 || len(o.sent) != 0 {
			t.Fatalf("renewal %d: %d went on, answers %x, want all and none", i+1, len(g.renewals), o.sent)
		}
	}
	// The endpoint's own rate has an end too; then it is as anybody's.
	sift(live)
	if len(g.renewals) != liveBurst {
		t.Errorf("%d renewals went on at once, want at most %d", len(g.renewals), liveBurst)
	}
	for key := range g.table.engineers {
		g.table.end(key)
	}
	g.table.sweep(g.boot())
	if g.table.liveEndpoint(live) {
		t.Error("the endpoint of a session that is over is still taken for live")
	}
}

// TestFault32SpoofedFloodLeavesRekeysAlone: the same with WireGuard at both
// ends, while somebody elsewhere sends initiations and data in the name of
// the engineer's address, more than the kernel would let through.
func TestFault32SpoofedFloodLeavesRekeysAlone(t *testing.T) {
	s := newSite(t)
	s.open(later(), s.sato)
	c := s.client(s.medisys, s.sato, medisysEndpoint)
	s.enter(c)
	packets := s.keyless(netip.MustParseAddr("203.0.113.10"), otherEndpoint, device.MessageInitiationType, device.MessageInitiationSize, 512)
	for i, p := range s.keyless(netip.MustParseAddr("203.0.113.10"), otherEndpoint, device.MessageTransportType, 200, 512) {
		packets = slices.Insert(packets, 2*i, p)
	}
	sent, _ := s.flood(s.other, 100*time.Microsecond, packets)
	lab.WaitFor(t, 30*time.Second, "a flood that has used the address's rate up", func() bool { return sent.Load() > 2000 })
	for i := range 10 {
		if err := s.rekey(c); err != nil {
			t.Fatalf("rekey %d under a flood of %d packets: %v", i+1, sent.Load(), err)
		}
		if err := s.ping(s.medisys, 5*time.Second); err != nil {
			t.Fatalf("after rekey %d: %v", i+1, err)
		}
	}
	t.Logf("10 rekeys during a flood of %d packets", sent.Load())
}

// TestFault33ReplayBurst: replays of an engineer's own initiation, from the
// engineer's own address, use up the address's rate. Who really is there
// proves it with a cookie, and enters.
func TestFault33ReplayBurst(t *testing.T) {
	s := newSite(t)
	s.open(later(), s.sato)
	wire := s.medisys.Capture("eth0")
	c := s.client(s.medisys, s.sato, medisysEndpoint)
	s.enter(c)
	kind := func(k byte) func(lab.Packet) bool {
		return func(p lab.Packet) bool { return len(p.Payload) > 4 && p.Payload[0] == k }
	}
	first := wire.Packets(lab.Outgoing, kind(device.MessageInitiationType))
	if len(first) == 0 {
		t.Fatal("the engineer's initiation was not seen")
	}
	s.tunnel.Cut(s.sato.Engineer) // not even a session's own rate is left
	if err := c.Down(); err != nil {
		t.Fatal(err)
	}
	replay := lab.UDPPacket(netip.MustParseAddrPort("203.0.113.10:666"), otherEndpoint, first[0].Payload)
	for range 500 {
		if err := s.other.Send(replay); err != nil {
			t.Fatal(err)
		}
	}
	sent, _ := s.flood(s.other, 4*time.Millisecond, [][]byte{replay})
	lab.WaitFor(t, 5*time.Second, "the flood goes on", func() bool { return sent.Load() > 20 })
	wire.Forget()
	before := time.Now()
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	next := before
	lab.WaitFor(t, 30*time.Second, "the engineer enters", func() bool {
		if time.Now().After(next) {
			next = time.Now().Add(300 * time.Millisecond)
			// By this the address's rate is used up even if the flood got no
			// processor for a while. It takes the cookies of the moment too.
			for range sourceBurst + 5 {
				if err := s.other.Send(replay); err != nil {
					t.Fatal(err)
				}
			}
			goesOn := sent.Load() + 5
			lab.WaitFor(t, 5*time.Second, "the flood goes on", func() bool { return sent.Load() >= goesOn })
			if err := c.Initiate(); err != nil {
				t.Fatal(err)
			}
		}
		return c.Status().LastHandshake.After(before)
	})
	if len(wire.Packets(lab.Incoming, kind(device.MessageCookieReplyType))) == 0 {
		t.Error("the engineer entered without a cookie: the gate was not under load")
	}
	if len(wire.Packets(lab.Incoming, kind(device.MessageResponseType), func(p lab.Packet) bool { return p.Destination.Port() == 666 })) > 0 {
		t.Error("a replay was answered with a response")
	}
	t.Logf("entered after %v", time.Since(before))
}

// TestFault38MappedAddresses: what comes as IPv6 from an IPv4 address is
// nobody's, listed or not: the kernel has no such packets of its own, and
// those who forge IPv6 sources need not be able to forge IPv4 ones. Where an
// address is only named, it is the IPv4 address.
func TestFault38MappedAddresses(t *testing.T) {
	s := newSite(t)
	s.open(later(), s.sato)
	gateway6 := netip.MustParseAddrPort("[2001:db8:1::1]:51820")
	six, four := s.medisys.Capture("eth0"), s.gateway.Capture("eth1")
	packet := initiate(t, s.sato.private, s.public, stampAt(time.Now()), nil)
	for _, source := range []string{"[::ffff:203.0.113.10]:4000", "[::ffff:192.0.2.66]:4000"} {
		s.send(s.medisys, source, gateway6, packet)
	}
	// The next proves that they changed nothing, and were before it.
	s.send(s.medisys, "[2001:db8:1::10]:4000", gateway6, packet)
	if f := s.kind(policy.Admission); f.Source.String() != "[2001:db8:1::10]:4000" {
		t.Errorf("admitted from %v", f.Source)
	}
	lab.WaitFor(t, 5*time.Second, "its response", func() bool { return len(answers(six)) > 0 })
	if got := append(answers(six), four.Packets(lab.Outgoing, lab.Protocol(17))...); len(got) != 1 || got[0].Destination.String() != "[2001:db8:1::10]:4000" {
		t.Errorf("answers:\n%s", lab.Lines(got))
	}

	s.boot.advance(settling)
	for address, want := range map[string]policy.Reason{
		"[::ffff:203.0.113.10]:4000": policy.RateLimited, // listed: in the kernel only its rate can have dropped it
		"[::ffff:192.0.2.66]:4000":   policy.WrongSource,
	} {
		s.tunnel.Inspect(initiate(t, s.sato.private, s.public, stampAt(time.Now().Add(time.Second)), nil), netip.MustParseAddrPort(address), 0)
		from := netip.MustParseAddrPort(address)
		if f := s.refusal(want); f.Source != netip.AddrPortFrom(from.Addr().Unmap(), from.Port()) || f.Engineer != s.sato.Engineer {
			t.Errorf("%s: refused as %v of %v", address, f.Source, f.Engineer)
		}
	}
}

// TestFault59FloodOfResponses: a flood of responses with a MAC that is right,
// in the name of a live session's address, is worth no answer, and puts
// nothing under load.
func TestFault59FloodOfResponses(t *testing.T) {
	s := newSite(t)
	s.open(later(), s.sato)
	c := s.client(s.medisys, s.sato, medisysEndpoint)
	s.enter(c)
	wire := s.other.Capture("eth0")
	ours := s.medisys.Capture("eth0")
	var packets [][]byte
	for _, from := range []string{"198.51.100.10", "203.0.113.10"} {
		packets = append(packets, s.keyless(netip.MustParseAddr(from), otherEndpoint, device.MessageResponseType, device.MessageResponseSize, 64)...)
		packets = append(packets, s.keyless(netip.MustParseAddr(from), otherEndpoint, device.MessageCookieReplyType, device.MessageCookieReplySize, 64)...)
	}
	sent, stop := s.flood(s.other, 100*time.Microsecond, packets)
	lab.WaitFor(t, 30*time.Second, "a flood", func() bool { return sent.Load() > 2000 })
	for range 3 {
		if err := s.rekey(c); err != nil {
			t.Errorf("rekey during the flood: %v", err)
		}
		if err := s.ping(s.medisys, 5*time.Second); err != nil {
			t.Errorf("during the flood: %v", err)
		}
	}
	stop()
	if got := answers(wire); len(got) > 0 {
		t.Errorf("the flood drew\n%s", lab.Lines(got))
	}
	cookies := ours.Packets(lab.Incoming, func(p lab.Packet) bool { return len(p.Payload) > 0 && p.Payload[0] == device.MessageCookieReplyType })
	if len(cookies) > 0 {
		t.Errorf("the flood put the gateway under load: it sent\n%s", lab.Lines(cookies))
	}
}

// TestFault68AbortedSocket: reading the UDP socket fails once, as it does when
// somebody aborts sockets (ss -K); WireGuard alone would never read it again.
func TestFault68AbortedSocket(t *testing.T) {
	s := newSite(t)
	s.open(later(), s.sato)
	abort := func() {
		t.Helper()
		out, err := s.gateway.Command(within(t, 5*time.Second), "ss", "-K", "-u", "-a", "sport", "=", ":51820").CombinedOutput()
		if err != nil || !strings.Contains(string(out), ":51820") {
			t.Skipf("this kernel or ss(8) aborts no UDP sockets (CONFIG_INET_DIAG_DESTROY): %v\n%s", err, out)
		}
	}
	abort()
	c := s.client(s.medisys, s.sato, medisysEndpoint)
	s.enter(c)
	abort()
	if err := s.ping(s.medisys, 5*time.Second); err != nil {
		t.Error(err)
	}
	if err := s.tunnel.Err(); err != nil {
		t.Errorf("a socket that is read again is told as a failure: %v", err)
	}
}

// unreadableOnce is sockets of which none can be read before they are opened
// again.
type unreadableOnce struct {
	conn.Bind
	opened bool
}

func (u *unreadableOnce) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	receive, actual, err := u.Bind.Open(port)
	if !u.opened {
		u.opened = true
		for i := range receive {
			receive[i] = func([][]byte, []int, []conn.Endpoint) (int, error) { return 0, unix.ENOMEM }
		}
	}
	return receive, actual, err
}

// TestFault68RestartLeadsOut: sockets that stay unreadable are told, and made
// anew with the device, whose readers wait between two attempts when it goes.
func TestFault68RestartLeadsOut(t *testing.T) {
	s := newSite(t)
	s.tunnel.machine.Load().close()
	s.tunnel.gate.inner = &unreadableOnce{Bind: s.tunnel.gate.inner}
	if err := s.gateway.Do(s.tunnel.build); err != nil {
		t.Fatal(err)
	}
	if f := s.kind(policy.Failure); !errors.Is(f.Err, unix.ENOMEM) || !errors.Is(s.tunnel.Err(), unix.ENOMEM) {
		t.Errorf("told %v, then %v", f.Err, s.tunnel.Err())
	}
	if err := s.gateway.Do(s.tunnel.Restart); err != nil {
		t.Fatal(err)
	}
	s.tunnel.examine() // as the reconciler does at the next beat
	lab.WaitFor(t, 5*time.Second, "no failure any more", func() bool { return s.tunnel.Err() == nil })
	s.open(later(), s.sato)
	s.enter(s.client(s.medisys, s.sato, medisysEndpoint))
}

// scripted is sockets that are read as a test says.
type scripted struct {
	conn.Bind
	receive func() error
}

func (s *scripted) Open(uint16) ([]conn.ReceiveFunc, uint16, error) {
	return []conn.ReceiveFunc{func([][]byte, []int, []conn.Endpoint) (int, error) { return 0, s.receive() }}, 1, nil
}

func (s *scripted) Close() error { return nil }

// TestFault68UnreadableSocket: one that stays unreadable is told, until it can
// be read again or another one is opened in its place.
func TestFault68UnreadableSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		result := error(unix.ENOMEM)
		g := &gate{table: newTable(), clocks: newClocks(nil), inner: &scripted{receive: func() error { return result }}}
		open := func() func() error {
			receive, _, err := g.Open(0)
			if err != nil {
				t.Fatal(err)
			}
			return func() error { _, err := receive[0](nil, nil, nil); return err }
		}
		read := open()
		for i := range 2 * unreadMost {
			if err := read(); err != nil {
				t.Fatalf("WireGuard hears of %v, and gives up", err)
			}
			if told := g.unread.Load() != nil; told != (i+1 >= unreadMost) {
				t.Fatalf("after %d readings that failed, told: %v", i+1, told)
			}
		}
		if err := g.unread.Load().err; !errors.Is(err, unix.ENOMEM) {
			t.Errorf("told: %v, want what was wrong", err)
		}
		result = nil
		if err := read(); err != nil || g.unread.Load() != nil {
			t.Errorf("read again: %v, told: %v", err, g.unread.Load())
		}
		result = unix.ENOMEM
		for range unreadMost {
			_ = read()
		}
		result = net.ErrClosed
		if err := read(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		again := func(what string) {
			t.Helper()
			read, result = open(), nil
			if err := read(); err != nil || g.unread.Load() != nil {
				t.Errorf("opened again after it was closed %s: %v, told: %v", what, err, g.unread.Load())
			}
		}
		again("while it was read")
		result = unix.ENOMEM
		for range unreadMost {
			_ = read()
		}
		go func() {
			synctest.Wait()
			g.Close()
		}()
		// A socket that fails is nearly always waited for when it is closed.
		if err := read(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed while it waits to read again: %v", err)
		}
		synctest.Wait() // the device opens and closes under a lock
		again("while it was waited for")
	})
}

// TestFault82AdmissionsOfOneEngineer: an engineer's client, or who has the key and
// is where the engineer is, initiates again and again. Each admission is an entry
// of the journal, so that there are few; a client that does what WireGuard does is
// never refused for it, not even beside a rekey that nobody hears.
func TestFault82AdmissionsOfOneEngineer(t *testing.T) {
	s := newSite(t)
	s.open(later(), s.sato, s.suzuki)
	stamp := time.Now()
	try := func(who *engineerAt, source string) (admitted bool) {
		t.Helper()
		stamp = stamp.Add(time.Second)
		s.send(s.medisys, source, medisysEndpoint, initiate(t, who.private, s.public, stampAt(stamp), nil))
		f := s.fact("of "+who.Name, func(f policy.Fact) bool {
			return f.Engineer == who.Engineer && (f.Kind == policy.Admission || f.Kind == policy.Refusal)
		})
		if f.Kind == policy.Refusal && f.Decision.Reason != policy.RateLimited {
			t.Fatalf("refused because of %v", f.Decision.Reason)
		}
		return f.Kind == policy.Admission
	}
	honest := func(when string, n int, every time.Duration) {
		t.Helper()
		// Before it, a handshake was confirmed.
		s.tunnel.table.mu.Lock()
		delete(s.tunnel.table.vain, s.suzuki.Key)
		s.tunnel.table.mu.Unlock()
		for i := range n {
			s.boot.advance(every)
			if !try(s.suzuki, "203.0.113.11:4000") {
				t.Errorf("%s: initiation %d of %d, one every %v, is refused", when, i+1, n, every)
			}
		}
	}
	honest("rekeys", 10, 120*time.Second)
	const n, every = 400, 5 * time.Second
	admitted := 0
	for range n {
		s.boot.advance(every)
		if try(s.sato, "203.0.113.10:4000") {
			admitted++
		}
	}
	// 20 at once, then 10 with growing pauses in half an hour, then one in 5 min:
	// some 300 a day.
	const least, most = 20 + 10, 20 + 10 + 2
	if admitted < least || admitted > most {
		t.Errorf("%d of %d initiations in %v were admitted, want %d to %d", admitted, n, n*every, least, most)
	}
	honest("beside it, a client that hears nothing", 18, 5*time.Second)
	honest("and once more after a while", 18, 5*time.Second)
	honest("then rekeys again", 10, 120*time.Second)
	s.boot.advance(vainMost)
	if !try(s.sato, "203.0.113.10:4000") {
		t.Error("a client that went beyond it is still refused after the longest pause")
	}
}

// TestFault99AdmittedInVain: a client with another preshared key is admitted, and
// never confirms. It is slowed down, but not once the cause is gone: the client was
// switched off and on, the policy has another preshared key, or a handshake is
// confirmed.
func TestFault99AdmittedInVain(t *testing.T) {
	for _, test := range []struct {
		name  string
		ends  func(*site)
		from  string
		again bool // it is admitted at once
	}{
		{"it goes on", func(*site) {}, "203.0.113.10:4000", false},
		{"the first pause is over", func(s *site) { s.boot.advance(vainStep) }, "203.0.113.10:4000", true},
		{"the client was switched off and on", func(*site) {}, "203.0.113.10:4001", true},
		{"another preshared key", func(s *site) {
			e := *s.sato.Engineer
			e.PresharedKey, _ = lab.NewKey()
			p := testPolicy(testVendor("medisys", e.Sources, &e, s.suzuki.Engineer))
			if err := s.state.Apply(time.Now(), "test", policy.PolicyLoaded{Digest: "test", Policy: p}); err != nil {
				s.t.Fatal(err)
			}
			s.open(later(), &engineerAt{&e, s.sato.private}, s.suzuki)
		}, "203.0.113.10:4000", true},
		{"a handshake is confirmed", func(s *site) {
			last := time.Now()
			c := s.client(s.medisys, s.sato, medisysEndpoint)
			lab.WaitFor(s.t, 5*time.Second, "40 ms later, by when WireGuard takes another initiation", func() bool { return time.Since(last) > 40*time.Millisecond })
			s.enter(c)
		}, "203.0.113.10:4000", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t)
			s.open(later(), s.sato, s.suzuki)
			s.boot.setSlow(true)
			stamp := time.Now().Add(-time.Hour)
			try := func(from string) policy.Fact {
				t.Helper()
				s.boot.advance(time.Second)
				stamp = stamp.Add(time.Second)
				s.send(s.medisys, from, medisysEndpoint, initiate(t, s.sato.private, s.public, stampAt(stamp), nil))
				return s.fact("of sato", func(f policy.Fact) bool {
					return f.Engineer != nil && f.Engineer.Key == s.sato.Key && (f.Kind == policy.Admission || f.Kind == policy.Refusal)
				})
			}
			for i := range vainFree {
				if f := try("203.0.113.10:4000"); f.Kind != policy.Admission {
					t.Fatalf("attempt %d is refused: %v", i+1, f.Decision.Reason)
				}
			}
			if f := try("203.0.113.10:4000"); f.Kind != policy.Refusal || f.Decision.Reason != policy.RateLimited {
				t.Fatalf("after %d in vain: %v, want %v", vainFree, f.Decision.Reason, policy.RateLimited)
			}
			test.ends(s)
			stamp = stamp.Add(2 * time.Hour)
			if f := try(test.from); (f.Kind == policy.Admission) != test.again {
				t.Errorf("then: %v, want admitted %v", f.Decision.Reason, test.again)
			}
		})
	}
}

// TestFault97AnEchoIsNoReplay: a network delivers an initiation twice, or after
// a later one. Nobody is told of a replay then, and WireGuard gets it once. A
// recording that is played from another address or port, or later, is a replay.
func TestFault97AnEchoIsNoReplay(t *testing.T) {
	const here = "203.0.113.10:4000"
	strangerPrivate, _ := lab.NewKey()
	for _, test := range []struct {
		name  string
		first policy.Reason // for the newest attempt
		again string        // from where the copy comes
		older time.Duration // by how much the copy was made before the newest
		later time.Duration // how long after the newest it comes
		want  policy.Reason // Admitted: nothing is told of the copy
	}{
		{"at once", policy.Admitted, here, 0, 0, policy.Admitted},
		{"seconds later", policy.Admitted, here, 0, echoing - time.Second, policy.Admitted},
		{"overtaken by the next attempt", policy.Admitted, here, 5 * time.Second, 0, policy.Admitted},
		{"of a refused one", policy.OutsideWindow, here, 0, time.Second, policy.Admitted},
		{"from another port", policy.Admitted, "203.0.113.10:4001", 0, 0, policy.Replayed},
		{"from another address of the vendor", policy.Admitted, "203.0.113.9:4000", 0, 0, policy.Replayed},
		{"later", policy.Admitted, here, 0, echoing, policy.Replayed},
		{"an old recording", policy.Admitted, here, time.Hour, 0, policy.Replayed},
		{"of a refused one, from another port", policy.OutsideWindow, "203.0.113.10:4001", 0, 0, policy.Replayed},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, kernel := range []bool{false, true} {
				s := newSite(t)
				s.boot.setSlow(true)
				wire := s.medisys.Capture("eth0")
				answered := 0
				s.open(later(), s.suzuki)
				if test.first == policy.Admitted {
					s.open(later(), s.suzuki, s.sato)
					answered = 1
				}
				now := time.Now()
				newest := initiate(t, s.sato.private, s.public, stampAt(now), nil)
				copied := newest
				if test.older > 0 {
					copied = initiate(t, s.sato.private, s.public, stampAt(now.Add(-test.older)), nil)
				}
				s.send(s.medisys, here, medisysEndpoint, newest)
				s.fact("of the newest", func(f policy.Fact) bool { return f.Engineer == s.sato.Engineer && f.Decision.Reason == test.first })
				lab.WaitFor(t, 5*time.Second, "the answer to the newest", func() bool { return len(answers(wire)) >= answered })
				s.boot.advance(test.later)
				// Refusals of strangers are told last.
				for _, p := range []struct {
					from   string
					packet []byte
				}{{test.again, copied}, {here, initiate(t, strangerPrivate, s.public, stampAt(now), nil)}} {
					if kernel {
						s.tunnel.Inspect(p.packet, netip.MustParseAddrPort(p.from), 0)
					} else {
						s.send(s.medisys, p.from, medisysEndpoint, p.packet)
					}
					s.boot.advance(beat / 10) // after which refusals are told
				}
				told := policy.Admitted
				s.fact("of the stranger", func(f policy.Fact) bool {
					if f.Kind == policy.Refusal && f.Engineer == s.sato.Engineer {
						told = f.Decision.Reason
					}
					return f.Decision.Reason == policy.UnknownKey
				})
				if told != test.want {
					t.Errorf("by the kernel %v: told as %v, want %v", kernel, told, test.want)
				}
				if n := len(answers(wire)); n != answered {
					t.Errorf("by the kernel %v: %d answers, want %d", kernel, n, answered)
				}
				s.tunnel.Close()
			}
		})
	}
}

// TestFault100WrongKeysAreRead: the key that a stranger's initiation carries, and
// an initiation for another gateway, are told as claims, by the gate and of what
// the kernel dropped; a proven key and noise claim nothing.
func TestFault100WrongKeysAreRead(t *testing.T) {
	strangerPrivate, stranger := lab.NewKey()
	_, otherGateway := lab.NewKey()
	s := newSite(t)
	s.open(later(), s.suzuki)
	noise := make([]byte, device.MessageInitiationSize)
	rand.Read(noise)
	noise[0] = 9
	for _, test := range []struct {
		name         string
		packet       []byte
		gate, kernel policy.Reason
		want         policy.Claim
	}{
		{"a key that is not listed", initiate(t, strangerPrivate, s.public, stampAt(time.Now()), nil), policy.UnknownKey, policy.UnknownKey, policy.Claim{Key: stranger}},
		{"for another gateway", initiate(t, s.sato.private, otherGateway, stampAt(time.Now()), nil), policy.Malformed, policy.UnlistedSource, policy.Claim{Foreign: true}},
		{"an engineer without a window", initiate(t, s.sato.private, s.public, stampAt(time.Now()), nil), policy.OutsideWindow, policy.OutsideWindow, policy.Claim{}},
		{"noise", noise, policy.Malformed, policy.UnlistedSource, policy.Claim{}},
		{"a part of one", noise[:40], policy.Malformed, policy.UnlistedSource, policy.Claim{}},
	} {
		s.send(s.medisys, "203.0.113.10:4000", medisysEndpoint, test.packet)
		if f := s.refusal(test.gate); f.Claim != test.want {
			t.Errorf("%s, by the gate: claim %v, want %v", test.name, f.Claim, test.want)
		}
		if test.want == (policy.Claim{}) && test.gate == policy.OutsideWindow {
			continue // the second would be the network's echo
		}
		s.tunnel.Inspect(test.packet, netip.MustParseAddrPort("203.0.113.10:4000"), 0)
		if f := s.refusal(test.kernel); f.Claim != test.want {
			t.Errorf("%s, by the kernel: claim %v, want %v", test.name, f.Claim, test.want)
		}
	}
}
