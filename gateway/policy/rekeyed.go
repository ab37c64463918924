package policy

// Rekeyed gives the policy with other keys for its engineers: of each engineer the public key and the preshared key that
// a function returns, zero for none. Hosts behind plain lines have no keys and stay. All else is the same: vendors,
// sources, lines, targets and windows, and the Digest, which names the policy from which it was made.
func (p *Policy) Rekeyed(keys func(*Engineer) (public Key, preshared [32]byte)) *Policy {
	r := *p
	engineers, vendors := map[*Engineer]*Engineer{}, map[*Vendor]*Vendor{}
	r.Vendors = make([]*Vendor, len(p.Vendors))
	for i, v := range p.Vendors {
		c := *v
		r.Vendors[i], vendors[v] = &c, &c
		c.Engineers = make([]*Engineer, len(v.Engineers))
		for j, e := range v.Engineers {
			own := *e
			own.Vendor = &c
			if !e.Plain() {
				own.Key, own.PresharedKey = keys(e)
			}
			c.Engineers[j], engineers[e] = &own, &own
		}
	}
	others := func(all []*Engineer) []*Engineer {
		list := make([]*Engineer, len(all))
		for i, e := range all {
			list[i] = engineers[e]
		}
		return list
	}
	for _, v := range r.Vendors {
		if v.Under != nil {
			v.Under = vendors[v.Under]
		}
		if v.OnRequest != nil {
			on := *v.OnRequest
			on.Engineers = others(on.Engineers)
			v.OnRequest = &on
		}
		windows := make([]*Window, len(v.Windows))
		for i, w := range v.Windows {
			c := *w
			c.Vendor, c.Engineers = v, others(w.Engineers)
			windows[i] = &c
		}
		v.Windows = windows
	}
	return &r
}
