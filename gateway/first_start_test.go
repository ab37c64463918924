package gateway

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// TestFault88FirstStart: a gateway with an empty state folder does not know what was
// shut. It says so in the log, in the journal, and for a day in status.
func TestFault88FirstStart(t *testing.T) {
	hinted := func(w *world) bool {
		return slices.ContainsFunc(w.gateway.Snapshot().StatusAt(w.wall()).HintMessages, func(m view.Message) bool { return m.Code == "first_start" })
	}
	restart := func(t *testing.T, w *world) {
		t.Helper()
		if err := w.stop(); err != nil {
			t.Fatal(err)
		}
		w.start()
	}
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		var said bytes.Buffer
		w.logger = slog.New(slog.NewTextHandler(&said, nil))
		w.start()
		same(t, "recorded", w.told(journal.Start), []string{"start first_start"})
		same(t, "logged", strings.Count(said.String(), "level=WARN msg=\"the state folder was empty"), 1)
		same(t, "hinted", hinted(w), true)
		w.at("23:59:00")
		restart(t, w)
		same(t, "hinted after a restart", hinted(w), true)
		same(t, "recorded by the second start", w.told(journal.Start), []string{"start first_start", "start"})
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		same(t, "hinted after a day", hinted(w), false)
		restart(t, w)
		same(t, "hinted after a day and a restart", hinted(w), false)
		same(t, "logged in all", strings.Count(said.String(), "the state folder was empty"), 1)
	})
	// Where something is known to be shut, the folder was not empty.
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.latch = []policy.ShutRecord{{Scope: "acme", At: w.wall(), Actor: "yamada", Reason: "a test"}}
		w.start()
		same(t, "hinted with a latch", hinted(w), false)
	})
	// A journal that recover began is not the first.
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.damage = errFault
		w.start()
		if _, err := w.gateway.Recover(t.Context(), yamada, "a test"); err != nil {
			t.Fatal(err)
		}
		same(t, "hinted after a recovery", hinted(w), false)
		restart(t, w)
		same(t, "hinted after a recovery and a restart", hinted(w), false)
	})
}

// notifications are what the service manager was told, in order.
func (w *world) notifications() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.notified)
}

// TestFault89AStartThatTakesLong: reading a long journal does not hold up the boot of
// the host, which waits for READY, nor does the service manager kill the gateway
// meanwhile. Nobody is inside, and a close holds.
func TestFault89AStartThatTakesLong(t *testing.T) {
	simulate(t, everybody("acme", "brown"), func(t *testing.T, w *world) {
		w.at("01:30:00")
		reads := make(chan struct{})
		w.do(func() { w.opening.hang = reads })
		w.start()
		told := w.notifications
		same(t, "told at once", told(), []string{"ready", "status starting"})
		same(t, "sessions", w.gateway.Snapshot().Sessions, []view.SessionStatus{}) // null would be no list
		if said := w.closeHung("acme"); !strings.Contains(said, "still starts") {
			t.Errorf("close: %s", said)
		}
		same(t, "latched", w.marked(), []string{"acme", "all"}) // without a latch everything is shut, until the start has ended
		for range 20 {                                          // ten minutes
			before := len(told())
			time.Sleep(30 * time.Second) // WatchdogSec
			if news := told()[before:]; len(news) == 0 || slices.Contains(news, "ready") {
				t.Fatalf("told within 30 s: %q", news)
			}
			same(t, "live", w.gateway.Live(), true)
			same(t, "why not ready", w.notReady(), "starting")
			same(t, "open", w.open(), []string{})
		}
		close(reads)
		synctest.Wait()
		same(t, "why not ready afterwards", w.notReady(), "")
		same(t, "status then", slices.Contains(told(), "status "), true)
		same(t, "shut", w.shutNow(), []string{"acme"})
		for _, e := range w.durable() { // the close came first
			if e.Kind == journal.WindowOpened && e.Vendor == "acme" {
				t.Errorf("opened all the same: %+v", e)
			}
		}
		same(t, "ready again", strings.Count(strings.Join(told(), "\n"), "ready"), 1)
	})
	// A reload meanwhile holds nothing up.
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		reads := make(chan struct{})
		w.do(func() { w.opening.hang = reads })
		w.start()
		if _, err := w.gateway.Reload(t.Context(), yamada); err == nil || !strings.Contains(err.Error(), "the gateway still starts") {
			t.Errorf("a reload meanwhile: %v", err)
		}
		reloaded := make(chan error, 1)
		go func() { _, err := w.gateway.Reload(t.Context(), yamada); reloaded <- err }()
		time.Sleep(readWait / 2)
		close(reads)
		synctest.Wait()
		same(t, "why not ready after a reload meanwhile", w.notReady(), "")
		same(t, "the reload", <-reloaded, nil)
	})
	// One that never ends is killed, and started anew.
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		reads := make(chan struct{})
		w.do(func() { w.opening.hang = reads })
		w.start()
		time.Sleep(startWait + time.Minute)
		before := w.notifications()
		same(t, "live", w.gateway.Live(), false)
		time.Sleep(time.Minute)
		same(t, "told", w.notifications(), before)
		close(reads)
	})
}
