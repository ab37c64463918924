package udp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

// arrived is a message that the kernel has for a receiver: datagrams of one size, but perhaps for the
// last one, that came from a port by an interface.
type arrived struct {
	port, by  int
	each      int // 0: the datagrams are not joined
	data      []byte
	cut       bool // the control data were truncated
	unknownBy bool // no packet information
}

var sender4, own4 = netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("192.0.2.2")

// datagrams are those in the message.
func (a arrived) datagrams() (all [][]byte) {
	if a.each <= 0 || a.each >= len(a.data) {
		return [][]byte{a.data}
	}
	return slices.Collect(slices.Chunk(a.data, a.each))
}

// fill does recvmmsg's work for one message: struct, address, control data and buffers.
func (a arrived) fill(m *message) {
	*(*unix.RawSockaddrInet4)(unsafe.Pointer(m.Name)) = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: hostOrder(uint16(a.port)), Addr: sender4.As4()}
	m.Flags = 0
	c := (*control)(unsafe.Pointer(m.Control))
	used := 0
	if !a.unknownBy {
		*(*unix.Inet4Pktinfo)(c.put(0, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)) =
			unix.Inet4Pktinfo{Ifindex: int32(a.by), Spec_dst: own4.As4(), Addr: own4.As4()}
		used = unix.CmsgSpace(unix.SizeofInet4Pktinfo)
	}
	if a.each > 0 && !a.cut {
		*(*int32)(c.put(used, unix.SOL_UDP, unix.UDP_GRO, 4)) = int32(a.each)
		used += unix.CmsgSpace(4)
	}
	if a.cut {
		m.Flags |= unix.MSG_CTRUNC
	}
	m.SetControllen(used)
	rest := a.data
	for _, v := range unsafe.Slice(m.Iov, m.Iovlen) {
		rest = rest[copy(unsafe.Slice(v.Base, v.Len), rest):]
	}
	if len(rest) > 0 {
		m.Flags |= unix.MSG_TRUNC
	}
	m.size = uint32(len(a.data) - len(rest))
}

// take does recvmmsg's work, and gives the messages for which there was no room.
func (r *receiver) take(queue []arrived) []arrived {
	r.got = min(r.asked, len(queue))
	for i, a := range queue[:r.got] {
		a.fill(&r.messages[i])
	}
	return queue[r.got:]
}

// given is a datagram that a receiver gave.
type given struct {
	data     []byte
	port, by int
}

// desk is WireGuard's side: buffers of one length.
type desk struct {
	packets [][]byte
	sizes   []int
	from    []conn.Endpoint
}

func newDesk(count, length int) *desk {
	d := &desk{sizes: make([]int, count), from: make([]conn.Endpoint, count)}
	for range count {
		d.packets = append(d.packets, make([]byte, length))
	}
	return d
}

// datagrams copies the first n that are not empty.
func (d *desk) datagrams(n int) (all []given) {
	for i := range n {
		if d.sizes[i] > 0 {
			e := d.from[i].(*Endpoint)
			all = append(all, given{bytes.Clone(d.packets[i][:d.sizes[i]]), int(e.Port()), int(e.SrcIfidx())})
		}
		d.sizes[i] = 9999 // must be set anew
	}
	return all
}

// run gives a receiver messages until it has none left, a few in each call.
func (d *desk) run(r *receiver, queue []arrived, atOnce func() int) (all []given) {
	for len(queue) > 0 || !r.kept.empty() {
		if n := r.kept.give(d.packets, d.sizes, d.from); n > 0 {
			all = append(all, d.datagrams(n)...)
			continue
		}
		r.arrange(d.packets)
		now := queue[:min(len(queue), atOnce())]
		queue = append(r.take(now), queue[len(now):]...)
		all = append(all, d.datagrams(r.deliver(d.packets, d.sizes, d.from))...)
	}
	return all
}

// want is the reference: the datagrams that must be given, in order.
func want(queue []arrived, longest int) (all []given) {
	for _, a := range queue {
		if a.cut {
			continue
		}
		for _, data := range a.datagrams() {
			g := given{data, a.port, a.by}
			if a.unknownBy {
				g.by = 0
			}
			if len(data) > 0 && len(data) <= longest {
				all = append(all, g)
			}
		}
	}
	return all
}

func compare(t *testing.T, got, want []given) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		g, w := got[i], want[i]
		if g.port != w.port || g.by != w.by || !bytes.Equal(g.data, w.data) {
			t.Fatalf("datagram %d: %d bytes from port %d by %d, want %d from %d by %d", i, len(g.data), g.port, g.by, len(w.data), w.port, w.by)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d datagrams, want %d", len(got), len(want))
	}
}

