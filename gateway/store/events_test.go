package store

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// TestDecisionsAreLogged in the words of the journal: who did what to which request, until when and why.
func TestDecisionsAreLogged(t *testing.T) {
	terms := policy.Terms{ID: "~a", Vendor: "medisys", Purpose: "the server is slow", Until: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	told := func(e policy.RequestEvent, t policy.Terms) string {
		var out bytes.Buffer
		Tell(slog.New(slog.NewTextHandler(&out, nil)), RequestEntry("tanaka", e, t))
		return out.String()
	}
	for _, verb := range policy.Verbs() {
		line := told(policy.Verdict{Verb: verb, ID: "~a", Reason: "a reason"}, terms)
		for _, want := range []string{"level=INFO", "event=" + string(verb) + " ", "vendor=medisys", "request=~a", `reason="a reason"`, "until=2030-01-01T00:00:00", "actor=tanaka"} {
			if !strings.Contains(line, want) {
				t.Errorf("%s is logged without %s: %s", verb, want, line)
			}
		}
	}
	if line := told(policy.Requested{Terms: terms}, terms); !strings.Contains(line, `level=INFO msg="a request was recorded" event=requested`) || !strings.Contains(line, `reason="the server is slow"`) {
		t.Errorf("a request is logged as %s", line)
	}
	terms.Emergency = true
	if line := told(policy.Requested{Terms: terms}, terms); !strings.Contains(line, `level=WARN msg="an emergency was declared" event=requested`) {
		t.Errorf("an emergency is logged as %s", line)
	}
}

// TestRevocationsNameTheVendor of the request, as its other entries do.
func TestRevocationsNameTheVendor(t *testing.T) {
	s := policy.NewState()
	if err := s.Apply(time.Now(), "tanaka", policy.Requested{Terms: policy.Terms{ID: "~a", Vendor: "medisys", Until: time.Now()}}); err != nil {
		t.Fatal(err)
	}
	entries := ShutEntries("tanaka", policy.Shut{Scope: "~a", Reason: "wrong server"}, s)
	if len(entries) != 1 || entries[0].Kind != journal.Revoked || entries[0].Vendor != "medisys" || entries[0].Request != "~a" {
		t.Errorf("entries: %+v", entries)
	}
}
