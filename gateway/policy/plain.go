package policy

import (
	"crypto/sha256"
	"maps"
	"net/netip"
	"strings"
)

// Plain reports whether this is a host behind a plain line and no person.
func (e *Engineer) Plain() bool { return e.Line != nil && e.Line.Plain }

// Plain reports whether the vendor comes by a plain line: its engineers are hosts.
func (v *Vendor) Plain() bool { return v.Line != nil && v.Line.Plain }

// HostOf is a host of a vendor behind a plain line. It stands where an engineer does: its address is
// both the source by which it comes and the one that the site sees.
func HostOf(v *Vendor, a netip.Addr) *Engineer {
	p := netip.PrefixFrom(a, a.BitLen())
	return &Engineer{Vendor: v, Name: hostName(a), DisplayName: a.String(),
		Key: HostKey(a), Addresses: []netip.Addr{a}, Sources: []netip.Prefix{p}, Line: v.Line}
}

func hostName(a netip.Addr) string {
	return "host-" + strings.NewReplacer(".", "-", ":", "-").Replace(a.StringExpanded())
}

// IsHost reports whether a name is that of a host behind a plain line, as host-192-0-2-1.
func IsHost(name string) bool {
	text, found := strings.CutPrefix(name, "host-")
	if !found {
		return false
	}
	for _, separator := range []string{".", ":"} {
		if a, err := netip.ParseAddr(strings.ReplaceAll(text, "-", separator)); err == nil && hostName(a) == name {
			return true
		}
	}
	return false
}

// HostKey identifies a host behind a plain line in plan and journal. It is a hash, so no private key is
// known for it. It depends on the address alone: a closed host stays closed if another vendor lists it.
func HostKey(a netip.Addr) Key {
	return sha256.Sum256([]byte("kidoban host without WireGuard\n" + a.String()))
}

// PlainLines reports whether a line is plain.
func (p *Policy) PlainLines() bool {
	for _, l := range p.Lines {
		if l.Plain {
			return true
		}
	}
	return false
}

// TargetTable finds the target of an address. It does one lookup for each prefix length in use, since a
// policy may have thousands of targets.
type TargetTable struct {
	of      map[netip.Prefix]*Target
	lengths [129]bool
}

// Add adds a target.
func (t *TargetTable) Add(x *Target) {
	if t.of == nil {
		t.of = map[netip.Prefix]*Target{}
	}
	p := x.Prefix.Masked()
	t.of[p], t.lengths[p.Bits()] = x, true
}

// At gives a target that contains the address, or nil.
func (t *TargetTable) At(a netip.Addr) *Target {
	for bits := range a.BitLen() + 1 {
		if !t.lengths[bits] {
			continue
		}
		p, _ := a.Prefix(bits)
		if x := t.of[p]; x != nil {
			return x
		}
	}
	return nil
}

// Clone copies the table.
func (t *TargetTable) Clone() TargetTable { return TargetTable{maps.Clone(t.of), t.lengths} }
