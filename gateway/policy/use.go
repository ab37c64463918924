package policy

import (
	"net/netip"
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
