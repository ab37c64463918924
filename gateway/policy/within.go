package policy

import (
	"net/netip"
	"slices"
)

// Within gives the plan to enforce behind the tunnel, where an engineer is known by a tunnel address
// and not by the address outside. source gives the address from which an engineer is inside; it is
// invalid for nobody inside. If the grants of an engineer differ in their sources, as with a request's
// one-time source, those that do not list the address keep their sources and have no targets.
func (p *Plan) Within(source func(*Engineer) netip.Addr) *Plan {
	if !slices.ContainsFunc(p.access, func(a access) bool { return sourcesDiffer(a.grants) }) {
		return p
	}
	r := *p
	r.access, r.Grants = slices.Clone(p.access), slices.Clone(p.Grants)
	end := 0
	for i, a := range p.access {
		from := end
		if end += len(a.grants); !sourcesDiffer(a.grants) {
			continue
		}
		r.access[i].grants = r.Grants[from:end:end]
		at := source(p.index.engineers[i])
		for j, g := range a.grants {
			if !g.Engineer.MayComeFrom(at) {
				copied, w := *g, *g.Window
				w.Targets, copied.Window = nil, &w
				r.Grants[from+j] = &copied
			}
		}
	}
	return &r
}

// SourcesDiffer reports whether the grants of an engineer differ in their sources.
func (p *Plan) SourcesDiffer(e *Engineer) bool { return sourcesDiffer(p.GrantsOf(e)) }

func sourcesDiffer(grants []*Grant) bool {
	return slices.ContainsFunc(grants, func(g *Grant) bool {
		first := grants[0].Engineer
		return g.Engineer != first && !slices.Equal(g.Engineer.Sources, first.Sources)
	})
}
