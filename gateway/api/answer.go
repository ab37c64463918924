package api

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// Explanation is the answer of `kidoban explain`.
type Explanation struct {
	Decision    string     `json:"decision"` // admit or refuse
	Reason      string     `json:"reason"`
	Grant       string     `json:"grant"`        // empty: refused
	Until       *time.Time `json:"until"`        // null: refused
	NextOpening *time.Time `json:"next_opening"` // null: none within 400 days, or none while something is shut or ended
	Engineer    string     `json:"engineer"`
	view.Names
	Source string    `json:"source"`         // the address that was asked about; empty: none
	Line   string    `json:"line,omitempty"` // the line or interface that was asked about; empty: none
	At     time.Time `json:"at"`
	// Details are for people: about a refusal, or about obstacles after an admission.
	// Detail is their English text, a line each.
	Detail  string         `json:"detail,omitempty"`
	Details []view.Message `json:"detail_messages,omitempty"`
}

// explain answers a question: the engineer; from, an address (the default is the
// last attempt's, or a host's own); line, a line of the policy or an interface (the default is the right
// one); to, as ADDR:tcp/22 (the default is the tunnel only); and at, a time.
// Without a policy in force every engineer is refused.
func explain(s *view.Snapshot, q url.Values, now time.Time) (Explanation, error) {
	p, name, from, to := s.Plan.Policy, q.Get("engineer"), q.Get("from"), q.Get("to")
	query := policy.Query{Proven: true, Fault: policy.Admitted}
	e, err := engineerOf(p, name)
	if err != nil {
		return Explanation{}, err
	}
	zone := time.Local // of the machine, where no policy names the site's
	var inside netip.Addr
	if p != nil {
		zone, inside = p.Zone, s.SessionSource(e)
		query.Key, query.Source = e.Key, s.LastAttempt(e)
		if e.Plain() {
			query.Source = e.Addresses[0]
		}
	}
	query.Ingress = ingressOf(p, q.Get("line"))
	at, err := ParseTime(q.Get("at"), zone, now)
	if err != nil {
		return Explanation{}, err
	}
	if from != "" {
		var ok bool
		if query.Source, ok = parseAddr(from); !ok {
			return Explanation{}, invalid("--from: %q is not an address: allowed is IPv4 or IPv6, as in 203.0.113.10", from)
		}
	}
	if to != "" {
		if query.To, query.Proto, err = parseDestination(to); err != nil {
			return Explanation{}, err
		}
		// A flow comes from the session's address, even if the key has been tried
		// elsewhere since.
		if from == "" && inside.IsValid() {
			query.Source = inside
		}
	}
	x := Explanation{Decision: "refuse", Reason: policy.NotReady.String(), Engineer: name, Names: view.NamesOf(e), Line: q.Get("line"), At: s.Local(at)}
	if query.Source.IsValid() {
		x.Source = query.Source.String()
	}
	if p == nil {
		x.detail(doubts(s)...)
		return x, nil
	}
	d := s.Explain(query, at, now)
	then := s.Base.Copy().Plan(at) // the policy's grants at that time, without today's doubts
	x.Reason = d.Reason.String()
	x.detail(details(s, then, e, query.To.Addr(), d.Reason, at)...)
	x.detail(s.Asked(d, e, at)...)
	x.detail(s.Obstacles(query, d, at, now)...)
	if d.Reason == policy.WrongSource && from == "" && inside.IsValid() && inside != query.Source {
		x.detail(view.Say("inside_elsewhere", view.Args{"source": inside}))
	}
	if d.Reason == policy.Admitted {
		x.Decision, x.Grant, x.Until = "admit", d.Grant.ID, new(s.Local(d.Until))
	}
	if next := then.NextOpening(e, at); !next.IsZero() {
		x.NextOpening = new(s.Local(next))
	}
	return x, nil
}

