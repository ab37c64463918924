package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// clocks are zones and the years in which they are worth watching, and how
// often their clocks must be looked at to see everything.
var clocks = []struct {
	zone string
	from string
	tick time.Duration
}{
	{"Asia/Tokyo", "2026-04-01", 15 * time.Minute},
	{"America/New_York", "2026-01-01", 15 * time.Minute},
	{"Europe/London", "2027-09-01", 15 * time.Minute},
	{"Australia/Lord_Howe", "2026-01-01", 15 * time.Minute},
	{"Africa/Cairo", "2026-01-01", 15 * time.Minute},
	{"America/Sao_Paulo", "2018-02-01", 15 * time.Minute},
	{"Pacific/Apia", "2011-08-01", 15 * time.Minute},
	{"Africa/Casablanca", "2028-01-01", 15 * time.Minute}, // back for Ramadan
	{"America/St_Johns", "2010-08-01", time.Minute},       // clocks set at 00:01
}

// walks are the clocks that TestPlanAndDecideAgreeWithReference walks through.
var walks = clocks

// TestPlanAndDecideAgreeWithReference walks through a year of random policies
// in zones with every kind of clock: to the second around every edge, Lead
// before it, and at random instants; while operators shut and reopen.
func TestPlanAndDecideAgreeWithReference(t *testing.T) {
	for i, c := range walks {
		t.Run(c.zone, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(2) {
				random := rand.New(rand.NewPCG(seed, uint64(i)))
				zone, around := mustZone(t, c.zone), mustDate(c.from)
				p, rules := randomPolicy(random.IntN, zone, around)
				from := midnight(zone, around)
				r := newReference(p, rules, c.tick, from.Add(-72*time.Hour), from.Add(370*24*time.Hour))
				walk(t, fmt.Sprintf("seed %d", seed), r, p, random, from)
				if t.Failed() {
					return
				}
			}
		})
	}
}

func walk(t *testing.T, name string, r *reference, p *Policy, random *rand.Rand, from time.Time) {
	for w, want := range r.pieces {
		// The last edge is the end of what the reference knows.
		want = slices.DeleteFunc(slices.Clone(want), func(s Span) bool {
			return !s.Until.After(from) || s.Until.After(r.until.Add(-48*time.Hour))
		})
		got := slices.DeleteFunc(w.Spans(p.Zone, from, r.until), func(s Span) bool { return s.Until.After(r.until.Add(-48 * time.Hour)) })
		if diff := cmp.Diff(describeAll(p.Zone, want), describeAll(p.Zone, got)); diff != "" {
			t.Errorf("%s: spans of %s, %s (-want +got):\n%s", name, w, describeWindow(w), diff)
			return
		}
	}
	var instants []time.Time
	for _, e := range r.edges {
		for _, d := range []time.Duration{-Lead - time.Second, -Lead, -time.Second, -time.Millisecond, 0, time.Second} {
			instants = append(instants, e.Add(d))
		}
	}
	for range 300 {
		instants = append(instants, from.Add(time.Duration(random.Int64N(int64(365*24*time.Hour)))))
	}
	instants = slices.DeleteFunc(instants, func(t time.Time) bool {
		return t.Before(from) || t.After(from.Add(365*24*time.Hour))
	})
	slices.SortFunc(instants, time.Time.Compare)

	s := NewState()
	var journal recorded
	journal.apply(t, s, from, PolicyLoaded{Digest: "digest", Policy: p})
	admitted, held := 0, 0
	var last *Plan
	for _, now := range instants {
		switch random.IntN(40) {
		case 0:
			shutOrReopen(t, s, &journal, r, random, now)
		case 1:
			p = r.rename(random.IntN)
			journal.apply(t, s, now, PolicyLoaded{Digest: "digest", Policy: p})
			last = nil
		}
		held += len(s.Held())
		plan := s.Plan(now)
		if !agree(t, fmt.Sprintf("%s, plan at %s", name, now.In(p.Zone)), r, plan, now, random, &admitted) {
			return
		}
		if random.IntN(50) == 0 {
			// Instants in any order, and a state of one's own, change nothing.
			s.Plan(from.Add(time.Duration(random.Int64N(int64(365 * 24 * time.Hour)))))
			for what, other := range map[string]*Plan{"the same state": s.Plan(now), "a copy": s.Copy().Plan(now), "a replay": journal.replay(t, now, p).Plan(now)} {
				if diff := diffPlans(plan, other); diff != "" {
					t.Errorf("%s: two plans at %s differ, the second from %s:\n%s", name, now.In(p.Zone), what, diff)
					return
				}
			}
		}
		// A plan holds until its Wake.
		if last != nil && last.Wake.After(now) && sameShut(last, plan) {
			if was, is := names(last.Grants), names(plan.Grants); !slices.Equal(was, is) {
				t.Errorf("%s: grants changed between %s and %s, before Wake at %s:\n%s", name, last.At, now, last.Wake, cmp.Diff(was, is))
				return
			}
			if !agree(t, fmt.Sprintf("%s, plan at %s asked at %s", name, last.At.In(p.Zone), now.In(p.Zone)), r, last, now, random, &admitted) {
				return
			}
		} else {
			last = plan
		}
	}
	t.Logf("%s: %d instants around %d edges, %d admitted, %d times somebody was held by key", name, len(instants), len(r.edges), admitted, held)
	if admitted == 0 || held == 0 {
		t.Errorf("%s: %d were admitted, %d times somebody was held by key: the walk shows nothing", name, admitted, held)
	}
}

