package firewall

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"kidoban/gateway/policy"
)

// Options are the settings of a Firewall. They hold for its life.
type Options struct {
	Interface     string // the tunnel's, up to 15 bytes; it need not exist
	ListenPort    uint16 // the UDP port of WireGuard, 1 to 65535
	Masquerade    bool   // rewrite the source towards every target, whatever the target says
	ForwardOthers bool   // leave packets alone that neither come from the tunnel nor go there
	LogGroup      uint16 // the NFLOG group on which the kernel hands us copies, ours alone in this network namespace; 0: 5182
	// ForwardingFile keeps how the host's forwarding switches were found, for
	// a process after this one, should this one be killed; empty: nowhere. It
	// is written while the ruleset is set, so its folder must be one that waits
	// for no disk. It outlives a process, but need not outlive a boot.
	ForwardingFile string
	// Inside are the interfaces that lead to targets; empty: the host's routes and
	// addresses tell.
	Inside []string
	// Inspect takes the payload of each WireGuard initiation that the kernel
	// refused, and the index of the interface by which it came, at most 50 a
	// second. It must not block, and not keep the payload. nil: nobody does.
	Inspect func(payload []byte, source netip.AddrPort, by int32)
	Logger  *slog.Logger // nil: silent

	// translated is set once sources of flows may have been rewritten: without
	// NAT their answers would be reset.
	translated bool

	eventsRoom int // for ends of flows that wait to be counted, in bytes; 0: enough
}

const defaultLogGroup = 5182

func (o Options) check() error {
	switch {
	case o.Interface == "" || len(o.Interface) >= unix.IFNAMSIZ:
		return fmt.Errorf("interface %q: allowed are names of 1 to %d bytes", o.Interface, unix.IFNAMSIZ-1)
	case o.ListenPort == 0:
		return errors.New("listen port 0: allowed are 1 to 65535")
	}
	return nil
}

// Rates, a second and in a burst.
var (
	sourceRate   = rate{2_000, 4_000}    // packets of a listed prefix that are of no live session: handshakes, and data of a session that is seconds old
	liveRate     = rate{250_000, 50_000} // packets of a live session's address and port: as many as one tunnel carries
	beginRate    = rate{50, 500}         // new flows of one tunnel address
	strangerRate = rate{50, 50}          // copies of refused initiations
	refusalRate  = rate{5, 20}           // copies of the refused packets of one tunnel address
	// fragmentRate is for the fragments of one tunnel address, of one target,
	// and of all others. The kernel keeps some 4,000 incomplete datagrams for 30
	// s, of all senders together; this gives one sender a sixth.
	fragmentRate = rate{20, 100}
)

// flowsAtOnce is how many flows one tunnel address may have at once. The
// kernel's tables of connections and of ports for masquerading are shared by
// all engineers, and this is one engineer's share. It does not count TCP
// connections that are over, which the kernel remembers for up to two minutes:
// these are bounded by beginRate.
const flowsAtOnce = 1_000

// Prefixes of NFLOG copies say which rule made them, and how much of the
// packet is copied.
const (
	copiedInitiation = "initiation"
	copiedFlow       = "flow"
	copiedExcess     = "excess"
	copyLength       = 512
)

// copiedFrom is the prefix of copies of packets that came by an interface without WireGuard, where a
// source proves nothing. UnknownIngress stands for every interface but the line of that source.
func copiedFrom(by string) string { return copiedFlow + " " + by }

const initiationLength = 148 // bytes of a WireGuard handshake initiation

// rawPriority is before defragmentation (-400), so that fragments are seen
// as they are, and before conntrack (-200), so that floods leave no trace.
const rawPriority = -450

