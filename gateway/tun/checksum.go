package tun

import (
	"encoding/binary"
	"math/bits"
)

// Checksums are those of RFC 1071. A sum is of 16-bit words in the machine's byte order, which
// gives the same bytes as the network's order (section 2 (B)), and need not be folded to be added to.

// sum adds bytes to a sum. The bytes before them were an even number.
func sum(b []byte, initial uint64) uint64 {
	var carry uint64
	for ; len(b) >= 64; b = b[64:] {
		p := (*[64]byte)(b)
		initial, carry = bits.Add64(initial, binary.NativeEndian.Uint64(p[0:]), 0)
		initial, carry = bits.Add64(initial, binary.NativeEndian.Uint64(p[8:]), carry)
		initial, carry = bits.Add64(initial, binary.NativeEndian.Uint64(p[16:]), carry)
		initial, carry = bits.Add64(initial, binary.NativeEndian.Uint64(p[24:]), carry)
		initial, carry = bits.Add64(initial, binary.NativeEndian.Uint64(p[32:]), carry)
		initial, carry = bits.Add64(initial, binary.NativeEndian.Uint64(p[40:]), carry)
		initial, carry = bits.Add64(initial, binary.NativeEndian.Uint64(p[48:]), carry)
		initial, carry = bits.Add64(initial, binary.NativeEndian.Uint64(p[56:]), carry)
		initial += carry
	}
	if len(b) >= 32 {
		p := (*[32]byte)(b)
		initial, carry = bits.Add64(initial, binary.NativeEndian.Uint64(p[0:]), 0)
		initial, carry = bits.Add64(initial, binary.NativeEndian.Uint64(p[8:]), carry)
		initial, carry = bits.Add64(initial, binary.NativeEndian.Uint64(p[16:]), carry)
		initial, carry = bits.Add64(initial, binary.NativeEndian.Uint64(p[24:]), carry)
		initial += carry
		b = b[32:]
	}
	for ; len(b) >= 8; b = b[8:] {
		initial, carry = bits.Add64(initial, binary.NativeEndian.Uint64(b), 0)
		initial += carry
	}
	if len(b) == 0 {
		return initial
	}
	initial, carry = bits.Add64(initial, last(b), 0)
	return initial + carry
}

// last is the sum of the last bytes, fewer than 8. An odd last byte is padded with a zero.
func last(b []byte) (s uint64) {
	if len(b) >= 4 {
		s = uint64(binary.NativeEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		s += uint64(binary.NativeEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint64(binary.NativeEndian.Uint16([]byte{b[0], 0}))
	}
	return s
}

// pseudo sums the pseudo-header of TCP or UDP (RFC 9293, section 3.1; RFC 8200, section 8.1):
// both addresses, the protocol, and the length of TCP or UDP with its header, at most 65535.
func pseudo(addresses []byte, protocol byte, length int) uint64 {
	return sum(addresses, uint64(binary.NativeEndian.Uint32([]byte{0, protocol, byte(length >> 8), byte(length)})))
}

// fold reduces a sum to 16 bits, in the machine's byte order.
func fold(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return uint16(s)
}

// putSum stores a folded sum.
func putSum(b []byte, s uint64) { binary.NativeEndian.PutUint16(b, fold(s)) }

// putChecksum stores the checksum that belongs to a sum.
func putChecksum(b []byte, s uint64) { binary.NativeEndian.PutUint16(b, ^fold(s)) }

// putNonzero is putChecksum where 0 means that there is none, as with UDP (RFC 768): then 0xffff,
// which is the same number.
func putNonzero(b []byte, s uint64) {
	c := ^fold(s)
	if c == 0 {
		c = 0xffff
	}
	binary.NativeEndian.PutUint16(b, c)
}