// recorded has the events of a state as a journal keeps them: kind and JSON.
type recorded [][2]string

// apply changes the state and keeps the event. Shuts are kept without keys: a
// replay takes them from the rosters.
func (r *recorded) apply(t *testing.T, s *State, now time.Time, e Event) {
	t.Helper()
	if err := s.Apply(now, "test", e); err != nil {
		t.Fatalf("%+v: %v", e, err)
	}
	keep := func(kind string, e Event) {
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		*r = append(*r, [2]string{kind, string(text)})
	}
	switch e := e.(type) {
	case PolicyLoaded:
		for _, part := range e.Parts() {
			keep("policy_loaded", part)
		}
	case Shut:
		keep("shut", e)
	case Reopened:
		keep("reopened", e)
	}
}

// replay gives the state that comes of them and of a policy that is read then.
func (r recorded) replay(t *testing.T, now time.Time, p *Policy) *State {
	t.Helper()
	s := NewState()
	apply := func(e Event) {
		if err := s.Apply(now, "test", e); err != nil {
			t.Fatalf("replay of %+v: %v", e, err)
		}
	}
	for _, kept := range r {
		e, err := DecodeEvent(kept[0], []byte(kept[1]))
		if err != nil {
			t.Fatalf("replay of %s: %v", kept, err)
		}
		apply(e)
	}
	apply(PolicyLoaded{Digest: "digest", Policy: p})
	return s
}

// shutOrReopen does one or the other to something, in the state and in the reference.
func shutOrReopen(t *testing.T, s *State, journal *recorded, r *reference, random *rand.Rand, now time.Time) {
	v := r.policy.Vendors[random.IntN(len(r.policy.Vendors))]
	scope := []Scope{All, Scope(v.Name), Scope(v.Engineers[random.IntN(len(v.Engineers))].String())}[random.IntN(3)]
	for open := range r.shut { // rather reopen, or soon everything is shut
		if random.IntN(2) == 0 {
			scope = open
		}
	}
	if r.shut[scope] != nil {
		journal.apply(t, s, now, Reopened{scope, "test"})
		delete(r.shut, scope)
		return
	}
	journal.apply(t, s, now, Shut{Scope: scope, Reason: "test"})
	r.shut[scope] = map[Key]bool{}
	r.comes()
}

// sameShut reports whether the same is shut in two plans.
func sameShut(a, b *Plan) bool {
	return maps.EqualFunc(a.shut, b.shut, func(x, y ShutRecord) bool { return x.At.Equal(y.At) && slices.Equal(x.Keys, y.Keys) })
}

