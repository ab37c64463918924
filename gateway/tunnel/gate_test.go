package tunnel

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"

	"kidoban/gateway/clock"
	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
	"kidoban/gateway/tally"
	"kidoban/gateway/udp"
)

func stdEndpoint(a netip.AddrPort) *udp.Endpoint { return &udp.Endpoint{AddrPort: a} }

// outbox is sockets that keep what is sent.
type outbox struct {
	conn.Bind
	sent [][]byte
}

func (o *outbox) Send(packets [][]byte, _ conn.Endpoint) error {
	o.sent = append(o.sent, packets...)
	return nil
}

// testGate is a gate without a device or sockets, before a full table.
func testGate(t testing.TB, sessions int) (*gate, *outbox) {
	t.Helper()
	h, _, _ := fullTable(t, sessions)
	_, public := lab.NewKey()
	o := &outbox{}
	g := newGate(h, newClocks(clock.Boot), public, &tally.Sum{}, func() {})
	g.inner = o
	return g, o
}

// stopTime has a gate's time stand still, however long the machine takes, but
// for what the test lets pass: rates refill by it, and sessions end.
func stopTime(g *gate) (pass func(time.Duration)) {
	now := g.now()
	g.boot, g.now = func() time.Duration { return now.boot }, func() instant { return now }
	return func(d time.Duration) { now = instant{now.boot + d, now.wall.Add(d)} }
}

func data(index uint32, size int) []byte {
	p := make([]byte, size)
	p[0] = device.MessageTransportType
	binary.LittleEndian.PutUint32(p[4:], index)
	return p
}

func TestFault37SiftKeepsOnlyDataOfASession(t *testing.T) {
	const listed, other = "203.0.113.10:4000", "203.0.113.11:4000"
	for _, test := range []struct {
		name, from string
		packet     []byte
		pass       bool
	}{
		{"data of a session", listed, data(0, 32), true},
		{"from another port", "203.0.113.10:1", data(0, 1400), true},
		{"from the same address, mapped into IPv6", "[::ffff:203.0.113.10]:4000", data(1, 32), false},
		{"from another address of the vendor", other, data(0, 32), false},
		{"unknown index", listed, data(99, 32), false},
		{"too short", listed, data(0, 31), false},
		{"reserved byte set", listed, func() []byte { p := data(0, 32); p[1] = 1; return p }(), false},
		{"type 5", listed, func() []byte { p := data(0, 32); p[0] = 5; return p }(), false},
		{"type 0", listed, make([]byte, 32), false},
		{"initiation, which takes another way", listed, func() []byte { p := make([]byte, 148); p[0] = 1; return p }(), false},
		{"response", listed, func() []byte { p := make([]byte, 92); p[0] = 2; return p }(), false},
		{"cookie reply", listed, func() []byte { p := make([]byte, 64); p[0] = 3; return p }(), false},
	} {
		g, o := testGate(t, 1)
		sizes := []int{len(test.packet)}
		from := []conn.Endpoint{stdEndpoint(netip.MustParseAddrPort(test.from))}
		g.sift([][]byte{test.packet}, sizes, from)
		if got := sizes[0] != 0; got != test.pass {
			t.Errorf("%s: passes %v, want %v", test.name, got, test.pass)
		}
		if e, ok := from[0].(*endpoint); test.pass && (!ok || e.AddrPort != netip.MustParseAddrPort(test.from) || e.admission.address.String() != "203.0.113.10") {
			t.Errorf("%s: passes with endpoint %v", test.name, from[0])
		}
		if len(o.sent) != 0 {
			t.Errorf("%s: answered with %x", test.name, o.sent)
		}
	}
}

func TestFault28SendLetsNoInitiationOut(t *testing.T) {
	g, o := testGate(t, 1)
	to := g.table.indices[0].endpoint(stdEndpoint(netip.MustParseAddrPort("203.0.113.10:4000")))
	packet := func(kind byte, size int) []byte { p := make([]byte, size); p[0] = kind; return p }
	for _, test := range []struct {
		name    string
		packets [][]byte
		leave   int
	}{
		{"data", [][]byte{packet(4, 32), packet(4, 64)}, 2},
		{"initiation", [][]byte{packet(1, 148)}, 0},
		{"initiation behind data", [][]byte{packet(4, 32), packet(1, 148)}, 0},
		{"response to nothing", [][]byte{packet(2, 92)}, 0},
		{"cookie reply to a listed source", [][]byte{packet(3, 64)}, 1},
		{"nothing", nil, 0},
		{"one byte", [][]byte{{4}}, 0},
	} {
		o.sent = nil
		_ = g.Send(test.packets, to) // some say why, some are silent
		if len(o.sent) != test.leave {
			t.Errorf("%s: %d packets left, want %d", test.name, len(o.sent), test.leave)
		}
	}
	g.table.follow(g.table.current().Doubted("closed"), g.now())
	o.sent = nil
	if err := g.Send([][]byte{packet(4, 32)}, to); err == nil || len(o.sent) != 0 {
		t.Errorf("data after closing: %d packets left, error %v", len(o.sent), err)
	}
	if _ = g.Send([][]byte{packet(3, 64)}, to); len(o.sent) != 0 {
		t.Error("a cookie reply left for a source that is no longer listed")
	}
}

