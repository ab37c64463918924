package probe

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// ground is the site that the probe builds.
type ground struct {
	lab     *lab.Lab
	free    *addresses
	gateway *lab.Host
	site    *lab.Host
	wire    *lab.Capture      // of the site
	lan     string            // the gateway's interface that leads to the site
	wan     string            // the gateway's interface for callers without a line
	outside [2]netip.Addr     // the gateway's own addresses towards callers, IPv4 and IPv6
	near    [2]netip.Addr     // the gateway's own addresses towards the site
	routers map[string]*entry // by the interface of the gateway
	served  map[string]bool   // services of the site, as "tcp 10.1.0.5:22"
}

// entry is an interface by which callers come to the gateway, and the router behind it.
type entry struct {
	router *lab.Host
	own    [2]netip.Addr // the router's
	ports  int
}

// caller is a host outside, from which a subject tries.
type caller struct {
	*subject
	place    int // among the callers
	host     *lab.Host
	sources  [2]netip.Addr // IPv4 and IPv6; invalid: none
	outsider [2]netip.Addr // an unlisted address of the same host, for each source

	shaking sync.Mutex // held during a handshake
}

// anyPort lets a process without a capability for it serve ports below a number, in one namespace.
const anyPort = "net.ipv4.ip_unprivileged_port_start"

// port is the interface of every host but the gateway and the routers.
const port = "eth0"

// family is 0 for IPv4 and 1 for IPv6.
func family(a netip.Addr) int {
	if a.Is6() {
		return 1
	}
	return 0
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// both returns the valid ones of two addresses, as prefixes.
func both(pair [2]netip.Addr) (all []netip.Prefix) {
	for _, a := range pair {
		if a.IsValid() {
			all = append(all, single(a))
		}
	}
	return all
}

var everywhere = lab.Prefixes("0.0.0.0/0", "::/0")

// newGround makes gateway and site.
func newGround(l *lab.Lab, p *policy.Policy, tunnel string) *ground {
	g := &ground{lab: l, free: &addresses{p, map[netip.Addr]bool{}}, gateway: l.Host("gateway"), site: l.Host("site"), routers: map[string]*entry{}, served: map[string]bool{},
		lan: unused(p, tunnel, "lan"), wan: unused(p, tunnel, "wan")}
	g.site.Sysctl(anyPort, "0")
	g.outside = [2]netip.Addr{g.free.free(false), g.free.free(true)}
	far := [2]netip.Addr{g.free.free(false), g.free.free(true)}
	g.near = [2]netip.Addr{g.free.free(false), g.free.free(true)}
	l.Link(g.gateway, g.lan, both(g.near), g.site, port, both(far))
	for i := range everywhere {
		g.site.RouteBy(everywhere[i], g.near[i], port, netip.Addr{})
		g.gateway.RouteBy(everywhere[i], far[i], g.lan, netip.Addr{}) // to every target
	}
	g.wire = g.site.CaptureUntimed(port)
	return g
}

// unused returns a name that is not the interface of a line or of the tunnel.
func unused(p *policy.Policy, tunnel, begins string) string {
	for n := 0; ; n++ {
		name := fmt.Sprint(begins, n)
		if name != tunnel && !slices.ContainsFunc(p.Lines, func(l *policy.Line) bool { return l.Interface == name }) {
			return name
		}
	}
}

// entryBy gives the router behind an interface of the gateway.
func (g *ground) entryBy(name string) *entry {
	if e := g.routers[name]; e != nil {
		return e
	}
	e := &entry{router: g.lab.Host("router " + name), own: [2]netip.Addr{g.free.free(false), g.free.free(true)}}
	g.lab.Link(g.gateway, name, both(g.outside), e.router, port, both(e.own))
	e.router.Forward()
	for i, a := range g.outside {
		e.router.RouteBy(everywhere[i], a, port, netip.Addr{})
		g.gateway.RouteBy(single(e.own[i]), netip.Addr{}, name, netip.Addr{})
	}
	g.routers[name] = e
	return e
}

// join puts a caller behind an interface of the gateway.
func (g *ground) join(c *caller, name string) {
	e := g.entryBy(name)
	e.ports++
	to := fmt.Sprintf("to%d", e.ports)
	c.host = g.lab.Host("caller")
	c.host.Sysctl(anyPort, "0")
	g.lab.Link(c.host, port, append(both(c.sources), both(c.outsider)...), e.router, to, both(e.own))
	for i, source := range c.sources {
		if !source.IsValid() {
			continue
		}
		for _, a := range []netip.Addr{source, c.outsider[i]} {
			e.router.RouteBy(single(a), netip.Addr{}, to, netip.Addr{})
			g.gateway.RouteBy(single(a), e.own[i], name, netip.Addr{})
		}
		c.host.RouteBy(everywhere[i], e.own[i], port, source) // with IPv6 the kernel might choose the outsider's address (RFC 6724, section 5, rule 8)
	}
}

// serve has the site answer at an address and port.
func (g *ground) serve(s service) {
	if !g.served[s.to.Addr().String()] {
		g.served[s.to.Addr().String()] = true
		g.site.Address(port, single(s.to.Addr()))
	}
	if key := s.network + " " + s.to.String(); s.network != ping && !g.served[key] {
		g.served[key] = true
		g.site.Echo(s.network, s.to.String())
	}
}

// service is something that a caller tries to reach.
type service struct {
	network string // tcp, udp or ping
	to      netip.AddrPort
}

const ping = "ping"

func (s service) protocol() uint8 {
	switch {
	case s.network == "tcp":
		return policy.TCP
	case s.network == "udp":
		return policy.UDP
	case s.to.Addr().Is6():
		return policy.ICMPv6
	}
	return policy.ICMP
}

func (s service) String() string {
	if s.network == ping {
		return "icmp " + s.to.Addr().String()
	}
	return s.network + " " + s.to.String()
}

// patience is how long a trial waits for an event that must not happen. eventually is how long it waits for an event that
// must happen, on a busy machine.
const (
	patience   = 300 * time.Millisecond
	eventually = 15 * time.Second
)
