package gateway

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// The log tells what the journal records, in its words, and by levels that
// mean something.
func TestTheLogSpeaksAsTheJournal(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		var text bytes.Buffer // the loop alone writes, and is quiet when we read
		w.logger = slog.New(slog.NewJSONHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))
		w.at("01:30:00")
		w.start()
		w.enter("acme/brown", address)
		w.knock("medisys/sato", address)
		w.firewall.facts <- policy.Fact{Kind: policy.Drift, Err: errFault}
		w.tunnel.facts <- policy.Fact{Kind: policy.Refusal, Count: 3, Engineer: w.engineer("medisys/sato"), Decision: policy.Decision{Reason: policy.WrongSource}}
		time.Sleep(2 * heartbeat)
		w.shut("acme")
		w.reopen("acme")
		w.step(-time.Minute)
		time.Sleep(2 * heartbeat)
		synctest.Wait()
		levels := map[string]string{}
		for lines := json.NewDecoder(&text); lines.More(); {
			var line struct{ Level, Event, Reason, Session string }
			if err := lines.Decode(&line); err != nil {
				t.Fatal(err)
			}
			name := line.Event
			if name == string(journal.Refused) {
				name += " " + line.Reason
			}
			levels[name] = line.Level
			if name == string(journal.SessionOpened) && len(line.Session) != 16 {
				t.Errorf("the session is %q", line.Session)
			}
		}
		delete(levels, "") // what is no event
		same(t, "levels", levels, map[string]string{
			"start": "WARN", "policy_loaded": "INFO", "window_opened": "INFO", "admission": "DEBUG", "session_opened": "INFO",
			"refused outside_window": "INFO", "refused wrong_source": "WARN", "drift": "WARN", "shut": "WARN", "session_closed": "INFO",
			"window_closed": "INFO", "reopened": "INFO", "clock_step": "WARN", "doubt": "ERROR", "identity": "INFO",
		})
	})
}
