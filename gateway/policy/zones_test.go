package policy

import (
	"flag"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// zoned puts the targets into two zones and each window into one of them. Times are whole minutes.
func zoned(p *Policy, pick func(int) int) {
	for _, name := range []string{"lgwan", "mynumber"} {
		p.Zones = append(p.Zones, &Zone{Name: name})
	}
	for i, t := range p.Targets {
		t.Zone = p.Zones[i%2].Name
	}
	for _, v := range p.Vendors {
		for _, w := range v.Windows {
			w.Targets = []*Target{p.Targets[pick(2)]}
			switch s := w.Schedule.(type) {
			case *Rule:
				s.At, s.Duration = s.At/60*60, s.Duration.Truncate(time.Minute)
			case *Days:
				s.From, s.To = s.From/60*60, s.To/60*60
			case *Once:
				s.From.Time, s.Until.Time = s.From.Time/60*60, s.Until.Time/60*60
			}
		}
	}
}

// minutes decides for each minute of the horizon whether a window is open.
func (r *reference) minutes(w *Window) []bool {
	open, holds := make([]bool, Horizon/time.Minute), map[Date]bool{}
	for _, s := range r.spans[w] {
		for at := s.From; at.Before(s.Until); at = at.Add(time.Minute) {
			if n := at.Sub(r.from); n >= 0 && n < Horizon && !open[n/time.Minute] {
				d := DateOf(at.In(r.policy.Zone))
				if _, known := holds[d]; !known {
					holds[d] = r.holds(w, d)
				}
				open[n/time.Minute] = holds[d]
			}
		}
	}
	return open
}

// bridged is the first minute at which an engineer of a vendor has two zones, and whether there is one.
func (r *reference) bridged(v *Vendor) (at time.Time, any bool) {
	var open [][]bool
	for _, w := range v.Windows {
		open = append(open, r.minutes(w))
	}
	for n := range int(Horizon / time.Minute) {
		for _, e := range v.Engineers {
			zone := ""
			for i, w := range v.Windows {
				if !open[i][n] || !slices.Contains(w.Engineers, e) {
					continue
				}
				if other := w.Targets[0].Zone; zone != "" && other != zone {
					return r.from.Add(time.Duration(n) * time.Minute), true
				}
				zone = w.Targets[0].Zone
			}
		}
	}
	return at, false
}

var bridgeSeeds = flag.Uint64("bridges", 8, "how many seeds TestBridgesAgreeWithEveryMinute looks through")

// TestBridgesAgreeWithEveryMinute: the check finds the first minute at which an engineer has two zones as one
// who looks at each minute of 400 days does. A check that finds nothing fails.
func TestBridgesAgreeWithEveryMinute(t *testing.T) {
	found, none := 0, 0
	for seed := range *bridgeSeeds {
		random := rand.New(rand.NewPCG(seed, 12))
		c := clocks[seed%8]
		zone, around := mustZone(t, c.zone), mustDate(c.from)
		p, rules := randomPolicy(random.IntN, zone, around)
		zoned(p, random.IntN)
		from := midnight(zone, around).Truncate(time.Minute)
		r := newReference(p, rules, c.tick, from, from.Add(Horizon))
		bridges := p.Bridges(from)
		for _, v := range p.Vendors {
			want, any := r.bridged(v)
			i := slices.IndexFunc(bridges, func(b Bridge) bool { return b.Then.Vendor == v })
			if any {
				found++
			} else {
				none++
			}
			if any != (i >= 0) {
				t.Errorf("seed %d, %s: the check finds a bridge: %t, want %t at %v", seed, v.Name, i >= 0, any, want)
				continue
			}
			if any && (!bridges[i].At.Equal(want) || !slices.Equal(bridges[i].Zones(), []string{"lgwan", "mynumber"})) {
				t.Errorf("seed %d, %s: %v in %v, want %v", seed, v.Name, bridges[i].At, bridges[i].Zones(), want)
			}
		}
		p.Zones = nil // the guard is off
		if len(p.Bridges(from)) > 0 {
			t.Errorf("seed %d: a policy without zones has bridges", seed)
		}
	}
	if found < 3 || none < 3 {
		t.Errorf("%d vendors had a bridge, %d had none: too few to say anything", found, none)
	}
}

// withZones puts ehr and pacs into zones of their own.
func withZones(p *Policy) {
	p.Zones = []*Zone{{Name: "lgwan"}, {Name: "medical"}}
	p.Targets[0].Zone, p.Targets[1].Zone = "medical", "lgwan"
}

// nightly is a window of green and brown to pacs, from 14:00 to 15:00.
func nightly(p *Policy) {
	v := p.Vendors[0]
	v.Windows = []*Window{{Vendor: v, Name: "night", Engineers: v.Engineers, Targets: p.Targets[1:2],
		Schedule: &Days{Weekdays: [7]bool{true, true, true, true, true, true, true}, From: 14 * 3600, To: 15 * 3600}}}
}

// bridges reports whether an engineer has open grants of two zones now.
func (s *requestSite) bridges() bool {
	for _, a := range s.state.Plan(s.now).Accesses() {
		var zones []string
		for _, g := range a.Grants {
			for _, t := range g.Window.Targets {
				if g.Contains(s.now) {
					zones = append(zones, t.Zone)
				}
			}
		}
		if apart(zones, zones) {
			return true
		}
	}
	return false
}

// TestRequestsNeverBridge tells stories in which a request would let brown reach two zones. Each runs once
// more on a policy whose targets lie in zones of which the policy knows nothing: then brown reaches both.
func TestRequestsNeverBridge(t *testing.T) {
	ask := func(s *requestSite, targets string, from, length time.Duration) (*Request, string) {
		a := Ask{Vendor: "acme", Engineers: []string{"brown"}, Targets: []string{targets}, From: s.now.Add(from), For: length, Purpose: "work"}
		terms, err := s.state.Policy().Resolve(a, "~"+targets+from.String(), s.now)
		if err != nil {
			t.Fatal(err)
		}
		code := s.gives(Actor{ID: "tanaka"}, Requested{Terms: terms})
		return s.state.Request(terms.ID), code
	}
	extends := func(s *requestSite, r *Request, until time.Duration) string {
		return s.gives(Actor{ID: "ito"}, Verdict{Verb: Extend, ID: r.ID, Until: r.Until.Add(until), Digest: r.Next(r.Until.Add(until)).Digest()})
	}
	for _, c := range []struct {
		name string
		site []func(*Policy)
		tell func(s *requestSite) string // it ends at 14:30
		want string
	}{
		{"a window is open then", []func(*Policy){nightly}, func(s *requestSite) string {
			r, code := ask(s, "ehr", time.Hour, 2*time.Hour)
			if r != nil {
				s.approves("ito", r)
			}
			return code
		}, "request_bridges"},
		{"another request was approved", nil, func(s *requestSite) string {
			first, _ := ask(s, "ehr", time.Hour, 2*time.Hour)
			second, _ := ask(s, "pacs", time.Hour, 2*time.Hour)
			s.approves("ito", first)
			return s.approves("ito", second)
		}, "request_bridges"},
		{"it counts from the approval, which comes late", []func(*Policy){nightly}, func(s *requestSite) string {
			terms, err := s.state.Policy().Resolve(Ask{Vendor: "acme", Engineers: []string{"brown"}, Targets: []string{"ehr"}, For: time.Hour, Purpose: "work"}, "~1", s.now)
			if err != nil {
				t.Fatal(err)
			}
			s.gives(Actor{ID: "tanaka"}, Requested{Terms: terms})
			s.now = s.now.Add(2*time.Hour - time.Minute)
			return s.approves("ito", s.state.Request("~1"))
		}, "request_bridges"},
		{"it is extended into a window", []func(*Policy){nightly}, func(s *requestSite) string {
			r, _ := ask(s, "ehr", time.Hour, time.Hour)
			s.approves("ito", r)
			return extends(s, r, time.Hour)
		}, "request_bridges"},
		{"an extension is asked for", []func(*Policy){nightly}, func(s *requestSite) string {
			r, _ := ask(s, "ehr", time.Hour, time.Hour)
			s.approves("ito", r)
			code := s.gives(Actor{ID: "tanaka"}, Verdict{Verb: AskExtension, ID: r.ID, Until: r.Until.Add(time.Hour)})
			extends(s, s.state.Request(r.ID), time.Hour)
			return code
		}, "request_bridges"},
		{"an emergency", []func(*Policy){nightly}, func(s *requestSite) string {
			s.now = s.now.Add(2 * time.Hour)
			terms, err := s.state.Policy().Resolve(Ask{Vendor: "acme", Engineers: []string{"brown"}, Targets: []string{"ehr"}, For: time.Hour, Purpose: "down", Emergency: true}, "~1", s.now)
			if err != nil {
				t.Fatal(err)
			}
			return s.gives(Actor{ID: "tanaka"}, Requested{Terms: terms})
		}, "request_bridges"},
		{"a later policy has the window", nil, func(s *requestSite) string {
			r, _ := ask(s, "ehr", time.Hour, 2*time.Hour)
			s.approves("ito", r)
			s.loads(append([]func(*Policy){nightly}, s.always...)...)
			return string(s.stage(r))
		}, string(StageVoid)},
		{"two were approved before the policy had zones", nil, func(s *requestSite) string {
			always := s.always
			s.loads(func(*Policy) {})
			first, _ := ask(s, "ehr", time.Hour, 2*time.Hour)
			second, _ := ask(s, "pacs", time.Hour+time.Second, 2*time.Hour)
			s.approves("ito", first)
			s.approves("ito", second)
			s.loads(always...)
			return string(s.stage(second))
		}, string(StageVoid)},
		{"one request of two zones", nil, func(s *requestSite) string {
			always := s.always
			s.loads(func(*Policy) {})
			terms, err := s.state.Policy().Resolve(Ask{Vendor: "acme", Engineers: []string{"brown"}, Targets: []string{"ehr", "pacs"}, From: s.now, For: 3 * time.Hour, Purpose: "work"}, "~1", s.now)
			if err != nil {
				t.Fatal(err)
			}
			s.loads(always...)
			code := s.gives(Actor{ID: "tanaka"}, Requested{Terms: terms})
			if r := s.state.Request("~1"); r != nil {
				s.approves("ito", r)
			}
			return code
		}, "request_zones"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, guarded := range []bool{true, false} {
				s := newRequestSite(t)
				s.always = append([]func(*Policy){withZones}, c.site...)
				if !guarded {
					s.always = append(s.always, func(p *Policy) { p.Zones = nil })
				}
				s.loads(s.always...)
				got := c.tell(s)
				s.now = time.Date(2026, 12, 1, 14, 30, 0, 0, time.UTC)
				if s.bridges() == guarded || (got == c.want) != guarded {
					t.Errorf("with zones: %t; answer %q, brown has two zones: %t", guarded, got, s.bridges())
				}
			}
		})
	}
}

// TestOneRequestHasOneZone: it is refused when it is asked for, with the zones; on_request may span them.
func TestOneRequestHasOneZone(t *testing.T) {
	s := newRequestSite(t, withZones)
	_, err := s.state.Policy().Resolve(Ask{Vendor: "acme", Engineers: []string{"brown"}, Targets: []string{"ehr", "pacs"}, For: time.Hour, Purpose: "work"}, "~1", s.now)
	if want := "targets: they lie in the zones lgwan, medical, which one machine would join: allowed are targets of one zone"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if code := s.approves("ito", s.asks()); code != "" || !s.reaches(netip.MustParseAddr("203.0.113.1"), toEHR) {
		t.Errorf("a request of one zone: %q", code)
	}
}