// noise is bytes that differ everywhere.
func noise(length, seed int) []byte {
	b := make([]byte, length)
	for i := 0; i+4 <= length; i += 4 {
		binary.NativeEndian.PutUint32(b[i:], uint32(seed)*2654435761+uint32(i)*40503)
	}
	return b
}

func receiverAlone() *receiver {
	return newReceiver(&socket{})
}

// TestFault119JoinedDatagramsKeepTheirInterface: datagrams that the kernel joined are parted, whether or not
// they have the size that was predicted, and each says by which interface it came.
func TestFault119JoinedDatagramsKeepTheirInterface(t *testing.T) {
	m := func(port, by, each, length int) arrived {
		return arrived{port: port, by: by, each: each, data: noise(length, port*by+each)}
	}
	ctrunc, unknown := m(4000, 3, 100, 900), m(4001, 0, 0, 148)
	ctrunc.cut, unknown.unknownBy = true, true
	for _, c := range []struct {
		name   string
		length int // of a buffer
		queue  []arrived
		first  []int // sizes of the first call
	}{
		{"one by one", 2000, []arrived{m(4000, 3, 0, 148), m(4001, 4, 0, 32), m(4001, 4, 0, 0)}, []int{148, 32, 0}},
		{"three in one, the last one shorter", 2000, []arrived{m(4000, 3, 100, 250)}, []int{100, 100, 50}},
		{"joined and not", 2000, []arrived{m(4000, 3, 100, 200), m(4000, 5, 0, 148)}, []int{100, 100, 148}},
		{"as predicted", 65535, []arrived{m(1, 3, 100, 200), m(2, 3, 100, 6350), m(3, 4, 100, 6400), m(4, 4, 100, 80)}, nil},
		{"larger and smaller than predicted", 65535, []arrived{m(1, 3, 100, 200), m(2, 3, 1400, 60000), m(3, 4, 50, 500), m(4, 4, 0, 1400), m(5, 4, 0, 0)}, nil},
		{"two senders, more than there is room for", 65535, []arrived{m(4000, 3, 500, 65000), m(4001, 4, 500, 65000), m(4002, 4, 0, 99)}, nil},
		{"one that says it is joined and is not", 2000, []arrived{m(4000, 3, 500, 400), m(4000, 3, 500, 500)}, []int{400, 500}},
		{"no packet information", 2000, []arrived{unknown}, []int{148}},
		{"control data that are cut", 2000, []arrived{ctrunc, m(4000, 3, 0, 10)}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, count := range []int{batch, 3, 1} {
				all := newDesk(count, c.length).run(receiverAlone(), c.queue, func() int { return len(c.queue) })
				compare(t, all, want(c.queue, c.length))
			}
			d, r := newDesk(batch, c.length), receiverAlone()
			r.arrange(d.packets)
			r.take(c.queue[:min(len(c.queue), len(c.first))])
			if n := r.deliver(d.packets, d.sizes, d.from); c.first != nil && !slices.Equal(nonZero(d.sizes[:n]), nonZero(c.first)) {
				t.Errorf("the first call gives %d, want %d", d.sizes[:n], c.first)
			}
		})
	}
}

func nonZero(sizes []int) []int {
	return slices.DeleteFunc(slices.Clone(sizes), func(n int) bool { return n == 0 })
}

// TestFault119TruncatedDatagramsAreDropped: what does not fit is dropped, never passed cut, and what comes
// with it and after it is given.
func TestFault119TruncatedDatagramsAreDropped(t *testing.T) {
	const length = 500
	single := func(size int) arrived { return arrived{port: size, by: 3, data: noise(size, size)} }
	queue := []arrived{
		single(501), single(500), single(65507), single(1), // one by one
		{port: 9, by: 3, each: 400, data: noise(500, 9)},   // joined: from here on they are predicted
		{port: 10, by: 3, each: 600, data: noise(1300, 9)}, // the last one fits
		single(450), single(60000), single(500), single(1000), // none is what was predicted
	}
	all := newDesk(batch, length).run(receiverAlone(), queue, func() int { return 1 })
	compare(t, all, want(queue, length))
}

