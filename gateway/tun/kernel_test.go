package tun

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"
	wireguard "golang.zx2c4.com/wireguard/tun"

	"kidoban/gateway/lab"
)

// opener makes a device of a file descriptor.
type opener func(fd int) (wireguard.Device, error)

func ours(set offload) opener {
	return func(fd int) (wireguard.Device, error) { return newDevice(fd, set) }
}

func theirs(fd int) (wireguard.Device, error) {
	d, _, err := wireguard.CreateUnmonitoredTUNFromFD(fd)
	return d, err
}

// refuse is a kernel that does not know some of the flags of TUNSETOFFLOAD.
func refuse(unknown int) offload {
	return func(fd, flags int) error {
		if flags&unknown != 0 {
			return unix.EINVAL
		}
		return setOffload(fd, flags)
	}
}

// attach gives a host an interface with addresses, and routes to other networks by it.
func attach(t *testing.T, h *lab.Host, name string, flags uint16, open opener, own, others []netip.Prefix) (d wireguard.Device) {
	t.Helper()
	err := h.Do(func() error {
		fd, err := openTUN(name, flags)
		if err != nil {
			return err
		}
		if d, err = open(fd); err != nil {
			return err
		}
		return configure(name, own, others)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func configure(name string, own, others []netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	network := func(p netip.Prefix) *net.IPNet {
		return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
	}
	for _, p := range own {
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: network(p), Flags: unix.IFA_F_NODAD}); err != nil {
			return err
		}
	}
	if err := errors.Join(netlink.LinkSetTxQLen(link, 10_000), netlink.LinkSetUp(link)); err != nil { // no packet is dropped
		return err
	}
	for _, p := range others {
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: network(p), Scope: netlink.SCOPE_LINK}); err != nil {
			return err
		}
	}
	return nil
}

// pump writes to one device what it reads from another, until that is closed.
func pump(from, to wireguard.Device) error {
	b := newBuffers(from.BatchSize(), device.MaxMessageSize)
	for {
		n, err := from.Read(b.packets, b.sizes, offset)
		var packets [][]byte
		for i := range n {
			packets = append(packets, b.packets[i][:offset+b.sizes[i]])
		}
		if _, err := to.Write(packets, offset); err != nil {
			return err
		}
		if err != nil {
			return err
		}
	}
}

var (
	network1 = lab.Prefixes("10.1.0.0/24", "fd01::/64")
	network2 = lab.Prefixes("10.2.0.0/24", "fd02::/64")
)

// TestStreams: what one host sends to another through two devices arrives byte for byte, whatever the
// kernel joins.
func TestStreams(t *testing.T) {
	for name, test := range map[string]struct {
		flags uint16
		set   offload
		last  int // payload of each packet of the last joined frame; 0: there is none
	}{
		"all is joined":     {unix.IFF_VNET_HDR, setOffload, datagramSize},
		"UDP is not joined": {unix.IFF_VNET_HDR, refuse(joinedUDP), 0},
		"nothing is joined": {unix.IFF_VNET_HDR, refuse(joinedTCP | joinedUDP), 0},
		"no virtio_net_hdr": {0, setOffload, 0},
	} {
		t.Run(name, func(t *testing.T) {
			lab.Require(t)
			l := lab.New(t)
			near, far := l.Host("near"), l.Host("far")
			a := attach(t, near, "tun0", test.flags, ours(test.set), lab.Prefixes("10.1.0.2/24", "fd01::2/64"), network2)
			b := attach(t, far, "tun0", test.flags, ours(test.set), lab.Prefixes("10.2.0.2/24", "fd02::2/64"), network1)
			var pumps sync.WaitGroup
			for _, way := range [][2]wireguard.Device{{a, b}, {b, a}} {
				pumps.Go(func() {
					if err := pump(way[0], way[1]); !errors.Is(err, os.ErrClosed) {
						t.Errorf("a pump ended: %v", err)
					}
				})
			}
			for _, to := range []netip.Addr{to4, to6} {
				stream(t, near, far, to)
				datagrams(t, near, far, to)
			}
			a.Close()
			b.Close()
			pumps.Wait()
			if got := a.(*Device).reader.expected.segment; got != test.last {
				t.Errorf("joined frames of %d bytes are expected, want %d", got, test.last)
			}
		})
	}
}

