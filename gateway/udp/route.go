package udp

import (
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// quiet is how long an endpoint may be silent before its source is checked, and the
// least time between two checks.
const quiet = time.Second

// routes asks the kernel for routes. An interface may stay up, with its address, after
// the route to the other end has moved to another interface. Packets that still leave
// by it are lost without an error: with IPv4 Linux takes the other end for a neighbour;
// otherwise it sends by another interface, whose provider drops the source address (RFC
// 2827).
type routes struct {
	mu     sync.Mutex
	handle *netlink.Handle // nil: closed
	begun  time.Time       // never changed
}

// open uses the network namespace of the calling thread.
func (r *routes) open() (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	return err
}

func (r *routes) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.handle != nil {
		r.handle.Close()
		r.handle = nil
	}
}

// check gives up the source of a silent endpoint if no route leads from it, and one
// from another source does. The next datagram from the endpoint corrects that.
func (r *routes) check(e *Endpoint) {
	now := int64(time.Since(r.begun))
	if last := e.checked.Load(); now-last < int64(quiet) || !e.checked.CompareAndSwap(last, now) {
		return
	}
	if e.heard.Swap(false) || e.index == 0 || e.scope != 0 || e.source.Load() != wholeSource {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.handle == nil || r.by(e.DstIP(), e.own, e.index) == e.index || r.by(e.DstIP(), netip.Addr{}, 0) == 0 {
		return
	}
	source := int32(addressOnly)
	if r.by(e.own, netip.Addr{}, 0) == e.index {
		source = anySource // the address belongs to the interface
	}
	e.source.CompareAndSwap(wholeSource, source)
}

// by returns the interface of the route to an address, restricted to a source and an
// interface if they are given; 0: there is no route. For an own address it is the
// interface that has it. mu is held.
func (r *routes) by(to, from netip.Addr, index int32) int32 {
	options := &netlink.RouteGetOptions{OifIndex: int(index), FIBMatch: true} // an error if there is no route
	if from.IsValid() {
		options.SrcAddr = from.AsSlice()
	}
	found, err := r.handle.RouteGetWithOptions(to.AsSlice(), options)
	if err != nil || len(found) == 0 {
		return 0
	}
	if len(found[0].MultiPath) > 0 {
		return max(index, 1) // by several interfaces
	}
	return int32(found[0].LinkIndex)
}