// agree holds a plan against the reference at an instant.
func agree(t *testing.T, name string, r *reference, p *Plan, now time.Time, random *rand.Rand, admitted *int) bool {
	t.Helper()
	r.look(now)
	want := []string{}
	for _, v := range r.policy.Vendors {
		for _, w := range v.Windows {
			for _, s := range r.known[w] {
				for _, e := range w.Engineers {
					if !r.shuts(e, func(string) bool { return true }) {
						want = append(want, fmt.Sprintf("%s/%s@%s until %s", e, w.Name, s.From.UTC().Format("20060102T150405Z"), s.Until.UTC()))
					}
				}
			}
		}
	}
	slices.Sort(want)
	got := names(p.Grants)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("%s: grants (-want +got):\n%s", name, cmp.Diff(want, got))
		return false
	}
	if p.At.Equal(now) {
		var change, wake time.Time
		soonest := func(t *time.Time, candidate time.Time) {
			if candidate.After(now) && (t.IsZero() || candidate.Before(*t)) {
				*t = candidate
			}
		}
		for _, spans := range r.pieces {
			for _, s := range spans {
				soonest(&change, s.From)
				soonest(&change, s.Until)
				soonest(&wake, s.From.Add(-Lead))
			}
		}
		soonest(&wake, change)
		known := func(t time.Time) bool { return !t.IsZero() && t.Before(r.until.Add(-72*time.Hour)) }
		if known(change) && !change.Equal(p.NextChange) || known(wake) && !wake.Equal(p.Wake) {
			t.Errorf("%s: next change %s, wake %s; want %s, %s", name, p.NextChange, p.Wake, change.UTC(), wake.UTC())
			return false
		}
	}
	for _, v := range r.policy.Vendors {
		for _, e := range v.Engineers {
			for _, q := range queries(e, random) {
				reason, engineer, until := r.decide(q, now)
				d := p.Decide(q, now)
				if d.Reason == Admitted {
					*admitted++
				}
				if d.Reason != reason || d.Engineer != engineer || !d.Until.Equal(until) {
					t.Errorf("%s: %s asks %+v:\n got %v until %s\nwant %v until %s", name, e, q, d.Reason, d.Until, reason, until)
					return false
				}
				if (d.Grant != nil) != (reason == Admitted) || d.Grant != nil && (!d.Grant.Contains(now) || d.Grant.Engineer != e) {
					t.Errorf("%s: %s asks %+v: %v on grant %v", name, e, q, d.Reason, d.Grant)
					return false
				}
			}
			if r.shut[All] == nil && p.At.Equal(now) {
				_, _, until := r.decide(Query{Key: e.Key, Proven: true}, now)
				if got := p.Until(e, now); !got.Equal(until) {
					t.Errorf("%s: Until(%s) = %s, want %s", name, e, got, until)
					return false
				}
				listed := p.Listed(e.Sources[0].Addr(), "", now)
				if !until.IsZero() && !listed {
					t.Errorf("%s: %s is open to %s, which is not listed", name, e.Sources[0], e)
					return false
				}
			}
		}
	}
	return true
}

