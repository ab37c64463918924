package udp

import (
	"errors"
	"os"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sender is the memory for one Send.
type sender struct {
	try      func(fd uintptr) bool // write; made once, since making it allocates
	messages [batch]message
	vectors  [batch]unix.Iovec // one a packet
	controls [batch]control
	name     unix.RawSockaddrInet6
	at, end  int // the messages from at to end are not sent yet
	errno    syscall.Errno
}

func newSender() *sender {
	s := &sender{}
	s.try = s.write
	return s
}

// send sends packets to an endpoint. If the kernel cannot split messages, or the source
// no longer exists, it sends the rest at once one by one, or from another source.
func (s *sender) send(by *socket, packets [][]byte, to *Endpoint, strict bool) error {
	joined, source := !to.single.Load(), int32(wholeSource)
	if !strict {
		source = to.source.Load()
	}
	first, joins := source, joined
	for len(packets) > 0 {
		s.fill(packets[:min(len(packets), batch)], to, source, joined)
		err := s.flush(by)
		packets = packets[s.sent():]
		s.release()
		switch {
		case err == nil:
		case joined && isOneOf(err, unsegmented):
			joined = false
		case !strict && source < anySource && to.own.IsValid() && isOneOf(err, sourceGone):
			source++
		default:
			return err
		}
	}
	if source != first {
		to.source.Store(source)
	} else if joined != joins {
		to.single.Store(true)
	}
	return nil
}

// unsegmented are the errors of a kernel that cannot split a message: the
// interface cannot compute checksums (EIO), or a datagram is larger than its MTU
// (EINVAL, EMSGSIZE since Linux 6.14). Drivers and some versions of the kernel
// (6.6.44; virtio over IPv6 before 6.2) give EINVAL for good messages.
var unsegmented = []syscall.Errno{unix.EIO, unix.EINVAL, unix.EMSGSIZE}

// sourceGone are the errors of a source that does not exist any more: another
// address (EINVAL), another interface (ENODEV), or one that is down or has no route.
var sourceGone = []syscall.Errno{unix.EINVAL, unix.EADDRNOTAVAIL, unix.ENODEV, unix.ENETDOWN, unix.ENETUNREACH, unix.EHOSTUNREACH}

func isOneOf(err error, of []syscall.Errno) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && slices.Contains(of, errno)
}

// fill prepares the messages. Joined packets have one size; only the last one may be
// shorter.
func (s *sender) fill(packets [][]byte, to *Endpoint, source int32, joined bool) {
	s.at, s.end, s.errno = 0, 0, 0
	length := to.name(&s.name)
	for at := 0; at < len(packets); s.end++ {
		n := 1
		if joined {
			n = joinable(packets[at:])
		}
		for i, p := range packets[at : at+n] {
			s.vectors[at+i].Base = unsafe.SliceData(p)
			s.vectors[at+i].SetLen(len(p))
		}
		c := &s.controls[s.end]
		used := to.putSource(c, source)
		if n > 1 {
			used = c.putSegments(used, len(packets[at]))
		}
		m := &s.messages[s.end]
		m.Name, m.Namelen = (*byte)(unsafe.Pointer(&s.name)), length
		m.Iov = &s.vectors[at]
		m.SetIovlen(n)
		m.Control = &c.bytes()[0]
		m.SetControllen(used)
		at += n
	}
}

// joinable is how many of the first packets fit into one message, at least one.
func joinable(packets [][]byte) int {
	each, total := len(packets[0]), len(packets[0])
	n := 1
	for n < min(len(packets), segments) && len(packets[n-1]) == each {
		size := len(packets[n])
		if size == 0 || size > each || total+size > longestSent {
			break
		}
		total += size
		n++
	}
	return n
}

// flush sends the messages. It waits for room in the socket.
func (s *sender) flush(by *socket) error {
	err := by.raw.Write(s.try)
	if err == nil && s.errno != 0 {
		err = os.NewSyscallError("sendmmsg", s.errno)
	}
	return err
}

// write is for RawConn.Write. It returns false if the socket has no room: then it is
// called again when it has.
func (s *sender) write(fd uintptr) bool {
	for s.at < s.end {
		n, _, errno := syscall.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&s.messages[s.at])), uintptr(s.end-s.at), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			s.at += int(n)
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			s.errno = errno
			return true
		}
	}
	return true
}

// sent counts the packets in the messages that were sent.
func (s *sender) sent() (packets int) {
	for i := range s.messages[:s.at] {
		packets += int(s.messages[i].Iovlen)
	}
	return packets
}

// release forgets the packets, so that a sender that waits for its next use keeps
// none.
func (s *sender) release() {
	for i := range s.messages[:s.end] {
		s.messages[i].Iov = nil
	}
	clear(s.vectors[:])
}
