package tunnel

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"

	"kidoban/gateway/policy"
	"kidoban/gateway/tally"
	"kidoban/gateway/udp"
)

// Per source: initiations at once and per second. The first pair holds for all;
// beyond it the second holds for sources that prove their address with a cookie,
// so that a flood from a forged source does not take the real one's share
// (WireGuard whitepaper, section 5.3).
const (
	sourceBurst, sourceRate = 20, 10
	cookieBurst, cookieRate = 20, 10
	replyBurst, replyRate   = 100, 100 // cookie replies in all
	liveBurst, liveRate     = 5, 1     // per address and port of a session, before any of the above
	maximumSources          = 4096
)

// waiting bounds the initiations between the data path and the authenticator, renewing
// those among them that renew a session.
const waiting, renewing = 256, 64

// inFlight bounds the initiations that WireGuard works on, well below the
// 128 at which it believes to be under load and asks for cookies of its own.
const inFlight = 64

// gate is the conn.Bind between the sockets and WireGuard.
type gate struct {
	clocks
	limits
	queues
	table    *table
	checker  *device.CookieChecker
	refusals *tally.Sum
	seen     func() // data came with an index that is not confirmed

	again   chan admitted            // from the authenticator, back into WireGuard
	answers chan struct{}            // holds one token for each initiation WireGuard works on
	inner   conn.Bind                // the sockets
	named   func(index int32) string // names an interface
	port    atomic.Uint32            // the UDP port in use
	unread  atomic.Pointer[failure]  // of a socket that cannot be read; nil: all can
	closed  chan struct{}            // closed with the bind; guarded by the device, which opens and closes it
}

// limits are the rates of initiations.
type limits struct {
	sources, proven *limiter[netip.Addr]
	replies         *limiter[struct{}]
	live            *limiter[netip.AddrPort]
}

// queues lead to the authenticator. It takes renewals first and dropped packets
// last.
type queues struct {
	renewals, initiations chan initiation
	dropped               chan dropped // by the kernel
}

func newGate(h *table, c clocks, public [32]byte, refusals *tally.Sum, seen func()) *gate {
	sockets := udp.New()
	g := &gate{
		table: h, clocks: c, checker: &device.CookieChecker{}, refusals: refusals, seen: seen,
		limits: limits{
			sources: newLimiter[netip.Addr](sourceBurst, sourceRate, maximumSources),
			proven:  newLimiter[netip.Addr](cookieBurst, cookieRate, maximumSources),
			replies: newLimiter[struct{}](replyBurst, replyRate, 1),
			live:    newLimiter[netip.AddrPort](liveBurst, liveRate, maximumSources),
		},
		queues:  queues{make(chan initiation, renewing), make(chan initiation, waiting), make(chan dropped, 64)},
		again:   make(chan admitted, 1),
		answers: make(chan struct{}, inFlight),
		inner:   sockets,
		named:   func(index int32) string { return cmp.Or(sockets.InterfaceName(index), policy.UnknownIngress) },
	}
	g.checker.Init(public)
	return g
}

// initiation is one that may be worth its cryptography.
type initiation struct {
	packet packetInitiation
	from   *udp.Endpoint
}

// dropped is a packet that the kernel dropped.
type dropped struct {
	packet packetInitiation // if it has the size of one
	size   int
	source netip.AddrPort
	by     int32 // the index of the interface by which it came
}

// admitted is an initiation on its way into WireGuard.
type admitted struct {
	packet   packetInitiation
	endpoint *endpoint
}

// errCut tells WireGuard that a packet did not leave, so that it counts none.
var errCut = errors.New("the engineer's time is over, or came from another address since")

// Open implements conn.Bind. Of the functions the last one gives WireGuard
// the initiations that were admitted.
func (g *gate) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	inner, actual, err := g.inner.Open(port)
	if err != nil {
		return nil, 0, err
	}
	closed := make(chan struct{})
	g.closed = closed
	g.port.Store(uint32(actual))
	g.unread.Store(nil) // WireGuard has waited for the readers of the sockets before
	var all []conn.ReceiveFunc
	for _, receive := range inner {
		all = append(all, g.sifted(closed, receive))
	}
	return append(all, func(packets [][]byte, sizes []int, from []conn.Endpoint) (int, error) {
		return g.readmit(closed, packets, sizes, from)
	}), actual, nil
}

// A socket that could not be read is read again after a pause; after so many
// readings in a row that failed it is a failure of the tunnel.
const (
	unreadPause = 100 * time.Millisecond
	unreadMost  = 10
)

