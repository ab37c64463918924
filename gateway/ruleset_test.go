package gateway

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

func TestARulesetThatCannotBeSet(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("it was set all the same: %t", after), func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.start()
				w.enter("acme/brown", address)
				w.do(func() { w.firewall.set = fault{err: errFault, after: after} })
				w.shut("medisys")
				if got := w.notReady(); !strings.Contains(got, "the ruleset is not as planned: provoked") || !strings.Contains(got, "kidoban recover") {
					t.Errorf("not ready because %q: want what is wrong and what leads out", got)
				}
				same(t, "open", w.open(), []string{})
				same(t, "recorded", w.told(journal.SessionClosed), []string{"session_closed brown gateway_shut"})
				w.do(func() { w.tunnel.sets = 0 })
				time.Sleep(10 * time.Second)
				w.do(func() {
					if w.tunnel.sets > 5 {
						t.Errorf("%d plans in 10 s of a failing ruleset", w.tunnel.sets)
					}
					w.firewall.set = fault{}
				})
				time.Sleep(setAgain + heartbeat)
				synctest.Wait()
				same(t, "not ready once it can be set", w.notReady(), "")
				same(t, "open once it can be set", w.open(), []string{"acme/brown/night"})
				same(t, "open in the kernel", w.kernel(), []string{"acme/brown/night"})
			})
		})
	}
}

// A kernel that takes a ruleset only as long as nothing is open in it: one
// whose forwarding cannot be turned on. Each try takes the disk an opening, a
// closing and a doubt, and for its moment the gateway is ready.
func TestFault72RulesetThatFailsWhenItOpens(t *testing.T) {
	for _, c := range []struct {
		name  string
		fails func(w *world, err error)
	}{
		{"it cannot be set", func(w *world, err error) { w.firewall.set = fault{err: err, after: true, opening: err != nil} }},
		{"it reads back wrongly", func(w *world, err error) { w.firewall.opened = err }},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, site(window{name: "acme/night", from: "01:00:00", until: "09:00:00"}), func(t *testing.T, w *world) {
				w.at("00:59:30")
				w.start()
				w.do(func() { c.fails(w, errFault); w.append.slow = 5 * time.Millisecond })
				same(t, "not ready before anything opens", w.notReady(), "")
				w.at("00:59:51") // it opens ten seconds ahead
				if got := w.notReady(); !strings.Contains(got, "provoked; opening is tried again at 2000-01-01 00:59:5") || !strings.Contains(got, "kidoban recover") {
					t.Errorf("not ready because %q: want what is wrong, when it is tried again, and what leads out", got)
				}
				ready := 0
				for range 30 * 60 {
					time.Sleep(heartbeat)
					synctest.Wait()
					if w.notReady() == "" {
						ready++
					}
				}
				// 3 s, 6 s, 12 s and so on, then every five minutes: 13 tries.
				if tries := len(w.told(journal.Doubt)); tries < 10 || tries > 14 || ready > tries+1 {
					t.Errorf("%d tries and %d seconds ready in half an hour in which nothing can be opened", tries, ready)
				}
				if n := len(w.durable()); n > 60 {
					t.Errorf("%d entries in half an hour in which nothing can be opened", n)
				}
				same(t, "open", w.open(), []string{})

				w.do(func() { c.fails(w, nil) })
				time.Sleep(openRarely + 2*heartbeat)
				synctest.Wait()
				same(t, "not ready once it can be opened", w.notReady(), "")
				same(t, "open once it can be opened", w.open(), []string{"acme/brown/night"})
				same(t, "open in the kernel", w.kernel(), []string{"acme/brown/night"})

				// What worked in between is the end of it.
				w.do(func() { c.fails(w, errFault) })
				w.shut("medisys")
				time.Sleep(2 * heartbeat)
				w.do(func() { c.fails(w, nil) })
				time.Sleep(setAgain + 2*heartbeat)
				synctest.Wait()
				same(t, "open 3 s after another failure", w.open(), []string{"acme/brown/night"})
			})
		})
	}
}

// A kernel that does not answer is told of as a disk that does not.
func TestFault72RulesetThatHangs(t *testing.T) {
	for _, reads := range []bool{false, true} {
		t.Run(fmt.Sprintf("while it is read back: %t", reads), func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.start()
				w.enter("acme/brown", address)
				release := make(chan struct{})
				if reads {
					w.do(func() { w.firewall.reading = release })
					time.Sleep(heartbeat)
					synctest.Wait()
				} else {
					w.do(func() { w.firewall.set.hang = release })
				}
				began := time.Now()
				same(t, "applied", w.shut("medisys").Applied, false)
				hint := func() string { return strings.Join(w.gateway.Snapshot().StatusAt(w.wall()).Hints, "\n") }
				time.Sleep(2 * time.Second)
				synctest.Wait()
				same(t, "not ready after 5 s", w.notReady(), "")
				if !strings.Contains(hint(), "the kernel has not answered for ") {
					t.Errorf("hints after 5 s: %q", hint())
				}
				same(t, "open after 5 s", w.open(), []string{"acme/brown/night"})
				if got := w.scrape()["kidoban_ruleset_waiting_seconds{}"]; got < 4 || got > 6 {
					t.Errorf("the metric after 5 s: %g", got)
				}
				time.Sleep(rulesetWait + 2*heartbeat - time.Since(began))
				synctest.Wait()
				for range 10 {
					if got := w.notReady(); !strings.Contains(got, "the kernel has not answered for 30s") {
						t.Fatalf("not ready because %q", got)
					}
					time.Sleep(heartbeat)
					synctest.Wait()
				}
				same(t, "open while it hangs", w.open(), []string{})
				same(t, "recorded", w.told(journal.SessionClosed), []string{"session_closed brown gateway_shut"})
				same(t, "doubts recorded", len(w.told(journal.Doubt)), 1)
				same(t, "failures counted", w.scrape()["kidoban_reconcile_failures_total{}"], 1)
				if strings.Contains(hint(), "has not answered") {
					t.Errorf("hinted at, and told as the doubt: %q", hint())
				}

				w.do(func() { w.firewall.set, w.firewall.reading = fault{}, nil })
				close(release)
				synctest.Wait()
				same(t, "not ready when it answers", w.notReady(), "")
				same(t, "open when it answers", w.open(), []string{"acme/brown/night"})
				same(t, "open in the kernel", w.kernel(), []string{"acme/brown/night"})
				same(t, "the metric when it answers", w.scrape()["kidoban_ruleset_waiting_seconds{}"], 0)
			})
		})
	}
}

