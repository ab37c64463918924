package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
)

func TestFault65CloseStaysOverARestart(t *testing.T) {
	for _, c := range []struct {
		name           string
		journal, save  fault // from before the command on
		recorded, kept bool
		shut           bool // after a crash and a restart with a disk that works again
	}{
		{"recorded", fault{}, fault{}, true, false, true},
		{"the journal is slow", fault{slow: 2 * time.Second}, fault{}, true, false, true},
		{"the journal is dead", fault{err: errFault}, fault{}, false, true, true},
		{"the journal is dead and has it all the same", fault{err: errFault, after: true}, fault{}, false, true, true},
		{"the journal hangs", fault{hang: make(chan struct{})}, fault{}, false, true, true},
		{"the journal is dead, and the marker does not outlive a boot", fault{err: errFault}, fault{err: store.ErrUntilBoot, after: true}, false, false, true},
		{"the journal is dead, and the marker too", fault{err: errFault}, fault{err: errFault}, false, false, false},
		{"the journal is dead, and the marker hangs", fault{err: errFault}, fault{hang: make(chan struct{})}, false, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				release := make(chan struct{}) // of this bubble
				for _, f := range []*fault{&c.journal, &c.save} {
					if f.hang != nil {
						f.hang = release
					}
				}
				w.at("01:30:00")
				w.start()
				w.enter("acme/brown", address)
				w.do(func() { w.append, w.save = c.journal, c.save })
				out := make(chan Outcome, 1)
				go func() {
					o, err := w.gateway.Do(t.Context(), yamada, policy.Shut{Scope: "acme", Reason: "a test"})
					if err != nil {
						t.Error(err)
					}
					out <- o
				}()
				synctest.Wait()
				same(t, "open at once", w.open(), []string{})
				same(t, "open in the kernel at once", w.kernel(), []string{})
				same(t, "sessions at once", w.sessions(), []string{})
				o := <-out
				same(t, "recorded", o.Recorded, c.recorded)
				same(t, "kept", o.Kept, c.kept)
				same(t, "until the next boot", o.UntilBoot, c.save.err == store.ErrUntilBoot)
				if !o.Recorded && !o.Kept && c.save.err != nil && !strings.Contains(o.Problem, c.save.err.Error()) {
					t.Errorf("the problem does not tell %q: %s", c.save.err, o.Problem)
				}
				same(t, "applied", o.Applied, true)
				same(t, "sessions cut", o.Sessions, 1)
				same(t, "shut", o.Shut, []string{"acme"})
				if !o.Recorded && o.Problem == "" {
					t.Error("not recorded, and no problem is told")
				}
				w.do(func() { w.process++ }) // killed
				close(release)
				w.crash()
				w.do(func() { w.append, w.save = fault{}, fault{} })
				w.start()
				same(t, "shut after a restart", w.gateway.Snapshot().Shut().Vendors, map[bool][]string{true: {"acme"}, false: {}}[c.shut])
				same(t, "open after a restart", len(w.open()) == 0, c.shut)
				w.do(func() { same(t, "records in the latch", len(w.latch), map[bool]int{true: 1}[c.shut]) })
				if !c.shut {
					return
				}
				w.crash()
				w.start()
				same(t, "open after another restart", w.open(), []string{})
				same(t, "reopened", w.reopen("acme").Recorded, true)
				w.do(func() { same(t, "records in the latch when reopened", len(w.latch), 0) })
				same(t, "open when reopened", w.open(), []string{"acme/brown/night"})
			})
		})
	}
}

// A close of which it was said that it is kept stays, also if the latch takes no
// later one.
func TestAKeptCloseOutlivesALatchThatFails(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.do(func() { w.append.err = errFault })
		same(t, "kept", w.shut("acme").Kept, true)
		w.do(func() { w.save.err = errFault })
		same(t, "a later one is kept", w.shut("medisys").Kept, false)
		w.crash()
		w.do(func() { w.append, w.save = fault{}, fault{} })
		w.start()
		same(t, "shut after a restart", w.shutNow(), []string{"acme"})
	})
}

func TestShutsInOrderOfTheirReasons(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.shut("acme/brown")
		w.shut("all")
		same(t, "open after reopening one of two", w.reopen("all").Applied && len(w.open()) > 0, false)
		w.reopen("acme/brown")
		same(t, "open after reopening both", w.open(), []string{"acme/brown/night"})
		same(t, "recorded", w.told(journal.Shut, journal.Reopened), []string{
			"shut acme/brown a test", "shut all a test", "reopened all a test", "reopened acme/brown a test"})
	})
}

