package firewall

import (
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

var update = flag.Bool("update", false, "write the golden texts anew")

// goldens are rulesets that people can read in testdata/NAME.nft.
var goldens = []struct {
	name    string
	options Options
	plan    func(now time.Time) *policy.Plan
	live    []netip.AddrPort
	paths   Paths
	deaf    []string
}{
	{name: "deny-all", options: Options{Interface: "kido0", ListenPort: 51820, LogGroup: 7}},
	{
		name: "open", options: Options{Interface: "kido0", ListenPort: 51820, LogGroup: 7},
		plan: func(now time.Time) *policy.Plan { return ending2h(testPolicy(), now) },
		live: []netip.AddrPort{
			netip.MustParseAddrPort("203.0.113.10:40000"), netip.MustParseAddrPort("[2001:db8:1::10]:40001"),
			netip.MustParseAddrPort("[::ffff:198.51.100.3]:40002"), netip.MustParseAddrPort("192.0.2.66:40003"), // the last one is not listed
		},
		paths: Paths{netip.PrefixFrom(target4, 32): {"kido0", "lan", "name-of-15-byte"}, netip.PrefixFrom(target6, 128): {"lan"}, netip.MustParsePrefix("10.1.0.9/32"): {"lan"}}, // the tunnel is no path, and the last one is no target's
		deaf:  []string{"lan", "name-of-15-byte"},
	},
	{
		name: "lines", options: Options{Interface: "kido0", ListenPort: 51820, LogGroup: 7},
		plan: func(now time.Time) *policy.Plan { return ending2h(linedPolicy("eth1.310"), now) },
		live: []netip.AddrPort{
			netip.MustParseAddrPort("203.0.113.10:40000"), netip.MustParseAddrPort("[2001:db8:1::10]:40001"),
			netip.MustParseAddrPort("198.51.100.20:40002"), netip.MustParseAddrPort("192.0.2.66:40003"), // the last one is not listed
		},
		paths: testPaths,
	},
	{
		name: "plain-lines", options: Options{Interface: "kido0", ListenPort: 51820, LogGroup: 7},
		plan:  func(now time.Time) *policy.Plan { return ending2h(plainPolicy("eth1.310", "eth2"), now) },
		paths: testPaths,
	},
	{
		name: "masquerade-one", options: Options{Interface: "kido0", ListenPort: 500, LogGroup: 7},
		plan: func(now time.Time) *policy.Plan {
			p := testPolicy()
			p.Targets[0].Masquerade = true
			return ending2h(p, now)
		},
		paths: testPaths,
	},
	{
		name: "masquerade-all-forward-others", options: Options{Interface: "tunnel-of-15-by", ListenPort: 51820, LogGroup: 7, Masquerade: true, ForwardOthers: true},
		plan:  func(now time.Time) *policy.Plan { return ending2h(testPolicy(), now) },
		paths: testPaths,
	},
}

func ending2h(p *policy.Policy, now time.Time) *policy.Plan {
	return planAt(p, now).Restrict(func(g *policy.Grant) *policy.Grant {
		g2 := *g
		g2.Until = now.Add(2 * time.Hour)
		return &g2
	})
}

func TestRulesetGolden(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			var p *policy.Plan
			if g.plan != nil {
				p = g.plan(goldenNow)
			}
			rules, err := Ruleset(g.options, p, g.live, g.paths, g.deaf, goldenNow)
			if err != nil {
				t.Fatal(err)
			}
			file := "testdata/" + g.name + ".nft"
			if *update {
				if err := os.WriteFile(file, []byte(rules.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(rules.String(), string(want)); diff != "" {
				t.Errorf("ruleset (-got +want):\n%s", diff)
			}
		})
	}
}

// TestFault20KernelHoldsTheText sets each golden plan twice and compares what nft,
// which decodes the kernel's expressions by itself, prints.
func TestFault20KernelHoldsTheText(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			h := lab.New(t).Host("gateway")
			f := newFirewall(t, h, g.options)
			now := time.Now().Truncate(time.Second)
			var p *policy.Plan
			if g.plan != nil {
				p = g.plan(now)
			}
			for range 2 {
				if err := f.set(p, g.live); err != nil {
					t.Fatal(err)
				}
				if err := f.setPaths(g.paths, g.deaf); err != nil {
					t.Fatal(err)
				}
				if err := f.check(); err != nil {
					t.Fatal(err)
				}
			}
			select {
			case fact := <-f.outbox.facts:
				t.Errorf("unexpected fact: %v", fact.Err)
			default:
			}
			before := time.Now()
			out, err := nft(t, h, "list", "ruleset")
			after := time.Now()
			if err != nil {
				t.Fatal(err, out)
			}
			rules, err := Ruleset(g.options, p, g.live, g.paths, g.deaf, now)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(withoutTime(out), strings.Split(shape(rules.String()), "\n")); diff != "" {
				t.Errorf("nft list ruleset (-nft +String):\n%s\n%s", diff, out)
			}
			for _, ends := range regexp.MustCompile(`timeout (\S+) expires (\S+)`).FindAllStringSubmatch(out, -1) {
				if left := duration(t, ends[2]); left > now.Add(2*time.Hour).Sub(before)+tooLate || left < now.Add(2*time.Hour).Sub(after)-time.Second {
					t.Errorf("an element expires in %v, want %v", left, now.Add(2*time.Hour).Sub(before))
				}
			}
		})
	}
}

