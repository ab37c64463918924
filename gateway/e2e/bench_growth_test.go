package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kidoban/gateway"
	"kidoban/gateway/lab"
)

var staffed = flag.Int("engineers", 38, "with how many engineers TestGrowth tries itself")

// TestGrowth prints the table of growth of docs/PERFORMANCE.md: what a start, a close, a reload and a
// close of everything take when more engineers have open windows. One of them is inside.
//
//	make bench
//
// Without -performance it tries itself with a few engineers.
func TestGrowth(t *testing.T) {
	lab.Require(t)
	sizes, n := []int{*staffed}, 1
	if *performance {
		sizes, n = []int{38, 1000, 10_003}, 11
	} else if *staffed > 38 {
		n = 5
	}
	for _, engineers := range sizes {
		t.Run(fmt.Sprint(engineers), func(t *testing.T) { newGrowth(t, engineers).measure(n) })
	}
}

// growth is a gateway of many engineers.
type growth struct {
	*ground
	client *lab.Client // of sato, who is inside
	device string      // of that client
	rows   []string
}

func newGrowth(t *testing.T, engineers int) *growth {
	g := &growth{ground: newGround(t)}
	for i := len(g.people); i < engineers; i++ {
		g.oneOfMany(i)
	}
	work := []string{hour("work", "ehr, ehr6")}
	g.write(g.policyFile(), strings.Replace(g.policyText(work, work), smallTunnel, largeTunnel, 1))
	if *profiles != "" {
		g.profiled(fmt.Sprintf("growth-%d", engineers))
	}
	g.check(os.MkdirAll(g.stateDir(), 0o700))
	g.writeKey(g.privateKey)
	t.Cleanup(func() {
		_ = g.process.Process.Kill() // an error means that it has ended
		<-g.ended
		if t.Failed() {
			t.Logf("the gateway's log:\n%s", g.log())
		}
	})
	return g
}

// The tunnel's network in the policy, and one with room for the engineers of oneOfMany.
const smallTunnel, largeTunnel = "10.99.0.1/24", "10.99.0.1/16"

// oneOfMany adds an engineer of medisys by number.
func (g *ground) oneOfMany(i int) *person {
	p := g.person(fmt.Sprintf("medisys/engineer%05d", i), 0, "")
	p.v4 = netip.AddrFrom4([4]byte{10, 99, byte(1 + i/250), byte(1 + i%250)})
	p.v6 = netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x99, 13: 1, 14: byte(i >> 8), 15: byte(i)})
	return p
}

// profiled has the gateway write processor profiles into the folder of -profile, each between two signals.
func (g *growth) profiled(name string) {
	g.settings = append(g.settings, profileVariable+"="+filepath.Join(*profiles, name))
}

// measure prints one row of the table for each of what is measured n times.
func (g *growth) measure(n int) {
	starts, resident := make([]time.Duration, n), make([]float64, n)
	for i := range n {
		starts[i] = g.begin()
		resident[i] = g.resident("VmRSS")
		if i < n-1 {
			g.signal(syscall.SIGTERM)
			<-g.ended
		}
	}
	g.row("start until ready", starts)
	slices.Sort(resident)
	g.rows = append(g.rows, fmt.Sprintf("resident when ready: p50 %.0f MB, greatest %.0f MB", resident[n/2], resident[n-1]))
	g.hospital.Echo("udp", netip.AddrPortFrom(ehr4, 53).String())
	g.client = g.ground.client(g.medisys, sato, 4)
	g.check(g.medisys.Do(func() (err error) { g.device, err = routeTo(ehr4); return err }))
	g.profile(syscall.SIGUSR1)
	g.closes("close of one", sato, n)
	g.profile(syscall.SIGUSR2)
	reloads := make([]time.Duration, n)
	for i := range n {
		reloads[i], _ = g.command("reload", nil)
	}
	g.row("reload of the same policy", reloads)
	g.closes("close --all", "all", n)
	g.rows = append(g.rows, fmt.Sprintf("resident at the end: %.0f MB, at most %.0f MB", g.resident("VmRSS"), g.resident("VmHWM")))
	fmt.Printf("\n%d engineers, %s%s\n", len(g.people), machineLine(), strings.Join(g.rows, "\n"))
}

func (g *growth) profile(s syscall.Signal) {
	if *profiles != "" {
		g.signal(s)
		pause(patience)
	}
}

// begin starts the gateway, and returns how long it took until somebody could enter.
func (g *growth) begin() time.Duration {
	begin := time.Now()
	g.launch()
	lab.WaitFor(g.t, 2*eventually, "ready", func() bool {
		status, _, err := g.get("/readyz")
		return err == nil && status == 200
	})
	return time.Since(begin)
}

// resident reads a line of the gateway's memory, in MB.
func (g *growth) resident(line string) float64 {
	g.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.process.Process.Pid))
	g.check(err)
	m := regexp.MustCompile(line + `:\s+(\d+) kB`).FindSubmatch(text)
	kB, err := strconv.Atoi(string(m[1]))
	g.check(err)
	return float64(kB) / 1024
}

// closes closes a scope n times while sato works, and opens it again.
func (g *growth) closes(what, scope string, n int) {
	var answers, packets []time.Duration
	idle, partial := 0, 0 // rounds that are left out
	for range 3 * n {
		g.mustEnter(g.client)
		g.lan.Forget()
		at := time.Now().Add(200 * time.Millisecond)
		var work sync.WaitGroup
		work.Go(func() { g.stream(g.people[sato], g.device, at.Add(500*time.Millisecond)) })
		work.Go(func() { g.stream(g.people[sato], g.device, at) })
		until(at)
		answer, out := g.command("close", map[string]any{"scope": scope, "reason": "a measurement"})
		work.Wait()
		g.command("reopen", map[string]any{"scope": scope, "reason": "a measurement"})
		sent := g.lan.Packets(lab.Outgoing, lab.From(g.people[sato].v4))
		switch {
		case !out.Applied || !out.Recorded: // the answer says so after a while, and the close goes on
			partial++
			continue
		case len(sent) == 0 || out.Sessions != 1: // sato was out before, as for want of an entry on disk
			idle++
			continue
		}
		answers = append(answers, answer)
		packets = append(packets, max(0, sent[len(sent)-1].At.Sub(at)))
		if len(answers) == n {
			break
		}
	}
	if len(answers) < n {
		g.t.Fatalf("%s: %d of %d rounds could be measured; in %d sato was not inside, and in %d the close was not applied or recorded in time", what, len(answers), 3*n, idle, partial)
	}
	g.row(what+", until the answer", answers)
	g.row(what+", until the last packet", packets)
	g.rows = append(g.rows, fmt.Sprintf("... rounds left out: %d in which sato was not inside, %d in which the close was not applied or recorded in time", idle, partial))
}

// command gives a command over the socket, and returns how long the answer took.
func (g *growth) command(name string, body any) (took time.Duration, out gateway.Outcome) {
	g.t.Helper()
	begin := time.Now()
	text, _, err := g.socket().Post("/v1/"+name, body)
	took = time.Since(begin)
	g.check(err)
	g.check(json.Unmarshal(text, &out))
	return took, out
}

func (g *growth) row(what string, all []time.Duration) {
	slices.Sort(all)
	ms := func(d time.Duration) float64 { return d.Seconds() * 1e3 }
	g.rows = append(g.rows, fmt.Sprintf("%s: p50 %.1f ms, greatest %.1f ms", what, ms(all[len(all)/2]), ms(all[len(all)-1])))
}
