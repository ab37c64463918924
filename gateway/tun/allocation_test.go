package tun

import (
	"testing"

	"golang.zx2c4.com/wireguard/device"
)

// TestNoAllocations: neither a packet nor a frame costs an allocation, joined or not.
func TestNoAllocations(t *testing.T) {
	near, far := pair(t)
	d := onFile(t, near)
	b := newBuffers(batch, device.MaxMessageSize)
	frames := [][]byte{
		recipe{payload: 9000, flags: ack}.frame(1000, false),
		recipe{udp: true, payload: 100}.frame(0, true),
		recipe{six: true, payload: 9000, flags: ack}.frame(900, false),
		recipe{udp: true, payload: 2000}.frame(0, false),
	}
	if n := testing.AllocsPerRun(50, func() {
		for _, f := range frames {
			if _, err := far.Write(f); err != nil {
				t.Fatal(err)
			}
		}
		for want := 9 + 1 + 10 + 1; want > 0; {
			n, err := d.Read(b.packets, b.sizes, offset)
			if err != nil {
				t.Fatal(err)
			}
			want -= n
		}
	}); n > 0 {
		t.Errorf("%v allocations for reading", n)
	}
	packets := withRoom(append(streams(3, 10, recipe{payload: 500, flags: ack}), streams(2, 10, recipe{six: true, udp: true, payload: 100})...))
	drain := make([]byte, 1<<16)
	if n := testing.AllocsPerRun(50, func() {
		if n, err := d.Write(packets, offset); n != len(packets) || err != nil {
			t.Fatal(n, err)
		}
		for range 5 {
			if _, err := far.Read(drain); err != nil {
				t.Fatal(err)
			}
		}
	}); n > 0 {
		t.Errorf("%v allocations for writing", n)
	}
}