func TestFault33FloodGetsCookiesAndTheRealSourceGoesOn(t *testing.T) {
	g, o := testGate(t, 1)
	pass := stopTime(g)
	public := [32]byte{7}
	g.checker.Init(public)
	source := netip.MustParseAddrPort("203.0.113.10:4000")
	packet := make([]byte, device.MessageInitiationSize)
	packet[0] = device.MessageInitiationType
	sift := func(from netip.AddrPort, p []byte) {
		g.sift([][]byte{p}, []int{len(p)}, []conn.Endpoint{stdEndpoint(from)})
	}
	const flood = 1000
	for range flood {
		sift(netip.AddrPortFrom(source.Addr(), 666), withMACs(public, packet))
	}
	if n := len(g.initiations); n != sourceBurst {
		t.Errorf("%d initiations of %d went on to be opened, want %d", n, flood, sourceBurst)
	}
	if n := len(o.sent); n != replyBurst {
		t.Errorf("%d cookies for %d initiations, want %d", n, flood, replyBurst)
	}
	for len(g.initiations) > 0 {
		<-g.initiations
	}
	// The client whose address was forged gets a cookie as soon as there are
	// any, long before the address may come without one, and uses it.
	pass(2 * time.Second / replyRate)
	var macs device.CookieGenerator
	macs.Init(public)
	o.sent = nil
	macs.AddMacs(packet)
	sift(source, packet)
	if len(o.sent) != 1 || len(g.initiations) != 0 {
		t.Fatalf("the real client got %d cookies, and %d of its initiations went on without one", len(o.sent), len(g.initiations))
	}
	var reply device.MessageCookieReply
	copy(reply.Nonce[:], o.sent[0][8:])
	copy(reply.Cookie[:], o.sent[0][8+len(reply.Nonce):])
	if len(o.sent[0]) != device.MessageCookieReplySize || !macs.ConsumeReply(&reply) {
		t.Fatalf("the cookie reply %x cannot be read", o.sent[0])
	}
	for range flood { // the flood has not ended
		sift(netip.AddrPortFrom(source.Addr(), 666), withMACs(public, slices.Clone(packet)))
	}
	for len(g.initiations) > 0 {
		<-g.initiations
	}
	macs.AddMacs(packet)
	sift(source, packet)
	if len(g.initiations) != 1 {
		t.Error("an initiation with its cookie did not get through the flood")
	}
}

func TestFault37IndicesAreBoundedAndUnconfirmedOnesGoFirst(t *testing.T) {
	h, engineers, _ := fullTable(t, 2)
	now := instant{clock.Boot(), time.Now()}
	source := netip.MustParseAddrPort("203.0.113.10:4000")
	key := engineers[0].Key
	first := h.indices[1]
	first.endpoint(stdEndpoint(source))
	if f, ok := h.confirm(key); !ok || f.Admission != 1 {
		t.Fatalf("confirm gives admission %d, %v, want 1, true", f.Admission, ok)
	}
	for i := range uint32(100) {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i % 16)}), 4000)
		q := policy.Query{Key: key, Proven: true, Source: from.Addr()}
		to, d := h.admit(q, stdEndpoint(from), i, uint64(100+i), now, func(policy.Decision) bool { return true })
		if to == nil {
			t.Fatalf("not admitted: %v", d.Reason)
		}
		if i%2 == 0 {
			h.answered(to.admission.engineer, i, 1000+i, now.boot)
		}
	}
	e := h.engineers[key]
	if len(e.pending) > maximumPending || len(e.entries) > maximumConfirmed+maximumUnconfirmed || len(e.admissions) > maximumAdmissions+1 {
		t.Errorf("%d pending, %d entries, %d admissions, want at most %d, %d, %d", len(e.pending), len(e.entries), len(e.admissions),
			maximumPending, maximumConfirmed+maximumUnconfirmed, maximumAdmissions+1)
	}
	if h.indices[1] != first || !first.admission.open(now.boot) || first.admission.address != source.Addr() {
		t.Error("a confirmed session was evicted by handshakes that nobody confirmed")
	}
	if len(h.indices) != len(e.entries)+2 {
		t.Errorf("%d indices in the table, want %d", len(h.indices), len(e.entries)+2)
	}
	// An index that WireGuard gave to another engineer is not theirs to drop.
	other := h.indices[2]
	h.lookup.Lock()
	h.indices[1] = other
	h.lookup.Unlock()
	h.end(key)
	if h.indices[1] != other {
		t.Error("cutting an engineer took an index that is another's now")
	}
	h.sweep(now.boot + device.RejectAfterTime)
	if len(h.indices) > 1 || len(h.inner) != 0 || len(h.engineers) != 0 {
		t.Errorf("after 180 s %d indices, %d inner addresses, %d engineers are left", len(h.indices), len(h.inner), len(h.engineers))
	}
}

