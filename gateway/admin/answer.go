package admin

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// Question is what `kidoban explain` asks, as it was typed.
type Question struct {
	Engineer string // vendor/engineer
	From     string // an address; empty: where the engineer last came from
	To       string // ADDR:tcp/22; empty: the tunnel only
	At       string // a time; empty: now
}

// Explanation is the answer.
type Explanation struct {
	Decision    string     `json:"decision"` // admit or refuse
	Reason      string     `json:"reason"`
	Grant       string     `json:"grant"`        // empty: refused
	Until       *time.Time `json:"until"`        // null: refused
	NextOpening *time.Time `json:"next_opening"` // null: none within 400 days, or none while something is shut or ended
	Engineer    string     `json:"engineer"`
	view.Names
	Source string    `json:"source"` // the address that was asked about; empty: none
	At     time.Time `json:"at"`
	// Details are for people: about a refusal, and what keeps out somebody who
	// is admitted. Detail is their English text, a line each.
	Detail  string         `json:"detail,omitempty"`
	Details []view.Message `json:"detail_messages,omitempty"`
}

// InputError is a question that cannot be asked.
type InputError struct{ Text string }

func (e *InputError) Error() string { return e.Text }

func invalid(format string, a ...any) error { return &InputError{fmt.Sprintf(format, a...)} }

// Explain answers a question from a snapshot, living or made from a policy
// file alone. Where no policy is in force nobody enters, so that is the answer
// about every engineer.
func Explain(s *view.Snapshot, q Question, now time.Time) (Explanation, error) {
	p := s.Plan.Policy
	zone := time.Local // of the machine, where no policy names the site's
	query := policy.Query{Proven: true, Fault: policy.Admitted}
	var e *policy.Engineer
	if p == nil {
		if err := engineerForm(q.Engineer); err != nil {
			return Explanation{}, err
		}
	} else {
		zone = p.Zone
		if e = p.Engineer(q.Engineer); e == nil {
			return Explanation{}, unknownEngineer(p, q.Engineer)
		}
		query.Key, query.Source = e.Key, s.LastAttempt(e)
	}
	at := now
	if q.At != "" {
		var err error
		if at, err = parseTime(q.At, zone); err != nil {
			return Explanation{}, err
		}
	}
	if q.From != "" {
		addr, err := netip.ParseAddr(q.From)
		if err != nil || addr.Zone() != "" {
			return Explanation{}, invalid("--from: %q is not an address: allowed is IPv4 or IPv6, as in 203.0.113.10", q.From)
		}
		query.Source = addr.Unmap()
	}
	if q.To != "" {
		var err error
		if query.To, query.Proto, err = parseDestination(q.To); err != nil {
			return Explanation{}, err
		}
		// A flow is the session's, whoever has tried the key elsewhere since.
		if e != nil && q.From == "" {
			if inside := s.SessionSource(e); inside.IsValid() {
				query.Source = inside
			}
		}
	}
	x := Explanation{Decision: "refuse", Reason: policy.NotReady.String(), Engineer: q.Engineer, Names: view.NamesOf(e), At: s.Local(at)}
	if query.Source.IsValid() {
		x.Source = query.Source.String()
	}
	if p == nil {
		x.detail(doubts(s)...)
		return x, nil
	}
	d := s.Explain(query, at, now)
	then := s.State().Plan(at) // what the policy opens then, whatever is in doubt now
	x.Reason = d.Reason.String()
	x.detail(details(s, then, e, query.To.Addr(), d.Reason, at)...)
	x.detail(s.Obstacles(query, d, at, now)...)
	if inside := s.SessionSource(e); d.Reason == policy.WrongSource && q.From == "" && inside.IsValid() && inside != query.Source {
		x.detail(view.Say(view.InsideElsewhere, view.Args{"source": inside}))
	}
	if d.Reason == policy.Admitted {
		until := s.Local(d.Until)
		x.Decision, x.Grant, x.Until = "admit", d.Grant.ID, &until
	}
	if next := then.NextOpening(e, at); !next.IsZero() {
		next = s.Local(next)
		x.NextOpening = &next
	}
	return x, nil
}

