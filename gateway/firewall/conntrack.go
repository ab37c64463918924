package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway/policy"
)

// connections makes conntrack forget flows.
//
// Conntrack keeps a flow by its addresses and ports, for days. If it kept closed
// flows, a stream that was cut would go on under a later grant, its target could
// still send to the engineer, and the next engineer with the tunnel address
// would inherit it. So conntrack forgets every closed flow before anything
// opens.
type connections struct {
	socket   int // netlink's, to nfnetlink
	buffer   []byte
	sequence uint32

	owners map[netip.Addr]policy.Key // the key of the engineer who has, or had last, each tunnel address
	of     *policy.Policy            // the last one whose engineers are all in owners
	stale  bool                      // conntrack may know flows of these addresses that are not open
}

func openConnections() (*connections, error) {
	socket, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("conntrack's netlink socket: %w", err)
	}
	wait := unix.NsecToTimeval(int64(answerTimeout))
	if err := unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		unix.Close(socket)
		return nil, fmt.Errorf("conntrack's netlink socket: %w", err)
	}
	return &connections{socket: socket, buffer: make([]byte, 64<<10), owners: map[netip.Addr]policy.Key{}}, nil
}

func (c *connections) close() error { return unix.Close(c.socket) }

// moved gives the addresses that a policy gives to another engineer than before,
// or for the first time.
func (c *connections) moved(p *policy.Policy) map[netip.Addr]policy.Key {
	if p == nil || p == c.of {
		return nil
	}
	moved := map[netip.Addr]policy.Key{}
	for _, v := range p.Vendors {
		for _, e := range v.Engineers {
			for _, a := range e.Addresses {
				if have, ok := c.owners[a]; !ok || have != e.Key {
					moved[a] = e.Key
				}
			}
		}
	}
	if len(moved) == 0 {
		c.of = p
	}
	return moved
}

// without gives the plan without the grants of engineers with such addresses.
func without(p *policy.Plan, moved map[netip.Addr]policy.Key) *policy.Plan {
	return p.Restrict(func(g *policy.Grant) *policy.Grant {
		for _, a := range g.Engineer.Addresses {
			if _, ok := moved[a]; ok {
				return nil
			}
		}
		return g
	})
}

// forgettings bounds how often conntrack is walked for flows that came while
// it was being walked.
const forgettings = 8

// forget deletes every flow that began from a tunnel address and is not open.
// The addresses are those in owners and in coming, which get other owners now.
// open has the elements of the sets of flows.
func (c *connections) forget(coming map[netip.Addr]policy.Key, open map[string]map[string]end) error {
	for _, family := range families {
		if len(c.owners)+len(coming) == 0 {
			break
		}
		var err error
		found := 0
		for range forgettings {
			if found, err = c.forgetOnce(family, coming, open[name("flows", family)]); err != nil || found == 0 {
				break
			}
		}
		if err == nil && found > 0 {
			err = fmt.Errorf("%d came back, again and again", found)
		}
		if err != nil {
			return fmt.Errorf("the kernel does not forget the flows that are closed (nf_conntrack_netlink): %w", err)
		}
	}
	c.stale = false
	return nil
}

// forgetOnce walks conntrack and gives how many flows it found to forget.
func (c *connections) forgetOnce(family int, coming map[netip.Addr]policy.Key, open map[string]end) (int, error) {
	var closed [][]byte
	err := c.ask(request(family, ctGet, unix.NLM_F_DUMP, nil), func(message []byte) {
		f, ok := parseFlow(message)
		if !ok {
			return
		}
		_, known := c.owners[f.source]
		_, comes := coming[f.source]
		if _, passes := open[f.key]; (known || comes) && !passes {
			closed = append(closed, f.itself)
		}
	})
	if err != nil {
		return 0, fmt.Errorf("listing flows: %w", err)
	}
	for _, itself := range closed {
		// One that has ended since is as good as forgotten.
		if err := c.ask(request(family, ctDelete, unix.NLM_F_ACK, itself), nil); err != nil && !errors.Is(err, unix.ENOENT) {
			return 0, fmt.Errorf("deleting a flow: %w", err)
		}
	}
	return len(closed), nil
}

// took notes the owners of addresses.
func (c *connections) took(moved map[netip.Addr]policy.Key) { maps.Copy(c.owners, moved) }