// sifted reads a socket until the bind is closed, and sifts the packets. It hides
// errors: WireGuard stops silently at one that is not temporary, or after ten
// that are.
func (g *gate) sifted(closed <-chan struct{}, receive conn.ReceiveFunc) conn.ReceiveFunc {
	failed := 0
	var told *failure
	return func(packets [][]byte, sizes []int, from []conn.Endpoint) (int, error) {
		n, err := receive(packets, sizes, from)
		if told != nil && err == nil {
			g.unread.CompareAndSwap(told, nil)
			told = nil
		}
		if err == nil || errors.Is(err, net.ErrClosed) {
			failed = 0
			g.sift(packets[:n], sizes[:n], from[:n])
			return n, err
		}
		if failed++; failed >= unreadMost {
			if told == nil {
				told = &failure{fmt.Errorf("a UDP socket cannot be read: %w", err)}
			}
			g.unread.CompareAndSwap(nil, told)
		}
		select {
		case <-closed:
			return 0, net.ErrClosed
		case <-time.After(unreadPause):
			return 0, nil
		}
	}
}

// Close implements conn.Bind.
func (g *gate) Close() error {
	if g.closed != nil {
		close(g.closed)
		g.closed = nil
	}
	return g.inner.Close()
}

// SetMark implements conn.Bind.
func (g *gate) SetMark(mark uint32) error { return g.inner.SetMark(mark) }

// BatchSize implements conn.Bind.
func (g *gate) BatchSize() int { return g.inner.BatchSize() }

// ParseEndpoint implements conn.Bind.
func (g *gate) ParseEndpoint(string) (conn.Endpoint, error) {
	return nil, errors.New("endpoints are learned from handshakes only")
}

// sift empties the packets of a batch that WireGuard must not see. It never
// blocks.
func (g *gate) sift(packets [][]byte, sizes []int, from []conn.Endpoint) {
	boot := g.boot()
	others, fresh := false, false
	g.table.lookup.RLock()
	for i, size := range sizes {
		if size < device.MinMessageSize || messageType(packets[i]) != device.MessageTransportType {
			others = others || size > 0
			continue
		}
		sizes[i] = 0
		x := g.table.indices[binary.LittleEndian.Uint32(packets[i][device.MessageTransportOffsetReceiver:])]
		if x == nil || boot >= x.expires || !x.admission.open(boot) {
			continue
		}
		inner, ok := from[i].(*udp.Endpoint)
		if !ok || !x.admission.takes(inner) {
			continue
		}
		sizes[i] = size
		fresh = fresh || x.last.Load() == nil
		from[i] = x.endpoint(inner)
	}
	g.table.lookup.RUnlock()
	if fresh {
		g.seen()
	}
	if others {
		g.handshakes(packets, sizes, from)
	}
}

// messageType is the type of a WireGuard message; 0: it is none. All four bytes
// count.
func messageType(packet []byte) uint32 {
	if len(packet) < 4 {
		return 0
	}
	return binary.LittleEndian.Uint32(packet)
}

// handshakes empties everything of a batch that is not data, and keeps copies
// of the initiations that may be worth opening.
func (g *gate) handshakes(packets [][]byte, sizes []int, from []conn.Endpoint) {
	now := g.now()
	plan := g.table.current()
	for i, size := range sizes {
		if size == 0 || size >= device.MinMessageSize && messageType(packets[i]) == device.MessageTransportType {
			continue
		}
		sizes[i] = 0
		if from, ok := from[i].(*udp.Endpoint); ok {
			packet := packets[i][:size]
			if fault := g.handshake(packet, from, plan, now); fault != policy.Admitted {
				g.refuse(fault, from.AddrPort, plan, now, policy.Claim{Foreign: fault == policy.Malformed && shaped(packet)})
			}
		}
	}
}

func (g *gate) refuse(fault policy.Reason, source netip.AddrPort, plan *policy.Plan, now instant, claim policy.Claim) {
	d := plan.Decide(policy.Query{Fault: fault, Source: source.Addr()}, now.wall)
	g.refusals.Add(policy.Fact{At: now.wall, Source: source, Decision: d, Claim: claim})
}

// handshake passes an initiation on, or gives the fault for which it is refused.
func (g *gate) handshake(packet []byte, from *udp.Endpoint, plan *policy.Plan, now instant) (fault policy.Reason) {
	source := from.AddrPort
	if source.Addr().Is4In6() {
		// The sockets give IPv4 as IPv4. This packet came as IPv6, and its
		// sender would like to be taken for an IPv4 address.
		return policy.Malformed
	}
	if !g.listed(plan, from, now.wall) {
		g.inspect(packet, source, from.SrcIfidx()) // the kernel should have dropped it
		return policy.Admitted
	}
	if !wellFormed(packet, g.checker) {
		return policy.Malformed
	}
	i := initiation{packetInitiation(packet), from}
	if g.table.liveEndpoint(source) && g.live.allow(source, now.boot) {
		// A session renews its keys even during a flood in the name of its
		// address: a stranger does not know the port.
		select {
		case g.renewals <- i:
			return policy.Admitted
		default:
		}
	}
	key := rateKey(source.Addr())
	if !g.sources.allow(key, now.boot) {
		if !g.checker.CheckMAC2(packet, from.DstToBytes()) {
			if g.replies.allow(struct{}{}, now.boot) {
				g.sendCookie(packet, from)
			}
			return policy.RateLimited
		}
		if !g.proven.allow(key, now.boot) {
			return policy.RateLimited
		}
	}
	select {
	case g.initiations <- i:
		return policy.Admitted
	default:
		return policy.RateLimited
	}
}

