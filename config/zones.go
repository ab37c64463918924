package config

import (
	"net/netip"
	"strings"
	"time"

	"kidoban/gateway/policy"
)

// zones reads the parts of the site's network.
func (r *reader) zones(v value) {
	before := r.told()
	r.policy.Zones, _ = named(&r.decoder, v, r.zone)
	r.zonesRead = v.readable() && r.told() == before
	if v.present() && r.host.ForwardOthers {
		r.errorf(v.named(), "KIDOBAN_FORWARD_OTHERS is true, so that this machine would forward between zones past the gate: allowed is one of both")
	}
}

func (r *reader) zone(e entry) *policy.Zone {
	z := &policy.Zone{Name: e.name}
	f := r.mapping(e.value, "prefixes")
	for _, s := range r.sources(f["prefixes"]) {
		z.Prefixes = append(z.Prefixes, s.prefix)
	}
	return z
}

// zoneOf finds the zone of a target's prefix, at v. With zones a target lies in one.
func (r *reader) zoneOf(v value, p netip.Prefix) string {
	if !r.zonesRead {
		return ""
	}
	var in, touched, all []string
	for _, z := range r.policy.Zones {
		all = append(all, shown(z.Name))
		whole, part := false, false
		for _, prefix := range z.Prefixes {
			whole, part = whole || policy.Within(p, prefix), part || p.Overlaps(prefix)
		}
		if whole {
			in = append(in, z.Name)
		}
		if part {
			touched = append(touched, z.Name)
		}
	}
	switch {
	case len(touched) > 1:
		r.errorf(v, "%v lies in the zones %s: allowed is one", policy.Short(p), strings.Join(touched, " and "))
	case len(in) == 0:
		r.errorf(v, "%v lies in no zone: allowed is an address within one prefix of a zone, here %s", policy.Short(p), oneOf(all))
	default:
		return in[0]
	}
	return ""
}

// oneZone reports a window whose targets, listed at v, lie in several zones.
func (r *reader) oneZone(v value, w *policy.Window) {
	if zones := w.Zones(); len(zones) > 1 {
		r.errorf(v, "the targets lie in the zones %s, which one machine would join: allowed are targets of one zone; make a window for each, at different times", strings.Join(zones, " and "))
	}
}

// checkBridges reports windows of one engineer that are open at once in different zones. It needs a policy
// without mistakes: else it is not known when they open.
func (r *reader) checkBridges() {
	if r.told() > 0 || r.host.past {
		return
	}
	for _, b := range r.policy.Bridges(r.now) {
		r.errorf(r.windowAt[b.Then], "from %s on an engineer has this window and %s, in the zones %s, which one machine would join: allowed are times that do not overlap, or different engineers",
			b.At.In(r.policy.Zone).Format(time.RFC3339), b.First, strings.Join(b.Zones(), " and "))
	}
}
