package policy

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Key is a Curve25519 public key, the identity of one engineer (RFC 7748).
type Key [32]byte

// ParseKey reads the base64 text that `wg pubkey` writes, 44 characters.
func ParseKey(text string) (Key, error) {
	var key Key
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != len(key) {
		return Key{}, fmt.Errorf("%q is not a WireGuard key: allowed is the base64 of 32 bytes, 44 characters", text)
	}
	copy(key[:], raw)
	return key, nil
}

// String is the base64 text of the key.
func (k Key) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// MarshalText is String.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText is ParseKey.
func (k *Key) UnmarshalText(text []byte) (err error) {
	*k, err = ParseKey(string(text))
	return err
}

// Policy is one policy file, checked and resolved. It is immutable.
type Policy struct {
	Site      string         // the organisation behind the gateway, for people
	Contact   string         // the telephone for engineers who do not get in; empty: the site
	Zone      *time.Location // every local date and time of the policy is in this zone
	Tunnel    Tunnel
	Calendars []*Calendar  // sorted by name
	Zones     []*Zone      // sorted by name; empty: targets lie in no zones
	Targets   []*Target    // sorted by name
	Lines     []*Line      // sorted by name
	Vendors   []*Vendor    // sorted by name
	Operators []*Operator  // sorted by name; empty: nothing can be requested
	ReopenAll int          // how many operators it takes to reopen everything; 0 or 1: whoever reopens
	Sinks     []*Sink      // where notices go, sorted by name
	Review    *ReviewRules // how sessions are reviewed; nil: nobody is reminded
	Retention Retention    // for how long the journal keeps its entries

	Reporting []Recipient // who is told of incidents, in the file's order

	Inspection Inspection // which tier of the catalogue the site inspects itself by

	Digest string // hex SHA-256 over the text and the preshared keys; names this policy in journal, status and metrics
	Text   string // the file as it was read; preshared keys are not part of it
}

// Tunnel is the gateway's own end of the tunnel.
type Tunnel struct {
	Addresses []netip.Prefix // the gateway's own address and the prefix in which engineers' addresses lie; at most one a family
	Endpoint  string         // host:port that client configurations name
}

// Protocols that a service may name (IANA protocol numbers).
const (
	ICMP   uint8 = 1
	TCP    uint8 = 6
	UDP    uint8 = 17
	ICMPv6 uint8 = 58
)

// Service is a protocol and a range of ports. ICMP and ICMPv6 have no ports; they stand for echo
// requests and for the errors that belong to listed flows.
type Service struct {
	Protocol    uint8
	First, Last uint16 // inclusive
}

// String is the notation of the policy file: "tcp/22", "tcp/5900-5910", "icmp".
func (s Service) String() string {
	name := ProtocolName(s.Protocol)
	switch {
	case s.Protocol == ICMP || s.Protocol == ICMPv6:
		return name
	case s.First == s.Last:
		return fmt.Sprintf("%s/%d", name, s.First)
	default:
		return fmt.Sprintf("%s/%d-%d", name, s.First, s.Last)
	}
}

// ProtocolName is "tcp", "udp" or "icmp" (for both families), or the number of another protocol.
func ProtocolName(protocol uint8) string {
	switch protocol {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case ICMP, ICMPv6:
		return "icmp"
	}
	return fmt.Sprint(protocol)
}

// Allows reports whether the service covers the protocol and port. ICMP has no port.
func (s Service) Allows(protocol uint8, port uint16) bool {
	if s.Protocol != protocol {
		return false
	}
	return protocol == ICMP || protocol == ICMPv6 || s.First <= port && port <= s.Last
}

// Target is a named host or prefix at the site with its services.
type Target struct {
	Name       string
	Prefix     netip.Prefix // a single host has all bits
	Services   []Service    // ICMP for an IPv4 prefix, ICMPv6 for an IPv6 prefix
	Role       string       // a word that says what it is, as ehr; may be empty
	Zone       string       // the zone in which it lies; empty: the policy has no zones
	Masquerade bool         // rewrite the tunnel's source address, so that the target needs no route to the tunnel
}

// Allows reports whether the target lists this destination.
func (t *Target) Allows(to netip.AddrPort, protocol uint8) bool {
	return t.Prefix.Contains(to.Addr()) && slices.ContainsFunc(t.Services, func(s Service) bool { return s.Allows(protocol, to.Port()) })
}

