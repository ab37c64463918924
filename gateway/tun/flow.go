package tun

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// member is a TCP or UDP packet that belongs to a flow: it is no fragment, and has no IPv4 options
// and no IPv6 extension headers.
type member struct {
	six, udp    bool
	start, head int  // where TCP or UDP begins, and its payload
	joins       bool // it may be joined with other packets of its flow
}

// read reads the headers of a packet. It returns false for a packet of another kind.
func (m *member) read(p []byte, joinsUDP bool) bool {
	if !m.readIP(p) {
		return false
	}
	if m.udp {
		return m.readUDP(p, joinsUDP)
	}
	return m.readTCP(p)
}

func (m *member) readIP(p []byte) bool {
	var protocol byte
	switch {
	case len(p) >= ip4Size && p[0] == 0x45:
		fragment := binary.BigEndian.Uint16(p[ip4Fragment:])
		if int(binary.BigEndian.Uint16(p[ip4Length:])) != len(p) || fragment&^dontFragment != 0 {
			return false
		}
		m.start, protocol = ip4Size, p[ip4Protocol]
	case len(p) >= ip6Size && p[0]>>4 == 6:
		if int(binary.BigEndian.Uint16(p[ip6Length:])) != len(p)-ip6Size {
			return false
		}
		m.six, m.start, protocol = true, ip6Size, p[ip6Protocol]
	}
	m.udp = protocol == unix.IPPROTO_UDP
	return m.udp || protocol == unix.IPPROTO_TCP
}

// dontFragment is the flag of IPv4.
const dontFragment = 0x4000

// readTCP lets segments join that have payload, and no flags but ACK and PSH. A segment with the
// checksum 0xffff does not join: the kernel would write 0, which is the same number.
func (m *member) readTCP(p []byte) bool {
	if len(p) < m.start+tcpSize {
		return false
	}
	tcp := p[m.start:]
	m.head = m.start + int(tcp[tcpOffset]>>4)*4
	if m.head < m.start+tcpSize || m.head > len(p) {
		return false
	}
	m.joins = len(p) > m.head && tcp[tcpFlags]&^psh == ack && binary.BigEndian.Uint16(tcp[tcpChecksum:]) != 0xffff
	return true
}

func (m *member) readUDP(p []byte, joins bool) bool {
	if len(p) < m.start+udpSize {
		return false
	}
	udp := p[m.start:]
	if int(binary.BigEndian.Uint16(udp[udpLength:])) != len(udp) {
		return false
	}
	m.head = m.start + udpSize
	m.joins = joins && len(p) > m.head && binary.BigEndian.Uint16(udp[udpChecksum:]) != 0
	return true
}

// sameFlow compares addresses, ports and protocol of two packets.
func sameFlow(m, n *member, p, q []byte) bool {
	return m.six == n.six && m.udp == n.udp && [4]byte(p[m.start:]) == [4]byte(q[n.start:]) &&
		bytes.Equal(addresses(p, m.six), addresses(q, m.six))
}

// alike reports whether the kernel would make the headers of q out of those of p, if q is i packets
// behind p in one frame. Lengths, checksums, PSH and the sequence are not compared.
func alike(m *member, p, q []byte, i int) bool {
	if m.six && ([4]byte(p) != [4]byte(q) || p[ip6HopLimit] != q[ip6HopLimit]) {
		return false
	}
	if !m.six && (p[1] != q[1] || p[ip4Fragment] != q[ip4Fragment] || p[ip4TTL] != q[ip4TTL] ||
		binary.BigEndian.Uint16(p[ip4ID:])+uint16(i) != binary.BigEndian.Uint16(q[ip4ID:])) {
		return false
	}
	return m.udp || alikeTCP(p[m.start:m.head], q[m.start:])
}

func alikeTCP(p, q []byte) bool {
	return bytes.Equal(p[tcpAcknowledgment:tcpFlags], q[tcpAcknowledgment:tcpFlags]) &&
		bytes.Equal(p[tcpWindow:tcpChecksum], q[tcpWindow:tcpChecksum]) &&
		bytes.Equal(p[tcpUrgent:], q[tcpUrgent:len(p)])
}

// intact reports whether the checksums of a packet are those that the kernel would write.
func (m *member) intact(p []byte) bool {
	if !m.six && (fold(sum(p[:m.start], 0)) != 0xffff || binary.BigEndian.Uint16(p[ip4Checksum:]) == 0xffff) {
		return false
	}
	protocol := byte(unix.IPPROTO_TCP)
	if m.udp {
		protocol = unix.IPPROTO_UDP
	}
	return fold(sum(p[m.start:], pseudo(addresses(p, m.six), protocol, len(p)-m.start))) == 0xffff
}