func TestSupersededByAConfirmedHandshakeOnly(t *testing.T) {
	h, engineers, _ := fullTable(t, 1)
	now := instant{clock.Boot(), time.Now()}
	key := engineers[0].Key
	old := h.indices[0].admission
	h.indices[1].endpoint(stdEndpoint(netip.MustParseAddrPort("203.0.113.10:4000")))
	h.confirm(key)
	from := netip.MustParseAddrPort("203.0.113.11:4000")
	to, _ := h.admit(policy.Query{Key: key, Proven: true, Source: from.Addr()}, stdEndpoint(from), 7, 7, now, func(policy.Decision) bool { return true })
	h.answered(to.admission.engineer, 7, 77, now.boot)
	if _, ok := h.confirm(key); ok || !old.open(now.boot) {
		t.Errorf("without data of the new one: confirmed %v, the old session is open %v, want false, true", ok, old.open(now.boot))
	}
	h.indices[77].endpoint(stdEndpoint(from))
	if f, ok := h.confirm(key); !ok || f.Admission != 7 || f.Source != from {
		t.Errorf("confirmed %v: admission %d from %v, want 7 from %v", ok, f.Admission, f.Source, from)
	}
	if old.open(now.boot) || h.indices[0] != nil || h.indices[1] != nil {
		t.Error("the session at the old address is still open")
	}
}

func TestNoRoomForFactsNobodyEnters(t *testing.T) {
	h, engineers, _ := fullTable(t, 1)
	from := netip.MustParseAddrPort("203.0.113.10:4000")
	before := len(h.engineers[engineers[0].Key].pending)
	to, d := h.admit(policy.Query{Key: engineers[0].Key, Proven: true, Source: from.Addr()}, stdEndpoint(from), 9, 9,
		instant{clock.Boot(), time.Now()}, func(policy.Decision) bool { return false })
	if to != nil || d.Reason != policy.NotReady || len(h.engineers[engineers[0].Key].pending) != before {
		t.Errorf("without room for its admission: %v, %v, want nobody, %v", to, d.Reason, policy.NotReady)
	}
	x := &Tunnel{facts: make(chan policy.Fact, factsWaiting)}
	for range factsWaiting {
		x.send(policy.Fact{Kind: policy.Refusal})
	}
	if len(x.facts) != factsWaiting/2 {
		t.Errorf("%d refusals wait, want them to leave half of %d for admissions", len(x.facts), factsWaiting)
	}
	for i := range factsWaiting/2 + 1 {
		if got, want := x.send(policy.Fact{Kind: policy.Admission}), i < factsWaiting/2; got != want {
			t.Fatalf("admission %d was sent %v, want %v", i, got, want)
		}
	}
}

func TestFault63FullLimiterIsClosed(t *testing.T) {
	l := newLimiter[int](2, 1, 10)
	for key := range 10 {
		if !l.allow(key, 0) {
			t.Errorf("key %d is refused at once", key)
		}
	}
	if l.allow(10, 0) {
		t.Error("a full limiter lets an unknown key pass")
	}
	if !l.allow(0, 0) || l.allow(0, 0) {
		t.Error("a bucket of 2 does not give 2")
	}
	if !l.allow(0, time.Second) || l.allow(0, time.Second) {
		t.Error("a second does not give 1 token")
	}
	if !l.allow(10, 3*time.Second) {
		t.Error("a limiter whose buckets have refilled refuses an unknown key")
	}
}

