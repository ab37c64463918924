package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"kidoban/gateway/policy"
)

// connections makes conntrack forget flows.
type connections struct {
	socket nl.SocketHandle
	owners map[netip.Addr]policy.Key // the key of the engineer who has, or had last, each tunnel address
	of     *policy.Policy            // the last one whose engineers are all in owners
	hosts  *hosts                    // nil: there never was one
	stale  bool                      // conntrack may know flows of these addresses that are neither open nor frozen
	frozen flowEnds                  // closed flows that conntrack keeps, and until when
}

func openConnections() (*connections, error) {
	socket, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("conntrack's netlink socket: %w", err)
	}
	wait := unix.NsecToTimeval(int64(answerTimeout))
	_ = socket.SetReceiveTimeout(&wait) // only keeps it
	return &connections{socket: nl.SocketHandle{Socket: socket}, owners: map[netip.Addr]policy.Key{}}, nil
}

func (c *connections) close() { c.socket.Close() }

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

// forget deletes every flow that began from a tunnel address, or from a host on a plain line to a target,
// and is neither open nor kept. Whatever else a host has, such as with the gateway itself, cannot pass, and
// may be too much to be deleted. The addresses are those in owners and in coming, which get other owners now.
// open has the elements of the sets of flows.
func (c *connections) forget(coming map[netip.Addr]policy.Key, open map[string]map[string]end, kept flowEnds) error {
	for _, family := range families {
		found, err := len(c.owners)+len(coming), error(nil)
		for walks := 0; found > 0 && err == nil; walks++ {
			if walks == forgettings {
				err = fmt.Errorf("%d came back, again and again", found)
			} else {
				found, err = c.forgetOnce(family, coming, open[name("flows", family)], kept[name("flows", family)])
			}
		}
		if err != nil {
			return fmt.Errorf("the kernel does not forget the flows that are closed (nf_conntrack_netlink): %w", err)
		}
	}
	c.stale = false
	return nil
}

// forgetOnce walks conntrack and gives how many flows it found to forget.
func (c *connections) forgetOnce(family int, coming map[netip.Addr]policy.Key, open, kept map[string]end) (int, error) {
	var closed [][]byte
	err := c.ask(family, ctGet, unix.NLM_F_DUMP, nil, func(message []byte) bool {
		f, ok := parseFlow(message)
		_, known := c.owners[f.source]
		_, comes := coming[f.source]
		_, passes := open[f.key]
		_, stays := kept[f.key]
		if ok && (known || comes) && !passes && !stays && !c.hosts.elsewhere(f.source, f.to) {
			closed = append(closed, f.itself)
		}
		return true
	})
	if err != nil {
		return 0, fmt.Errorf("listing flows: %w", err)
	}
	for _, itself := range closed {
		// One that has ended since is as good as forgotten.
		if err := c.ask(family, ctDelete, unix.NLM_F_ACK, itself, nil); err != nil && !errors.Is(err, unix.ENOENT) {
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

// ask sends a request to nfnetlink's conntrack, and gives each message of the
// answer to a function. Conntrack may hold many flows, so they are not collected.
func (c *connections) ask(family, kind, flags int, attributes []byte, each func(message []byte) bool) error {
	protocol := byte(unix.AF_INET)
	if family == 6 {
		protocol = unix.AF_INET6
	}
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|kind, flags)
	r.AddRawData(append([]byte{protocol, unix.NFNETLINK_V0, 0, 0}, attributes...))
	r.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: &c.socket}
	return r.ExecuteIter(unix.NETLINK_NETFILTER, 0, each)
}

// ctFlow is a flow that conntrack knows, as it began.
type ctFlow struct {
	source, to netip.Addr
	key        string // as in the sets of flows
	itself     []byte // the attributes by which it is deleted
}

// parseFlow reads an entry of conntrack. Of a protocol without ports, and
// other than ICMP, the key has none.
func parseFlow(message []byte) (ctFlow, bool) {
	if len(message) < 4 {
		return ctFlow{}, false
	}
	all := message[4:]
	tuple := find(all, ctTupleOriginal)
	addresses, protocol := find(tuple, ctTupleIP), find(tuple, ctTupleProtocol)
	source, destination := find(addresses, ctSource4), find(addresses, ctDestination4)
	kind, code := find(protocol, ctType4), find(protocol, ctCode4)
	if source == nil {
		source, destination = find(addresses, ctSource6), find(addresses, ctDestination6)
		kind, code = find(protocol, ctType6), find(protocol, ctCode6)
	}
	from, ok := netip.AddrFromSlice(source)
	to, _ := netip.AddrFromSlice(destination) // as long as the source
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
	f := ctFlow{source: from, to: to, key: string(appendPort(key, port)), itself: marshal(nest(ctTupleOriginal, tuple))}
	for _, kind := range []uint16{ctZone, ctID} {
		if value := find(all, kind); value != nil {
			f.itself = append(f.itself, marshal(raw(kind, value))...)
		}
	}
	return f, true
}