// FuzzReceive: any mix of messages is parted as a simple reference parts it, whatever the receiver predicts.
func FuzzReceive(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{0, 1, 100, 0, 3, 50, 1, 100, 0, 70, 0, 2, 20, 5, 40, 7, 3, 0, 5, 0, 0})
	f.Add([]byte{1, 1, 200, 4, 64, 1, 1, 200, 4, 130, 0, 9, 1, 0, 130, 0, 1, 255, 255, 1, 0})
	f.Add([]byte{2, 5, 172, 5, 45, 9, 5, 172, 5, 45, 9, 37, 172, 5, 45, 9, 7, 100, 0, 1, 0, 7, 132, 0, 64, 1, 69, 1, 0, 2, 1})
	f.Add(bytes.Repeat([]byte{3, 100, 0, 1, 0}, 40))
	f.Add(append([]byte{4}, bytes.Repeat([]byte{1, 100, 0, 64, 0, 2, 90, 1, 1, 5}, 20)...))
	desks := map[int]*desk{}
	for _, count := range []int{batch, 1, 2, 63, 65} {
		desks[len(desks)] = newDesk(count, 65535)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) == 0 || len(script) > 400 {
			return
		}
		d := desks[int(script[0])%len(desks)]
		var queue []arrived
		for part := range slices.Chunk(script[1:], 5) {
			if len(part) < 5 {
				break
			}
			each := int(binary.LittleEndian.Uint16(part[1:]))
			length := min(each*int(part[3])+int(part[4]), 65507)
			queue = append(queue, arrived{
				port: 1 + int(part[0])%4, by: 1 + int(part[0])/4%2, unknownBy: part[0]&8 > 0, cut: part[0]&0xf0 == 0xf0,
				each: each % 65508 * int(part[0]>>5&1), data: noise(length, len(queue)),
			})
		}
		turn := 0
		got := d.run(receiverAlone(), queue, func() int { turn++; return 1 + int(script[turn%len(script)])%40 })
		compare(t, got, want(queue, 65535))
	})
}

// FuzzControl: control data of any bytes are read without harm, and give no size that is not in them.
func FuzzControl(f *testing.F) {
	var c control
	e := &Endpoint{own: own4, index: 3}
	f.Add(c.bytes()[:c.putSegments(e.putSource(&c, wholeSource), 100)])
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c control
		n := copy(c.bytes()[:], data)
		var key ends
		if each := key.readControl(c.bytes()[:n]); each != 0 && !bytes.Contains(data, binary.NativeEndian.AppendUint32(nil, uint32(each))) {
			t.Errorf("size %d", each)
		}
	})
}

// FuzzSend: packets of any sizes leave as they are and in order, in messages that the kernel takes.
func FuzzSend(f *testing.F) {
	f.Add([]byte{1, 0, 1, 0, 1, 0, 0, 5})
	f.Add(bytes.Repeat([]byte{0, 5}, 128))
	f.Add(bytes.Repeat([]byte{255, 255}, 3))
	f.Add(bytes.Repeat([]byte{220, 5, 10, 0}, 64))
	f.Add(bytes.Repeat([]byte{0, 0}, 5))
	f.Fuzz(func(t *testing.T, script []byte) {
		var packets [][]byte
		for part := range slices.Chunk(script[:len(script)/2*2], 2) {
			if len(packets) < batch {
				packets = append(packets, noise(int(binary.LittleEndian.Uint16(part))%65508, len(packets)))
			}
		}
		to := &Endpoint{AddrPort: netip.AddrPortFrom(sender4, 4000), own: own4, index: 3}
		for _, joined := range []bool{true, false} {
			s := newSender()
			s.fill(packets, to, wholeSource, joined)
			var left [][]byte
			for i := range s.messages[:s.end] {
				left = append(left, checkMessage(t, &s.messages[i], joined)...)
			}
			if !slices.EqualFunc(left, packets, bytes.Equal) {
				t.Fatalf("%d packets leave, or other ones, want %d", len(left), len(packets))
			}
			if s.at = s.end; s.sent() != len(packets) {
				t.Errorf("counts %d sent, want %d", s.sent(), len(packets))
			}
		}
	})
}

// checkMessage parts a message as the kernel does.
func checkMessage(t *testing.T, m *message, joined bool) (packets [][]byte) {
	t.Helper()
	var all []byte
	for _, v := range unsafe.Slice(m.Iov, m.Iovlen) {
		all = append(all, unsafe.Slice(v.Base, v.Len)...)
	}
	var key ends
	c := unsafe.Slice(m.Control, m.Controllen)
	key.readControl(c)
	if source := netip.AddrFrom4([4]byte(key.own[:4])); source != own4 || key.index != 3 {
		t.Errorf("leaves from %v by %d, want %v by 3", source, key.index, own4)
	}
	info := unix.CmsgSpace(unix.SizeofInet4Pktinfo)
	if len(c) == info {
		return [][]byte{all}
	}
	each := int(*(*uint16)(unsafe.Pointer(&c[info+unix.CmsgLen(0)])))
	packets = slices.Collect(slices.Chunk(all, each))
	if !joined || len(packets) > segments || len(packets) < 2 || len(all) > longestSent {
		t.Errorf("%d packets of %d bytes joined in %d", len(packets), each, len(all))
	}
	return packets
}