func TestCommandsThatMatchNothing(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		before := len(w.durable())
		for _, c := range []struct {
			name string
			do   func() error
		}{
			{"close an unknown vendor", func() error {
				_, err := w.gateway.Do(t.Context(), yamada, policy.Shut{Scope: "nobody", Reason: "r"})
				return err
			}},
			{"close an unknown engineer", func() error {
				_, err := w.gateway.Do(t.Context(), yamada, policy.Shut{Scope: "acme/nobody", Reason: "r"})
				return err
			}},
			{"reopen what is not shut", func() error {
				_, err := w.gateway.Do(t.Context(), yamada, policy.Reopened{Scope: "acme", Reason: "r"})
				return err
			}},
		} {
			var none *policy.NoMatchError
			if err := c.do(); !errors.As(err, &none) {
				t.Errorf("%s: %v, want a NoMatchError", c.name, err)
			}
		}
		long := strings.Repeat("r", ReasonMax+1)
		if _, err := w.gateway.Do(t.Context(), yamada, policy.Shut{Scope: "acme", Reason: long}); err == nil || !strings.Contains(err.Error(), "allowed are up to 1000") {
			t.Errorf("close with a reason of %d bytes: %v", len(long), err)
		}
		same(t, "entries", len(w.durable()), before)
		same(t, "open", w.open(), []string{"acme/brown/night"})
	})
}

func TestReopenIsRefusedWhileTheJournalIsDead(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.shut("acme")
		w.do(func() { w.append.err = errFault })
		w.shut("medisys") // finds out
		if _, err := w.gateway.Do(t.Context(), yamada, policy.Reopened{Scope: "acme", Reason: "r"}); err == nil || !strings.Contains(err.Error(), "nothing can be reopened") {
			t.Errorf("reopen with a dead journal: %v", err)
		}
		w.do(func() { w.append.err = nil })
		w.recover()
		same(t, "open after the recovery", w.open(), []string{})
		w.reopen("acme")
		same(t, "open when reopened after it", w.open(), []string{"acme/brown/night"})
	})
}

// A reopening that failed but reached the disk must not open anything: not
// now, and not after a restart.
func TestAReopeningThatFailedOpensNothing(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("on disk all the same: %t", after), func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.start()
				w.shut("acme")
				w.do(func() { w.append = fault{err: errFault, after: after} })
				same(t, "recorded", w.reopen("acme").Recorded, false)
				same(t, "open", w.open(), []string{})
				w.crash()
				w.do(func() { w.append = fault{} })
				w.start()
				same(t, "open after a restart", w.open(), []string{})
			})
		})
	}
}

// A reopening that waited for a slow disk does not undo a later shut.
func TestAShutOvertakesAReopening(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.shut("acme")
		release := make(chan struct{})
		w.do(func() { w.append.hang = release })
		same(t, "reopening recorded", w.reopen("acme").Recorded, false)
		same(t, "shut again, and kept", w.shut("acme").Kept, true)
		w.do(func() { w.append.hang = nil })
		close(release)
		time.Sleep(time.Second)
		synctest.Wait()
		same(t, "open when the disk has answered", w.open(), []string{})
		w.crash()
		w.start()
		same(t, "open after a restart", w.open(), []string{})
	})
}

// Of two reopenings on their way to the disk the first takes effect.
func TestTwoReopeningsOfOneScope(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.shut("acme")
		w.do(func() { w.append.slow = 100 * time.Millisecond })
		said := make(chan Outcome, 1)
		go func() {
			out, _ := w.gateway.Do(t.Context(), yamada, policy.Reopened{Scope: "acme", Reason: "a test"})
			said <- out
		}()
		synctest.Wait()
		second, first := w.reopen("acme"), <-said
		same(t, "the first", first.Problem, "")
		same(t, "the second", second.Problem, `not recorded: "acme" is not shut`)
	})
}

// What is shut while the disk does not answer reaches the journal when it does.
func TestAShutDuringASlowDiskIsNotForgotten(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		release := make(chan struct{})
		w.do(func() { w.append.hang = release })
		w.enter("acme/brown", address)
		time.Sleep(journalWait + 2*heartbeat)
		same(t, "in doubt", w.notReady() != "", true)
		same(t, "kept", w.shut("acme").Kept, true)
		w.do(func() { w.append.hang = nil })
		close(release)
		time.Sleep(time.Second)
		synctest.Wait()
		same(t, "in doubt when the disk has answered", w.notReady(), "")
		w.do(func() { same(t, "records in the latch", len(w.latch), 1) })
		w.crash()
		w.start()
		same(t, "open after a restart", w.open(), []string{})
	})
}

// What was reopened while the disk did not answer stays open over a restart: the
// journal does not say that it is shut behind its reopening.
func TestAReopeningDuringASlowDiskLasts(t *testing.T) {
	for name, before := range map[string]func(*world){
		"it hangs itself": func(*world) {},
		"it waits for another append": func(w *world) {
			go w.gateway.Do(w.t.Context(), yamada, policy.Shut{Scope: "medisys", Reason: "a test"})
			synctest.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.start()
				w.shut("acme")
				release := make(chan struct{})
				w.do(func() { w.append.hang = release })
				before(w)
				if out, err := w.gateway.Do(t.Context(), yamada, policy.Reopened{Scope: "acme", Reason: "a test"}); err != nil || out.Recorded {
					t.Errorf("reopen while the disk hangs: %+v, %v", out, err)
				}
				time.Sleep(journalWait + 2*heartbeat)
				same(t, "in doubt", w.notReady() != "", true)
				w.do(func() { w.append.hang = nil })
				close(release)
				time.Sleep(time.Second)
				synctest.Wait()
				same(t, "open when the disk has answered", w.open(), []string{"acme/brown/night"})
				w.crash()
				w.start()
				same(t, "open after a restart", w.open(), []string{"acme/brown/night"})
			})
		})
	}
}

