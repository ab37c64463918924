package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// T is the part of *testing.T that a Lab needs. Fatalf and Skipf must not return.
type T interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// Lab is a set of hosts. Its methods, and methods of Host without an error result, must be called
// from the test's goroutine.
type Lab struct {
	t     T
	hosts []*Host
}

// origin is the network namespace of the process, to which threads return.
var origin = sync.OnceValues(func() (*os.File, error) { return os.Open("/proc/self/ns/net") })

// New makes a Lab without hosts, gone when the test ends. It calls Require.
func New(t T) *Lab {
	t.Helper()
	Require(t)
	if _, err := origin(); err != nil {
		t.Fatalf("lab: %v", err)
	}
	l := &Lab{t: t}
	t.Cleanup(func() {
		for _, h := range slices.Backward(l.hosts) {
			h.mu.Lock()
			cleanups := h.cleanups
			h.mu.Unlock()
			for _, f := range slices.Backward(cleanups) {
				f()
			}
		}
		for _, h := range slices.Backward(l.hosts) {
			h.close()
		}
	})
	return l
}

// Host is one machine: a network namespace. Its methods may be called concurrently, except as Lab
// says.
type Host struct {
	Name string

	lab       *Lab
	namespace *os.File
	netlink   *netlink.Handle
	raw       [2]int        // sockets for Send: IPv4, IPv6
	starts    chan func()   // to the thread that starts the commands
	ended     chan struct{} // that thread is home

	mu       sync.Mutex
	cleanups []func()
}

// Host adds a host. The name is for messages; it need not be unique.
func (l *Lab) Host(name string) *Host {
	l.t.Helper()
	h := &Host{Name: name, lab: l, starts: make(chan func()), ended: make(chan struct{})}
	h.must(h.open(), "its namespace")
	l.hosts = append(l.hosts, h)
	for _, off := range [...]string{
		// IPv4 inherits the machine's values, so all are set here.
		"ipv4.ip_forward", "ipv4.conf.all.rp_filter", "ipv4.conf.default.rp_filter",
		"ipv6.conf.all.forwarding", "ipv6.conf.all.accept_dad", "ipv6.conf.default.accept_dad",
		"ipv6.conf.all.disable_ipv6", "ipv6.conf.default.disable_ipv6", "ipv6.conf.default.router_solicitations",
	} {
		h.Sysctl("net."+off, "0")
	}
	h.must(h.raise("lo", nil), "loopback")
	return h
}

// open makes the namespace, and the thread in it that starts commands: Pdeathsig is bound to the
// starting thread.
func (h *Host) open() error {
	ready := make(chan error, 1)
	go func() {
		defer close(h.ended)
		runtime.LockOSThread()
		defer unlock()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			h.namespace, err = os.Open("/proc/thread-self/ns/net")
		}
		for i, family := range [...]int{unix.AF_INET, unix.AF_INET6} {
			if err == nil { // with IPPROTO_RAW the sender writes the header (raw(7))
				h.raw[i], err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
			}
		}
		ready <- err
		for f := range h.starts {
			f()
		}
	}()
	err := <-ready
	if err == nil {
		h.netlink, err = netlink.NewHandleAt(netns.NsHandle(h.namespace.Fd()), unix.NETLINK_ROUTE)
	}
	return err
}

func (h *Host) close() {
	close(h.starts)
	<-h.ended
	unix.Close(h.raw[0])
	unix.Close(h.raw[1])
	h.netlink.Close()
	h.namespace.Close()
}

// must ends the test on an error.
func (h *Host) must(err error, format string, args ...any) {
	h.lab.t.Helper()
	if err != nil {
		h.lab.t.Fatalf("lab: host %s: %s: %v", h.Name, fmt.Sprintf(format, args...), err)
	}
}

// cleanup has f called when the lab ends.
func (h *Host) cleanup(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cleanups = append(h.cleanups, f)
}

// unlock gives the thread back to the runtime if it can return to its namespace. If not, the thread
// ends with its goroutine.
func unlock() {
	if home, err := origin(); err == nil && enterNamespace(home) == nil {
		runtime.UnlockOSThread()
	}
}

// enterNamespace moves the calling thread. It fails if the file is closed.
func enterNamespace(f *os.File) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var setns error
	err = c.Control(func(fd uintptr) { setns = unix.Setns(int(fd), unix.CLONE_NEWNET) })
	return errors.Join(err, setns)
}

// Do runs f on a thread inside the host's network namespace. Sockets that f makes stay there;
// goroutines that f starts do not run there. /proc/sys/net and /proc/thread-self/net are the
// host's.
func (h *Host) Do(f func() error) error {
	// The result if f leaves by runtime.Goexit, as t.Fatal does.
	err := errors.New("lab: the function given to Do ended its goroutine; t.Fatal and its kin must be called outside")
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer unlock()
		if entering := enterNamespace(h.namespace); entering != nil {
			err = fmt.Errorf("lab: host %s: enter its namespace: %w", h.Name, entering)
			return
		}
		err = f()
	}()
	<-done
	return err
}

// Namespace is a path to the host's network namespace, for `nsenter --net`, until the lab ends.
func (h *Host) Namespace() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.namespace.Fd())
}

// Sysctl sets a kernel setting of the host, such as "net.ipv4.ip_forward".
func (h *Host) Sysctl(name, value string) {
	h.lab.t.Helper()
	h.must(h.Do(func() error { return os.WriteFile(sysctlFile(name), []byte(value), 0) }), "set %s=%s", name, value)
}

