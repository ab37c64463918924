package e2e

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"kidoban/gateway/lab"
)

var (
	performance = flag.Bool("performance", false, "have TestPerformance measure everything, for minutes, and not just try itself")
	rounds      = flag.Int("rounds", 48, "how often TestPerformance alternates between gateways")
	onlyWays    = flag.String("ways", "", "the kinds of traffic that TestPerformance measures, with commas, as tcp-up,small-down; empty: all")
	onlyParts   = flag.String("only", "", "the parts of TestPerformance, with commas, as throughput; empty: all")
	against     = flag.String("against", "", "the path of another kidoban, for TestPerformance to measure in the same rounds")
	withOpenVPN = flag.Bool("openvpn", true, "have TestPerformance with -performance measure OpenVPN too")
	layers      = flag.Bool("layers", false, "have TestPerformance also measure Kidoban without the ruleset, and without the counts of flows")
	profiles    = flag.String("profile", "", "a folder for processor profiles of the gateway by TestPerformance: a folder for each kind of traffic, a file for each round")
)

// TestPerformance prints the tables of docs/PERFORMANCE.md:
//
//	make bench
//
// With -performance it fails where a bar is missed beyond doubt. Without it
// measures for moments and compares nothing, so that the tools of measuring
// are kept in order by every test run.
func TestPerformance(t *testing.T) {
	lab.Require(t)
	chosenWays, err := choose("-ways", *onlyWays, ways, func(w way) string { return w.flag })
	chosenParts, wrong := choose("-only", *onlyParts, parts, func(p part) string { return p.flag })
	if err = errors.Join(err, wrong); *rounds < 1 {
		err = errors.Join(err, fmt.Errorf("-rounds=%d: allowed is 1 and more", *rounds))
	}
	if err != nil {
		t.Fatal(err)
	}
	b := board{head: []string{"what", "kidoban", "plain wireguard-go", "ratio (95 %)", "plain with itself", "beside it"}}
	if !*performance {
		b.throughput(t, chosenWays)
		t.Log("\n" + b.String())
		return
	}
	for _, p := range chosenParts {
		p.measure(&b, t, chosenWays)
	}
	fmt.Printf("\n%s\n%s\n", machineLine(), b.String())
}

// part is a part of TestPerformance, which adds rows to the table.
type part struct {
	flag    string // its name on the command line
	measure func(b *board, t *testing.T, chosen []way)
}

var parts = []part{
	{"throughput", (*board).throughput},
	{"cipher", alone((*board).cipher)},
	{"policy", alone((*board).policy)},
	{"memory", alone((*board).memory)},
	{"closing", alone((*board).closing)},
	{"requests", alone((*board).requests)},
	{"together", alone((*board).together)},
}

// alone makes a part of a measurement without ways.
func alone(f func(*board, *testing.T)) func(*board, *testing.T, []way) {
	return func(b *board, t *testing.T, _ []way) { f(b, t) }
}

