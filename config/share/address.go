package share

import (
	"cmp"
	"errors"
	"math/big"
	"net/netip"
	"slices"
)

// Where mapped addresses lie: ranges of documents (RFC 5737, RFC 3849, RFC 9637), and of benchmarks (RFC 2544)
// where those are too small.
var (
	documents4 = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24")}
	documents6 = []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}
	larger4    = []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15")}
	larger6    = []netip.Prefix{netip.MustParsePrefix("3fff::/20")}
)

// block is a prefix of the policy with those within it.
type block struct {
	was, is netip.Prefix
	tunnel  bool // its first and last address name the network
	within  []*block
	bits    int // of the mapped prefix
}

// addresses maps prefixes so that one lies in another exactly if it did before. Widths stay, but for
// prefixes around others where there is no room.
type addresses struct {
	blocks map[netip.Prefix]*block
	Larger bool // the ranges of documents were too small
	Shrunk bool // and prefixes around others became narrower
}

// ErrTooWide says that a policy has more addresses than can be mapped.
var ErrTooWide = errors.New("the addresses of the policy are more than fit into the ranges of documents and benchmarks")

// mapAddresses maps prefixes; those of the tunnel are among them.
func mapAddresses(all, tunnels []netip.Prefix) (*addresses, error) {
	m := &addresses{blocks: map[netip.Prefix]*block{}}
	for _, p := range all {
		m.blocks[p] = &block{was: p, tunnel: slices.Contains(tunnels, p)}
	}
	for _, four := range []bool{true, false} {
		if err := m.family(four); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *addresses) family(four bool) error {
	root := &block{}
	var sorted []*block
	for p, b := range m.blocks {
		if p.Addr().Is4() == four {
			sorted = append(sorted, b)
		}
	}
	slices.SortFunc(sorted, func(a, b *block) int {
		return cmp.Or(a.was.Addr().Compare(b.was.Addr()), cmp.Compare(a.was.Bits(), b.was.Bits()))
	})
	var open []*block
	for _, b := range sorted {
		for len(open) > 0 && !open[len(open)-1].was.Overlaps(b.was) {
			open = open[:len(open)-1]
		}
		around := root
		if len(open) > 0 {
			around = open[len(open)-1]
		}
		around.within = append(around.within, b)
		open = append(open, b)
	}
	ranges, larger := documents4, larger4
	if !four {
		ranges, larger = documents6, larger6
	}
	for _, try := range []struct {
		in     []netip.Prefix
		shrink bool
	}{{ranges, false}, {larger, false}, {larger, true}} {
		for _, b := range root.within {
			b.size(try.shrink)
		}
		if m.place(root.within, try.in, sorted) {
			m.Larger = m.Larger || &try.in[0] == &larger[0]
			m.Shrunk = m.Shrunk || try.shrink
			return nil
		}
	}
	return ErrTooWide
}

// size works out how wide the mapped prefix is.
func (b *block) size(shrink bool) {
	b.bits = b.was.Bits()
	need := new(big.Int)
	for _, in := range b.within {
		in.size(shrink)
		need.Add(need, new(big.Int).Lsh(big.NewInt(1), uint(b.was.Addr().BitLen()-in.bits)))
	}
	if shrink && !b.tunnel && len(b.within) > 0 {
		// One more, so that it stays wider than what lies in it.
		b.bits = max(b.bits, b.was.Addr().BitLen()-need.BitLen())
	}
}

// place finds room in ranges for blocks, the widest first, and then for those within them. It leaves out what
// the policy itself has.
func (m *addresses) place(blocks []*block, ranges []netip.Prefix, taken []*block) bool {
	blocks = slices.Clone(blocks)
	slices.SortStableFunc(blocks, func(a, b *block) int { return cmp.Compare(a.bits, b.bits) })
	at, next := 0, ranges[0].Addr()
	for _, b := range blocks {
		for {
			if at == len(ranges) {
				return false
			}
			p, err := next.Prefix(b.bits)
			switch {
			case err != nil || b.bits < ranges[at].Bits() || !next.IsValid() || !ranges[at].Contains(next):
				if at++; at < len(ranges) {
					next = ranges[at].Addr()
				}
				continue
			case p.Addr() != next: // aligned further on
				next = after(p)
				continue
			}
			next = after(p)
			if !slices.ContainsFunc(taken, func(t *block) bool { return t.was.Overlaps(p) }) {
				b.is = p
				break
			}
		}
		inner := b.is
		if b.tunnel {
			if !m.placeInside(b) {
				return false
			}
		} else if len(b.within) > 0 && !m.place(b.within, []netip.Prefix{inner}, nil) {
			return false
		}
	}
	return true
}

// placeInside gives the addresses within the tunnel, without its first and last one.
func (m *addresses) placeInside(b *block) bool {
	next := b.is.Addr().Next()
	for _, in := range b.within {
		if !in.was.IsSingleIP() || !b.is.Contains(next) {
			return false
		}
		in.is = netip.PrefixFrom(next, next.BitLen())
		next = next.Next()
	}
	return true
}

// after is the first address behind a prefix; the zero Addr if there is none.
func after(p netip.Prefix) netip.Addr {
	raw := p.Addr().AsSlice()
	n := new(big.Int).SetBytes(raw)
	n.Add(n, new(big.Int).Lsh(big.NewInt(1), uint(p.Addr().BitLen()-p.Bits())))
	if n.BitLen() > p.Addr().BitLen() {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(n.FillBytes(raw))
	return a
}

// of is the mapped prefix.
func (m *addresses) of(p netip.Prefix) netip.Prefix { return m.blocks[p].is }