func TestRecoverFromADeadJournal(t *testing.T) {
	for _, c := range []struct {
		name     string
		fault    fault
		damage   error
		archived bool
	}{
		{"that only failed to be written", fault{err: errFault}, nil, false},
		{"that has it all the same", fault{err: errFault, after: true}, nil, false},
		{"that has a part of it", fault{err: errFault, after: true, partial: 1}, nil, false},
		{"that does not verify any more", fault{err: errFault}, errors.New("entry 3 is not what was signed"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.start()
				w.enter("acme/brown", address)
				w.shut("medisys/sato")
				w.do(func() { w.append, w.damage = c.fault, c.damage })
				w.shut("medisys") // finds out
				same(t, "sessions in doubt", w.sessions(), []string{})
				w.do(func() {
					same(t, "records in the latch", len(w.latch), 2)
					w.append = fault{}
					w.tunnel.timestamps = map[policy.Key][12]byte{{}: {}}
				})
				out := w.recover()
				same(t, "recorded", out.Recorded, true)
				same(t, "problem", out.Problem, "")
				same(t, "archived", out.Journal != "", c.archived)
				same(t, "journals counted as replaced", w.scrape()["kidoban_journal_replaced_total{}"], map[bool]float64{true: 1}[c.archived])
				same(t, "not ready", w.notReady(), "")
				w.do(func() {
					same(t, "timestamps", len(w.tunnel.timestamps), 0)
					same(t, "records in the latch when the journal has them", len(w.latch), 2)
				})
				same(t, "shut", fmt.Sprint(w.gateway.Snapshot().Shut().Vendors, w.gateway.Snapshot().Shut().Engineers), "[medisys] [medisys/sato]")
				same(t, "open", w.open(), []string{"acme/brown/night"})
				disk := w.durable()
				if c.archived {
					same(t, "first entry", disk[0].Kind, journal.Recovery)
					if text := disk[0].Text; !strings.Contains(text, "the last checkpoint") || !strings.Contains(text, "entry 3 is not what was signed") {
						t.Errorf("the first entry says %q: want the old checkpoint and what was wrong", text)
					}
				}
				same(t, "sessions closed", w.told(journal.SessionClosed), []string{"session_closed brown gateway_shut"})
				opened, closed := 0, 0
				for _, e := range disk {
					switch e.Kind {
					case journal.WindowOpened:
						opened++
					case journal.WindowClosed:
						closed++
					}
				}
				if c.archived {
					opened++ // in the old one
				}
				same(t, "openings without a closing", opened-closed, 1)
				w.crash()
				w.start()
				same(t, "shut after a restart", fmt.Sprint(w.gateway.Snapshot().Shut().Vendors, w.gateway.Snapshot().Shut().Engineers), "[medisys] [medisys/sato]")
				same(t, "not ready after a restart", w.notReady(), "")
			})
		})
	}
}

func TestAJournalThatDoesNotVerifyAtStart(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.shut("acme")
		w.crash()
		w.damage = errors.New("entry 3 is not what was signed")
		w.start()
		same(t, "open", w.open(), []string{})
		if got := w.notReady(); !strings.Contains(got, "entry 3 is not what was signed") || !strings.Contains(got, "kidoban recover") {
			t.Errorf("not ready because %q: want what is wrong and what leads out", got)
		}
		same(t, "shut, as far as it can be read", w.gateway.Snapshot().Shut().Vendors, []string{"acme"})
		w.do(func() { w.archiveErr = errFault })
		if _, err := w.gateway.Recover(t.Context(), yamada, "r"); !errors.Is(err, errFault) {
			t.Errorf("recover without a way to move it aside: %v", err)
		}
		same(t, "still in doubt", w.notReady() != "", true)
		w.do(func() { w.archiveErr = nil })
		w.recover()
		same(t, "not ready", w.notReady(), "")
		same(t, "open", w.open(), []string{})
		w.crash()
		w.start()
		same(t, "open after a restart", w.open(), []string{})
		w.reopen("acme")
		same(t, "open when reopened", w.open(), []string{"acme/brown/night"})
	})
}