// Names of the counters, in the order in which they are shown.
const (
	refusedSource   = "refused_source"   // for the WireGuard port, from an address that is not listed or too fast
	refusedTCP      = "refused_tcp"      // TCP for the WireGuard port's number
	refusedFragment = "refused_fragment" // fragments for the WireGuard port
	refusedSpoofed  = "refused_spoofed"  // with a source inside the tunnel, but not from there; with that of a host on a plain line, by another interface
	refusedAnswer   = "refused_answer"   // from the WireGuard port, to an address that is not listed
	refusedICMP     = "refused_icmp"     // ICMP: errors of the gateway that are not about a listed flow; what would change the host's routes, or those of a flow's ends
	refusedGateway  = "refused_gateway"  // from the tunnel to the gateway
	refusedFlow     = "refused_flow"     // from the tunnel or a plain line, not of a listed flow
	refusedExcess   = "refused_excess"   // new flows of a tunnel address that has as many as it may, or begins them too fast
	refusedDNAT     = "refused_dnat"     // new flows to which another program has given another destination
	refusedPath     = "refused_path"     // of a listed flow, by an interface that is no path to its target
	refusedInward   = "refused_inward"   // into the tunnel or to a plain line, not of a listed flow
	refusedForward  = "refused_forward"  // between other interfaces
)

var counterNames = []string{refusedSource, refusedTCP, refusedFragment, refusedSpoofed, refusedAnswer,
	refusedICMP, refusedGateway, refusedFlow, refusedExcess, refusedDNAT, refusedPath, refusedInward, refusedForward}

// Rules is everything that the table holds at an instant.
type Rules struct {
	sets   []*set
	chains []*chain
}

// set holds elements until their ends. A dynamic set is filled by a rule, and
// its elements open nothing.
type set struct {
	name     string
	kind     setKind
	each     term // the limit of each element by itself; without expressions: none
	dynamic  bool
	elements map[string]time.Time // key as the kernel has it -> end

	ofEngineers bool // each key begins with the address of an engineer or host
}

// dynamicSize is how many elements a dynamic set has room for: more than there
// are tunnel addresses.
const dynamicSize = 1 << 16

// chain is a base chain if kind is set.
type chain struct {
	name     string
	kind     string // "filter" or "nat"
	hook     uint32
	priority int32
	drops    bool // the policy
	rules    []rule
}

func (c *chain) policy() nftables.ChainPolicy {
	if c.drops {
		return nftables.ChainPolicyDrop
	}
	return nftables.ChainPolicyAccept
}

func (s *set) limited() bool { return len(s.each.expressions) > 0 }

func (c *chain) add(terms ...term) { c.rules = append(c.rules, terms) }

// both adds a rule for each family.
func (c *chain) both(of func(family int) rule) {
	for _, f := range families {
		c.add(of(f)...)
	}
}

// drop counts and drops packets that match one of some terms.
func (c *chain) drop(counter string, any ...term) {
	for _, t := range any {
		c.add(t, count(counter), drop())
	}
}

func (r *Rules) set(name string) *set {
	for _, s := range r.sets {
		if s.name == name {
			return s
		}
	}
	return nil
}

// Paths are the names of the interfaces by which targets are reached, by the
// masked prefix of the target. The host's routing decides; no plan knows it.
type Paths map[netip.Prefix][]string

// Ruleset is pure: it computes the table's content at an instant. Live are the
// outer endpoints of sessions; those at addresses that no open grant lists do
// not count. A plan that is nil, in doubt or without policy opens nothing, nor
// does a plan without paths. Interfaces in deaf take no router advertisements.
//
// The error names flows that cannot be opened and stay closed; the rules are
// good all the same.
func Ruleset(o Options, p *policy.Plan, live []netip.AddrPort, paths Paths, deaf []string, now time.Time) (*Rules, error) {
	return partly(o, p, live, paths, deaf, now, nil)
}

// partly is Ruleset with the elements of some engineers.
func partly(o Options, p *policy.Plan, live []netip.AddrPort, paths Paths, deaf []string, now time.Time, among some) (*Rules, error) {
	open, err := opened(o, p, live, paths, now, among)
	r := &open.Rules
	var decided *policy.Policy
	if p != nil {
		decided = p.Policy
	}
	r.arrive(o, decided, open)
	r.answer(o, open)
	r.host(o, decided, deaf)
	r.forward(o, decided)
	// The kernel's NAT looks at every packet, so it is not there for a policy
	// that has no use for it.
	if decided == nil || o.masquerades(decided) || o.translated {
		r.translate(o)
	}
	if decided != nil && decided.PlainLines() {
		r.hosts(o)
	}
	return r, err
}