// listed reports whether an open grant lists the source of a packet, by the interface by which it came.
func (g *gate) listed(plan *policy.Plan, from *udp.Endpoint, now time.Time) bool {
	ingress := policy.UnknownIngress
	if plan.HasLines() {
		ingress = g.named(from.SrcIfidx())
	}
	return plan.Listed(from.Addr(), ingress, now)
}

// inspect has the authenticator name the sender of a packet that the kernel
// dropped.
func (g *gate) inspect(payload []byte, source netip.AddrPort, by int32) {
	d := dropped{size: len(payload), source: source, by: by}
	if d.size == len(d.packet) {
		copy(d.packet[:], payload)
	}
	select {
	case g.dropped <- d:
	default:
		g.refuse(policy.RateLimited, source, g.table.current(), g.now(), policy.Claim{})
	}
}

// wellFormed reports whether the packet is an initiation and its MAC1 is made with
// the gateway's public key.
func wellFormed(packet []byte, checker *device.CookieChecker) bool {
	return shaped(packet) && checker.CheckMAC1(packet)
}

// shaped reports whether the packet is an initiation, for whichever gateway.
func shaped(packet []byte) bool {
	return len(packet) == device.MessageInitiationSize && messageType(packet) == device.MessageInitiationType
}

// sendCookie answers an initiation beyond its rate with a cookie (WireGuard
// whitepaper, section 5.4.7).
func (g *gate) sendCookie(packet []byte, to *udp.Endpoint) {
	reply, err := g.checker.CreateReply(packet, binary.LittleEndian.Uint32(packet[senderAt:]), to.DstToBytes())
	if err != nil {
		return
	}
	out, _ := binary.Append(nil, binary.LittleEndian, reply)  // a struct of fixed size: never fails
	_ = g.inner.Send([][]byte{out}, udp.Strict{Endpoint: to}) // a reply that is lost is asked for again
}

// readmit is the ReceiveFunc of admitted initiations.
func (g *gate) readmit(closed <-chan struct{}, packets [][]byte, sizes []int, from []conn.Endpoint) (int, error) {
	select {
	case <-closed:
		return 0, net.ErrClosed
	case a := <-g.again:
		g.pace()
		sizes[0] = copy(packets[0], a.packet[:])
		from[0] = a.endpoint
		return 1, nil
	}
}

// pace waits until WireGuard has answered enough initiations. WireGuard drops
// some without an answer; those are written off after a moment.
func (g *gate) pace() {
	select {
	case g.answers <- struct{}{}:
	case <-time.After(50 * time.Millisecond):
		for range inFlight {
			g.answered()
		}
	}
}

// answered takes one token back.
func (g *gate) answered() {
	select {
	case <-g.answers:
	default:
	}
}

// Send implements conn.Bind. The gateway never initiates. A response leaves for
// the address of its initiation, and registers the index that its data will
// carry. Data leaves until the deadline.
func (g *gate) Send(packets [][]byte, to conn.Endpoint) error {
	e, ok := to.(*endpoint)
	if !ok {
		return conn.ErrWrongEndpointType
	}
	if len(packets) == 0 {
		return nil
	}
	for _, p := range packets[1:] {
		if messageType(p) != device.MessageTransportType {
			return errCut // WireGuard sends handshakes one at a time
		}
	}
	switch first := packets[0]; messageType(first) {
	case device.MessageTransportType:
		if !e.admission.open(g.boot()) || !e.admission.takes(e.Endpoint) {
			return errCut
		}
		if e.admission.only.Load() == 0 {
			return g.inner.Send(packets, e.Endpoint)
		}
		return g.inner.Send(packets, udp.Strict{Endpoint: e.Endpoint})
	case device.MessageResponseType:
		g.answered()
		index, initiator := binary.LittleEndian.Uint32(first[4:]), binary.LittleEndian.Uint32(first[8:])
		if origin := g.table.answered(e.admission.engineer, initiator, index, g.boot()); origin != nil {
			return g.inner.Send(packets, udp.Strict{Endpoint: origin.Endpoint})
		}
	case device.MessageCookieReplyType:
		if g.listed(g.table.current(), e.Endpoint, g.now().wall) {
			return g.inner.Send(packets, udp.Strict{Endpoint: e.Endpoint})
		}
	}
	return nil
}