// What cannot be read any more may have been a shut: a recovery opens nothing
// before an operator has looked.
func TestRecoverFromAJournalThatCannotAllBeRead(t *testing.T) {
	for _, c := range []struct {
		name   string
		gone   func(i, shut int) bool // of the entries
		stays  bool                   // what was shut is known to be
		intact bool                   // nothing is lost
	}{
		{"nothing is lost", func(i, shut int) bool { return false }, true, true},
		{"before the shut", func(i, shut int) bool { return i == 0 }, true, false},
		{"the shut", func(i, shut int) bool { return i == shut }, false, false},
		{"all before it, and it", func(i, shut int) bool { return i <= shut }, false, false},
		{"after the shut", func(i, shut int) bool { return i > shut }, true, false},
		{"the checkpoint alone", func(i, shut int) bool { return false }, true, false},
		{"everything", func(i, shut int) bool { return true }, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.start()
				w.shut("acme")
				w.crash()
				w.damage, w.gone = errors.New("it is not what was signed"), map[int]bool{}
				shut := slices.IndexFunc(w.disk, func(e journal.Entry) bool { return e.Kind == journal.Shut })
				for i := range w.disk {
					w.gone[i] = c.gone(i, shut)
				}
				if !c.intact {
					w.lost, w.latch = errors.New("a block is bad"), nil
				}
				w.start()
				same(t, "open", w.open(), []string{})
				same(t, "told before the recovery", w.gateway.Snapshot().Has("journal_lost"), !c.intact)
				// No new journal before a restart honours what will be shut.
				if !c.intact {
					w.do(func() { w.save.err = errFault })
					if _, err := w.gateway.Recover(t.Context(), yamada, "r"); !errors.Is(err, errFault) {
						t.Errorf("recover without a latch: %v", err)
					}
					w.do(func() { same(t, "archived", len(w.archived), 0); w.save.err = nil })
				}
				out := w.recover()
				same(t, "problem", out.Problem, "")
				same(t, "recorded", out.Recorded, true)
				same(t, "open after the recovery", w.open(), []string{})
				same(t, "warned", len(out.Warnings) == 1 && strings.Contains(out.Warnings[0], "kidoban journal list /journal.broken") && strings.Contains(out.Warnings[0], "kidoban reopen --all"), !c.intact)
				same(t, "said to be shut", slices.Contains(out.Shut, "all"), !c.intact)
				var want []string
				const all = "shut all the journal is damaged, and what it had shut may be forgotten: see what that was, close it again, then `kidoban reopen --all --reason R`; what cannot be read: a block is bad"
				if c.stays {
					want = append(want, "shut acme a test")
				}
				if !c.intact {
					want = append([]string{all}, want...)
				}
				told := w.told(journal.Shut)
				slices.SortFunc(told, func(a, b string) int { return strings.Compare(b, a) })
				slices.SortFunc(want, func(a, b string) int { return strings.Compare(b, a) })
				same(t, "recorded in the new journal", told, want)
				w.crash()
				w.start()
				same(t, "not ready after a restart", w.notReady(), "")
				same(t, "everything shut after a restart", w.gateway.Snapshot().Shut().All, !c.intact)
				same(t, "open after a restart", w.open(), []string{})
				if !c.intact {
					w.reopen("all")
				}
				same(t, "open when everything is reopened", len(w.open()) == 0, c.stays)
				if c.stays {
					w.reopen("acme")
				}
				same(t, "open when all is reopened", w.open(), []string{"acme/brown/night"})
				// Once is enough: the next recovery has nothing to do with it.
				same(t, "warnings of another recovery", len(w.recover().Warnings), 0)
				same(t, "open after another recovery", w.open(), []string{"acme/brown/night"})
			})
		})
	}
}

// The copy says no less than is shut: it is written again until it does, and
// one that cannot be is not known to be whole. Then everything is shut.
func TestTheCopyOfWhatIsShut(t *testing.T) {
	for _, c := range []struct {
		name          string
		copy, journal fault // at the shut
		healed        bool  // before the crash, and there is room again
		known         bool  // what was shut
	}{
		{"nothing fails", fault{}, fault{}, false, true},
		{"it cannot be written", fault{err: errFault}, fault{}, false, false},
		{"it cannot be written for a while", fault{err: errFault}, fault{}, true, true},
		{"it is written, and that is not known", fault{err: errFault, after: true}, fault{}, true, true},
		{"the disk hangs for a while", fault{hang: make(chan struct{})}, fault{}, true, true},
		{"a full disk, for a while, takes neither it nor the journal", fault{err: errFault}, fault{err: errFault}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				if c.copy.hang != nil {
					c.copy.hang = make(chan struct{}) // of this bubble
				}
				w.at("01:30:00")
				w.start()
				w.do(func() { w.save, w.append = c.copy, c.journal })
				w.shut("acme")
				time.Sleep(10 * heartbeat)
				synctest.Wait()
				same(t, "open", w.open(), []string{})
				if c.healed {
					w.do(func() { w.save, w.append = fault{}, fault{} })
					if c.copy.hang != nil {
						close(c.copy.hang)
					}
					if c.journal.err != nil {
						w.recover()
					}
					time.Sleep(2 * heartbeat)
					synctest.Wait()
				}
				w.crash()
				w.damage, w.lost, w.gone = errFault, errFault, map[int]bool{}
				for i := range w.disk {
					w.gone[i] = true
				}
				w.save = fault{}
				w.start()
				w.recover()
				same(t, "open after the recovery", w.open(), []string{})
				shut := w.gateway.Snapshot().Shut()
				same(t, "shut after the recovery", fmt.Sprint(shut.All, shut.Vendors), map[bool]string{true: "false [acme]", false: "true []"}[c.known])
			})
		})
	}
}