// withoutTime brings nft's output into the form of shape: no numbers of
// counters, elements one a line.
func withoutTime(out string) []string {
	out = regexp.MustCompile(` # progname.*`).ReplaceAllString(out, "")
	out = regexp.MustCompile(`(?m)^\tflags owner.*\n\n?`).ReplaceAllString(out, "")
	out = regexp.MustCompile(`(?m)^\t\tpackets .*\n`).ReplaceAllString(out, "")
	out = regexp.MustCompile(`(?s)elements = \{.*?\}`).ReplaceAllStringFunc(out, func(list string) string {
		var keys []string
		for _, e := range strings.Split(strings.Trim(strings.TrimPrefix(list, "elements = "), "{}"), ",") {
			key := regexp.MustCompile(`(?s) (limit|timeout) .*`).ReplaceAllString(strings.Join(strings.Fields(e), " "), "")
			keys = append(keys, "\t\t\t"+key)
		}
		slices.Sort(keys)
		return "elements = {\n" + strings.Join(keys, "\n") + "\n\t\t}"
	})
	return strings.Split(out, "\n")
}

// shape is String without ends, elements in the order of their text.
func shape(text string) string {
	text = regexp.MustCompile(` until \S+`).ReplaceAllString(text, "")
	return regexp.MustCompile(`(?s)elements = \{\n.*?\t\t\}`).ReplaceAllStringFunc(text, func(list string) string {
		lines := strings.Split(list, "\n")
		slices.Sort(lines[1 : len(lines)-1])
		return strings.Join(lines, "\n")
	})
}

