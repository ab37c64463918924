package probe

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"

	"kidoban/gateway/lab"
)

// knocking is an initiation that was sent, with the socket for the answer.
type knocking struct {
	from   netip.AddrPort
	socket net.Conn
}

// knock sends an initiation from one of a host's addresses.
func knock(h *lab.Host, from netip.Addr, gateway netip.AddrPort, packet []byte) (*knocking, error) {
	ctx, cancel := within(eventually)
	defer cancel()
	c, err := h.DialFrom(ctx, "udp", netip.AddrPortFrom(from, 0), gateway.String())
	if err != nil {
		return nil, err
	}
	k := &knocking{c.LocalAddr().(*net.UDPAddr).AddrPort(), c}
	if err = k.hearErrors(); err == nil {
		_, err = c.Write(packet)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return k, nil
}

// hearErrors lets every ICMP error end a read (IP_RECVERR of ip(7)): it would be an answer.
func (k *knocking) hearErrors() error {
	raw, err := k.socket.(*net.UDPConn).SyscallConn()
	if err != nil {
		return err
	}
	level, option := unix.IPPROTO_IP, unix.IP_RECVERR
	if k.from.Addr().Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	}
	refused := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, 1) })
	return errors.Join(refused, err)
}

// answered reports whether anything comes back within a time, and whether it is the response of a handshake.
func (k *knocking) answered(in time.Duration) (something, response bool) {
	_ = k.socket.SetReadDeadline(time.Now().Add(in))
	buffer := make([]byte, 1500)
	n, err := k.socket.Read(buffer)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false, false
	}
	return true, err == nil && n == device.MessageResponseSize && buffer[0] == device.MessageResponseType
}

func (k *knocking) close() { k.socket.Close() }
