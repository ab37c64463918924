package lab

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
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
	return h.DialFrom(ctx, network, netip.AddrPort{}, address)
}

// DialFrom is Dial from one of the host's addresses; port 0 lets the kernel choose.
func (h *Host) DialFrom(ctx context.Context, network string, from netip.AddrPort, address string) (c net.Conn, err error) {
	var dialer net.Dialer
	switch {
	case !from.IsValid():
	case strings.HasPrefix(network, "udp"):
		dialer.LocalAddr = net.UDPAddrFromAddrPort(from)
	default:
		dialer.LocalAddr = net.TCPAddrFromAddrPort(from)
	}
	err = h.Do(func() (err error) { c, err = dialer.DialContext(ctx, network, address); return err })
	return c, err
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
	if network == "udp" {
		c, err := h.ListenPacket(network, address)
		h.must(err, "echo")
		go func() {
			buffer := make([]byte, 1<<16)
			for n, from, err := c.ReadFrom(buffer); err == nil; n, from, err = c.ReadFrom(buffer) {
				_, _ = c.WriteTo(buffer[:n], from) // lost as any datagram may be
			}
		}()
		return c.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	l, err := h.Listen(network, address)
	h.must(err, "echo")
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			h.cleanup(func() { c.Close() })
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c) // the other end says how it went
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
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
	answer := make([]byte, len(message))
	if _, err = io.WriteString(c, message); err == nil {
		_, err = io.ReadFull(c, answer)
	}
	if err == nil && string(answer) != message {
		err = fmt.Errorf("lab: echo of %q came back as %q", message, answer)
	}
	return time.Since(begin), err
}

var pings atomic.Uint32

// Ping sends one ICMP echo request and returns the time until its answer.
func (h *Host) Ping(ctx context.Context, to netip.Addr) (time.Duration, error) {
	network, reply := "ip4:icmp", byte(ipv4.ICMPTypeEchoReply)
	var request icmp.Type = ipv4.ICMPTypeEcho
	if to.Is6() {
		network, request, reply = "ip6:ipv6-icmp", ipv6.ICMPTypeEchoRequest, byte(ipv6.ICMPTypeEchoReply)
	}
	body := &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: int(pings.Add(1) & 0xffff), Data: []byte("kidoban lab")}
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
	for buffer := make([]byte, 1500); ; {
		n, _, err := c.(*net.IPConn).ReadFrom(buffer) // Read would give the IPv4 header too
		if err != nil {
			return 0, fmt.Errorf("lab: ping %v from %s: no answer in %v: %w", to, h.Name, time.Since(begin).Round(time.Millisecond), err)
		}
		// An answer repeats all behind the checksum.
		if n == len(packet) && buffer[0] == reply && bytes.Equal(buffer[4:n], packet[4:]) {
			return time.Since(begin), nil
		}
	}
}

// Send sends an IP packet with any source along the host's routes.
func (h *Host) Send(packet []byte) error {
	_, to, _, _, ok := parseHeader(packet)
	err := errors.New("this is no IPv4 or IPv6 packet")
	switch {
	case ok && to.Is4():
		err = unix.Sendto(h.raw[0], packet, 0, &unix.SockaddrInet4{Addr: to.As4()})
	case ok:
		err = unix.Sendto(h.raw[1], packet, 0, &unix.SockaddrInet6{Addr: to.As16()})
	}
	if err != nil {
		return fmt.Errorf("lab: host %s: send %d bytes that begin with %x: %w", h.Name, len(packet), packet[:min(len(packet), 40)], err)
	}
	return nil
}

// UDPPacket builds an IP packet with a UDP datagram. Both addresses are of one family.
func UDPPacket(from, to netip.AddrPort, payload []byte) []byte {
	datagram := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(datagram[0:], from.Port())
	binary.BigEndian.PutUint16(datagram[2:], to.Port())
	binary.BigEndian.PutUint16(datagram[4:], uint16(8+len(payload)))
	datagram = append(datagram, payload...)
	binary.BigEndian.PutUint16(datagram[6:], cmp.Or(checksum(from.Addr(), to.Addr(), unix.IPPROTO_UDP, datagram), 0xffff)) // RFC 768: zero would mean that there is none
	return IPPacket(from.Addr(), to.Addr(), unix.IPPROTO_UDP, datagram)
}

// IPPacket puts an IP header before a payload of the given protocol.
func IPPacket(from, to netip.Addr, protocol uint8, payload []byte) []byte {
	var header []byte
	if from.Is4() {
		header = []byte{0: 0x45, 8: 64, 9: protocol, 11: 0}
		binary.BigEndian.PutUint16(header[2:], uint16(20+len(payload)))
	} else {
		header = []byte{0: 0x60, 6: protocol, 7: 64}
		binary.BigEndian.PutUint16(header[4:], uint16(len(payload)))
	}
	if from.Is4() {
		binary.BigEndian.PutUint16(header[10:], sum(0, header, from.AsSlice(), to.AsSlice()))
	}
	return slices.Concat(header, from.AsSlice(), to.AsSlice(), payload)
}

// checksum is the Internet checksum (RFC 1071) over the pseudo header (RFC 768, RFC 8200 section
// 8.1) and a datagram with a zero checksum field.
func checksum(from, to netip.Addr, protocol uint8, datagram []byte) uint16 {
	return sum(uint32(protocol)+uint32(len(datagram)), from.AsSlice(), to.AsSlice(), datagram)
}

// sum is the Internet checksum of a number and of parts, all but the last of which have an even length.
func sum(total uint32, parts ...[]byte) uint16 {
	for _, part := range parts {
		for i, b := range part {
			total += uint32(b) << (8 * (1 - i%2))
		}
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return ^uint16(total)
}
