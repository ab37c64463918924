package udp

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Endpoint has the two ends of received datagrams: the sender, and the own address and
// interface at which they arrived. Datagrams with the same ends share one. The ends never
// change; the atomic fields remember how sending went.
type Endpoint struct {
	netip.AddrPort            // the sender; with a zone if it is link-local
	own            netip.Addr // invalid: unknown
	index          int32      // of the interface; 0: unknown
	scope          uint32     // the interface of a link-local sender; 0: it is none
	source         atomic.Int32
	single         atomic.Bool  // the kernel cannot split messages on the way to it
	heard          atomic.Bool  // a datagram came since source was last checked
	checked        atomic.Int64 // when source was last checked, in nanoseconds since the Bind was made
}

// How much of the source an answer keeps.
const (
	wholeSource = iota // the own address, by its interface
	addressOnly        // the own address, by any interface
	anySource
)

// Strict is an endpoint to which datagrams leave from its own address by its
// interface, or not at all.
type Strict struct{ *Endpoint }

// ClearSrc implements conn.Endpoint. It does nothing: packets share the endpoint,
// and a source that is gone is noticed when they are sent.
func (e *Endpoint) ClearSrc() {}

// SrcToString implements conn.Endpoint: the own address.
func (e *Endpoint) SrcToString() string { return e.own.String() }

// SrcIP implements conn.Endpoint: the own address; invalid: unknown.
func (e *Endpoint) SrcIP() netip.Addr { return e.own }

// SrcIfidx is the index of the interface by which the datagrams came; 0: unknown.
func (e *Endpoint) SrcIfidx() int32 { return e.index }

// DstToString implements conn.Endpoint: the sender's address and port.
func (e *Endpoint) DstToString() string { return e.AddrPort.String() }

// DstToBytes implements conn.Endpoint: the sender's address and port, to which a
// cookie is bound (WireGuard's paper, section 5.3).
func (e *Endpoint) DstToBytes() []byte {
	b, _ := e.MarshalBinary() // never fails
	return b
}

// DstIP implements conn.Endpoint: the sender's address.
func (e *Endpoint) DstIP() netip.Addr { return e.Addr() }

// ends are the two ends of a message, as the kernel tells them.
type ends struct {
	peer, own [16]byte // IPv4: the first four bytes
	port      uint16
	scope     uint32
	index     int32
	known     bool // own and index are
}

// maximumEndpoints bounds the endpoints that a socket remembers.
const maximumEndpoints = 4096

// endpoints are those of one socket. Datagrams with the same two ends share one.
type endpoints struct {
	six   bool
	zone  func(index uint32) string
	known map[ends]*Endpoint
	last  *Endpoint
	ends  ends // of last
}

// of returns the endpoint of a message. The datagram proves that its source works, so
// a source that was given up counts again.
func (c *endpoints) of(key ends) *Endpoint {
	if c.last == nil || c.ends != key {
		c.last, c.ends = c.find(key), key
	}
	if c.last.source.Load() != wholeSource {
		c.last.source.Store(wholeSource)
	}
	if !c.last.heard.Load() {
		c.last.heard.Store(true)
	}
	return c.last
}

func (c *endpoints) find(key ends) *Endpoint {
	e := c.known[key]
	if e == nil {
		if len(c.known) >= maximumEndpoints {
			clear(c.known)
		}
		e = c.build(key)
		c.known[key] = e
	}
	return e
}

func (c *endpoints) build(key ends) *Endpoint {
	peer := c.address(key.peer)
	if key.scope != 0 {
		peer = peer.WithZone(c.zone(key.scope))
	}
	e := &Endpoint{AddrPort: netip.AddrPortFrom(peer, key.port), scope: key.scope}
	if key.known {
		e.own, e.index = c.address(key.own), key.index
	}
	return e
}

func (c *endpoints) address(a [16]byte) netip.Addr {
	if c.six {
		return netip.AddrFrom16(a)
	}
	return netip.AddrFrom4([4]byte(a[:4]))
}

// readName takes the sender from the address of a message.
func (key *ends) readName(name *unix.RawSockaddrInet6, six bool) {
	if six {
		key.peer, key.port, key.scope = name.Addr, hostOrder(name.Port), name.Scope_id
		return
	}
	four := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
	copy(key.peer[:], four.Addr[:])
	key.port = hostOrder(four.Port)
}

// hostOrder turns a port in network order into a number, and back.
func hostOrder(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}

// readControl takes the own end from the control data of a message. It returns the
// size of the datagrams that are joined in the message; 0: it is one datagram.
func (key *ends) readControl(control []byte) (each int) {
	for len(control) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
		if h.Len < unix.SizeofCmsghdr || uint64(h.Len) > uint64(len(control)) {
			break
		}
		data := control[unix.CmsgLen(0):h.Len]
		switch {
		case h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO && len(data) >= 4:
			each = int(int32(binary.NativeEndian.Uint32(data)))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0]))
			key.index, key.known = info.Ifindex, true
			copy(key.own[:], info.Spec_dst[:])
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
			key.own, key.index, key.known = info.Addr, int32(info.Ifindex), true
		}
		control = control[min(len(control), unix.CmsgSpace(len(data))):]
	}
	return each
}

// name writes the address of the other end, and returns its length.
func (e *Endpoint) name(to *unix.RawSockaddrInet6) uint32 {
	if e.Addr().Is6() {
		*to = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: hostOrder(e.Port()), Addr: e.Addr().As16(), Scope_id: e.scope}
		return unix.SizeofSockaddrInet6
	}
	*(*unix.RawSockaddrInet4)(unsafe.Pointer(to)) = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: hostOrder(e.Port()), Addr: e.Addr().As4()}
	return unix.SizeofSockaddrInet4
}

// control is room for the control data of one message, which the kernel wants
// aligned.
type control [controlSize / 8]uint64

// controlSize is enough for the packet information of either family and the size
// of joined datagrams.
const controlSize = 64

func (c *control) bytes() *[controlSize]byte { return (*[controlSize]byte)(unsafe.Pointer(c)) }

// put appends a control message of size bytes behind the first used bytes, and
// returns where its data belongs.
func (c *control) put(used int, level, kind int32, size int) unsafe.Pointer {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&c.bytes()[used]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(size))
	return unsafe.Pointer(&c.bytes()[used+unix.CmsgLen(0)])
}

// putSource writes the source from which an answer is to leave, and returns the
// length of the control data.
func (e *Endpoint) putSource(c *control, source int32) int {
	if !e.own.IsValid() || source == anySource {
		return 0
	}
	index := e.index
	if source == addressOnly {
		index = 0
	}
	if e.own.Is6() {
		*(*unix.Inet6Pktinfo)(c.put(0, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)) =
			unix.Inet6Pktinfo{Addr: e.own.As16(), Ifindex: uint32(index)}
		return unix.CmsgSpace(unix.SizeofInet6Pktinfo)
	}
	*(*unix.Inet4Pktinfo)(c.put(0, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)) =
		unix.Inet4Pktinfo{Ifindex: index, Spec_dst: e.own.As4()}
	return unix.CmsgSpace(unix.SizeofInet4Pktinfo)
}

// putSegments has the kernel split a message into datagrams of each bytes. It returns
// the length of all control data.
func (c *control) putSegments(used, each int) int {
	*(*uint16)(c.put(used, unix.SOL_UDP, unix.UDP_SEGMENT, 2)) = uint16(each)
	return used + unix.CmsgSpace(2)
}
