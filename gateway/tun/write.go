package tun

import (
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// headingMost is the longest heading of a frame: virtio_net_hdr, IPv6, TCP with options.
const headingMost = virtioSize + ip6Size + 60

// writer is the state of writing.
type writer struct {
	step   func(fd uintptr) bool // flush
	frames bool                  // a virtio_net_hdr stands before each frame
	udp    bool                  // UDP may be joined

	// Of the present Write.
	packets [][]byte
	offset  int
	groups  []group
	barrier int   // no packet joins a group before this one
	behind  []int // by packet: the next one of its group; -1: none
	next    int   // group to be written
	written int   // packets
	errs    error

	heading [headingMost]byte
	vectors []unix.Iovec
}

// Write implements tun.Device. It returns how many packets the kernel took. It does not change the
// packets; offset may be 0.
func (d *Device) Write(packets [][]byte, offset int) (int, error) {
	d.writing.Lock()
	defer d.writing.Unlock()
	w := &d.writer
	w.begin(packets, offset)
	defer w.release()
	for i := range packets {
		w.join(i)
	}
	if d.raw.Write(w.step) != nil {
		return w.written, os.ErrClosed // by Close, or the interface is gone
	}
	return w.written, w.errs
}

func (w *writer) begin(packets [][]byte, offset int) {
	w.packets, w.offset, w.groups, w.barrier = packets, offset, w.groups[:0], 0
	w.behind = slices.Grow(w.behind[:0], len(packets))[:len(packets)]
	w.next, w.written, w.errs = 0, 0, nil
}

// release drops the buffers, which are WireGuard's.
func (w *writer) release() {
	w.packets = nil
	clear(w.vectors[:cap(w.vectors)])
}

// flush writes the groups. It is for RawConn.Write, and returns false to be called again when the
// kernel takes more.
func (w *writer) flush(fd uintptr) bool {
	for w.next < len(w.groups) {
		g := &w.groups[w.next]
		w.compose(g)
		switch _, err := vectored(unix.SYS_WRITEV, fd, w.vectors); err {
		case 0:
			w.written += g.count
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		case unix.EBADFD:
			w.errs = os.ErrClosed
			return true
		default:
			w.errs = errors.Join(w.errs, failed("write", err))
		}
		w.next++
	}
	return true
}

// compose makes the vectors of a group: its heading, and the payload of each packet.
func (w *writer) compose(g *group) {
	w.vectors = w.vectors[:0]
	skip := 0
	switch {
	case g.count > 1:
		skip = g.head
		w.vectors = append(w.vectors, vector(w.heading[:g.heading(w.heading[:], w.packets[g.first][w.offset:])]))
	case w.frames:
		clear(w.heading[:virtioSize])
		w.vectors = append(w.vectors, vector(w.heading[:virtioSize]))
	}
	for i := g.first; i >= 0; i = w.behind[i] {
		w.vectors = append(w.vectors, vector(w.packets[i][w.offset+skip:]))
	}
}
