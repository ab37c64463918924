package tun

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	wireguard "golang.zx2c4.com/wireguard/tun"

	"kidoban/gateway/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// recipe is a TCP or UDP packet.
type recipe struct {
	six, udp         bool
	payload, options int // bytes; of TCP's options, in fours
	flags            byte
	id               uint16
	sequence         uint32
	ports            uint32
	seed             byte // of the payload
}

var (
	from4, to4 = netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.2.0.2")
	from6, to6 = netip.MustParseAddr("fd01::2"), netip.MustParseAddr("fd02::2")
)

// packet makes the packet, with checksums.
func (r recipe) packet() []byte {
	p := r.headers()
	start := len(p)
	p = binary.BigEndian.AppendUint32(p, r.ports)
	at := 6
	if r.udp {
		p = binary.BigEndian.AppendUint16(p, uint16(8+r.payload))
		p = append(p, 0, 0)
	} else {
		at = 16
		p = binary.BigEndian.AppendUint32(p, r.sequence)
		p = append(p, 1, 2, 3, 4, byte(5+r.options/4)<<4, r.flags, 5, 6, 0, 0, 0, 0)
		p = append(p, bytes.Repeat([]byte{1}, r.options)...) // NOP
	}
	for i := range r.payload {
		p = append(p, byte(i)^byte(i>>8)^r.seed)
	}
	seal(p, start, at, r.udp)
	return p
}

func (r recipe) headers() []byte {
	length, protocol := 20+r.options+r.payload, byte(6)
	if r.udp {
		length, protocol = 8+r.payload, 17
	}
	if r.six {
		p := []byte{0x60, 0, 0, 0, byte(length >> 8), byte(length), protocol, 64}
		return append(append(p, from6.AsSlice()...), to6.AsSlice()...)
	}
	length += 20
	p := []byte{0x45, 0, byte(length >> 8), byte(length), byte(r.id >> 8), byte(r.id), 0x40, 0, 64, protocol, 0, 0}
	return append(append(p, from4.AsSlice()...), to4.AsSlice()...)
}

// simplePseudo is the pseudo-header of a packet.
func simplePseudo(p []byte, start int, protocol byte) []byte {
	both := p[12:20]
	if p[0]>>4 == 6 {
		both = p[8:40]
	}
	length := len(p) - start
	return append(bytes.Clone(both), 0, protocol, byte(length>>8), byte(length))
}

// seal writes the checksums of a packet.
func seal(p []byte, start, at int, udp bool) {
	if p[0]>>4 == 4 {
		p[10], p[11] = 0, 0
		binary.BigEndian.PutUint16(p[10:], simpleChecksum(p[:start], 0))
	}
	protocol := byte(6)
	if udp {
		protocol = 17
	}
	p[start+at], p[start+at+1] = 0, 0
	c := simpleChecksum(append(simplePseudo(p, start, protocol), p[start:]...), 0)
	if udp && c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(p[start+at:], c)
}

// frame puts a virtio_net_hdr before a packet. With a segment it is a joined frame; then, or if
// partial, its checksum is left to whoever reads it.
func (r recipe) frame(segment int, partial bool) []byte {
	p := r.packet()
	h := virtio{}
	if segment > 0 || partial {
		h.flags, h.start, h.at = 1, 20, 16
		if r.six {
			h.start = 40
		}
		protocol := byte(6)
		if r.udp {
			h.at, protocol = 6, 17
		}
		binary.BigEndian.PutUint16(p[h.start+h.at:], ^simpleChecksum(simplePseudo(p, int(h.start), protocol), 0))
	}
	if segment > 0 {
		h.segment = uint16(segment)
		switch {
		case r.udp:
			h.kind = unix.VIRTIO_NET_HDR_GSO_UDP_L4
		case r.six:
			h.kind = unix.VIRTIO_NET_HDR_GSO_TCPV6
		default:
			h.kind = unix.VIRTIO_NET_HDR_GSO_TCPV4
		}
	}
	var b [virtioSize]byte
	h.encode(&b)
	return append(b[:], p...)
}

// piece is a packet of a frame. The kernel left to us the checksum at a place; -1: none.
type piece struct {
	packet []byte
	at     int
}

