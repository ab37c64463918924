package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"kidoban/gateway/firewall"
	"kidoban/gateway/policy"
)

// liveFirewall is a gateway.Firewall. Initiations that the kernel refused are
// named by the tunnel, which can open them; and the host forwards on the
// interfaces that the policy needs, as long as it needs them.
type liveFirewall struct {
	*firewall.Firewall
	device string
	logger *slog.Logger
	told   atomic.Pointer[[]string] // hints about the host's routes
	quit   chan struct{}

	// Of the caller of Set and Check, who is one.
	plan   *policy.Plan // in force
	paths  paths        // to the targets of its policy
	looked time.Time    // when they were looked up
}

// paths is how the host reaches the targets of a policy.
type paths struct {
	policy     *policy.Policy
	ipv4, ipv6 []string // interfaces on which packets of its flows arrive: from the tunnel, and from the targets
	complete   bool     // each target has a route of its own
	hints      []string
}

// How often routes are looked up anew: the gateway may be up before the
// network is, and routes move.
const (
	routesAgain     = 10 * time.Second
	incompleteAgain = 2 * time.Second
)

func newLiveFirewall(f *firewall.Firewall, t *liveTunnel, device string, logger *slog.Logger) *liveFirewall {
	l := &liveFirewall{Firewall: f, device: device, logger: logger, quit: make(chan struct{})}
	go func() {
		for {
			select {
			case <-l.quit:
				return
			case i := <-f.Initiations():
				t.Inspect(i.Packet[:], i.Source)
			}
		}
	}()
	return l
}

// Set implements gateway.Firewall.
func (l *liveFirewall) Set(p *policy.Plan, live []netip.AddrPort) error {
	l.plan = nil
	if err := l.Firewall.Set(p, live); err != nil {
		return err
	}
	l.plan = p
	return l.forward()
}

// Check implements gateway.Firewall.
func (l *liveFirewall) Check() error {
	if err := l.Firewall.Check(); err != nil {
		return err
	}
	return l.forward()
}

// forward lets the kernel forward for the plan in force. What somebody else
// has turned off meanwhile is turned on again.
func (l *liveFirewall) forward() error {
	p := l.plan
	if p == nil || p.Policy == nil {
		return nil
	}
	again := routesAgain
	if !l.paths.complete {
		again = incompleteAgain
	}
	if l.paths.policy != p.Policy || time.Since(l.looked) >= again {
		l.looked = time.Now()
		l.paths = pathsTo(p.Policy, l.device)
	}
	hints := slices.Clone(l.paths.hints)
	defer func() { l.tell(hints) }()
	// A plan without grants needs no forwarding yet; its interface may not be
	// there either.
	if len(p.Grants) == 0 {
		return nil
	}
	err := l.SetForwarding(l.paths.ipv4, l.paths.ipv6)
	if errors.Is(err, firewall.ErrRouterAdvertisements) {
		hints, err = append(hints, fmt.Sprintf("IPv6 targets cannot be reached: %v", err)), nil
	}
	return err
}

// tell keeps the hints, and logs those that are new.
func (l *liveFirewall) tell(hints []string) {
	old := l.hints()
	for _, h := range hints {
		if !slices.Contains(old, h) {
			l.logger.Warn(h)
		}
	}
	l.told.Store(&hints)
}

// hints gives what operators should know of the host's routes.
func (l *liveFirewall) hints() []string {
	if h := l.told.Load(); h != nil {
		return *h
	}
	return nil
}

// pathsTo looks the routes to a policy's targets up. The default route is no
// path to a target: where a network of the site is not up yet, it leads to the
// Internet, whose hosts must not answer in the target's name. Where there is
// one network card and nothing else it is all there is.
func pathsTo(p *policy.Policy, device string) paths {
	w := paths{policy: p, complete: true}
	names, err := interfaces()
	if err != nil {
		w.complete, w.hints = false, []string{fmt.Sprintf("the host's interfaces cannot be read: %v", err)}
		return w
	}
	others := 0
	for _, name := range names {
		if name != "lo" && name != device {
			others++
		}
	}
	astray := map[string][]string{} // hint -> the targets for which it is
	for _, t := range p.Targets {
		address := t.Prefix.Addr()
		through, byDefault := pathTo(address, names)
		hint := ""
		switch {
		case len(through) == 0:
			hint = "the host has no route to TARGETS: bring the interface up, or add a route"
		case byDefault && others > 1:
			hint = "the host has no route to TARGETS but the default route, through " + strings.Join(through, " and ") +
				", from where no answer is taken: bring the right interface up, or add a route of its own"
			through = nil
		case byDefault:
			hint = "the host has no route to TARGETS but the default route, through its only interface " + strings.Join(through, " and ") +
				": a host on the way to the Internet could answer in its name; a route of its own is better"
		}
		if hint != "" {
			astray[hint] = append(astray[hint], t.Name)
		}
		list := &w.ipv4
		if address.Is6() {
			list = &w.ipv6
		}
		for _, name := range append([]string{device}, through...) {
			if !slices.Contains(*list, name) {
				*list = append(*list, name)
			}
		}
	}
	for _, hint := range slices.Sorted(maps.Keys(astray)) {
		w.complete = false
		w.hints = append(w.hints, strings.Replace(hint, "TARGETS", few(astray[hint]), 1))
	}
	return w
}

// few names targets, but not all of many.
func few(targets []string) string {
	const most = 5
	if len(targets) > most+1 {
		return fmt.Sprintf("%s and %d other targets", strings.Join(targets[:most], ", "), len(targets)-most)
	}
	return strings.Join(targets, ", ")
}

// interfaces names the host's interfaces by index.
func interfaces() (map[int]string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	names := make(map[int]string, len(all))
	for _, i := range all {
		names[i.Index] = i.Name
	}
	return names, nil
}

// pathTo gives the interfaces through which the route to an address leads, and
// whether that is the default route: of the shortest prefix, which matches all.
func pathTo(a netip.Addr, names map[int]string) (through []string, byDefault bool) {
	// The route as it stands in the table. Kernels before 4.13 give one to
	// the address alone, and so tell no default route.
	routes, err := netlink.RouteGetWithOptions(a.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	if err != nil {
		return nil, false // EHOSTUNREACH, ENETUNREACH, EACCES
	}
	for _, r := range routes {
		if r.Type != unix.RTN_UNICAST {
			continue
		}
		hops := []int{r.LinkIndex}
		for _, h := range r.MultiPath {
			hops = append(hops, h.LinkIndex)
		}
		for _, i := range hops {
			if name := names[i]; name != "" && name != "lo" && !slices.Contains(through, name) {
				through = append(through, name)
			}
		}
		bits := 0
		if r.Dst != nil {
			bits, _ = r.Dst.Mask.Size()
		}
		byDefault = bits == 0
	}
	return through, byDefault
}

// Close implements gateway.Firewall.
func (l *liveFirewall) Close() error {
	close(l.quit)
	return l.Firewall.Close()
}

// dropped gives how many packets the ruleset dropped, by cause.
func (l *liveFirewall) dropped() (map[string]uint64, error) {
	counters, err := l.Counters()
	if err != nil {
		return nil, err
	}
	packets := make(map[string]uint64, len(counters))
	for cause, c := range counters {
		packets[strings.TrimPrefix(cause, "refused_")] = c.Packets
	}
	return packets, nil
}
