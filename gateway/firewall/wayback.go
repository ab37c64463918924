package firewall

import (
	"cmp"
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

// wayBack is a way to ask the kernel for: of a packet to an engineer, or to a host on a plain line. If
// from is valid, the packet is an answer of a target that comes by an interface.
type wayBack struct {
	engineer string
	to, from netip.Addr
	by       string
	line     string // the interface of the plain line by which it must leave; empty: the tunnel
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
						all = append(all, wayBack{g.Engineer.String(), a, from, by, plainLine(g.Engineer)})
					}
				}
			}
		}
	}
	for _, v := range p.Policy.Vendors {
		for _, e := range v.Engineers {
			for _, a := range e.Addresses {
				all = append(all, wayBack{engineer: e.String(), to: a, line: plainLine(e)})
			}
		}
	}
	return all
}

// plainLine is the interface of a host's plain line; empty for engineers.
func plainLine(e *policy.Engineer) string {
	if !e.Plain() {
		return ""
	}
	return e.Line.Interface
}

// strayed gives hints about engineers whose answers would not leave through the tunnel, and
// about hosts on plain lines whose answers would not leave by their line. The kernel itself is asked, since
// rules, tables and metrics of any program decide. The ruleset drops answers that stray.
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
	off := noIPv6(device)
	ways := slices.DeleteFunc(waysBack(p, to), func(w wayBack) bool {
		// A missing interface is told elsewhere: by the tunnel, and by comeBy.
		return indices[cmp.Or(w.line, device)] == 0 || w.line == "" && off && w.to.Is6()
	})
	own := sync.OnceValue(func() []netlink.Route { // of the tunnel's interface
		routes, _ := handle.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{LinkIndex: indices[device]}, netlink.RT_FILTER_OIF)
		return routes
	})
	type detour struct{ instead, line string } // the interface that is taken, and the line's that should be
	engineers, example := map[detour][]string{}, map[detour]wayBack{}
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
			known = w.line != "" || slices.ContainsFunc(own(), func(r netlink.Route) bool { return r.Dst != nil && r.Dst.Contains(w.to.AsSlice()) })
		}
		through := detour{names[index], w.line}
		if !known || through.instead == cmp.Or(w.line, device) {
			continue
		}
		engineers[through] = append(engineers[through], w.engineer)
		if shorter, ok := example[through]; !ok || shorter.from.IsValid() && !w.from.IsValid() {
			example[through] = w
		}
	}
	var hints []view.Hint
	order := func(a, b detour) int { return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.instead, b.instead)) }
	for _, way := range slices.SortedFunc(maps.Keys(engineers), order) {
		names := union(engineers[way])
		args := view.Args{"engineers": view.Few(names, 5), "interface": cmp.Or(way.line, device), "command": example[way].command()}
		code, refused := view.Code("way_back"), view.Code("way_back_refused")
		if way.line != "" {
			code, refused = "way_back_line", "way_back_line_refused"
		}
		if way.instead == "" {
			code = refused
		} else {
			args["through"] = way.instead
		}
		hints = append(hints, view.Hint{Message: view.Say(code, args), Engineers: names})
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
