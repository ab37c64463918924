package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// Tests of this package whose names begin with TestFault and a number provoke
// the faults of that number in docs/FAULTS.md.

// bothEngineers is testPolicy with a window that is open for both engineers.
func bothEngineers() *policy.Policy {
	p := testPolicy()
	p.Vendors[0].Windows[0].Engineers = p.Vendors[0].Engineers
	return p
}

// endings is a plan in which the grants of each engineer named end then, and
// the others' do not exist.
func endings(p *policy.Policy, ends map[string]time.Time) *policy.Plan {
	return planAt(p, time.Now()).Restrict(func(g *policy.Grant) *policy.Grant {
		end, ok := ends[g.Engineer.Name]
		if !ok {
			return nil
		}
		g2 := *g
		g2.Until = end
		return &g2
	})
}

// elementsByNft tells what nft, which reads the kernel by itself, says of the
// elements of each set that has any.
func elementsByNft(t *testing.T, h *lab.Host) map[string][]string {
	t.Helper()
	out, err := nft(t, h, "list", "table", "inet", "kidoban")
	if err != nil {
		t.Fatal(out, err)
	}
	all := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?s)\tset (\w+) \{\n(.*?)\n\t\}`).FindAllStringSubmatch(out, -1) {
		if _, list, ok := strings.Cut(m[2], "elements = {"); ok {
			all[m[1]] = strings.Split(strings.TrimSuffix(strings.TrimSpace(list), "}"), ",")
		}
	}
	return all
}

// holds says which engineers' tunnel addresses have flows, all with an end.
func holds(t *testing.T, h *lab.Host) (engineers []string) {
	t.Helper()
	for set, list := range elementsByNft(t, h) {
		for _, e := range list {
			if !strings.Contains(e, "expires") {
				t.Errorf("set %s: %s has no end", set, strings.TrimSpace(e))
			}
			if set == "flows4" {
				engineers = append(engineers, strings.Fields(e)[0])
			}
		}
	}
	slices.Sort(engineers)
	return slices.Compact(engineers)
}

// TestFault02EndedGrantHoldsUpNobody: a grant whose end has come while the
// plan was made is closed, and what the same plan opens opens.
func TestFault02EndedGrantHoldsUpNobody(t *testing.T) {
	h := lab.New(t).Host("gateway")
	f := newFirewall(t, h, testOptions)
	p := bothEngineers()
	for _, left := range []time.Duration{0, -time.Nanosecond, -time.Millisecond, -time.Second, -365 * 24 * time.Hour} {
		now := time.Now()
		if err := f.set(endings(p, map[string]time.Time{"sato": now.Add(time.Hour)}), nil); err != nil {
			t.Fatal(err)
		}
		if err := f.set(endings(p, map[string]time.Time{"sato": now.Add(left), "suzuki": now.Add(time.Hour)}), nil); err != nil {
			t.Errorf("sato's grant ending in %v: %v", left, err)
		}
		if got, want := holds(t, h), []string{colleague4.String()}; !slices.Equal(got, want) {
			t.Errorf("sato's grant ending in %v: flows of %v, want of %v", left, got, want)
		}
	}
}

// TestFault03SetWithoutTimeouts: a set that has lost its flag takes elements
// and forgets when they end. It is found, told and replaced.
func TestFault03SetWithoutTimeouts(t *testing.T) {
	h := lab.New(t).Host("gateway")
	f := newFirewall(t, h, testOptions)
	plan := openPlan(testPolicy(), time.Now().Add(time.Hour))
	if err := f.set(plan, nil); err != nil {
		t.Fatal(err)
	}
	rules, err := Ruleset(f.options, plan, nil, nil, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	const name = "sources4_32"
	forgetful := append([]netlink.Attribute{text(unix.NFTA_SET_NAME, name), be32(unix.NFTA_SET_ID, 1), be32(unix.NFTA_SET_FLAGS, 0)},
		rules.set(name).attributes()[1:]...)
	meddle(t, f, slices.Concat([]netlink.Message{clearChain("tunnel"), clearChain("answers"), deleteSet(name),
		ours(unix.NFT_MSG_NEWSET, netlink.Create, forgetful...),
		elements(unix.NFT_MSG_NEWSETELEM, netlink.Create, name, appendElement(nil, string(vendor4.AsSlice()), 0))},
		rewrite(rules.find("tunnel")), rewrite(rules.find("answers")))...)
	if got := elementsByNft(t, h)[name]; len(got) != 1 || strings.Contains(got[0], "expires") {
		t.Fatalf("the fault was not provoked: set %s holds %q", name, got)
	}
	wantDrift(t, f, "set "+name+": ")
	if got, want := holds(t, h), []string{engineer4.String()}; !slices.Equal(got, want) {
		t.Errorf("mended: flows of %v, want of %v", got, want)
	}
}

// meddle changes the table through its owner's connection, the only one that
// can, as a fault of ours or the kernel's would.
func meddle(t *testing.T, f *ruleset, change ...netlink.Message) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.link.commit(change...); err != nil {
		t.Fatal(err)
	}
}

// wantDrift has Check find something, say so, and leave nothing of it.
func wantDrift(t *testing.T, f *ruleset, want string) {
	t.Helper()
	if err := f.check(); err != nil {
		t.Errorf("Check: %v", err)
	}
	select {
	case fact := <-f.outbox.facts:
		if fact.Kind != policy.Drift || !strings.Contains(fact.Err.Error(), want) {
			t.Errorf("fact %d: %v, want drift: %s", fact.Kind, fact.Err, want)
		}
	default:
		t.Errorf("no fact, want drift: %s", want)
	}
	if err := f.check(); err != nil {
		t.Errorf("Check again: %v", err)
	}
	select {
	case fact := <-f.outbox.facts:
		t.Errorf("Check again: %v", fact.Err)
	default:
	}
}

// TestFault05NothingIsPermanent: however often a plan is set again, and
// whatever its end, no element is without one, or lives longer than a day.
func TestFault05NothingIsPermanent(t *testing.T) {
	h := lab.New(t).Host("gateway")
	f := newFirewall(t, h, testOptions)
	p := bothEngineers()
	now := time.Now()
	for _, step := range []struct {
		name string
		ends map[string]time.Time
		want int // engineers with flows
	}{
		{"an hour", map[string]time.Time{"sato": now.Add(time.Hour)}, 1},
		{"the same again", map[string]time.Time{"sato": now.Add(time.Hour)}, 1},
		{"no end at all", map[string]time.Time{"sato": {}}, 0},
		{"an hour after that", map[string]time.Time{"sato": now.Add(time.Hour), "suzuki": now.Add(time.Hour)}, 2},
		{"8,000 years", map[string]time.Time{"sato": time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), "suzuki": now.Add(time.Hour)}, 2},
		{"8,000 years for both", map[string]time.Time{"sato": time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), "suzuki": time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, 2},
	} {
		for range 2 {
			if err := f.set(endings(p, step.ends), nil); err != nil {
				t.Errorf("%s: %v", step.name, err)
			}
		}
		if got := holds(t, h); len(got) != step.want {
			t.Errorf("%s: flows of %v, want of %d engineers", step.name, got, step.want)
		}
		for set, list := range elementsByNft(t, h) {
			for _, e := range list {
				_, left, _ := strings.Cut(e, "expires ")
				if fields := strings.Fields(left); len(fields) == 0 || duration(t, fields[0]) > farthest+tooLate {
					t.Errorf("%s: set %s: %s", step.name, set, strings.TrimSpace(e))
				}
			}
		}
	}
}

// TestFault06ClosingWhatHasJustEnded: whether the kernel or a command lets an
// element go first, the command succeeds with all else that it has to do.
func TestFault06ClosingWhatHasJustEnded(t *testing.T) {
	h := lab.New(t).Host("gateway")
	f := newFirewall(t, h, testOptions)
	p := bothEngineers()
	for i := range 24 {
		end := time.Now().Add(40 * time.Millisecond)
		if err := f.set(endings(p, map[string]time.Time{"sato": end}), nil); err != nil {
			t.Fatal(err)
		}
		// From 12 ms before the end to 11 ms after it, in which the kernel,
		// which counts in up to 10 ms, lets go at a time of its own.
		time.Sleep(time.Until(end.Add(time.Duration(i-12) * time.Millisecond)))
		if err := f.set(endings(p, map[string]time.Time{"suzuki": end.Add(time.Hour)}), nil); err != nil {
			t.Errorf("closing %v after the end: %v", time.Since(end), err)
		}
		if got, want := holds(t, h), []string{colleague4.String()}; !slices.Equal(got, want) {
			t.Errorf("closing at about %d ms after the end: flows of %v, want of %v", i-12, got, want)
		}
		if err := f.set(nil, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// door is a server at the WireGuard port that tells which sources it heard.
type door struct {
	n      *place
	server net.PacketConn

	mu    sync.Mutex
	heard map[netip.Addr]bool
	count int
}

func newDoor(t *testing.T, n *place) *door {
	t.Helper()
	server, err := n.gateway.ListenPacket("udp", "[::]:51820")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{n: n, server: server, heard: map[netip.Addr]bool{}}
	go func() {
		for {
			_, from, err := server.ReadFrom(make([]byte, 2000))
			if err != nil {
				return
			}
			d.mu.Lock()
			d.heard[from.(*net.UDPAddr).AddrPort().Addr().Unmap()] = true
			d.count++
			d.mu.Unlock()
		}
	}()
	return d
}

// knock sends from each address, and gives those that were heard once all
// have been heard or refused.
func (d *door) knock(t *testing.T, from ...string) []string {
	t.Helper()
	d.mu.Lock()
	d.heard, d.count = map[netip.Addr]bool{}, 0
	d.mu.Unlock()
	refused := d.n.counter(t, refusedSource)
	for _, a := range from {
		address, to := netip.MustParseAddr(a), port(outside4)
		if address.Is6() {
			to = port(outside6)
		}
		if err := d.n.vendor.Send(lab.UDPPacket(netip.AddrPortFrom(address, 4000), to, []byte("knock"))); err != nil {
			t.Fatalf("from %s: %v", a, err)
		}
	}
	var heard []string
	lab.WaitFor(t, 5*time.Second, fmt.Sprintf("%d packets are heard or refused", len(from)), func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		heard = nil
		for _, a := range from {
			if d.heard[netip.MustParseAddr(a)] {
				heard = append(heard, a)
			}
		}
		return d.count+int(d.n.counter(t, refusedSource)-refused) >= len(from)
	})
	return heard
}

// TestFault07ListedPrefixesEndWhereTheyEnd: there are no intervals that
// could lack their ends; the neighbours of each listed prefix are refused.
func TestFault07ListedPrefixesEndWhereTheyEnd(t *testing.T) {
	n := newPlace(t, testOptions)
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	out, err := nft(t, n.gateway, "list", "ruleset")
	if err != nil || strings.Contains(out, "interval") || strings.Contains(out, "auto-merge") {
		t.Errorf("there are interval sets (%v):\n%s", err, out)
	}
	want := []string{"203.0.113.10", "198.51.100.0", "198.51.100.7", "198.51.100.15", "2001:db8:1::", "2001:db8:1::10", "2001:db8:1:0:ffff:ffff:ffff:ffff"}
	neighbours := []string{"203.0.113.9", "203.0.113.11", "203.0.113.255", "198.51.99.255", "198.51.100.16", "198.51.100.255", "223.255.255.255", "255.255.255.254",
		"0.0.0.1", "2001:db8:0:ffff:ffff:ffff:ffff:ffff", "2001:db8:1:1::", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fd00::1"}
	if got := newDoor(t, n).knock(t, append(slices.Clone(want), neighbours...)...); !slices.Equal(got, want) {
		t.Errorf("heard %v, want %v", got, want)
	}
}

// TestFault08OverlappingSources: sources of two vendors that overlap, and
// overlap within one, open together and end each at its own time.
func TestFault08OverlappingSources(t *testing.T) {
	n := newPlace(t, testOptions)
	d := newDoor(t, n)
	p := bothEngineers()
	sato, suzuki := p.Vendors[0].Engineers[0], p.Vendors[0].Engineers[1]
	sato.Sources = lab.Prefixes("203.0.113.10/32", "203.0.113.0/28", "2001:db8:1::/64")
	suzuki.Sources = lab.Prefixes("203.0.113.0/24", "203.0.113.8/29", "2001:db8:1::10/128")
	everyone := []string{"203.0.113.10", "203.0.113.14", "203.0.113.3", "203.0.113.200", "2001:db8:1::10", "2001:db8:1::99", "198.51.100.3"}
	for _, step := range []struct {
		name string
		left map[string]time.Duration
		want []string
	}{
		{"both", map[string]time.Duration{"sato": time.Hour, "suzuki": time.Hour}, everyone[:6]},
		{"sato's end", map[string]time.Duration{"sato": 0, "suzuki": time.Hour}, []string{"203.0.113.10", "203.0.113.14", "203.0.113.3", "203.0.113.200", "2001:db8:1::10"}},
		{"suzuki's end", map[string]time.Duration{"sato": time.Hour, "suzuki": 0}, []string{"203.0.113.10", "203.0.113.14", "203.0.113.3", "2001:db8:1::10", "2001:db8:1::99"}},
		{"nobody", map[string]time.Duration{"sato": 0, "suzuki": 0}, nil},
	} {
		now := time.Now()
		n.set(t, endings(p, map[string]time.Time{"sato": now.Add(step.left["sato"]), "suzuki": now.Add(step.left["suzuki"])}))
		if got := d.knock(t, everyone...); !slices.Equal(got, step.want) {
			t.Errorf("%s: heard %v, want %v", step.name, got, step.want)
		}
	}
	// The same where nobody but the kernel ends the shorter one.
	end := time.Now().Add(400 * time.Millisecond)
	n.set(t, endings(p, map[string]time.Time{"sato": end, "suzuki": end.Add(time.Hour)}))
	lab.WaitFor(t, 5*time.Second, "past sato's end", func() bool { return time.Since(end) > tooLate })
	if got, want := d.knock(t, "203.0.113.10", "203.0.113.3", "2001:db8:1::99"), []string{"203.0.113.10", "203.0.113.3"}; !slices.Equal(got, want) {
		t.Errorf("after the kernel ended sato's: heard %v, want %v", got, want)
	}
}

// TestFault18DormantTable: a table that is put to sleep takes its policies
// along. While the table has an owner not even the owner can do it; on a
// kernel that knows no owners it is found, told and replaced.
func TestFault18DormantTable(t *testing.T) {
	n := newPlace(t, testOptions)
	n.target.Echo("tcp", "10.1.0.5:22")
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	stays(t, "outsider, before", n.outsider, "tcp", "10.1.0.5:22")
	f := n.firewall
	f.mu.Lock()
	err := f.link.commit(ours(unix.NFT_MSG_NEWTABLE, netlink.Create, be32(unix.NFTA_TABLE_FLAGS, uint32(f.flags|nftables.TableFlagDormant))))
	f.mu.Unlock()
	if !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("the owner puts its table to sleep: %v, want it not supported", err)
	}
	if out, err := nft(t, n.gateway, "add table inet kidoban { flags dormant; }"); err == nil {
		t.Errorf("a stranger puts the table to sleep: %s", out)
	}
	stays(t, "outsider, after the attempts", n.outsider, "tcp", "10.1.0.5:22")

	// As on a kernel before 6.9.
	f.mu.Lock()
	f.flags = 0
	err = f.replace()
	f.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	if out, err := nft(t, n.gateway, "add table inet kidoban { flags dormant; }"); err != nil {
		t.Fatal(out, err)
	}
	passes(t, "outsider, while the table sleeps", n.outsider, "tcp", "10.1.0.5:22")
	wantDrift(t, f, "table inet kidoban: attribute 2 is 00000001")
	stays(t, "outsider, after it was found", n.outsider, "tcp", "10.1.0.5:22")
	passes(t, "engineer", n.engineer, "tcp", "10.1.0.5:22")
}

// TestFault19ForeignChains: base chains of other programs, before and after
// ours, that accept or drop all, open nothing more.
func TestFault19ForeignChains(t *testing.T) {
	n := newPlace(t, testOptions)
	d := newDoor(t, n)
	n.target.Echo("tcp", "10.1.0.5:22")
	n.target.Echo("tcp", "10.1.0.5:23")
	n.engineer.Echo("tcp", "10.99.0.2:80")
	n.gateway.Echo("tcp", "0.0.0.0:2200")
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	same := func(when string) {
		t.Helper()
		passes(t, when+": engineer", n.engineer, "tcp", "10.1.0.5:22")
		stays(t, when+": engineer, unlisted port", n.engineer, "tcp", "10.1.0.5:23")
		stays(t, when+": engineer to the gateway", n.engineer, "tcp", "10.99.0.1:2200")
		stays(t, when+": target to the engineer", n.target, "tcp", "10.99.0.2:80")
		stays(t, when+": outsider to the target", n.outsider, "tcp", "10.1.0.5:22")
		if got, want := d.knock(t, "203.0.113.10", "203.0.113.11"), []string{"203.0.113.10"}; !slices.Equal(got, want) {
			t.Errorf("%s: heard %v, want %v", when, got, want)
		}
		if err := n.firewall.check(); err != nil {
			t.Errorf("%s: Check: %v", when, err)
		}
		select {
		case fact := <-n.firewall.outbox.facts:
			if fact.Kind == policy.Drift {
				t.Errorf("%s: %v", when, fact.Err)
			}
		default:
		}
	}
	same("alone")
	for _, family := range []string{"inet", "ip"} {
		var script strings.Builder
		fmt.Fprintf(&script, "table %s docker {\n", family)
		for _, hook := range []string{"prerouting", "input", "forward", "output", "postrouting"} {
			for i, priority := range []int{-1000, -451, -449, -1, 0, 1, 1000} {
				fmt.Fprintf(&script, "chain %s%d { type filter hook %s priority %d; policy accept; accept; }\n", hook, i, hook, priority)
			}
		}
		script.WriteString("}\n")
		if out, err := nft(t, n.gateway, script.String()); err != nil {
			t.Fatal(out, err)
		}
	}
	same("among chains that accept everything")
	if out, err := nft(t, n.gateway, "delete table ip docker; delete table inet docker; add table inet strict; add chain inet strict forward { type filter hook forward priority 10; policy drop; }"); err != nil {
		t.Fatal(out, err)
	}
	stays(t, "a foreign drop", n.engineer, "tcp", "10.1.0.5:22")
	if out, err := nft(t, n.gateway, "delete table inet strict"); err != nil {
		t.Fatal(out, err)
	}
	same("alone again")
}

// TestFault23OneWayStreamOutlivesNothing: a UDP stream that nobody answers
// keeps its conntrack entry alive for ever. Closing ends it, and the kernel
// forgets it, however long it goes on being sent.
func TestFault23OneWayStreamOutlivesNothing(t *testing.T) {
	n := newPlace(t, testOptions)
	if _, err := n.target.ListenPacket("udp", "10.1.0.5:53"); err != nil {
		t.Fatal(err)
	}
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	stream, err := n.engineer.Dial(limited(t, 5*time.Second), "udp", "10.1.0.5:53")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	capture := n.target.Capture("eth0")
	send := func(packets int, payload string) {
		for range packets {
			stream.Write([]byte(payload)) // what arrives is what matters
			time.Sleep(time.Millisecond)
		}
	}
	lab.WaitFor(t, 5*time.Second, "the stream arrives", func() bool {
		send(1, "before")
		return len(capture.Packets(lab.Incoming, saying("before"))) > 20
	})
	if got := n.gateway.ReadSysctl("net.netfilter.nf_conntrack_count"); got == "0" {
		t.Fatal("there is no conntrack entry: the fault was not provoked")
	}
	n.set(t, nil)
	refused := n.counter(t, refusedFlow)
	send(200, "after")
	n.waitCounter(t, refusedFlow, refused+200)
	if got := n.gateway.ReadSysctl("net.netfilter.nf_conntrack_count"); got != "0" {
		t.Errorf("conntrack knows %s flows of a stream that is closed", got)
	}
	if got := capture.Packets(lab.Incoming, saying("after")); len(got) > 0 {
		t.Errorf("%d packets arrived after the end:\n%s", len(got), lab.Lines(got))
	}
}

// TestFault24TargetAfterTheEnd: what the target sends after the end does not
// reach the engineer, neither in flows that were held nor in others.
func TestFault24TargetAfterTheEnd(t *testing.T) {
	n := newPlace(t, testOptions)
	server, err := n.target.ListenPacket("udp", "10.1.0.5:53")
	if err != nil {
		t.Fatal(err)
	}
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	question, err := n.engineer.Dial(limited(t, 5*time.Second), "udp", "10.1.0.5:53")
	if err != nil {
		t.Fatal(err)
	}
	defer question.Close()
	if _, err := question.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	server.SetDeadline(time.Now().Add(5 * time.Second))
	_, asker, err := server.ReadFrom(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	_, held := n.stream(t)

	n.set(t, nil)
	wire := n.engineer.Capture("eth0")
	refused := n.counter(t, refusedInward)
	if _, err := server.WriteTo([]byte("answer"), asker); err != nil {
		t.Fatal(err)
	}
	if _, err := held.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	for _, p := range [][]byte{
		lab.UDPPacket(netip.AddrPortFrom(target4, 9999), netip.AddrPortFrom(engineer4, 9999), []byte("hello")),
		lab.IPPacket(target4, engineer4, policy.ICMP, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}),
		synPacket(target4, 22, engineer4, 22),
		lab.UDPPacket(netip.AddrPortFrom(target6, 53), netip.AddrPortFrom(engineer6, 53), []byte("hello")),
	} {
		if err := n.target.Send(p); err != nil {
			t.Fatal(err)
		}
	}
	n.waitCounter(t, refusedInward, refused+6)
	if got := wire.Packets(lab.Incoming, func(p lab.Packet) bool { return p.Source.Addr() == target4 || p.Source.Addr() == target6 }); len(got) > 0 {
		t.Errorf("the engineer got:\n%s", lab.Lines(got))
	}
}

// allStay tries connections that must not come about, at the same time.
func allStay(t *testing.T, when string, tries ...func(when string)) {
	t.Helper()
	var all sync.WaitGroup
	for _, try := range tries {
		all.Go(func() { try(when) })
	}
	all.Wait()
}

func staying(t *testing.T, what string, h *lab.Host, network, to string) func(when string) {
	return func(when string) { stays(t, when+": "+what, h, network, to) }
}

func unanswered(t *testing.T, what string, h *lab.Host, to netip.Addr) func(when string) {
	return func(when string) {
		if _, err := h.Ping(limited(t, attempt), to); err == nil {
			t.Errorf("%s: %s: ping %v is answered", when, what, to)
		}
	}
}

// TestFault39IPv6IsAsClosed: where IPv4 is closed, so is IPv6, before, while
// and after something is open.
func TestFault39IPv6IsAsClosed(t *testing.T) {
	n := newPlace(t, testOptions)
	n.target.Echo("tcp", "[fd00:1::5]:22")
	n.target.Echo("tcp", "[fd00:1::5]:23")
	n.target.Echo("udp", "[fd00:1::5]:53")
	n.engineer.Echo("tcp", "[fd00:99::2]:80")
	n.outsider.Echo("tcp", "[2001:db8:2::66]:80")
	n.gateway.Echo("tcp", "[::]:2200")
	closed := []func(string){
		staying(t, "outsider to target", n.outsider, "tcp", "[fd00:1::5]:22"), staying(t, "outsider to target", n.outsider, "udp", "[fd00:1::5]:53"),
		unanswered(t, "outsider", n.outsider, target6), staying(t, "vendor to target, outside the tunnel", n.vendor, "tcp", "[fd00:1::5]:22"),
		staying(t, "outsider to engineer", n.outsider, "tcp", "[fd00:99::2]:80"), unanswered(t, "outsider", n.outsider, engineer6),
		staying(t, "target to outsider", n.target, "tcp", "[2001:db8:2::66]:80"), unanswered(t, "target", n.target, outsider6),
		staying(t, "target to engineer", n.target, "tcp", "[fd00:99::2]:80"), unanswered(t, "target", n.target, engineer6),
		staying(t, "engineer to outsider", n.engineer, "tcp", "[2001:db8:2::66]:80"), unanswered(t, "engineer", n.engineer, outsider6),
		staying(t, "engineer, unlisted port", n.engineer, "tcp", "[fd00:1::5]:23"), staying(t, "engineer, unlisted protocol", n.engineer, "udp", "[fd00:1::5]:53"),
		staying(t, "engineer to the gateway", n.engineer, "tcp", "[fd00:99::1]:2200"), staying(t, "engineer to the gateway inside", n.engineer, "tcp", "[fd00:1::1]:2200"),
		unanswered(t, "engineer to the gateway", n.engineer, netip.MustParseAddr("fd00:99::1")),
	}
	listed := []func(string){staying(t, "engineer", n.engineer, "tcp", "[fd00:1::5]:22"), unanswered(t, "engineer", n.engineer, target6)}
	allStay(t, "before", append(closed, listed...)...)
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	passes(t, "engineer", n.engineer, "tcp", "[fd00:1::5]:22")
	if _, err := n.engineer.Ping(limited(t, 5*time.Second), target6); err != nil {
		t.Errorf("engineer: %v", err)
	}
	allStay(t, "while open", closed...)
	n.set(t, nil)
	allStay(t, "after", append(closed, listed...)...)
}

// TestFault40FragmentsInTheTunnel: fragments are judged as the datagram that
// they make, and never without their ports.
func TestFault40FragmentsInTheTunnel(t *testing.T) {
	n := newPlace(t, testOptions)
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	capture := n.target.Capture("eth0")
	whole := func(toPort uint16) []byte {
		return lab.UDPPacket(netip.AddrPortFrom(engineer4, 4000), netip.AddrPortFrom(target4, toPort), []byte("a datagram of several fragments"))
	}
	send := func(id uint16, fragments ...[]byte) {
		t.Helper()
		for _, f := range fragments {
			binary.BigEndian.PutUint16(f[4:], id)
			if err := n.engineer.Send(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	fromEngineer := func() []lab.Packet { return capture.Packets(lab.Incoming, lab.From(engineer4)) }

	listed, unlisted := fragments(whole(53)), fragments(whole(54))
	refused := n.counter(t, refusedFlow)
	send(1, listed[1])                   // without ports
	send(2, listed[0])                   // without the rest
	send(3, unlisted[1], unlisted[0])    // backwards
	send(4, unlisted[0], listed[1])      // the ports are those of the first
	send(5, fragments(whole(53))[1:]...) // what follows a datagram that nobody saw
	n.waitCounter(t, refusedFlow, refused+2)
	if got := fromEngineer(); len(got) > 0 {
		t.Errorf("the target got:\n%s", lab.Lines(got))
	}
	send(6, fragments(whole(53))...)
	lab.WaitFor(t, 5*time.Second, "a listed datagram arrives", func() bool { return len(fromEngineer()) > 0 })
	for _, p := range fromEngineer() {
		if port := p.Destination.Port(); port != 53 && port != 0 { // it may come in pieces again
			t.Errorf("the target got: %v", p)
		}
	}
}

// TestFault40FragmentsOutside: of fragments for the WireGuard port nothing is
// taken, in whatever order, and nothing is said when the kernel gives up
// waiting for the rest; even to a listed source, and to the endpoint of a session.
func TestFault40FragmentsOutside(t *testing.T) {
	from4, from6 := netip.AddrPortFrom(vendor4, 4000), netip.AddrPortFrom(vendor6, 4000)
	t.Run("listed", func(t *testing.T) { fragmentsOutside(t, from4, from6) })
	t.Run("live", func(t *testing.T) { fragmentsOutside(t, from4, from6, from4, from6) })
}

func fragmentsOutside(t *testing.T, from4, from6 netip.AddrPort, live ...netip.AddrPort) {
	n := newPlace(t, testOptions)
	n.gateway.Sysctl("net.ipv4.ipfrag_time", "1")
	n.gateway.Sysctl("net.ipv6.ip6frag_time", "1")
	d := newDoor(t, n)
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)), live...)
	wire := n.vendor.Capture("eth0")
	refused := n.counter(t, refusedFragment)
	four := lab.UDPPacket(from4, port(outside4), make([]byte, 148))
	six := lab.UDPPacket(from6, port(outside6), make([]byte, 148))
	for i, order := range [][]int{{0, 1}, {1, 0}, {0}, {1}, {0, 0}} {
		a, b := fragments(four), fragments6(six)
		for _, at := range order {
			binary.BigEndian.PutUint16(a[at][4:], uint16(100+i))
			b[at][40+7] = byte(100 + i)
			for _, p := range [][]byte{a[at], b[at]} {
				if err := n.vendor.Send(p); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	// A fragment of IPv6 that is the whole datagram (RFC 6946) is one as well.
	atomic := append(append([]byte(nil), six[:40]...), 17, 0, 0, 0, 0, 0, 0x12, 0x67)
	atomic[6] = 44
	binary.BigEndian.PutUint16(atomic[4:], uint16(8+len(six)-40))
	if err := n.vendor.Send(append(atomic, six[40:]...)); err != nil {
		t.Fatal(err)
	}
	n.waitCounter(t, refusedFragment, refused+11) // that, and each first fragment of both families
	waitOver := time.Now().Add(1800 * time.Millisecond)
	for time.Now().Before(waitOver) { // the kernel gives up after a second
		time.Sleep(50 * time.Millisecond)
		if got := wire.Packets(lab.Incoming, func(p lab.Packet) bool {
			to := p.Destination.Addr()
			return (to == vendor4 || to == vendor6) && (p.Protocol != policy.ICMPv6 || p.Payload[0] < 133)
		}); len(got) > 0 {
			t.Fatalf("the vendor got:\n%s", lab.Lines(got))
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.count > 0 {
		t.Errorf("%d datagrams in fragments were taken", d.count)
	}
}

// TestFault42FullScan: of every port of a target, the gateway, and another
// engineer, a vendor reaches the listed ones, and nobody by multicast.
func TestFault42FullScan(t *testing.T) {
	n := newPlace(t, testOptions)
	n.gateway.Echo("tcp", "[::]:2200")
	n.gateway.Echo("udp", "[::]:2200")
	n.set(t, openPlan(bothEngineers(), time.Now().Add(time.Hour)))
	// The way to another engineer leads through the gateway.
	for _, args := range [][]string{{"route", "add", "10.99.0.3/32", "via", "10.99.0.1"}, {"route", "add", "224.0.0.0/4", "via", "10.99.0.1"}, {"-6", "route", "add", "ff05::/16", "via", "fd00:99::1", "dev", "eth0", "table", "local"}} {
		if out, err := n.engineer.Command(t.Context(), "ip", args...).CombinedOutput(); err != nil {
			t.Fatal(args, string(out), err)
		}
	}
	atTarget, atEngineer, outside := n.target.Capture("eth0"), n.engineer.Capture("eth0"), n.outsider.Capture("eth0")
	counted := func() (sum uint64) {
		t.Helper()
		c, err := n.firewall.counters()
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range c {
			sum += one
		}
		return sum
	}
	before, sent := counted(), 0
	send := func(p []byte) {
		t.Helper()
		sent++
		if err := n.engineer.Send(p); err != nil {
			t.Fatal(err)
		}
	}
	udp := func(to netip.AddrPort) []byte {
		return lab.UDPPacket(netip.AddrPortFrom(engineer4, 4000), to, []byte("?"))
	}
	for p := 1; p < 1<<16; p++ {
		send(synPacket(engineer4, 4000, target4, uint16(p)))
		send(udp(netip.AddrPortFrom(target4, uint16(p))))
		send(synPacket(engineer4, 4000, netip.MustParseAddr("10.99.0.1"), uint16(p)))
	}
	for _, to := range []string{"10.99.0.1", "10.1.0.1", "203.0.113.1", "192.0.2.1", "10.99.0.3", "192.0.2.66", "10.1.0.255"} {
		for _, p := range []uint16{22, 53, 80, 2200, 5353, 9586, 51820} {
			send(synPacket(engineer4, 4000, netip.MustParseAddr(to), p))
			send(udp(netip.AddrPortFrom(netip.MustParseAddr(to), p)))
		}
	}
	for protocol := range 256 {
		if p := uint8(protocol); p != policy.TCP && p != policy.UDP && p != policy.ICMP {
			send(lab.IPPacket(engineer4, target4, p, make([]byte, 16)))
		}
	}
	arrived := func() []lab.Packet { return atTarget.Packets(lab.Incoming, lab.From(engineer4)) }
	lab.WaitFor(t, 10*time.Second, fmt.Sprintf("%d packets arrived or were refused", sent), func() bool { return int(counted()-before)+len(arrived()) >= sent })
	// Multicast is not always refused by us: the kernel knows no way.
	for _, group := range []string{"224.0.0.1", "224.0.0.251", "239.255.255.250"} {
		send(udp(netip.AddrPortFrom(netip.MustParseAddr(group), 5353)))
	}
	for range 2 {
		if err := n.engineer.Send(lab.UDPPacket(netip.AddrPortFrom(engineer6, 4000), netip.MustParseAddrPort("[ff05::fb]:5353"), []byte("?"))); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]bool{}
	for _, p := range atTarget.Packets(lab.Incoming, func(p lab.Packet) bool { return p.Source.Addr() == engineer4 || p.Source.Addr() == engineer6 }) {
		got[fmt.Sprintf("%d/%d", p.Protocol, p.Destination.Port())] = true
	}
	if got, want := slices.Sorted(maps.Keys(got)), []string{"17/53", "6/22", "6/5900", "6/5901"}; !slices.Equal(got, want) {
		t.Errorf("protocol/port that reached the target: %v, want %v", got, want)
	}
	fromOthers := func(p lab.Packet) bool {
		return p.Source.Addr() != target4 && (p.Protocol == policy.TCP || p.Protocol == policy.UDP || p.Protocol == policy.ICMP)
	}
	if got := atEngineer.Packets(lab.Incoming, fromOthers); len(got) > 0 {
		t.Errorf("the engineer was answered:\n%s", lab.Lines(got))
	}
	if got := outside.Packets(lab.Incoming, lab.From(engineer4)); len(got) > 0 {
		t.Errorf("the outsider got:\n%s", lab.Lines(got))
	}
}

// TestFault61OutsideToInside: a machine that forwards for the tunnel forwards
// for nobody else.
func TestFault61OutsideToInside(t *testing.T) {
	n := newPlace(t, testOptions)
	n.target.Echo("tcp", "10.1.0.5:22")
	n.target.Echo("udp", "10.1.0.5:53")
	n.outsider.Echo("tcp", "192.0.2.66:22")
	n.vendor.Echo("tcp", "203.0.113.10:22")
	closed := []func(string){
		unanswered(t, "outsider", n.outsider, target4), unanswered(t, "outsider", n.outsider, target6),
		staying(t, "outsider", n.outsider, "tcp", "10.1.0.5:22"), staying(t, "outsider", n.outsider, "udp", "10.1.0.5:53"),
		unanswered(t, "vendor, outside the tunnel", n.vendor, target4), staying(t, "vendor, outside the tunnel", n.vendor, "tcp", "10.1.0.5:22"),
		unanswered(t, "target", n.target, outsider4), staying(t, "target", n.target, "tcp", "192.0.2.66:22"), staying(t, "target", n.target, "tcp", "203.0.113.10:22"),
		unanswered(t, "outsider to vendor", n.outsider, vendor4), staying(t, "outsider to vendor", n.outsider, "tcp", "203.0.113.10:22"),
	}
	allStay(t, "before", closed...)
	n.set(t, openPlan(testPolicy(), time.Now().Add(time.Hour)))
	allStay(t, "while something is open", closed...)
	n.set(t, nil)
	allStay(t, "after", closed...)
	if err := n.firewall.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.outsider.Ping(limited(t, 5*time.Second), target4); err != nil {
		t.Errorf("without the table nothing passes either (%v): the table was not what held it", err)
	}
}

// TestFault63FullSetPassesNothingMore: sources beyond number share the rate
// of their listed prefix; there is no set that they could fill.
func TestFault63FullSetPassesNothingMore(t *testing.T) {
	n := newPlace(t, testOptions)
	p := testPolicy()
	p.Vendors[0].Engineers[0].Sources = lab.Prefixes("198.18.0.0/16")
	n.set(t, openPlan(p, time.Now().Add(time.Hour)))
	held := elementsByNft(t, n.gateway)
	const flood = 40_000
	refused, begin := n.counter(t, refusedSource), time.Now()
	for i := range flood {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 4000)
		if err := n.vendor.Send(lab.UDPPacket(from, port(outside4), []byte("flood"))); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(begin)
	allowed := sourceRate.burst + uint32(float64(sourceRate.packets)*took.Seconds()) + 100
	if allowed > flood*3/4 {
		t.Skipf("this machine took %v for %d packets, which is about a source's rate", took, flood)
	}
	n.waitCounter(t, refusedSource, refused+flood-uint64(allowed))
	passed := flood - (n.counter(t, refusedSource) - refused)
	if passed < uint64(sourceRate.burst)/2 {
		t.Errorf("%d packets of a listed prefix passed, want the burst of %d", passed, sourceRate.burst)
	}
	t.Logf("of %d packets in %v passed %d", flood, took, passed)
	now := elementsByNft(t, n.gateway)
	for _, set := range slices.Sorted(maps.Keys(now)) {
		if len(now[set]) != len(held[set]) {
			t.Errorf("set %s has %d elements, had %d", set, len(now[set]), len(held[set]))
		}
	}
}
