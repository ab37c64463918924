package firewall

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// mostBack bounds how many ways back are looked up at a time. 1,000 take about 20 ms.
const mostBack = 1000

// wayBack is a way to ask the kernel for: of a packet to an engineer. If from is valid,
// the packet is an answer of a target that comes by an interface.
type wayBack struct {
	engineer string
	to, from netip.Addr
	by       string
}

// command shows the way.
func (w wayBack) command() string {
	text := fmt.Sprintf("ip route get %v", w.to)
	if w.from.IsValid() {
		text += fmt.Sprintf(" from %v iif %s", w.from, w.by)
	}
	return text
}

// waysBack lists ways back to engineers. Those who may enter come first, with the
// answers of one target by each interface that leads to targets. An IPv4 answer has a
// route only while its interface forwards, so to all engineers a packet of the host
// itself is asked for as well.
func waysBack(p *policy.Plan, to Paths) (all []wayBack) {
	seen := map[wayBack]bool{}
	for _, g := range p.Grants {
		for _, a := range g.Engineer.Addresses {
			for _, t := range g.Window.Targets {
				prefix := t.Prefix.Masked()
				if prefix.Addr().Is4() != a.Is4() {
					continue
				}
				from := prefix.Addr()
				if !prefix.IsSingleIP() {
					from = from.Next() // the first address of a network is nobody's, as a rule
				}
				for _, by := range to[prefix] {
					if once := (wayBack{to: a, by: by}); !seen[once] {
						seen[once] = true
						all = append(all, wayBack{g.Engineer.String(), a, from, by})
					}
				}
			}
		}
	}
	for _, v := range p.Policy.Vendors {
		for _, e := range v.Engineers {
			for _, a := range e.Addresses {
				all = append(all, wayBack{engineer: e.String(), to: a})
			}
		}
	}
	return all
}

// strayed gives hints about engineers whose answers the host would not send through
// the tunnel. The kernel itself is asked, since rules, tables and metrics of any
// program decide. The ruleset drops answers that stray.
func strayed(p *policy.Plan, to Paths, device string) ([]view.Hint, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	links, err := undisturbed(handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("interfaces: %w", err)
	}
	names, indices := map[int]string{}, map[string]int{}
	for _, l := range links {
		names[l.Attrs().Index], indices[l.Attrs().Name] = l.Attrs().Name, l.Attrs().Index
	}
	if indices[device] == 0 {
		return nil, nil // the tunnel tells that
	}
	ways := waysBack(p, to)
	if noIPv6(device) {
		ways = slices.DeleteFunc(ways, func(w wayBack) bool { return w.to.Is6() })
	}
	own := sync.OnceValue(func() []netlink.Route { // of the tunnel's interface
		routes, _ := handle.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{LinkIndex: indices[device]}, netlink.RT_FILTER_OIF)
		return routes
	})
	engineers, example := map[string][]string{}, map[string]wayBack{} // by the interface that is taken instead
	for _, w := range ways[:min(len(ways), mostBack)] {
		options := &netlink.RouteGetOptions{}
		if w.from.IsValid() {
			options.SrcAddr, options.IifIndex = w.from.AsSlice(), indices[w.by]
		}
		routes, err := handle.RouteGetWithOptions(w.to.AsSlice(), options)
		if err != nil && w.from.IsValid() {
			continue // the kernel would not take the answer in, as with rp_filter
		}
		index, known := leads(routes, err)
		if errors.Is(err, unix.ENETUNREACH) {
			known = slices.ContainsFunc(own(), func(r netlink.Route) bool { return r.Dst != nil && r.Dst.Contains(w.to.AsSlice()) })
		}
		through := names[index]
		if !known || through == device {
			continue
		}
		engineers[through] = append(engineers[through], w.engineer)
		if shorter, ok := example[through]; !ok || shorter.from.IsValid() && !w.from.IsValid() {
			example[through] = w
		}
	}
	var hints []view.Hint
	for _, through := range slices.Sorted(maps.Keys(engineers)) {
		engineers[through] = union(engineers[through])
		args := view.Args{"engineers": view.Few(engineers[through], 5), "interface": device, "command": example[through].command()}
		code := view.Code("way_back_refused")
		if through != "" {
			code, args["through"] = "way_back", through
		}
		hints = append(hints, view.Hint{Message: view.Say(code, args), Engineers: engineers[through]})
	}
	return hints, nil
}

// leads is the index of the interface to which the kernel's answer leads; 0: a route
// or a rule refuses. It is not known while there is no route at all, which the tunnel
// mends; a rule may say so too, though there is one (ENETUNREACH).
func leads(routes []netlink.Route, err error) (through int, known bool) {
	switch {
	case errors.Is(err, unix.EACCES) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.EINVAL): // prohibit, unreachable, blackhole
		return 0, true
	case err != nil || len(routes) == 0 || routes[0].Table == unix.RT_TABLE_UNSPEC:
		return 0, false
	}
	switch routes[0].Type {
	case unix.RTN_PROHIBIT, unix.RTN_UNREACHABLE, unix.RTN_BLACKHOLE:
		return 0, true
	}
	return routes[0].LinkIndex, true
}
