package tunnel

import (
	"fmt"
	"reflect"
	"sync/atomic"
	"unsafe"

	"golang.zx2c4.com/wireguard/conn"
)

// sockets is a StdNetBind that may talk IPv4 and IPv6 at a time.
//
// StdNetBind.Send takes an address from one pool for both families and copies
// an IPv6 destination into it before it makes room for 16 bytes. If the
// address last served IPv4, only four bytes are copied, and the packet leaves
// for a mix of this destination and the one before: to nobody, or to another
// vendor. So IPv6 is sent by a second StdNetBind that has its own pool and
// shares the socket. Its fields are private; a version that names them
// differently is refused when the sockets are opened.
type sockets struct {
	*conn.StdNetBind
	six atomic.Pointer[conn.StdNetBind] // sends to IPv6 only; nil before the first Open
}

// newSockets gives sockets that are closed.
func newSockets() conn.Bind {
	return &sockets{StdNetBind: conn.NewStdNetBind().(*conn.StdNetBind)}
}

// Open implements conn.Bind.
func (s *sockets) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	receive, actual, err := s.StdNetBind.Open(port)
	if err != nil {
		return nil, 0, err
	}
	six := conn.NewStdNetBind().(*conn.StdNetBind)
	for _, name := range []string{"ipv6", "ipv6PC", "ipv6TxOffload"} {
		if err := share(six, s.StdNetBind, name); err != nil {
			s.StdNetBind.Close()
			return nil, 0, err
		}
	}
	s.six.Store(six)
	return receive, actual, nil
}

// share copies a private field.
func share(to, from *conn.StdNetBind, name string) error {
	a, b := reflect.ValueOf(to).Elem().FieldByName(name), reflect.ValueOf(from).Elem().FieldByName(name)
	if !a.IsValid() {
		return fmt.Errorf("this version of wireguard-go has no conn.StdNetBind.%s: sending to IPv6 must be looked at anew", name)
	}
	reflect.NewAt(a.Type(), unsafe.Pointer(a.UnsafeAddr())).Elem().
		Set(reflect.NewAt(b.Type(), unsafe.Pointer(b.UnsafeAddr())).Elem())
	return nil
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
