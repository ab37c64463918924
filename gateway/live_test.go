package gateway

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/policy"
)

func TestALoopThatDoesNotTurnIsNotReady(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.enter("acme/brown", address)
		release := make(chan struct{})
		held := make(chan error, 1)
		go func() { held <- w.gateway.send(t.Context(), func(*loop) { <-release }) }()
		time.Sleep(liveWithin - time.Second)
		same(t, "live before it has hung for long", w.gateway.Live(), true)
		same(t, "not ready before it has hung for long", w.notReady(), "")
		same(t, "metric of the loop before it has hung for long", w.scrape()["kidoban_doubt{about=loop}"], 0)
		time.Sleep(2 * time.Second)
		same(t, "live", w.gateway.Live(), false)
		s := w.gateway.Snapshot()
		same(t, "ready", s.Status.Ready, false)
		metrics := w.scrape()
		same(t, "metric of readiness", metrics["kidoban_ready{}"], 0)
		same(t, "metric of the loop", metrics["kidoban_doubt{about=loop}"], 1)
		if why := s.Status.NotReadyReason; !strings.HasPrefix(why, "the loop does not turn: nothing has been heard of it for 1") {
			t.Errorf("not ready because %q", why)
		}
		brown := policy.Query{Key: w.engineer("acme/brown").Key, Proven: true}
		same(t, "what explain says", s.Explain(brown, w.wall(), w.wall()).Reason, policy.NotReady)
		same(t, "sessions that status lists", len(s.Sessions), 1)

		began := time.Now()
		if out, err := w.gateway.Close(t.Context(), "yamada", policy.All, "a test"); err == nil || !strings.Contains(err.Error(), "nothing was done") {
			t.Errorf("close: %+v, %v", out, err)
		}
		same(t, "how long close waits", time.Since(began), liveWithin)

		close(release)
		if err := <-held; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		same(t, "not ready when it turns again", w.notReady(), "")
		same(t, "shut by the command that was given up", len(w.gateway.Snapshot().Status.Shut.Records), 0)
	})
}