// arrive judges packets to the WireGuard port, and false sources.
func (r *Rules) arrive(o Options, p *policy.Policy, open *openings) {
	port := o.ListenPort
	prerouting := r.base("prerouting", "filter", unix.NF_INET_PRE_ROUTING, rawPriority)
	// input or forward judge the tunnel's packets. Every packet passes this
	// chain, so the most frequent cases come first, and the route is looked up
	// only where nothing cheaper decides.
	prerouting.add(from(o.Interface), follow("out_of_tunnel"))
	if o.ForwardOthers {
		prerouting.add(portTerm(unix.IPPROTO_UDP, "dport", port), notToOthers(), follow("tunnel"))
	} else {
		prerouting.add(portTerm(unix.IPPROTO_UDP, "dport", port), visit("tunnel"))
	}
	prerouting.add(portTerm(unix.IPPROTO_TCP, "dport", port), notToOthers(), count(refusedTCP), drop())
	if p != nil {
		for _, a := range p.Tunnel.Addresses {
			prerouting.add(notFrom("lo"), within("saddr", a), count(refusedSpoofed), drop())
		}
		if p.PlainLines() {
			// The addresses of hosts that may enter are judged before conntrack takes a packet for one of
			// the host's flows.
			prerouting.both(func(f int) rule {
				return rule{notFrom("lo"), itself("saddr", f, name("engineers", f)), follow("from_host")}
			})
		}
	}
	if !o.ForwardOthers {
		prerouting.both(func(f int) rule { return rule{fragment(f), follow("fragments")} })
	}

	// Incomplete datagrams wait in a memory that all senders share.
	outOfTunnel := r.chain("out_of_tunnel")
	outOfTunnel.both(func(f int) rule { return rule{fragment(f), follow("fragments_of_one")} })
	outOfTunnel.add(accept())
	r.chain("fragments_of_one").limit("fragments")
	if !o.ForwardOthers {
		fragments := r.chain("fragments")
		fragments.both(func(f int) rule { return rule{comesBy(f, name("paths", f)), follow("fragments_of_target")} })
		fragments.add(fragmentRate.term(), accept())
		fragments.add(count(refusedFragment), drop())
		r.chain("fragments_of_target").limit("target_fragments")
	}

	// The port can be read, so of fragments only the first ones come here.
	// The others find nothing to be joined with.
	tunnel := r.chain("tunnel")
	tunnel.both(func(f int) rule {
		return rule{whole(f), endpoint("saddr", "sport", f, name("live", f)), notrack(), accept()}
	})
	if open.lined() {
		tunnel.both(func(f int) rule {
			return rule{whole(f), endpoint("saddr", "sport", f, name("live_lines", f), lineOf("saddr")), notrack(), accept()}
		})
	}
	if !o.ForwardOthers {
		// Packets to other hosts would go no farther anyway. The rest may be
		// answers for the tunnel, which forward judges, or come from tunnel
		// addresses, which prerouting judges.
		tunnel.add(toOthers(), back())
	}
	tunnel.both(func(f int) rule { return rule{fragment(f), count(refusedFragment), drop()} })
	for _, s := range open.sources {
		tunnel.add(s.term("saddr"), notrack(), accept())
	}
	tunnel.add(initiation(), strangerRate.term(), copyTo(o.LogGroup, copiedInitiation, copyLength))
	tunnel.add(count(refusedSource), drop())
}

// answer judges packets from the WireGuard port.
func (r *Rules) answer(o Options, open *openings) {
	outputRaw := r.base("output_raw", "filter", unix.NF_INET_LOCAL_OUT, rawPriority)
	outputRaw.add(portTerm(unix.IPPROTO_UDP, "sport", o.ListenPort), follow("answers"))
	outputRaw.add(portTerm(unix.IPPROTO_TCP, "sport", o.ListenPort), count(refusedAnswer), drop())

	answers := r.chain("answers")
	answers.both(func(f int) rule { return rule{endpoint("daddr", "dport", f, name("live", f)), notrack(), accept()} })
	if open.lined() {
		answers.both(func(f int) rule {
			return rule{endpoint("daddr", "dport", f, name("live_lines", f), lineOf("daddr")), notrack(), accept()}
		})
	}
	for _, s := range open.sources {
		answers.add(s.term("daddr"), notrack(), accept())
	}
	answers.add(count(refusedAnswer), drop())
}

