package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Packet is an IP packet that a Capture saw.
type Packet struct {
	At          time.Time      // when the kernel handed it to the interface or took it from there
	Outgoing    bool           // it left the host by this interface
	Source      netip.AddrPort // port 0 where the protocol has none, and in later fragments
	Destination netip.AddrPort
	Protocol    uint8  // IANA number; for IPv6 the first header, extension headers included
	Flags       uint8  // of TCP: FIN 1, SYN 2, RST 4, PSH 8, ACK 16
	Length      int    // bytes of the whole IP packet; up to 64 KiB where the kernel has not cut it for the wire yet
	Payload     []byte // after the UDP or TCP header, or all after the IP header; at most the first 2 KiB of the packet are kept
}

// String is one line like tcpdump's.
func (p Packet) String() string {
	direction := map[bool]string{false: "in ", true: "out"}[p.Outgoing]
	return fmt.Sprintf("%s %s %v > %v protocol %d, %d bytes", p.At.Format("15:04:05.000000"), direction, p.Source, p.Destination, p.Protocol, p.Length)
}

// Capture records the IP packets that pass an interface, in both directions: incoming ones before
// the firewall, outgoing ones after it. A packet joined by segmentation offload counts once.
type Capture struct {
	host          *Host
	interfaceName string
	untimed       bool // its packets have no time
	file          *os.File
	connection    syscall.RawConn

	mu        sync.Mutex
	buffer    []byte
	control   []byte
	packets   []Packet
	unstamped int // packets without a time, which After would hide
	stopped   bool
}

// captureLimit bounds the packets that a Capture keeps, to about 1 GiB.
const captureLimit = 1 << 19

// Capture begins to record an interface, until the lab ends.
func (h *Host) Capture(interfaceName string) *Capture {
	h.lab.t.Helper()
	_, err := stampPackets()
	h.must(err, "capture on %s", interfaceName)
	return h.capture(&Capture{interfaceName: interfaceName})
}

// CaptureUntimed is Capture, but its packets have no time: the kernel stamps packets for the whole machine.
func (h *Host) CaptureUntimed(interfaceName string) *Capture {
	h.lab.t.Helper()
	return h.capture(&Capture{interfaceName: interfaceName, untimed: true})
}

func (h *Host) capture(c *Capture) *Capture {
	h.lab.t.Helper()
	c.host, c.buffer, c.control = h, make([]byte, 2048), make([]byte, 128)
	err := h.Do(c.open)
	h.must(err, "capture on %s", c.interfaceName)
	h.cleanup(func() { c.file.Close() })
	go func() {
		// Never satisfied: each readiness calls again, and closing ends it.
		_ = c.connection.Read(func(fd uintptr) bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.drain(int(fd))
			return false
		})
	}()
	return c
}

func (c *Capture) open() error {
	link, err := net.InterfaceByName(c.interfaceName)
	if err != nil {
		return err
	}
	// Protocol 0 receives nothing: before bind, packets of other interfaces would come in.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	const room = 64 << 20 // bytes; beyond the machine's limit only with FORCE
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room) // Packets notices a loss
	}
	if !c.untimed {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, stamping)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: link.Index})
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	c.file = os.NewFile(uintptr(fd), "capture of "+c.interfaceName)
	c.connection, err = c.file.SyscallConn()
	return err
}

const stamping = unix.SOF_TIMESTAMPING_RX_SOFTWARE | unix.SOF_TIMESTAMPING_SOFTWARE

// stampPackets makes the kernel stamp packets, for the life of this process. The kernel begins from
// a work queue, some time later, and stops when the last socket that asked is closed. So this socket
// stays open: the collector closes a socket that nothing refers to. Datagrams over the loopback
// interface show that the kernel has begun.
var stampPackets = sync.OnceValues(func() (*net.UDPConn, error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPING, stamping) // the end below tells
		})
	}
	var data, control [128]byte
	for end := time.Now().Add(settle); err == nil && time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err = c.WriteTo(data[:1], c.LocalAddr()); err != nil {
			break
		}
		_, n, _, _, readErr := c.ReadMsgUDP(data[:], control[:])
		if readErr == nil && !timestamp(control[:n]).IsZero() {
			return c, nil
		}
		err = readErr
	}
	c.Close()
	return nil, errors.Join(errors.New("the kernel stamps no packet with its time"), err)
})