// A copy that cannot be written is tried again once a heartbeat, and told of
// when it begins and when it ends. One that hangs is waited for.
func TestTheCopyIsTriedAgain(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		var text bytes.Buffer // read when nobody writes
		w.logger = slog.New(slog.NewTextHandler(&text, nil))
		w.at("01:30:00")
		w.start()
		tried := func(d time.Duration) (n int) {
			w.do(func() { n = w.saves })
			time.Sleep(d)
			synctest.Wait()
			w.do(func() { n = w.saves - n })
			return n
		}
		same(t, "saved again while nothing changes", tried(10*heartbeat), 0)
		w.do(func() { w.save.err = errFault })
		w.shut("acme")
		same(t, "tried again", tried(10*heartbeat), 10)
		w.do(func() { w.save.err = nil })
		same(t, "tried until it is written", tried(10*heartbeat), 1)
		hang := make(chan struct{})
		w.do(func() { w.save.hang = hang })
		w.shut("medisys")
		same(t, "tried again while it hangs", tried(10*heartbeat), 0)
		same(t, "not ready while it hangs", w.notReady(), "")
		w.do(func() { w.save.hang = nil })
		close(hang)
		synctest.Wait()
		w.do(func() { same(t, "records in the latch", len(w.latch), 2) })
		same(t, "told that it cannot be written", strings.Count(text.String(), "the latch, which says what is shut, cannot be written"), 1)
		same(t, "told that it is again", strings.Count(text.String(), "the latch is written again"), 1)
	})
}

// Whoever closed everything before, for another reason, is told before it is reopened.
func TestWhatIsLostIsToldBesideAnotherReason(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.shut("all")
		w.crash()
		w.damage, w.lost, w.latch = errFault, errors.New("a block is bad"), nil
		w.start()
		w.do(func() { w.archiveErr = errFault })
		for range 2 {
			if _, err := w.gateway.Recover(t.Context(), yamada, "r"); !errors.Is(err, errFault) {
				t.Errorf("recover without a way to move it aside: %v", err)
			}
		}
		w.do(func() { w.archiveErr = nil })
		w.recover()
		got := w.told(journal.Shut)
		if len(got) != 2 || got[0] != "shut all a test" || !strings.HasPrefix(got[1], "shut all the journal is damaged") {
			t.Errorf("recorded: %q", got)
		}
	})
}

// A disk that could not be read at the start, and can at the recovery, has
// forgotten nothing.
func TestRecoverFromAJournalThatCanBeReadAgain(t *testing.T) {
	for _, renamed := range []bool{false, true} {
		t.Run(fmt.Sprintf("and the vendor has another name: %t", renamed), func(t *testing.T) {
			simulate(t, everybody("acme", "brown"), func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.start()
				w.shut("acme")
				w.crash()
				if renamed {
					w.file = everybody("acme2", "brown2")
				}
				w.damage, w.lost, w.gone, w.latch = errFault, errFault, map[int]bool{}, nil
				for i := range w.disk {
					w.gone[i] = true
				}
				w.start()
				same(t, "told", w.gateway.Snapshot().Has("journal_lost"), true)
				w.shut("medisys/sato")
				w.do(func() { w.damage, w.lost, w.gone = nil, nil, nil })
				out := w.recover()
				same(t, "archived", len(w.archived), 0)
				same(t, "problem", out.Problem, "")
				same(t, "warnings", len(out.Warnings), 0)
				same(t, "shut", out.Shut, []string{"acme", "medisys/sato"})
				shut := func(when string) {
					t.Helper()
					for _, open := range w.open() {
						if strings.HasPrefix(open, "acme") || strings.HasPrefix(open, "medisys/sato/") {
							t.Errorf("open %s: %s", when, open)
						}
					}
				}
				shut("after the recovery")
				w.crash()
				w.start()
				shut("after a restart")
				w.reopen("acme")
				w.reopen("medisys/sato")
				same(t, "open when reopened", len(w.open()), len(w.file.Vendors[0].Engineers)+len(w.file.Vendors[1].Engineers))
			})
		})
	}
}

// What is shut is nowhere but in the marker while the journal is replaced.
func TestRecoverDoesNotBeginANewJournalBeforeTheMarkerIsKept(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.shut("acme")
		w.do(func() { w.append.err, w.save.err = errFault, errFault; w.damage = errFault })
		w.shut("medisys")
		if _, err := w.gateway.Recover(t.Context(), yamada, "r"); !errors.Is(err, errFault) {
			t.Errorf("recover without a latch: %v", err)
		}
		w.do(func() { same(t, "archived", len(w.archived), 0); w.append.err, w.save.err = nil, nil })
		w.recover()
		same(t, "not ready", w.notReady(), "")
		same(t, "shut", w.gateway.Snapshot().Shut().Vendors, []string{"acme", "medisys"})
	})
}

