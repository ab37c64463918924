package lab

import (
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestLinkIsReady: what is sent at once is not lost, and is answered.
func TestLinkIsReady(t *testing.T) {
	for range 10 {
		l := New(t)
		a, b := l.Host("a"), l.Host("b")
		l.Link(a, "eth0", Prefixes("192.0.2.1/24", "2001:db8:1::1/64"), b, "eth0", Prefixes("192.0.2.2/24", "2001:db8:1::2/64"))
		for _, h := range []*Host{a, b} {
			// A list does not wait for the work queue, as asking for one link may.
			links, err := h.netlink.LinkList()
			if err != nil {
				t.Fatal(err)
			}
			for _, link := range links {
				if link.Attrs().Name != "eth0" {
					continue
				}
				if state := link.Attrs().OperState; state != netlink.OperUp {
					t.Errorf("the link of %s is %v", h.Name, state)
				}
				addresses, err := h.netlink.AddrList(link, netlink.FAMILY_V6)
				if err != nil || len(addresses) != 2 {
					t.Errorf("%s has %v, %v, want its own address and one of the link", h.Name, addresses, err)
				}
				for _, x := range addresses {
					if x.Flags&unix.IFA_F_TENTATIVE != 0 {
						t.Errorf("%v of %s is tentative", x.IP, h.Name)
					}
				}
			}
		}
	}
}