// detail adds messages.
func (x *Explanation) detail(more ...view.Message) {
	x.Details = append(x.Details, more...)
	x.Detail = strings.Join(view.Texts(x.Details), "\n")
}

func doubts(s *view.Snapshot) (all []view.Message) {
	for _, d := range s.Doubts {
		all = append(all, d.Message)
	}
	return all
}

// details are about a refusal, beyond its reason: what is known, and what to do.
func details(s *view.Snapshot, then *policy.Plan, e *policy.Engineer, to netip.Addr, reason policy.Reason, at time.Time) []view.Message {
	switch reason {
	case policy.NotReady:
		return doubts(s)
	case policy.GatewayShut, policy.VendorShut, policy.EngineerShut:
		return []view.Message{shutBy(s, e)}
	case policy.WrongSource:
		all := []view.Message{view.Say(view.SourcesListed, view.Args{"sources": listed(e.Sources)})}
		if until := then.Until(e, at); !until.IsZero() {
			all = append(all, view.Say(view.OpenUntil, view.Args{"until": s.Local(until).Format(time.RFC3339)}))
		}
		return all
	case policy.ContractEnded:
		return []view.Message{view.Say(view.ContractOver, view.Args{"day": e.Vendor.ContractUntil})}
	case policy.UnlistedTarget:
		var all []view.Message
		if !e.Reaches(to) {
			family := "IPv4"
			if to.Is6() {
				family = "IPv6"
			}
			all = append(all, view.Say(view.NoFamily, view.Args{"family": family}))
		}
		var open []string
		for _, g := range then.Grants {
			for _, t := range g.Window.Targets {
				if g.Engineer == e && g.Contains(at) && e.Reaches(t.Prefix.Addr()) && !slices.Contains(open, t.Name) {
					open = append(open, t.Name)
				}
			}
		}
		if len(open) == 0 {
			return append(all, view.Say(view.TargetsNone, nil))
		}
		return append(all, view.Say(view.TargetsOpen, view.Args{"targets": open}))
	}
	return nil
}

// shutBy says who closed an engineer, when and why, and which command reopens;
// and under which name, where the key has another one now.
func shutBy(s *view.Snapshot, e *policy.Engineer) view.Message {
	r, _ := s.Plan.ShutBy(e)
	at := s.Local(r.At).Format(time.RFC3339)
	switch r.Scope {
	case policy.All:
		return view.Say(view.ShutBy, view.Args{"actor": r.Actor, "at": at, "reason": r.Reason, "scope": "--all"})
	case policy.Scope(e.Vendor.Name), policy.Scope(e.String()):
		return view.Say(view.ShutBy, view.Args{"actor": r.Actor, "at": at, "reason": r.Reason, "scope": string(r.Scope)})
	}
	return view.Say(view.ShutAs, view.Args{"name": string(r.Scope), "actor": r.Actor, "at": at, "reason": r.Reason, "scope": string(r.Scope)})
}

// listed shows prefixes as a policy writes them, up to eight.
func listed(prefixes []netip.Prefix) any {
	const most = 8
	var all []string
	for _, p := range prefixes[:min(len(prefixes), most)] {
		if p.IsSingleIP() {
			all = append(all, p.Addr().String())
		} else {
			all = append(all, p.String())
		}
	}
	if more := len(prefixes) - most; more > 0 {
		return view.Say(view.SayNamesMore, view.Args{"names": all, "count": more})
	}
	return all
}

// nameMost is how long vendor/engineer may be: two names of up to 63 characters.
const nameMost = 63 + 1 + 63

// engineerForm refuses what cannot be an engineer of any policy.
func engineerForm(name string) error {
	vendor, engineer, ok := strings.Cut(name, "/")
	if !ok || vendor == "" || engineer == "" || len(name) > nameMost {
		return invalid("%.200q is not an engineer: allowed is vendor/engineer", name)
	}
	return Shows("the engineer", name)
}

