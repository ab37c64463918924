package firewall

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"kidoban/gateway/policy"
)

// tenants remembers whose each tunnel address was last. The kernel knows a
// flow by addresses and ports, for days: whoever gets an address after
// somebody else would go on with that one's connections. So before anything
// opens for a new tenant, the kernel forgets the flows of the address.
//
// It is kept for the next process as well, which finds the same conntrack.
type tenants struct {
	path   string // of the record; empty: nothing outlives this process
	here   record // this boot and network namespace
	logger *slog.Logger
	kernel *netlink.Handle

	keys map[netip.Addr]policy.Key
	of   *policy.Policy // the last one whose engineers are all in keys
}

// tenancy is what is kept of them. It counts in the boot and the network
// namespace in which it was written.
type tenancy struct {
	Boot      string                `json:"boot"`
	Namespace uint64                `json:"namespace"`
	Keys      map[netip.Addr]string `json:"keys"`
}

// openTenants reads what a process before this one kept. What cannot be read
// is not known, and then every address has a new tenant.
func openTenants(path string, here record, logger *slog.Logger) (*tenants, error) {
	kernel, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("conntrack's netlink socket: %w", err)
	}
	t := &tenants{path: path, here: here, logger: logger, kernel: kernel, keys: map[netip.Addr]policy.Key{}}
	if path == "" {
		return t, nil
	}
	var kept tenancy
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &kept)
	}
	switch {
	case err != nil && !errors.Is(err, os.ErrNotExist):
		logger.Warn("whose the tunnel addresses were is not known, so connections of before end", "err", err)
	case err == nil && kept.Boot == here.Boot && kept.Namespace == here.Namespace:
		for a, text := range kept.Keys {
			if key, err := policy.ParseKey(text); err == nil {
				t.keys[a] = key
			}
		}
	}
	return t, nil
}

// moved gives the addresses that a policy gives to others than had them last,
// or to somebody for the first time.
func (t *tenants) moved(p *policy.Policy) map[netip.Addr]policy.Key {
	if p == nil || p == t.of {
		return nil
	}
	moved := map[netip.Addr]policy.Key{}
	for _, v := range p.Vendors {
		for _, e := range v.Engineers {
			for _, a := range e.Addresses {
				if have, ok := t.keys[a]; !ok || have != e.Key {
					moved[a] = e.Key
				}
			}
		}
	}
	if len(moved) == 0 {
		t.of = p
	}
	return moved
}

// without gives the plan without the grants of engineers whose addresses are
// among those.
func without(p *policy.Plan, moved map[netip.Addr]policy.Key) *policy.Plan {
	return p.Restrict(func(g *policy.Grant) *policy.Grant {
		for _, a := range g.Engineer.Addresses {
			if _, ok := moved[a]; ok {
				return nil
			}
		}
		return g
	})
}

// forgettings bounds how often conntrack is walked for flows that came while
// it was being walked.
const forgettings = 8

// settle has the kernel forget the flows of addresses, of which it must let
// none pass any more, and takes note of the new tenants.
func (t *tenants) settle(moved map[netip.Addr]policy.Key) error {
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if err := t.forget(family, moved); err != nil {
			return fmt.Errorf("firewall: the kernel does not forget the flows of tunnel addresses that have other engineers now (nf_conntrack_netlink): %w", err)
		}
	}
	maps.Copy(t.keys, moved)
	if t.path == "" {
		return nil
	}
	if err := t.keep(); err != nil {
		t.logger.Warn("whose the tunnel addresses are cannot be kept, so connections end at the next start", "err", err)
		if err := os.Remove(t.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("the record of whose the tunnel addresses were cannot be removed: %w", err)
		}
	}
	return nil
}

// forget walks conntrack until it finds no flow of the addresses any more.
func (t *tenants) forget(family netlink.InetFamily, moved map[netip.Addr]policy.Key) error {
	var deleted uint
	var err error
	for range forgettings {
		deleted, err = t.kernel.ConntrackDeleteFilters(netlink.ConntrackTable, family, flowsOf(moved))
		if err == nil && deleted == 0 || err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
	}
	if err == nil {
		err = fmt.Errorf("%d came back, again and again", deleted)
	}
	return err
}

func (t *tenants) keep() error {
	kept := tenancy{t.here.Boot, t.here.Namespace, make(map[netip.Addr]string, len(t.keys))}
	for a, key := range t.keys {
		kept.Keys[a] = key.String()
	}
	return replaceFile(t.path, kept)
}

// flowsOf matches what was begun from one of the addresses.
type flowsOf map[netip.Addr]policy.Key

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f flowsOf) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	a, ok := netip.AddrFromSlice(flow.Forward.SrcIP)
	_, moved := f[a.Unmap()]
	return ok && moved
}
