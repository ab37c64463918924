package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

func (r *reader) vendor(e entry) *policy.Vendor {
	v := &policy.Vendor{Name: e.name}
	if policy.Scope(e.name) == policy.All {
		r.errorf(e.named(), "the name %s is taken: it stands for every vendor when an operator closes the gate", quote(e.name))
	}
	f := r.mapping(e.value, "name?", "phone?", "under?", "consent?", "contract?", "sources", "line?", "engineers?", "windows?", "on_request?")
	strange := r.strange
	v.DisplayName = r.display(f["name"])
	v.Phone = r.shortText(f["phone"], maxPhone)
	r.subcontractor(v, f, r.contract(v, f["contract"]))
	r.lineOf(v, f["line"])
	lineKnown := v.Line != nil && !r.maybePlain[v.Line] || !f["line"].present() // else it may be plain
	before := r.told()
	sources := r.outside(r.sources(f["sources"]))
	for _, s := range sources {
		v.Sources = append(v.Sources, s.prefix)
		if lineKnown {
			r.warnSource(v, s)
		}
	}
	all := r.told() == before && f["sources"].readable() // the vendor's sources are known
	if !f["windows"].present() && !f["on_request"].present() && !strange {
		r.warn(e.named(), "policy_vendor_closed", nil)
	}
	if v.Plain() {
		r.plainVendor(v, sources, all, e, f)
		return v
	}
	for _, s := range sources {
		if lineKnown {
			r.listed = append(r.listed, vendorSource{s, v})
		}
	}
	if at := f["engineers"]; f != nil && lineKnown && (!at.present() || at.node == misspelled) {
		r.errorf(e.named(), "the field %s is missing", "engineers")
	}
	var entries []entry
	var engineers map[string]*policy.Engineer
	v.Engineers, engineers = named(&r.decoder, f["engineers"], func(e entry) *policy.Engineer {
		entries = append(entries, e)
		return r.engineer(v, e, all)
	})
	v.Windows, _ = named(&r.decoder, f["windows"], func(e entry) *policy.Window { return r.window(v, engineers, e) })
	v.OnRequest = r.onRequest(v, engineers, f["on_request"])
	if r.reach > maxReach {
		return v // it has been reported
	}
	targets := map[*policy.Engineer][][]*policy.Target{}
	for _, w := range v.Windows {
		for _, g := range w.Engineers {
			targets[g] = append(targets[g], w.Targets)
		}
	}
	if o := v.OnRequest; o != nil {
		for _, g := range o.Engineers {
			targets[g] = append(targets[g], o.Targets)
		}
	}
	for _, e := range entries {
		r.checkElements(e, engineers[e.name], targets[engineers[e.name]])
	}
	return v
}

// maxPhone bounds the characters of a vendor's telephone number.
const maxPhone = 40

func (r *reader) engineer(v *policy.Vendor, e entry, allSources bool) *policy.Engineer {
	g := &policy.Engineer{Vendor: v, Name: e.name, Sources: v.Sources, Line: v.Line}
	f := r.mapping(e.value, "name?", "public_key", "addresses", "sources?", "preshared_key_file?")
	g.DisplayName = r.display(f["name"])
	r.publicKey(g, f["public_key"])
	before := r.told()
	for _, item := range r.list(f["addresses"]) {
		if a, ok := r.engineerAddress(g, item); ok {
			g.Addresses = append(g.Addresses, a)
		}
	}
	r.doubtful[g] = r.told() > before || !f["addresses"].readable()
	if at := f["sources"]; at.present() {
		g.Sources = nil
		for _, s := range r.outside(r.sources(at)) {
			if allSources && !slices.ContainsFunc(v.Sources, func(p netip.Prefix) bool { return policy.Within(s.prefix, p) }) {
				r.warn(s.value, "policy_source_outside", view.Args{"source": policy.Short(s.prefix)})
			}
			g.Sources = append(g.Sources, s.prefix)
		}
	}
	r.presharedKey(g, f["preshared_key_file"])
	return g
}

// fullName is vendor/engineer, also for names that are not allowed.
func fullName(g *policy.Engineer) string { return shown(g.Vendor.Name) + "/" + shown(g.Name) }

func (r *reader) publicKey(g *policy.Engineer, v value) {
	key, ok := read(&r.decoder, v, func(text string) (policy.Key, error) {
		key, err := policy.ParseKey(text)
		if err != nil {
			err = fmt.Errorf("%s is no WireGuard key: allowed is what `wg pubkey` writes, 44 characters that end in =", quote(text))
		}
		return key, err
	})
	if !ok {
		return
	}
	other, twice := r.keys[key]
	switch {
	case key == policy.Key{}:
		r.errorf(v, "the key is all zeros: allowed is what `wg pubkey` writes")
	case lowOrder(key):
		r.errorf(v, "%s is a point of low order, which anybody can use: allowed is what `wg pubkey` writes", key)
	case !canonical(key):
		r.errorf(v, "%s is no number below 2^255-19: allowed is what `wg pubkey` writes", key)
	case r.host.Key != nil && key == *r.host.Key:
		r.errorf(v, "%s is the gateway's own key: each engineer has a key of their own", key)
	case twice:
		r.errorf(v, "%s is the key of %v already: each engineer has a key of their own", key, fullName(other))
	default:
		g.Key = key
		r.keys[key] = g
		if slices.Contains(exampleKeys, key.String()) {
			r.warn(v, "policy_key_example", nil)
		}
	}
}

