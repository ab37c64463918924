package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
	"kidoban/gateway/session"
)

// TestFault79ReloadBehindAnotherTransaction: another program's transaction
// keeps the kernel from taking a ruleset for seconds. A target that a reload
// takes away is closed all the same, to an engineer who keeps another one.
//
// No other test runs beside it: the transaction takes one processor for itself.
func TestFault79ReloadBehindAnotherTransaction(t *testing.T) {
	hold(t, func(g *ground) {
		const lag = oneLag + patience
		g.sinks()
		pacs := netip.AddrPortFrom(pacs4, 104)
		g.hospital.Echo("tcp", pacs.String())
		begun := time.Now().Truncate(time.Second).Add(-time.Hour)
		approve := func(targets string) {
			g.approve([]string{window("work", begun, begun.Add(3*time.Hour), targets)}, []string{nextYear("later", "pacs")})
		}
		approve("ehr, ehr6, pacs")
		g.startReady()
		client := g.client(g.medisys, sato, 4)
		wire := g.tunnelWire(g.medisys)
		shows := false
		// How long the kernel takes for so many differs from machine to machine.
		for _, ranges := range []int{17000, 24000, 34000, 48000, 68000, 96000} {
			g.mustEnter(client)
			flows := g.flow()
			digest := g.status().Policy.Digest
			approve("pacs")
			over := g.busyKernel(ranges)
			answered := make(chan struct{})
			go func() {
				defer close(answered)
				g.operator("reload") // it fails if the kernel takes more than 3 s
			}()
			lab.WaitFor(g.t, eventually, "the policy is in force", func() bool { return g.status().Policy.Digest != digest })
			loaded := *g.status().Policy.LoadedAt
			until(loaded.Add(lag + patience))
			shows = g.rulesetWaits() > time.Second
			flows.stop()
			g.t.Logf("%d ranges: the kernel was busy for long enough: %t", ranges, shows)
			if shows {
				g.stopped("removed", flows, wire, loaded, lag)
				if err := g.enter(client, patience); err == nil && g.rulesetWaits() > time.Second {
					g.breaks("entered: sato, while the kernel still has what is not sato's any more")
				}
			}
			<-answered
			<-over
			if shows {
				break
			}
			approve("ehr, ehr6, pacs")
			g.must("reload")
		}
		if !shows {
			g.t.Fatal("the kernel was never busy for long enough: this shows nothing")
		}
		g.holds(g.enter(client, eventually), "kept: the kernel answers, and sato cannot enter")
		g.holds(g.reach(g.medisys, "tcp", pacs, eventually), "kept: sato is inside again, and does not reach pacs")
		if g.reach(g.medisys, "tcp", netip.AddrPortFrom(ehr4, 22), patience) == nil {
			g.breaks("removed: sato reaches ehr")
		}
		g.expect("recorded: the journal does not say that a session was cut", eventually, func() error {
			closed := g.entries(journal.SessionClosed)
			if !slices.ContainsFunc(closed, func(e journal.Entry) bool {
				return e.Engineer == "sato" && e.Reason == string(session.PolicyChanged)
			}) {
				return fmt.Errorf("%+v", closed)
			}
			return nil
		})
	})
}

// busyKernel has another program give the kernel a set of many ranges, in one
// transaction, and returns when that is under way. What it gives is closed when
// the program has ended.
func (g *ground) busyKernel(ranges int) <-chan struct{} {
	g.t.Helper()
	// With a second field the kernel takes each range apart and writes its
	// tables anew, all within the transaction; nft itself is soon done.
	var all []string
	first := netip.MustParseAddr("20.0.0.0").As4()
	for i := range ranges {
		address := func(last int) netip.Addr {
			n := i<<10 + last
			return netip.AddrFrom4([4]byte{first[0] + byte(n>>24), byte(n >> 16), byte(n >> 8), byte(n)})
		}
		all = append(all, fmt.Sprintf("%v-%v . 1-65534", address(1), address(1022)))
	}
	name := fmt.Sprintf("other%d", ranges)
	file := filepath.Join(g.folder, name)
	g.write(file, fmt.Sprintf("table inet %s {\n set many { type ipv4_addr . inet_service; flags interval; elements = { %s } }\n}\n", name, strings.Join(all, ", ")))
	nft := g.gateway.Command(g.t.Context(), "nft", "-f", file)
	g.check(nft.Start())
	over := make(chan struct{})
	go func() { _ = nft.Wait(); close(over) }()
	lab.WaitFor(g.t, 4*eventually, "the kernel works on the other program's transaction", func() bool {
		select {
		case <-over:
			return true
		default:
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", nft.Process.Pid))
		fields := strings.Fields(string(text))
		if err != nil || len(fields) < 15 {
			return false
		}
		ticks, err := strconv.Atoi(fields[14]) // in the kernel, of 10 ms each (proc_pid_stat(5)); reading the file takes a few
		return err == nil && ticks >= 30
	})
	return over
}

// rulesetWaits is for how long the gateway has waited for the kernel.
func (g *ground) rulesetWaits() time.Duration {
	g.t.Helper()
	seconds, err := g.metric("kidoban_ruleset_waiting_seconds")
	g.check(err)
	return time.Duration(seconds * float64(time.Second))
}
