package firewall

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		child()
	}
	lab.Main(m)
}

// childVariable makes this program hold a firewall until it is killed.
const childVariable = "FIREWALL_TEST_CHILD"

func child() {
	f, err := newRuleset(testOptions)
	if err == nil {
		err = f.set(openPlan(testPolicy(), time.Now().Add(time.Hour)), nil)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("up")
	select {}
}

var testOptions = Options{Interface: "kido0", ListenPort: 51820}

var (
	engineer4, engineer6 = netip.MustParseAddr("10.99.0.2"), netip.MustParseAddr("fd00:99::2")
	colleague4           = netip.MustParseAddr("10.99.0.3")
	target4, target6     = netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("fd00:1::5")
	vendor4, vendor6     = netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("2001:db8:1::10")
	outsider4, outsider6 = netip.MustParseAddr("192.0.2.66"), netip.MustParseAddr("2001:db8:2::66")
	outside4, outside6   = netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8:1::1") // the gateway's, towards the vendor
	faraway4, faraway6   = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:2::1")   // the gateway's, towards the outsider
	inside4              = netip.MustParseAddr("10.1.0.1")                                          // the gateway's, towards the target
	port                 = func(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, testOptions.ListenPort) }
	testZone             = time.UTC
	longAgo, farAhead    = policy.Date{Year: 2020, Month: 1, Day: 1}, policy.Date{Year: 2090, Month: 1, Day: 1}
	always               = &policy.Once{From: policy.LocalTime{Date: longAgo}, Until: policy.LocalTime{Date: farAhead}}
	testPaths            = Paths{netip.PrefixFrom(target4, 32): {"lan"}, netip.PrefixFrom(target6, 128): {"lan"}}
	goldenNow            = time.Date(2026, 12, 1, 3, 0, 0, 0, time.UTC)
)

// testPolicy has one vendor with two engineers, and a window that is open
// for the first of them.
func testPolicy() *policy.Policy {
	host := func(name string, a netip.Addr, services ...policy.Service) *policy.Target {
		return &policy.Target{Name: name, Prefix: netip.PrefixFrom(a, a.BitLen()), Services: services}
	}
	targets := []*policy.Target{
		host("ehr", target4, policy.Service{Protocol: policy.TCP, First: 22, Last: 22}, policy.Service{Protocol: policy.UDP, First: 53, Last: 53},
			policy.Service{Protocol: policy.TCP, First: 5900, Last: 5901}, policy.Service{Protocol: policy.ICMP}),
		host("ehr6", target6, policy.Service{Protocol: policy.TCP, First: 22, Last: 22}, policy.Service{Protocol: policy.ICMPv6}),
	}
	v := &policy.Vendor{Name: "medisys", Sources: []netip.Prefix{
		netip.MustParsePrefix("203.0.113.10/32"), netip.MustParsePrefix("198.51.100.0/28"), netip.MustParsePrefix("2001:db8:1::/64")}}
	sato := &policy.Engineer{Vendor: v, Name: "sato", Key: policy.Key{1}, Addresses: []netip.Addr{engineer4, engineer6}, Sources: v.Sources}
	suzuki := &policy.Engineer{Vendor: v, Name: "suzuki", Key: policy.Key{2}, Addresses: []netip.Addr{colleague4}, Sources: v.Sources[:1]}
	v.Engineers = []*policy.Engineer{sato, suzuki}
	v.Windows = []*policy.Window{{Vendor: v, Name: "support", Schedule: always, Targets: targets, Engineers: []*policy.Engineer{sato}}}
	return &policy.Policy{Site: "test", Zone: testZone, Targets: targets, Vendors: []*policy.Vendor{v},
		Tunnel: policy.Tunnel{Addresses: []netip.Prefix{netip.MustParsePrefix("10.99.0.1/24"), netip.MustParsePrefix("fd00:99::1/64")}}}
}

// planAt is the plan of a policy at an instant.
func planAt(p *policy.Policy, at time.Time) *policy.Plan {
	s := policy.NewState()
	if err := s.Apply(at, "test", policy.PolicyLoaded{Policy: p}); err != nil {
		panic(err)
	}
	return s.Plan(at)
}

// openPlan is the plan of a policy now, with all that is open ending at until.
func openPlan(p *policy.Policy, until time.Time) *policy.Plan {
	return planAt(p, time.Now()).Restrict(func(g *policy.Grant) *policy.Grant {
		g2 := *g
		g2.Until = until
		return &g2
	})
}

// place is a gateway between the tunnel (a cable here, since the firewall
// sees no difference), a vendor, an outsider and a target:
//
//	engineer 10.99.0.2 --- kido0 .1 |         | lan 10.1.0.1 --- 10.1.0.5 target
//	                                | gateway |
//	vendor 203.0.113.10 ---- wan .1 |         | far 192.0.2.1 --- 192.0.2.66 outsider
type place struct {
	lab                                         *lab.Lab
	gateway, engineer, vendor, outsider, target *lab.Host
	firewall                                    *ruleset
}