func unknownEngineer(p *policy.Policy, name string) error {
	if err := engineerForm(name); err != nil {
		return err
	}
	vendor, _, _ := strings.Cut(name, "/")
	v := p.Vendor(vendor)
	if v == nil {
		var names []string
		for _, v := range p.Vendors {
			names = append(names, v.Name)
		}
		return &policy.NoMatchError{What: fmt.Sprintf("the policy has no vendor %q: it has %s", vendor, strings.Join(names, ", "))}
	}
	var names []string
	for _, e := range v.Engineers {
		names = append(names, e.String())
	}
	return &policy.NoMatchError{What: fmt.Sprintf("the policy has no engineer %q: %s has %s", name, vendor, strings.Join(names, ", "))}
}

// Years about which questions are answered: those of which a policy may name
// dates. Times of other years have no place in JSON, or overflow.
const firstYear, lastYear = 2000, 2199

// parseTime reads RFC 3339 with its offset, or a local time of the zone; both
// to the minute or second.
func parseTime(text string, zone *time.Location) (time.Time, error) {
	t, err := parseAnyTime(text, zone)
	t = t.In(zone) // an offset may be none that JSON takes
	if err == nil && (t.Year() < firstYear || t.Year() > lastYear) {
		return t, invalid("%q is in the year %d in %s: allowed is %d to %d", text, t.Year(), zone, firstYear, lastYear)
	}
	return t, err
}

func parseAnyTime(text string, zone *time.Location) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, invalid("%.200q is not a time: allowed is 2026-12-01T20:00 (in %s), with seconds if you like, or with an offset as 2026-12-01T20:00:00+09:00", text, zone)
}

// parseDestination reads ADDR:tcp/22, [ADDR]:udp/53 or ADDR:icmp.
func parseDestination(text string) (netip.AddrPort, uint8, error) {
	bad := invalid("--to: %q is not a destination: allowed is ADDR:tcp/PORT, ADDR:udp/PORT or ADDR:icmp, as in 10.1.0.5:tcp/22 or [2001:db8::5]:tcp/22", text)
	i := strings.LastIndexByte(text, ':')
	if i < 0 {
		return netip.AddrPort{}, 0, bad
	}
	host, service := strings.TrimSuffix(strings.TrimPrefix(text[:i], "["), "]"), text[i+1:]
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Zone() != "" {
		return netip.AddrPort{}, 0, bad
	}
	addr = addr.Unmap()
	if service == "icmp" {
		if addr.Is6() {
			return netip.AddrPortFrom(addr, 0), policy.ICMPv6, nil
		}
		return netip.AddrPortFrom(addr, 0), policy.ICMP, nil
	}
	name, number, ok := strings.Cut(service, "/")
	port, err := strconv.ParseUint(number, 10, 16)
	protocol, known := map[string]uint8{"tcp": policy.TCP, "udp": policy.UDP}[name]
	if !ok || err != nil || !known || port == 0 {
		return netip.AddrPort{}, 0, bad
	}
	return netip.AddrPortFrom(addr, uint16(port)), protocol, nil
}

// Opening is one line of `kidoban calendar`.
type Opening struct {
	Vendor     string    `json:"vendor"`
	VendorName string    `json:"vendor_name,omitempty"`
	Window     string    `json:"window"`
	From       time.Time `json:"from"`
	Until      time.Time `json:"until"`
	Engineers  []string  `json:"engineers"`
	Names      []string  `json:"engineer_names"` // as many as engineers; empty: the policy has none
	Targets    []string  `json:"targets"`
	ApprovedBy string    `json:"approved_by"`
	Ticket     string    `json:"ticket"`
}

// calendarMost bounds how far a calendar reaches, so that one question does
// not keep the machine busy.
const calendarMost = 400 * 24 * time.Hour