// duration reads nft's "1h59m59s980ms".
func duration(t *testing.T, text string) time.Duration {
	text = regexp.MustCompile(`(\d+)d`).ReplaceAllStringFunc(text, func(days string) string {
		n, _ := strconv.Atoi(strings.TrimSuffix(days, "d"))
		return fmt.Sprintf("%dh", n*24)
	})
	d, err := time.ParseDuration(strings.TrimSuffix(text, ","))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestEnds says when the one flow of one engineer ends, given the grants of
// its windows.
func TestEnds(t *testing.T) {
	at := func(s string) policy.LocalTime {
		h, _ := time.Parse("15:04:05", s)
		return policy.LocalTime{Date: policy.DateOf(goldenNow), Time: policy.TimeOfDay(h.Hour()*3600 + h.Minute()*60 + h.Second())}
	}
	tests := []struct {
		name    string
		now     string
		windows [][2]string
		want    string // empty: not there
	}{
		{"one window", "03:00:00", [][2]string{{"02:00:00", "04:00:00"}}, "04:00:00"},
		{"its first instant", "02:00:00", [][2]string{{"02:00:00", "04:00:00"}}, "04:00:00"},
		{"its end", "04:00:00", [][2]string{{"02:00:00", "04:00:00"}}, ""},
		{"a second ahead, in the plan, not open", "01:59:59", [][2]string{{"02:00:00", "04:00:00"}}, ""},
		{"overlapping", "02:30:00", [][2]string{{"02:00:00", "03:00:00"}, {"02:15:00", "04:00:00"}}, "04:00:00"},
		{"one within the other", "02:30:00", [][2]string{{"02:00:00", "04:00:00"}, {"02:15:00", "03:00:00"}}, "04:00:00"},
		{"back to back, the second in the plan", "02:59:55", [][2]string{{"02:00:00", "03:00:00"}, {"03:00:00", "04:00:00"}}, "04:00:00"},
		{"a gap, the second in the plan", "02:59:55", [][2]string{{"02:00:00", "03:00:00"}, {"03:00:01", "04:00:00"}}, "03:00:00"},
		{"a chain through a short one", "02:59:55", [][2]string{{"02:00:00", "02:59:58"}, {"02:59:57", "03:00:02"}, {"03:00:00", "05:00:00"}}, "05:00:00"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := testPolicy()
			p.Targets[0].Services = p.Targets[0].Services[:1]
			v := p.Vendors[0]
			support := v.Windows[0]
			v.Windows = nil
			for i, w := range tt.windows {
				v.Windows = append(v.Windows, &policy.Window{Vendor: v, Name: fmt.Sprint("w", i), Schedule: &policy.Once{From: at(w[0]), Until: at(w[1])},
					Targets: support.Targets[:1], Engineers: support.Engineers})
			}
			clockTime, _ := time.Parse("15:04:05", tt.now)
			now := time.Date(goldenNow.Year(), goldenNow.Month(), goldenNow.Day(), clockTime.Hour(), clockTime.Minute(), clockTime.Second(), 0, time.UTC)
			rules, err := Ruleset(testOptions, planAt(p, now), []netip.AddrPort{netip.AddrPortFrom(vendor4, 1)}, nil, nil, now)
			if err != nil {
				t.Fatal(err)
			}
			for _, set := range []string{"flows4", "masquerade4", "sources4_32", "sources4_28", "sources6_64", "live4"} {
				var got []string
				if s := rules.set(set); s != nil {
					for end := range maps.Values(s.elements) {
						got = append(got, end.UTC().Format("15:04:05"))
					}
				}
				want := []string{tt.want}
				if tt.want == "" || set == "masquerade4" {
					want = nil
				}
				if !slices.Equal(got, want) {
					t.Errorf("at %s set %s has ends %v, want %v", tt.now, set, got, want)
				}
			}
		})
	}
}

// TestNothingOpens lists what opens nothing at all.
func TestNothingOpens(t *testing.T) {
	plan := planAt(testPolicy(), goldenNow)
	shutState := policy.NewState()
	for _, e := range []policy.Event{policy.PolicyLoaded{Policy: testPolicy()}, policy.Shut{Scope: policy.All, Reason: "test"}} {
		if err := shutState.Apply(goldenNow, "test", e); err != nil {
			t.Fatal(err)
		}
	}
	for name, p := range map[string]*policy.Plan{
		"no plan": nil, "no policy": policy.NewState().Plan(goldenNow), "doubt": plan.Doubted("test"), "shut": shutState.Plan(goldenNow),
	} {
		rules, err := Ruleset(testOptions, p, []netip.AddrPort{netip.AddrPortFrom(vendor4, 1)}, testPaths, nil, goldenNow)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, s := range rules.sets {
			if len(s.elements) > 0 {
				t.Errorf("%s: set %s has %d elements, want none", name, s.name, len(s.elements))
			}
		}
	}
	rules, _ := Ruleset(testOptions, plan, nil, testPaths, nil, goldenNow)
	for _, name := range []string{"flows4", "paths4", "paths6"} {
		if len(rules.set(name).elements) == 0 {
			t.Errorf("set %s: the plan that the others are made of opens nothing either", name)
		}
	}
}

