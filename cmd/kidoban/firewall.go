package main

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

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
}

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
	if err := l.Firewall.Set(p, live); err != nil {
		return err
	}
	if p.Policy == nil || l.forwards.Load() == p.Policy {
		return nil
	}
	// A plan without grants needs no forwarding yet; its interface may not be
	// there either.
	if len(p.Grants) == 0 {
		return nil
	}
	interfaces, ipv6 := l.interfaces(p.Policy)
	err := l.EnableForwarding(interfaces, ipv6)
	if errors.Is(err, firewall.ErrRouterAdvertisements) {
		l.logger.Warn("IPv6 targets cannot be reached", "err", err)
		err = nil
	}
	if err == nil {
		l.forwards.Store(p.Policy)
	}
	return err
}

// interfaces lists where packets of the policy's flows arrive: from the
// tunnel, and from where the routes to the targets lead.
func (l *liveFirewall) interfaces(p *policy.Policy) (names []string, ipv6 bool) {
	names = []string{l.device}
	for _, t := range p.Targets {
		ipv6 = ipv6 || t.Prefix.Addr().Is6()
		routes, err := netlink.RouteGet(t.Prefix.Addr().AsSlice())
		if err != nil {
			l.logger.Warn("there is no route to a target", "target", t.Name, "address", t.Prefix, "err", err)
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
