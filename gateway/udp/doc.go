// Package udp is the outer end of the tunnel: a conn.Bind for Linux in place of
// wireguard-go's.
//
// The kernel joins datagrams of one sender and one size into one message
// (UDP_GRO, udp(7)), and parts one message into datagrams (UDP_SEGMENT). A
// receiver predicts their size and gives the kernel WireGuard's own buffers, so
// that each datagram lands in its buffer without a copy. Where the prediction is
// wrong, what came is copied, and kept for the next call if there is no room. What
// is sent is not copied at all.
//
// An answer leaves from the own address that was asked, by the interface by which
// the question came (IP_PKTINFO in ip(7), IPV6_PKTINFO in RFC 3542). Where that
// source no longer exists, it leaves from another one; a Strict endpoint does not.
package udp