// Whoever has mended the cause does not wait for the next try.
func TestOpeningIsTriedAtOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		does func(w *world) Outcome
	}{
		{"recover", func(w *world) Outcome {
			out, err := w.gateway.Recover(w.t.Context(), yamada, "a test")
			if err != nil {
				w.t.Fatal(err)
			}
			return out
		}},
		{"reload", func(w *world) Outcome {
			out, err := w.gateway.Reload(w.t.Context(), yamada)
			if err != nil {
				w.t.Fatal(err)
			}
			return out
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, site(window{name: "acme/night", from: "01:00:00", until: "09:00:00"}), func(t *testing.T, w *world) {
				w.at("00:59:30")
				w.start()
				w.do(func() {
					w.firewall.set, w.append.slow = fault{err: errFault, after: true, opening: true}, 5*time.Millisecond
				})
				w.at("01:30:30")
				out := c.does(w)
				if c.name == "recover" && !strings.Contains(out.Problem, "provoked; opening is tried again at") {
					t.Errorf("a recovery of what is not mended says %q", out.Problem)
				}
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
				if w.notReady() == "" || len(w.open()) > 0 {
					t.Errorf("open %q, not ready because %q, and nothing is mended", w.open(), w.notReady())
				}
				w.do(func() { w.firewall.set = fault{} })
				out = c.does(w)
				same(t, "problem", out.Problem, "")
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
				same(t, "not ready once it is mended", w.notReady(), "")
				same(t, "open once it is mended", w.open(), []string{"acme/brown/night"})
			})
		})
	}
}

// An error whose words differ each time must not drive the loop.
func TestFailuresOfManyWordsDoNotDriveTheLoop(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		for i := range 10 {
			w.do(func() {
				w.firewall.set.err, w.firewall.check = fmt.Errorf("sequence %d", i), fmt.Errorf("sequence %d", i)
			})
			time.Sleep(time.Second)
		}
		w.do(func() {
			if w.tunnel.sets > 20 {
				t.Errorf("%d plans in 10 s", w.tunnel.sets)
			}
		})
		doubts := w.told(journal.Doubt)
		same(t, "doubts recorded", len(doubts), 1)
	})
}

func TestARulesetThatReadsBackWrongly(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.do(func() { w.firewall.check = errors.New("an element without an end") })
		time.Sleep(2 * heartbeat)
		synctest.Wait()
		for range 10 {
			if got := w.notReady(); !strings.Contains(got, "an element without an end") {
				t.Fatalf("not ready because %q while it reads back wrongly", got)
			}
			same(t, "open while it reads back wrongly", w.open(), []string{})
			time.Sleep(heartbeat)
			synctest.Wait()
		}
		w.do(func() { w.firewall.check = nil })
		time.Sleep(2 * heartbeat)
		synctest.Wait()
		same(t, "open once it reads back right", w.open(), []string{"acme/brown/night"})
		same(t, "openings recorded", len(w.told(journal.WindowOpened)), 2)
	})
}

func TestDriftIsRecordedAndCounted(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.firewall.facts <- policy.Fact{Kind: policy.Drift, Err: errors.New("a chain was added")}
		synctest.Wait()
		same(t, "recorded", w.told(journal.Drift), []string{"drift"})
		same(t, "counted", w.scrape()["kidoban_ruleset_drift_total{}"], 1)
		same(t, "ready", w.notReady(), "")
	})
}

func TestTheClosingLagIsFromTheEndToTheKernel(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:59:50")
		w.start()
		w.do(func() { w.firewall.set.slow = 300 * time.Millisecond })
		w.at("02:00:05")
		got := w.scrape()
		same(t, "closings observed", got["kidoban_closing_lag_seconds{}"], 1)
		if sum := got["kidoban_closing_lag_seconds{} sum"]; sum < 0.299 || sum > 0.7 {
			t.Errorf("the lag is %g s, want the time that the ruleset took", sum)
		}
	})
}

// Setting the clock forward over an end closes at once, and is no delay.
func TestAClockSetForwardIsNoClosingLag(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.step(time.Hour)
		time.Sleep(2 * heartbeat)
		synctest.Wait()
		got := w.scrape()
		same(t, "closings observed", got["kidoban_closing_lag_seconds{}"], 1)
		if sum := got["kidoban_closing_lag_seconds{} sum"]; sum > 0.1 {
			t.Errorf("the lag is %g s, want hardly any", sum)
		}
	})
}

func TestElementsAreRenewed(t *testing.T) {
	simulate(t, site(window{name: "acme/day", from: "01:00:00", until: "20:00:00"}), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		w.did()
		w.at("02:30:01")
		same(t, "effects within an hour and a second", w.did(), []string{"firewall acme/brown/day"})
	})
}
