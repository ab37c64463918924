// Package tun reads and writes the packets of a TUN interface for WireGuard. It stands in place of
// wireguard-go's NativeTun, and does the same with fewer system calls and copies.
//
// The kernel gives and takes joined frames: the headers of one packet and the payload of many,
// behind a virtio_net_hdr that says how long each is (TUNSETOFFLOAD,
// Documentation/networking/segmentation-offloads.rst).
//
//   - Read takes frames until there are none or WireGuard's buffers are full. It expects that a
//     joined frame is like the last one, and has the kernel scatter the payload to where WireGuard
//     wants it (readv). What comes otherwise is copied.
//   - Write joins the packets of one flow that are neighbours in it, and has the kernel gather the
//     payload (writev). It joins only what the kernel takes apart into the same bytes again, and
//     keeps the order of each flow.
package tun