func FuzzGate(f *testing.F) {
	f.Add(data(0, 32), uint8(10), false)
	f.Add(make([]byte, device.MessageInitiationSize), uint8(10), true)
	f.Add([]byte{2, 0, 0, 0}, uint8(11), true)
	g, o := testGate(f, 3)
	g.sources = newLimiter[netip.Addr](1e9, 1, 1e6)
	stopTime(g) // fuzzing goes on for longer than sessions last
	f.Fuzz(func(t *testing.T, packet []byte, host uint8, six bool) {
		a := netip.AddrFrom4([4]byte{203, 0, 113, host})
		if six {
			a = netip.AddrFrom16(a.As16())
		}
		sizes := []int{len(packet)}
		from := []conn.Endpoint{stdEndpoint(netip.AddrPortFrom(a, 4000))}
		g.sift([][]byte{packet}, sizes, from)
		for len(g.initiations) > 0 {
			<-g.initiations
		}
		pass := sizes[0] != 0
		want := len(packet) >= 32 && binary.LittleEndian.Uint32(packet) == 4 && host == 10 && !six
		if want {
			_, want = g.table.indices[binary.LittleEndian.Uint32(packet[4:])]
		}
		if pass != want {
			t.Errorf("%x from host %d passes %v, want %v", packet, host, pass, want)
		}
		if len(o.sent) != 0 {
			t.Errorf("%x was answered with %x", packet, o.sent)
		}
	})
}

func BenchmarkSift(b *testing.B) {
	g, _ := testGate(b, 1000)
	source := stdEndpoint(netip.MustParseAddrPort("203.0.113.10:4000"))
	var packets [][]byte
	for i := range uint32(128) {
		packets = append(packets, data(i, 1400))
	}
	sizes, from := make([]int, 128), make([]conn.Endpoint, 128)
	b.ReportAllocs()
	for b.Loop() {
		for i := range sizes {
			sizes[i], from[i] = 1400, source
		}
		g.sift(packets, sizes, from)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/128, "ns/packet")
}

func BenchmarkClose(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		h, _, _ := fullTable(b, 1000)
		closed := h.current().Doubted("closed")
		b.StartTimer()
		h.follow(closed, instant{clock.Boot(), time.Now()})
	}
}

// TestAdmittedForLong: what the kernel dropped is a refusal once the gate has admitted
// it for longer than a packet is on its way, whatever made it begin to.
func TestAdmittedForLong(t *testing.T) {
	now := instant{clock.Boot(), time.Now()}
	pass := func(d time.Duration) { now.boot, now.wall = now.boot+d, now.wall.Add(d) }
	h, engineers, state := tableAt(t, 1, now)
	old, added := netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("192.0.2.66")
	expect := func(what string, source netip.Addr, want bool) {
		t.Helper()
		q := policy.Query{Key: engineers[0].Key, Proven: true, Fault: policy.Admitted, Source: source}
		if got := h.admittedForLong(q, now); got != want {
			t.Errorf("%s: from %v admitted for long %v, want %v", what, source, got, want)
		}
	}
	expect("a gateway that starts inside a window", old, false)
	pass(settling - 1)
	expect("a moment before the time is over", old, false)
	pass(1)
	expect("after it", old, true)
	h.follow(state.Plan(now.wall), now)
	expect("another plan that opens the same", old, true)

	e := *engineers[0]
	p := testPolicy(testVendor("medisys", lab.Prefixes("203.0.113.0/28", "192.0.2.66/32"), &e))
	if err := state.Apply(now.wall, "test", policy.PolicyLoaded{Digest: "more", Policy: p}); err != nil {
		t.Fatal(err)
	}
	h.follow(state.Plan(now.wall), now)
	expect("a source of before", old, true)
	expect("a source that was added", added, false)
	pass(settling)
	expect("a source that was added a while ago", added, true)

	open := state.Plan(now.wall)
	h.follow(open.Doubted("closed"), now)
	h.follow(open, now)
	expect("closed and opened again at once", old, false)
	pass(settling)
	expect("a while later", old, true)

	opens := now.wall.Add(policy.Lead / 2)
	later := open.Restrict(func(g *policy.Grant) *policy.Grant {
		late := *g
		late.From = opens
		return &late
	})
	h.follow(later, now)
	pass(opens.Sub(now.wall))
	expect("a window that opens by the clock", old, false)
	pass(settling)
	expect("a while after it opened", old, true)

	for range 10 * maximumPlans {
		h.follow(later, now)
	}
	if len(h.plans) > maximumPlans {
		t.Errorf("%d plans are kept, allowed are %d", len(h.plans), maximumPlans)
	}
	h.sweep(now.boot + settling)
	if len(h.plans) != 1 || h.plans[0].plan != later {
		t.Errorf("%d plans are kept after a while, want the one in force", len(h.plans))
	}
}
