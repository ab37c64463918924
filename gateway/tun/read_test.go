package tun

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"
	wireguard "golang.zx2c4.com/wireguard/tun"
)

// offset is where WireGuard's packets begin.
const offset = device.MessageTransportHeaderSize

// buffers are WireGuard's. guard stands where nothing may be written.
type buffers struct {
	packets [][]byte
	sizes   []int
}

const guard = 0xa5

func newBuffers(n, length int) *buffers {
	b := &buffers{sizes: make([]int, n)}
	for range n {
		b.packets = append(b.packets, bytes.Repeat([]byte{guard}, length))
	}
	return b
}

// check reports what was written before the packets, or where WireGuard's padding and tag go.
func (b *buffers) check() error {
	for i, p := range b.packets {
		last := offset + (len(p)-offset-16)&^15
		if bytes.Count(p[:offset], []byte{guard}) != offset || bytes.Count(p[last:], []byte{guard}) != len(p)-last {
			return fmt.Errorf("buffer %d was written before %d or behind %d", i, offset, last)
		}
	}
	return nil
}

// read gives copies of all packets until the end, and the errors on the way.
func (b *buffers) read(d wireguard.Device) (all [][]byte, errs []error) {
	for {
		n, err := d.Read(b.packets, b.sizes, offset)
		for i := range n {
			all = append(all, bytes.Clone(b.packets[i][offset:offset+b.sizes[i]]))
		}
		if errors.Is(err, os.ErrClosed) {
			return all, errs
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
}

// send writes frames while they are read, and then ends.
func send(t testing.TB, far *os.File, frames [][]byte) {
	done := make(chan error, 1)
	go func() {
		for _, f := range frames {
			if _, err := far.Write(f); err != nil {
				done <- err
				return
			}
		}
		done <- unix.Shutdown(int(far.Fd()), unix.SHUT_WR)
	}()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// same compares packets.
func same(t *testing.T, who string, got, want [][]byte) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if !bytes.Equal(got[i], want[i]) {
			at := 0
			for at < min(len(got[i]), len(want[i])) && got[i][at] == want[i][at] {
				at++
			}
			t.Fatalf("%s: packet %d differs from byte %d on: %d bytes %x, want %d bytes %x", who, i, at, len(got[i]), clip(got[i]), len(want[i]), clip(want[i]))
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d packets, want %d", who, len(got), len(want))
	}
}

func clip(p []byte) []byte { return p[:min(len(p), 80)] }

// program makes frames of bytes, 16 for each kind of frame.
func program(code []byte) (frames [][]byte) {
	for ; len(code) >= 16 && len(frames) < 24; code = code[16:] {
		r := recipe{
			six: code[0]&1 != 0, udp: code[0]&2 != 0, payload: int(code[1])<<8 | int(code[2]), options: int(code[3]%11) * 4,
			flags: code[4], id: uint16(code[5]) << 8, sequence: uint32(code[5]) << 24, ports: uint32(code[6]), seed: code[7],
		}
		r.payload = min(r.payload, longest-100)
		segment := 0
		if code[0]&4 != 0 {
			segment = int(code[8])<<8 | int(code[9])
		}
		frame := r.frame(segment, code[0]&8 != 0)
		if code[12] != 0 {
			frame[int(code[10])%min(len(frame), 130)] ^= code[12]
		}
		if code[11] != 0 { // cut, or made longer
			frame = append(frame[:max(1, len(frame)-int(code[11]&63))], make([]byte, code[11]>>6*100)...)
		}
		for range 1 + code[13]%5 {
			frames = append(frames, frame)
		}
	}
	return frames
}

// FuzzRead gives frames of any kind and order to our reader and to wireguard-go's. Ours gives the
// packets that the kernel would make; wireguard-go's the same, unless it refuses.
func FuzzRead(f *testing.F) {
	n := newNative(f)
	own, others := newBuffers(batch, device.MaxMessageSize), newBuffers(batch, device.MaxMessageSize)
	f.Fuzz(func(t *testing.T, code []byte) {
		frames := program(code)
		var want [][]byte
		bad := 0
		for _, frame := range frames {
			pieces := takeApart(frame)
			if pieces == nil {
				bad++
			}
			for _, p := range pieces {
				want = append(want, p.packet)
			}
			n.compare(t, others, frame, pieces)
		}
		near, far := pair(t)
		send(t, far, frames)
		got, errs := own.read(onFile(t, near))
		same(t, "ours", got, want)
		if len(errs) != bad {
			t.Errorf("%d errors, want %d: %v", len(errs), bad, errs)
		}
		for _, err := range errs {
			var call *os.PathError
			if errors.As(err, &call) {
				t.Errorf("an error about one frame is one of a system call: %v", err)
			}
		}
		if err := own.check(); err != nil {
			t.Error(err)
		}
	})
}

// compare has wireguard-go read a frame that is in order. Where it differs from the kernel is left
// out: it sets CWR in all packets, writes a wrong length before IPv6 extension headers, and takes
// checksums at odd places otherwise.
func (n native) compare(t *testing.T, b *buffers, frame []byte, want []piece) {
	t.Helper()
	if len(want) == 0 || frame[8]&1 != 0 {
		return
	}
	if p := want[0]; frame[1] != 0 && (frame[1] != 5 && p.packet[p.at-3]&0x80 != 0 || p.packet[0]>>4 == 6 && frame[6] != 40) {
		return
	}
	near, far := pair(t)
	if _, err := far.Write(frame); err != nil {
		t.Fatal(err)
	}
	defer n.use(near)()
	count, err := n.Read(b.packets, b.sizes, offset)
	if errors.Is(err, wireguard.ErrTooManySegments) {
		want = want[:count]
	} else if err != nil {
		t.Fatalf("wireguard-go: %v", err)
	}
	var got, all [][]byte
	for i, w := range want {
		if i < count {
			got = append(got, b.packets[i][offset:offset+b.sizes[i]])
			if g := got[i]; w.at >= 0 && len(g) >= w.at+2 && g[w.at] == 0 && g[w.at+1] == 0 && w.packet[w.at] == 0xff && w.packet[w.at+1] == 0xff {
				g[w.at], g[w.at+1] = 0xff, 0xff // the same number
			}
		}
		all = append(all, w.packet)
	}
	same(t, "wireguard-go", got, all)
}

// TestReadUDPChecksumOfZero: 0 would mean that there is none.
func TestReadUDPChecksumOfZero(t *testing.T) {
	r := recipe{udp: true, payload: 300}
	first := func() []byte { return takeApart(r.frame(100, false))[0].packet[26:28] }
	for r.ports = 0; !bytes.Equal(first(), []byte{0xff, 0xff}); r.ports++ {
	}
	near, far := pair(t)
	send(t, far, [][]byte{r.frame(100, false)})
	got, errs := newBuffers(batch, device.MaxMessageSize).read(onFile(t, near))
	if len(got) != 3 || len(errs) != 0 || !bytes.Equal(got[0][26:28], []byte{0xff, 0xff}) {
		t.Errorf("%d packets, %v, the first has %x", len(got), errs, clip(got[0]))
	}
}

// TestReadExpects: a joined frame is expected after one, and no more after many single packets. No
// buffer is held after a Read.
func TestReadExpects(t *testing.T) {
	joined, single := recipe{payload: 300, flags: ack}.frame(100, false), recipe{payload: 10, flags: ack}.frame(0, false)
	for singles, want := range map[int]shape{0: {40, 100}, patience: {40, 100}, patience + 1: {}} {
		near, far := pair(t)
		send(t, far, append([][]byte{joined}, slices.Repeat([][]byte{single}, singles)...))
		d := onFile(t, near)
		newBuffers(batch, device.MaxMessageSize).read(d)
		if got := d.reader.expected; got != want {
			t.Errorf("after %d single packets %+v is expected, want %+v", singles, got, want)
		}
		for _, v := range d.reader.vectors[:cap(d.reader.vectors)] {
			if v.Base != nil {
				t.Error("a buffer is held")
			}
		}
	}
}
