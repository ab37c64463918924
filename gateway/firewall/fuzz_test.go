package firewall

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// FuzzCopy reads what comes over NFLOG, whose payload strangers write: nothing
// is read that is not there, and what is told of a packet is in it.
func FuzzCopy(f *testing.F) {
	for _, payload := range [][]byte{
		lab.UDPPacket(netip.AddrPortFrom(outsider4, 40000), port(faraway4), initiationPacket()),
		lab.UDPPacket(netip.AddrPortFrom(outsider6, 40000), port(faraway6), initiationPacket()),
		synPacket(engineer6, 4000, target6, 22),
		{0x60, 0, 0, 0, 0, 8, unix.IPPROTO_FRAGMENT, 64, 39: 1, 40: unix.IPPROTO_UDP, 47: 1},
		{0x60, 0, 0, 0, 0, 16, unix.IPPROTO_HOPOPTS, 64, 39: 1, 40: unix.IPPROTO_UDP, 255, 49: 0},
		{0x4f, 0}, {},
	} {
		f.Add(append([]byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 1}, marshal(text(logPrefix, copiedFlow), raw(logPayload, payload))...))
	}
	f.Add([]byte{0, 0, 0, 0, 255, 255, logPayload, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		_, p, ok := parseCopy(netlink.Message{Header: netlink.Header{Type: unix.NFNL_SUBSYS_ULOG<<8 | logPacket}, Data: data})
		if !ok {
			return
		}
		from, to := p.source.Addr(), p.to.Addr()
		if !from.IsValid() || from.Is4() != to.Is4() || !bytes.Contains(data, from.AsSlice()) || !bytes.Contains(data, to.AsSlice()) {
			t.Errorf("from %v to %v, which are not in the packet", from, to)
		}
		if !bytes.Contains(data, p.payload) {
			t.Errorf("the payload %x is not in the packet", p.payload)
		}
		if withPorts := p.protocol == policy.TCP || p.protocol == policy.UDP; !withPorts && (p.source.Port() != 0 || p.to.Port() != 0) {
			t.Errorf("protocol %d has the ports %d and %d", p.protocol, p.source.Port(), p.to.Port())
		}
		c := copies{inspect: func(payload []byte, _ netip.AddrPort, _ int32) {
			if p.protocol != policy.UDP || len(payload) != initiationLength {
				t.Errorf("an initiation of protocol %d, %d bytes", p.protocol, len(payload))
			}
		}}
		c.initiation(p)
	})
}

// FuzzConntrackEntry reads what conntrack tells of a flow: what is told is
// whole, and names what may be deleted by it.
func FuzzConntrackEntry(f *testing.F) {
	entry := func(source, destination uint16, from, to netip.Addr, protocol ...netlink.Attribute) []byte {
		tuple := marshal(nest(ctTupleIP, marshal(raw(source, from.AsSlice()), raw(destination, to.AsSlice()))), nest(ctTupleProtocol, marshal(protocol...)))
		return append([]byte{unix.AF_INET, unix.NFNETLINK_V0, 0, 0}, marshal(nest(ctTupleOriginal, tuple), be32(ctID, 7))...)
	}
	f.Add(entry(ctSource4, ctDestination4, engineer4, target4, raw(ctProtocol, []byte{policy.TCP}), raw(ctPort, []byte{0, 22})))
	f.Add(entry(ctSource6, ctDestination6, engineer6, target6, raw(ctProtocol, []byte{policy.ICMPv6}), raw(ctType6, []byte{128}), raw(ctCode6, []byte{0})))
	f.Add(entry(ctSource4, ctDestination4, engineer4, target6, raw(ctProtocol, []byte{policy.UDP})))
	f.Add([]byte{2, 0, 0, 0, 4, 0, 1, 0x80})
	f.Fuzz(func(t *testing.T, message []byte) {
		flow, ok := parseFlow(message)
		if c, counts := parseCount(message, func(_, _ netip.Addr) bool { return true }); counts != ok || c.flow.From != flow.source || ok && c.flow.To.Addr().BitLen() != flow.source.BitLen() {
			t.Errorf("counted: %v, %v; the flow is %v, %v", c.flow, counts, flow.source, ok)
		}
		if !ok {
			return
		}
		size := flow.source.BitLen() / 8
		if len(flow.key) != 2*size+8 || flow.key[:size] != string(flow.source.AsSlice()) {
			t.Errorf("key %x of a flow that began at %v", flow.key, flow.source)
		}
		if find(flow.itself, ctTupleOriginal) == nil {
			t.Errorf("nothing says which flow is deleted: %x", flow.itself)
		}
	})
}
