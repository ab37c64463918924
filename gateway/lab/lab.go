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
	t      T
	origin *os.File // the network namespace of the process, for threads to return to
	hosts  []*Host

	mu       sync.Mutex
	ended    bool           // no namespace may be entered any more
	visitors sync.WaitGroup // threads in a namespace; Add under mu
}

// New makes a Lab without hosts, gone when the test ends. It calls Require.
func New(t T) *Lab {
	t.Helper()
	Require(t)
	origin, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	l := &Lab{t: t, origin: origin}
	t.Cleanup(l.close)
	return l
}

// close undoes everything, newest first. A forgotten goroutine may still be inside a namespace.
func (l *Lab) close() {
	for _, h := range slices.Backward(l.hosts) {
		h.cleanUp()
	}
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.visitors.Wait()
	for _, h := range slices.Backward(l.hosts) {
		h.close()
	}
	l.origin.Close()
}

// visit reports whether a namespace may be entered; then visitors.Done is due.
func (l *Lab) visit() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.visitors.Add(1)
	return true
}

// Host is one machine: a network namespace. Its methods may be called concurrently, except as Lab
// says.
type Host struct {
	Name string

	lab       *Lab
	namespace *os.File
	netlink   *netlink.Handle
	starts    chan func()   // to the thread that starts the commands
	ended     chan struct{} // that thread is home

	mu       sync.Mutex
	cleanups []func()
	raw      map[int]int // sockets for Send, by address family
}

// Host adds a host. The name is for messages; it need not be unique.
func (l *Lab) Host(name string) *Host {
	l.t.Helper()
	h := &Host{Name: name, lab: l, starts: make(chan func()), ended: make(chan struct{}), raw: map[int]int{}}
	h.must(h.open(), "its namespace")
	l.hosts = append(l.hosts, h)
	for _, s := range [...]struct{ name, value string }{
		// IPv4 inherits the machine's values, so all are set here.
		{"net.ipv4.ip_forward", "0"},
		{"net.ipv4.conf.all.rp_filter", "0"},
		{"net.ipv4.conf.default.rp_filter", "0"},
		{"net.ipv6.conf.all.forwarding", "0"},
		{"net.ipv6.conf.all.accept_dad", "0"},
		{"net.ipv6.conf.default.accept_dad", "0"},
		{"net.ipv6.conf.all.disable_ipv6", "0"},
		{"net.ipv6.conf.default.disable_ipv6", "0"},
		{"net.ipv6.conf.default.router_solicitations", "0"},
	} {
		h.Sysctl(s.name, s.value)
	}
	loopback, err := h.netlink.LinkByName("lo")
	if err == nil {
		err = h.netlink.LinkSetUp(loopback)
	}
	h.must(err, "loopback")
	return h
}

// open makes the namespace, and the thread in it that starts commands.
func (h *Host) open() error {
	ready := make(chan error, 1)
	go func() {
		defer close(h.ended)
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err != nil {
			runtime.UnlockOSThread()
			ready <- fmt.Errorf("a new network namespace: %w", err)
			return
		}
		h.namespace, err = os.Open("/proc/thread-self/ns/net")
		ready <- err
		// Pdeathsig is bound to the starting thread, so one thread starts all commands.
		for f := range h.starts {
			f()
		}
		h.lab.unlock()
	}()
	if err := <-ready; err != nil {
		return err
	}
	var err error
	h.netlink, err = netlink.NewHandleAt(netns.NsHandle(h.namespace.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	return nil
}

func (h *Host) cleanUp() {
	h.mu.Lock()
	cleanups := h.cleanups
	h.cleanups = nil
	h.mu.Unlock()
	for _, f := range slices.Backward(cleanups) {
		f()
	}
}

func (h *Host) close() {
	close(h.starts)
	<-h.ended
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
func (l *Lab) unlock() {
	if unix.Setns(int(l.origin.Fd()), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
}

// Do runs f on a thread inside the host's network namespace. Sockets that f makes stay there;
// goroutines that f starts do not run there. /proc/sys/net and /proc/thread-self/net are the
// host's.
func (h *Host) Do(f func() error) error {
	if !h.lab.visit() {
		return fmt.Errorf("lab: host %s: the lab has ended", h.Name)
	}
	defer h.lab.visitors.Done()
	// The result if f leaves by runtime.Goexit, as t.Fatal does.
	err := errors.New("lab: the function given to Do ended its goroutine; t.Fatal and its kin must be called outside")
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if setnsErr := unix.Setns(int(h.namespace.Fd()), unix.CLONE_NEWNET); setnsErr != nil {
			runtime.UnlockOSThread()
			err = fmt.Errorf("lab: host %s: enter its namespace: %w", h.Name, setnsErr)
			return
		}
		defer h.lab.unlock()
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
	err := h.Do(func() (err error) { value, err = os.ReadFile(sysctlFile(name)); return err })
	h.must(err, "read %s", name)
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
	err := a.netlink.LinkAdd(&netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: aInterface},
		PeerName:      bInterface,
		PeerNamespace: netlink.NsFd(b.namespace.Fd()),
	})
	for _, next := range []func() error{
		func() error { return a.raise(aInterface, aAddresses) },
		func() error { return b.raise(bInterface, bAddresses) },
		func() error { return a.carries(aInterface) },
		func() error { return b.carries(bInterface) },
	} {
		if err == nil {
			err = next()
		}
	}
	if err != nil {
		l.t.Fatalf("lab: link %s of %s with %s of %s: %v", aInterface, a.Name, bInterface, b.Name, err)
	}
}

// raise gives an interface its addresses and sets it up.
func (h *Host) raise(name string, addresses []netip.Prefix) error {
	link, err := h.netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	for _, p := range addresses {
		if err := h.netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(p), Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("add %v to %s: %w", p, name, err)
		}
	}
	if err := h.netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
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
		if state := link.Attrs().OperState; state != netlink.OperUp {
			return fmt.Errorf("%s is %v", name, state)
		}
		return h.answers(link)
	})
}

// answers reports whether an interface has all of its addresses: IPv6 ones come from a work queue.
func (h *Host) answers(link netlink.Link) error {
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
}

// Route adds a route by way of a neighbour, or replaces one.
func (h *Host) Route(to netip.Prefix, via netip.Addr) {
	h.lab.t.Helper()
	h.must(h.netlink.RouteReplace(&netlink.Route{Dst: ipNet(to.Masked()), Gw: via.AsSlice()}), "route to %v via %v", to, via)
}

// LinkLocal is the link-local IPv6 address of an interface (RFC 4291, section 2.5.6).
func (h *Host) LinkLocal(name string) netip.Addr {
	h.lab.t.Helper()
	var found netip.Addr
	err := h.Do(func() error {
		link, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		addresses, err := link.Addrs()
		for _, a := range addresses {
			if p := netip.MustParsePrefix(a.String()); p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
				found = p.Addr()
			}
		}
		return err
	})
	if err != nil || !found.IsValid() {
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
