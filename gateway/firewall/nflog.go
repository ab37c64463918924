package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"kidoban/gateway/policy"
)

// copies reads the packets that rules copy to NFLOG
// (linux/netfilter/nfnetlink_log.h).
type copies struct {
	inspect   func(payload []byte, source netip.AddrPort, by int32) // takes refused initiations
	logger    *slog.Logger
	namespace *os.File              // the network namespace
	unread    atomic.Pointer[error] // why nothing can be read for a while now; nil: it can
	done      chan struct{}         // closed when run has returned

	mu     sync.Mutex
	open   func() (logSocket, error)
	socket logSocket     // nil: it could not be opened again
	closed chan struct{} // closed by close
}

// logSocket is a *netlink.Conn that is bound to the group.
type logSocket interface {
	Receive() ([]netlink.Message, error)
	SetReadDeadline(time.Time) error
	Close() error
}

// Numbers of nfnetlink_log that golang.org/x/sys lacks.
const (
	logPacket = 0 // NFULNL_MSG_PACKET
	logConfig = 1 // NFULNL_MSG_CONFIG

	logCommand   = 1 // NFULA_CFG_CMD
	logMode      = 2 // NFULA_CFG_MODE
	logThreshold = 5 // NFULA_CFG_QTHRESH

	logBind       = 1 // NFULNL_CFG_CMD_BIND
	logCopyPacket = 2 // NFULNL_COPY_PACKET

	logIngress = 4  // NFULA_IFINDEX_INDEV
	logPayload = 9  // NFULA_PAYLOAD
	logPrefix  = 10 // NFULA_PREFIX
)

// flowReport takes a copy of a refused flow. fault is Admitted, unless the
// kernel refused it for a reason that the plan does not know. by is the interface by which a packet
// came past the tunnel, as in policy.Query.
type flowReport func(source netip.Addr, to netip.AddrPort, protocol uint8, fault policy.Reason, by string)

// openCopies binds the group, in the calling thread's network namespace. inspect
// and flow are called for each copy of a refused initiation and of a refused flow,
// on one goroutine.
func openCopies(group uint16, inspect func([]byte, netip.AddrPort, int32), flow flowReport, logger *slog.Logger) (*copies, error) {
	namespace, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("NFLOG: %w", err)
	}
	c := &copies{
		inspect: inspect, logger: logger, namespace: namespace,
		open: func() (logSocket, error) { return openLog(group, namespace) },
		done: make(chan struct{}), closed: make(chan struct{}),
	}
	if c.socket, err = c.open(); err != nil {
		namespace.Close()
		return nil, err
	}
	go c.run(flow)
	return c, nil
}