func TestRecoverFromAJournalThatNeverAnswers(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		release := make(chan struct{})
		w.do(func() { w.append.hang = release })
		same(t, "kept", w.shut("acme").Kept, true)
		w.at("01:31:00")
		if got := w.notReady(); !strings.Contains(got, "has not answered") {
			t.Fatalf("not ready because %q", got)
		}
		w.do(func() { w.append.hang = nil })
		if _, err := w.gateway.Recover(t.Context(), yamada, "r"); err == nil || !strings.Contains(err.Error(), "holds the journal's last entries back") {
			t.Errorf("recover while the disk hangs: %v", err)
		}
		same(t, "still in doubt", w.notReady() != "", true)
		close(release)
		out := w.recover()
		same(t, "recorded", out.Recorded, true)
		same(t, "not ready", w.notReady(), "")
		same(t, "shut", w.gateway.Snapshot().Shut().Vendors, []string{"acme"})
		w.reopen("acme")
		same(t, "open when reopened", w.open(), []string{"acme/brown/night"})
	})
}

// After a recovery that failed there is no journal, and nothing waits for one.
func TestStopAfterARecoveryThatFailed(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.do(func() { w.append.err = errFault })
		w.shut("acme")
		w.do(func() { w.damage, w.archiveErr = errFault, errFault })
		if _, err := w.gateway.Recover(t.Context(), yamada, "r"); err == nil {
			t.Error("recovered")
		}
		began := time.Now()
		if out := w.reload(site()); !strings.Contains(out.Problem, "there is no journal") {
			t.Errorf("a reload says %q", out.Problem)
		}
		same(t, "how long a reload takes", time.Since(began), 0)
		began = time.Now()
		if err := w.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		same(t, "how long the stop takes", time.Since(began), 0)
	})
}

// Until a start ends, a latch that was lost with the journal does not look whole:
// a close that it takes meanwhile is not all that was shut.
func TestACloseAtAStartWithoutALatch(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
	}{{"absent", nil}, {"unreadable", errFault}} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.start()
				w.shut("acme")
				w.crash()
				hang := make(chan struct{})
				w.do(func() {
					w.latch, w.loadErr, w.damage, w.lost = nil, c.err, errFault, errFault
					w.gone = map[int]bool{}
					for i := range w.disk {
						w.gone[i] = true
					}
					w.opening.hang = hang
				})
				w.start()
				go w.gateway.Do(t.Context(), yamada, policy.Shut{Scope: "medisys", Reason: "a test"})
				synctest.Wait()
				w.do(func() { w.process++; w.opening.hang, w.loadErr = nil, nil })
				w.cancel()
				<-w.ended
				close(hang)
				w.start()
				same(t, "shut", w.shutNow(), []string{"all", "medisys"})
			})
		})
	}
}

func TestAMarkerThatCannotBeRead(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.latch, w.loadErr = []policy.ShutRecord{{Scope: "medisys"}, {Scope: "medisys"}}, errFault
		w.start()
		same(t, "open", w.open(), []string{})
		// And once more medisys, with its keys, which the marker did not have.
		same(t, "recorded", w.told(journal.Shut), []string{"shut medisys", "shut all the latch cannot be read: provoked", "shut medisys"})
		w.reopen("all")
		same(t, "open when reopened", w.open(), []string{"acme/brown/night"})
	})
}

// A first start whose journal cannot be made leaves no latch, which would show
// that there was a journal.
func TestAFirstStartWithoutAJournalLeavesNoLatch(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.damage = errFault
		w.start()
		w.do(func() { same(t, "the latch is there", w.latch != nil, false) })
		same(t, "kept", w.shut("acme").Kept, true)
		w.do(func() { same(t, "records in the latch", len(w.latch), 1) })
	})
}

func TestRecoverRestartsALostTunnel(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.tunnel.facts <- policy.Fact{Kind: policy.Failure, Err: errors.New("the TUN is gone")}
		synctest.Wait()
		if got := w.notReady(); !strings.Contains(got, "the TUN is gone") || !strings.Contains(got, "kidoban recover") {
			t.Errorf("not ready because %q: want what is wrong and what leads out", got)
		}
		same(t, "open", w.open(), []string{})
		w.do(func() { w.tunnel.restartErr = errFault })
		if out := w.recover(); !strings.Contains(out.Problem, "the tunnel cannot be built: provoked") {
			t.Errorf("a recovery that fails says %q", out.Problem)
		}
		w.do(func() { w.tunnel.restartErr = nil })
		same(t, "problem of one that succeeds", w.recover().Problem, "")
		same(t, "open after it", w.open(), []string{"acme/brown/night"})
	})
}

// Timestamps are forgotten, in the tunnel too, and that cuts everybody.
func TestRecoverEndsEverySessionAndSaysSo(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.enter("acme/brown", address)
		same(t, "sessions that a recovery of a healthy gateway ends", w.recover().Sessions, 1)
		same(t, "sessions after it", w.sessions(), []string{})
		same(t, "recorded", w.told(journal.Recovery, journal.SessionClosed, journal.WindowClosed), []string{"recovery a test", "session_closed brown gateway_shut"})
		same(t, "open", w.open(), []string{"acme/brown/night"})
		w.enter("acme/brown", address)
		same(t, "sessions when brown is back", len(w.sessions()), 1)
		same(t, "sessions that a recovery out of doubt ends", func() int {
			w.tunnel.facts <- policy.Fact{Kind: policy.Failure, Err: errFault}
			synctest.Wait()
			return w.recover().Sessions
		}(), 0)
	})
}