// takeApart is what the kernel's own GSO makes of a frame, step by step. nil: it is malformed, or
// has a packet that is too long.
func takeApart(frame []byte) []piece {
	if len(frame) <= 10 || len(frame) > 10+65535 {
		return nil
	}
	u16 := func(i int) int { return int(binary.NativeEndian.Uint16(frame[i:])) }
	flags, kind, segment, start, at, p := frame[0], frame[1], u16(4), u16(6), u16(8), bytes.Clone(frame[10:])
	partial := flags&1 != 0
	if kind == 0 {
		switch {
		case len(p) > 65488 || partial && start+at+2 > len(p):
			return nil
		case !partial:
			return []piece{{p, -1}}
		}
		c := simpleChecksum(p[start:], 0)
		if c == 0 {
			c = 0xffff
		}
		binary.BigEndian.PutUint16(p[start+at:], c)
		return []piece{{p, start + at}}
	}
	head := headers(p, kind, start, at)
	if !partial || segment == 0 || head == 0 || head >= len(p) || head+min(segment, len(p)-head) > 65488 {
		return nil
	}
	var all []piece
	for k := 0; head+k*segment < len(p); k++ {
		q := append(bytes.Clone(p[:head]), p[head+k*segment:min(head+(k+1)*segment, len(p))]...)
		number(q, k, start, segment, kind == 5, head+(k+1)*segment >= len(p))
		seal(q, start, at, kind == 5)
		all = append(all, piece{q, start + at})
	}
	return all
}

// headers is the length of the headers of a joined frame; 0: it is none.
func headers(p []byte, kind byte, start, at int) int {
	four := kind == 1 || kind == 5 && p[0]>>4 == 4
	protocol, fixed, field := byte(6), 20, 16
	if kind == 5 {
		protocol, fixed, field = 17, 8, 6
	}
	switch {
	case kind != 1 && kind != 4 && kind != 5, at != field, len(p) < start+fixed:
	case four && (p[0]>>4 != 4 || start < 20 || start != int(p[0]&15)*4 || p[9] != protocol):
	case !four && (p[0]>>4 != 6 || start < 40):
	case kind == 5:
		return start + 8
	case p[start+12]>>4 >= 5:
		return start + int(p[start+12]>>4)*4
	}
	return 0
}

// number gives packet k its lengths, identification, sequence and flags.
func number(q []byte, k, start, segment int, udp, last bool) {
	if q[0]>>4 == 4 {
		binary.BigEndian.PutUint16(q[2:], uint16(len(q)))
		binary.BigEndian.PutUint16(q[4:], binary.BigEndian.Uint16(q[4:])+uint16(k))
	} else {
		binary.BigEndian.PutUint16(q[4:], uint16(len(q)-40))
	}
	if udp {
		binary.BigEndian.PutUint16(q[start+4:], uint16(len(q)-start))
		return
	}
	binary.BigEndian.PutUint32(q[start+4:], binary.BigEndian.Uint32(q[start+4:])+uint32(k*segment))
	if !last {
		q[start+13] &^= 0x09
	}
	if k > 0 {
		q[start+13] &^= 0x80
	}
}

// pair is two ends of a connection that keeps the borders of what is written, as an interface does
// (SOCK_SEQPACKET).
func pair(t testing.TB) (near, far *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	near, far = os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// onFile makes a Device of one end of a pair.
func onFile(t testing.TB, near *os.File) *Device {
	t.Helper()
	d, err := newFile(near, "pair", true, true)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// openTUN makes an interface in the network namespace of the calling thread.
func openTUN(name string, flags uint16) (int, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	r, err := unix.NewIfreq(name)
	if err == nil {
		r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | flags)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	}
	if err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("make %s: %w", name, err)
	}
	return fd, nil
}

// native is wireguard-go's NativeTun on an interface of its own, whose file is exchanged by use.
type native struct{ *wireguard.NativeTun }

func newNative(t testing.TB) native {
	t.Helper()
	lab.Require(t)
	host := lab.New(t).Host("native")
	var d wireguard.Device
	err := host.Do(func() error {
		fd, err := openTUN("native", unix.IFF_VNET_HDR)
		if err == nil {
			d, _, err = wireguard.CreateUnmonitoredTUNFromFD(fd)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return native{d.(*wireguard.NativeTun)}
}

// use has the NativeTun read and write a file. It gives the way back.
func (n native) use(file *os.File) (back func()) {
	field := reflect.ValueOf(n.NativeTun).Elem().FieldByName("tunFile")
	at := (**os.File)(unsafe.Pointer(field.UnsafeAddr()))
	before := *at
	*at = file
	return func() { *at = before }
}
