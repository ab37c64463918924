package e2e

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// contest has an engineer work through the gateway, through plain
// wireguard-go, through another plain wireguard-go, which shows what the
// method can tell apart, without a tunnel, and through others: in turns, so
// that what else the machine does meets them all.
type contest struct {
	t                        *testing.T
	gate, plain, again, bare *rig
	others                   []*rig
	missing                  [][2]string // rigs that there are not, and why
	ways                     []way
	measured                 map[*rig]map[string][]figure
}

// throughput measures the ways, and holds the bars with -performance.
func (b *board) throughput(t *testing.T, chosen []way) {
	warm, each, n := 150*time.Millisecond, 300*time.Millisecond, *rounds
	if !*performance {
		warm, each, n = 20*time.Millisecond, 80*time.Millisecond, 1
	}
	var c *contest
	measured := t.Run("throughput", func(t *testing.T) { // its gateways end with it, and disturb nothing that follows
		c = newContest(t, chosen)
		c.run(warm, each, n)
	})
	if !measured {
		return
	}
	c.show(b)
	if *performance {
		b.next = c.bars(t)
	}
}

func newContest(t *testing.T, chosen []way) *contest {
	t.Helper()
	c := &contest{t: t, ways: chosen, measured: map[*rig]map[string][]figure{}}
	if *profiles == "" {
		c.gate = newKidobanRig(t, "kidoban")
	} else {
		c.gate = newProfiledRig(t, "kidoban")
	}
	c.plain, c.again = newPlainRig(t, "plain"), newPlainRig(t, "plain again")
	c.bare = c.plain.bare("no tunnel")
	if *against != "" {
		c.others = append(c.others, newOtherRig(t, *against))
	}
	if *layers {
		c.others = append(c.others, newKidobanRig(t, "without the ruleset", kernelLayer), newKidobanRig(t, "without the counts of flows", countsLayer))
	}
	if *performance && *withOpenVPN {
		r, err := newOpenVPNRig(t)
		if err != nil {
			c.missing = append(c.missing, [2]string{"OpenVPN", err.Error()})
		} else {
			c.others = append(c.others, r)
		}
	}
	return c
}

func (c *contest) rigs() []*rig {
	return append([]*rig{c.gate, c.plain, c.again, c.bare}, c.others...)
}

// run measures every way on every rig, n times.
func (c *contest) run(warm, each time.Duration, n int) {
	c.t.Helper()
	for _, r := range c.rigs() {
		c.measured[r] = map[string][]figure{}
	}
	for round := range n {
		for _, w := range c.ways {
			order := c.rigs()
			if round%2 == 1 {
				slices.Reverse(order)
			}
			for _, r := range order {
				c.measured[r][w.name] = append(c.measured[r][w.name], w.measure(r, warm, each))
				if r.profile != "" {
					c.keepProfile(r, w, round)
				}
			}
			newest := func(r *rig) float64 { return c.measured[r][w.name][round].rate * w.scale }
			c.t.Logf("round %d of %d, %s: kidoban %.0f, plain %.0f %s", round+1, n, w.flag, newest(c.gate), newest(c.plain), w.unit)
		}
	}
}

// keepProfile keeps the profile of a rig's last turn, in a folder for each way.
func (c *contest) keepProfile(r *rig, w way, round int) {
	c.t.Helper()
	folder := filepath.Join(*profiles, w.flag)
	r.g.check(os.MkdirAll(folder, 0o755))
	r.profileTo(filepath.Join(folder, fmt.Sprintf("%03d.pprof", round+1)))
}

// of is what a rig showed in a way, round by round.
func (c *contest) of(r *rig, w way, value func(figure) float64) []float64 {
	return column(c.measured[r][w.name], value)
}

func rate(f figure) float64 { return f.rate }
func cost(f figure) float64 { return f.cost }

// show adds the rows of rates, and those of processor time.
func (c *contest) show(b *board) {
	for _, w := range c.ways {
		c.rows(b, w.name, w, rate, w.scale, w.unit, "no tunnel: "+show(c.of(c.bare, w, rate), w.scale, w.unit))
	}
	for _, w := range c.ways {
		c.rows(b, "the gateway's processors, "+w.name, w, cost, w.costs, w.cost, "less is better")
	}
	for _, m := range c.missing {
		b.row("- "+m[0], "not measured: "+m[1])
	}
}

func (c *contest) rows(b *board, what string, w way, value func(figure) float64, scale float64, unit, beside string) {
	gate, plain := c.of(c.gate, w, value), c.of(c.plain, w, value)
	b.row(what, show(gate, scale, unit), show(plain, scale, unit), ratios(gate, plain).String(), ratios(c.of(c.again, w, value), plain).String(), beside)
	for _, r := range c.others {
		other := c.of(r, w, value)
		b.row("- "+r.name, show(other, scale, unit), "", ratios(other, plain).String(), "", "kidoban to it: "+ratios(gate, other).String())
	}
}

// bars compares the ratios to plain wireguard-go with what they must be. A bar
// is met by the median. The test fails where the whole interval misses it.
func (c *contest) bars(t *testing.T) *board {
	b := &board{head: []string{"bar", "wanted", "measured (95 %)", ""}}
	for _, w := range c.ways {
		if w.least > 0 {
			r := ratios(c.of(c.gate, w, rate), c.of(c.plain, w, rate))
			bar(t, b, w.name, fmt.Sprintf("at least %.2f", w.least), r, r.median >= w.least, r.to < w.least)
		}
	}
	for _, w := range c.ways {
		if w.most > 0 {
			r := ratios(c.of(c.gate, w, cost), c.of(c.plain, w, cost))
			bar(t, b, "the gateway's processors, "+w.name, fmt.Sprintf("at most %.2f", w.most), r, r.median <= w.most, r.from > w.most)
		}
	}
	return b
}

func bar(t *testing.T, b *board, what, wanted string, r ratio, met, missed bool) {
	verdict := "not met"
	if met {
		verdict = "met"
	}
	b.row(what, wanted, r.String(), verdict)
	if missed {
		t.Errorf("%s: the ratio to plain wireguard-go is %v, want %s", what, r, wanted)
	}
}

func column(all []figure, of func(figure) float64) (values []float64) {
	for _, f := range all {
		values = append(values, of(f))
	}
	return values
}

// show writes a median.
func show(values []float64, scale float64, unit string) string {
	v := median(values) * scale
	digits := 0
	if v < 100 {
		digits = 2
	}
	return strconv.FormatFloat(v, 'f', digits, 64) + " " + unit
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// ratio is a median, and between what it lies with 95 % confidence.
type ratio struct{ median, from, to float64 }

func (r ratio) String() string { return fmt.Sprintf("%.3f (%.3f to %.3f)", r.median, r.from, r.to) }

// ratios compares what was measured in the same rounds. The confidence is that
// of the sign test: it asks for no distribution.
func ratios(a, b []float64) ratio {
	var all []float64
	for i := range a {
		all = append(all, a[i]/b[i])
	}
	slices.Sort(all)
	n := float64(len(all))
	outside := max(0, int((n-1.96*math.Sqrt(n))/2))
	return ratio{median(all), all[outside], all[len(all)-1-outside]}
}
