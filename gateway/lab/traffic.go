package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// Dial connects from the host. The address must be numeric.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return h.dial(ctx, net.Dialer{}, network, address)
}

func (h *Host) dial(ctx context.Context, dialer net.Dialer, network, address string) (c net.Conn, err error) {
	err = h.Do(func() (err error) { c, err = dialer.DialContext(ctx, network, address); return err })
	return c, err
}

// DialFrom is Dial from one of the host's addresses; port 0 lets the kernel choose.
func (h *Host) DialFrom(ctx context.Context, network string, from netip.AddrPort, address string) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from)}
	if strings.HasPrefix(network, "udp") {
		dialer.LocalAddr = net.UDPAddrFromAddrPort(from)
	}
	return h.dial(ctx, dialer, network, address)
}

// Listen listens on the host for stream connections, until the lab ends.
func (h *Host) Listen(network, address string) (net.Listener, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false) // one flow is one connection
	var l net.Listener
	err := h.Do(func() (err error) { l, err = config.Listen(context.Background(), network, address); return err })
	if err == nil {
		h.cleanup(func() { l.Close() })
	}
	return l, err
}

// ListenPacket opens a packet socket on the host, until the lab ends.
func (h *Host) ListenPacket(network, address string) (net.PacketConn, error) {
	var c net.PacketConn
	err := h.Do(func() (err error) { c, err = net.ListenPacket(network, address); return err })
	if err == nil {
		h.cleanup(func() { c.Close() })
	}
	return c, err
}

// Echo serves "tcp" or "udp" on the host and sends back everything, until the lab ends. It returns
// its address: for port 0 the kernel chooses the port.
func (h *Host) Echo(network, address string) netip.AddrPort {
	h.lab.t.Helper()
	switch network {
	case "tcp":
		l, err := h.Listen(network, address)
		h.must(err, "echo")
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				h.cleanup(func() { c.Close() })
				go func() {
					defer c.Close()
					_, _ = io.Copy(c, c) // the other end says how it went
				}()
			}
		}()
		return l.Addr().(*net.TCPAddr).AddrPort()
	case "udp":
		c, err := h.ListenPacket(network, address)
		h.must(err, "echo")
		go func() {
			buffer := make([]byte, 1<<16)
			for {
				n, from, err := c.ReadFrom(buffer)
				if err != nil {
					return
				}
				_, _ = c.WriteTo(buffer[:n], from) // lost as any datagram may be
			}
		}()
		return c.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	h.lab.t.Fatalf("lab: host %s: echo over %q: allowed are tcp and udp", h.Name, network)
	return netip.AddrPort{}
}

