package evidence

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// allowed are the names of the targets that the grants of a session list.
func (r *Record) allowed(s *Session) (names []string) {
	for _, o := range r.openingsOf(s) {
		names = append(names, o.Targets...)
	}
	return names
}

// targetOf is the name of a used target. Several targets may list a destination: the first of those
// allowed counts, then the one that the entry names, then any of the policy then in force; empty: none
// does.
func (r *Record) targetOf(s *Session, allowed []string, u journal.Use) string {
	if u.Others > 0 || u.Target != "" && slices.Contains(allowed, u.Target) {
		return u.Target
	}
	p := r.At(s.OpenedAt)
	to, protocol, ok := destination(u)
	if p == nil || !ok {
		return u.Target
	}
	for _, t := range p.Targets {
		if slices.Contains(allowed, t.Name) && t.Allows(to, protocol) {
			return t.Name
		}
	}
	return cmp.Or(u.Target, p.TargetOf(u.Address, u.Service))
}

// named is targetOf, or the address and service where no policy has a name.
func (r *Record) named(s *Session, allowed []string, u journal.Use) string {
	return cmp.Or(r.targetOf(s, allowed, u), strings.TrimSpace(u.Address+" "+u.Service))
}

// destination is where a use went.
func destination(u journal.Use) (to netip.AddrPort, protocol uint8, ok bool) {
	a, err := netip.ParseAddr(u.Address)
	if err != nil {
		return to, 0, false
	}
	name, number, _ := strings.Cut(u.Service, "/")
	port, err := strconv.ParseUint(number, 10, 16)
	switch {
	case name == "icmp" && a.Is4():
		return netip.AddrPortFrom(a, 0), policy.ICMP, true
	case name == "icmp":
		return netip.AddrPortFrom(a, 0), policy.ICMPv6, true
	case name == "tcp":
		protocol = policy.TCP
	case name == "udp":
		protocol = policy.UDP
	}
	return netip.AddrPortFrom(a, uint16(port)), protocol, err == nil && protocol != 0
}
