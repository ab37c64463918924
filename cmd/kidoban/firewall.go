package main

import (
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"kidoban/gateway/firewall"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// liveFirewall is a gateway.Firewall. Initiations that the kernel refused are
// named by the tunnel, which can open them; and the kernel hears by which
// interfaces the policy's targets are reached, and forwards on these, as long
// as the policy needs them.
type liveFirewall struct {
	*firewall.Firewall
	device string
	inside []string // KIDOBAN_INSIDE_INTERFACES
	logger *slog.Logger
	told   atomic.Pointer[[]view.Hint] // hints about the host's routes
	quit   chan struct{}

	// Of the caller of Set and Check, who is one.
	plan   *policy.Plan // in force
	dnat   refusing     // since another program rewrites destinations
	astray refusing     // since the host's routes lead elsewhere
	paths  paths        // to the targets of its policy
	looked time.Time    // when they were looked up
	sights sights       // the most that the host has had of them at once, or ever
}

// How often routes are looked up anew: the gateway may be up before the
// network is, and routes move.
const (
	routesAgain     = 10 * time.Second
	incompleteAgain = 2 * time.Second
)

func newLiveFirewall(f *firewall.Firewall, t *liveTunnel, device string, inside []string, logger *slog.Logger) *liveFirewall {
	l := &liveFirewall{Firewall: f, device: device, inside: inside, logger: logger, quit: make(chan struct{}), astray: refusing{lasting: true}}
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

// forward lets the kernel forward for the plan in force, by the paths to its
// targets: the ruleset knows them before anything is forwarded by them, and
// is without them before it no longer is. What somebody else has turned off
// meanwhile is turned on again.
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
		before := l.paths.to
		l.paths = l.look(p.Policy)
		if !maps.EqualFunc(before, l.paths.to, slices.Equal) {
			l.astray.forget() // a few packets go astray until new routes are looked up
		}
	}
	hints := slices.Concat(l.paths.hints, l.dnat.hints(), l.astray.hints())
	defer func() { l.tell(hints) }()
	if err := l.SetPaths(l.paths.to, l.paths.deaf); err != nil {
		return err
	}
	// A plan without grants needs no forwarding yet; its interface may not be
	// there either.
	if len(p.Grants) == 0 {
		return nil
	}
	err := l.SetForwarding(l.paths.ipv4, l.paths.ipv6)
	if errors.Is(err, firewall.ErrRouterAdvertisements) {
		six := targetNames(p.Policy, func(t *policy.Target) bool { return t.Prefix.Addr().Is6() })
		hints, err = append(hints, view.Hint{Message: view.Say(view.NoIPv6, view.Args{"cause": err}), Targets: six}), nil
	}
	return err
}

// look looks the paths to a policy's targets up. What cannot be read has none.
func (l *liveFirewall) look(p *policy.Policy) paths {
	r, err := readRouting(p, l.device, l.inside)
	// An interface that goes leaves the default route behind, and is missed. And
	// a default route may go because somebody on the wire takes it back.
	l.sights = l.sights.and(r.sights)
	r.sights = l.sights
	if err != nil {
		every := targetNames(p, func(*policy.Target) bool { return true })
		return paths{policy: p, hints: []view.Hint{{Message: view.Say(view.RoutesUnread, view.Args{"cause": err}), Targets: every}}, deaf: l.sights.deaf}
	}
	w := pathsTo(p, l.device, r)
	l.sights.deaf = w.deaf
	return w
}

// targetNames gives the names of those of a policy's targets.
func targetNames(p *policy.Policy, of func(*policy.Target) bool) []string {
	var names []string
	for _, t := range p.Targets {
		if of(t) {
			names = append(names, t.Name)
		}
	}
	return names
}

// tell keeps the hints, and logs those that are new.
func (l *liveFirewall) tell(hints []view.Hint) {
	old := l.hints()
	for _, h := range hints {
		if !slices.ContainsFunc(old, func(o view.Hint) bool { return o.Message.String() == h.Message.String() }) {
			l.logger.Warn(h.Message.String())
		}
	}
	l.told.Store(&hints)
}

// hints gives what operators should know of the host's routes.
func (l *liveFirewall) hints() []view.Hint {
	if h := l.told.Load(); h != nil {
		return *h
	}
	return nil
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
	l.dnat.counted(packets["dnat"], func() view.Message { return rewritten(l.Rewriters) })
	l.astray.counted(packets["path"], func() view.Message { return view.Say(view.Sidetracked, nil) })
	return packets, nil
}
