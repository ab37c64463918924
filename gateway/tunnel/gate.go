package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"

	"kidoban/gateway/policy"
	"kidoban/gateway/tally"
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
	table *table
	now   func() instant
	boot  func() time.Duration

	checker  *device.CookieChecker
	sources  *limiter[netip.Addr]
	proven   *limiter[netip.Addr]
	replies  *limiter[struct{}]
	live     *limiter[netip.AddrPort]
	refusals *tally.Sum

	initiations chan initiation              // to the authenticator
	renewals    chan initiation              // to the authenticator, before the others
	inspect     func([]byte, netip.AddrPort) // for packets that the kernel should have dropped
	seen        func()                       // data came with an index that is not confirmed
	again       chan admitted                // from the authenticator, back into WireGuard
	answers     chan struct{}                // holds one token for each initiation WireGuard works on
	inner       conn.Bind                    // a StdNetBind
	port        atomic.Uint32                // the UDP port in use
	unread      atomic.Pointer[failure]      // of a socket that cannot be read; nil: all can
	mu          sync.Mutex                   // guards closed
	closed      chan struct{}                // closed while the bind is
}

// initiation is one that may be worth its cryptography.
type initiation struct {
	packet packetInitiation
	inner  *conn.StdNetEndpoint
	source netip.AddrPort
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
	g.mu.Lock()
	defer g.mu.Unlock()
	closed := make(chan struct{})
	g.closed = closed
	g.port.Store(uint32(actual))
	g.unread.Store(nil) // WireGuard has waited for the readers of the sockets before
	var all []conn.ReceiveFunc
	for _, receive := range inner {
		receive = g.persistent(closed, receive)
		all = append(all, func(packets [][]byte, sizes []int, from []conn.Endpoint) (int, error) {
			n, err := receive(packets, sizes, from)
			if err != nil {
				return 0, err
			}
			g.sift(packets[:n], sizes[:n], from[:n])
			return n, nil
		})
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

// persistent reads a socket until the bind is closed. WireGuard stops silently
// at an error that is not temporary, or after ten that are; then no engineer
// could enter, and there would be no sign of it.
func (g *gate) persistent(closed <-chan struct{}, receive conn.ReceiveFunc) conn.ReceiveFunc {
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
	g.mu.Lock()
	if g.closed != nil {
		close(g.closed)
		g.closed = nil
	}
	g.mu.Unlock()
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
		if size == 0 {
			continue
		}
		if size < device.MinMessageSize || binary.LittleEndian.Uint32(packets[i]) != device.MessageTransportType {
			others = true
			continue
		}
		sizes[i] = 0
		x := g.table.indices[binary.LittleEndian.Uint32(packets[i][device.MessageTransportOffsetReceiver:])]
		if x == nil || boot >= x.expires || !x.admission.open(boot) {
			continue
		}
		inner, ok := from[i].(*conn.StdNetEndpoint)
		if !ok || inner.Addr() != x.admission.address {
			continue
		}
		sizes[i] = size
		from[i] = x.endpoint(inner, inner.AddrPort)
		if !x.seen.Load() {
			x.seen.Store(true)
			fresh = true
		}
	}
	g.table.lookup.RUnlock()
	if fresh {
		g.seen()
	}
	if others {
		g.handshakes(packets, sizes, from)
	}
}

// handshakes empties everything of a batch that is not data, and keeps copies
// of the initiations that may be worth opening.
func (g *gate) handshakes(packets [][]byte, sizes []int, from []conn.Endpoint) {
	now := g.now()
	plan := g.table.current()
	for i, size := range sizes {
		if size == 0 || size >= device.MinMessageSize && binary.LittleEndian.Uint32(packets[i]) == device.MessageTransportType {
			continue
		}
		sizes[i] = 0
		inner, ok := from[i].(*conn.StdNetEndpoint)
		if !ok {
			continue
		}
		g.handshake(packets[i][:size], inner, plan, now)
	}
}

func (g *gate) handshake(packet []byte, inner *conn.StdNetEndpoint, plan *policy.Plan, now instant) {
	source := inner.AddrPort
	refuse := func(fault policy.Reason) {
		d := plan.Decide(policy.Query{Fault: fault, Source: source.Addr()}, now.wall)
		g.refusals.Add(policy.Fact{At: now.wall, Source: source, Decision: d})
	}
	if source.Addr().Is4In6() {
		// The sockets give IPv4 as IPv4. This packet came as IPv6, and its
		// sender would like to be taken for an IPv4 address.
		refuse(policy.Malformed)
		return
	}
	if !plan.Listed(source.Addr(), now.wall) {
		g.inspect(packet, source)
		return
	}
	if !wellFormed(packet, g.checker) {
		refuse(policy.Malformed)
		return
	}
	if g.table.liveEndpoint(source) && g.live.allow(source, now.boot) {
		// A session renews its keys even during a flood in the name of its
		// address: a stranger does not know the port.
		select {
		case g.renewals <- initiation{packetInitiation(packet), inner, source}:
			return
		default:
		}
	}
	key := rateKey(source.Addr())
	if !g.sources.allow(key, now.boot) {
		if !g.checker.CheckMAC2(packet, addressBytes(source)) {
			if g.replies.allow(struct{}{}, now.boot) {
				g.sendCookie(packet, inner, source)
			}
			refuse(policy.RateLimited)
			return
		}
		if !g.proven.allow(key, now.boot) {
			refuse(policy.RateLimited)
			return
		}
	}
	select {
	case g.initiations <- initiation{packetInitiation(packet), inner, source}:
	default:
		refuse(policy.RateLimited)
	}
}

// wellFormed reports whether the packet is an initiation whose sender knows the
// gateway's public key. All four bytes of the type count.
func wellFormed(packet []byte, checker *device.CookieChecker) bool {
	return len(packet) == device.MessageInitiationSize &&
		binary.LittleEndian.Uint32(packet) == device.MessageInitiationType &&
		checker.CheckMAC1(packet)
}

// sendCookie answers an initiation beyond its rate with a cookie (WireGuard
// whitepaper, section 5.4.7).
func (g *gate) sendCookie(packet []byte, to *conn.StdNetEndpoint, source netip.AddrPort) {
	reply, err := g.checker.CreateReply(packet, binary.LittleEndian.Uint32(packet[senderAt:]), addressBytes(source))
	if err != nil {
		return
	}
	out := make([]byte, 0, device.MessageCookieReplySize)
	out = binary.LittleEndian.AppendUint32(out, reply.Type)
	out = binary.LittleEndian.AppendUint32(out, reply.Receiver)
	out = append(out, reply.Nonce[:]...)
	out = append(out, reply.Cookie[:]...)
	// A reply that is lost is asked for again.
	_ = g.inner.Send([][]byte{out}, to)
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
		return
	default:
	}
	timer := time.NewTimer(50 * time.Millisecond)
	defer timer.Stop()
	select {
	case g.answers <- struct{}{}:
	case <-timer.C:
		for range inFlight {
			select {
			case <-g.answers:
			default:
				return
			}
		}
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
		if len(p) < 4 || [4]byte(p) != [4]byte{device.MessageTransportType} {
			return errCut // WireGuard sends handshakes one at a time
		}
	}
	first := packets[0]
	if len(first) < 4 {
		return errCut
	}
	switch binary.LittleEndian.Uint32(first) {
	case device.MessageTransportType:
		if !e.admission.open(g.boot()) {
			return errCut
		}
		return g.inner.Send(packets, e.inner)
	case device.MessageResponseType:
		select {
		case <-g.answers:
		default:
		}
		if len(first) != device.MessageResponseSize {
			return nil
		}
		index := binary.LittleEndian.Uint32(first[4:])
		initiator := binary.LittleEndian.Uint32(first[8:])
		origin := g.table.answered(e.admission.engineer, initiator, index, g.boot())
		if origin == nil {
			return nil
		}
		return g.inner.Send(packets, origin.inner)
	case device.MessageCookieReplyType:
		now := g.now()
		if !g.table.current().Listed(e.source.Addr(), now.wall) {
			return nil
		}
		return g.inner.Send(packets, e.inner)
	}
	return nil
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