func TestATunnelThatDoesNotTakeThePlan(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("it took it all the same: %t", after), func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("00:59:55")
				w.start()
				w.do(func() { w.tunnel.set = fault{err: errFault, after: after} })
				w.at("01:00:00")
				if got := w.notReady(); !strings.Contains(got, "the tunnel did not take the plan") {
					t.Errorf("not ready because %q", got)
				}
				same(t, "open in the kernel", w.kernel(), []string{})
				w.at("01:10:00")
				sets := func() (n int) { w.do(func() { n = w.tunnel.sets }); return n }
				before := sets()
				w.at("01:11:00")
				same(t, "attempts a minute", sets()-before, int(time.Minute/setAgain))
				same(t, "doubts on record", w.told(journal.Doubt), []string{"doubt not_ready"})
				w.do(func() { w.tunnel.set = fault{} })
				time.Sleep(setAgain + heartbeat)
				synctest.Wait()
				same(t, "open when it takes plans again", w.open(), []string{"acme/brown/night"})
				same(t, "not ready because", w.notReady(), "")
			})
		})
	}
}

func TestStopInOrder(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("00:59:55")
		w.start()
		w.at("01:00:00")
		w.enter("acme/brown", address)
		w.did()
		if err := w.stop(); err != nil {
			t.Error(err)
		}
		did := w.did()
		if len(did) == 0 || did[0] != "tunnel " {
			t.Errorf("effects of a stop: %q: the gate comes first", did)
		}
		did = slices.DeleteFunc(did, func(e string) bool { return strings.HasPrefix(e, "journal ") }) // beside the others
		same(t, "last effects", did[len(did)-2:], []string{"tunnel closed", "firewall closed"})
		told := w.told(journal.SessionClosed, journal.WindowClosed, journal.Stop)
		same(t, "recorded", told, []string{"session_closed brown gateway_stopped", "window_closed brown night gateway_stopped", "stop"})
		if _, err := w.gateway.Do(t.Context(), yamada, policy.Shut{Scope: "acme", Reason: "r"}); !errors.Is(err, errStopped) {
			t.Errorf("a command to a gateway that stopped: %v", err)
		}
		same(t, "told to the service manager", w.notified[0]+" "+w.notified[len(w.notified)-1] != "", true)
	})
}

// Who commanded something hears what became of its record when the gateway
// stops, and waits no longer than for that.
func TestStopAnswers(t *testing.T) {
	closes := func(w *world) (Outcome, error) {
		return w.gateway.Do(w.t.Context(), yamada, policy.Shut{Scope: "acme", Reason: "r"})
	}
	reopens := func(w *world) (Outcome, error) {
		return w.gateway.Do(w.t.Context(), yamada, policy.Reopened{Scope: "medisys", Reason: "r"})
	}
	for _, c := range []struct {
		name    string
		do      func(*world) (Outcome, error)
		journal error
		save    error // of the latch
		latch   int   // records that the next process finds
		shut    int   // after a restart
	}{
		{"close", closes, nil, nil, 2, 2},
		{"close, and the journal dies", closes, errFault, nil, 2, 2},
		{"close, and neither the journal nor the marker takes it", closes, errFault, errFault, 1, 1},
		{"reopen", reopens, nil, nil, 0, 0},
		{"reopen, and the journal dies", reopens, errFault, nil, 1, 1},
		{"reload", func(w *world) (Outcome, error) { return w.gateway.Reload(w.t.Context(), yamada) }, nil, nil, 1, 1},
		{"recover", func(w *world) (Outcome, error) { return w.gateway.Recover(w.t.Context(), yamada, "r") }, nil, nil, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.start()
				w.shut("medisys")
				w.do(func() { w.append, w.save = fault{slow: time.Second, err: c.journal}, fault{err: c.save} })
				began := time.Now()
				answered := make(chan struct{})
				go func() {
					defer close(answered)
					out, err := c.do(w)
					if err != nil {
						t.Error(err)
					}
					same(t, "recorded", out.Recorded, c.journal == nil)
					same(t, "kept", out.Kept, c.journal != nil && c.save == nil && strings.HasPrefix(c.name, "close"))
					if took := time.Since(began); c.journal == nil && took >= effectWait {
						t.Errorf("the answer took %s", took)
					}
				}()
				synctest.Wait()
				if err := w.stop(); err != nil {
					t.Error(err)
				}
				<-answered
				w.do(func() { same(t, "records in the latch", len(w.latch), c.latch) })
				w.do(func() { w.append, w.save = fault{}, fault{} })
				w.start()
				same(t, "shut after a restart", len(w.gateway.Snapshot().Shut().Records), c.shut)
			})
		})
	}
}

