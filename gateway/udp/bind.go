package udp

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.zx2c4.com/wireguard/conn"
)

// Bind is a conn.Bind for IPv4 and IPv6 on one port. Its methods may be called
// concurrently; each function that Open gives, by one goroutine.
type Bind struct {
	mu        sync.Mutex             // held by Open, Close and SetMark
	four, six atomic.Pointer[socket] // nil: closed, or the host has no such family
	senders   sync.Pool
	routes    routes
}

// New returns a closed Bind.
func New() *Bind {
	return &Bind{senders: sync.Pool{New: func() any { return newSender() }}, routes: routes{begun: time.Now()}}
}

// portTries is how often Open looks for a port that is free in both families.
const portTries = 100

// Open implements conn.Bind. The sockets are in the network namespace of the
// calling thread. It is no error if the host lacks IPv4 or IPv6, only if it lacks
// both.
func (b *Bind) Open(port uint16) (receive []conn.ReceiveFunc, actual uint16, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.four.Load() != nil || b.six.Load() != nil {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	four, six, err := listenBoth(int(port))
	for tries := 1; port == 0 && tries < portTries && errors.Is(err, syscall.EADDRINUSE); tries++ {
		four, six, err = listenBoth(0)
	}
	if err != nil {
		return nil, 0, err
	}
	b.four.Store(four)
	b.six.Store(six)
	if err := b.routes.open(); err != nil {
		return nil, 0, errors.Join(err, b.close())
	}
	for _, s := range b.sockets() {
		receive, actual = append(receive, newReceiver(s).receive), uint16(s.port)
	}
	return receive, actual, nil
}

// listenBoth opens a socket of each family that the host has, on one port.
func listenBoth(port int) (four, six *socket, err error) {
	four, err = listen("udp4", port)
	if err != nil && !errors.Is(err, syscall.EAFNOSUPPORT) {
		return nil, nil, err
	}
	if four != nil {
		port = four.port
	}
	six, err = listen("udp6", port)
	if err != nil && (four == nil || !errors.Is(err, syscall.EAFNOSUPPORT)) {
		if four != nil {
			four.conn.Close()
		}
		return nil, nil, err
	}
	return four, six, nil
}

// sockets returns the open sockets.
func (b *Bind) sockets() (open []*socket) {
	for _, s := range []*socket{b.four.Load(), b.six.Load()} {
		if s != nil {
			open = append(open, s)
		}
	}
	return open
}

// Close implements conn.Bind. Functions that wait for datagrams return
// net.ErrClosed.
func (b *Bind) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.routes.close()
	return b.close()
}

// close closes the sockets; mu is held.
func (b *Bind) close() (err error) {
	for _, s := range b.sockets() {
		err = errors.Join(err, s.conn.Close())
	}
	b.four.Store(nil)
	b.six.Store(nil)
	return err
}

// SetMark implements conn.Bind. It marks each packet that is sent (SO_MARK in
// socket(7)).
func (b *Bind) SetMark(mark uint32) (err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.sockets() {
		err = errors.Join(err, s.setMark(mark))
	}
	return err
}

// BatchSize implements conn.Bind.
func (b *Bind) BatchSize() int { return batch }

// ParseEndpoint implements conn.Bind. It always fails: endpoints are learned from
// datagrams.
func (b *Bind) ParseEndpoint(string) (conn.Endpoint, error) {
	return nil, errors.New("endpoints are learned from datagrams only")
}

// InterfaceName returns the name of an interface in the network namespace of the
// sockets; empty: there is no such interface, or the Bind is closed.
func (b *Bind) InterfaceName(index int32) string {
	for _, s := range b.sockets() {
		if index > 0 {
			return s.interfaceName(uint32(index))
		}
	}
	return ""
}

// Send implements conn.Bind. The endpoint must be an *Endpoint or a Strict. The
// error is EAFNOSUPPORT if the Bind is closed or the host lacks the family.
func (b *Bind) Send(packets [][]byte, to conn.Endpoint) error {
	e, ok := to.(*Endpoint)
	strict, isStrict := to.(Strict)
	if isStrict {
		e, ok = strict.Endpoint, true
	}
	if !ok {
		return conn.ErrWrongEndpointType
	}
	s := b.four.Load()
	if e.Addr().Is6() {
		s = b.six.Load()
	}
	if s == nil {
		return syscall.EAFNOSUPPORT
	}
	if !isStrict {
		b.routes.check(e)
	}
	out := b.senders.Get().(*sender)
	defer b.senders.Put(out)
	return out.send(s, packets, e, isStrict)
}