func newPlace(t *testing.T, o Options) *place {
	l := lab.New(t)
	n := &place{lab: l, gateway: l.Host("gateway"), engineer: l.Host("engineer"), vendor: l.Host("vendor"), outsider: l.Host("outsider"), target: l.Host("target")}
	link := func(mine, my4, my6 string, other *lab.Host, its4, its6 string) {
		l.Link(n.gateway, mine, lab.Prefixes(my4, my6), other, "eth0", lab.Prefixes(its4, its6))
		other.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix(my4).Addr())
		other.Route(netip.MustParsePrefix("::/0"), netip.MustParsePrefix(my6).Addr())
	}
	link("kido0", "10.99.0.1/24", "fd00:99::1/64", n.engineer, "10.99.0.2/24", "fd00:99::2/64")
	link("wan", "203.0.113.1/24", "2001:db8:1::1/64", n.vendor, "203.0.113.10/24", "2001:db8:1::10/64")
	link("far", "192.0.2.1/24", "2001:db8:2::1/64", n.outsider, "192.0.2.66/24", "2001:db8:2::66/64")
	link("lan", "10.1.0.1/24", "fd00:1::1/64", n.target, "10.1.0.5/24", "fd00:1::5/64")
	// A tunnel asks nobody for its neighbours; the gateway would not answer
	// there, nor ask.
	neighbour := func(h *lab.Host, device string, a string, of *lab.Host, ofDevice string) {
		var link *net.Interface
		if err := of.Do(func() (err error) { link, err = net.InterfaceByName(ofDevice); return err }); err != nil {
			t.Fatal(err)
		}
		if out, err := h.Command(t.Context(), "ip", "neigh", "replace", a, "lladdr", link.HardwareAddr.String(), "dev", device, "nud", "permanent").CombinedOutput(); err != nil {
			t.Fatal(err, string(out))
		}
	}
	neighbour(n.engineer, "eth0", "fd00:99::1", n.gateway, "kido0")
	neighbour(n.gateway, "kido0", "fd00:99::2", n.engineer, "eth0")
	n.firewall = newFirewall(t, n.gateway, o)
	if err := n.firewall.setPaths(testPaths, nil); err != nil {
		t.Fatal(err)
	}
	n.gateway.Forward()
	return n
}

func newFirewall(t *testing.T, h *lab.Host, o Options) *ruleset {
	t.Helper()
	var f *ruleset
	if err := h.Do(func() (err error) { f, err = newRuleset(o); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (n *place) set(t *testing.T, p *policy.Plan, live ...netip.AddrPort) {
	t.Helper()
	if err := n.firewall.set(p, live); err != nil {
		t.Fatal(err)
	}
}

// counted waits until a counter has at least so many packets more than before.
func (n *place) counter(t *testing.T, name string) uint64 {
	t.Helper()
	c, err := n.firewall.counters()
	if err != nil {
		t.Fatal(err)
	}
	return c[cause(name)]
}

func (n *place) waitCounter(t *testing.T, name string, want uint64) {
	t.Helper()
	lab.WaitFor(t, 5*time.Second, fmt.Sprintf("counter %s at %d", name, want), func() bool { return n.counter(t, name) >= want })
}

func limited(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func nft(t *testing.T, h *lab.Host, args ...string) (string, error) {
	t.Helper()
	out, err := h.Command(t.Context(), "nft", args...).CombinedOutput()
	return string(out), err
}

// stream is a stream of the engineer to the target, and gives both its ends.
func (n *place) stream(t *testing.T) (engineer, target net.Conn) {
	t.Helper()
	listener, err := n.target.Listen("tcp", "10.1.0.5:22")
	if err != nil {
		t.Fatal(err)
	}
	engineer, err = n.engineer.Dial(limited(t, 5*time.Second), "tcp", "10.1.0.5:22")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engineer.Close() })
	target, err = listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Close() })
	return engineer, target
}

// An administrator whose kernel is too old has to learn so from the error, and
// nobody else.
func TestExplained(t *testing.T) {
	for _, c := range []struct {
		err     error
		release string
		want    string // what is said beside the error
	}{
		{unix.EINVAL, "5.15.0-91-generic", ": this kernel is 5.15.0-91-generic; Kidoban needs Linux 6.6.3 or later (destroy commands of nf_tables)"},
		{unix.EINVAL, "6.1.0-13-amd64", ": this kernel is 6.1.0-13-amd64; Kidoban needs Linux 6.6.3 or later (destroy commands of nf_tables)"},
		{unix.ENOENT, "6.6.2", ": this kernel is 6.6.2; Kidoban needs Linux 6.6.3 or later (destroy commands of nf_tables)"},
		{unix.ENOMEM, "6.1.0-13-amd64", ""},
		{unix.ENOENT, "6.6.3", ""},
		{unix.EINVAL, "6.12-rc1", ""},
		{unix.EINVAL, "10.0.1", ""},
		{unix.EPERM, "6.12.5", ": another process owns table inet kidoban, or CAP_NET_ADMIN is missing"},
	} {
		if got := explained(c.err, c.release); got.Error() != c.err.Error()+c.want || !errors.Is(got, c.err) {
			t.Errorf("explained(%v, %s) = %q, want %q", c.err, c.release, got, c.err.Error()+c.want)
		}
	}
}

// A kernel answers a message that it does not know, as destroy commands are to
// old ones, with the error that is explained.
func TestUnknownMessage(t *testing.T) {
	n := newPlace(t, testOptions)
	const unknown = 0xff
	if err := n.firewall.link.commit(message(unknown, 0)); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a message of an unknown kind: %v, want %v", err, unix.EINVAL)
	}
}
