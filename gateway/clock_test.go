package gateway

import (
	"strings"
	"testing"
	"time"

	"kidoban/gateway/journal"
)

// The window of these tests is open from 01:00 to 02:00; the gateway starts at
// 00:59:00. Times are those of the boot clock, which nobody sets: what the
// wall clock would show had it not been set.
func TestFault44ClockSteps(t *testing.T) {
	type look struct {
		at   string // by the boot clock
		open bool
	}
	type step struct {
		at string // by the boot clock
		by time.Duration
	}
	for _, c := range []struct {
		name  string
		steps []step
		looks []look
	}{
		{"forward closes early", []step{{"01:30:00", 29*time.Minute + 59*time.Second}},
			[]look{{"01:30:00", true}, {"01:30:00.999", true}, {"01:30:01", false}}},
		{"forward over the end closes at once", []step{{"01:30:00", time.Hour}}, []look{{"01:30:00", false}}},
		{"forward over the opening opens", []step{{"00:59:30", time.Minute}}, []look{{"00:59:30", true}, {"01:58:59", true}, {"01:59:30", false}}},
		{"back by little extends nothing", []step{{"01:30:00", -4 * time.Second}},
			[]look{{"01:30:01", true}, {"01:59:59.999", true}, {"02:00:00", false}, {"02:00:03", false}}},
		{"back by little, again and again, extends nothing", []step{{"01:30:00", -4 * time.Second}, {"01:40:00", -4 * time.Second}, {"01:50:00", -4 * time.Second}},
			[]look{{"01:59:59.999", true}, {"02:00:00", false}, {"02:00:11", false}}},
		{"back by steps too small to see adds up", []step{{"01:30:00", -6 * time.Millisecond}, {"01:30:02", -6 * time.Millisecond}, {"01:30:04", -6 * time.Millisecond}, {"01:30:06", -6 * time.Millisecond}},
			[]look{{"01:59:59.9", true}, {"02:00:00", false}}},
		{"back just after the end opens nothing again", []step{{"02:00:01", -3 * time.Second}},
			[]look{{"02:00:00", false}, {"02:00:01", false}, {"02:00:03", false}, {"02:00:10", false}}},
		{"back before the opening cuts nothing short", []step{{"00:59:55", -4 * time.Second}},
			[]look{{"01:00:03.999", false}, {"01:00:04", true}, {"02:00:03.999", true}, {"02:00:04", false}}},
		{"back just after the opening opens again, and not for longer", []step{{"01:00:02", -4 * time.Second}},
			[]look{{"01:00:01", true}, {"01:00:02", false}, {"01:00:03.999", false}, {"01:00:04", true}, {"01:59:59.999", true}, {"02:00:00", false}}},
		{"forward and back is as if it had not been", []step{{"01:30:00", 4 * time.Second}, {"01:31:00", -4 * time.Second}},
			[]look{{"01:59:59.999", true}, {"02:00:00", false}}},
		{"back far is doubted until it has passed, and extends nothing", []step{{"01:30:00", -10 * time.Minute}},
			[]look{{"01:30:00", false}, {"01:39:59", false}, {"01:40:01", true}, {"01:59:59.999", true}, {"02:00:00", false}}},
		{"back farther than the window is long leaves nothing of it", []step{{"01:30:00", -time.Hour}},
			[]look{{"01:30:00", false}, {"02:00:00", false}, {"02:30:01", false}, {"02:50:00", false}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				boot := func(clock string) time.Duration { return moment(clock).Sub(moment("00:00:00")) }
				pass := func(clock string) {
					time.Sleep(boot(clock) - time.Since(w.began))
				}
				pass("00:59:00")
				w.start()
				for _, l := range c.looks {
					for len(c.steps) > 0 && boot(c.steps[0].at) <= boot(l.at) {
						pass(c.steps[0].at)
						w.step(c.steps[0].by)
						c.steps = c.steps[1:]
					}
					pass(l.at)
					w.step(0)
					if got := len(w.open()) > 0; got != l.open {
						t.Errorf("at %s by the boot clock: open = %t, want %t (not ready because %q)", l.at, got, l.open, w.notReady())
					}
					// The plan never says more than what it opens at this moment.
					for _, g := range w.plan().Grants {
						if left, boot := g.Until.Sub(w.wall()), boot("02:00:04")-time.Since(w.began); left > boot {
							t.Errorf("at %s by the boot clock: the plan opens %s for %s more", l.at, g.ID, left)
						}
					}
				}
			})
		})
	}
}

