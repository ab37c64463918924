package udp

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// batch is how many packets pass between WireGuard and the kernel at a time.
const batch = 128

// segments is how many datagrams the kernel joins at most (UDP_GRO_CNT_MAX), and into
// how many it splits a message (UDP_MAX_SEGMENTS before Linux 6.9).
const segments = 64

// The longest messages, in bytes. A sent one leaves room for the headers of IPv6 and
// UDP: an IP packet has less than 64 KiB.
const (
	longestReceived = 1<<16 - 1
	longestSent     = 1<<16 - 1 - 40 - 8
)

// bufferSize is the size of a socket's buffer in each direction, in bytes, the same as
// wireguard-go's.
const bufferSize = 7 << 20

// message is struct mmsghdr of recvmmsg(2).
type message struct {
	unix.Msghdr
	size uint32 // bytes received or sent
}

// socket is a UDP socket of one family.
type socket struct {
	conn *net.UDPConn
	raw  syscall.RawConn
	six  bool
	port int
}

// option is a socket option.
type option struct{ level, name, value int }

// wished are options that may fail: not every kernel has all, and some take
// privileges.
var wished = []option{
	{unix.SOL_SOCKET, unix.SO_RCVBUF, bufferSize},
	{unix.SOL_SOCKET, unix.SO_SNDBUF, bufferSize},
	{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferSize},
	{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, bufferSize},
	{unix.IPPROTO_UDP, unix.UDP_GRO, 1},
}

// Sockets send by their interface's own MTU and a fixed hop limit. Other hosts may
// have told this one that a path is narrow (ip(7), IP_MTU_DISCOVER), or, by a
// router advertisement, that the hop limit is 1.
var (
	neededFour = []option{
		{unix.IPPROTO_IP, unix.IP_PKTINFO, 1},
		{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_INTERFACE},
	}
	neededSix = []option{
		{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1},
		{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
		{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_INTERFACE},
		{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 64},
	}
)

// listen opens a socket in the network namespace of the calling thread.
func listen(network string, port int) (*socket, error) {
	six := network == "udp6"
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error { return setOptions(raw, six) }}
	c, err := config.ListenPacket(context.Background(), network, ":"+strconv.Itoa(port))
	if err != nil {
		return nil, err
	}
	s := &socket{conn: c.(*net.UDPConn), six: six}
	s.port = s.conn.LocalAddr().(*net.UDPAddr).Port
	if s.raw, err = s.conn.SyscallConn(); err != nil {
		c.Close()
		return nil, err
	}
	return s, nil
}

func setOptions(raw syscall.RawConn, six bool) error {
	needed := neededFour
	if six {
		needed = neededSix
	}
	var failed error
	err := raw.Control(func(fd uintptr) {
		for _, o := range wished {
			_ = unix.SetsockoptInt(int(fd), o.level, o.name, o.value)
		}
		for _, o := range needed {
			failed = errors.Join(failed, os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), o.level, o.name, o.value)))
		}
	})
	return errors.Join(err, failed)
}

// setMark sets SO_MARK (socket(7)).
func (s *socket) setMark(mark uint32) error {
	var failed error
	err := s.raw.Control(func(fd uintptr) {
		failed = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark)))
	})
	return errors.Join(err, failed)
}

// interfaceName names an interface in the socket's network namespace; empty: there
// is none, or the socket is closed.
func (s *socket) interfaceName(index uint32) (name string) {
	_ = s.raw.Control(func(fd uintptr) { // an error means that it is closed
		request, err := unix.NewIfreq("")
		if err != nil {
			return
		}
		request.SetUint32(index)
		if unix.IoctlIfreq(int(fd), unix.SIOCGIFNAME, request) == nil {
			name = request.Name()
		}
	})
	return name
}

// zone names the interface of a link-local address, or gives its number.
func (s *socket) zone(index uint32) string {
	if name := s.interfaceName(index); name != "" {
		return name
	}
	return strconv.FormatUint(uint64(index), 10)
}
