package gateway

import (
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// TestFrozenInTheJournal: a grant with grace is frozen from its end on, and goes on if its window
// opens again in time. The kernel hears of both, and of the end of the grace, in a turn of its own.
func TestFrozenInTheJournal(t *testing.T) {
	graceful := func(until string) *policy.Policy {
		p := site(window{name: "acme/night", from: "01:00:00", until: until})
		p.Vendor("acme").Windows[0].Grace = 15 * time.Minute
		p.Digest += until + "graceful"
		return p
	}
	kinds := []journal.Kind{journal.WindowOpened, journal.WindowClosed, journal.Frozen, journal.Resumed}
	frozen := func(w *world) int { return len(w.ruleset().Frozen) }
	atEnd := []string{"window_opened brown night", "window_closed brown night window_closed", "frozen brown night"}
	for _, c := range []struct {
		name string
		p    *policy.Policy
		do   func(t *testing.T, w *world)
		told []string
	}{
		{"no grace", oneHour(), func(t *testing.T, w *world) {
			w.at("02:00:00")
			same(t, "frozen", frozen(w), 0)
		}, atEnd[:2]},
		{"over", graceful("02:00:00"), func(t *testing.T, w *world) {
			w.at("02:00:00")
			same(t, "open", len(w.ruleset().Grants), 0)
			w.at("02:14:59.999")
			same(t, "frozen before the end of the grace", frozen(w), 1)
			w.at("02:15:00")
			same(t, "frozen at the end of the grace", frozen(w), 0)
		}, atEnd},
		{"extended in time", graceful("02:00:00"), func(t *testing.T, w *world) {
			w.at("02:10:00")
			w.reload(graceful("03:00:00"))
			time.Sleep(time.Second)
			same(t, "open", w.kernel(), []string{"acme/brown/night"})
			same(t, "frozen", frozen(w), 0)
		}, append(atEnd[:3:3], "window_opened brown night", "resumed brown night")},
		{"extended too late", graceful("02:00:00"), func(_ *testing.T, w *world) {
			w.at("02:15:00")
			w.reload(graceful("03:00:00"))
			time.Sleep(time.Second)
		}, append(atEnd[:3:3], "window_opened brown night")},
		{"closed", graceful("02:00:00"), func(t *testing.T, w *world) {
			w.at("02:10:00")
			w.shut("acme/brown")
			same(t, "frozen", frozen(w), 0)
			w.reopen("acme/brown")
			same(t, "frozen after it was reopened", frozen(w), 0)
			w.reload(graceful("03:00:00"))
			time.Sleep(time.Second)
		}, append(atEnd[:3:3], "window_opened brown night")},
		{"a crash", graceful("02:00:00"), func(t *testing.T, w *world) {
			w.at("02:10:00")
			w.crash()
			w.start()
			time.Sleep(time.Second)
			same(t, "frozen", frozen(w), 0)
		}, atEnd},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, c.p, func(t *testing.T, w *world) {
				w.at("00:59:00")
				w.start()
				c.do(t, w)
				same(t, "recorded", w.told(kinds...), c.told)
			})
		})
	}
}
