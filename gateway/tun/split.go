package tun

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// shape is the layout of a joined frame, in bytes: head of headers, and up to segment of payload for
// each packet. The zero shape means that no joined frame is expected.
type shape struct{ head, segment int }

// joined is a joined frame. It becomes packets as the kernel's own GSO makes them (tcp_gso_segment,
// __udp_gso_segment, inet_gso_segment).
type joined struct {
	shape
	six, udp bool
	start    int // where TCP or UDP begins
	size     int // of the frame, without virtio_net_hdr

	// Of the first packet.
	id       uint16
	sequence uint32
	flags    byte
}

// parse reads the headers of a joined frame of size bytes; first are its first bytes. It returns an
// error if virtio_net_hdr contradicts the headers.
func parse(h *virtio, first []byte, size int) (j joined, err error) {
	if len(first) < ip4Size {
		return j, errShort
	}
	if !h.partial() || h.segment == 0 {
		return j, fmt.Errorf("a joined frame has flags %#x and segments of %d bytes", h.flags, h.segment)
	}
	j = joined{size: size, start: int(h.start), shape: shape{segment: int(h.segment)}}
	checksum, protocol := tcpChecksum, byte(unix.IPPROTO_TCP)
	switch h.kind {
	case unix.VIRTIO_NET_HDR_GSO_TCPV4:
	case unix.VIRTIO_NET_HDR_GSO_TCPV6:
		j.six = true
	case unix.VIRTIO_NET_HDR_GSO_UDP_L4:
		j.udp, j.six = true, first[0]>>4 == 6
		checksum, protocol = udpChecksum, unix.IPPROTO_UDP
	default:
		return j, fmt.Errorf("a joined frame is of the unknown type %d", h.kind)
	}
	if err := j.parseIP(first, protocol); err != nil {
		return j, err
	}
	if int(h.at) != checksum {
		return j, fmt.Errorf("the checksum of protocol %d stands at %d, not at %d", protocol, h.at, checksum)
	}
	return j, j.parseTransport(first)
}

var errShort = errors.New("a frame is shorter than its headers")

func (j *joined) parseIP(first []byte, protocol byte) error {
	version, least := byte(4), ip4Size
	if j.six {
		version, least = 6, ip6Size
	}
	if len(first) < least || j.start < least {
		return errShort
	}
	if first[0]>>4 != version {
		return fmt.Errorf("a joined frame of IPv%d has version %d", version, first[0]>>4)
	}
	if j.six {
		return nil // extension headers may stand between
	}
	if length := int(first[0]&15) * 4; j.start != length || first[ip4Protocol] != protocol {
		return fmt.Errorf("protocol %d begins at %d, not %d at %d", first[ip4Protocol], length, protocol, j.start)
	}
	j.id = binary.BigEndian.Uint16(first[ip4ID:])
	return nil
}

func (j *joined) parseTransport(first []byte) error {
	length := udpSize
	if !j.udp {
		if len(first) < j.start+tcpSize {
			return errShort
		}
		tcp := first[j.start:]
		if length = int(tcp[tcpOffset]>>4) * 4; length < tcpSize {
			return fmt.Errorf("a TCP header has %d bytes", length)
		}
		j.sequence, j.flags = binary.BigEndian.Uint32(tcp[tcpSequence:]), tcp[tcpFlags]
	}
	j.head = j.start + length
	if len(first) < j.head || j.size <= j.head {
		return errShort
	}
	return nil
}

// packets is how many packets the frame becomes.
func (j *joined) packets() int { return (j.size - j.head + j.segment - 1) / j.segment }

// from is where the payload of packet k begins in the frame.
func (j *joined) from(k int) int { return j.head + k*j.segment }

// length is the length of packet k.
func (j *joined) length(k int) int { return j.head + min(j.segment, j.size-j.from(k)) }

// finish turns p into packet k. p has the payload of packet k, and the headers of any packet.
func (j *joined) finish(p []byte, k int) {
	if j.six {
		binary.BigEndian.PutUint16(p[ip6Length:], uint16(len(p)-ip6Size))
	} else {
		binary.BigEndian.PutUint16(p[ip4Length:], uint16(len(p)))
		binary.BigEndian.PutUint16(p[ip4ID:], j.id+uint16(k))
		p[ip4Checksum], p[ip4Checksum+1] = 0, 0
		putChecksum(p[ip4Checksum:], sum(p[:j.start], 0))
	}
	if j.udp {
		j.finishUDP(p)
	} else {
		j.finishTCP(p, k)
	}
}

func (j *joined) finishTCP(p []byte, k int) {
	tcp := p[j.start:]
	binary.BigEndian.PutUint32(tcp[tcpSequence:], j.sequence+uint32(k*j.segment))
	flags := j.flags
	if k > 0 {
		flags &^= cwr
	}
	if k < j.packets()-1 {
		flags &^= fin | psh
	}
	tcp[tcpFlags] = flags
	tcp[tcpChecksum], tcp[tcpChecksum+1] = 0, 0
	putChecksum(tcp[tcpChecksum:], sum(tcp, pseudo(addresses(p, j.six), unix.IPPROTO_TCP, len(tcp))))
}

func (j *joined) finishUDP(p []byte) {
	udp := p[j.start:]
	binary.BigEndian.PutUint16(udp[udpLength:], uint16(len(udp)))
	udp[udpChecksum], udp[udpChecksum+1] = 0, 0
	putNonzero(udp[udpChecksum:], sum(udp, pseudo(addresses(p, j.six), unix.IPPROTO_UDP, len(udp))))
}

// complete computes the checksum of a single packet if the kernel left that to the reader, as
// skb_checksum_help does: the packet has the sum of the pseudo-header in the checksum's place.
func complete(p []byte, h *virtio) error {
	if !h.partial() {
		return nil
	}
	start, at := int(h.start), int(h.start)+int(h.at)
	if at+2 > len(p) {
		return fmt.Errorf("the checksum of a packet of %d bytes stands at %d", len(p), at)
	}
	putNonzero(p[at:], sum(p[start:], 0))
	return nil
}
