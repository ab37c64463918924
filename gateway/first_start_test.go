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