// host judges packets to and from the gateway itself. The interfaces in deaf
// take no router advertisements.
func (r *Rules) host(o Options, p *policy.Policy, deaf []string) {
	port := o.ListenPort
	input := r.base("input", "filter", unix.NF_INET_LOCAL_IN, 0)
	// Before the untracked packets: prerouting leaves the tunnel's packets
	// tracked, but another program's rules may not.
	input.add(from(o.Interface), follow("refused_to_gateway"))
	// All that prerouting let through is untracked. Anything else was put
	// together from fragments after prerouting had seen them.
	input.add(portTerm(unix.IPPROTO_UDP, "dport", port), state("untracked"), accept())
	input.add(portTerm(unix.IPPROTO_UDP, "dport", port), count(refusedFragment), drop())

	// Any host can send these, from any address. The kernel would believe for
	// ten minutes that the way to a vendor or a target is narrow, or leads by
	// another router; for TCP it takes the sequence number to say so.
	input.drop(refusedICMP, tooBigButTCP()...)
	input.drop(refusedICMP, redirects()...)
	for _, i := range deaf {
		input.add(from(i), icmp(6, 134, "nd-router-advert", -1, ""), count(refusedICMP), drop())
	}

	r.chain("refused_to_gateway").refuse(o, refusedGateway, copiedFlow)

	output := r.base("output", "filter", unix.NF_INET_LOCAL_OUT, 0)
	output.add(portTerm(unix.IPPROTO_UDP, "sport", port), notTo(o.Interface), accept()) // judged by output_raw
	output.add(to("lo"), accept())
	output.onlyIntoTunnel(o, p, refusedInward)
	if p != nil && p.PlainLines() {
		// The gateway's own errors about a host's flow have parts of its packets.
		output.both(func(f int) rule {
			return rule{notTo(o.Interface), state("related"), itself("daddr", f, name("engineers", f)), follow("error_to_host")}
		})
	}
	output.both(func(f int) rule { return rule{state("related"), flow(f, name("flows", f)), accept()} })
	output.add(to(o.Interface), count(refusedInward), drop())
	output.drop(refusedICMP, icmpErrors(o.ForwardOthers)...)
}

// onlyIntoTunnel drops what is for a tunnel address and leaves by another interface.
// The kernel's routing decides that: when the tunnel's route is gone, or another one
// comes before it, answers of targets would leave in the clear.
func (c *chain) onlyIntoTunnel(o Options, p *policy.Policy, counter string) {
	if p == nil {
		return
	}
	for _, a := range p.Tunnel.Addresses {
		c.add(notTo(o.Interface), within("daddr", a), count(counter), drop())
	}
}

