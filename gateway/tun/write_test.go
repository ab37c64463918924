package tun

import (
	"bytes"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	wireguard "golang.zx2c4.com/wireguard/tun"
)

// flow names the flow of a packet: of one that is no fragment, addresses, protocol and ports;
// otherwise nothing.
func flow(p []byte) string {
	switch {
	case len(p) >= 24 && p[0] == 0x45 && p[6]&^0x40 == 0 && p[7] == 0 && (p[9] == 6 || p[9] == 17):
		return string(p[9:10]) + string(p[12:24])
	case len(p) >= 44 && p[0]>>4 == 6 && (p[6] == 6 || p[6] == 17):
		return string(p[6:7]) + string(p[8:44])
	}
	return ""
}

// byFlow sorts packets by flow and keeps their order in it.
func byFlow(packets [][]byte) map[string][][]byte {
	all := map[string][][]byte{}
	for _, p := range packets {
		all[flow(p)] = append(all[flow(p)], p)
	}
	return all
}

// sameByFlow compares packets, and their order in each flow.
func sameByFlow(t *testing.T, who string, got, want [][]byte) {
	t.Helper()
	of := byFlow(got)
	for name, want := range byFlow(want) {
		same(t, who, of[name], want)
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d packets, want %d", who, len(got), len(want))
	}
}

// write has a device write packets, and gives the frames.
func write(t *testing.T, d wireguard.Device, far *os.File, packets [][]byte) (frames [][]byte) {
	t.Helper()
	done := make(chan [][]byte)
	go func() {
		var all [][]byte
		for b := make([]byte, 1<<17); ; {
			n, err := far.Read(b)
			if n == 0 || err != nil {
				done <- all
				return
			}
			all = append(all, bytes.Clone(b[:n]))
		}
	}()
	if _, err := d.Write(withRoom(packets), offset); err != nil {
		t.Error(err)
	}
	if err := unix.Shutdown(int(d.File().Fd()), unix.SHUT_WR); err != nil {
		t.Error(err)
	}
	return <-done
}

// compose gives the frames that would be written, without a system call.
func compose(packets [][]byte) (frames [][]byte) {
	w := writer{frames: true, udp: true}
	w.begin(withRoom(packets), offset)
	for i := range packets {
		w.join(i)
	}
	for i := range w.groups {
		var frame []byte
		w.compose(&w.groups[i])
		for _, v := range w.vectors {
			frame = append(frame, unsafe.Slice(v.Base, v.Len)...)
		}
		frames = append(frames, frame)
	}
	return frames
}

// withRoom copies packets into buffers as WireGuard's are.
func withRoom(packets [][]byte) [][]byte {
	var all [][]byte
	for _, p := range packets {
		b := make([]byte, offset+len(p), longest)
		copy(b[offset:], p)
		all = append(all, b)
	}
	return all
}

// apart takes all frames apart, as the kernel does.
func apart(t *testing.T, frames [][]byte) (packets [][]byte) {
	t.Helper()
	for _, f := range frames {
		pieces := takeApart(f)
		if pieces == nil && len(f) < longest {
			t.Fatalf("a frame is malformed: %x", clip(f))
		}
		for _, p := range pieces {
			packets = append(packets, p.packet)
		}
	}
	return packets
}

// streams are flows whose packets follow each other.
func streams(n, each int, r recipe) (packets [][]byte) {
	for range each {
		for k := range n {
			q := r
			q.ports, q.seed = uint32(k), byte(len(packets))
			packets = append(packets, q.packet())
		}
		r.id++
		r.sequence += uint32(r.payload)
	}
	return packets
}

