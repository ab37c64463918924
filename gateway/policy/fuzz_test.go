package policy

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// FuzzPolicy makes a policy and an instant of random bytes, and holds what is
// true of every plan of every policy. The seeds run with the other tests.
func FuzzPolicy(f *testing.F) {
	random := rand.NewChaCha8([32]byte{1})
	for n := range 24 {
		seed := make([]byte, 40*n)
		random.Read(seed)
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		pick := func(n int) int { // the next two bytes; 0 where there are none left
			if len(data) < 2 {
				return 0
			}
			v := int(binary.LittleEndian.Uint16(data))
			data = data[2:]
			return v % n
		}
		c := clocks[pick(len(clocks))]
		zone, around := mustZone(t, c.zone), mustDate(c.from)
		now := midnight(zone, around).Add(time.Duration(pick(365*24))*time.Hour + time.Duration(pick(3600))*time.Second)
		p, _ := randomPolicy(pick, zone, around)
		s := NewState()
		if err := s.Apply(now, "fuzz", PolicyLoaded{Digest: "digest", Policy: p}); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			plan := s.Plan(now)
			invariants(t, s, plan)
			if t.Failed() || plan.Wake.IsZero() {
				return
			}
			now = plan.Wake
		}
	})
}

func invariants(t *testing.T, s *State, plan *Plan) {
	now := plan.At
	if diff := diffPlans(plan, s.Copy().Plan(now)); diff != "" {
		t.Errorf("a second plan differs:\n%s", diff)
	}
	if !plan.NextChange.IsZero() && !plan.NextChange.After(now) || plan.Wake.After(plan.NextChange) || plan.Wake.IsZero() != plan.NextChange.IsZero() || !plan.Wake.IsZero() && !plan.Wake.After(now) {
		t.Errorf("plan at %s wakes at %s for a change at %s", now, plan.Wake, plan.NextChange)
	}
	seen := map[string]bool{}
	for _, g := range plan.Grants {
		if seen[g.ID] {
			t.Errorf("two grants are called %s", g.ID)
		}
		seen[g.ID] = true
		if !g.From.Before(g.Until) || !g.Until.After(now) || g.From.After(now.Add(Lead)) {
			t.Errorf("grant %s from %s until %s in a plan at %s", g.ID, g.From, g.Until, now)
		}
		if !slices.Contains(g.Window.Engineers, g.Engineer) {
			t.Errorf("grant %s is for an engineer whom the window does not name", g.ID)
		}
	}
	for _, w := range plan.Windows {
		last := now
		for _, span := range w.Window.Spans(plan.Policy.Zone, now, now.Add(60*24*time.Hour)) {
			if !span.From.Before(span.Until) || span.From.Before(last) && !span.Contains(now) || !span.Until.After(now) {
				t.Errorf("%s has a span from %s until %s after %s", w.Window, span.From, span.Until, last)
			}
			last = span.Until
			// The same span, whole, whatever part of it is asked for.
			middle := span.From.Add(span.Until.Sub(span.From) / 2)
			again := w.Window.Spans(plan.Policy.Zone, middle, middle.Add(1))
			if len(again) != 1 || !again[0].From.Equal(span.From) || !again[0].Until.Equal(span.Until) {
				t.Errorf("%s has %v, but asked in its middle %v", w.Window, span, again)
			}
			for _, instant := range []time.Time{span.From, middle, span.Until.Add(-1)} {
				if d := DateOf(instant.In(plan.Policy.Zone)); w.Window.cuts(d) {
					t.Errorf("%s is open at %s, a date that is cut", w.Window, instant)
				}
			}
		}
	}
	for _, e := range plan.index.engineers {
		d := plan.Decide(Query{Key: e.Key, Proven: true}, now)
		if until := plan.Until(e, now); (d.Reason == Admitted) == until.IsZero() || !d.Until.Equal(until) {
			t.Errorf("%s: %v until %s, but Until is %s", e, d.Reason, d.Until, until)
		}
		if next := plan.NextOpening(e, now); !next.IsZero() && (!next.After(now) || next.Before(plan.NextChange)) {
			t.Errorf("%s: the next opening is %s, the next change %s, now %s", e, next, plan.NextChange, now)
		}
		if d.Reason == Admitted && plan.Doubted("doubt").Decide(Query{Key: e.Key, Proven: true}, now).Reason != NotReady {
			t.Errorf("%s enters in doubt", e)
		}
	}
}

// FuzzRule: whatever the text, a rule is refused or gives dates in order.
func FuzzRule(f *testing.F) {
	for _, text := range []string{
		"FREQ=DAILY", "FREQ=MONTHLY;BYDAY=2SU", "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,FR;WKST=SU", "FREQ=YEARLY;BYYEARDAY=-1",
		"FREQ=YEARLY;BYDAY=-53MO", "FREQ=MONTHLY;BYDAY=-5MO", "FREQ=MONTHLY;BYMONTHDAY=-31;BYSETPOS=-1", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29",
		"FREQ=MONTHLY;BYDAY=53MO", "FREQ=DAILY;BYSETPOS=1;BYMONTH=1", "freq=daily", "FREQ=DAILY;;", "FREQ=\x00",
	} {
		f.Add(text, uint16(0))
	}
	f.Fuzz(func(t *testing.T, text string, day uint16) {
		anchor := Date{2020, time.January, 1}.AddDays(int(day) % 4000)
		r, err := NewRule(text, 0, time.Hour, anchor)
		if err != nil {
			return
		}
		last := anchor.AddDays(-1)
		for _, d := range r.occurrences(anchor.AddDays(-400), anchor.AddDays(800)) {
			if d.Compare(last) <= 0 {
				t.Errorf("%q occurs on %s after %s", text, d, last)
			}
			last = d
		}
	})
}