// Short writes a prefix of one address as that address.
func Short(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// Within reports whether all of inner lies in outer.
func Within(inner, outer netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// Vendor is a company that maintains something at the site.
type Vendor struct {
	Name          string // a-z, 0-9, hyphen; up to 63
	DisplayName   string // for people; may be empty
	ContractUntil Date   // the last local date of the contract, inclusive; zero: none is named
	Sources       []netip.Prefix
	Line          *Line       // by which the sources come; nil: by any interface
	Engineers     []*Engineer // sorted by name
	Windows       []*Window   // sorted by name
	Phone         string      // to call the vendor back; may be empty
	OnRequest     *OnRequest  // nil: nothing of this vendor can be requested
	Under         *Vendor     // its prime; nil: it works for the site itself. Never leads back to this vendor
	Consent       *Consent    // the site's, to a vendor under another; nil: it is under none
	Certificates  []Certificate
}

// Engineer is one person of a vendor: one WireGuard key, own tunnel addresses.
type Engineer struct {
	Vendor       *Vendor
	Name         string
	DisplayName  string
	Key          Key
	PresharedKey [32]byte       // zero: none (as WireGuard has it)
	Addresses    []netip.Addr   // inside the tunnel
	Sources      []netip.Prefix // the engineer's own if the policy has them, else the vendor's
	Line         *Line          // the vendor's
}

// String is the name operators use: vendor/engineer.
func (e *Engineer) String() string { return e.Vendor.Name + "/" + e.Name }

// SamePeer reports whether two engineers, perhaps of two policies, are the same person and the same
// WireGuard peer. It is false for nil.
func SamePeer(a, b *Engineer) bool {
	return a != nil && b != nil && a.Key == b.Key && a.String() == b.String() &&
		a.PresharedKey == b.PresharedKey && slices.Equal(a.Addresses, b.Addresses)
}

// MayComeFrom reports whether the address is one of the engineer's sources. It must be unmapped.
func (e *Engineer) MayComeFrom(source netip.Addr) bool {
	return slices.ContainsFunc(e.Sources, func(p netip.Prefix) bool { return p.Contains(source) })
}

// enters reports whether the engineer may come from the source of a query, by its interface.
func (e *Engineer) enters(q *Query) bool {
	return (!q.Source.IsValid() || e.MayComeFrom(q.Source)) && (q.Ingress == "" || e.Line.Takes(q.Ingress))
}

// Reaches reports whether the engineer has a tunnel address of the destination's family.
func (e *Engineer) Reaches(to netip.Addr) bool {
	return slices.ContainsFunc(e.Addresses, func(a netip.Addr) bool { return a.Is4() == to.Is4() })
}

// Window is a period for which access of a vendor to some targets is approved.
type Window struct {
	Vendor     *Vendor
	Name       string
	Schedule   Schedule
	ValidFrom  Date        // inclusive; zero: no bound
	ValidUntil Date        // inclusive; zero: no bound
	Except     []*Calendar // every covered minute of these local dates is cut
	Targets    []*Target
	Engineers  []*Engineer // never empty
	ApprovedBy string
	Ticket     string
	Section    string // of the site, which owns the window; may be empty
	// Grace is how long after its end flows may go on if the window opens again by then. Meanwhile
	// no packet passes. Zero: flows end with the window.
	Grace time.Duration
}

// String is vendor/window.
func (w *Window) String() string { return w.Vendor.Name + "/" + w.Name }

// Vendor finds a vendor by its name, or returns nil.
func (p *Policy) Vendor(name string) *Vendor {
	i, ok := slices.BinarySearchFunc(p.Vendors, name, func(v *Vendor, name string) int { return strings.Compare(v.Name, name) })
	if !ok {
		return nil
	}
	return p.Vendors[i]
}

// Engineer finds an engineer by vendor/engineer, or returns nil.
func (p *Policy) Engineer(name string) *Engineer {
	vendor, short, _ := strings.Cut(name, "/")
	if v := p.Vendor(vendor); v != nil {
		for _, e := range v.Engineers {
			if e.Name == short {
				return e
			}
		}
	}
	return nil
}