func TestPacketsOfAFlowAreJoined(t *testing.T) {
	tcp4, tcp6 := recipe{payload: 1340, options: 12, flags: ack}, recipe{six: true, payload: 1340, flags: ack}
	udp4, udp6 := recipe{udp: true, payload: 100}, recipe{six: true, udp: true, payload: 100}
	last := tcp4
	last.id, last.sequence, last.payload, last.flags = 10, 13400, 500, ack|psh
	for name, test := range map[string]struct {
		packets [][]byte
		frames  int
		native  int // frames of wireguard-go
	}{
		"TCP over IPv4":            {streams(1, 40, tcp4), 1, 1},
		"TCP over IPv6":            {streams(1, 40, tcp6), 1, 1},
		"UDP over IPv4":            {streams(1, 128, udp4), 2, 1},
		"UDP over IPv6":            {streams(1, 128, udp6), 2, 1},
		"8 flows":                  {streams(8, 16, tcp4), 8, 8},
		"a frame has 64 KiB":       {streams(1, 60, tcp4), 2, 2},
		"PSH, and less payload":    {append(streams(1, 10, tcp4), last.packet()), 1, 1},
		"nothing behind the short": {append(append(streams(1, 10, tcp4), last.packet()), streams(1, 2, tcp4)...), 2, 2},
		"more than a frame takes":  {streams(1, 2*most+1, recipe{payload: 100, flags: ack}), 3, 1},
		"more datagrams than that": {streams(1, 2*mostUDP+1, udp4), 3, 1},
		"more flows than looked":   {streams(2*look, 2, udp4), 4 * look, 2 * look},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := pair(t)
			frames := write(t, onFile(t, near), far, test.packets)
			if len(frames) != test.frames {
				t.Errorf("%d frames, want %d", len(frames), test.frames)
			}
			sameByFlow(t, "ours", apart(t, frames), test.packets)
		})
		t.Run(name+", wireguard-go", func(t *testing.T) {
			n := newNative(t)
			near, far := pair(t)
			defer n.use(near)()
			frames := write(t, n, far, test.packets)
			if len(frames) != test.native {
				t.Errorf("%d frames, want %d", len(frames), test.native)
			}
			sameByFlow(t, "wireguard-go", apart(t, frames), test.packets)
		})
	}
}

// TestNothingIsJoinedThatDiffers changes one thing in the second of two packets that would join.
func TestNothingIsJoinedThatDiffers(t *testing.T) {
	for _, r := range []recipe{{payload: 13, flags: ack, options: 12}, {six: true, payload: 13, flags: ack, options: 12}, {udp: true, payload: 13}, {udp: true, six: true, payload: 13}} {
		start, at := 20, 16
		if r.six {
			start = 40
		}
		if r.udp {
			at = 6
		}
		packets := streams(1, 2, r)
		if frames := compose(packets); len(frames) != 1 {
			t.Fatalf("%+v: %d frames, want that they join", r, len(frames))
		}
		for i := range len(packets[1]) * 8 {
			for _, sealed := range []bool{false, true} {
				second := bytes.Clone(packets[1])
				second[i/8] ^= 1 << (i % 8)
				if sealed {
					seal(second, start, at, r.udp)
				}
				if bytes.Equal(second, packets[1]) {
					continue
				}
				frames := compose([][]byte{packets[0], second})
				sameByFlow(t, "ours", apart(t, frames), [][]byte{packets[0], second})
				payload := sealed && i/8 >= len(second)-r.payload
				pushed := sealed && !r.udp && i == (start+13)*8+3
				if joined := len(frames) == 1; joined != (payload || pushed) {
					t.Errorf("%+v: bit %d of byte %d, sealed %v: joined %v", r, i%8, i/8, sealed, joined)
				}
			}
		}
	}
}

// batchOf makes packets of bytes, 16 for each run of packets of a flow.
func batchOf(code []byte) (packets [][]byte) {
	var flows [4]recipe
	for ; len(code) >= 16 && len(packets) < batch; code = code[16:] {
		r := &flows[code[0]&3]
		r.ports, r.six, r.udp = uint32(code[0]&3), code[0]&4 != 0, code[0]&8 != 0
		r.payload, r.options, r.seed = (int(code[1])<<8|int(code[2]))%20000, int(code[3]%11)*4, code[4]
		r.id += uint16(code[5])
		r.sequence += uint32(code[6])
		for i := range 1 + int(code[7]%40) {
			if r.flags = ack; code[8]&1 != 0 && i == int(code[7]%40) {
				r.flags = code[9]
			}
			p := r.packet()
			if code[10] != 0 {
				p[int(code[11])%len(p)] ^= code[10]
				if start := len(r.headers()); code[8]&2 != 0 && (p[0] == 0x45 || p[0]>>4 == 6) {
					at := 16
					if r.udp {
						at = 6
					}
					seal(p, start, at, r.udp)
				}
			}
			packets = append(packets, p)
			r.id++
			r.sequence += uint32(r.payload)
		}
	}
	return packets[:min(len(packets), batch)]
}

// FuzzWrite gives batches of packets of several flows to our writer and to wireguard-go's. What the
// kernel would make of our frames are the same packets in the same order of each flow; what it would
// make of wireguard-go's, the same but for what that does not compare, in any order.
func FuzzWrite(f *testing.F) {
	n := newNative(f)
	f.Fuzz(func(t *testing.T, code []byte) {
		packets := batchOf(code)
		if len(packets) == 0 {
			return
		}
		near, far := pair(t)
		ours := apart(t, write(t, onFile(t, near), far, packets))
		sameByFlow(t, "ours", ours, packets)
		near, far = pair(t)
		defer n.use(near)()
		theirs := apart(t, write(t, n, far, packets))
		same(t, "ours and wireguard-go's", alikes(ours), alikes(theirs))
	})
}

