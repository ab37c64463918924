package policy

import (
	"net/netip"
	"slices"
)

// Within gives the plan to enforce behind the tunnel, where an engineer is known by a tunnel address
// and not by the address outside. sessions has the addresses from which engineers are inside. If
// the grants of an engineer differ in their sources, as with a request's one-time source, those
// that do not list the session's address keep their sources and have no targets.
func (p *Plan) Within(sessions map[Key]netip.Addr) *Plan {
	if !slices.ContainsFunc(p.access, func(a access) bool { return sourcesDiffer(a.grants) }) {
		return p
	}
	return p.Replace(func(to, grants []*Grant) []*Grant {
		if !sourcesDiffer(grants) {
			return append(to, grants...)
		}
		from := sessions[grants[0].Engineer.Key] // none: in no prefix
		for _, g := range grants {
			if !g.Engineer.MayComeFrom(from) {
				copied, w := *g, *g.Window
				w.Targets, copied.Window = nil, &w
				g = &copied
			}
			to = append(to, g)
		}
		return to
	})
}

// SourcesDiffer reports whether the grants of an engineer differ in their sources.
func (p *Plan) SourcesDiffer(e *Engineer) bool { return sourcesDiffer(p.GrantsOf(e)) }

func sourcesDiffer(grants []*Grant) bool {
	return slices.ContainsFunc(grants, func(g *Grant) bool { return !slices.Equal(g.Engineer.Sources, grants[0].Engineer.Sources) })
}
