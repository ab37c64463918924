package config

import (
	"cmp"
	"net/netip"
	"slices"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// vendorSource is a source of a vendor.
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

// documentationRanges are in documents, and on no network (RFC 5737, RFC 3849, RFC 9637).
var documentationRanges = []netip.Prefix{
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("3fff::/20"),
}

// exampleKeys are the engineers' keys in example.yaml and in the documents. Nobody has their private
// keys.
var exampleKeys = []string{"2wwiNhY3WZPk0uE7XO1A/ZgbKPSlgHhNALW7A44oVAc=", "QXhczrLgmMRTqSJGY+dOn0gxco9yePgqMB5L1b55iGI="}

// Values of example.yaml that no site has.
const (
	exampleContact  = "情報システム課 088-000-0000"
	exampleEndpoint = "vpn.example.jp:51820"
)

// warnSource looks at one source of a vendor.
func (r *reader) warnSource(v *policy.Vendor, s source) {
	r.warnRange(v, s)
	if v.Plain() {
		return // a wide one is refused
	}
	widest := 24
	if s.prefix.Addr().Is6() {
		widest = 48
	}
	if s.prefix.Bits() < widest {
		r.warn(s.value, "policy_source_wide", view.Args{"source": s.prefix.String(), "bits": widest})
	}
}

// warnRange finds addresses from which no vendor comes over the Internet. By a line of its own one
// may come from a private address.
func (r *reader) warnRange(v *policy.Vendor, s source) {
	for _, documentation := range documentationRanges {
		if policy.Within(s.prefix, documentation) {
			r.warn(s.value, "policy_source_example", view.Args{"source": policy.Short(s.prefix), "range": documentation.String()})
		}
	}
	for _, private := range privateRanges {
		if private.Overlaps(s.prefix) && (v.Line == nil || v.Line.Kind == policy.Internet) {
			r.warn(s.value, "policy_source_private", view.Args{"source": policy.Short(s.prefix), "range": private.String()})
		}
	}
}

// warnShared finds sources that overlap another vendor's. Sorted by first address, widest first, a
// prefix comes after those that contain it. These are on a stack. The warning names the narrowest
// of another vendor.
func (r *reader) warnShared() {
	slices.SortStableFunc(r.listed, func(a, b vendorSource) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()))
	})
	var open []vendorSource
	for _, s := range r.listed {
		for len(open) > 0 && !policy.Within(s.prefix, open[len(open)-1].prefix) {
			open = open[:len(open)-1]
		}
		for _, outer := range slices.Backward(open) {
			if outer.vendor != s.vendor {
				r.warn(s.value, "policy_source_shared", view.Args{"source": policy.Short(s.prefix), "other": policy.Short(outer.prefix), "vendor": shown(outer.vendor.Name)})
				break
			}
		}
		open = append(open, s)
	}
}

// placedTarget is a target with its place in the file.
type placedTarget struct {
	*policy.Target
	value value
}

// maxAround bounds the targets around another that are compared with it.
const maxAround = 100

// warnMasquerade finds services that a masqueraded target and a plain one both open at an address.
// An engineer with both targets is masqueraded there.
func (r *reader) warnMasquerade() {
	slices.SortStableFunc(r.placed, func(a, b placedTarget) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
	open := map[bool][]placedTarget{} // those around the target at hand, widest first, by Masquerade
	for _, t := range r.placed {
		for m, all := range open {
			for len(all) > 0 && !policy.Within(t.Prefix, all[len(all)-1].Prefix) {
				all = all[:len(all)-1]
			}
			open[m] = all
		}
		others := open[!t.Masquerade]
		for _, other := range others[max(0, len(others)-maxAround):] {
			masqueraded, plain := other, t
			if t.Masquerade {
				masqueraded, plain = t, other
			}
			if both, ok := shared(t.Services, other.Services); ok {
				r.warn(plain.value, "policy_masquerade_mixed", view.Args{"service": both.String(), "address": policy.Short(t.Prefix), "other": shown(masqueraded.Name)})
				break
			}
		}
		open[t.Masquerade] = append(open[t.Masquerade], t)
	}
}

// shared returns the first service that both lists have, at least in part.
func shared(a, b []policy.Service) (policy.Service, bool) {
	for _, s := range a {
		for _, o := range b {
			if first, last := max(s.First, o.First), min(s.Last, o.Last); s.Protocol == o.Protocol && first <= last {
				return policy.Service{Protocol: s.Protocol, First: first, Last: last}, true
			}
		}
	}
	return policy.Service{}, false
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
			d.warn(v, "policy_service_risky", view.Args{"service": s.String(), "name": risky.name})
		}
	}
}

// warnWholeDays finds adjacent whole days: the window stays open for more than 24 hours.
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
		r.warn(v, "policy_window_always", nil)
	case adjacent:
		r.warn(v, "policy_days_long", nil)
	}
}

// warnUnreachable finds targets, listed at v, of a family in which some of the engineers have no
// tunnel address.
func (r *reader) warnUnreachable(v value, engineers []*policy.Engineer, all []*policy.Target) {
	for _, family := range []struct {
		name string
		has  func(netip.Addr) bool
	}{{"IPv4", netip.Addr.Is4}, {"IPv6", netip.Addr.Is6}} {
		var targets []string
		for _, t := range all {
			if family.has(t.Prefix.Addr()) {
				targets = append(targets, shown(t.Name))
			}
		}
		if len(targets) == 0 {
			continue
		}
		var with, without []*policy.Engineer
		for _, e := range engineers {
			switch {
			case slices.ContainsFunc(e.Addresses, family.has), r.doubtful[e]:
				with = append(with, e)
			default:
				without = append(without, e)
			}
		}
		if len(with) == 0 && len(without) > 0 {
			code := view.Code("policy_unreachable_all")
			if without[0].Plain() {
				code = "policy_unreachable_hosts"
			}
			r.warn(v, code, view.Args{"family": family.name, "targets": view.Few(targets, maxNamed)})
			continue
		}
		if len(without) > 0 && without[0].Plain() {
			continue // each host has one address
		}
		for _, e := range without {
			r.warn(v, "policy_unreachable", view.Args{"engineer": shown(e.Name), "family": family.name, "targets": view.Few(targets, maxNamed)})
		}
	}
}
