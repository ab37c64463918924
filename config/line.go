package config

import (
	"slices"

	"kidoban/gateway/policy"
)

// lines reads the lines by which vendors come.
func (r *reader) lines(v value, strange bool) {
	interfaces := map[string]*policy.Line{}
	if r.policy.Lines, r.byLine = named(&r.decoder, v, func(e entry) *policy.Line { return r.line(e, interfaces) }); !v.present() && !strange {
		r.byLine = map[string]*policy.Line{}
	}
}

// line reads one line. interfaces are those of the lines before it.
func (r *reader) line(e entry, interfaces map[string]*policy.Line) *policy.Line {
	l := &policy.Line{Name: e.name}
	f := r.mapping(e.value, "interface", "kind", "provider?", "plain?")
	l.Provider = r.display(f["provider"])
	var kinds []string
	for _, k := range policy.LineKinds() {
		kinds = append(kinds, string(k))
	}
	l.Kind = policy.LineKind(r.oneWord(f["kind"], kinds...))
	r.plainLine(l, f)
	name, ok := read(&r.decoder, f["interface"], func(text string) (string, error) { return text, checkInterface(text) })
	if !ok {
		return l
	}
	other, twice := interfaces[name]
	switch {
	case name == r.host.Interface:
		r.errorf(f["interface"], "%s is the tunnel's own interface (KIDOBAN_INTERFACE): allowed is the one by which the vendor's packets come to the gateway", quote(name))
	case twice:
		r.errorf(f["interface"], "%s is the interface of the line %s already: each line has an interface of its own", quote(name), shown(other.Name))
	case l.Plain && slices.Contains(r.host.Inside, name):
		r.errorf(f["interface"], "%s leads to targets (KIDOBAN_INSIDE_INTERFACES): allowed for a plain line is an interface by which only vendors come", quote(name))
	default:
		l.Interface, interfaces[name] = name, l
	}
	return l
}

// lineOf reads the line of a vendor.
func (r *reader) lineOf(v *policy.Vendor, at value) {
	name, ok := r.text(at)
	if !ok {
		return
	}
	l, ok := r.byLine[name]
	switch {
	case ok:
		v.Line = l
	case !r.full() && mayBe(r.byLine, name):
		// It has been reported.
	default:
		r.unknown(at, name, "there is no line "+quote(name), func() []string { return namesOf(r.byLine) })
	}
}
