package config

import (
	"cmp"
	"net/netip"
	"slices"

	"kidoban/gateway/policy"
)

// vendorSource is a source and whose it is.
type vendorSource struct {
	source
	vendor *policy.Vendor
}

// privateRanges are not routed on the Internet (RFC 1918, RFC 6598, RFC 4193).
var privateRanges = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("fc00::/7"),
}

// warnSource looks at one source of a vendor.
func (r *reader) warnSource(s source) {
	for _, private := range privateRanges {
		if private.Overlaps(s.prefix) {
			r.warnf(s.value, "%s is private (%v): if a NAT in front of the gateway hides the vendors' addresses, every vendor comes from the same one", short(s.prefix), private)
		}
	}
	widest := 24
	if s.prefix.Addr().Is6() {
		widest = 48
	}
	if s.prefix.Bits() < widest {
		r.warnf(s.value, "%v is wider than /%d: few vendors own so many addresses", s.prefix, widest)
	}
}

// warnShared finds sources of one vendor that overlap another vendor's.
// Sorted by first address, widest first, prefixes nest like brackets: those
// still open are on a stack, and only the innermost of another vendor is named.
func (r *reader) warnShared() {
	slices.SortStableFunc(r.listed, func(a, b vendorSource) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()))
	})
	var open []vendorSource
	for _, s := range r.listed {
		for len(open) > 0 && !within(s.prefix, open[len(open)-1].prefix) {
			open = open[:len(open)-1]
		}
		for _, outer := range slices.Backward(open) {
			if outer.vendor != s.vendor {
				r.warnf(s.value, "%s overlaps %s of vendor %s: keys still tell the vendors apart, but the address does not", short(s.prefix), short(outer.prefix), shown(outer.vendor.Name))
				break
			}
		}
		open = append(open, s)
	}
}

// warnRisky names services through which ransomware spread.
func (d *decoder) warnRisky(v value, s policy.Service) {
	for _, risky := range []struct {
		protocol uint8
		port     uint16
		name     string
	}{
		{policy.TCP, 3389, "RDP"}, {policy.UDP, 3389, "RDP"},
		{policy.TCP, 445, "SMB"}, {policy.TCP, 139, "SMB"},
	} {
		if s.Allows(risky.protocol, risky.port) {
			d.warnf(v, "%v opens %s, the usual way of ransomware: is it needed?", s, risky.name)
		}
	}
}

// warnWholeDays finds windows that stay open for more than 24 hours because
// whole days follow each other.
func (r *reader) warnWholeDays(v value, days *policy.Days) {
	length := days.To - days.From
	if length <= 0 {
		length += 24 * 60 * 60
	}
	if length < 24*60*60 {
		return
	}
	n, adjacent := 0, false
	for i, on := range days.Weekdays {
		if on {
			n++
			adjacent = adjacent || days.Weekdays[(i+1)%7]
		}
	}
	switch {
	case n == 7:
		r.warnf(v, "is all day, every day")
	case adjacent:
		r.warnf(v, "is more than 24 hours: whole days that follow each other")
	}
}

// warnUnreachable finds targets of a window that some of its engineers, or all
// of them, cannot reach, since no tunnel address of theirs is of the target's
// family.
func (r *reader) warnUnreachable(w *policy.Window, v value) {
	for _, family := range []struct {
		name string
		has  func(netip.Addr) bool
	}{{"IPv4", netip.Addr.Is4}, {"IPv6", netip.Addr.Is6}} {
		var targets []string
		for _, t := range w.Targets {
			if family.has(t.Prefix.Addr()) {
				targets = append(targets, shown(t.Name))
			}
		}
		if len(targets) == 0 {
			continue
		}
		var with, without []*policy.Engineer
		for _, e := range w.Engineers {
			switch {
			case slices.ContainsFunc(e.Addresses, family.has):
				with = append(with, e)
			case len(e.Addresses) > 0: // without any, the mistake is told of elsewhere
				without = append(without, e)
			}
		}
		if len(with) == 0 && len(without) > 0 {
			r.warnf(v, "nobody of this window has an %s address in the tunnel, so nobody can reach %s", family.name, oneOf(targets))
			continue
		}
		for _, e := range without {
			r.warnf(v, "%s has no %s address in the tunnel and cannot reach %s", shown(e.Name), family.name, oneOf(targets))
		}
	}
}
