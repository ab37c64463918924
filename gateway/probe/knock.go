package probe

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"kidoban/gateway/lab"
)

// initiation makes a handshake initiation, as WireGuard itself does it.
func initiation(private, gateway lab.Key) ([]byte, error) {
	sent := make(chan []byte, 1)
	d := device.NewDevice(&noTUN{ended: make(chan struct{}), events: make(chan tun.Event)}, mailbox{sent}, device.NewLogger(device.LogLevelSilent, ""))
	defer d.Close()
	err := d.IpcSet(fmt.Sprintf("private_key=%x\npublic_key=%x\nendpoint=192.0.2.1:1\n", private, gateway))
	if err == nil {
		err = d.Up()
	}
	if err == nil {
		err = d.LookupPeer(gateway).SendHandshakeInitiation(false)
	}
	if err != nil {
		return nil, fmt.Errorf("make an initiation: %w", err)
	}
	return <-sent, nil
}

// mailbox is a conn.Bind that keeps the first packet and receives none.
type mailbox struct{ sent chan []byte }

func (mailbox) Open(uint16) ([]conn.ReceiveFunc, uint16, error) { return nil, 1, nil }
func (mailbox) Close() error                                    { return nil }
func (mailbox) SetMark(uint32) error                            { return nil }
func (mailbox) BatchSize() int                                  { return 1 }
func (mailbox) ParseEndpoint(s string) (conn.Endpoint, error) {
	a, err := netip.ParseAddrPort(s)
	return &conn.StdNetEndpoint{AddrPort: a}, err
}
func (m mailbox) Send(packets [][]byte, _ conn.Endpoint) error {
	select {
	case m.sent <- append([]byte(nil), packets[0]...):
	default:
	}
	return nil
}

// noTUN is a tun.Device without packets.
type noTUN struct {
	ended  chan struct{}
	events chan tun.Event
}

func (*noTUN) File() *os.File { return nil }
func (t *noTUN) Read([][]byte, []int, int) (int, error) {
	<-t.ended
	return 0, os.ErrClosed
}
func (*noTUN) Write(packets [][]byte, _ int) (int, error) { return len(packets), nil }
func (*noTUN) MTU() (int, error)                          { return device.DefaultMTU, nil }
func (*noTUN) Name() (string, error)                      { return "none", nil }
func (t *noTUN) Events() <-chan tun.Event                 { return t.events }
func (*noTUN) BatchSize() int                             { return 1 }
func (t *noTUN) Close() error {
	close(t.ended)
	close(t.events)
	return nil
}

// knocking is an initiation on its way, and what comes back.
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
