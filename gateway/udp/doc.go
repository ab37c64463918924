// Package udp is the outer end of the tunnel: a conn.Bind for Linux in place of
// wireguard-go's.
//
// The kernel joins datagrams of one sender and one size into one message
// (UDP_GRO, udp(7)), and splits one message into datagrams (UDP_SEGMENT). A
// receiver predicts their size and gives the kernel WireGuard's own buffers, so
// that each datagram lands in its buffer without a copy. If the prediction is
// wrong, the datagrams are copied, and kept for the next call if there is no room.
// Sending copies nothing.
//
// An answer leaves from the address and by the interface at which the question
// arrived (IP_PKTINFO in ip(7), IPV6_PKTINFO in RFC 3542). If that source no longer
// exists, the answer leaves from another one, or to a Strict endpoint not at all.
package udp