// Numbers of nfnetlink_conntrack.h that golang.org/x/sys lacks.
const (
	ctGet    = 1 // IPCTNL_MSG_CT_GET
	ctDelete = 2 // IPCTNL_MSG_CT_DELETE

	ctTupleOriginal = 1  // CTA_TUPLE_ORIG
	ctID            = 12 // CTA_ID
	ctZone          = 18 // CTA_ZONE

	ctTupleIP       = 1 // CTA_TUPLE_IP
	ctTupleProtocol = 2 // CTA_TUPLE_PROTO
	ctTupleZone     = 3 // CTA_TUPLE_ZONE

	ctSource4, ctDestination4, ctSource6, ctDestination6 = 1, 2, 3, 4 // CTA_IP_*

	ctProtocol, ctPort, ctType4, ctCode4, ctType6, ctCode6 = 1, 3, 5, 6, 8, 9 // CTA_PROTO_*
)

// request is a message to nfnetlink's conntrack.
func request(family int, kind uint16, flags uint16, attributes []byte) []byte {
	protocol := byte(unix.AF_INET)
	if family == 6 {
		protocol = unix.AF_INET6
	}
	b := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+4+len(attributes))
	binary.NativeEndian.PutUint16(b[4:], unix.NFNL_SUBSYS_CTNETLINK<<8|kind)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|flags)
	b = append(append(b, protocol, unix.NFNETLINK_V0, 0, 0), attributes...)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

// errTorn means that an answer of the kernel is cut short.
var errTorn = errors.New("the kernel's answer is cut short")

// ask sends a request and hands every message of the answer on, without its
// header, until its end. Each is valid only for the call.
func (c *connections) ask(request []byte, each func(message []byte)) error {
	c.sequence++
	binary.NativeEndian.PutUint32(request[8:], c.sequence)
	if err := unix.Sendto(c.socket, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	deadline := time.Now().Add(2 * answerTimeout)
	for time.Now().Before(deadline) {
		n, from, err := unix.Recvfrom(c.socket, c.buffer, unix.MSG_TRUNC)
		sender, ok := from.(*unix.SockaddrNetlink)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case !ok || sender.Pid != 0: // not of the kernel
			continue
		case n > len(c.buffer):
			return errTorn
		}
		for rest := c.buffer[:n]; len(rest) >= unix.SizeofNlMsghdr; {
			length := int(binary.NativeEndian.Uint32(rest))
			if length < unix.SizeofNlMsghdr || length > len(rest) {
				return errTorn
			}
			kind, sequence, body := binary.NativeEndian.Uint16(rest[4:]), binary.NativeEndian.Uint32(rest[8:]), rest[unix.SizeofNlMsghdr:length]
			rest = rest[min((length+3)&^3, len(rest)):]
			switch {
			case sequence != c.sequence: // of a request whose answer was given up
			case kind == unix.NLMSG_DONE || kind == unix.NLMSG_ERROR:
				if len(body) < 4 {
					return errTorn
				}
				if code := int32(binary.NativeEndian.Uint32(body)); code < 0 {
					return unix.Errno(-code)
				}
				return nil
			case each != nil:
				each(body)
			}
		}
	}
	return unix.ETIMEDOUT
}

// ctFlow is a flow that conntrack knows, as it began.
type ctFlow struct {
	source netip.Addr
	key    string // as in the sets of flows
	itself []byte // the attributes by which it is deleted
}

// parseFlow reads an entry of conntrack. Of a protocol without ports, and
// other than ICMP, the key has none.
func parseFlow(message []byte) (ctFlow, bool) {
	if len(message) < 4 {
		return ctFlow{}, false
	}
	all := unmarshal(message[4:])
	tuple := find(all, ctTupleOriginal)
	parts := unmarshal(tuple)
	addresses, protocol := unmarshal(find(parts, ctTupleIP)), unmarshal(find(parts, ctTupleProtocol))
	source, destination := find(addresses, ctSource4), find(addresses, ctDestination4)
	kind, code := find(protocol, ctType4), find(protocol, ctCode4)
	if source == nil {
		source, destination = find(addresses, ctSource6), find(addresses, ctDestination6)
		kind, code = find(protocol, ctType6), find(protocol, ctCode6)
	}
	from, ok := netip.AddrFromSlice(source)
	number := find(protocol, ctProtocol)
	if !ok || len(source) != len(destination) || len(number) != 1 {
		return ctFlow{}, false
	}
	var port uint16
	switch p := find(protocol, ctPort); {
	case len(p) == 2:
		port = binary.BigEndian.Uint16(p)
	case len(kind) == 1 && len(code) == 1:
		port = uint16(kind[0])<<8 | uint16(code[0])
	}
	key := append(append(append([]byte{}, source...), destination...), number[0], 0, 0, 0)
	f := ctFlow{source: from, key: string(appendPort(key, port)), itself: marshal(nest(ctTupleOriginal, tuple))}
	for _, kind := range []uint16{ctZone, ctID} {
		if value := find(all, kind); value != nil {
			f.itself = append(f.itself, marshal(raw(kind, value))...)
		}
	}
	return f, true
}
