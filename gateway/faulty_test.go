package gateway

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"kidoban/gateway/journal"
)

// TestAFaultFoundLaterCloses: a start from a state opens, and what is found in the rest of the journal
// afterwards closes all. The journal goes on, and a recovery leads out.
func TestAFaultFoundLaterCloses(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.faults = make(chan error, 1)
		w.at("01:30:00")
		w.start()
		w.enter("acme/brown", address)
		w.faults <- fmt.Errorf("read later: %w", &journal.DamageError{Entry: 7, What: "it is another"})
		synctest.Wait()
		same(t, "open", w.open(), []string{})
		same(t, "open in the kernel", w.kernel(), []string{})
		same(t, "sessions", w.sessions(), []string{})
		if !strings.Contains(w.notReady(), "written to the journal earlier has a fault: read later: the journal does not verify from entry 7 on: it is another") {
			t.Errorf("not ready for %q", w.notReady())
		}
		same(t, "told", w.told(journal.Doubt, journal.SessionClosed), []string{"doubt not_ready", "session_closed brown gateway_shut"})
		if out, err := w.gateway.Recover(t.Context(), yamada, "mended"); err != nil || len(out.Problems) > 0 {
			t.Errorf("%+v, %v", out, err)
		}
		synctest.Wait()
		if w.notReady() != "" {
			t.Errorf("after a recovery it is not ready for %q", w.notReady())
		}
	})
}