// Calendar lists who can enter when, to what. Empty times mean now and 30
// days after the beginning.
func Calendar(p *policy.Policy, from, until string, now time.Time) ([]Opening, error) {
	start := now
	var err error
	if from != "" {
		if start, err = parseTime(from, p.Zone); err != nil {
			return nil, err
		}
	}
	end := start.AddDate(0, 0, 30)
	if until != "" {
		if end, err = parseTime(until, p.Zone); err != nil {
			return nil, err
		}
	}
	switch {
	case !end.After(start):
		return nil, invalid("the calendar's end %s is not after its beginning %s", end.Format(time.RFC3339), start.Format(time.RFC3339))
	case end.Sub(start) > calendarMost:
		return nil, invalid("the calendar spans %d days: allowed are 400", int(end.Sub(start).Hours()/24))
	}
	openings := []Opening{}
	for _, o := range p.Openings(start, end) {
		line := Opening{Vendor: o.Window.Vendor.Name, VendorName: o.Window.Vendor.DisplayName, Window: o.Window.Name, From: o.From.In(p.Zone), Until: o.Until.In(p.Zone),
			Engineers: []string{}, Names: []string{}, Targets: []string{}, ApprovedBy: o.Window.ApprovedBy, Ticket: o.Window.Ticket}
		for _, e := range o.Window.Engineers {
			line.Engineers = append(line.Engineers, e.Name)
			line.Names = append(line.Names, e.DisplayName)
		}
		for _, t := range o.Window.Targets {
			line.Targets = append(line.Targets, t.Name)
		}
		openings = append(openings, line)
	}
	return openings, nil
}

// MTU is the tunnel's at both ends, in bytes, unless an engineer's is made
// smaller: outside it takes up to 1420, which fits through PPPoE, DS-Lite and
// MAP-E. Both ends must agree, because WireGuard pads a packet to the next
// multiple of 16 bytes, but not beyond the MTU of the end that sends it.
const MTU = 1340

// parseMTU reads an engineer's MTU; empty is MTU. No tunnel that carries IPv6
// can have less than 1280 (RFC 8200, section 5), and with more than 1420 what
// it sends does not fit into an Ethernet packet.
func parseMTU(text string) (int, error) {
	const least, most = 1280, 1420
	if text == "" {
		return MTU, nil
	}
	mtu, err := strconv.Atoi(text)
	if err != nil || mtu < least || mtu > most {
		return 0, invalid("--mtu: %q is not an MTU of the tunnel: allowed is %d to %d", text, least, most)
	}
	return mtu, nil
}

// ClientConfig is the text an engineer pastes beneath what a WireGuard client
// makes with "add empty tunnel". It holds no secret. The MTU is as it was
// typed; empty: MTU.
func ClientConfig(p *policy.Policy, name string, gatewayKey policy.Key, mtuText string) (string, error) {
	mtu, err := parseMTU(mtuText)
	if err != nil {
		return "", err
	}
	e := p.Engineer(name)
	if e == nil {
		return "", unknownEngineer(p, name)
	}
	var addresses []string
	for _, a := range e.Addresses {
		addresses = append(addresses, netip.PrefixFrom(a, a.BitLen()).String())
	}
	var allowed []string
	seen := map[netip.Prefix]bool{}
	for _, w := range e.Vendor.Windows {
		for _, member := range w.Engineers {
			if member != e {
				continue
			}
			for _, t := range w.Targets {
				if !seen[t.Prefix] && e.Reaches(t.Prefix.Addr()) {
					seen[t.Prefix] = true
					allowed = append(allowed, t.Prefix.String())
				}
			}
		}
	}
	if len(allowed) == 0 {
		return "", &policy.NoMatchError{What: fmt.Sprintf("no window of the policy opens anything that %s can reach", name)}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# %s: %s\n", p.Site, e)
	fmt.Fprintf(&b, "# 有効なのに「最新のハンドシェイク」が出ないときは、接続が拒否されています（時間帯・接続元を確認）。%sへお電話ください。\n", p.Site)
	fmt.Fprintf(&b, "# Active without a latest handshake means refused (outside your window, or not from your listed address): call %s.\n", p.Site)
	fmt.Fprintf(&b, "Address = %s\n", strings.Join(addresses, ", "))
	fmt.Fprintf(&b, "MTU = %d\n\n[Peer]\nPublicKey = %s\n", mtu, gatewayKey)
	if e.PresharedKey != [32]byte{} {
		fmt.Fprintf(&b, "# This tunnel needs a preshared key, sent to you by another way. Put it after the sign and remove the mark:\n# PresharedKey =\n")
	}
	fmt.Fprintf(&b, "Endpoint = %s\nAllowedIPs = %s\nPersistentKeepalive = 25\n", p.Tunnel.Endpoint, strings.Join(allowed, ", "))
	return b.String(), nil
}
