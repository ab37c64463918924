package tunnel

import (
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"

	"kidoban/gateway/policy"
)

// sockets is a StdNetBind that may talk IPv4 and IPv6 at a time.
//
// StdNetBind.Send takes an address from one pool for both families and copies an
// IPv6 destination into it before it makes room for 16 bytes. If the address
// last served IPv4, only four bytes are copied, and the packet leaves for a mix
// of two destinations, perhaps another vendor's. So IPv6 is sent by a second
// StdNetBind that has its own pool and shares the socket. Its fields are
// private; a version that names them differently is refused when the sockets are
// opened.
type sockets struct {
	*conn.StdNetBind
	six atomic.Pointer[conn.StdNetBind] // sends to IPv6 only; nil before the first Open
	raw atomic.Pointer[syscall.RawConn] // one of the sockets; nil before the first Open
}

// newSockets gives sockets that are closed.
func newSockets() *sockets {
	return &sockets{StdNetBind: conn.NewStdNetBind().(*conn.StdNetBind)}
}

// Open implements conn.Bind.
func (s *sockets) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	_, actual, err := s.StdNetBind.Open(port)
	if err != nil {
		return nil, 0, err
	}
	six := conn.NewStdNetBind().(*conn.StdNetBind)
	receive, err := s.receivers()
	err = errors.Join(err, s.ignorePaths())
	for _, name := range []string{"ipv6", "ipv6PC", "ipv6TxOffload"} {
		from, unknown := field(s.StdNetBind, name)
		if err = errors.Join(err, unknown); err == nil {
			to, _ := field(six, name)
			to.Set(from)
		}
	}
	if err != nil {
		s.StdNetBind.Close()
		return nil, 0, err
	}
	s.six.Store(six)
	return receive, actual, nil
}

// ignorePaths has the sockets send by their interface's own MTU and a fixed hop
// limit. Other hosts may have told this one that a path is narrow (ip(7),
// IP_MTU_DISCOVER), or, by a router advertisement, that the hop limit is 1.
func (s *sockets) ignorePaths() error {
	for _, f := range []struct {
		name    string
		options [][3]int // level, option, value
	}{
		{"ipv4", [][3]int{{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_INTERFACE}}},
		{"ipv6", [][3]int{{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_INTERFACE}, {unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 64}}},
	} {
		private, err := field(s.StdNetBind, f.name)
		if err != nil {
			return err
		}
		socket := private.Interface().(*net.UDPConn)
		if socket == nil {
			continue // the host has no such family
		}
		raw, err := socket.SyscallConn()
		if err != nil {
			return err
		}
		s.raw.Store(&raw)
		for _, o := range f.options {
			refused := raw.Control(func(fd uintptr) {
				err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), o[0], o[1], o[2]))
			})
			if err := errors.Join(refused, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// interfaceName is the name of an interface in the sockets' network namespace.
func (s *sockets) interfaceName(index int32) string {
	name := policy.UnknownIngress
	if raw := s.raw.Load(); raw != nil && index > 0 {
		// An error of Control means that the sockets are closed.
		_ = (*raw).Control(func(fd uintptr) {
			request, err := unix.NewIfreq("")
			if err != nil {
				return
			}
			request.SetUint32(uint32(index))
			if unix.IoctlIfreq(int(fd), unix.SIOCGIFNAME, request) == nil {
				name = request.Name()
			}
		})
	}
	return name
}

// field gives a private field.
func field(of *conn.StdNetBind, name string) (reflect.Value, error) {
	f := reflect.ValueOf(of).Elem().FieldByName(name)
	if !f.IsValid() {
		return f, fmt.Errorf("this version of wireguard-go has no conn.StdNetBind.%s: the sockets must be looked at anew", name)
	}
	return reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem(), nil
}

// Send implements conn.Bind.
func (s *sockets) Send(packets [][]byte, to conn.Endpoint) error {
	if to.DstIP().Is6() {
		if six := s.six.Load(); six != nil {
			return six.Send(packets, to)
		}
	}
	return s.StdNetBind.Send(packets, to)
}
