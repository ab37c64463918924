package notify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// patience bounds a delivery, from the name's resolution to the end of the answer.
const patience = 10 * time.Second

// Outward refuses connections to the machine itself and to its own link. It is a
// net.Dialer's Control: it sees the address that the name gave, whatever the name is.
func Outward(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%s is no address: %w", address, err)
	}
	a := to.Addr().Unmap().WithZone("")
	if a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsMulticast() || thisNetwork.Contains(a) {
		return fmt.Errorf("%s is an address of this machine or of its link alone, where nothing is sent: allowed are others, the site's own too", a)
	}
	return nil
}

// thisNetwork has more addresses of this machine (RFC 1122, section 3.2.1.3).
var thisNetwork = netip.MustParsePrefix("0.0.0.0/8")

// dialer connects by TCP, to no address that the guard refuses.
func (s Sender) dialer() *net.Dialer {
	control := s.Guard
	if control == nil {
		control = Outward
	}
	return &net.Dialer{Control: control, FallbackDelay: -1}
}

// answerMost bounds the bytes that a mail server may send in one delivery.
const answerMost = 64 << 10

var errTooMuch = errors.New("the server sends too much")

// bounded is a connection that ends at a time, and takes so many bytes.
type bounded struct {
	net.Conn
	end  time.Time
	left int
}

// dialBounded connects as a mail client wants it.
func (s Sender) dialBounded(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := s.dialer().DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	end, ok := ctx.Deadline()
	if !ok {
		end = time.Now().Add(patience)
	}
	return &bounded{Conn: c, end: end, left: answerMost}, c.SetDeadline(end)
}

// SetDeadline does not put the end off.
func (b *bounded) SetDeadline(time.Time) error { return b.Conn.SetDeadline(b.end) }

// SetReadDeadline does not put the end off.
func (b *bounded) SetReadDeadline(time.Time) error { return b.Conn.SetReadDeadline(b.end) }

// SetWriteDeadline does not put the end off.
func (b *bounded) SetWriteDeadline(time.Time) error { return b.Conn.SetWriteDeadline(b.end) }

// Read implements net.Conn.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooMuch
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
