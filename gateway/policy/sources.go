package policy

import (
	"net/netip"
	"slices"
	"time"
)

// sourceTable finds the spans in which a source is listed. It looks an address up once per prefix
// length in use, so a flood of unlisted packets costs a few map lookups each.
type sourceTable struct {
	lengths []netip.Prefix // one per (family, length) in use; only its family and Bits matter
	spans   map[netip.Prefix][]Span
}

func newSourceTable(grants []*Grant) sourceTable {
	t := sourceTable{spans: map[netip.Prefix][]Span{}}
	// Most engineers share the list of their vendor, and many grants a span.
	type seen struct {
		first       *netip.Prefix
		length      int
		from, until int64
		fraction    int
	}
	done := map[seen]bool{}
	for _, g := range grants {
		sources := g.Engineer.Sources
		if len(sources) == 0 {
			continue
		}
		key := seen{&sources[0], len(sources), g.From.Unix(), g.Until.Unix(), g.Until.Nanosecond()}
		if done[key] {
			continue
		}
		done[key] = true
		for _, s := range sources {
			t.add(s.Masked(), g.Span)
		}
	}
	return t
}

func (t *sourceTable) add(p netip.Prefix, s Span) {
	old, ok := t.spans[p]
	if slices.ContainsFunc(old, func(have Span) bool { return have.From.Equal(s.From) && have.Until.Equal(s.Until) }) {
		return
	}
	t.spans[p] = append(old, s)
	same := func(l netip.Prefix) bool { return l.Bits() == p.Bits() && l.Addr().Is4() == p.Addr().Is4() }
	if !ok && !slices.ContainsFunc(t.lengths, same) {
		t.lengths = append(t.lengths, p)
	}
}

// open reports whether a span that lists the source contains now.
func (t *sourceTable) open(source netip.Addr, now time.Time) bool {
	for _, l := range t.lengths {
		if l.Addr().Is4() != source.Is4() {
			continue
		}
		p, err := source.Prefix(l.Bits())
		if err != nil {
			continue
		}
		for _, s := range t.spans[p] {
			if s.Contains(now) {
				return true
			}
		}
	}
	return false
}
