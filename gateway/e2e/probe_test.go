package e2e

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
)

// TestFault131AProbeTouchesNothing: while somebody works, a probe finds everything kept, tells it, and leaves ruleset,
// interfaces, routes, switches, connections and sessions as they are. No packet of it is on the gateway's wires.
func TestFault131AProbeTouchesNothing(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.serve()
	g.open([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
	g.mustEnter(g.client(g.medisys, sato, 4))
	stop, stopped := make(chan struct{}), make(chan int)
	go func() { // every packet of a session is answered
		lost := 0
		for {
			select {
			case <-stop:
				stopped <- lost
				return
			default:
				if _, err := g.medisys.Ping(g.within(eventually), ehr4); err != nil {
					lost++
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
	}()
	lab.WaitFor(t, eventually, "the ruleset knows the session", func() bool { return strings.Contains(g.everything(), "elements = { 203.0.113.10 . ") })
	before := g.everything()
	g.wan.Forget()
	g.lan.Forget()

	out, complaint, exit := g.operator("probe")
	if exit != exitYes || !strings.Contains(out, "All promises are kept") {
		t.Errorf("exit %d: %s%s", exit, out, complaint)
	}
	known := []netip.Addr{outside4.Addr(), outside6.Addr(), medisys4, lan4, lan6, ehr4, ehr6, pacs4, pacs6, g.people[sato].v4} // IPv6 looks for neighbours
	for _, wire := range []*lab.Capture{g.wan, g.lan} {
		foreign := wire.Packets(func(p lab.Packet) bool {
			return !slices.Contains(known, p.Source.Addr()) && !p.Source.Addr().IsLinkLocalUnicast() && !p.Source.Addr().IsUnspecified()
		})
		if len(foreign) > 0 {
			t.Errorf("packets of the probe:\n%s", lab.Lines(foreign))
		}
	}
	if after := g.everything(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	close(stop)
	if lost := <-stopped; lost > 0 {
		t.Errorf("%d packets of the session were lost", lost)
	}

	entries := g.entries(journal.Probe)
	if len(entries) != 1 || entries[0].Reason != "kept" || entries[0].Digest != g.status().Policy.Digest || entries[0].Actor == "" || !strings.Contains(string(entries[0].Event), `{"trial":"wrong_hour","kept":`) {
		t.Errorf("the journal has %+v", entries)
	}
	told := regexp.MustCompile(`(?m)^kidoban_probe_failed_checks 0\n(?s:.*)^kidoban_probe_last_run_timestamp_seconds [1-9].*\n(?s:.*)^kidoban_probe_last_success_timestamp_seconds [1-9]`)
	metrics := func() bool {
		_, text, err := g.get("/metrics")
		return err == nil && told.MatchString(text)
	}
	lab.WaitFor(t, eventually, "the metrics tell it", metrics)
	g.kill()
	g.startAsItIs()
	lab.WaitFor(t, eventually, "the metrics tell it after a restart", metrics)
}

// everything is the state of the gateway's kernel that a probe must not change, without what time and traffic change.
func (g *ground) everything() string {
	g.t.Helper()
	var b strings.Builder
	for _, command := range [][]string{{"nft", "list", "ruleset"}, {"ip", "-o", "addr"}, {"ip", "-o", "link"}, {"ip", "route", "show", "table", "all"}, {"ip", "-6", "route", "show", "table", "all"},
		{"ip", "rule"}, {"sysctl", "net.ipv4.conf", "net.ipv6.conf", "net.netfilter", "net.ipv4.ip_local_reserved_ports"}} {
		out, err := g.gateway.Command(g.within(eventually), command[0], command[1:]...).Output()
		g.check(err)
		b.Write(out)
	}
	var flows []string
	g.check(g.gateway.Do(func() error {
		table, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V4)
		for _, f := range table {
			flows = append(flows, fmt.Sprintf("%d %v %v\n", f.Forward.Protocol, f.Forward.SrcIP, f.Forward.DstIP))
		}
		return err
	}))
	slices.Sort(flows)
	for _, s := range g.status().Sessions {
		flows = append(flows, s.ID)
	}
	moving := regexp.MustCompile(`( expires [0-9smhd]+(ms)?|packets \d+ bytes \d+| expires \d+sec|net\.netfilter\.nf_conntrack_count = \d+)`)
	return moving.ReplaceAllString(b.String(), "") + strings.Join(flows, "")
}