// forward judges packets between engineers and targets.
func (r *Rules) forward(o Options, p *policy.Policy) {
	forward := r.base("forward", "filter", unix.NF_INET_FORWARD, 0)
	forward.drops = true
	if o.ForwardOthers {
		forward.onlyIntoTunnel(o, p, refusedForward)
		forward.add(notFrom(o.Interface), notTo(o.Interface), accept())
	}
	forward.add(synchronizing(), clamp())
	// These errors would be of a listed flow. An engineer or a target that
	// believes them sends what follows elsewhere, or slower.
	forward.add(quenchOrRedirect(), count(refusedICMP), drop())
	if p != nil && p.PlainLines() {
		r.plainLines(o, p, forward)
	} else {
		forward.add(from(o.Interface), follow("from_tunnel"))
		forward.add(to(o.Interface), follow("to_tunnel"))
	}
	forward.add(count(refusedForward), drop())

	// The sender must have begun the flow. Conntrack knows that for the flow's
	// own packets; an ICMP error is related to a flow whatever its sender.
	fromTunnel, toTunnel := r.chain("from_tunnel"), r.chain("to_tunnel")
	fromTunnel.both(func(f int) rule {
		return rule{direction("original"), state("established"), plainFlow(f, name("flows", f)), follow("to_site")}
	})
	fromTunnel.add(state("new"), follow("new_flow"))
	// An engineer's machine is on no path from a target to others. A masqueraded
	// target would believe it of all of them.
	fromTunnel.drop(refusedICMP, tooBig()...)
	fromTunnel.both(func(f int) rule {
		return rule{direction("original"), state("related"), plainError(f), sentByOrigin(f, name("engineers", f)), flow(f, name("flows", f)), follow("to_site")}
	})
	fromTunnel.add(follow("refused_to_site"))
	// A target that still holds a cut connection answers the first segment of a
	// new one with data of the old one, and conntrack lets that pass. A reset
	// tells the target that the old one is over.
	toTunnel.add(direction("reply"), unansweredTCP(), count(refusedInward), reset())
	toTunnel.both(func(f int) rule { return rule{direction("reply"), plainFlow(f, name("flows", f)), follow("from_site")} })
	toTunnel.add(direction("reply"), state("related"), plainError(6), flow(6, name("flows", 6)), follow("from_site"))
	toTunnel.add(count(refusedInward), drop())

	// A connection must begin with its first segment: conntrack would take any,
	// also in the middle of another engineer's connection from this address. And
	// its destination must be the listed one: conntrack keeps the destination
	// that the engineer wrote, wherever another program sends it.
	newFlow := r.chain("new_flow")
	newFlow.add(midstream(), follow("refused_to_site"))
	newFlow.add(destinationRewritten(), follow("refused_rewritten"))
	newFlow.both(func(f int) rule { return rule{plainFlow(f, name("flows", f)), follow("admitted_flow")} })
	newFlow.add(follow("refused_to_site"))
	// An unanswered flow stays new. Only its first packet counts.
	admitted := r.chain("admitted_flow")
	admitted.add(confirmed(), follow("to_site"))
	admitted.both(func(f int) rule {
		return rule{limitedBy(f, name("begins", f)), limitedBy(f, name("counts", f)), follow("to_site")}
	})
	admitted.add(follow("refused_in_excess"))

	// The kernel routes a packet before the forward chain sees it; if the way to
	// the target is down, by the default route to the Internet. No host there
	// may answer as the target, or send errors about its flows.
	toSite, fromSite := r.chain("to_site"), r.chain("from_site")
	toSite.both(func(f int) rule { return rule{way(f, name("paths", f)), accept()} })
	fromSite.both(func(f int) rule { return rule{path(f, name("paths", f)), accept()} })
	toSite.add(count(refusedPath), drop())
	fromSite.add(count(refusedPath), drop())

	r.chain("refused_to_site").refuse(o, refusedFlow, copiedFlow)
	r.chain("refused_in_excess").refuse(o, refusedExcess, copiedExcess)
	r.chain("refused_rewritten").refuse(o, refusedDNAT, copiedFlow)
}

// plainLines judges packets that come or leave by the tunnel or by lines without WireGuard. A host on
// such a line must come by the line's interface, and gets answers by it alone; beyond that it has the
// rules of the tunnel, which in turn takes no host. The interface may also be a path to targets, so
// conntrack's direction says who comes by it: an answer goes to whoever began the flow.
func (r *Rules) plainLines(o Options, p *policy.Policy, forward *chain) {
	for _, a := range p.Tunnel.Addresses {
		forward.add(from(o.Interface), within("saddr", a), follow("from_tunnel"))
		forward.add(to(o.Interface), within("daddr", a), follow("to_tunnel"))
	}
	forward.add(from(o.Interface), follow("refused_to_site"))
	forward.add(to(o.Interface), count(refusedInward), drop())
	for _, l := range p.Lines {
		if !l.Plain {
			continue
		}
		forward.add(from(l.Interface), direction("original"), visit("from_line"))
		// A machine on a line can forge addresses. They would fill the set of copies, and no refusal of an
		// engineer would be copied any more, so there is one limit for the whole line.
		forward.add(from(l.Interface), direction("original"), strangerRate.term(), copyTo(o.LogGroup, copiedFrom(l.Interface), copyLength))
		forward.add(from(l.Interface), direction("original"), count(refusedFlow), drop())
		forward.add(to(l.Interface), direction("reply"), follow("to_line"))
	}
}