// drain reads the packets in the queue; c.mu is held.
func (c *Capture) drain(fd int) {
	for !c.stopped {
		// With MSG_TRUNC n is the length of the whole packet.
		n, controlLength, _, from, err := unix.Recvmsg(fd, c.buffer, c.control, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return // EAGAIN: nothing more; ENETDOWN: the interface is gone
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if !ok || len(c.packets) >= captureLimit {
			continue
		}
		p, ok := parsePacket(c.buffer[:min(n, len(c.buffer))])
		if !ok {
			continue
		}
		if p.At = timestamp(c.control[:controlLength]); p.At.IsZero() && !c.untimed {
			c.unstamped++
		}
		p.Outgoing = link.Pkttype == unix.PACKET_OUTGOING
		p.Length = n
		c.packets = append(c.packets, p)
	}
}

// Packets returns the recorded packets that every match accepts, oldest first. It ends the test if
// packets were lost, or have no time, because then absence proves nothing.
func (c *Capture) Packets(match ...func(Packet) bool) []Packet {
	c.host.lab.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	lost := 0
	if !c.stopped {
		err := c.connection.Control(func(fd uintptr) {
			c.drain(int(fd))
			// Reading the statistics resets them.
			if s, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
				lost = int(s.Drops)
			}
		})
		c.host.must(err, "capture on %s", c.interfaceName)
	}
	if lost > 0 || c.unstamped > 0 || len(c.packets) >= captureLimit {
		c.host.lab.t.Fatalf("lab: host %s: capture on %s: %d packets lost in the kernel, %d without a time, %d recorded (at most %d)",
			c.host.Name, c.interfaceName, lost, c.unstamped, len(c.packets), captureLimit)
	}
	var found []Packet
	for _, p := range c.packets {
		if !slices.ContainsFunc(match, func(m func(Packet) bool) bool { return !m(p) }) {
			found = append(found, p)
		}
	}
	return found
}

// Forget drops the recorded packets.
func (c *Capture) Forget() {
	c.host.lab.t.Helper()
	c.Packets()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.packets = nil
}

// Stop ends the recording; Packets still works.
func (c *Capture) Stop() {
	c.host.lab.t.Helper()
	c.Packets()
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	c.file.Close()
}

// These match packets by source, destination, direction, IANA protocol number, and time.
func From(a netip.Addr) func(Packet) bool { return func(p Packet) bool { return p.Source.Addr() == a } }
func To(a netip.Addr) func(Packet) bool {
	return func(p Packet) bool { return p.Destination.Addr() == a }
}
func Outgoing(p Packet) bool { return p.Outgoing }
func Incoming(p Packet) bool { return !p.Outgoing }
func Protocol(number uint8) func(Packet) bool {
	return func(p Packet) bool { return p.Protocol == number }
}
func After(t time.Time) func(Packet) bool { return func(p Packet) bool { return p.At.After(t) } }

// Lines writes packets one a line, for messages; of many only the first 20.
func Lines(packets []Packet) string {
	var b strings.Builder
	for _, p := range packets[:min(len(packets), 20)] {
		fmt.Fprintln(&b, p)
	}
	if more := len(packets) - 20; more > 0 {
		fmt.Fprintf(&b, "and %d more\n", more)
	}
	return b.String()
}

// parseHeader reads an IP header; rest is all behind it.
func parseHeader(data []byte) (from, to netip.Addr, protocol uint8, rest []byte, ok bool) {
	switch {
	case len(data) >= 20 && data[0]>>4 == 4 && len(data) >= int(data[0]&15)*4:
		return netip.AddrFrom4([4]byte(data[12:16])), netip.AddrFrom4([4]byte(data[16:20])), data[9], data[int(data[0]&15)*4:], true
	case len(data) >= 40 && data[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(data[8:24])), netip.AddrFrom16([16]byte(data[24:40])), data[6], data[40:], true
	}
	return from, to, 0, nil, false
}

// parsePacket reads the beginning of an IP packet and keeps a copy. Other packets, as ARP, give false.
func parsePacket(data []byte) (p Packet, ok bool) {
	from, to, protocol, rest, ok := parseHeader(data)
	if !ok {
		return p, false
	}
	p.Protocol = protocol
	var fromPort, toPort uint16
	later := from.Is4() && binary.BigEndian.Uint16(data[6:])&0x1fff != 0 // a later fragment has no ports
	udp, tcp := protocol == unix.IPPROTO_UDP && len(rest) >= 8, protocol == unix.IPPROTO_TCP && len(rest) >= 20
	if !later && (udp || tcp) {
		fromPort, toPort = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
		header := 8
		if tcp {
			p.Flags, header = rest[13], int(rest[12]>>4)*4
		}
		rest = rest[min(len(rest), header):]
	}
	p.Source, p.Destination = netip.AddrPortFrom(from, fromPort), netip.AddrPortFrom(to, toPort)
	p.Payload = bytes.Clone(rest)
	return p, true
}

// timestamp reads the kernel's time of the packet (SO_TIMESTAMPING) from ancillary data; zero if
// there is none.
func timestamp(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Time{}
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPING && len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
			t := *(*unix.Timespec)(unsafe.Pointer(&m.Data[0]))
			return time.Unix(t.Unix())
		}
	}
	return time.Time{}
}

// htons gives a number the byte order that AF_PACKET wants in native fields.
func htons(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}
