package udp

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
)

// side is a Bind on this machine with its functions.
type side struct {
	*Bind
	port    uint16
	receive []conn.ReceiveFunc
}

func open(t testing.TB, port uint16) *side {
	t.Helper()
	b := New()
	receive, actual, err := b.Open(port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return &side{b, actual, receive}
}

// loopbacks are the families of this machine, in the order of a Bind's functions.
func loopbacks(t testing.TB, s *side) []netip.Addr {
	t.Helper()
	all := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}[:len(s.receive)]
	if s.six.Load() != nil {
		c, err := net.ListenPacket("udp6", "[::1]:0")
		if err != nil {
			t.Logf("IPv4 only: %v", err)
			return all[:1]
		}
		c.Close()
	}
	return all
}

// read reads until there are so many datagrams, or nothing comes any more.
func (d *desk) read(t testing.TB, receive conn.ReceiveFunc, count int) (all []given) {
	t.Helper()
	for len(all) < count {
		n, err := receive(d.packets, d.sizes, d.from)
		if err != nil {
			t.Errorf("%d of %d datagrams: %v", len(all), count, err)
			return all
		}
		all = append(all, d.datagrams(n)...)
	}
	return all
}

// TestRealSockets sends packets of many sizes from one Bind to another. They arrive as they were sent, and
// can be answered from the address that was asked.
func TestRealSockets(t *testing.T) {
	a, b := open(t, 0), open(t, 0)
	d := newDesk(batch, 65535)
	for family, address := range loopbacks(t, a) {
		to := &Endpoint{AddrPort: netip.AddrPortFrom(address, b.port)}
		seed := 0
		for _, sizes := range [][]int{
			{148}, {100, 100, 100}, {1452, 1452, 1452, 700}, {1452, 32, 32, 1452, 1452}, {60000}, {9000, 9000, 9000, 9000, 1},
			repeat(batch, 132), repeat(batch, 1452), repeat(70, 1000), append(repeat(64, 1000), repeat(64, 1001)...), {0, 5, 0, 5},
			repeat(batch, 511), {1, 2, 3, 4, 3, 2, 1}, repeat(batch, 100), {60000, 60000},
		} {
			var packets [][]byte
			var want []given
			for _, size := range sizes {
				seed++
				packets = append(packets, noise(size, seed))
				if size > 0 {
					want = append(want, given{packets[len(packets)-1], int(a.port), 1})
				}
			}
			if err := a.Send(packets, to); err != nil {
				t.Fatalf("%v: send %d: %v", address, sizes, err)
			}
			stop := time.AfterFunc(10*time.Second, func() { b.Close() })
			compare(t, d.read(t, b.receive[family], len(want)), want)
			stop.Stop()
		}
		back := d.from[0].(*Endpoint)
		if back.SrcIP() != address || back.DstIP() != address || back.SrcIfidx() != 1 {
			t.Errorf("came from %v to %v by %d", back.DstToString(), back.SrcToString(), back.SrcIfidx())
		}
		if err := b.Send([][]byte{{42}}, Strict{back}); err != nil {
			t.Errorf("answer: %v", err)
		}
		compare(t, d.read(t, a.receive[family], 1), []given{{[]byte{42}, int(b.port), 1}})
	}
}

func repeat(count, size int) []int {
	all := make([]int, count)
	for i := range all {
		all[i] = size
	}
	return all
}

// TestNoAllocation: once things go, a call allocates nothing, in either direction.
func TestNoAllocation(t *testing.T) {
	a, b := open(t, 0), open(t, 0)
	d := newDesk(batch, 65535)
	for family, address := range loopbacks(t, a) {
		to := &Endpoint{AddrPort: netip.AddrPortFrom(address, b.port)}
		for _, size := range []int{132, 1452} {
			packets := make([][]byte, 40)
			for i := range packets {
				packets[i] = noise(size+i%20/19, i) // joined, and not
			}
			n := 0
			if allocations := testing.AllocsPerRun(200, func() {
				if err := a.Send(packets, to); err != nil {
					t.Fatal(err)
				}
				for n = 0; n < len(packets); {
					got, err := b.receive[family](d.packets, d.sizes, d.from)
					if err != nil {
						t.Fatal(err)
					}
					for _, size := range d.sizes[:got] {
						n += min(size, 1)
					}
				}
			}); allocations >= 1 {
				t.Errorf("%v, %d bytes: %v allocations for %d packets", address, size, allocations, len(packets))
			}
		}
	}
}

func TestOpenAndClose(t *testing.T) {
	b := open(t, 0)
	if _, _, err := b.Open(0); !errors.Is(err, conn.ErrBindAlreadyOpen) {
		t.Errorf("opened twice: %v", err)
	}
	if name := b.InterfaceName(1); name != "lo" {
		t.Errorf("interface 1 is %q, want lo", name)
	}
	if name := b.InterfaceName(0) + b.InterfaceName(1<<30); name != "" {
		t.Errorf("interfaces that do not exist are called %q", name)
	}
	if _, err := b.ParseEndpoint("192.0.2.1:1"); err == nil {
		t.Error("an endpoint was parsed")
	}
	if err := b.Send([][]byte{{1}}, nil); !errors.Is(err, conn.ErrWrongEndpointType) {
		t.Errorf("sent to nobody: %v", err)
	}
	var waiting sync.WaitGroup
	for _, receive := range b.receive {
		waiting.Go(func() {
			d := newDesk(batch, 2000)
			if _, err := receive(d.packets, d.sizes, d.from); !errors.Is(err, net.ErrClosed) {
				t.Errorf("a closed socket: %v", err)
			}
		})
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	waiting.Wait()
	if err := b.Send([][]byte{{1}}, &Endpoint{AddrPort: netip.MustParseAddrPort("127.0.0.1:9")}); err == nil {
		t.Error("sent by a closed socket")
	}
	receive, port, err := b.Open(b.port)
	if err != nil || port != b.port {
		t.Fatalf("opened again on port %d, want %d: %v", port, b.port, err)
	}
	if err := b.Send([][]byte{{7}}, &Endpoint{AddrPort: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)}); err != nil {
		t.Error(err)
	}
	if got := newDesk(batch, 2000).read(t, receive[0], 1); len(got) != 1 || !bytes.Equal(got[0].data, []byte{7}) {
		t.Errorf("received %v, want 7", got)
	}
	if _, _, err := New().Open(port); err == nil {
		t.Error("two have one port")
	}
}

// TestManySenders: endpoints are shared by what comes from one address, and their number is bounded.
func TestManySenders(t *testing.T) {
	r := receiverAlone()
	d := newDesk(batch, 100)
	for port := range 2 * maximumEndpoints {
		queue := []arrived{{port: port, by: 3, data: []byte{1}}, {port: port, by: 3, data: []byte{2}}, {port: port, by: 4, data: []byte{3}}}
		r.arrange(d.packets)
		r.take(queue)
		r.deliver(d.packets, d.sizes, d.from)
		if d.from[0] != d.from[1] || d.from[1] == d.from[2] {
			t.Fatalf("port %d: endpoints %p %p %p", port, d.from[0], d.from[1], d.from[2])
		}
	}
	if n := len(r.endpoints.known); n > maximumEndpoints {
		t.Errorf("remembers %d endpoints, want at most %d", n, maximumEndpoints)
	}
}
