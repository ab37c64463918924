package gateway

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
)

// shutFile is the state of a shut file: there is none (nil), or why a look does not say so. A look
// may hang.
type shutFile struct {
	err  error
	hang chan struct{} // until it is closed
}

// of gives a world the file.
func (f *shutFile) of(w *world) {
	w.look = func() error {
		w.mu.Lock()
		err, hang := f.err, f.hang
		w.mu.Unlock()
		if hang != nil {
			<-hang
		}
		return err
	}
}

// switched lists what the journal has of the shut file, by kind.
func (w *world) switched() []string {
	kinds := []string{}
	for _, e := range w.told(journal.SwitchShut, journal.SwitchOpened) {
		kind, _, _ := strings.Cut(e, " ")
		kinds = append(kinds, kind)
	}
	return kinds
}

// TestFault111ShutFile: whatever a look finds but that the file is not there shuts everything within
// a heartbeat, or after five seconds without an answer. It opens again by itself.
func TestFault111ShutFile(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		hang bool
		shut bool
	}{
		{"it exists", store.ErrThere, false, true},
		{"it cannot be read", fs.ErrPermission, false, true},
		{"its folder is gone", fs.ErrNotExist, false, true},
		{"the filesystem hangs", nil, true, true},
		{"it is not there", nil, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				file := &shutFile{}
				file.of(w)
				w.at("01:30:00")
				w.start()
				w.enter("acme/brown", address)
				same(t, "sessions", w.sessions(), []string{"acme/brown from 203.0.113.1"})
				w.do(func() {
					if file.err = c.err; c.hang {
						file.hang = make(chan struct{})
					}
				})
				switch {
				case c.hang:
					time.Sleep(5*time.Second - 1)
					same(t, "grants before the wait is over", len(w.plan().Grants), 1)
					time.Sleep(heartbeat + 1)
				default:
					time.Sleep(heartbeat)
				}
				synctest.Wait()
				grants, kinds := map[bool]int{true: 0, false: 1}[c.shut], []string{}
				if c.shut {
					kinds = append(kinds, "switch_shut")
				}
				same(t, "grants", len(w.plan().Grants), grants)
				same(t, "grants in the kernel", len(w.ruleset().Grants), grants)
				same(t, "recorded", w.switched(), kinds)
				s := w.gateway.Snapshot()
				same(t, "shut.all", s.Shut().All, c.shut)
				same(t, "hinted", len(w.hinted("shut file")) > 0, c.shut)
				same(t, "kidoban_switch_shut", w.scrape()["kidoban_switch_shut{}"], map[bool]float64{true: 1}[c.shut])
				if !c.shut {
					return
				}
				d := w.plan().Decide(policy.Query{Key: w.engineer("acme/brown").Key, Proven: true}, w.wall())
				same(t, "decided", d.Reason, policy.GatewayShut)
				closed := w.told(journal.SessionClosed)
				same(t, "the session ended by", strings.HasSuffix(closed[0], "gateway_shut"), true)
				time.Sleep(10 * heartbeat)
				same(t, "recorded later", w.switched(), []string{"switch_shut"})
				w.do(func() { // no later look finds it
					if file.err = nil; file.hang != nil {
						close(file.hang)
						file.hang = nil
					}
				})
				time.Sleep(2 * heartbeat)
				synctest.Wait()
				same(t, "grants when it is gone", len(w.plan().Grants), 1)
				same(t, "recorded when it is gone", w.switched(), []string{"switch_shut", "switch_opened"})
				same(t, "in the latch", w.latch, []policy.ShutRecord{})
			})
		})
	}
}

