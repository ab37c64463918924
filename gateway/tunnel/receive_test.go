package tunnel

import (
	"encoding/binary"
	"net"
	"testing"
	"unsafe"

	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

// arrived is a message that a socket gives: datagrams of one size, but perhaps for the last one, that
// came by an interface.
type arrived struct {
	port, by, size, length int
}

// script is a socket that gives messages once.
type script []arrived

func (s *script) ReadBatch(messages []ipv6.Message, _ int) (int, error) {
	n := min(len(*s), len(messages))
	for i, a := range (*s)[:n] {
		m := &messages[i]
		m.N, m.Addr = a.length, &net.UDPAddr{IP: net.IPv4(203, 0, 113, 10).To4(), Port: a.port}
		for j := range m.Buffers[0][:a.length] {
			m.Buffers[0][j] = byte(j / max(a.size, 1)) // which of the joined datagrams
		}
		m.NN = 0
		add := func(level, kind int32, data []byte) {
			header := (*unix.Cmsghdr)(unsafe.Pointer(&m.OOB[m.NN]))
			header.Level, header.Type = level, kind
			header.SetLen(unix.CmsgLen(len(data)))
			copy(m.OOB[m.NN+unix.CmsgLen(0):], data)
			m.NN += unix.CmsgSpace(len(data))
		}
		if a.by > 0 {
			info := binary.NativeEndian.AppendUint32(nil, uint32(a.by))
			add(unix.IPPROTO_IP, unix.IP_PKTINFO, append(info, 192, 0, 2, 2, 192, 0, 2, 2))
		}
		if a.size > 0 {
			add(unix.SOL_UDP, unix.UDP_GRO, binary.NativeEndian.AppendUint32(nil, uint32(a.size)))
		}
	}
	*s = (*s)[n:]
	return n, nil
}

// TestFault119JoinedDatagramsKeepTheirInterface: datagrams that the kernel joined are parted, and each says
// by which interface it came.
func TestFault119JoinedDatagramsKeepTheirInterface(t *testing.T) {
	for _, c := range []struct {
		name  string
		joins bool
		gives script
		want  []int // sizes
	}{
		{"one by one", false, script{{4000, 3, 0, 148}, {4001, 4, 0, 32}, {4001, 4, 0, 0}}, []int{148, 32, 0}},
		{"three in one, the last one shorter", true, script{{4000, 3, 100, 250}}, []int{100, 100, 50}},
		{"joined and not", true, script{{4000, 3, 100, 200}, {4000, 5, 0, 148}}, []int{100, 100, 148}},
		{"as many as there is room for", true, script{{4000, 3, 10, 640}, {4001, 4, 10, 640}}, nil},
		{"more than that are dropped", true, script{{4000, 3, 5, 640}}, nil},
		{"no packet information", false, script{{4000, 0, 0, 148}}, []int{148}},
	} {
		t.Run(c.name, func(t *testing.T) {
			packets, sizes, from := make([][]byte, conn.IdealBatchSize), make([]int, conn.IdealBatchSize), make([]conn.Endpoint, conn.IdealBatchSize)
			for i := range packets {
				packets[i] = make([]byte, 2000)
			}
			gave := append(script(nil), c.gives...)
			n, err := newReceiver(&c.gives, c.joins).receive(packets, sizes, from)
			if err != nil {
				t.Fatal(err)
			}
			if c.want != nil && n != len(c.want) {
				t.Fatalf("%d datagrams, want %d", n, len(c.want))
			}
			i := 0
			for _, a := range gave {
				for part := 0; part == 0 || part*a.size < a.length && a.size > 0; part++ {
					if i == n {
						return // no room for the rest
					}
					e := from[i].(*conn.StdNetEndpoint)
					if int(e.SrcIfidx()) != a.by || int(e.Port()) != a.port || c.want != nil && sizes[i] != c.want[i] {
						t.Errorf("datagram %d: %v by %d of %d bytes", i, e, e.SrcIfidx(), sizes[i])
					}
					for _, b := range packets[i][:sizes[i]] {
						if a.size > 0 && b != byte(part) {
							t.Fatalf("datagram %d has a byte of datagram %d", part, b)
						}
					}
					i++
				}
			}
			if i != n {
				t.Errorf("%d datagrams, want %d", n, i)
			}
		})
	}
}