// stream sends bytes by TCP and has them come back.
func stream(t *testing.T, near, far *lab.Host, to netip.Addr) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := near.Dial(ctx, "tcp", far.Echo("tcp", netip.AddrPortFrom(to, 0).String()).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	sent := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{1}).Read(sent)
	failed := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		failed <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if err := errors.Join(err, <-failed); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("TCP to %v: %d bytes came back, equal %v, want %d: %v", to, len(got), bytes.Equal(got, sent), len(sent), err)
	}
}

const datagramSize = 1000

// datagrams sends datagrams that the kernel joins (UDP_SEGMENT, udp(7)).
func datagrams(t *testing.T, near, far *lab.Host, to netip.Addr) {
	t.Helper()
	server, err := far.ListenPacket("udp", netip.AddrPortFrom(to, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := near.Dial(t.Context(), "udp", server.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const size, count = datagramSize, 40
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size) })
	}
	if err != nil {
		t.Fatal(err)
	}
	random, sent, got := rand.NewChaCha8([32]byte{2}), make([]byte, size*count-300), make([]byte, 1<<16)
	for range 20 {
		random.Read(sent)
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		_ = server.SetReadDeadline(time.Now().Add(10 * time.Second))
		for rest := sent; len(rest) > 0; {
			n, _, err := server.ReadFrom(got)
			if err != nil {
				t.Fatalf("UDP to %v: %d bytes are missing: %v", to, len(rest), err)
			}
			if want := rest[:min(size, len(rest))]; !bytes.Equal(got[:n], want) {
				t.Fatalf("UDP to %v: a datagram of %d bytes differs", to, n)
			}
			rest = rest[n:]
		}
	}
}

// router is a host that forwards from one interface to another.
func router(t *testing.T, in opener, out opener, outFlags uint16) (from, to wireguard.Device) {
	t.Helper()
	h := lab.New(t).Host("router")
	h.Forward()
	from = attach(t, h, "in", unix.IFF_VNET_HDR, in, lab.Prefixes("10.1.0.1/24", "fd01::1/64"), nil)
	to = attach(t, h, "out", outFlags, out, lab.Prefixes("10.2.0.1/24", "fd02::1/64"), nil)
	return from, to
}

// arrive reads packets for the far network until there are so many, while send sends them.
func arrive(t *testing.T, d wireguard.Device, count int, send func()) (packets [][]byte) {
	t.Helper()
	came := make(chan []byte, count)
	go func() {
		b := newBuffers(d.BatchSize(), device.MaxMessageSize)
		for {
			n, err := d.Read(b.packets, b.sizes, offset)
			for i := range n {
				p := bytes.Clone(b.packets[i][offset : offset+b.sizes[i]])
				if bytes.Contains(p[:40], to4.AsSlice()) || bytes.Contains(p[:40], to6.AsSlice()) {
					came <- p
				}
			}
			if err != nil {
				return
			}
		}
	}()
	send()
	late := time.After(20 * time.Second)
	for len(packets) < count {
		select {
		case p := <-came:
			packets = append(packets, p)
		case <-late:
			t.Fatalf("%d packets came, want %d", len(packets), count)
		}
	}
	return packets
}

// TestReadBesideTheKernel forwards joined frames to an interface that our reader reads, to one that
// wireguard-go's reads, and to one for which the kernel takes them apart by itself.
func TestReadBesideTheKernel(t *testing.T) {
	lab.Require(t)
	var frames [][]byte
	count := 0
	for i := range 60 {
		r := recipe{six: i&1 != 0, udp: i&2 != 0, flags: ack | psh, options: i % 3 * 4, payload: i * 900, id: uint16(i) * 997, sequence: 1 << 31, ports: 7, seed: byte(i)}
		segment := []int{1000, 1000, 1000, 1380, 500}[i/4%5]
		if r.udp {
			r.options = 0
		}
		if r.payload <= segment {
			segment, r.payload = 0, i*200
		}
		frame := r.frame(segment, i%3 == 0)
		frames, count = append(frames, frame), count+len(takeApart(frame))
	}
	through := func(out opener, flags uint16) [][]byte {
		in, d := router(t, theirs, out, flags)
		return arrive(t, d, count, func() {
			for i, f := range frames {
				if _, err := in.File().Write(f); err != nil {
					t.Fatalf("frame %d: %v", i, err)
				}
			}
		})
	}
	want := through(theirs, 0) // without virtio_net_hdr it only copies
	same(t, "ours", through(ours(setOffload), unix.IFF_VNET_HDR), want)
	same(t, "wireguard-go", through(theirs, unix.IFF_VNET_HDR), want)
}