// choose finds those that a flag names, with commas; all of an empty list.
func choose[T any](flag, list string, all []T, name func(T) string) (chosen []T, err error) {
	if list == "" {
		return all, nil
	}
	var names []string
	for _, x := range all {
		names = append(names, name(x))
	}
	for n := range strings.SplitSeq(list, ",") {
		i := slices.Index(names, n)
		if i < 0 {
			return nil, fmt.Errorf("%s: there is no %q: allowed are %s, with commas", flag, n, strings.Join(names, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// machineLine says where and when.
func machineLine() string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(text); m != nil {
			model = string(m[1])
		}
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	load, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf("%s, %d x %s, Linux %s, %s, load average %.14s\n",
		time.Now().UTC().Format("2006-01-02"), runtime.NumCPU(), model, strings.TrimSpace(string(release)), runtime.Version(), load)
}

// board is a table.
type board struct {
	head []string
	rows [][]string
	next *board // a table below it; nil: none
}

func (b *board) row(cells ...string) {
	b.rows = append(b.rows, append(cells, make([]string, len(b.head)-len(cells))...))
}

// String is the table as Markdown.
func (b *board) String() string {
	all := append([][]string{b.head, make([]string, len(b.head))}, b.rows...)
	var out strings.Builder
	for i, row := range all {
		for column := range b.head {
			width := 0
			for _, r := range all {
				width = max(width, len([]rune(r[column])))
			}
			cell := fmt.Sprintf("| %-*s ", width, row[column])
			if i == 1 {
				cell = "|" + strings.Repeat("-", width+2)
			}
			out.WriteString(cell)
		}
		out.WriteString("|\n")
	}
	if b.next != nil {
		out.WriteString("\n" + b.next.String())
	}
	return out.String()
}

// cipher is the limit that nothing passes: one processor that seals packets of
// a full tunnel and small ones, and does nothing else. Client and gateway do
// that once each, for each packet.
func (b *board) cipher(*testing.T) {
	for _, size := range []int{1340, smallPacket + 28} {
		r := testing.Benchmark(func(b *testing.B) {
			seal, err := chacha20poly1305.New(make([]byte, chacha20poly1305.KeySize))
			if err != nil {
				b.Fatal(err)
			}
			packet, nonce := make([]byte, size, size+seal.Overhead()), make([]byte, seal.NonceSize())
			for b.Loop() {
				seal.Seal(packet[:0], nonce, packet, nil)
			}
		})
		perSecond := float64(r.N) / r.T.Seconds()
		b.row(fmt.Sprintf("ChaCha20-Poly1305 alone, %d bytes", size), "", "", "", "",
			fmt.Sprintf("%.0f Mbit/s, %.0f packets/s a processor", perSecond*float64(size)*8e-6, perSecond))
	}
}

// policy has the pure part worked out for 10,000 engineers.
func (b *board) policy(t *testing.T) {
	out := output(t, exec.CommandContext(t.Context(), "go", "test", "-run", "^$", "-bench", "^Benchmark(Plan|Decide)$", "-benchtime", "300ms", "kidoban/gateway/policy"))
	for _, row := range []struct{ benchmark, what string }{
		{"Plan/cold", "the plan of 10,000 engineers, of a policy just loaded"},
		{"Plan/edge", "the same, 500 windows just opened"},
		{"Plan/warm", "the same, nothing changed"},
		{"Decide/admitted", "a decision among 10,000 engineers"},
	} {
		m := regexp.MustCompile(`(?m)^Benchmark` + row.benchmark + `(?:-\d+)?\s+\d+\s+([\d.]+) ns/op.*?(\d+) allocs/op`).FindSubmatch(out)
		if m == nil {
			t.Fatalf("the benchmarks of the policy do not tell of %s:\n%s", row.benchmark, out)
		}
		ns, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		b.row(row.what, fmt.Sprint(time.Duration(ns).Round(time.Duration(math.Pow10(max(0, int(math.Log10(ns))-2))))), "", "", "", string(m[2])+" allocations")
	}
}

// memory is what TestAppliance measures.
func (b *board) memory(t *testing.T) {
	m := b.other(t, "^TestAppliance$/^memory$", `(\d+) kB resident when settled, at most (\d+) kB`)
	b.row(fmt.Sprintf("resident at rest, %d accounts", accounts), m[1]+" kB", "", "", "", fmt.Sprintf("at most %s kB; allowed %d kB", m[2], most))
}

// closing is what TestPromise4ClosingLag measures.
func (b *board) closing(t *testing.T) {
	m := b.other(t, "^TestPromise4ClosingLag$/^with_every_layer$",
		`last packets of (\d+) sessions, after the end: p50 (\S+), p99 (\S+), least \S+, greatest (\S+); this machine lets a goroutine wait for: p99 (\S+),`, "-closings=1000")
	b.row("last packet after the end of "+m[1]+" windows, 20 engineers at a time", fmt.Sprintf("p50 %s, p99 %s", inMilliseconds(t, m[2]), inMilliseconds(t, m[3])), "", "", "",
		fmt.Sprintf("greatest %s; this machine lets a goroutine wait for: p99 %s", inMilliseconds(t, m[4]), inMilliseconds(t, m[5])))
}

// requests is what TestRequestLag measures.
func (b *board) requests(t *testing.T) {
	one := `of (\d+) sessions: p50 (\S+), p99 (\S+), greatest (\S+)`
	whats := []string{"from an approval to the first packet", "from a revocation to the last packet", "from close --all to the last packet"}
	m := b.other(t, "^TestRequestLag$", whats[0]+", "+one+`[\s\S]*`+whats[1]+", "+one+`[\s\S]*`+whats[2]+", "+one, "-decisions=1000")
	for i, what := range whats {
		f := m[1+4*i:]
		b.row(fmt.Sprintf("%s, %s sessions", what, f[0]), fmt.Sprintf("p50 %s, p99 %s", inMilliseconds(t, f[1]), inMilliseconds(t, f[2])), "", "", "", "greatest "+inMilliseconds(t, f[3]))
	}
}

// together is what TestEndingTogether measures.
func (b *board) together(t *testing.T) {
	whats := []string{"by close --all", "by a reload", "by the clock"}
	var logs []string
	for _, what := range whats {
		logs = append(logs, what+`, last packets of (\d+) of \d+ sessions: p50 (\S+), p99 (\S+), greatest (\S+); (\d+) of them later than the end; answer after (\S+); the sender was late by at most (\S+)`)
	}
	m := b.other(t, "^TestEndingTogether$", strings.Join(logs, `[\s\S]*`), "-together=1000")
	for i, what := range whats {
		f := m[1+7*i:]
		answer := ""
		if d, err := time.ParseDuration(f[5]); err == nil && d > 0 {
			answer = "; answer after " + inMilliseconds(t, f[5])
		}
		b.row(fmt.Sprintf("last packet of %s sessions that end at once %s", f[0], what), fmt.Sprintf("p50 %s, p99 %s", inMilliseconds(t, f[1]), inMilliseconds(t, f[2])), "", "", "",
			fmt.Sprintf("greatest %s; %s of them later than the end%s; this machine was late to send by at most %s", inMilliseconds(t, f[3]), f[4], answer, inMilliseconds(t, f[6])))
	}
}

func inMilliseconds(t *testing.T, text string) string {
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
}

// other runs another test of this package and finds its figures in what it
// logs, also if it fails, which is a failure here.
func (b *board) other(t *testing.T, test, logs string, flags ...string) []string {
	t.Helper()
	t.Log("running", test)
	out := output(t, exec.CommandContext(t.Context(), "/proc/self/exe", append(flags, "-test.v", "-test.timeout=20m", "-test.run="+test)...))
	m := regexp.MustCompile(logs).FindSubmatch(out)
	if m == nil {
		t.Fatalf("%s logs nothing like %q:\n%s", test, logs, out)
	}
	var texts []string
	for _, text := range m {
		texts = append(texts, string(text))
	}
	return texts
}

// output is what a command says. Its failure is noted.
func output(t *testing.T, cmd *exec.Cmd) []byte {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %v\n%s", cmd.Args, err, out)
	}
	return out
}
