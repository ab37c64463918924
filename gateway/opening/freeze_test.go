package opening

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"kidoban/gateway/clock"
	"kidoban/gateway/policy"
)

// TestFreeze takes one window with a grace of 15 minutes through its end, and looks at what is
// frozen and what goes on.
func TestFreeze(t *testing.T) {
	day := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	site := func(change func(*policy.Policy)) *policy.Policy {
		v := &policy.Vendor{Name: "acme"}
		v.Engineers = []*policy.Engineer{{Vendor: v, Name: "brown", Key: policy.Key{1}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
			Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/28")}}}
		every := &policy.Days{From: 3600, To: 7200}
		for d := range every.Weekdays {
			every.Weekdays[d] = true
		}
		v.Windows = []*policy.Window{{Vendor: v, Name: "night", Engineers: v.Engineers, Schedule: every, Grace: 15 * time.Minute}}
		p := &policy.Policy{Digest: "1", Zone: time.UTC, Vendors: []*policy.Vendor{v}}
		if change != nil {
			change(p)
		}
		return p
	}
	window := func(p *policy.Policy) *policy.Window { return p.Vendors[0].Windows[0] }
	extended := func(p *policy.Policy) { window(p).Schedule.(*policy.Days).To = 9000 }
	type world struct {
		t        *testing.T
		wall     time.Time
		boot     time.Duration
		watch    *clock.Watch
		set      *Set
		state    *policy.State
		inForce  *policy.Plan
		unopened bool // no opening reaches the disk
		doubt    bool
		log      string
	}
	load := func(w *world, change func(*policy.Policy)) {
		p := site(change)
		if err := w.state.Apply(w.wall, "yamada", policy.PolicyLoaded{Digest: p.Digest, Policy: p}); err != nil {
			w.t.Fatal(err)
		}
	}
	shut := func(w *world, scope policy.Scope) {
		if err := w.state.Apply(w.wall, "yamada", policy.Shut{Scope: scope}); err != nil {
			w.t.Fatal(err)
		}
	}
	evaluate := func(w *world) {
		for range 2 { // once more when openings are on disk
			before, wanted := w.inForce, w.state.Plan(w.wall)
			if w.inForce = w.set.Restrict(wanted); w.doubt {
				w.inForce = wanted.Doubted("a doubt")
			}
			w.set.Freeze(before, w.inForce)
			w.set.Begin(w.inForce)
			for _, n := range Thaw(before, w.inForce) {
				w.log += fmt.Sprint(" ", n.Kind, " until ", n.Until.Format("15:04"))
			}
			w.set.Close(w.inForce)
			if !w.unopened && !w.doubt {
				for _, o := range w.set.ToRecord(wanted) {
					w.set.Recorded(o, true)
				}
			}
		}
		w.log += fmt.Sprint(" ", len(w.inForce.Frozen))
	}
	pass := func(w *world, d time.Duration) {
		w.wall, w.boot = w.wall.Add(d), w.boot+d
		w.watch.Tick()
		evaluate(w)
	}
	step := func(w *world, d time.Duration) {
		w.wall = w.wall.Add(d)
		w.watch.Tick()
		evaluate(w)
	}
	atEnd := func(w *world) { pass(w, time.Hour) }
	for _, c := range []struct {
		name string
		do   func(w *world)
		want string
	}{
		{"the end, and the end of the grace", func(w *world) { atEnd(w); pass(w, 15*time.Minute-1); pass(w, 1) }, " frozen until 02:15 1 1 0"},
		{"no grace", func(w *world) { load(w, func(p *policy.Policy) { window(p).Grace = 0 }); evaluate(w); atEnd(w) }, " 0 0"},
		{"late", func(w *world) { pass(w, 75*time.Minute) }, " 0"},
		{"extended in time", func(w *world) { atEnd(w); pass(w, 10*time.Minute); load(w, extended); evaluate(w) }, " frozen until 02:15 1 1 resumed until 02:30 0"},
		{"extended in time, and ends again", func(w *world) { atEnd(w); load(w, extended); evaluate(w); pass(w, 30*time.Minute) },
			" frozen until 02:15 1 resumed until 02:30 0 frozen until 02:45 1"},
		{"extended in time, and not on disk yet", func(w *world) {
			atEnd(w)
			load(w, extended)
			w.unopened = true
			evaluate(w)
			w.unopened = false
			evaluate(w)
		}, " frozen until 02:15 1 1 resumed until 02:30 0"},
		{"extended in time, and on disk too late", func(w *world) {
			atEnd(w)
			load(w, extended)
			w.unopened = true
			pass(w, 15*time.Minute)
			w.unopened = false
			evaluate(w)
		}, " frozen until 02:15 1 0 0"},
		{"extended too late", func(w *world) { atEnd(w); pass(w, 15*time.Minute); load(w, extended); evaluate(w) }, " frozen until 02:15 1 0 0"},
		{"closed", func(w *world) { atEnd(w); shut(w, "acme/brown"); evaluate(w) }, " frozen until 02:15 1 0"},
		{"closed before its end", func(w *world) { shut(w, policy.All); evaluate(w); atEnd(w) }, " 0 0"},
		{"a doubt", func(w *world) { atEnd(w); w.doubt = true; evaluate(w); w.doubt = false; evaluate(w) }, " frozen until 02:15 1 0 0"},
		{"a doubt at its end", func(w *world) { w.doubt = true; atEnd(w); w.doubt = false; evaluate(w) }, " 0 0"},
		{"a shorter grace", func(w *world) {
			atEnd(w)
			load(w, func(p *policy.Policy) { window(p).Grace = 5 * time.Minute })
			evaluate(w)
			pass(w, 5*time.Minute)
		}, " frozen until 02:15 1 1 0"},
		{"the same policy again", func(w *world) { atEnd(w); load(w, nil); evaluate(w) }, " frozen until 02:15 1 1"},
		{"grace taken away", func(w *world) { atEnd(w); load(w, func(p *policy.Policy) { window(p).Grace = 0 }); evaluate(w) }, " frozen until 02:15 1 0"},
		{"window taken away", func(w *world) { atEnd(w); load(w, func(p *policy.Policy) { p.Vendors[0].Windows = nil }); evaluate(w) }, " frozen until 02:15 1 0"},
		{"engineer taken away", func(w *world) { atEnd(w); load(w, func(p *policy.Policy) { window(p).Engineers = nil }); evaluate(w) }, " frozen until 02:15 1 0"},
		{"another key", func(w *world) {
			atEnd(w)
			load(w, func(p *policy.Policy) { p.Vendors[0].Engineers[0].Key = policy.Key{2} })
			evaluate(w)
		}, " frozen until 02:15 1 0"},
		{"shortened by a reload", func(w *world) {
			load(w, func(p *policy.Policy) { window(p).Schedule.(*policy.Days).To = 3601 })
			evaluate(w)
		}, " 0"},
		{"the clock is set back within the grace", func(w *world) { atEnd(w); step(w, -time.Minute); pass(w, 14*time.Minute); pass(w, time.Minute) },
			" frozen until 02:15 1 1 1 0"},
		{"the clock is set ahead within the grace", func(w *world) { atEnd(w); step(w, 10*time.Minute); pass(w, 5*time.Minute) }, " frozen until 02:15 1 1 0"},
		{"the clock is set back before the end", func(w *world) { pass(w, 30*time.Minute); step(w, -10*time.Minute); pass(w, 30*time.Minute) },
			" 0 0 frozen until 02:05 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{t: t, wall: day.Add(time.Hour), boot: time.Hour, state: policy.NewState()}
			w.watch = clock.NewWatch(clock.Source{Wall: func() time.Time { return w.wall }, Boot: func() time.Duration { return w.boot }, Synchronized: func() bool { return true }})
			w.set = NewSet(w.watch)
			load(w, nil)
			w.inForce = w.state.Plan(w.wall)
			evaluate(w)
			if len(w.inForce.Grants) != 1 {
				t.Fatal("the window does not open")
			}
			w.log = ""
			c.do(w)
			if w.log != c.want {
				t.Errorf("%q, want %q", w.log, c.want)
			}
		})
	}
}
