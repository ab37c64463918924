package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
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
		same(t, "ready", s.Ready(), false)
		metrics := w.scrape()
		same(t, "metric of readiness", metrics["kidoban_ready{}"], 0)
		same(t, "metric of the loop", metrics["kidoban_doubt{about=loop}"], 1)
		if why := s.Plan.Doubt; !strings.HasPrefix(why, "the loop does not turn: nothing has been heard of it for 1") ||
			!strings.HasSuffix(why, "; who is inside stays inside until then") {
			t.Errorf("not ready because %q", why)
		}
		brown := policy.Query{Key: w.engineer("acme/brown").Key, Proven: true}
		same(t, "what explain says", s.Explain(brown, w.wall(), w.wall()).Reason, policy.NotReady)
		same(t, "sessions that status lists", len(s.Sessions), 1)

		began := time.Now()
		if out, err := w.gateway.Do(t.Context(), yamada, policy.Reopened{Scope: policy.All, Reason: "a test"}); err == nil || !strings.Contains(err.Error(), "nothing was done") {
			t.Errorf("reopen: %+v, %v", out, err)
		}
		same(t, "how long a command waits", time.Since(began), liveWithin)

		close(release)
		if err := <-held; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		same(t, "not ready when it turns again", w.notReady(), "")
	})
}

// hung runs f while the loop hangs.
func (w *world) hung(f func()) {
	w.t.Helper()
	release, held := make(chan struct{}), make(chan error, 1)
	go func() { held <- w.gateway.send(w.t.Context(), func(*loop) { <-release }) }()
	synctest.Wait()
	f()
	close(release)
	if err := <-held; err != nil && !errors.Is(err, errStopped) {
		w.t.Error(err)
	}
	synctest.Wait()
}

// closeHung closes a scope of a loop that hangs, and gives what it is told.
func (w *world) closeHung(scope policy.Scope) string {
	w.t.Helper()
	out, err := w.gateway.Do(w.t.Context(), yamada, policy.Shut{Scope: scope, Reason: "a test"})
	if err == nil {
		w.t.Fatalf("close: %+v", out)
	}
	return err.Error()
}

func (w *world) marked() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	scopes := []string{}
	for _, r := range w.latch {
		scopes = append(scopes, string(r.Scope))
	}
	slices.Sort(scopes)
	return scopes
}

func (w *world) shutNow() []string {
	scopes := []string{}
	for _, r := range w.gateway.Snapshot().Shut().Records {
		scopes = append(scopes, string(r.Scope))
	}
	return scopes
}