// TestManyGrantsOfOneTarget: windows that overlap open its flows once, however
// many they are.
func TestManyGrantsOfOneTarget(t *testing.T) {
	p := testPolicy()
	p.Targets[0].Prefix = netip.MustParsePrefix("10.1.16.0/20")
	p.Targets[0].Services = []policy.Service{{Protocol: policy.TCP, First: 22, Last: 22}}
	one := p.Vendors[0].Windows[0]
	for range 16 {
		again := *one
		p.Vendors[0].Windows = append(p.Vendors[0].Windows, &again)
	}
	for i, w := range p.Vendors[0].Windows {
		w.Name = fmt.Sprintf("window-%d", i)
	}
	plan := planAt(p, goldenNow)
	if got := len(plan.Grants); got < 17 {
		t.Fatalf("%d grants, want 17 of one engineer at least", got)
	}
	rules, err := Ruleset(testOptions, plan, nil, nil, nil, goldenNow)
	if err != nil {
		t.Error(err)
	}
	if got := len(rules.set("flows4").elements); got != 4096 {
		t.Errorf("%d flows, want one to each of 4096 addresses", got)
	}
}

// TestTooMuchStaysClosed: a target that would fill the kernel's memory is an
// error, and the others open all the same.
func TestTooMuchStaysClosed(t *testing.T) {
	p := testPolicy()
	p.Targets[1].Prefix = netip.MustParsePrefix("fd00:1::/64")
	rules, err := Ruleset(testOptions, planAt(p, goldenNow), nil, Paths{netip.PrefixFrom(target4, 32): {"lan"}, p.Targets[1].Prefix: {"lan"}}, nil, goldenNow)
	if err == nil || !strings.Contains(err.Error(), "target ehr6 (fd00:1::/64): allowed are 65536 pairs") {
		t.Errorf("error %v, want the target named and its limit", err)
	}
	if got := len(rules.set("flows6").elements) + len(rules.set("paths6").elements); got != 0 {
		t.Errorf("%d IPv6 flows and paths, want none", got)
	}
	if got := len(rules.set("flows4").elements); got != 5 {
		t.Errorf("%d IPv4 flows, want the 5 of the other target", got)
	}
}

