package udp

import (
	"errors"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

// A call asks for fewest to mostAtOnce messages while datagrams come one by one. After
// more than patience calls without joined datagrams, no joined ones are expected.
const (
	fewest, mostAtOnce = 8, 64
	patience           = 16
)

// receiver reads one socket. One goroutine uses it.
//
// Each message has a group of buffers. While datagrams come joined, the kernel puts one
// into each buffer, if they have the predicted size. It may fill the last buffer of a
// group completely, so that every message has room. Otherwise a group is one buffer.
type receiver struct {
	*socket
	endpoints endpoints
	try       func(fd uintptr) bool // read; made once, since making it allocates
	messages  [batch]message
	vectors   [batch]unix.Iovec
	names     [batch]unix.RawSockaddrInet6
	controls  [batch]control
	asked     int // messages that the call asks for
	got       int
	errno     syscall.Errno

	group int // buffers for each message
	each  int // the predicted size of joined datagrams; 0: they come one by one
	alone int // calls in a row without joined datagrams
	most  int // messages to ask for while they come one by one
	kept  kept
}

func newReceiver(s *socket) *receiver {
	r := &receiver{socket: s, most: fewest, endpoints: endpoints{six: s.six, zone: s.zone, known: map[ends]*Endpoint{}}}
	r.try = r.read
	for i := range r.messages {
		m := &r.messages[i]
		m.Name, m.Control = (*byte)(unsafe.Pointer(&r.names[i])), &r.controls[i].bytes()[0]
	}
	return r
}

// receive is a conn.ReceiveFunc. All packets must have the same length, as
// WireGuard's have.
func (r *receiver) receive(packets [][]byte, sizes []int, from []conn.Endpoint) (int, error) {
	if n := r.kept.give(packets, sizes, from); n > 0 {
		return n, nil
	}
	r.arrange(packets[:min(len(packets), batch)])
	err := r.raw.Read(r.try)
	switch {
	case errors.Is(err, net.ErrClosed):
		return 0, net.ErrClosed
	case err == nil && r.errno != 0:
		err = os.NewSyscallError("recvmmsg", r.errno)
	}
	if err != nil {
		return 0, err
	}
	return r.deliver(packets, sizes, from), nil
}

// arrange gives the kernel a group of buffers for each message.
func (r *receiver) arrange(packets [][]byte) {
	r.group, r.asked = 1, min(r.most, len(packets))
	if r.each > len(packets[0]) {
		r.each = 0
	}
	if r.each > 0 {
		r.group = min(segments, longestReceived/r.each+1, len(packets))
		r.asked = len(packets) / r.group
	}
	for i := range r.asked {
		first := i * r.group
		r.offer(first, packets[first:first+r.group])
		m := &r.messages[i]
		m.Namelen = unix.SizeofSockaddrInet6
		m.Iov = &r.vectors[first]
		m.SetIovlen(r.group)
		m.SetControllen(controlSize)
	}
}

// offer makes vectors of a group's buffers.
func (r *receiver) offer(first int, buffers [][]byte) {
	last := len(buffers) - 1
	for i, b := range buffers {
		size := r.each
		if i == last {
			size = len(b)
		}
		v := &r.vectors[first+i]
		v.Base = unsafe.SliceData(b)
		v.SetLen(size)
	}
}

// read is for RawConn.Read. It returns false if no message is there: then it is
// called again when there is one.
func (r *receiver) read(fd uintptr) bool {
	for {
		n, _, errno := syscall.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.messages[0])), uintptr(r.asked), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		}
		r.got, r.errno = int(n), errno
		return true
	}
}

// deliver splits the messages that were read into datagrams. The first one that is not
// in its buffer, and all after it, are copied to kept and given from there.
func (r *receiver) deliver(packets [][]byte, sizes []int, from []conn.Endpoint) (n int) {
	joined := 0
	for i := range r.got {
		m := &r.messages[i]
		if m.Flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
			continue // incomplete, or the size of its datagrams is unknown
		}
		e, each := r.look(i)
		size := int(m.size)
		if each < size {
			joined = each
		}
		first := i * r.group
		if !r.kept.empty() || !r.placed(size, each, len(packets[first])) {
			r.keep(packets[first:first+r.group], size, each, e)
			continue
		}
		clear(sizes[n:first])
		for n = first; n == first || size > 0; n++ {
			sizes[n], from[n] = min(size, each), e
			size -= sizes[n]
		}
	}
	clear(r.vectors[:r.asked*r.group]) // the buffers are WireGuard's
	r.predict(joined)
	return n + r.kept.give(packets[n:], sizes[n:], from[n:])
}

// look gives the endpoint of a message and the size of its datagrams.
func (r *receiver) look(i int) (*Endpoint, int) {
	var key ends
	m := &r.messages[i]
	each := key.readControl(r.controls[i].bytes()[:min(uint64(m.Controllen), controlSize)])
	key.readName(&r.names[i], r.six)
	if each <= 0 || each > int(m.size) {
		each = int(m.size)
	}
	return r.endpoints.of(key), each
}

// placed reports whether the datagrams of a message lie one in each buffer of its
// group.
func (r *receiver) placed(size, each, room int) bool {
	if size <= each { // it is one
		return size <= room && (r.group == 1 || size <= r.each)
	}
	return each == r.each && size <= each*r.group
}

// keep copies a message out of its buffers.
func (r *receiver) keep(buffers [][]byte, size, each int, from *Endpoint) {
	if size == 0 {
		return
	}
	r.kept.messages = append(r.kept.messages, keptMessage{size, each, from})
	for i, b := range buffers {
		if i < len(buffers)-1 {
			b = b[:r.each]
		}
		b = b[:min(len(b), size)]
		r.kept.bytes = append(r.kept.bytes, b...)
		size -= len(b)
	}
}

// predict adapts to the last call. joined is the size of its joined datagrams; 0: it
// had none.
func (r *receiver) predict(joined int) {
	switch {
	case joined > 0:
		r.each, r.alone = joined, 0
	case r.each > 0:
		if r.alone++; r.alone > patience {
			r.each, r.most = 0, fewest
		}
	case r.got == r.asked:
		r.most = min(2*r.most, mostAtOnce)
	case r.got < r.asked/4:
		r.most = max(r.most/2, fewest)
	}
}

// kept are messages that wait for buffers.
type kept struct {
	messages []keptMessage
	bytes    []byte
	next     int // message
	at       int // byte
}

type keptMessage struct {
	size, each int
	from       *Endpoint
}

// keptMost is how many bytes kept keeps allocated.
const keptMost = 4 << 16

func (k *kept) empty() bool { return len(k.messages) == 0 }

// give copies datagrams into packets, and returns their number. It drops a datagram
// that is longer than its packet.
func (k *kept) give(packets [][]byte, sizes []int, from []conn.Endpoint) (n int) {
	for ; k.next < len(k.messages); k.next++ {
		m := &k.messages[k.next]
		for m.size > 0 {
			if n == len(packets) {
				return n
			}
			part := k.bytes[k.at:][:min(m.each, m.size)]
			k.at, m.size = k.at+len(part), m.size-len(part)
			if len(part) <= len(packets[n]) {
				sizes[n], from[n] = copy(packets[n], part), m.from
				n++
			}
		}
	}
	if cap(k.bytes) > keptMost {
		k.bytes = nil
	}
	clear(k.messages)
	*k = kept{messages: k.messages[:0], bytes: k.bytes[:0]}
	return n
}