// lowOrderPoints are the points of Curve25519 and its twist of an order that divides 8, as
// u-coordinates below 2^255, with the two unreduced ones (https://cr.yp.to/ecdh.html#validate).
// Every shared secret with them is zero.
var lowOrderPoints = map[string]bool{
	"0000000000000000000000000000000000000000000000000000000000000000": true, // 0
	"0100000000000000000000000000000000000000000000000000000000000000": true, // 1
	"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800": true, // order 8
	"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157": true, // order 8
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f": true, // p-1
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f": true, // p
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f": true, // p+1
}

// lowOrder reports a point of low order. The highest bit is ignored (RFC 7748, section 5).
func lowOrder(key policy.Key) bool {
	key[31] &= 127
	return lowOrderPoints[hex.EncodeToString(key[:])]
}

// canonical reports whether the number is below p = 2^255-19. Otherwise one key could pass for two.
func canonical(key policy.Key) bool {
	if key[31] != 0x7f {
		return key[31] < 0x7f
	}
	for _, b := range key[1:31] {
		if b != 0xff {
			return true
		}
	}
	return key[0] < 0xed
}

func (r *reader) engineerAddress(g *policy.Engineer, v value) (netip.Addr, bool) {
	a, ok := read(&r.decoder, v, parseAddress)
	if !ok {
		return a, false
	}
	if own := r.policy.Tunnel.Addresses; len(own) > 0 {
		i := slices.IndexFunc(own, func(p netip.Prefix) bool { return p.Contains(a) })
		switch {
		case i < 0 && r.tunnelGaps:
			// It may be in the unreadable part.
		case i < 0:
			r.errorf(v, "%v lies outside the tunnel: allowed is an address in %s", a, joined(own))
			return a, false
		case own[i].Addr() == a:
			r.errorf(v, "%v is the gateway's own address in the tunnel", a)
			return a, false
		case isEdge(own[i], a):
			r.errorf(v, "%v is the first or last address of %v, which names the network", a, own[i].Masked())
			return a, false
		}
	}
	if other, twice := r.addresses[a]; twice {
		r.errorf(v, "%v is the address of %v already", a, fullName(other))
		return a, false
	}
	r.addresses[a] = g
	return a, true
}

func joined(own []netip.Prefix) string {
	words := make([]string, len(own))
	for i, p := range own {
		words[i] = p.Masked().String()
	}
	return oneOf(words)
}

func (r *reader) presharedKey(g *policy.Engineer, v value) {
	text, ok := r.visible(v)
	if !ok {
		return
	}
	if r.host.Sealed {
		g.PresharedKey = sha256.Sum256([]byte(text))
		return
	}
	path := text
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.dir, path)
	}
	if r.host.Opens != nil {
		r.host.Opens(path)
	}
	key, err := readKeyFile(r.host.Guard, path, 0o640)
	switch {
	case err != nil:
		if e := r.errorf(v, "%s %v", quote(text), err); e != nil {
			e.cause = err
		}
	case key == [32]byte{}:
		r.errorf(v, "%s is all zeros, which means no key: allowed is what `wg genpsk` writes", quote(text))
	default:
		g.PresharedKey = key
		r.digestPart(g.String())
		r.digestPart(string(key[:]))
	}
}

// checkElements bounds the elements of an engineer, whose windows and requests have these targets.
// Targets that are too large have been reported.
func (r *reader) checkElements(e entry, g *policy.Engineer, targets [][]*policy.Target) {
	if total := reached(g, targets); total > maxElements {
		r.errorf(e.named(), "windows and on_request open %s for this engineer (tunnel addresses x target addresses x ports): allowed is %d; list fewer targets, addresses or ports", counted(total), maxElements)
	}
}

// reached counts the elements of an engineer, or of a host, with these targets.
func reached(g *policy.Engineer, targets [][]*policy.Target) (total int) {
	seen := map[*policy.Target]bool{}
	for _, some := range targets {
		for _, t := range some {
			n := elements(t)
			if seen[t] || n > maxElements {
				continue
			}
			seen[t] = true
			for _, a := range g.Addresses {
				if a.Is4() == t.Prefix.Addr().Is4() {
					total += n
				}
			}
		}
	}
	return total
}
