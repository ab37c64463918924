package tun

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// virtio is struct virtio_net_hdr of linux/virtio_net.h, which describes a frame. Lengths are in
// bytes.
type virtio struct {
	flags, kind uint8  // VIRTIO_NET_HDR_F_*, VIRTIO_NET_HDR_GSO_*
	head        uint16 // length of all headers; a hint of the kernel, which may be wrong
	segment     uint16 // payload of each packet of a joined frame
	start       uint16 // with NEEDS_CSUM: the checksum covers the bytes from here on
	at          uint16 // its place behind start
}

// virtioSize is the size of virtio_net_hdr, unless TUNSETVNETHDRSZ asks for another.
const virtioSize = 10

func (h *virtio) decode(b *[virtioSize]byte) {
	h.flags, h.kind = b[0], b[1]
	h.head, h.segment = binary.NativeEndian.Uint16(b[2:]), binary.NativeEndian.Uint16(b[4:])
	h.start, h.at = binary.NativeEndian.Uint16(b[6:]), binary.NativeEndian.Uint16(b[8:])
}

func (h *virtio) encode(b *[virtioSize]byte) {
	b[0], b[1] = h.flags, h.kind
	binary.NativeEndian.PutUint16(b[2:], h.head)
	binary.NativeEndian.PutUint16(b[4:], h.segment)
	binary.NativeEndian.PutUint16(b[6:], h.start)
	binary.NativeEndian.PutUint16(b[8:], h.at)
}

// partial reports whether the checksum covers the pseudo-header only.
func (h *virtio) partial() bool { return h.flags&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0 }

// Where fields of the headers stand (RFC 791, RFC 8200, RFC 9293, RFC 768).
const (
	ip4Size, ip6Size, tcpSize, udpSize = 20, 40, 20, 8 // without options

	ip4Length, ip4ID, ip4Fragment, ip4TTL, ip4Protocol, ip4Checksum, ip4Addresses = 2, 4, 6, 8, 9, 10, 12
	ip6Length, ip6Protocol, ip6HopLimit, ip6Addresses                             = 4, 6, 7, 8

	tcpSequence, tcpAcknowledgment, tcpOffset, tcpFlags, tcpWindow, tcpChecksum, tcpUrgent = 4, 8, 12, 13, 14, 16, 18

	udpLength, udpChecksum = 4, 6
)

// Flags of TCP.
const (
	fin, psh, ack, cwr = 0x01, 0x08, 0x10, 0x80
)

// longest is the length of the longest frame: the kernel's lengths have 16 bits.
const longest = 1<<16 - 1

// addresses gives both addresses of a packet, one behind the other.
func addresses(p []byte, six bool) []byte {
	if six {
		return p[ip6Addresses:ip6Size]
	}
	return p[ip4Addresses:ip4Size]
}
