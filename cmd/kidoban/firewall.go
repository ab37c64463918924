package main

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"

	"kidoban/gateway/firewall"
	"kidoban/gateway/policy"
)

// liveFirewall is a gateway.Firewall. Initiations that the kernel refused are
// named by the tunnel, which can open them; and the host forwards on the
// interfaces that the policy needs.
type liveFirewall struct {
	*firewall.Firewall
	device string
	logger *slog.Logger
	// forwards is the policy for which forwarding was enabled last; nil when
	// the tunnel's interface is new.
	forwards atomic.Pointer[policy.Policy]
	quit     chan struct{}

	// Of the caller of Set and Check, who is one.
	plan   *policy.Plan   // in force
	looked time.Time      // when routes were looked up last
	warned *policy.Policy // of which it was said what cannot be reached
}

// routesAgain is how often routes are looked up anew: the gateway may be up
// before the network is, and an interface that comes back does not forward.
const routesAgain = 10 * time.Second

func newLiveFirewall(f *firewall.Firewall, t *liveTunnel, device string, logger *slog.Logger) *liveFirewall {
	l := &liveFirewall{Firewall: f, device: device, logger: logger, quit: make(chan struct{})}
	t.built = func() { l.forwards.Store(nil) }
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
	if l.forwards.Load() == p.Policy {
		return nil
	}
	return l.forward()
}

// Check implements gateway.Firewall.
func (l *liveFirewall) Check() error {
	if err := l.Firewall.Check(); err != nil {
		return err
	}
	if time.Since(l.looked) < routesAgain {
		return nil
	}
	return l.forward()
}

// forward lets the kernel forward for the plan in force.
func (l *liveFirewall) forward() error {
	// A plan without grants needs no forwarding yet; its interface may not be
	// there either.
	p := l.plan
	if p == nil || p.Policy == nil || len(p.Grants) == 0 {
		return nil
	}
	l.looked = time.Now()
	warn := l.logger.Warn
	if l.warned == p.Policy {
		warn = l.logger.Debug
	}
	l.warned = p.Policy
	interfaces, ipv6 := l.interfaces(p.Policy, warn)
	err := l.EnableForwarding(interfaces, ipv6)
	if errors.Is(err, firewall.ErrRouterAdvertisements) {
		warn("IPv6 targets cannot be reached", "err", err)
		err = nil
	}
	if err == nil {
		l.forwards.Store(p.Policy)
	}
	return err
}

// interfaces lists where packets of the policy's flows arrive: from the
// tunnel, and from where the routes to the targets lead.
func (l *liveFirewall) interfaces(p *policy.Policy, warn func(string, ...any)) (names []string, ipv6 bool) {
	names = []string{l.device}
	for _, t := range p.Targets {
		ipv6 = ipv6 || t.Prefix.Addr().Is6()
		routes, err := netlink.RouteGet(t.Prefix.Addr().AsSlice())
		if err != nil {
			warn("there is no route to a target", "target", t.Name, "address", t.Prefix, "err", err)
			continue
		}
		for _, r := range routes {
			link, err := netlink.LinkByIndex(r.LinkIndex)
			if err == nil && !slices.Contains(names, link.Attrs().Name) && link.Attrs().Name != "lo" {
				names = append(names, link.Attrs().Name)
			}
		}
	}
	return names, ipv6
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