func TestFault44AStepThatNobodyToldOfIsSeenWithinAHeartbeat(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.do(func() { w.wallOffset += time.Hour })
		time.Sleep(heartbeat)
		w.step(0)
		same(t, "open", w.open(), []string{})
		same(t, "recorded", w.told(journal.ClockStep), []string{"clock_step"})
	})
}

func TestFault44RecoverAcceptsTheClock(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("00:30:00")
		w.do(func() { w.wallOffset = time.Hour })
		w.start()
		same(t, "open by the wrong clock", w.open(), []string{"acme/brown/night"})
		w.step(-time.Hour)
		same(t, "open when it is set right", w.open(), []string{})
		if got := w.notReady(); !strings.Contains(got, "the clock went back") || !strings.Contains(got, "2000-01-01 01:30:00 UTC") || !strings.Contains(got, "kidoban recover") {
			t.Errorf("not ready because %q: want what happened, until when, and what leads out", got)
		}
		w.recover()
		same(t, "not ready after the recovery", w.notReady(), "")
		w.at("00:59:59")
		same(t, "open before the window", w.open(), []string{})
		if err := w.stop(); err != nil {
			t.Error(err)
		}
		w.start() // the journal has times of 01:30 and more
		same(t, "not ready after a restart", w.notReady(), "")
		w.at("01:00:00")
		same(t, "open in the window", w.open(), []string{"acme/brown/night"})
		w.at("01:59:59.999")
		same(t, "open until its end", w.open(), []string{"acme/brown/night"})
		w.at("02:00:00")
		same(t, "open at its end", w.open(), []string{})
		if err := w.stop(); err != nil {
			t.Error(err)
		}
		w.step(-10 * time.Second) // behind what was recorded since the recovery
		w.start()
		if got := w.notReady(); !strings.Contains(got, "the clock went back") {
			t.Errorf("not ready because %q: want the clock", got)
		}
	})
}

// TestFault84AfterRecoverTheJournalTellsTheAcceptedClock: the hardware clock ran
// an hour ahead, and was set right. After the recovery nothing tells a time of
// the hour ahead, and no restart doubts the clock for it.
func TestFault84AfterRecoverTheJournalTellsTheAcceptedClock(t *testing.T) {
	for _, c := range []struct {
		name    string
		spoil   func(*world) // before the clock is set right
		mend    func(*world) // before the recovery
		restart func(*world)
		anew    bool // the recovery begins a new journal
	}{
		{name: "stopped and started"},
		{name: "killed just after it", restart: (*world).crash},
		{name: "the journal died before the step, and opens again",
			spoil: func(w *world) { w.append = fault{err: errFault} }, mend: func(w *world) { w.append = fault{} }},
		{name: "the journal died before the step, and a new one is begun", anew: true,
			spoil: func(w *world) { w.append = fault{err: errFault} }, mend: func(w *world) { w.append, w.damage = fault{}, errFault }},
		{name: "killed, with a new journal", anew: true, restart: (*world).crash,
			spoil: func(w *world) { w.append = fault{err: errFault} }, mend: func(w *world) { w.append, w.damage = fault{}, errFault }},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				const ahead = time.Hour
				w.at("00:30:00")
				w.do(func() { w.wallOffset = ahead })
				w.start()
				w.enter("acme/brown", address)
				if c.spoil != nil {
					w.do(func() { c.spoil(w) })
					w.shut("acme") // it ends the session, and the journal does not take the end
				}
				w.knock("acme/brown", "192.0.2.99:1") // counted, and a part is recorded later
				w.knock("acme/brown", "192.0.2.99:1")
				w.step(-ahead)
				if got := w.notReady(); !strings.Contains(got, "the clock went back") {
					t.Fatalf("not ready because %q: a clock that went back is in doubt", got)
				}
				before := len(w.durable())
				for _, e := range w.durable()[1:] {
					if e.Time.Before(moment("01:30:00")) {
						t.Errorf("%s at %s: before the recovery no time goes back", e.Kind, e.Time)
					}
				}
				if c.mend != nil {
					w.do(func() { c.mend(w) })
				}
				accepted := w.wall()
				w.recover()
				same(t, "not ready after the recovery", w.notReady(), "")
				restart := c.restart
				if restart == nil {
					time.Sleep(2 * time.Minute) // the rest of the refusals
					restart = func(w *world) {
						if err := w.stop(); err != nil {
							t.Error(err)
						}
					}
				}
				for _, r := range w.gateway.Snapshot().Refusals {
					if r.Last.After(w.wall()) {
						t.Errorf("a refusal at %s, it is %s", r.Last, w.wall())
					}
				}
				for what, at := range map[string]time.Time{"the policy was loaded": w.gateway.Snapshot().File.LoadedAt, "the journal was begun": w.gateway.Snapshot().Journal.Began} {
					if at.After(w.wall()) {
						t.Errorf("%s at %s, it is %s", what, at, w.wall())
					}
				}
				restart(w)
				if c.anew {
					before = 0
				}
				for i, e := range w.durable()[before:] {
					if i == 0 && (e.Kind != journal.Recovery || !e.Time.Equal(accepted) || !e.From.Equal(accepted)) {
						t.Errorf("first %s at %s, which accepts %s: want a recovery that accepts %s", e.Kind, e.Time, e.From, accepted)
					}
					for _, at := range []time.Time{e.Time, e.First, e.Last} {
						if at.After(w.wall()) || !at.IsZero() && at.Before(accepted) {
							t.Errorf("%s after the recovery tells %s, it is %s", e.Kind, at, w.wall())
						}
					}
				}
				w.do(func() { w.damage = nil })
				w.start()
				same(t, "not ready after the restart", w.notReady(), "")
			})
		})
	}
}