// ReadSysctl reads a kernel setting of the host, without surrounding space.
func (h *Host) ReadSysctl(name string) string {
	h.lab.t.Helper()
	var value []byte
	h.must(h.Do(func() (err error) { value, err = os.ReadFile(sysctlFile(name)); return err }), "read %s", name)
	return strings.TrimSpace(string(value))
}

func sysctlFile(name string) string { return "/proc/sys/" + strings.ReplaceAll(name, ".", "/") }

// Forward makes the host a router for both families.
func (h *Host) Forward() {
	h.lab.t.Helper()
	h.Sysctl("net.ipv4.ip_forward", "1")
	h.Sysctl("net.ipv6.conf.all.forwarding", "1")
}

// Link joins two hosts by a pair of virtual Ethernet interfaces, which are ready when Link returns.
// Each address brings the route to its prefix.
func (l *Lab) Link(a *Host, aInterface string, aAddresses []netip.Prefix, b *Host, bInterface string, bAddresses []netip.Prefix) {
	l.t.Helper()
	err := a.netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: aInterface}, PeerName: bInterface, PeerNamespace: netlink.NsFd(b.namespace.Fd())})
	a.must(err, "link %s to %s of %s", aInterface, bInterface, b.Name)
	a.must(a.raise(aInterface, aAddresses), "set %s up", aInterface)
	b.must(b.raise(bInterface, bAddresses), "set %s up", bInterface)
	a.must(a.carries(aInterface), "wait for %s", aInterface)
	b.must(b.carries(bInterface), "wait for %s", bInterface)
}

// raise gives an interface its addresses and sets it up.
func (h *Host) raise(name string, addresses []netip.Prefix) error {
	link, err := h.netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, p := range addresses {
		if err := h.netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(p), Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("add %v: %w", p, err)
		}
	}
	return h.netlink.LinkSetUp(link)
}

// settle is the time limit for the kernel's work queues.
const settle = 10 * time.Second

// carries waits until an interface sends and answers. The kernel activates it from a work queue, up
// to 1 s after both ends are up; packets before that are lost.
func (h *Host) carries(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), settle)
	defer cancel()
	return Wait(ctx, func() error {
		link, err := h.netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if link.Type() == "veth" && link.Attrs().OperState != netlink.OperUp { // a TUN has no such state
			return fmt.Errorf("%s is %v", name, link.Attrs().OperState)
		}
		// IPv6 addresses come from a work queue.
		addresses, err := h.netlink.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			return err
		}
		for _, a := range addresses {
			if a.Flags&unix.IFA_F_TENTATIVE != 0 {
				return fmt.Errorf("%v is tentative", a.IP)
			}
			if a.IP.IsLinkLocalUnicast() {
				continue // the route to it depends on the interface
			}
			if routes, err := h.netlink.RouteGet(a.IP); err != nil || len(routes) != 1 || routes[0].Type != unix.RTN_LOCAL {
				return fmt.Errorf("%v is not the host's: %v, %v", a.IP, routes, err)
			}
		}
		return nil
	})
}

// Address adds an address to an interface that is up.
func (h *Host) Address(name string, address netip.Prefix) {
	h.lab.t.Helper()
	h.must(h.raise(name, []netip.Prefix{address}), "add %v to %s", address, name)
	h.must(h.carries(name), "wait for %s", name)
}

// Route adds a route by way of a neighbour, or replaces one.
func (h *Host) Route(to netip.Prefix, via netip.Addr) {
	h.lab.t.Helper()
	h.must(h.netlink.RouteReplace(&netlink.Route{Dst: ipNet(to.Masked()), Gw: via.AsSlice()}), "route to %v via %v", to, via)
}

// RouteBy adds a route by way of a neighbour that lies in no network of the interface, or of the network itself (an
// invalid via), or replaces one. What leaves by it has the source from; invalid: the kernel chooses one.
func (h *Host) RouteBy(to netip.Prefix, via netip.Addr, name string, from netip.Addr) {
	h.lab.t.Helper()
	link, err := h.netlink.LinkByName(name)
	h.must(err, "find %s", name)
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(to.Masked()), Src: from.AsSlice()}
	if via.IsValid() {
		route.Gw, route.Flags = via.AsSlice(), int(netlink.FLAG_ONLINK)
	} else {
		route.Scope = netlink.SCOPE_LINK
	}
	h.must(h.netlink.RouteReplace(route), "route to %v via %v by %s", to, via, name)
}

// LinkLocal is the link-local IPv6 address of an interface (RFC 4291, section 2.5.6).
func (h *Host) LinkLocal(name string) (found netip.Addr) {
	h.lab.t.Helper()
	link, err := h.netlink.LinkByName(name)
	h.must(err, "link-local address of %s", name)
	addresses, err := h.netlink.AddrList(link, netlink.FAMILY_V6)
	for _, a := range addresses {
		if a.IP.IsLinkLocalUnicast() {
			found, _ = netip.AddrFromSlice(a.IP)
		}
	}
	if !found.IsValid() {
		h.lab.t.Fatalf("lab: host %s: no link-local address of %s: %v", h.Name, name, err)
	}
	return found
}

// Prefixes parses constants such as "10.1.0.5/24". It panics on an error.
func Prefixes(texts ...string) []netip.Prefix {
	prefixes := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		prefixes[i] = netip.MustParsePrefix(text)
	}
	return prefixes
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
