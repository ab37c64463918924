package policy

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Flow names the connections of one engineer to one service: the tunnel address that began them,
// and their destination. ICMP has port 0.
type Flow struct {
	From     netip.Addr
	To       netip.AddrPort
	Protocol uint8
}

// Use is what passed in connections, since the process began to count. Received is from the
// engineer, transmitted to the engineer; bytes are of IP packets, with their headers.
type Use struct {
	Connections                         uint64
	ReceivedPackets, TransmittedPackets uint64
	ReceivedBytes, TransmittedBytes     uint64
	First, Last                         time.Time // wall clock: of the first connection's beginning, of the newest packet that is known
}

// TargetOf names the target that lists a destination, as Address and Service of a use have it; empty:
// none does.
func (p *Policy) TargetOf(address, service string) string {
	if p == nil {
		return ""
	}
	to, err := netip.ParseAddr(address)
	if err != nil {
		return ""
	}
	for _, t := range p.Targets {
		if t.Prefix.Contains(to) && slices.ContainsFunc(t.Services, func(s Service) bool { return s.covers(service) }) {
			return t.Name
		}
	}
	return ""
}

// covers reports whether a service has the one port of another, as String writes it.
func (s Service) covers(one string) bool {
	name, port, _ := strings.Cut(one, "/")
	n, err := strconv.ParseUint(port, 10, 16)
	return name == ProtocolName(s.Protocol) && (err != nil || s.Allows(s.Protocol, uint16(n)))
}
