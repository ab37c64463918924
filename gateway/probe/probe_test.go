package probe

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kidoban/config"
	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

func TestMain(m *testing.M) { lab.Main(m) }

var settings = Config{Interface: "kido0", ListenPort: 51820, MTU: 1340}

// read makes a policy of its text, in which %q are public keys.
func read(t *testing.T, text string) *policy.Policy {
	t.Helper()
	var public []any
	for range strings.Count(text, "%q") {
		_, key := lab.NewKey()
		public = append(public, policy.Key(key).String())
	}
	p, err := config.ReadPast(fmt.Sprintf(text, public...))
	if err != nil {
		t.Fatal(err)
	}
	p.Digest = "d1"
	return p
}

// head has what every policy of these tests has.
const head = `version: 1
site: Kido Municipal Hospital
timezone: Asia/Tokyo
tunnel: {addresses: [10.99.0.1/24, "fd00:99::1/64"], endpoint: "192.0.2.2:51820"}
`

// twoVendors are open on the same days, and one of them at an hour of its own.
const twoVendors = head + `targets:
  ehr: {address: 10.1.0.5, ports: [tcp/22, udp/53, icmp]}
  ehr6: {address: "fd01::5", ports: [udp/53, icmp]}
  pacs: {address: 10.1.2.0/28, ports: [icmp], masquerade: true}
lines:
  leased: {interface: lan0, kind: leased}
vendors:
  medisys:
    sources: [203.0.113.0/28, "2001:db8:1::/64"]
    engineers:
      sato: {public_key: %q, addresses: [10.99.0.2, "fd00:99::2"]}
    windows:
      support: {days: [mon, tue, wed, thu, fri], from: "09:00", to: "17:30", targets: [ehr, ehr6], valid: {from: 2026-01-01, until: 2036-01-01}, approved_by: Head of IT, ticket: CHG-1}
  scanco:
    line: leased
    sources: [198.51.100.10]
    engineers:
      tanaka: {public_key: %q, addresses: [10.99.0.4]}
    windows:
      noon: {days: [fri], from: "12:00", to: "13:00", targets: [pacs], valid: {from: 2026-01-01, until: 2036-01-01}, approved_by: Head of IT, ticket: CHG-2}
`

// seen counts the checks of each trial by engineer.
func seen(r Result) map[string]int {
	all := map[string]int{}
	for _, c := range r.Checks {
		key := fmt.Sprintf("%s %s %s", c.Trial, c.Engineer, c.Seen)
		if c.LeftOut != "" {
			key = fmt.Sprintf("%s %s left out: %s", c.Trial, c.Engineer, c.LeftOut)
		}
		all[key]++
	}
	return all
}

// wants runs a probe, and compares what it saw.
func wants(t *testing.T, text string, want map[string]int) {
	t.Helper()
	lab.Require(t)
	t.Parallel()
	r, err := Run(t.Context(), read(t, text), settings)
	if err != nil {
		t.Fatal(err)
	}
	if got := seen(r); !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v\n%+v", got, want, r.Checks)
	}
	if f := r.Failed(); len(f) > 0 {
		t.Errorf("failed: %+v", f)
	}
}

// TestAllIsKept: both families outside and inside, a line, a masqueraded target, every protocol.
func TestAllIsKept(t *testing.T) {
	wants(t, twoVendors, map[string]int{
		"outsider medisys/sato silence": 2, "foreign_key medisys/sato silence": 2, "wrong_hour medisys/sato silence": 2,
		"enters medisys/sato entry": 2, "reaches medisys/sato entry": 2, "other_port medisys/sato nothing": 2,
		"other_host medisys/sato nothing": 5, "inward medisys/sato nothing": 2, "window_ends medisys/sato nothing": 2,
		"outsider scanco/tanaka silence": 1, "foreign_key scanco/tanaka silence": 1, "wrong_hour scanco/tanaka silence": 1,
		"enters scanco/tanaka entry": 1, "reaches scanco/tanaka entry": 1, "other_port scanco/tanaka nothing": 1,
		"other_host scanco/tanaka nothing": 3, "inward scanco/tanaka nothing": 1, "window_ends scanco/tanaka nothing": 1,
	})
}

