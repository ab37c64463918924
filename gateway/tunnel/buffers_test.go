package tunnel

import (
	"cmp"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/tuntest"

	"kidoban/gateway/udp"
)

// Buffers that were spread begin at many lines of a page. Some in the pool may be the
// device's own.
func TestBuffersBeginAtManyLines(t *testing.T) {
	d := device.NewDevice(tuntest.NewChannelTUN().TUN(), udp.New(), device.NewLogger(device.LogLevelSilent, ""))
	defer d.Close()
	m := &machine{device: d}
	lines := func() int {
		m.spread()
		begins := map[uintptr]bool{}
		for range spareMost {
			b := d.GetMessageBuffer()
			begins[uintptr(unsafe.Pointer(b))%4096] = true
		}
		return len(begins)
	}
	if n := lines(); n < 32 {
		t.Errorf("buffers begin at %d lines of a page, want 32 of 64 at least", n)
	}
	runtime.GC()
	runtime.GC() // the second one empties the pool
	if n := lines(); n < 32 {
		t.Errorf("after collections of garbage, buffers begin at %d lines of a page, want 32 of 64 at least", n)
	}
}

// TestBuffersAreApart: nobody else has a byte of a buffer, or one engineer's packet would have another's bytes.
func TestBuffersAreApart(t *testing.T) {
	d := device.NewDevice(tuntest.NewChannelTUN().TUN(), udp.New(), device.NewLogger(device.LogLevelSilent, ""))
	defer d.Close()
	m := &machine{device: d}
	m.spread()
	runtime.GC()
	m.spread() // beside those that are still there
	var all []*[device.MaxMessageSize]byte
	for range 2*spareMost + 10 {
		all = append(all, d.GetMessageBuffer())
	}
	begin := func(b *[device.MaxMessageSize]byte) uintptr { return uintptr(unsafe.Pointer(b)) }
	slices.SortFunc(all, func(a, b *[device.MaxMessageSize]byte) int { return cmp.Compare(begin(a), begin(b)) })
	for i, b := range all[1:] {
		if begin(b)-begin(all[i]) < device.MaxMessageSize {
			t.Fatalf("a buffer begins %d bytes behind the one before it, want %d at least", begin(b)-begin(all[i]), device.MaxMessageSize)
		}
	}
}
