package tun

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// look is how many of the last groups are searched for a packet's flow.
const look = 16

// most is how many packets are joined, and mostUDP how many of UDP: the kernel refuses a frame of more
// than UDP_MAX_SEGMENTS datagrams, 64 before Linux 6.9, and then all of them are lost.
const most, mostUDP = 128, 64

// group has consecutive packets of one flow, which become one frame. writer.behind lists the packets
// behind the first.
type group struct {
	member
	first, last, count int
	segment            int    // payload of the first
	size               int    // of the frame
	sequence           uint32 // that the next packet must have
	open               bool   // more packets may join
	intact             bool   // the checksums of the first are right
	flags              byte   // of the last
}

// join puts packet i into the last group of its flow, or into a new one. A packet of unknown flow
// may be of any flow, so no later packet joins a group before it.
func (w *writer) join(i int) {
	p := w.packets[i][w.offset:]
	w.behind[i] = -1
	g := group{first: i, last: i, count: 1, size: len(p)}
	if !w.frames || !g.member.read(p, w.udp) {
		w.groups = append(w.groups, g)
		w.barrier = len(w.groups)
		return
	}
	if g.joins {
		g.begin(p)
	}
	if last := w.find(&g.member, p); last != nil && g.joins && w.grow(last, &g, p) {
		return
	}
	w.groups = append(w.groups, g)
}

// begin opens a group of one packet.
func (g *group) begin(p []byte) {
	g.segment, g.open = len(p)-g.head, true
	if !g.udp {
		g.flags = p[g.start+tcpFlags]
		g.sequence = binary.BigEndian.Uint32(p[g.start+tcpSequence:]) + uint32(g.segment)
		g.open = g.flags&psh == 0
	}
}

// find returns the last group of a packet's flow; nil: there is none.
func (w *writer) find(m *member, p []byte) *group {
	for k := len(w.groups) - 1; k >= max(w.barrier, len(w.groups)-look); k-- {
		if g := &w.groups[k]; sameFlow(m, &g.member, p, w.packets[g.first][w.offset:]) {
			return g
		}
	}
	return nil
}

// grow appends p, the packet of the group next, to a group of the same flow. It returns false if they
// do not join.
func (w *writer) grow(g, next *group, p []byte) bool {
	first := w.packets[g.first][w.offset:]
	if !g.fits(next, first, p) {
		return false
	}
	if !g.intact {
		g.intact = g.member.intact(first)
		g.open = g.intact
	}
	if !g.open {
		return false
	}
	if !next.member.intact(p) {
		next.open = false
		return false
	}
	w.behind[g.last] = next.first
	g.last, g.count, g.size = next.first, g.count+1, g.size+next.segment
	g.sequence, g.flags = next.sequence, next.flags
	g.open = next.open && next.segment == g.segment
	return true
}

// fits reports whether the packet p of next is what the kernel would make of it in this group. Only the last
// packet of a frame may have less payload, or PSH.
func (g *group) fits(next *group, first, p []byte) bool {
	room := most
	if g.udp {
		room = mostUDP
	}
	return g.open && g.count < room && g.head == next.head && next.segment <= g.segment && g.size+next.segment <= longest &&
		(g.udp || binary.BigEndian.Uint32(p[g.start+tcpSequence:]) == g.sequence) && alike(&g.member, first, p, g.count)
}

// heading writes virtio_net_hdr and the headers of the frame, made of those of its first packet, and
// returns their length.
func (g *group) heading(to []byte, first []byte) int {
	h := virtio{flags: unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, head: uint16(g.head), segment: uint16(g.segment), start: uint16(g.start)}
	p := to[virtioSize:][:g.head]
	copy(p, first)
	if g.six {
		binary.BigEndian.PutUint16(p[ip6Length:], uint16(g.size-ip6Size))
	} else {
		binary.BigEndian.PutUint16(p[ip4Length:], uint16(g.size))
		p[ip4Checksum], p[ip4Checksum+1] = 0, 0
		putChecksum(p[ip4Checksum:], sum(p[:g.start], 0))
	}
	g.transport(&h, p)
	h.encode((*[virtioSize]byte)(to))
	return virtioSize + g.head
}

// transport writes the header of TCP or UDP for heading. As checksum it writes the sum of the
// pseudo-header; the kernel adds the rest.
func (g *group) transport(h *virtio, p []byte) {
	length, protocol := g.size-g.start, byte(unix.IPPROTO_TCP)
	switch {
	case g.udp:
		h.kind, h.at, protocol = unix.VIRTIO_NET_HDR_GSO_UDP_L4, udpChecksum, unix.IPPROTO_UDP
		binary.BigEndian.PutUint16(p[g.start+udpLength:], uint16(length))
	case g.six:
		h.kind, h.at = unix.VIRTIO_NET_HDR_GSO_TCPV6, tcpChecksum
	default:
		h.kind, h.at = unix.VIRTIO_NET_HDR_GSO_TCPV4, tcpChecksum
	}
	if !g.udp {
		p[g.start+tcpFlags] = g.flags
	}
	putSum(p[g.start+int(h.at):], pseudo(addresses(p, g.six), protocol, length))
}
