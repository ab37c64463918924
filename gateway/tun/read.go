package tun

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"
)

// patience is how many single packets come in a row before a joined frame is no longer expected.
const patience = 32

// reader is the state of reading.
type reader struct {
	step   func(fd uintptr) bool // fill
	frames bool                  // a virtio_net_hdr stands before each frame

	// Of the present Read.
	packets [][]byte
	sizes   []int
	offset  int
	count   int // packets so far
	err     error
	waited  bool

	lone bool // the last Read gave one packet

	// Of the next frame.
	virtio   [virtioSize]byte
	vectors  []unix.Iovec // virtio, buffers of packets, spill
	place    int          // bytes of a frame that lie in place if it has the expected shape
	expected shape
	singles  int    // single packets since the last joined frame
	spill    []byte // for the rest of a frame that is longer than expected
	whole    []byte // a copy of a frame of another shape than expected

	// The joined frame in whole. Its packets from next up to end are not given yet.
	rest      joined
	next, end int
}

func newReader(frames bool) reader {
	return reader{frames: frames, vectors: make([]unix.Iovec, 0, batch+2), spill: make([]byte, longest+1), whole: make([]byte, 0, longest)}
}

// Read implements tun.Device. An error that is neither a *fs.PathError nor os.ErrClosed is about one
// frame, which is lost; so is EINVAL, which the kernel gives for a frame that it cannot describe.
// Packets that came before it are given with it.
func (d *Device) Read(packets [][]byte, sizes []int, offset int) (int, error) {
	d.reading.Lock()
	defer d.reading.Unlock()
	r := &d.reader
	r.packets, r.sizes, r.offset, r.count, r.err, r.waited = packets, sizes, offset, 0, nil, false
	defer r.release()
	if d.raw.Read(r.step) != nil {
		return r.count, os.ErrClosed // by Close, or the interface is gone
	}
	return r.count, r.err
}

// release drops the buffers, which are WireGuard's.
func (r *reader) release() {
	r.packets, r.sizes, r.lone = nil, nil, r.count == 1
	clear(r.vectors[:cap(r.vectors)])
}

// fill reads frames until there are none, or there is an error, or the buffers are full. It is for
// RawConn.Read, and returns false to be called again when there is a frame.
func (r *reader) fill(fd uintptr) bool {
	if r.err = r.give(); r.err != nil {
		return true
	}
	for r.aim() {
		n, err := vectored(unix.SYS_READV, fd, r.vectors)
		switch err {
		case 0:
			r.err = r.take(n)
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			r.waited = r.count == 0
			return r.count > 0
		default:
			r.err = failed("read", err)
		}
		if r.err != nil || r.enough() {
			break
		}
	}
	return true
}

// enough reports whether packets come one at a time, as questions and answers do. Then a packet that
// was waited for is given at once, which saves the system call that would find no other.
func (r *reader) enough() bool { return r.lone && r.waited && r.count == 1 }

// aim makes the vectors for the next frame. It returns false if there is no room for the longest
// expected frame: WireGuard should take the packets so far first.
func (r *reader) aim() bool {
	if r.count == len(r.packets) || r.pending() {
		return false
	}
	r.vectors = append(r.vectors[:0], vector(r.virtio[:]))
	if !r.frames {
		r.vectors[0].SetLen(0)
	}
	if b := r.buffer(r.count); r.expected == (shape{}) {
		r.place = len(b)
		r.vectors = append(r.vectors, vector(b))
	} else if !r.scatter() && r.count > 0 {
		return false
	}
	r.vectors = append(r.vectors, vector(r.spill))
	return true
}

// scatter makes the vectors for a joined frame of the expected shape: the headers and the first
// payload, then each further payload behind the place of its headers. It returns false if the
// longest frame would not fit.
func (r *reader) scatter() bool {
	head, length := r.expected.head, r.expected.head+r.expected.segment
	r.place = 0
	for k := r.count; k < len(r.packets) && r.place < longest; k++ {
		b := r.buffer(k)
		if k == r.count {
			b = b[:min(length, len(b))]
		} else {
			if len(b) < length || len(r.vectors) > batch {
				return false
			}
			b = b[head:length]
		}
		r.vectors = append(r.vectors, vector(b))
		r.place += len(b)
	}
	return r.place >= longest
}

