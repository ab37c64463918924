package api

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"kidoban/gateway/evidence"
)

// tried is the result of a probe.
func tried() evidence.Probed {
	return evidence.Probed{Digest: strings.Repeat("ab", 32), Version: "v1", Took: 4200, Trials: []evidence.ProbeTrial{{Trial: "wrong_hour", Kept: 2, Broken: 1}},
		Failed: []evidence.ProbeFailure{{Trial: "wrong_hour", Engineer: "medisys/sato", Seen: "answer", Expected: "silence"}}}
}

// TestFault133AResultThatIsNone: what is no result of a probe does not come to the journal.
func TestFault133AResultThatIsNone(t *testing.T) {
	if err := checkProbed(tried()); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*evidence.Probed){
		"digest: allowed are 64 hex digits":            func(p *evidence.Probed) { p.Digest = strings.Repeat("AB", 32) },
		"took_ms: -1: allowed is 0 or more":            func(p *evidence.Probed) { p.Took = -1 },
		"trials: 0: allowed are 1 to 32":               func(p *evidence.Probed) { p.Trials, p.Failed = nil, nil },
		"allowed are letters a-z and _":                func(p *evidence.Probed) { p.Trials[0].Trial = "Wrong hour" },
		"counts of 0 or more":                          func(p *evidence.Probed) { p.Trials[0].Kept = -1 },
		"failed: 1: allowed are up to 32, and no more": func(p *evidence.Probed) { p.Trials[0].Broken = 0 },
		"a text of 201 bytes: allowed are 200":         func(p *evidence.Probed) { p.Failed[0].Reason = strings.Repeat("x", 201) },
	} {
		p := tried()
		change(&p)
		var problem *Problem
		if err := checkProbed(p); !errors.As(err, &problem) || problem.Status != http.StatusBadRequest || !strings.Contains(problem.Detail, want) {
			t.Errorf("%v, want 400 with %q", err, want)
		}
	}
}