// TestChanges says what is done to an element that is held, when the plan
// says what it says now.
func TestChanges(t *testing.T) {
	const boot = 1000 * time.Hour
	wall := goldenNow
	tests := []struct {
		name       string
		heldWall   time.Duration // the plan's end when it was written, from now
		heldBoot   time.Duration // the kernel's end, from now
		want       time.Duration // the plan's end, from now; 0: not in it
		wantChange string
		far        bool // the plan's end was more than a day ahead when it was written
	}{
		{"as it is", time.Hour, time.Hour, time.Hour, "", false},
		{"clocks read a little apart", time.Hour, time.Hour + 3*time.Millisecond, time.Hour, "", false},
		{"shortened", time.Hour, time.Hour, time.Minute, "moved 1m0s", false},
		{"extended", time.Minute, time.Minute, time.Hour, "moved 1h0m0s", false},
		{"gone from the plan", time.Hour, time.Hour, 0, "shut", false},
		{"less than a millisecond left", time.Hour, time.Hour, 900 * time.Microsecond, "shut", false},
		{"ended in the kernel", -time.Second, -time.Second, 0, "", false},
		{"the clock was set back: the same end seems later", 2 * time.Hour, time.Hour, 2 * time.Hour, "", false},
		{"the clock was set forward", 30 * time.Minute, time.Hour, 30 * time.Minute, "moved 30m0s", false},
		{"far ahead, fresh", 72 * time.Hour, 24 * time.Hour, 72 * time.Hour, "", true},
		{"far ahead, half used", 60 * time.Hour, 11 * time.Hour, 60 * time.Hour, "moved 24h0m0s", true},
		{"within a day at last", 20 * time.Hour, 11 * time.Hour, 20 * time.Hour, "moved 20h0m0s", true},
		{"extended beyond a day, fresh", 20 * time.Hour, 20 * time.Hour, 72 * time.Hour, "", false},
		{"without an end", time.Hour, forever - boot, time.Hour, "moved 1h0m0s", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			old, _ := Ruleset(testOptions, nil, nil, nil, nil, wall)
			next, _ := Ruleset(testOptions, nil, nil, nil, nil, wall)
			h := &held{old, map[string]map[string]end{"flows4": {"key": {wall.Add(tt.heldWall), boot + tt.heldBoot, tt.far}}}}
			if tt.want != 0 {
				next.set("flows4").elements["key"] = wall.Add(tt.want)
			}
			c := h.changes(next, instant{wall, boot}, nil)
			got := ""
			switch {
			case len(c.shut) == 1:
				got = "shut"
			case len(c.moved) == 1:
				got = fmt.Sprintf("moved %v", c.moved[0].end.boot-boot)
			}
			if got != tt.wantChange || len(c.opened) != 0 || len(c.structure) > 0 {
				t.Errorf("change %q (opened %d, structure %v), want %q", got, len(c.opened), c.structure, tt.wantChange)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		options Options
		want    string
	}{
		{Options{ListenPort: 1}, `interface "": allowed are names of 1 to 15 bytes`},
		{Options{Interface: "sixteen-bytes-xx", ListenPort: 1}, `interface "sixteen-bytes-xx": allowed are names of 1 to 15 bytes`},
		{Options{Interface: "kido0"}, "listen port 0: allowed are 1 to 65535"},
	} {
		if err := tt.options.check(); err == nil || err.Error() != tt.want {
			t.Errorf("%+v: error %v, want %s", tt.options, err, tt.want)
		}
	}
}

// TestNATIsThereWhereItIsOfUse holds that packets do not pass the kernel's NAT
// for a policy that has no use for it, and that NAT stays from when a flow may
// depend on it, and before anything is known.
func TestNATIsThereWhereItIsOfUse(t *testing.T) {
	h := lab.New(t).Host("gateway")
	f := newFirewall(t, h, testOptions)
	wants := func(what string, want bool) {
		t.Helper()
		if err := f.check(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		out, err := nft(t, h, "list", "ruleset")
		if err != nil {
			t.Fatal(err, out)
		}
		if got := strings.Contains(out, "type nat hook"); got != want {
			t.Errorf("%s: a NAT chain is there: %v, want %v:\n%s", what, got, want, out)
		}
	}
	set := func(masquerade bool) {
		t.Helper()
		p := testPolicy()
		p.Targets[0].Masquerade = masquerade
		if err := f.set(openPlan(p, time.Now().Add(time.Hour)), nil); err != nil {
			t.Fatal(err)
		}
	}
	wants("before a plan", true)
	set(false)
	wants("no target masquerades", false)
	if err := f.set(nil, nil); err != nil {
		t.Fatal(err)
	}
	wants("closed", true)
	set(false)
	wants("no target masquerades, again", false)
	set(true)
	wants("a target masquerades", true)
	set(false)
	wants("it did before", true)
	select {
	case fact := <-f.outbox.facts:
		t.Errorf("unexpected fact: %v", fact.Err)
	default:
	}
}
