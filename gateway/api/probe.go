package api

import (
	"errors"
	"fmt"
	"os/user"
	"regexp"

	"kidoban/gateway/evidence"
	"kidoban/gateway/journal"
)

var (
	probeCode = regexp.MustCompile(`^[a-z_]{1,40}$`)
	digestHex = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func checkProbed(p evidence.Probed) error {
	var mistakes []error
	if !digestHex.MatchString(p.Digest) {
		mistakes = append(mistakes, errors.New("digest: allowed are 64 hex digits"))
	}
	if p.Took < 0 {
		mistakes = append(mistakes, fmt.Errorf("took_ms: %d: allowed is 0 or more", p.Took))
	}
	if n := len(p.Trials); n < 1 || n > evidence.ProbeTrialsMost {
		mistakes = append(mistakes, fmt.Errorf("trials: %d: allowed are 1 to %d", n, evidence.ProbeTrialsMost))
	}
	for _, t := range p.Trials {
		if !probeCode.MatchString(t.Trial) || t.Kept < 0 || t.Broken < 0 || t.LeftOut < 0 {
			mistakes = append(mistakes, fmt.Errorf("trials: %.80q: allowed are letters a-z and _, and counts of 0 or more", t.Trial))
		}
	}
	if n := len(p.Failed); n > evidence.ProbeFailuresMost || int64(n) > p.Broken() {
		mistakes = append(mistakes, fmt.Errorf("failed: %d: allowed are up to %d, and no more than are broken", n, evidence.ProbeFailuresMost))
	}
	for _, text := range append([]string{p.Version}, failureTexts(p)...) {
		if len(text) > evidence.ProbeTextMost {
			mistakes = append(mistakes, fmt.Errorf("a text of %d bytes: allowed are %d", len(text), evidence.ProbeTextMost))
		}
	}
	return wrong(mistakes...)
}

func failureTexts(p evidence.Probed) (all []string) {
	for _, f := range p.Failed {
		all = append(all, f.Trial, f.Engineer, f.From, f.To, f.Expected, f.Seen, f.Reason)
	}
	return all
}

// probed records the result of a probe. The gateway cannot verify it, so the entry names the user who sent it.
func probed(r request, p evidence.Probed) (Noted, error) {
	if u, err := user.Current(); err == nil && r.actor.ID == u.Username {
		r.actor.ID = "" // a timer may run it as the gateway's own user
	}
	reason, broken := "kept", p.Broken()
	if broken > 0 {
		reason = "broken"
	}
	return r.state(journal.Entry{Kind: journal.Probe, Digest: p.Digest, Count: broken, Reason: reason}, p)
}