// ingressOf gives the interface of a line of the policy. Another name is that of an
// interface.
func ingressOf(p *policy.Policy, line string) string {
	if p != nil {
		if l := p.LineNamed(line); l != nil {
			return l.Interface
		}
	}
	return line
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

// details tell more about a refusal than its reason, and how to end it.
func details(s *view.Snapshot, then *policy.Plan, e *policy.Engineer, to netip.Addr, reason policy.Reason, at time.Time) (all []view.Message) {
	switch reason {
	case policy.NotReady:
		return doubts(s)
	case policy.GatewayShut, policy.VendorShut, policy.EngineerShut:
		return shutBy(s, e)
	case policy.WrongSource:
		all = append(all, view.Say("sources_listed", view.Args{"sources": listed(e.Sources)}))
		if until := then.Until(e, at); !until.IsZero() {
			all = append(all, view.Say("open_until", view.Args{"until": s.Local(until).Format(view.Moment)}))
		}
	case policy.WrongLine:
		all = append(all, view.Say("line_listed", view.Args{"line": e.Line.Name, "interface": e.Line.Interface}))
		if until := then.Until(e, at); !until.IsZero() {
			all = append(all, view.Say("open_until", view.Args{"until": s.Local(until).Format(view.Moment)}))
		}
	case policy.ContractEnded:
		return []view.Message{view.Say("contract_over", view.Args{"day": e.Vendor.LastDay()})}
	case policy.UnlistedTarget:
		unreachable, none, some := view.Code("no_family"), view.Code("targets_none"), view.Code("targets_open")
		if e.Plain() {
			unreachable, none, some = "no_family_host", "targets_none_host", "targets_open_host"
		}
		if !e.Reaches(to) {
			family := map[bool]string{false: "IPv4", true: "IPv6"}[to.Is6()]
			all = append(all, view.Say(unreachable, view.Args{"family": family}))
		}
		var open []string
		for _, g := range then.GrantsOf(e) {
			for _, t := range g.Window.Targets {
				if g.Contains(at) && e.Reaches(t.Prefix.Addr()) && !slices.Contains(open, t.Name) {
					open = append(open, t.Name)
				}
			}
		}
		if len(open) == 0 {
			return append(all, view.Say(none, nil))
		}
		all = append(all, view.Say(some, view.Args{"targets": open}))
	}
	return all
}

// shutBy names the operators, times and reasons of an engineer's shut, and the command
// that reopens. It names the shut scope if the key had another name then.
func shutBy(s *view.Snapshot, e *policy.Engineer) (all []view.Message) {
	if r, on := s.Plan.Switched(); on {
		all = append(all, view.Say("shut_by_file", view.Args{"at": s.Local(r.At).Format(view.Moment), "reason": r.Reason}))
	}
	r, reason := s.Plan.ClosedBy(e)
	if reason == policy.Admitted {
		return all
	}
	at, scope := s.Local(r.At).Format(view.Moment), string(r.Scope)
	switch r.Scope {
	case policy.All:
		scope = "--all"
		fallthrough
	case policy.Scope(e.Vendor.Name), policy.Scope(e.String()):
		all = append(all, view.Say("shut_by", view.Args{"actor": r.Actor, "at": at, "reason": r.Reason, "scope": scope}))
	case prime(e, r.Scope):
		all = append(all, view.Say("shut_prime", view.Args{"vendor": e.Vendor.Name, "prime": scope, "actor": r.Actor, "at": at, "reason": r.Reason}))
	default:
		all = append(all, view.Say("shut_as", view.Args{"name": scope, "actor": r.Actor, "at": at, "reason": r.Reason, "scope": scope}))
	}
	for _, c := range r.Again {
		all = append(all, view.Say("shut_also", view.Args{"actor": c.Actor, "at": s.Local(c.At).Format(view.Moment), "reason": c.Reason}))
	}
	return all
}

// prime gives a scope that is a vendor which the engineer's vendor works under, or "".
func prime(e *policy.Engineer, scope policy.Scope) policy.Scope {
	if slices.Contains(e.Vendor.Primes(), string(scope)) {
		return scope
	}
	return ""
}

// listed shows prefixes as in a policy, up to eight.
func listed(prefixes []netip.Prefix) any {
	var all []string
	for _, p := range prefixes {
		all = append(all, policy.Short(p))
	}
	return view.Few(all, 8)
}

// MTU is the tunnel's default at both ends, in bytes: outside a packet takes up
// to 1420, which fits through PPPoE, DS-Lite and MAP-E. Both ends must agree:
// WireGuard pads a packet to a multiple of 16 bytes, but not beyond the MTU of
// the end that sends it.
const MTU = 1340

// A tunnel that carries IPv6 needs 1280 (RFC 8200, section 5). Beyond 1420 its
// packets do not fit into Ethernet's.
const leastMTU, mostMTU = 1280, 1420

// clientConfig is the text that an engineer pastes below the lines that a
// WireGuard client makes with "add empty tunnel". It holds no secret.
//
// The keepalive holds a quiet engineer's session, and the vendor's router open for
// answers that come late, as of a long job: without a byte the session is idle after
// 180 s, and routers forget after 30 s. Its price is that a refused client that was
// left on tries for as long as it is on, and not for 90 s.
func clientConfig(p *policy.Policy, q url.Values, gatewayKey policy.Key) (string, error) {
	name, mtuText := q.Get("engineer"), q.Get("mtu")
	mtu, err := strconv.Atoi(cmp.Or(mtuText, strconv.Itoa(MTU)))
	if err != nil || mtu < leastMTU || mtu > mostMTU {
		return "", invalid("--mtu: %q is not an MTU of the tunnel: allowed is %d to %d", mtuText, leastMTU, mostMTU)
	}
	e, err := engineerOf(p, name)
	if err != nil {
		return "", err
	}
	if e.Plain() {
		return "", said(http.StatusBadRequest, view.Say("config_plain", view.Args{"host": name, "line": e.Line.Name}))
	}
	if gatewayKey == (policy.Key{}) {
		return "", problem(http.StatusServiceUnavailable, "the gateway has no private key in use: `kidoban status` says why")
	}
	var addresses, allowed []string
	for _, a := range e.Addresses {
		addresses = append(addresses, netip.PrefixFrom(a, a.BitLen()).String())
	}
	for _, t := range reachable(e) {
		if prefix := t.Prefix.String(); e.Reaches(t.Prefix.Addr()) && !slices.Contains(allowed, prefix) {
			allowed = append(allowed, prefix)
		}
	}
	if len(allowed) == 0 {
		return "", noMatch(view.Say("opens_nothing", view.Args{"engineer": name}), "")
	}
	presharedKey := ""
	if e.PresharedKey != [32]byte{} {
		presharedKey = `# このトンネルには、別の方法でお渡しした事前共有鍵が必要です。= の後に書き、PresharedKey の前の # を消してください。
# This tunnel needs a preshared key, sent to you by another way: write it behind the = and remove the # before PresharedKey.
# PresharedKey =
`
	}
	call, callJa := p.Site, p.Site
	if p.Contact != "" {
		call, callJa = p.Site+", "+p.Contact, p.Site+"（"+p.Contact+"）"
	}
	return fmt.Sprintf(`# %s: %s
# 有効なのに「最新のハンドシェイク」が出ないときは、接続が拒否されています（時間帯・接続元を確認）。%sへお電話ください。
# Active without a latest handshake means refused (outside your window, or not from your listed address): call %s.
Address = %s
MTU = %d

[Peer]
PublicKey = %s
%sEndpoint = %s
AllowedIPs = %s
PersistentKeepalive = 25
`, p.Site, e, callJa, call, strings.Join(addresses, ", "), mtu, gatewayKey, presharedKey, p.Tunnel.Endpoint, strings.Join(allowed, ", ")), nil
}

// reachable are the targets that a window or a request may open to an engineer.
func reachable(e *policy.Engineer) (all []*policy.Target) {
	for _, w := range e.Vendor.Windows {
		if slices.Contains(w.Engineers, e) {
			all = append(all, w.Targets...)
		}
	}
	if on := e.Vendor.OnRequest; on != nil && slices.Contains(on.Engineers, e) {
		all = append(all, on.Targets...)
	}
	return all
}
