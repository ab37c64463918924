package tunnel

import (
	"testing"
	"time"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// TestReplayFromAOneTimeSource: a request may list a source that is none of the engineer's own. An
// initiation from there is admitted once, and takes its part of the engineer's rate.
func TestReplayFromAOneTimeSource(t *testing.T) {
	s := newSite(t)
	s.boot.setSlow(true)
	p := s.state.Plan(time.Now()).Restrict(func(g *policy.Grant) *policy.Grant {
		if g.Engineer != s.sato.Engineer {
			return nil
		}
		copied, e := *g, *g.Engineer
		e.Sources, copied.Engineer = lab.Prefixes("192.0.2.66/32"), &e
		return &copied
	})
	if err := s.gateway.Do(func() error { return s.tunnel.Set(p) }); err != nil {
		t.Fatal(err)
	}
	packet := initiate(t, s.sato.private, s.public, stampAt(time.Now()), nil)
	s.send(s.outsider, "192.0.2.66:4000", outsiderEndpoint, packet)
	s.kind(policy.Admission)
	s.send(s.outsider, "192.0.2.66:4001", outsiderEndpoint, packet)
	if f := s.refusal(policy.Replayed); f.Engineer != s.sato.Engineer {
		t.Errorf("refused: %v, want sato", f.Engineer)
	}
	now := time.Now()
	for i := range 30 {
		s.send(s.outsider, "192.0.2.66:4000", outsiderEndpoint, initiate(t, s.sato.private, s.public, stampAt(now.Add(time.Duration(i+1)*time.Millisecond)), nil))
	}
	s.refusal(policy.RateLimited)
}
