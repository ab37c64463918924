package tunnel

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"
)

// gatedTUN stands between WireGuard and the interface: packets from and to a
// tunnel address pass only until its engineer's deadline, however long they
// waited in WireGuard's queues.
type gatedTUN struct {
	tun.Device
	table *table
	boot  func() time.Duration
	fail  func(error)

	closed atomic.Bool
}

// createTUN makes the interface in the network namespace of the calling thread.
// tun.CreateTUN would also watch every interface of the host, and give up when
// many change at once. The reconciler looks at this one every second.
func createTUN(name string) (tun.Device, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	device, _, err := tun.CreateUnmonitoredTUNFromFD(fd) // closes fd with the device
	return device, err
}

// Close implements tun.Device.
func (k *gatedTUN) Close() error {
	k.closed.Store(true)
	return k.Device.Close()
}

// Read implements tun.Device: packets from the site towards engineers.
func (k *gatedTUN) Read(packets [][]byte, sizes []int, offset int) (int, error) {
	n, err := k.Device.Read(packets, sizes, offset)
	switch {
	case err == nil || errors.Is(err, tun.ErrTooManySegments) || k.closed.Load():
	case unreadable(err):
		err = nil // WireGuard would close itself
	default:
		k.fail(fmt.Errorf("the tunnel interface was lost: read: %w", err))
	}
	now := k.boot()
	var last netip.Addr
	pass := false
	for i := range n {
		if _, to := innerAddresses(packets[i][offset : offset+sizes[i]]); to != last || !to.IsValid() {
			last, pass = to, k.table.mayPass(to, now)
		}
		if !pass {
			sizes[i] = 0
		}
	}
	return n, err
}

// unreadable reports whether a read error is about one packet that the kernel
// gave up already: the kernel could not describe it (EINVAL), or the packet
// cannot be split, which is no error of a system call.
func unreadable(err error) bool {
	var call *fs.PathError
	return errors.Is(err, unix.EINVAL) || !errors.As(err, &call) && !errors.Is(err, fs.ErrClosed)
}

// Write implements tun.Device: packets from an engineer towards the site.
// WireGuard writes the packets of one peer at a time and has compared their
// source addresses with the peer's, so the first stands for all.
func (k *gatedTUN) Write(packets [][]byte, offset int) (int, error) {
	if len(packets) == 0 {
		return 0, nil
	}
	if from, _ := innerAddresses(packets[0][offset:]); !k.table.mayPass(from, k.boot()) {
		return len(packets), nil
	}
	return k.Device.Write(packets, offset)
}

// innerAddresses reads the addresses of an IP packet; zero if it is none.
func innerAddresses(packet []byte) (from, to netip.Addr) {
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:]))
	case len(packet) >= 40 && packet[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(packet[8:])), netip.AddrFrom16([16]byte(packet[24:]))
	}
	return netip.Addr{}, netip.Addr{}
}

// link is the interface as the kernel has it. Its handle stays in the network
// namespace in which it was made.
type link struct {
	handle    *netlink.Handle
	index     int
	name      string
	addresses []netip.Prefix
}

// newLink gives an interface its MTU and its addresses and sets it up.
func newLink(name string, mtu int, addresses []netip.Prefix) (l *link, err error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	defer func() {
		if err != nil {
			handle.Close()
		}
	}()
	device, err := handle.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find interface %s: %w", name, err)
	}
	if err := handle.LinkSetMTU(device, mtu); err != nil {
		return nil, fmt.Errorf("set the MTU of interface %s to %d: %w", name, mtu, err)
	}
	for _, p := range addresses {
		if err := handle.AddrReplace(device, &netlink.Addr{IPNet: ipNet(p)}); err != nil {
			return nil, fmt.Errorf("add %s to interface %s: %w", p, name, err)
		}
	}
	if err := handle.LinkSetUp(device); err != nil {
		return nil, fmt.Errorf("set interface %s up: %w", name, err)
	}
	return &link{handle, device.Attrs().Index, name, addresses}, nil
}

// check reports a change of the interface; nil: there is none.
func (l *link) check() error {
	// The addresses are read first: an interface that is set down loses some,
	// and then it is down that counts.
	have, listErr := l.handle.AddrList(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: l.index}}, netlink.FAMILY_ALL)
	interrupted := errors.Is(listErr, netlink.ErrDumpInterrupted)
	device, err := l.handle.LinkByIndex(l.index)
	if err != nil {
		return fmt.Errorf("the tunnel interface %s was lost: %w", l.name, err)
	}
	switch attributes := device.Attrs(); {
	case attributes.Name != l.name:
		return fmt.Errorf("the tunnel interface was renamed from %s to %s", l.name, attributes.Name)
	case attributes.Flags&net.FlagUp == 0:
		return fmt.Errorf("the tunnel interface %s is down", l.name)
	case interrupted: // addresses of this host change: the next beat reads them
		return nil
	case listErr != nil:
		return fmt.Errorf("list the addresses of %s: %w", l.name, listErr)
	}
	for _, want := range l.addresses {
		if !slices.ContainsFunc(have, func(a netlink.Addr) bool { return a.IPNet.String() == ipNet(want).String() }) {
			return fmt.Errorf("the tunnel interface %s has lost its address %s", l.name, want)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
