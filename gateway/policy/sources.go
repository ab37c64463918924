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
	spans   map[listing][]Span
	lined   bool // some are listed by a line alone
}

// listing is a source, and the interface of its line; empty: any interface.
type listing struct {
	prefix  netip.Prefix
	ingress string
}

func newSourceTable(grants []*Grant) sourceTable {
	t := sourceTable{spans: map[listing][]Span{}}
	// Most engineers share the list of their vendor, and many grants a span.
	type seen struct {
		first       *netip.Prefix
		length      int
		from, until int64
		fraction    int
		line        *Line
	}
	done := map[seen]bool{}
	for _, g := range grants {
		sources := g.Engineer.Sources
		if len(sources) == 0 || g.Engineer.Plain() {
			continue
		}
		key := seen{&sources[0], len(sources), g.From.Unix(), g.Until.Unix(), g.Until.Nanosecond(), g.Engineer.Line}
		if done[key] {
			continue
		}
		done[key] = true
		for _, s := range sources {
			t.add(s.Masked(), g.Engineer.Line, g.Span)
		}
	}
	return t
}

func (t *sourceTable) add(p netip.Prefix, by *Line, s Span) {
	at := listing{p, by.ingress()}
	t.lined = t.lined || by != nil
	old, ok := t.spans[at]
	if slices.ContainsFunc(old, func(have Span) bool { return have.From.Equal(s.From) && have.Until.Equal(s.Until) }) {
		return
	}
	t.spans[at] = append(old, s)
	same := func(l netip.Prefix) bool { return l.Bits() == p.Bits() && l.Addr().Is4() == p.Addr().Is4() }
	if !ok && !slices.ContainsFunc(t.lengths, same) {
		t.lengths = append(t.lengths, p)
	}
}

// open reports whether a span that lists the source, by this interface or by any, contains now.
func (t *sourceTable) open(source netip.Addr, ingress string, now time.Time) bool {
	contains := func(s Span) bool { return s.Contains(now) }
	for _, l := range t.lengths {
		if l.Addr().Is4() != source.Is4() {
			continue
		}
		p, err := source.Prefix(l.Bits())
		if err != nil {
			continue
		}
		if slices.ContainsFunc(t.spans[listing{prefix: p}], contains) ||
			t.lined && slices.ContainsFunc(t.spans[listing{p, ingress}], contains) {
			return true
		}
	}
	return false
}
