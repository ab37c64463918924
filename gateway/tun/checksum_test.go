package tun

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// simpleChecksum is RFC 1071 word by word, in the network's byte order.
func simpleChecksum(b []byte, initial uint32) uint16 {
	s := uint64(initial)
	for ; len(b) >= 2; b = b[2:] {
		s += uint64(b[0])<<8 | uint64(b[1])
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

// FuzzChecksum sums bytes in two parts, the first of an even number of bytes.
func FuzzChecksum(f *testing.F) {
	random := rand.NewChaCha8([32]byte{})
	for _, n := range []int{0, 1, 2, 3, 7, 8, 9, 31, 63, 64, 65, 127, 128, 1400, 65535} {
		b := make([]byte, n)
		random.Read(b)
		f.Add(b, uint16(n/3))
	}
	full := make([]byte, 1500)
	for i := range full {
		full[i] = 0xff
	}
	f.Add(full, uint16(100))
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		first := min(int(cut), len(b)) &^ 1
		var got [2]byte
		putChecksum(got[:], sum(b[first:], sum(b[:first], 0)))
		if got, want := binary.BigEndian.Uint16(got[:]), simpleChecksum(b, 0); got != want {
			t.Errorf("%d bytes, cut at %d: %#x, want %#x", len(b), first, got, want)
		}
	})
}

func BenchmarkSum(b *testing.B) {
	p := make([]byte, 1400)
	b.SetBytes(int64(len(p)))
	for range b.N {
		if fold(sum(p, 1)) != 1 {
			b.Fatal("a sum of zeros is not what it began with")
		}
	}
}