// hosts makes the chains of hosts on plain lines. They come and go with the policy, so they are last.
func (r *Rules) hosts(o Options) {
	fromLine, toLine := r.chain("from_line"), r.chain("to_line")
	fromLine.both(func(f int) rule { return rule{comesBy(f, name("plain", f)), follow("from_tunnel")} })
	toLine.both(func(f int) rule { return rule{way(f, name("plain", f)), follow("to_tunnel")} })
	toLine.add(count(refusedInward), drop())

	errors := r.chain("error_to_host")
	errors.both(func(f int) rule { return rule{way(f, name("plain", f)), flow(f, name("flows", f)), accept()} })
	errors.add(count(refusedInward), drop())

	fromHost := r.chain("from_host")
	fromHost.both(func(f int) rule { return rule{comesBy(f, name("plain", f)), follow("out_of_tunnel")} })
	fromHost.add(strangerRate.term(), copyTo(o.LogGroup, copiedFrom(policy.UnknownIngress), copyLength))
	fromHost.add(count(refusedSpoofed), drop())
}

// translate rewrites the sources of flows to targets that need it, to ports
// other than WireGuard's.
func (r *Rules) translate(o Options) {
	postrouting := r.base("postrouting", "nat", unix.NF_INET_POST_ROUTING, 100)
	first, last := uint16(1024), o.ListenPort-1
	if o.ListenPort < 1<<15 {
		first, last = o.ListenPort+1, 65535
	}
	chosen := "masquerade"
	if o.Masquerade {
		chosen = "flows"
	}
	for _, f := range families {
		postrouting.add(flow(f, name(chosen, f)), masquerade(unix.IPPROTO_TCP, first, last))
		postrouting.add(flow(f, name(chosen, f)), masquerade(unix.IPPROTO_UDP, first, last))
		postrouting.add(flow(f, name(chosen, f)), masquerade(0, 0, 0))
	}
}

// masquerades reports whether the source of any flow may have to be rewritten.
func (o Options) masquerades(p *policy.Policy) bool {
	return o.Masquerade || slices.ContainsFunc(p.Targets, func(t *policy.Target) bool { return t.Masquerade })
}

var families = [...]int{4, 6}

// name is the name of the set of a family.
func name(what string, family int) string { return what + strconv.Itoa(family) }

// limit accepts fragments within the limit that a dynamic set has for each
// source by itself.
func (c *chain) limit(set string) {
	c.both(func(f int) rule { return rule{limitedBy(f, name(set, f)), accept()} })
	c.add(count(refusedFragment), drop())
}

// refuse counts and drops, and copies some for people to read: of each tunnel
// address so many, or the scan of one engineer would hide another's attempt.
func (c *chain) refuse(o Options, counter, prefix string) {
	c.both(func(f int) rule { return rule{limitedBy(f, name("copies", f)), copyTo(o.LogGroup, prefix, copyLength)} })
	c.add(count(counter), drop())
}

func (r *Rules) base(name, kind string, hook uint32, priority int32) *chain {
	c := &chain{name: name, kind: kind, hook: hook, priority: priority}
	r.chains = append(r.chains, c)
	return c
}

func (r *Rules) chain(name string) *chain { return r.base(name, "", 0, 0) }

// icmpErrors are the errors that a stranger could have the gateway send. For
// a host that forwards for others, only those that answer packets to the host
// itself: others depend on the rest.
func icmpErrors(forwardOthers bool) []term {
	if forwardOthers {
		return []term{
			icmp(4, 3, "destination-unreachable", 2, "prot-unreachable"), icmp(4, 3, "destination-unreachable", 3, "port-unreachable"),
			icmp(4, 11, "time-exceeded", 1, "host-unreachable"), icmp(4, 12, "parameter-problem", -1, ""),
			icmp(6, 1, "destination-unreachable", 4, "port-unreachable"), icmp(6, 3, "time-exceeded", 1, "admin-prohibited"),
			icmp(6, 4, "parameter-problem", -1, ""),
		}
	}
	return []term{
		icmp(4, 3, "destination-unreachable", -1, ""), icmp(4, 5, "redirect", -1, ""), icmp(4, 11, "time-exceeded", -1, ""),
		icmp(4, 12, "parameter-problem", -1, ""), icmp(6, 1, "destination-unreachable", -1, ""), icmp(6, 2, "packet-too-big", -1, ""),
		icmp(6, 3, "time-exceeded", -1, ""), icmp(6, 4, "parameter-problem", -1, ""),
	}
}

// differsFrom reports whether a chain has other rules.
func (c *chain) differsFrom(other *chain) bool {
	return other == nil || c.kind != other.kind || !slices.EqualFunc(c.rules, other.rules, func(a, b rule) bool { return a.String() == b.String() })
}
