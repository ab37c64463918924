package udp

import (
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// quiet is for how long nothing may come from an endpoint before its source is looked
// at, and how often.
const quiet = time.Second

// routes asks the kernel where packets would go. An interface may stay, with its
// address, when the way to the other end no longer leads by it. What is sent by it all
// the same gets lost without an error: Linux takes the other end for a neighbour then
// (IPv4), or sends it by another interface, whose provider refuses the address (RFC
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

// check gives up the source of an endpoint that is quiet, if it leads nowhere and
// another one leads on. The next datagram that comes corrects it.
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

// by is the interface of the route to an address, with a source and by an interface if
// they are given; 0: there is none. The interface of an own address is where it is
// assigned. mu is held.
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