// TestWriteBesideTheKernel writes packets joined by our writer, joined by wireguard-go's, and one by
// one. The kernel forwards the same packets.
func TestWriteBesideTheKernel(t *testing.T) {
	lab.Require(t)
	var batches [][][]byte
	count := 0
	for i := range 16 {
		r := recipe{six: i&1 != 0, udp: i&2 != 0, payload: 200 + i*70, flags: ack, id: 65530, sequence: 1<<32 - 3000}
		if !r.udp {
			r.options = 12
		}
		flows := 1 + i%4*3
		b := streams(flows, batch/flows, r)
		batches, count = append(batches, b), count+len(b)
	}
	through := func(in opener, most int) [][]byte {
		d, out := router(t, in, theirs, 0)
		return arrive(t, out, count, func() {
			for _, b := range batches {
				for part := range slices.Chunk(b, most) {
					if _, err := d.Write(withRoom(part), offset); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
	want := through(theirs, 1)
	sameByFlow(t, "ours", through(ours(setOffload), batch), want)
	sameByFlow(t, "wireguard-go", through(theirs, batch), want)
}

// TestEndOfADevice: Close ends a Read that waits, and so does the end of the interface.
func TestEndOfADevice(t *testing.T) {
	lab.Require(t)
	for name, end := range map[string]func(wireguard.Device, *lab.Host) error{
		"closed": func(d wireguard.Device, _ *lab.Host) error { return d.Close() },
		"interface gone": func(_ wireguard.Device, h *lab.Host) error {
			return h.Do(func() error {
				link, err := netlink.LinkByName("kido7")
				if err != nil {
					return err
				}
				return netlink.LinkDel(link)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := lab.New(t).Host("host")
			d := attach(t, h, "kido7", unix.IFF_VNET_HDR, func(fd int) (wireguard.Device, error) { return New(fd) }, nil, nil)
			if got, err := d.Name(); got != "kido7" || err != nil {
				t.Errorf("its name is %q, %v", got, err)
			}
			if err := h.Do(func() error {
				if mtu, err := d.MTU(); mtu != 1500 || err != nil {
					return fmt.Errorf("its MTU is %d: %w", mtu, err)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
			ended := make(chan error, 1)
			go func() {
				b := newBuffers(batch, device.MaxMessageSize)
				for {
					if _, err := d.Read(b.packets, b.sizes, offset); err != nil {
						ended <- err
						return
					}
				}
			}()
			if err := end(d, h); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if !errors.Is(err, os.ErrClosed) {
					t.Errorf("Read ends with %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("Read still waits")
			}
			if n, err := d.Write(withRoom(streams(1, 3, recipe{payload: 10, flags: ack})), offset); n != 0 || !errors.Is(err, os.ErrClosed) {
				t.Errorf("Write takes %d packets, %v", n, err)
			}
			if err := errors.Join(d.Close(), d.Close()); err != nil {
				t.Errorf("Close: %v", err)
			}
			if _, open := <-d.Events(); open {
				t.Error("an event came after Close")
			}
		})
	}
}

// TestNotAnInterface: the descriptor is closed, and the error says for what it was.
func TestNotAnInterface(t *testing.T) {
	fd, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := New(fd); err == nil || d != nil {
		t.Errorf("%v, %v", d, err)
	}
	if err := unix.Close(fd); !errors.Is(err, unix.EBADF) {
		t.Errorf("the descriptor is open: %v", err)
	}
}