// TestSourcesOfOneFamily: an address of IPv6 whose own outsider is nearer to the gateway's. A vendor at the
// same address is told of, as one who was not tried.
func TestSourcesOfOneFamily(t *testing.T) {
	wants(t, head+`targets:
  ehr6: {address: "fd01::5", ports: [tcp/22]}
vendors:
  medisys:
    sources: ["2001:db8:1::10"]
    engineers:
      sato: {public_key: %q, addresses: ["fd00:99::2"]}
    windows:
      daily: {days: [mon, wed], from: "05:00", to: "06:00", targets: [ehr6], valid: {from: 2026-01-01, until: 2036-01-01}, approved_by: Head of IT, ticket: CHG-1}
  shared:
    sources: ["2001:db8:1::10"]
    engineers:
      gone: {public_key: %q, addresses: ["fd00:99::3"]}
    windows:
      done: {once: {from: 2026-01-01T10:00, until: 2026-01-01T11:00}, targets: [ehr6], approved_by: Head of IT, ticket: CHG-2}
`, map[string]int{
		"outsider medisys/sato silence": 1, "foreign_key medisys/sato silence": 1, "wrong_hour medisys/sato silence": 1,
		"enters medisys/sato entry": 1, "reaches medisys/sato entry": 1, "other_port medisys/sato nothing": 1,
		"other_host medisys/sato nothing": 2, "inward medisys/sato nothing": 1, "window_ends medisys/sato nothing": 1,
		"reaches shared/gone left out: no_other": 1,
	})
}

// TestPlainLine: a host without WireGuard, beside a vendor that is always in and one that never is.
func TestPlainLine(t *testing.T) {
	wants(t, head+`targets:
  menu: {address: 10.1.0.9, ports: [tcp/443]}
lines:
  kyushoku: {interface: line0.310, kind: leased, plain: true}
vendors:
  caterer:
    line: kyushoku
    sources: [192.168.50.10]
    windows:
      daily: {days: [mon, wed], from: "05:00", to: "06:00", targets: [menu], valid: {from: 2026-01-01, until: 2036-01-01}, approved_by: Head of IT, ticket: CHG-1}
  monitor:
    sources: [203.0.113.7]
    engineers:
      watch: {public_key: %q, addresses: [10.99.0.5]}
    windows:
      always: {days: [mon, tue, wed, thu, fri, sat, sun], from: "00:00", to: "24:00", targets: [menu], valid: {from: 2026-01-01, until: 2036-01-01}, approved_by: Head of IT, ticket: CHG-2}
  past:
    sources: [203.0.113.8]
    engineers:
      gone: {public_key: %q, addresses: [10.99.0.6]}
    windows:
      done: {once: {from: 2026-01-01T10:00, until: 2026-01-01T11:00}, targets: [menu], approved_by: Head of IT, ticket: CHG-3}
`, map[string]int{
		"outsider caterer/host-192-168-50-10 nothing": 1, "wrong_hour caterer/host-192-168-50-10 nothing": 1, "reaches caterer/host-192-168-50-10 entry": 1,
		"other_port caterer/host-192-168-50-10 nothing": 1, "other_host caterer/host-192-168-50-10 nothing": 1, "inward caterer/host-192-168-50-10 nothing": 1,
		"window_ends caterer/host-192-168-50-10 nothing": 1,
		"outsider monitor/watch silence":                 1, "foreign_key monitor/watch silence": 1, "wrong_hour monitor/watch left out: always_open": 1,
		"enters monitor/watch entry": 1, "reaches monitor/watch entry": 1, "other_port monitor/watch nothing": 1, "other_host monitor/watch nothing": 2,
		"inward monitor/watch nothing": 1, "window_ends monitor/watch nothing": 1,
		"wrong_hour past/gone silence": 1, "reaches past/gone left out: never_open": 1,
	})
}

// layer changes the grants that a layer gets.
func layer(change func(*policy.Policy, *policy.Grant)) func(*policy.Plan) *policy.Plan {
	return func(p *policy.Plan) *policy.Plan {
		return p.Replace(func(to, grants []*policy.Grant) []*policy.Grant {
			for _, g := range grants {
				other := *g
				change(p.Policy, &other)
				to = append(to, &other)
			}
			return to
		})
	}
}