// alikes gives packets sorted, without the fields that wireguard-go does not compare before it joins,
// or does not verify.
func alikes(packets [][]byte) [][]byte {
	var all [][]byte
	for _, p := range packets {
		p, start := bytes.Clone(p), 0
		switch {
		case len(p) >= 20 && p[0] == 0x45:
			clear(p[4:6])
			clear(p[10:12])
			start = 20
		case len(p) >= 40 && p[0]>>4 == 6:
			p[1] &= 0xf0
			clear(p[2:4])
			start = 40
		}
		if start > 0 && len(p) >= start+20 {
			if start == 20 && p[9] == 17 || start == 40 && p[6] == 17 {
				clear(p[start+4 : start+8]) // length and checksum
			}
			p[start+12] &= 0xf0
			clear(p[start+14 : start+20])
		}
		all = append(all, p)
	}
	slices.SortFunc(all, bytes.Compare)
	return all
}

// TestOrderOfAFlow: packets that cannot be joined stay where they are among those of their flow, and
// fragments among all.
func TestOrderOfAFlow(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		var packets [][]byte
		r := recipe{payload: 200, flags: ack}
		for i := range 30 {
			p := r
			p.id, p.sequence = uint16(i), uint32(i)*200
			switch random.IntN(8) {
			case 0:
				p.payload = 0 // an acknowledgment
			case 1:
				p.flags = 0x11 // FIN
			case 2:
				p.sequence -= 200 // once more
			case 3:
				p.ports = 1
			}
			b := p.packet()
			if random.IntN(8) == 0 {
				b[6] |= 0x20 // more fragments
				seal(b, 20, 16, false)
			}
			packets = append(packets, b)
		}
		got := apart(t, compose(packets))
		sameByFlow(t, "ours", got, packets)
		position := map[string]int{}
		for i, p := range got {
			position[string(p)] = i
		}
		for i, p := range packets {
			if flow(p) != "" {
				continue
			}
			for k, q := range packets {
				if k < i != (position[string(q)] < position[string(p)]) && k != i {
					t.Fatalf("packet %d passed the fragment %d", k, i)
				}
			}
		}
	}
}

// TestTwoFormsOfZero: 0 and 0xffff are the same checksum, and the kernel writes 0 where UDP does not
// forbid it. A packet with the other form does not join.
func TestTwoFormsOfZero(t *testing.T) {
	for _, test := range []struct {
		udp bool
		at  int // the place of the checksum
		set func(*recipe, uint16)
	}{
		{false, ip4Checksum, func(r *recipe, i uint16) { r.id = i - 1 }},
		{false, ip4Size + tcpChecksum, func(r *recipe, i uint16) { r.ports = uint32(i) }},
		{true, ip4Size + udpChecksum, func(r *recipe, i uint16) { r.ports = uint32(i) }},
	} {
		want := []byte{0, 0}
		if test.udp {
			want = []byte{0xff, 0xff}
		}
		r, packets := recipe{udp: test.udp, payload: 100, flags: ack}, [][]byte(nil)
		for i := range 1 << 16 {
			test.set(&r, uint16(i))
			second := r
			second.id, second.sequence = r.id+1, r.sequence+uint32(r.payload)
			if packets = [][]byte{r.packet(), second.packet()}; bytes.Equal(packets[1][test.at:test.at+2], want) {
				break
			}
		}
		if frames := compose(packets); len(frames) != 1 || !bytes.Equal(packets[1][test.at:test.at+2], want) {
			t.Errorf("the checksum at %d is %x: %d frames, want that they join", test.at, packets[1][test.at:test.at+2], len(frames))
		}
		packets[1][test.at] ^= 0xff
		packets[1][test.at+1] ^= 0xff
		if frames := compose(packets); len(frames) != 2 {
			t.Errorf("the checksum at %d is the other zero: they join", test.at)
		}
	}
}

// TestWriteChangesNoPacket: nothing before, in or behind the packets is written.
func TestWriteChangesNoPacket(t *testing.T) {
	near, far := pair(t)
	d := onFile(t, near)
	go func() {
		for b := make([]byte, 1<<17); ; {
			if n, err := far.Read(b); n == 0 || err != nil {
				return
			}
		}
	}()
	packets := withRoom(streams(2, 20, recipe{payload: 500, flags: ack}))
	var before [][]byte
	for _, p := range packets {
		before = append(before, bytes.Clone(p[:cap(p)]))
	}
	if n, err := d.Write(packets, offset); n != 40 || err != nil {
		t.Fatalf("%d packets, %v", n, err)
	}
	for i, p := range packets {
		if len(p) != offset+540 || !bytes.Equal(p[:cap(p)], before[i]) {
			t.Errorf("packet %d was changed", i)
		}
	}
}