// TestStopIsBounded: whatever does not answer, the process ends, the gate is
// shut, and nothing that can be given back waits for what cannot.
func TestStopIsBounded(t *testing.T) {
	for _, c := range []struct {
		name             string
		breaks           func(w *world, release chan struct{})
		err              string        // empty: it stops in order
		within           time.Duration // all of it
		tunnel, firewall time.Duration // when they are closed by; 0: they are not
	}{
		{"the disk hangs", func(w *world, release chan struct{}) { w.append.hang, w.save.hang = release, release },
			"after 5s the last entries had not reached the disk", stopWait + 2*stepWait, time.Millisecond, time.Millisecond},
		{"closing the journal hangs", func(w *world, release chan struct{}) { w.close.hang = release },
			"after 5s the journal was not closed", stopWait, time.Millisecond, time.Millisecond},
		{"the ruleset is being set for 3 s", func(w *world, _ chan struct{}) { w.firewall.set.slow = 3 * time.Second },
			"", 3 * time.Second, 3 * time.Second, 3 * time.Second},
		{"the ruleset hangs", func(w *world, release chan struct{}) { w.firewall.set.hang = release },
			"after 5s forwarding was not as it was", stopWait + stepWait, stopWait, 0},
		{"the ruleset hangs, and answers in the end", func(w *world, _ chan struct{}) { w.firewall.set.slow = stopWait + stepWait/2 },
			"after 5s the ruleset was still being set", stopWait + stepWait/2, stopWait, stopWait + stepWait/2},
		{"reading the ruleset hangs", func(w *world, release chan struct{}) { w.firewall.reading = release },
			"after 5s forwarding was not as it was", stopWait + stepWait, stopWait, 0},
		{"the tunnel hangs", func(w *world, release chan struct{}) { w.tunnel.close.hang = release },
			"after 5s the tunnel was not down", stopWait, 0, stopWait},
		{"closing the firewall hangs", func(w *world, release chan struct{}) { w.firewall.close.hang = release },
			"after 5s forwarding was not as it was", stopWait, time.Millisecond, 0},
		{"nothing answers", func(w *world, release chan struct{}) {
			w.append.hang, w.save.hang, w.close.hang = release, release, release
			w.firewall.set.hang, w.firewall.close.hang, w.tunnel.close.hang = release, release, release
		}, "after 5s forwarding was not as it was", stopWait + 6*stepWait, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.start()
				w.enter("acme/brown", address)
				release := make(chan struct{})
				defer close(release)
				w.do(func() { c.breaks(w, release) })
				_ = w.gateway.send(t.Context(), func(l *loop) { l.apply(); l.kernel.applier.verify() }) // a call to the firewall is under way
				synctest.Wait()
				began := time.Now()
				err := w.stop()
				if took := time.Since(began); took > c.within {
					t.Errorf("it took %s, want %s", took, c.within)
				}
				if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
					t.Errorf("stopped with %v, want %q", err, c.err)
				}
				same(t, "open", w.open(), []string{})
				w.do(func() {
					for what, x := range map[string]struct {
						closed time.Time
						by     time.Duration
					}{"tunnel": {w.tunnel.closed, c.tunnel}, "firewall": {w.firewall.closed, c.firewall}} {
						if after := x.closed.Sub(began); x.closed.IsZero() != (x.by == 0) || !x.closed.IsZero() && after > x.by {
							t.Errorf("the %s closed: %t, after %s, want after %s (0: not)", what, !x.closed.IsZero(), after, x.by)
						}
					}
				})
			})
		})
	}
}

func TestFault29TimestampsOutliveARestart(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.enter("acme/brown", address)
		w.enter("acme/brown", address)
		newest := [12]byte{9: byte(admissions >> 16), 10: byte(admissions >> 8), 11: byte(admissions)}
		w.crash()
		w.start()
		w.do(func() {
			same(t, "timestamp", w.tunnel.timestamps[w.engineer("acme/brown").Key], newest)
		})
		// What was refused counts as seen as well, at once and within a minute
		// of the first that was told of, if the gateway could end in order.
		refused := func(last byte) {
			e := w.engineer("acme/brown")
			w.tunnel.facts <- policy.Fact{Kind: policy.Refusal, Engineer: e, Source: netip.MustParseAddrPort(address), Count: 1,
				Decision: policy.Decision{Reason: policy.NotReady, Engineer: e}, Timestamp: [12]byte{0: 1, 11: last}}
			time.Sleep(2 * heartbeat)
			synctest.Wait()
		}
		kept := func(what string, last byte) {
			w.do(func() {
				same(t, what, w.tunnel.timestamps[w.engineer("acme/brown").Key], [12]byte{0: 1, 11: last})
			})
		}
		refused(1)
		w.crash()
		w.start()
		kept("a refused one, after a crash", 1)
		refused(3)
		refused(2)
		refused(4)
		if err := w.stop(); err != nil {
			t.Error(err)
		}
		w.start()
		kept("a refused one, after a stop", 4)
		w.recover()
		w.do(func() { same(t, "timestamps after a recovery", len(w.tunnel.timestamps), 0) })
		w.crash()
		w.start()
		w.do(func() { same(t, "timestamps after a recovery and a restart", len(w.tunnel.timestamps), 0) })
	})
}