// Exchange sends a message to an echo server and waits until it has come back whole. It returns the
// time, with connecting.
func (h *Host) Exchange(ctx context.Context, network, address, message string) (time.Duration, error) {
	begin := time.Now()
	c, err := h.Dial(ctx, network, address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.WriteString(c, message); err != nil {
		return 0, err
	}
	answer := make([]byte, len(message))
	if _, err := io.ReadFull(c, answer); err != nil {
		return 0, err
	}
	if string(answer) != message {
		return 0, fmt.Errorf("lab: echo of %q came back as %q", message, answer)
	}
	return time.Since(begin), nil
}

var pings atomic.Uint32

// Ping sends one ICMP echo request and returns the time until its answer.
func (h *Host) Ping(ctx context.Context, to netip.Addr) (time.Duration, error) {
	network, protocol := "ip4:icmp", 1
	var request, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	if to.Is6() {
		network, protocol = "ip6:ipv6-icmp", 58
		request, reply = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	number := int(pings.Add(1))
	body := &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: number & 0xffff, Data: []byte("kidoban lab")}
	packet, err := (&icmp.Message{Type: request, Body: body}).Marshal(nil)
	if err != nil {
		return 0, err
	}
	c, err := h.Dial(ctx, network, to.String())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	begin := time.Now()
	if _, err := c.Write(packet); err != nil {
		return 0, fmt.Errorf("lab: ping %v from %s: %w", to, h.Name, err)
	}
	buffer := make([]byte, 1500)
	for {
		n, _, err := c.(*net.IPConn).ReadFrom(buffer) // Read would give the IPv4 header too
		if err != nil {
			return 0, fmt.Errorf("lab: ping %v from %s: no answer in %v: %w", to, h.Name, time.Since(begin).Round(time.Millisecond), err)
		}
		m, err := icmp.ParseMessage(protocol, buffer[:n])
		if err != nil || m.Type != reply {
			continue
		}
		if echo, ok := m.Body.(*icmp.Echo); ok && echo.ID == body.ID && echo.Seq == body.Seq && bytes.Equal(echo.Data, body.Data) {
			return time.Since(begin), nil
		}
	}
}

// Send sends an IP packet with any source along the host's routes. The kernel fills in the IPv4
// header's checksum.
func (h *Host) Send(packet []byte) error {
	to, ok := destination(packet)
	if !ok {
		return fmt.Errorf("lab: host %s: send: %d bytes that begin with %x are no IPv4 or IPv6 packet", h.Name, len(packet), packet[:min(len(packet), 20)])
	}
	family := unix.AF_INET
	var address unix.Sockaddr
	if to.Is4() {
		address = &unix.SockaddrInet4{Addr: to.As4()}
	} else {
		family, address = unix.AF_INET6, &unix.SockaddrInet6{Addr: to.As16()}
	}
	fd, err := h.rawSocket(family)
	if err != nil {
		return fmt.Errorf("lab: host %s: raw socket: %w", h.Name, err)
	}
	if err := unix.Sendto(fd, packet, 0, address); err != nil {
		return fmt.Errorf("lab: host %s: send to %v: %w", h.Name, to, err)
	}
	return nil
}

// rawSocket gives the host's socket for whole packets of a family. With IPPROTO_RAW the sender
// writes the header (raw(7)).
func (h *Host) rawSocket(family int) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if fd, ok := h.raw[family]; ok {
		return fd, nil
	}
	fd := -1
	err := h.Do(func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	})
	if err != nil {
		return -1, err
	}
	h.raw[family] = fd
	h.cleanups = append(h.cleanups, func() { unix.Close(fd) })
	return fd, nil
}

// destination reads the address that an IP packet goes to.
func destination(packet []byte) (netip.Addr, bool) {
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(packet[16:20])), true
	case len(packet) >= 40 && packet[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(packet[24:40])), true
	}
	return netip.Addr{}, false
}

// UDPPacket builds an IP packet with a UDP datagram, for Send. Both addresses are of one family.
func UDPPacket(from, to netip.AddrPort, payload []byte) []byte {
	datagram := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(datagram[0:], from.Port())
	binary.BigEndian.PutUint16(datagram[2:], to.Port())
	binary.BigEndian.PutUint16(datagram[4:], uint16(8+len(payload)))
	datagram = append(datagram, payload...)
	sum := checksum(from.Addr(), to.Addr(), unix.IPPROTO_UDP, datagram)
	if sum == 0 {
		sum = 0xffff // RFC 768: zero would mean that there is none
	}
	binary.BigEndian.PutUint16(datagram[6:], sum)
	return IPPacket(from.Addr(), to.Addr(), unix.IPPROTO_UDP, datagram)
}

// IPPacket puts an IP header before a payload of the given protocol, for Send.
func IPPacket(from, to netip.Addr, protocol uint8, payload []byte) []byte {
	if from.Is4() {
		p := make([]byte, 20, 20+len(payload))
		p[0] = 0x45
		binary.BigEndian.PutUint16(p[2:], uint16(20+len(payload)))
		p[8], p[9] = 64, protocol
		copy(p[12:], from.AsSlice())
		copy(p[16:], to.AsSlice())
		return append(p, payload...)
	}
	p := make([]byte, 40, 40+len(payload))
	p[0] = 0x60
	binary.BigEndian.PutUint16(p[4:], uint16(len(payload)))
	p[6], p[7] = protocol, 64
	copy(p[8:], from.AsSlice())
	copy(p[24:], to.AsSlice())
	return append(p, payload...)
}

// checksum is the Internet checksum (RFC 1071) over the pseudo header (RFC 768, RFC 8200 section
// 8.1) and a datagram with a zero checksum field.
func checksum(from, to netip.Addr, protocol uint8, datagram []byte) uint16 {
	var sum uint32
	add := func(b []byte) {
		for ; len(b) >= 2; b = b[2:] {
			sum += uint32(binary.BigEndian.Uint16(b))
		}
		if len(b) == 1 {
			sum += uint32(b[0]) << 8
		}
	}
	add(from.AsSlice())
	add(to.AsSlice())
	sum += uint32(protocol) + uint32(len(datagram))
	add(datagram)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