// buffer is the buffer of packet k. It leaves room for the padding and the authentication tag that
// WireGuard appends (WireGuard's paper, section 5.4.6).
func (r *reader) buffer(k int) []byte {
	b := r.packets[k][r.offset:]
	return b[:max(len(b)-chacha20poly1305.Overhead, 0)&^(device.PaddingMultiple-1)]
}

// take makes packets of a frame; n is the number of bytes that readv returned.
func (r *reader) take(n int) error {
	if n == 0 {
		return os.ErrClosed // end of file, which an interface does not have
	}
	size := n - int(r.vectors[0].Len)
	if size <= 0 || size > longest {
		return fmt.Errorf("a frame has %d bytes", size)
	}
	var h virtio
	h.decode(&r.virtio)
	if h.kind == unix.VIRTIO_NET_HDR_GSO_NONE {
		return r.takeSingle(&h, size)
	}
	r.singles = 0
	if first := r.first(size); size <= r.place {
		if j, err := parse(&h, first, size); err == nil && j.shape == r.expected {
			r.takeScattered(&j)
			return nil
		}
	}
	return r.takeJoined(&h, size)
}

// first is that part of the frame which lies in the buffer of its first packet.
func (r *reader) first(size int) []byte {
	return r.buffer(r.count)[:min(size, int(r.vectors[1].Len))]
}

// takeSingle takes a frame that is one packet.
func (r *reader) takeSingle(h *virtio, size int) error {
	p := r.first(size)
	if len(p) < size {
		p = r.buffer(r.count)
		if size > len(p) {
			return errLong(size, len(p))
		}
		p = p[:copy(p, r.gather(size))]
	}
	if r.singles++; r.singles > patience {
		r.expected = shape{}
	}
	if err := complete(p, h); err != nil {
		return err
	}
	r.add(len(p))
	return nil
}

// takeScattered takes a joined frame of the expected shape.
func (r *reader) takeScattered(j *joined) {
	first := r.buffer(r.count)
	for k := range j.packets() {
		p := r.buffer(r.count)[:j.length(k)]
		if k > 0 {
			copy(p, first[:j.head])
		}
		j.finish(p, k)
		r.add(len(p))
	}
}

// takeJoined takes a joined frame of another shape. The next one is expected to have that shape.
func (r *reader) takeJoined(h *virtio, size int) error {
	j, err := parse(h, r.gather(size), size)
	if err != nil {
		return err
	}
	if room := len(r.buffer(r.count)); j.length(0) > room {
		return errLong(j.length(0), room)
	}
	r.expected = j.shape
	r.rest, r.next, r.end = j, 0, j.packets()
	return r.give()
}

// gather copies a frame out of the vectors.
func (r *reader) gather(size int) []byte {
	r.whole = r.whole[:0]
	for _, v := range r.vectors[1:] {
		n := min(size-len(r.whole), int(v.Len))
		r.whole = append(r.whole, unsafe.Slice(v.Base, n)...)
	}
	return r.whole
}

// pending reports whether packets of a joined frame are not given yet.
func (r *reader) pending() bool { return r.next < r.end }

// give gives packets of the joined frame in whole, as many as there are buffers for. The others are
// for the next Read.
func (r *reader) give() error {
	for ; r.pending() && r.count < len(r.packets); r.next++ {
		p := r.buffer(r.count)
		length := r.rest.length(r.next)
		if length > len(p) {
			r.next = r.end
			return errLong(length, len(p))
		}
		p = p[:length]
		copy(p, r.whole[:r.rest.head])
		copy(p[r.rest.head:], r.whole[r.rest.from(r.next):])
		r.rest.finish(p, r.next)
		r.add(length)
	}
	return nil
}

// add counts a packet that is complete.
func (r *reader) add(size int) {
	r.sizes[r.count] = size
	r.count++
}

// errLong is the error of a packet that WireGuard could not seal in its buffer.
func errLong(size, room int) error {
	return fmt.Errorf("a packet of %d bytes is too long: at most %d can be sealed", size, room)
}
