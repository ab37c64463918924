package firewall

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"kidoban/gateway/policy"
)

// TestFault124WhoStaysIsAsWhenAllIsWorkedOut: a change works out the elements of the engineers whose grants
// are others. The kernel then holds what it would hold if all were worked out.
func TestFault124WhoStaysIsAsWhenAllIsWorkedOut(t *testing.T) {
	p := crowd(12)
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			now := instant{time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC), time.Hour}
			state := policy.NewState()
			if err := state.Apply(now.wall, "test", policy.PolicyLoaded{Policy: p}); err != nil {
				t.Fatal(err)
			}
			at := func() time.Time { return now.wall.Add(time.Duration(random.IntN(60)-10) * time.Minute) }
			grants := map[string]*policy.Grant{} // as they are now
			var d drawn
			nothing, _ := Ruleset(testOptions, nil, nil, nil, nil, time.Time{})
			partial, whole := &held{nothing, map[string]map[string]end{}}, &held{nothing, map[string]map[string]end{}}
			for step := range 40 {
				passes := time.Duration(random.IntN(300)) * time.Second
				now = instant{now.wall.Add(passes), now.boot + passes}
				if random.IntN(8) == 0 { // the clock is set forward
					now.wall = now.wall.Add(time.Duration(random.IntN(120)) * time.Second)
				}
				plan := state.Plan(now.wall).Restrict(func(g *policy.Grant) *policy.Grant {
					is, known := grants[g.Engineer.Name+g.Window.Name]
					if known && random.IntN(6) > 0 {
						return is
					}
					changed := *g
					changed.From, changed.Until = at(), at()
					if random.IntN(3) == 0 {
						narrower := *g.Window
						narrower.Targets = narrower.Targets[random.IntN(len(narrower.Targets)):]
						changed.Window = &narrower
					}
					is = &changed
					if random.IntN(4) == 0 {
						is = nil
					}
					grants[g.Engineer.Name+g.Window.Name] = is
					return is
				})
				if random.IntN(10) == 0 {
					plan = plan.Doubted("a doubt")
				}
				among := d.among(plan, now)
				partial.follow(t, plan, now, d.plan, among)
				whole.follow(t, plan, now, nil, nil)
				d = drawn{plan, now}
				for _, s := range whole.rules.sets {
					if !maps.EqualFunc(partial.ends[s.name], whole.ends[s.name], func(a, b end) bool { return a.boot == b.boot }) {
						t.Fatalf("step %d, %d engineers looked at: %s has %d elements, want the %d of all worked out", step, len(among), s.name, len(partial.ends[s.name]), len(whole.ends[s.name]))
					}
				}
			}
		})
	}
}

// follow takes a plan as the kernel would.
func (h *held) follow(t *testing.T, p *policy.Plan, now instant, last *policy.Plan, among some) {
	t.Helper()
	var before *Rules
	if among != nil {
		before = ever(testOptions, last, among)
	}
	rules, err := partly(testOptions, p, nil, testPaths, nil, now.wall, among)
	if err != nil {
		t.Fatal(err)
	}
	c := h.changes(rules, now, before)
	for _, s := range rules.sets {
		if h.ends[s.name] == nil {
			h.ends[s.name] = map[string]end{}
		}
	}
	for _, x := range slices.Concat(c.shut, c.moved, c.opened) {
		if x.end.boot == 0 {
			delete(h.ends[x.set], x.key)
		} else {
			h.ends[x.set][x.key] = x.end
		}
	}
	h.rules = rules
}

// crowd is a policy of engineers, each of whom has two windows.
func crowd(engineers int) *policy.Policy {
	p := testPolicy()
	p.Targets[0].Masquerade = true
	v := p.Vendors[0]
	v.Engineers = nil
	for i := range engineers {
		v.Engineers = append(v.Engineers, &policy.Engineer{Vendor: v, Name: fmt.Sprint("engineer", i), Key: policy.Key{9, byte(i), byte(i >> 8)}, Sources: v.Sources,
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 99, byte(1 + i>>8), byte(i)}), netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x99, 14: byte(1 + i>>8), 15: byte(i)})}})
	}
	night := *v.Windows[0]
	night.Name = "night"
	v.Windows = append(v.Windows, &night)
	for _, w := range v.Windows {
		w.Engineers = v.Engineers
	}
	return p
}

// BenchmarkClose has one of 10,000 engineers closed: the part of it that does not speak with the kernel.
func BenchmarkClose(b *testing.B) {
	p := crowd(10_000)
	now := instant{time.Now(), time.Hour}
	all := planAt(p, now.wall)
	less := all.Restrict(func(g *policy.Grant) *policy.Grant {
		if g.Engineer == p.Vendors[0].Engineers[77] {
			return nil
		}
		return g
	})
	rules, err := Ruleset(testOptions, all, nil, testPaths, nil, now.wall)
	if err != nil {
		b.Fatal(err)
	}
	h := &held{rules, map[string]map[string]end{}}
	for _, s := range rules.sets {
		h.ends[s.name] = map[string]end{}
		for key, wall := range s.elements {
			h.ends[s.name][key] = ending(wall, wall.Sub(now.wall), now)
		}
	}
	for b.Loop() {
		among := drawn{all, now}.among(less, now)
		next, _ := partly(testOptions, less, nil, testPaths, nil, now.wall, among)
		if c := h.changes(next, now, ever(testOptions, all, among)); len(c.shut) == 0 || len(c.moved)+len(c.opened) > 0 {
			b.Fatalf("%d elements close, %d others change", len(c.shut), len(c.moved)+len(c.opened))
		}
	}
}