// TestFault111ShutFileAtAStart: no plan has a grant before the file has been looked at, also while
// nothing answers.
func TestFault111ShutFileAtAStart(t *testing.T) {
	for _, c := range []struct {
		name     string
		on, hang bool
		guard    bool // false: the start does not look
		opened   bool
	}{
		{"it exists", true, false, true, false},
		{"nothing answers", true, true, true, false},
		{"nothing answers, and it was not there", false, true, true, false},
		{"it is not there", false, false, true, true},
		{"it exists, and nobody looks", true, false, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				file := &shutFile{}
				if file.of(w); c.on {
					file.err = store.ErrThere
				}
				if c.hang {
					file.hang = make(chan struct{})
				}
				if !c.guard {
					w.look = nil
				}
				w.at("01:30:00")
				w.start()
				time.Sleep(20 * time.Second)
				opened := len(w.told(journal.WindowOpened)) > 0
				same(t, "something opened", opened, c.opened)
				if c.hang {
					w.do(func() { close(file.hang); file.hang = nil })
					time.Sleep(2 * heartbeat)
					synctest.Wait()
					same(t, "something opened when it answered", len(w.told(journal.WindowOpened)) > 0, !c.on)
				}
			})
		})
	}
}

// TestShutFileOverRestarts: a file that is gone at the next start is recorded, and one that stays is
// recorded once.
func TestShutFileOverRestarts(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		file := &shutFile{err: store.ErrThere}
		file.of(w)
		w.at("01:30:00")
		w.start()
		w.crash()
		w.start()
		same(t, "recorded", w.switched(), []string{"switch_shut"})
		same(t, "grants", len(w.plan().Grants), 0)
		w.crash()
		w.do(func() { file.err = nil })
		w.start()
		same(t, "recorded", w.switched(), []string{"switch_shut", "switch_opened"})
		same(t, "grants", len(w.plan().Grants), 1)
	})
}

// TestFault111ShutFileDuringRecover: a recovery opens nothing while the file is there, nor one that
// reads a lost journal again, and a file that goes meanwhile opens.
func TestFault111ShutFileDuringRecover(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		file := &shutFile{}
		file.of(w)
		w.at("01:30:00")
		w.start()
		w.do(func() { w.append.err = errFault; file.err = store.ErrThere })
		time.Sleep(2 * heartbeat)
		w.shut("acme")
		w.reopenFails("acme")
		w.do(func() { w.append.err = nil })
		out := w.recover()
		same(t, "shut after the recovery", out.Shut, []string{"acme", "all"})
		same(t, "grants", len(w.plan().Grants), 0)
		same(t, "the new journal has it", len(w.told(journal.SwitchShut)) > 0, true)
		w.reopen("acme")
		same(t, "grants", len(w.plan().Grants), 0)
		w.do(func() { file.err = nil })
		time.Sleep(2 * heartbeat)
		synctest.Wait()
		same(t, "grants when it is gone", len(w.plan().Grants), 1)
	})
}

// reopenFails reopens a scope while the journal is dead.
func (w *world) reopenFails(scope policy.Scope) {
	w.t.Helper()
	if _, err := w.gateway.Do(w.t.Context(), yamada, policy.Reopened{Scope: scope, Reason: "a test"}); err == nil {
		w.t.Errorf("%s was reopened without a journal", scope)
	}
}

// TestReopenAllUnderTheShutFile: a reopening of everything takes the operators' close back, and says
// that the file still shuts; without such a close it says so as an error.
func TestReopenAllUnderTheShutFile(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		file := &shutFile{err: store.ErrThere}
		file.of(w)
		w.at("01:30:00")
		w.start()
		var none *policy.NoMatchError
		if _, err := w.gateway.Do(t.Context(), yamada, policy.Reopened{Scope: policy.All, Reason: "a test"}); !errors.As(err, &none) || !strings.Contains(none.Switch, "/run/kidoban-shut") {
			t.Errorf("reopened: %v", err)
		}
		out := w.shut(policy.All)
		same(t, "shut", out.Shut, []string{"all"})
		same(t, "records", len(w.gateway.Snapshot().Shut().Records), 2)
		out = w.reopen(policy.All)
		same(t, "shut after the reopening", out.Shut, []string{"all"})
		if len(out.Warnings) != 1 || !strings.Contains(out.Warnings[0], "/run/kidoban-shut") {
			t.Errorf("warned: %q", out.Warnings)
		}
		same(t, "grants", len(w.plan().Grants), 0)
		w.do(func() { file.err = nil })
		time.Sleep(2 * heartbeat)
		synctest.Wait()
		same(t, "grants when it is gone", len(w.plan().Grants), 1)
	})
}
