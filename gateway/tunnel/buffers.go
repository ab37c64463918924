package tunnel

import (
	"runtime/metrics"

	"golang.zx2c4.com/wireguard/device"
)

// The device makes packet buffers of 64 KiB, each of which begins at a page. So the
// beginnings of all packets share the few cache sets that belong to the beginning of a
// page, and push each other out. The buffers that spread makes begin at different
// cache lines of a page.
const (
	cacheLine  = 64
	startLines = 8192 / cacheLine // the allocator's page: buffers begin at one of so many lines
	lineStep   = 35               // from one buffer to the next; odd, so that every line has its turn
	spareMost  = 512              // what three receivers hold (128 each), and packets on the way
)

// spread puts such buffers into the device's pool, if the garbage collector has run since
// the last time: it takes out of pools what nobody uses. It touches none of their memory.
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

// collections is how often the garbage collector has run, and one: never 0.
func collections() uint64 {
	sample := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64() + 1
}