// queries asks for an engineer: without more, then from and to one of each kind.
func queries(e *Engineer, random *rand.Rand) []Query {
	all := []Query{{Key: e.Key, Proven: true}}
	sources := []netip.Addr{{}, e.Sources[0].Addr(), e.Vendor.Sources[0].Addr(), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:1::7")}
	targets := []struct {
		to    string
		proto uint8
	}{
		{"10.1.0.5:22", TCP}, {"10.1.0.5:22", UDP}, {"10.1.0.5:5905", TCP}, {"10.1.0.5:5911", TCP}, {"10.1.0.5:0", ICMP}, {"10.1.0.9:0", ICMP},
		{"10.1.2.15:161", UDP}, {"10.1.2.16:161", UDP}, {"[fd00:1::5]:443", TCP}, {"[fd00:1::5]:0", ICMPv6}, {"[fd00:1::5]:0", ICMP},
	}
	for range 2 {
		target := targets[random.IntN(len(targets))]
		q := Query{Key: e.Key, Proven: true, Source: sources[random.IntN(len(sources))], To: netip.MustParseAddrPort(target.to), Proto: target.proto}
		switch random.IntN(12) {
		case 0:
			q.Fault = []Reason{Malformed, RateLimited, Replayed, FutureTimestamp}[random.IntN(4)]
		case 1:
			q.Proven = false
		case 2:
			q.Key = Key{}
		case 3:
			q.Key[5] = 1
		}
		all = append(all, q)
	}
	return all
}

func names(grants []*Grant) []string {
	all := make([]string, len(grants))
	for i, g := range grants {
		all[i] = g.ID + " until " + g.Until.UTC().String()
	}
	return all
}

// diffPlans compares all that a plan says.
func diffPlans(a, b *Plan) string {
	say := func(p *Plan) []string {
		lines := append(names(p.Grants), p.At.UTC().String(), p.NextChange.UTC().String(), p.Wake.UTC().String(), p.Doubt)
		for _, w := range p.Windows {
			lines = append(lines, fmt.Sprint(w.Window, w.Current.From.UTC(), w.Current.Until.UTC(), w.Next.From.UTC(), w.Next.Until.UTC()))
		}
		return lines
	}
	return cmp.Diff(say(a), say(b))
}

func describeAll(zone *time.Location, spans []Span) []string {
	all := []string{}
	for _, s := range spans {
		all = append(all, describe(zone, s))
	}
	return all
}

func describeWindow(w *Window) string {
	text := fmt.Sprintf("%T%+v, valid %s to %s, contract %s, except", w.Schedule, w.Schedule, w.ValidFrom, w.ValidUntil, w.Vendor.ContractUntil)
	for _, c := range w.Except {
		text += fmt.Sprintf(" %+v", *c)
	}
	return text
}

// TestEveryMinuteOfAYear asks at every minute of a year, so that the edges
// around which the test above looks are not missed by both sides alike.
func TestEveryMinuteOfAYear(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	zone, around := mustZone(t, "America/New_York"), mustDate("2026-01-01")
	p, rules := randomPolicy(random.IntN, zone, around)
	from := midnight(zone, around)
	until := from.Add(365 * 24 * time.Hour)
	r := newReference(p, rules, 15*time.Minute, from.Add(-72*time.Hour), until.Add(72*time.Hour))
	s := NewState()
	if err := s.Apply(from, "test", PolicyLoaded{Digest: "digest", Policy: p}); err != nil {
		t.Fatal(err)
	}
	plan := s.Plan(from)
	opened := 0
	for now := from; now.Before(until); now = now.Add(time.Minute) {
		if !now.Before(plan.Wake) {
			plan = s.Plan(now)
		}
		for i, w := range plan.index.windows {
			open := r.open(w, now)
			if open {
				opened++
			}
			if plan.Windows[i].Current.Contains(now) != open {
				t.Fatalf("%s at %s: open %v, want %v", w, now, !open, open)
			}
		}
	}
	if opened < 1000 {
		t.Errorf("only %d minutes were open: too few to say anything", opened)
	}
}

// TestPlanHorizon: an opening far ahead comes into sight at the same instant,
// whether or not other plans were made before.
func TestPlanHorizon(t *testing.T) {
	s, p := example(t)
	opens := time.Date(2026, 12, 7, 17, 0, 0, 0, p.Zone)
	before, seen := 0, 0
	for at := opens.Add(-Horizon - 48*time.Hour); at.Before(opens.Add(-Horizon + 48*time.Hour)); at = at.Add(time.Hour) {
		plan := s.Plan(at)
		if diff := diffPlans(plan, s.Copy().Plan(at)); diff != "" {
			t.Errorf("at %s a state that planned before and one that did not differ:\n%s", at, diff)
		}
		if plan.Windows[1].Next.IsZero() {
			before++
		} else {
			seen++
		}
	}
	if before < 24 || seen < 24 {
		t.Errorf("in sight %d times, out of sight %d times", seen, before)
	}
}
