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

	owntun "kidoban/gateway/tun"
	"kidoban/gateway/view"
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
func createTUN(path, name string) (tun.Device, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, tunError(name, fmt.Errorf("open %s: %w", path, err))
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, tunError(name, err)
	}
	device, err := owntun.New(fd) // closes fd with the device
	if err != nil {
		return nil, tunError(name, err)
	}
	return device, nil
}

// Device makes interfaces.
const Device = "/dev/net/tun"

// tunError is the error of the device that makes interfaces, and names the cure.
func tunError(name string, err error) error {
	code := view.Code("tun_failed")
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		code = "tun_missing" // no node, or no driver behind it
	case errors.Is(err, fs.ErrPermission):
		code = "tun_forbidden"
	}
	return &view.Error{Message: view.Say(code, view.Args{"interface": name, "cause": err}), Cause: err}
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

// link is the interface, which mend keeps as it was made. Its handle stays in the
// network namespace in which it was made.
type link struct {
	handle    *netlink.Handle
	index     int
	name      string
	mtu       int
	addresses []netip.Prefix
	unset     atomic.Pointer[[]string] // those addresses that the kernel does not take, because IPv6 is off
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
	l = &link{handle: handle, index: device.Attrs().Index, name: name, mtu: mtu, addresses: addresses}
	_, err = l.mend()
	return l, err
}

// mend gives the interface what it lacks: its MTU, its state up, its addresses, and
// the routes to their networks. It says what that was. An interface that is gone or
// has another name cannot be mended, and without IPv6 its IPv6 addresses are left
// out until there is IPv6.
func (l *link) mend() (mended []string, err error) {
	device, err := l.handle.LinkByIndex(l.index)
	if err != nil {
		return nil, fmt.Errorf("the tunnel interface %s was lost: %w", l.name, err)
	}
	a := device.Attrs()
	if a.Name != l.name {
		return nil, fmt.Errorf("the tunnel interface was renamed from %s to %s", l.name, a.Name)
	}
	// Below 1280 the kernel takes IPv6 and its addresses away, and it takes them away
	// from an interface that is set down. So addresses come last.
	if a.MTU != l.mtu {
		if err := l.handle.LinkSetMTU(device, l.mtu); err != nil {
			return nil, fmt.Errorf("set the MTU of interface %s to %d: %w", l.name, l.mtu, err)
		}
		mended = append(mended, fmt.Sprintf("its MTU was %d", a.MTU))
	}
	if a.Flags&net.FlagUp == 0 {
		if err := l.handle.LinkSetUp(device); err != nil {
			return nil, fmt.Errorf("set interface %s up: %w", l.name, err)
		}
		mended = append(mended, "it was down")
	}
	have, err := l.handle.AddrList(device, netlink.FAMILY_ALL)
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		return mended, nil // addresses of this host change: the next beat reads them
	}
	if err != nil {
		return nil, fmt.Errorf("list the addresses of %s: %w", l.name, err)
	}
	unset := []string(nil)
	for _, p := range l.addresses {
		if !slices.ContainsFunc(have, func(a netlink.Addr) bool { return a.IPNet.String() == ipNet(p).String() }) {
			err := l.handle.AddrReplace(device, &netlink.Addr{IPNet: ipNet(p)})
			if p.Addr().Is6() && withoutIPv6(err) {
				unset = append(unset, p.String())
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("add %s to interface %s: %w", p, l.name, err)
			}
			if before := l.unset.Load(); before == nil || !slices.Contains(*before, p.String()) {
				mended = append(mended, fmt.Sprintf("it had lost its address %s", p))
			}
		}
		added, err := l.route(p)
		if err != nil {
			return nil, fmt.Errorf("add the route to %s by interface %s: %w", p.Masked(), l.name, err)
		}
		if added {
			mended = append(mended, fmt.Sprintf("the route to %s was gone", p.Masked()))
		}
	}
	l.unset.Store(&unset)
	return mended, nil
}

// withoutIPv6 reports whether the kernel refuses an IPv6 address because IPv6 is off:
// by net.ipv6.conf.*.disable_ipv6, or by ipv6.disable=1 at its start.
func withoutIPv6(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)
}

// route adds the route that the kernel makes for an address, if it is gone. To ask for
// it beside others, which NLM_F_APPEND does, is the cheapest way to learn whether it is
// there: the kernel refuses the same route twice.
func (l *link) route(to netip.Prefix) (added bool, err error) {
	if to.IsSingleIP() {
		return false, nil // it brings no route
	}
	r := &netlink.Route{LinkIndex: l.index, Dst: ipNet(to.Masked()), Scope: netlink.SCOPE_LINK, Src: to.Addr().AsSlice(),
		Protocol: unix.RTPROT_KERNEL, Table: unix.RT_TABLE_MAIN}
	if to.Addr().Is6() {
		r.Scope, r.Src, r.Priority = netlink.SCOPE_UNIVERSE, nil, 256 // IP6_RT_PRIO_ADDRCONF
	}
	err = l.handle.RouteAppend(r)
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	return err == nil, err
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
