package policy

// Line is a way by which a vendor's packets come: an interface of the gateway, such as the VLAN of a
// leased line.
type Line struct {
	Name      string // a-z, 0-9, hyphen; up to 63
	Interface string // 1 to 15 bytes; no other line has it, nor the tunnel
	Kind      LineKind
	Provider  string // for people; may be empty
	Plain     bool   // its vendors use no WireGuard, so no person is identified
}

// LineKind is what a line is.
type LineKind string

// The kinds of lines.
const (
	Leased   LineKind = "leased"   // a line that nobody else uses
	IPVPN    LineKind = "ip-vpn"   // a provider's closed network
	Virtual  LineKind = "virtual"  // a tunnel or VLAN that another device of the site ends
	Internet LineKind = "internet" // the interface that leads to the Internet
)

// LineKinds lists all kinds.
func LineKinds() []LineKind { return []LineKind{Leased, IPVPN, Virtual, Internet} }

// UnknownIngress stands for the interface of a packet if that cannot be told. No line has it.
const UnknownIngress = "/"

// Takes reports whether packets that came by an interface came by the line. Without a line every
// interface will do.
func (l *Line) Takes(ingress string) bool { return l == nil || l.Interface == ingress }

// ingress is the interface by which packets have to come; empty: any.
func (l *Line) ingress() string {
	if l == nil {
		return ""
	}
	return l.Interface
}

// LineNamed finds a line by its name, or returns nil.
func (p *Policy) LineNamed(name string) *Line {
	for _, l := range p.Lines {
		if l.Name == name {
			return l
		}
	}
	return nil
}

// line is the name of the vendor's line; empty: it has none.
func (v *Vendor) line() string {
	if v.Line == nil {
		return ""
	}
	return v.Line.Name
}

// HasLines reports whether Listed asks for the interface.
func (p *Plan) HasLines() bool { return p.listed.lined }
