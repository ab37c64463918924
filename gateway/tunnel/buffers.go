package tunnel

import (
	"runtime/metrics"

	"golang.zx2c4.com/wireguard/device"
)

// The device makes packet buffers of 64 KiB, each of which begins at a page. So the
// beginnings of all packets share the few cache sets that belong to the beginning of a
// page, and evict each other. The buffers that spread makes begin at different
// cache lines of a page.
const (
	cacheLine  = 64
	startLines = 8192 / cacheLine // lines of a page of Go's allocator, at which a buffer may begin
	lineStep   = 35               // lines between the beginnings of two buffers; odd, so that every line is used
	spareMost  = 512              // buffers: three receivers hold 128 each, and some packets are on the way
)

// spread puts such buffers into the device's pool. It does nothing if the garbage collector,
// which takes unused buffers out of pools, has not run since the last time. It writes to none
// of their memory, so that they take address space alone until they are used.
func (m *machine) spread() {
	if m.device == nil || collections() == m.spreadAt {
		return
	}
	var spare [spareMost]*[device.MaxMessageSize]byte
	for i := range spare { // the collector may run meanwhile
		b := new([startLines*cacheLine + device.MaxMessageSize]byte)
		first := i * lineStep % startLines * cacheLine
		spare[i] = (*[device.MaxMessageSize]byte)(b[first:])
	}
	m.spreadAt = collections()
	for _, b := range spare {
		m.device.PutMessageBuffer(b)
	}
}

// collections returns how often the garbage collector has run, plus one, so that it is never 0.
func collections() uint64 {
	sample := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64() + 1
}
