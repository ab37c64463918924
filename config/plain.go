package config

import (
	"net/netip"
	"slices"
	"strings"

	"kidoban/gateway/policy"
)

// maxHosts bounds the hosts of a vendor on a plain line: a wide prefix would let in every machine in
// it. It is 2 to the power of hostBits.
const maxHosts, hostBits = 32, 5

// plainLine reads whether a line, with the fields f, is used without WireGuard.
func (r *reader) plainLine(l *policy.Line, f map[string]value) {
	at := f["plain"]
	before := r.told()
	l.Plain = r.boolean(at)
	if r.strange || at.present() && !at.readable() || r.told() > before {
		r.maybePlain[l] = true
	}
	if l.Plain && l.Kind == policy.Internet {
		r.errorf(at, "nobody may come over the Internet without WireGuard: allowed is false for the kind internet")
	}
	if l.Plain && r.host.ForwardOthers {
		r.errorf(at, "KIDOBAN_FORWARD_OTHERS is true, so that this machine would forward past the gate what comes by this line: allowed is one of both")
	}
}

// hosts makes the hosts of a vendor on a plain line. A source with a mistake makes none.
func (r *reader) hosts(v *policy.Vendor, sources []source) {
	for _, s := range sources {
		free := s.prefix.Addr().BitLen() - s.prefix.Bits()
		if free > hostBits || len(v.Engineers)+1<<free > maxHosts {
			r.errorf(s.value, "%v makes more than %d hosts on the plain line %s: allowed are %d; list single addresses", policy.Short(s.prefix), maxHosts, shown(v.Line.Name), maxHosts)
			continue
		}
		var hosts []*policy.Engineer
		for a := s.prefix.Addr(); s.prefix.Contains(a); a = a.Next() {
			hosts = append(hosts, policy.HostOf(v, a))
		}
		if !slices.ContainsFunc(hosts, func(h *policy.Engineer) bool { return r.elsewhere(s.value, h) }) {
			v.Engineers = append(v.Engineers, r.newHosts(hosts)...)
		}
	}
	slices.SortFunc(v.Engineers, func(a, b *policy.Engineer) int { return strings.Compare(a.Name, b.Name) })
}

// newHosts notes hosts and returns the new ones: the sources of a vendor may overlap.
func (r *reader) newHosts(hosts []*policy.Engineer) (fresh []*policy.Engineer) {
	for _, h := range hosts {
		if a := h.Addresses[0]; r.addresses[a] == nil {
			r.addresses[a] = h
			fresh = append(fresh, h)
		}
	}
	return fresh
}

// elsewhere tells the mistake if the address of a host belongs to the gateway, a target or another vendor.
func (r *reader) elsewhere(at value, h *policy.Engineer) bool {
	a := h.Addresses[0]
	target, other := r.targetAt(a), r.addresses[a]
	switch {
	case slices.ContainsFunc(r.host.Addresses, func(own netip.Addr) bool { return own.Unmap().WithZone("") == a }):
		r.errorf(at, "%v is the gateway's own address: allowed on a plain line are hosts of the vendor", a)
	case target != nil:
		r.errorf(at, "%v is in the target %s: allowed on a plain line are hosts of the vendor", a, shown(target.Name))
	case other != nil && other.Vendor != h.Vendor:
		r.errorf(at, "%v is a host of the vendor %s already: allowed is one vendor for each address", a, shown(other.Vendor.Name))
	default:
		return false
	}
	return true
}

// targetAt finds a target that contains an address, or nil.
func (r *reader) targetAt(a netip.Addr) *policy.Target {
	if r.targetOf == nil {
		r.targetOf = &policy.TargetTable{}
		for _, t := range r.placed {
			r.targetOf.Add(t.Target)
		}
	}
	return r.targetOf.At(a)
}

// plainVendor reads the rest of a vendor on a plain line. known: all of its sources could be read.
func (r *reader) plainVendor(v *policy.Vendor, sources []source, known bool, e entry, f map[string]value) {
	for _, name := range []string{"engineers", "on_request"} {
		if at := f[name]; at.readable() {
			r.errorf(at.named(), "nobody is identified on the plain line %s: allowed are sources and windows", shown(v.Line.Name))
		}
	}
	before := r.told()
	r.hosts(v, sources)
	for _, h := range v.Engineers {
		r.doubtful[h] = !known || r.told() > before
	}
	var targets [][]*policy.Target
	v.Windows, _ = named(&r.decoder, f["windows"], func(e entry) *policy.Window {
		w := r.window(v, nil, e)
		targets = append(targets, w.Targets)
		return w
	})
	if r.reach > maxReach {
		return // it has been reported
	}
	for _, is4 := range []bool{true, false} { // the hosts of a family are alike
		i := slices.IndexFunc(v.Engineers, func(h *policy.Engineer) bool { return h.Addresses[0].Is4() == is4 })
		if i < 0 {
			continue
		}
		if total := reached(v.Engineers[i], targets); total > maxElements {
			r.errorf(e.named(), "windows open %s for each host (target addresses x ports): allowed is %d; list fewer targets, addresses or ports", counted(total), maxElements)
			return
		}
	}
}
