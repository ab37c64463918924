package view

import (
	"fmt"
	"testing"
	"time"

	"kidoban/gateway/policy"
)

// TestFault76HintsOfExcessAreFew: many loud engineers leave room in status.
func TestFault76HintsOfExcessAreFew(t *testing.T) {
	now := time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC)
	s := &Snapshot{Plan: &policy.Plan{}, Base: policy.NewState(), Synchronized: true}
	for i := range 100 {
		name := fmt.Sprintf("e%02d", i)
		s.Sessions = append(s.Sessions, SessionStatus{Vendor: "acme", Engineer: name})
		s.Refusals = append(s.Refusals, Refusal{Last: now, Count: 1, Reason: policy.RateLimited.String(), Vendor: "acme", Engineer: name, Target: "10.1.0.5:tcp/22"})
	}
	codes := map[Code]int{}
	for _, h := range s.Hints(now) {
		codes[h.Code]++
		if h.Code == "excess_others" && h.Args["count"] != 95 {
			t.Errorf("%s: want 95 others", h)
		}
	}
	if codes["excess"] != excessNamed || codes["excess_others"] != 1 {
		t.Errorf("hints %v, want %d engineers and one count of the others", codes, excessNamed)
	}
}
