package gateway

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

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
		same(t, "counted", testutil.ToFloat64(w.metrics.drift), 1)
		same(t, "ready", w.notReady(), "")
	})
}

func TestTheClosingLagIsFromTheEndToTheKernel(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:59:50")
		w.start()
		w.do(func() { w.firewall.set.slow = 300 * time.Millisecond })
		w.at("02:00:05")
		count, sum := histogram(t, w.metrics.lag)
		same(t, "closings observed", count, 1)
		if sum < 0.299 || sum > 0.7 {
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
		count, sum := histogram(t, w.metrics.lag)
		same(t, "closings observed", count, 1)
		if sum > 0.1 {
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
