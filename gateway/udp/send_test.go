package udp

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attempt is one way in which a sender sends.
type attempt struct {
	joined bool
	source int32
}

// picky is a socket of a kernel that refuses some ways of sending.
type picky struct {
	syscall.RawConn
	s       *sender
	refuses func(attempt) syscall.Errno // 0: it sends
	at      int                         // after so many messages that it did send
	tried   []attempt
	left    [][]byte
}

func (p *picky) Write(func(uintptr) bool) error {
	s := p.s
	a := attempt{source: anySource}
	for ; s.at < s.end; s.at++ {
		m := &s.messages[s.at]
		var key ends
		key.readControl(unsafe.Slice(m.Control, m.Controllen))
		switch {
		case key.known && key.index != 0:
			a.source = wholeSource
		case key.known:
			a.source = addressOnly
		}
		a.joined = a.joined || m.Iovlen > 1
		if errno := p.refuses(a); errno != 0 && len(p.left) >= p.at {
			p.tried = append(p.tried, a)
			s.errno = errno
			return nil
		}
		for _, v := range unsafe.Slice(m.Iov, m.Iovlen) {
			p.left = append(p.left, bytes.Clone(unsafe.Slice(v.Base, v.Len)))
		}
	}
	p.tried = append(p.tried, a)
	return nil
}

// TestFault122RefusedIsSentAgain: what the kernel refuses leaves at once in another way, each packet once
// and in order, and the next ones leave in that way.
func TestFault122RefusedIsSentAgain(t *testing.T) {
	const whole, address, none = wholeSource, addressOnly, anySource
	joins := func(errno syscall.Errno) func(attempt) syscall.Errno {
		return func(a attempt) syscall.Errno {
			if a.joined {
				return errno
			}
			return 0
		}
	}
	gone := func(interfaceGone, addressGone syscall.Errno) func(attempt) syscall.Errno {
		return func(a attempt) syscall.Errno { return []syscall.Errno{interfaceGone, addressGone, 0}[a.source] }
	}
	for _, c := range []struct {
		name    string
		refuses func(attempt) syscall.Errno
		strict  bool
		first   []attempt // of the first call
		next    attempt   // the only one of the next call
		err     syscall.Errno
	}{
		{"nothing", gone(0, 0), false, []attempt{{true, whole}}, attempt{true, whole}, 0},
		{"an interface that computes no checksums", joins(unix.EIO), false, []attempt{{true, whole}, {false, whole}}, attempt{false, whole}, 0},
		{"a driver that cannot", joins(unix.EINVAL), true, []attempt{{true, whole}, {false, whole}}, attempt{false, whole}, 0},
		{"an MTU", joins(unix.EMSGSIZE), false, []attempt{{true, whole}, {false, whole}}, attempt{false, whole}, 0},
		{"an interface that is gone", gone(unix.ENODEV, 0), false, []attempt{{true, whole}, {true, address}}, attempt{true, address}, 0},
		{"an address that is gone", gone(unix.EINVAL, unix.EINVAL), false,
			[]attempt{{true, whole}, {false, whole}, {false, address}, {false, none}}, attempt{true, none}, 0},
		{"both gone", gone(unix.ENODEV, unix.EINVAL), false,
			[]attempt{{true, whole}, {true, address}, {false, address}, {false, none}}, attempt{true, none}, 0},
		{"an interface that is gone, of a line", gone(unix.ENODEV, 0), true, []attempt{{true, whole}}, attempt{true, whole}, unix.ENODEV},
		{"every route", func(attempt) syscall.Errno { return unix.ENETUNREACH }, false,
			[]attempt{{true, whole}, {true, address}, {true, none}}, attempt{true, whole}, unix.ENETUNREACH},
		{"all, by a firewall", func(attempt) syscall.Errno { return unix.EPERM }, false, []attempt{{true, whole}}, attempt{true, whole}, unix.EPERM},
	} {
		t.Run(c.name, func(t *testing.T) {
			var packets [][]byte
			for i := range 100 {
				packets = append(packets, noise(500+i%7/6, i)) // joined by seven
			}
			for _, at := range []int{0, 30} {
				s := newSender()
				to := &Endpoint{AddrPort: netip.AddrPortFrom(sender4, 4000), own: own4, index: 3}
				p := &picky{s: s, refuses: c.refuses, at: at}
				err := s.send(&socket{raw: p}, packets, to, c.strict)
				if c.err != 0 {
					if !errors.Is(err, c.err) || at == 0 && !slices.Equal(p.tried, c.first) || to.source.Load() != wholeSource || to.single.Load() {
						t.Errorf("tried %v, %v, and the endpoint has %v, %v", p.tried, err, to.source.Load(), to.single.Load())
					}
					continue
				}
				if err != nil || !slices.Equal(p.tried, c.first) {
					t.Errorf("tried %v, %v, want %v", p.tried, err, c.first)
				}
				if !slices.EqualFunc(p.left, packets, bytes.Equal) {
					t.Errorf("%d packets left, or other ones, want %d", len(p.left), len(packets))
				}
				p.tried = nil
				p.at = 0
				if err := s.send(&socket{raw: p}, packets, to, c.strict); err != nil || p.tried[0] != c.next {
					t.Errorf("then tried %v, %v, want %v first", p.tried, err, c.next)
				}
			}
		})
	}
}

// TestSourceComesBack: a source that was given up counts again once a datagram comes to it.
func TestSourceComesBack(t *testing.T) {
	r := receiverAlone()
	d := newDesk(batch, 100)
	d.run(r, []arrived{{port: 1, by: 3, data: []byte{1}}}, func() int { return 1 })
	e := d.from[0].(*Endpoint)
	e.source.Store(anySource)
	d.run(r, []arrived{{port: 1, by: 4, data: []byte{1}}}, func() int { return 1 })
	if e.source.Load() != anySource {
		t.Error("a datagram to another source brings this one back")
	}
	d.run(r, []arrived{{port: 1, by: 3, data: []byte{1}}}, func() int { return 1 })
	if d.from[0] != e || e.source.Load() != wholeSource {
		t.Error("a datagram does not bring its source back")
	}
}

// TestZone: a link-local sender keeps its interface, by name and in answers.
func TestZone(t *testing.T) {
	s := open(t, 0).sockets()[0]
	c := endpoints{six: true, zone: s.zone, known: map[ends]*Endpoint{}}
	peer := netip.MustParseAddr("fe80::1")
	for scope, want := range map[uint32]string{1: "[fe80::1%lo]:4000", 1 << 30: "[fe80::1%1073741824]:4000"} {
		e := c.of(ends{peer: peer.As16(), port: 4000, scope: scope})
		var name unix.RawSockaddrInet6
		e.name(&name)
		if e.DstToString() != want || name.Scope_id != scope || name.Addr != peer.As16() {
			t.Errorf("scope %d: %v, answers go to %v", scope, e.DstToString(), name)
		}
	}
}