// TestFault86TimesInTheSitesZone: what people read of the clock has the site's zone,
// also at the start, before the policy file is read.
func TestFault86TimesInTheSitesZone(t *testing.T) {
	p := oneHour()
	p.Zone = time.FixedZone("JST", 9*3600)
	simulate(t, p, func(t *testing.T, w *world) {
		w.at("00:30:00")
		w.disk = []journal.Entry{{Kind: journal.Start, Time: w.wall().Add(time.Hour)}}
		w.start()
		if got := w.notReady(); !strings.Contains(got, "2000-01-01 10:30:00 JST has been seen") {
			t.Errorf("not ready because %q: want the newest time in the site's zone", got)
		}
		w.step(2 * time.Hour)
		var texts []string
		for _, e := range w.durable() {
			if e.Kind == journal.Doubt || e.Kind == journal.ClockStep {
				texts = append(texts, e.Text)
			}
		}
		if len(texts) != 2 || !strings.Contains(texts[0], "2000-01-01 10:30:00 JST") || texts[1] != "by 2h0m0s to 2000-01-01 11:30:00 JST" {
			t.Errorf("recorded: %q", texts)
		}
	})
}

func TestAJournalNewerThanTheClockAtStart(t *testing.T) {
	for _, c := range []struct {
		name   string
		behind time.Duration
		open   bool // at 01:30:00
		passes string
	}{
		{"by little is nothing", 5 * time.Second, true, "01:30:00"},
		{"by more is doubted until it has passed", 5*time.Second + time.Millisecond, false, "01:30:06"},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.disk = []journal.Entry{{Kind: journal.Start, Time: w.wall().Add(c.behind)}}
				w.start()
				same(t, "open at the start", len(w.open()) > 0, c.open)
				w.at(c.passes)
				time.Sleep(heartbeat)
				w.step(0)
				same(t, "open later", w.open(), []string{"acme/brown/night"})
			})
		})
	}
}

func TestFault44AMachineThatHasJustBooted(t *testing.T) {
	for _, c := range []struct {
		name  string
		up    time.Duration // at the start
		sync  time.Duration // after the start; 0: at the start; <0: never
		opens time.Duration // after the start, at the latest a heartbeat after it
	}{
		{"synchronized", time.Second, 0, 0},
		{"synchronized in time", 10 * time.Second, 20 * time.Second, 20 * time.Second},
		{"never synchronized", 10 * time.Second, -1, 50 * time.Second},
		{"never synchronized, long up", time.Hour, -1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.bootOffset = c.up - time.Since(w.began)
				w.synchronized = c.sync == 0
				w.start()
				began := time.Now()
				if c.opens > 0 {
					if got := w.notReady(); !strings.Contains(got, "not synchronized yet") {
						t.Errorf("not ready because %q: want the clock", got)
					}
				}
				for elapsed := time.Duration(0); elapsed <= c.opens; elapsed += time.Second {
					if c.sync > 0 && elapsed == c.sync {
						w.do(func() { w.synchronized = true })
					}
					if elapsed < c.opens && len(w.open()) > 0 {
						t.Fatalf("open %s after the start", elapsed)
					}
					time.Sleep(time.Second)
					w.step(0)
				}
				same(t, "open at the end of the wait", w.open(), []string{"acme/brown/night"})
				if t.Failed() {
					for _, e := range w.durable() {
						t.Log(e.Time, e.Kind, e.Reason, e.Text)
					}
					t.Log(w.wall(), w.did())
				}
				if waited := time.Since(began); waited > c.opens+2*heartbeat {
					t.Errorf("waited %s", waited)
				}
				same(t, "synchronized, says the status", w.gateway.Snapshot().Synchronized, c.sync >= 0)
			})
		})
	}
}
