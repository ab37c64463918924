package evidence

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// targetAt is the policy's name of a used service, of the targets that the session was allowed if
// one of them has it, else of any target; empty: none has it.
func (r *Record) targetAt(s *Session, u journal.Use) string {
	p := r.At(s.OpenedAt)
	to, protocol, ok := destination(u)
	if p == nil || !ok {
		return ""
	}
	var allowed []string
	for _, o := range r.openingsOf(s) {
		allowed = append(allowed, o.Targets...)
	}
	other := ""
	for _, t := range p.Targets {
		if !t.Allows(to, protocol) {
			continue
		}
		if slices.Contains(allowed, t.Name) {
			return t.Name
		}
		if other == "" {
			other = t.Name
		}
	}
	return other
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