// openLog binds a socket to the group.
func openLog(group uint16, namespace *os.File) (logSocket, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	config := &netlink.Config{}
	there, err := namespace.Stat()
	if err != nil {
		return nil, fmt.Errorf("NFLOG: %w", err)
	}
	// To go there takes CAP_SYS_ADMIN, so we do not where we are there already,
	// as the program always is.
	if here, err := os.Stat("/proc/thread-self/ns/net"); err != nil || !os.SameFile(here, there) {
		config.NetNS = int(namespace.Fd())
	}
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, config)
	if err != nil {
		return nil, fmt.Errorf("NFLOG: %w", err)
	}
	// Without it a burst costs copies, not packets.
	_ = conn.SetReadBuffer(1 << 20)
	configure := func(what string, a ...netlink.Attribute) error {
		_, err := conn.Execute(netlink.Message{
			Header: netlink.Header{Type: unix.NFNL_SUBSYS_ULOG<<8 | logConfig, Flags: netlink.Request | netlink.Acknowledge},
			Data:   append([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, byte(group >> 8), byte(group)}, marshal(a...)...),
		})
		if err != nil {
			return fmt.Errorf("NFLOG group %d: %s: %w", group, what, err)
		}
		return nil
	}
	mode := append(binary.BigEndian.AppendUint32(nil, copyLength), logCopyPacket, 0)
	if err = conn.SetDeadline(time.Now().Add(answerTimeout)); err == nil {
		err = configure("bind (another program may hold it)", raw(logCommand, []byte{logBind}))
	}
	if err == nil {
		// Each copy at once, none waits for company.
		err = configure("copy packets", raw(logMode, mode), be32(logThreshold, 1))
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func (c *copies) close() error {
	c.mu.Lock()
	close(c.closed)
	var err error
	if c.socket != nil {
		err = c.socket.Close()
	}
	c.mu.Unlock()
	<-c.done
	return errors.Join(err, c.namespace.Close())
}

// A socket that could not be read is opened anew after a pause. That one works
// once it was read, or had nothing to read for a while. After so many failures
// in a row Check reports it.
const (
	unreadPause = 100 * time.Millisecond
	unreadMost  = 10
	unreadCalm  = time.Second
)

// run reads until closed, whatever happens to the socket: without the copies no
// refused engineer is named.
func (c *copies) run(flow flowReport) {
	defer close(c.done)
	for failed := 0; ; {
		socket, err := c.opened()
		var messages []netlink.Message
		works := false
		if err == nil {
			messages, err = socket.Receive()
			var op *netlink.OpError
			works = err == nil || errors.Is(err, unix.ENOBUFS) || // some copies are lost
				failed > 0 && errors.As(err, &op) && op.Timeout()
		}
		switch {
		case !works:
			if failed++; !c.unreadable(err, failed) {
				return
			}
		case failed > 0:
			failed = 0
			c.unread.Store(nil)
			c.logger.Info("the kernel's copies of what it refuses are read again")
			_ = socket.SetReadDeadline(time.Time{}) // an error shows when it is read
		}
		for _, m := range messages {
			prefix, p, ok := parseCopy(m)
			if !ok {
				continue
			}
			prefix, by, _ := strings.Cut(prefix, " ")
			switch prefix {
			case copiedInitiation:
				c.initiation(p)
			case copiedFlow:
				flow(p.source.Addr(), p.to, p.protocol, policy.Admitted, by)
			case copiedExcess:
				flow(p.source.Addr(), p.to, p.protocol, policy.RateLimited, "")
			}
		}
	}
}

// opened gives the socket, or a new one if it could not be read.
func (c *copies) opened() (logSocket, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket != nil {
		return c.socket, nil
	}
	select {
	case <-c.closed:
		return nil, os.ErrClosed
	default:
	}
	socket, err := c.open()
	if err != nil {
		return nil, err
	}
	c.socket = socket
	return socket, socket.SetReadDeadline(time.Now().Add(unreadCalm))
}

// unreadable lets go of the socket after it failed so many times, and waits
// before the next attempt. It reports whether there is to be one.
func (c *copies) unreadable(err error, failed int) bool {
	select {
	case <-c.closed:
		return false
	default:
	}
	if failed == 1 {
		c.logger.Warn("the kernel's copies of what it refuses cannot be read; that is tried again", "err", err)
	}
	if failed >= unreadMost {
		c.unread.Store(&err)
	}
	c.mu.Lock()
	if c.socket != nil {
		c.socket.Close()
		c.socket = nil
	}
	c.mu.Unlock()
	select {
	case <-c.closed:
		return false
	case <-time.After(unreadPause):
		return true
	}
}

// err says why nothing can be read for a while now.
func (c *copies) err() error {
	if err := c.unread.Load(); err != nil {
		return fmt.Errorf("what the kernel refuses cannot be read, so nobody is named who tries to get in: %w", *err)
	}
	return nil
}

// initiation hands on the payload of an initiation, without the UDP header.
func (c *copies) initiation(p packet) {
	if p.protocol == unix.IPPROTO_UDP && len(p.payload) >= 8+initiationLength && c.inspect != nil {
		c.inspect(p.payload[8:8+initiationLength], p.source, p.by)
	}
}

// parseCopy reads the prefix of the rule that made a copy, and the packet.
func parseCopy(m netlink.Message) (prefix string, p packet, ok bool) {
	if m.Header.Type != unix.NFNL_SUBSYS_ULOG<<8|logPacket {
		return "", packet{}, false
	}
	p, ok = parsePacket(find(body(m), logPayload))
	p.by = int32(number(find(body(m), logIngress)))
	return stringOf(find(body(m), logPrefix)), p, ok
}

// packet is the part of an IP packet that a refusal shows.
type packet struct {
	source, to netip.AddrPort // ports are 0 where the protocol has none or they cannot be read
	protocol   uint8
	by         int32  // the index of the interface by which it came; 0: the copy does not say
	payload    []byte // from the transport header on
}

// parsePacket reads an IP packet, which may be cut short. It goes through
// IPv6's extension headers (RFC 8200, section 4) and no deeper.
func parsePacket(b []byte) (packet, bool) {
	var p packet
	var source, destination netip.Addr
	first := true // a later fragment has no ports
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		header := int(b[0]&15) * 4
		if header < 20 || header > len(b) {
			return p, false
		}
		source, destination = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		p.protocol, p.payload = b[9], b[header:]
		first = binary.BigEndian.Uint16(b[6:])&0x1fff == 0
	case len(b) >= 40 && b[0]>>4 == 6:
		source, destination = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		p.protocol, p.payload = b[6], b[40:]
		for slices.Contains(extensions, p.protocol) && len(p.payload) >= 8 {
			length := 8 + int(p.payload[1])*8
			if p.protocol == unix.IPPROTO_FRAGMENT {
				length = 8
				first = binary.BigEndian.Uint16(p.payload[2:])>>3 == 0
			}
			p.protocol = p.payload[0]
			p.payload = p.payload[min(length, len(p.payload)):]
			if !first {
				break
			}
		}
	default:
		return p, false
	}
	var from, to uint16
	if (p.protocol == unix.IPPROTO_TCP || p.protocol == unix.IPPROTO_UDP) && first && len(p.payload) >= 4 {
		from, to = binary.BigEndian.Uint16(p.payload), binary.BigEndian.Uint16(p.payload[2:])
	}
	p.source, p.to = netip.AddrPortFrom(source, from), netip.AddrPortFrom(destination, to)
	return p, true
}

// extensions are the headers of IPv6 that may come before the transport's.
var extensions = []uint8{unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_FRAGMENT, unix.IPPROTO_DSTOPTS}

// refused reports a flow that the kernel refused to an engineer. The reason is
// the plan's, unless the kernel had its own (fault). A flow that the plan admits
// was on its way while the plan changed, and is not reported.
func (f *ruleset) refused(source netip.Addr, to netip.AddrPort, protocol uint8, fault policy.Reason, by string) {
	p := f.plan.Load()
	if p == nil || p.Policy == nil {
		return
	}
	fact := policy.Fact{Kind: policy.Refusal, At: time.Now(), To: to, Proto: protocol, Count: 1}
	if by != "" {
		fact.Source = netip.AddrPortFrom(source, 0)
	}
	q := policy.Query{To: to, Proto: protocol, Fault: fault, Ingress: by}
	if e := p.ByAddress(source); e != nil {
		q.Key, q.Proven = e.Key, true
	}
	if fact.Decision = p.Decide(q, fact.At); fact.Decision.Reason == policy.Admitted {
		return
	}
	fact.Engineer = fact.Decision.Engineer
	f.outbox.refusal(fact)
}
