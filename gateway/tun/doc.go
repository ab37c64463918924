// Package tun reads and writes the packets of a TUN interface for WireGuard. It stands in place of
// wireguard-go's NativeTun, and does the same with fewer system calls and copies.
//
// The kernel gives and takes joined frames: the headers of one packet and the payload of many,
// behind a virtio_net_hdr that says how long each is (TUNSETOFFLOAD,
// Documentation/networking/segmentation-offloads.rst).
//
//   - Read takes frames until there are none or WireGuard's buffers are full. It expects that a
//     joined frame has the shape of the last one, and has the kernel scatter the payload into
//     WireGuard's buffers (readv). A frame of another shape is copied.
//   - Write joins consecutive packets of one flow, and has the kernel gather the payload (writev).
//     It joins packets only if the kernel can split the frame into the same bytes again, and keeps
//     the order of each flow.
package tun