// first is a layer that never takes another plan than the first one that opens something.
func first() func(*policy.Plan) *policy.Plan {
	var mu sync.Mutex
	var kept *policy.Plan
	return func(p *policy.Plan) *policy.Plan {
		mu.Lock()
		defer mu.Unlock()
		if kept == nil && len(p.Grants) > 0 {
			kept = p
		}
		if kept != nil {
			return kept
		}
		return p
	}
}

func anySource(_ *policy.Policy, g *policy.Grant) {
	e := *g.Engineer
	e.Sources, e.Line = lab.Prefixes("0.0.0.0/0", "::/0"), nil
	g.Engineer = &e
}

// anything opens every target of the policy, and the ports of which the probe tries one.
func anything(p *policy.Policy, g *policy.Grant) {
	w := *g.Window
	w.Targets = nil
	for _, t := range p.Targets {
		wide := *t
		wide.Services = append(slices.Clone(t.Services), policy.Service{Protocol: policy.TCP, First: 20000, Last: 21100})
		w.Targets = append(w.Targets, &wide)
	}
	g.Window = &w
}

func noEnd(_ *policy.Policy, g *policy.Grant) { g.Until = time.Now().Add(time.Hour) }

func shut(_ *policy.Policy, g *policy.Grant) { g.Until = g.From }

// TestFault132ABrokenLayerIsFound: a layer that is compiled wrongly breaks the promise that it holds alone, and where another
// layer holds it too, only both together do.
func TestFault132ABrokenLayerIsFound(t *testing.T) {
	lab.Require(t)
	const text = head + `targets:
  ehr: {address: 10.1.0.5, ports: [tcp/22]}
  pacs: {address: 10.1.2.1, ports: [tcp/104]}
vendors:
  medisys:
    sources: [203.0.113.10]
    engineers:
      sato: {public_key: %q, addresses: [10.99.0.2]}
    windows:
      support: {days: [mon, tue, wed, thu, fri], from: "09:00", to: "17:30", targets: [ehr], valid: {from: 2026-01-01, until: 2036-01-01}, approved_by: Head of IT, ticket: CHG-1}
  scanco:
    sources: [198.51.100.10]
    engineers:
      tanaka: {public_key: %q, addresses: [10.99.0.4]}
    windows:
      support: {days: [mon, tue, wed, thu, fri], from: "09:00", to: "17:30", targets: [pacs], valid: {from: 2026-01-01, until: 2036-01-01}, approved_by: Head of IT, ticket: CHG-2}
`
	for _, x := range []struct {
		name         string
		gate, kernel func(*policy.Plan) *policy.Plan
		broken       map[Trial]Sight
	}{
		{"the gate takes every source, the ruleset every port and target", layer(anySource), layer(anything), map[Trial]Sight{ForeignKey: Answer, OtherPort: Passed, OtherHost: Passed}},
		{"neither looks at sources", layer(anySource), layer(anySource), map[Trial]Sight{Outsider: Answer, ForeignKey: Answer}},
		{"the gate forgets the ends", layer(noEnd), nil, nil},
		{"the ruleset forgets the ends", nil, layer(noEnd), nil},
		{"neither takes another plan", first(), first(), map[Trial]Sight{WrongHour: Answer, WindowEnds: Passed}},
		{"the gate lets nobody in", layer(shut), nil, map[Trial]Sight{Enters: Unheard}},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			c := settings
			c.gate, c.kernel = x.gate, x.kernel
			r, err := Run(t.Context(), read(t, text), c)
			if err != nil {
				t.Fatal(err)
			}
			found := map[Trial]Sight{}
			for _, f := range r.Failed() {
				found[f.Trial] = f.Seen
			}
			for trial, sight := range x.broken {
				if found[trial] != sight {
					t.Errorf("of %s was seen %q, want %q: %+v", trial, found[trial], sight, r.Checks)
				}
			}
			if len(x.broken) == 0 && len(found) > 0 {
				t.Errorf("found %v broken, and the other layer holds it: %+v", found, r.Failed())
			}
		})
	}
}