// TestACloseThatTheLoopDoesNotTake is not lost: the loop closes when it goes
// on, and the next process if it does not.
func TestACloseThatTheLoopDoesNotTake(t *testing.T) {
	const restart = "it is closed as soon as the gateway goes on or is started anew"
	begin := func(t *testing.T, f func(w *world)) {
		simulate(t, everybody("acme", "brown"), func(t *testing.T, w *world) {
			w.at("01:30:00")
			w.start()
			f(w)
		})
	}
	t.Run("and then goes on", func(t *testing.T) {
		begin(t, func(w *world) {
			w.hung(func() {
				began := time.Now()
				if said := w.closeHung("acme"); !strings.Contains(said, "acme is not cut") || !strings.Contains(said, restart) {
					t.Errorf("close: %s", said)
				}
				same(t, "how long it waits", time.Since(began), liveWithin)
				w.closeHung("medisys/sato")
				same(t, "marked", w.marked(), []string{"acme", "medisys/sato"})
				same(t, "open while it hangs", len(w.open()), 3)
			})
			same(t, "open", w.open(), []string{"medisys/suzuki/night"})
			same(t, "shut", w.shutNow(), []string{"acme", "medisys/sato"})
			same(t, "recorded", w.told(journal.Shut), []string{"shut acme a test", "shut medisys/sato a test"})
			same(t, "marked when it is recorded", w.marked(), []string{"acme", "medisys/sato"})
			w.reopen("acme")
			same(t, "marked when it is reopened", w.marked(), []string{"medisys/sato"})
			w.crash()
			w.start()
			same(t, "shut after a reopening and a restart", w.shutNow(), []string{"medisys/sato"})
		})
	})
	t.Run("and is killed", func(t *testing.T) {
		begin(t, func(w *world) {
			w.hung(func() {
				w.closeHung("acme")
				w.closeHung(policy.All)
				w.do(func() { w.process++ })
			})
			w.crash()
			w.file = everybody("acme2", "brown2")
			w.start()
			same(t, "open", w.open(), []string{})
			same(t, "shut", w.shutNow(), []string{"acme", "all"})
			same(t, "recorded", w.told(journal.Shut), []string{"shut acme a test", "shut all a test"})
			same(t, "shut by key", w.gateway.Snapshot().Shut().ByKey, []policy.Held{{Engineer: "acme2/brown2", Scope: "acme"}})
			same(t, "marked when it is recorded", w.marked(), []string{"acme", "all"})
		})
	})
	t.Run("and is told to stop", func(t *testing.T) {
		begin(t, func(w *world) {
			w.hung(func() {
				w.closeHung("acme")
				w.cancel()
				began := time.Now()
				if err := <-w.ended; err == nil || !strings.Contains(err.Error(), "had not heard of the stop") {
					t.Errorf("stop: %v", err)
				}
				same(t, "how long the stop takes", time.Since(began), stopWait)
				w.do(func() { w.process++ })
			})
			w.start()
			same(t, "shut", w.shutNow(), []string{"acme"})
		})
	})
	t.Run("beside one that a dead journal did not take", func(t *testing.T) {
		begin(t, func(w *world) {
			w.do(func() { w.append.err = errFault })
			w.shut("medisys/sato")
			w.hung(func() {
				w.closeHung("acme")
				same(t, "marked", w.marked(), []string{"acme", "medisys/sato"})
			})
			same(t, "shut", w.shutNow(), []string{"acme", "medisys/sato"})
			same(t, "marked when it goes on", w.marked(), []string{"acme", "medisys/sato"})
			w.do(func() { w.append.err = nil })
			w.recover()
			same(t, "recorded", w.told(journal.Shut), []string{"shut acme a test", "shut medisys/sato a test"})
			same(t, "marked when it is recorded", w.marked(), []string{"acme", "medisys/sato"})
		})
	})
	t.Run("while the disk is slow", func(t *testing.T) {
		begin(t, func(w *world) {
			w.do(func() { w.append.slow = time.Second })
			w.hung(func() {
				w.closeHung("acme")
				same(t, "marked", w.marked(), []string{"acme"})
			})
			same(t, "recorded", w.told(journal.Shut), []string{})
			same(t, "marked until it is recorded", w.marked(), []string{"acme"})
			time.Sleep(3 * time.Second)
			same(t, "recorded", w.told(journal.Shut), []string{"shut acme a test"})
			same(t, "marked when it is recorded", w.marked(), []string{"acme"})
		})
	})
	t.Run("of nobody", func(t *testing.T) {
		begin(t, func(w *world) {
			w.hung(func() {
				if said := w.closeHung("nobody"); said != `the policy has no vendor or engineer "nobody"` {
					t.Errorf("close: %s", said)
				}
				same(t, "marked", w.marked(), []string{})
			})
			same(t, "shut", w.shutNow(), []string{})
		})
	})
	t.Run("and that cannot be kept", func(t *testing.T) {
		begin(t, func(w *world) {
			w.do(func() { w.save.err = errFault })
			w.hung(func() {
				if said := w.closeHung("acme"); !strings.Contains(said, "but a RESTART FORGETS IT") {
					t.Errorf("close: %s", said)
				}
				w.do(func() { w.save.err = fmt.Errorf("%w: provoked", store.ErrUntilBoot) })
				if said := w.closeHung("acme"); !strings.Contains(said, `NEXT BOOT FORGETS IT`) {
					t.Errorf("close: %s", said)
				}
				w.do(func() { w.save.err = nil })
			})
			same(t, "shut", w.shutNow(), []string{"acme"})
		})
	})
	t.Run("because it still reads its journal", func(t *testing.T) {
		simulate(t, everybody("acme", "brown"), func(t *testing.T, w *world) {
			w.at("01:30:00")
			w.latch = []policy.ShutRecord{{Scope: "medisys/sato", At: w.wall(), Actor: "yamada", Reason: "a test"}}
			reads := make(chan struct{})
			w.do(func() { w.opening.hang = reads })
			w.start()
			if said := w.closeHung("acme"); !strings.Contains(said, "still starts") {
				t.Errorf("close: %s", said)
			}
			same(t, "marked", w.marked(), []string{"acme", "medisys/sato"})
			close(reads)
			synctest.Wait()
			same(t, "shut", w.shutNow(), []string{"acme", "medisys/sato"})
			same(t, "marked when it is recorded", w.marked(), []string{"acme", "medisys/sato"})
		})
		// A name that the policy does not have shuts nothing. Before the policy is read nobody
		// can tell, so the answer says so, and the log tells it later.
		simulate(t, everybody("acme", "brown"), func(t *testing.T, w *world) {
			var text bytes.Buffer
			w.logger = slog.New(slog.NewTextHandler(&text, nil))
			reads := make(chan struct{})
			w.do(func() { w.opening.hang = reads })
			w.start()
			if said := w.closeHung("akme"); !strings.Contains(said, "akme is not compared with the policy yet") {
				t.Errorf("close: %s", said)
			}
			close(reads)
			synctest.Wait()
			same(t, "shut", w.shutNow(), []string{})
			if said := text.String(); !strings.Contains(said, `level=ERROR msg="a close shut nothing" scope=akme actor=yamada`) {
				t.Errorf("log:\n%s", said)
			}
		})
	})
	t.Run("and the process is younger than what the marker says", func(t *testing.T) {
		begin(t, func(w *world) {
			w.do(func() { w.append.err = errFault })
			w.shut("acme")
			w.crash()
			w.start() // the journal is dead again
			w.hung(func() {
				w.closeHung("medisys/sato")
				same(t, "marked", w.marked(), []string{"acme", "medisys/sato"})
				w.do(func() { w.process++ })
			})
			w.crash()
			w.do(func() { w.append.err = nil })
			w.start()
			same(t, "shut", w.shutNow(), []string{"acme", "medisys/sato"})
		})
	})
}
