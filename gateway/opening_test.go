package gateway

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kidoban/gateway/journal"
)

func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestGrantOpensOnTheSecond(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.start()
		w.at("00:59:49.999")
		same(t, "recorded before the lead", w.told(journal.WindowOpened), []string{})
		w.at("00:59:50")
		same(t, "recorded a lead before the opening", w.told(journal.WindowOpened), []string{"window_opened brown night"})
		w.at("00:59:59.999")
		same(t, "open before the window", w.open(), []string{})
		w.at("01:00:00")
		same(t, "open at the window's first instant", w.open(), []string{"acme/brown/night"})
		same(t, "open in the kernel", w.kernel(), []string{"acme/brown/night"})
		w.at("01:59:59.999")
		same(t, "open before the window's end", w.open(), []string{"acme/brown/night"})
		w.at("02:00:00")
		same(t, "grants in the gate at the window's end", len(w.tunnel.plan.Grants), 0)
		same(t, "grants in the kernel at the window's end", len(w.firewall.plan.Grants), 0)
		same(t, "recorded", w.told(journal.WindowOpened, journal.WindowClosed), []string{"window_opened brown night", "window_closed brown night window_closed"})
	})
}

func TestOpeningWaitsForTheDisk(t *testing.T) {
	for _, c := range []struct {
		name     string
		slow     time.Duration
		opens    string // the first moment at which it is open
		starting string // when the gateway starts
	}{
		{"a fast disk", 0, "01:00:00", "00:30:00"},
		{"slower than the lead", 15 * time.Second, "01:00:05", "00:30:00"},
		{"started inside the window", 2 * time.Second, "01:30:04", "01:30:00"}, // behind the entries of the start
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at(c.starting)
				w.append.slow = c.slow
				w.start()
				if opens := moment(c.opens); opens.After(w.wall()) {
					time.Sleep(opens.Sub(w.wall()) - time.Millisecond)
					same(t, "open before its entry is on disk", w.open(), []string{})
					same(t, "grants in the kernel before that", w.kernel(), []string{})
				}
				w.at(c.opens)
				same(t, "open once its entry is on disk", w.open(), []string{"acme/brown/night"})
			})
		})
	}
}

func TestNothingOpensWithoutARecord(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault fault
	}{
		{"the disk refuses", fault{err: errFault}},
		{"the disk takes it and says that it failed", fault{err: errFault, after: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.start()
				w.at("00:40:00")
				w.do(func() { w.append = c.fault })
				w.at("01:30:00")
				same(t, "open", w.open(), []string{})
				same(t, "grants in the kernel", len(w.firewall.plan.Grants), 0)
				if got := w.notReady(); !strings.Contains(got, "the journal cannot be written: provoked") || !strings.Contains(got, "kidoban recover") {
					t.Errorf("not ready because %q: want what is wrong and what leads out", got)
				}
				if w.gateway.Snapshot().Status.Ready {
					t.Error("ready without a journal")
				}
			})
		})
	}
}

func TestEffectsComeInOrder(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.start()
		w.at("00:59:00")
		w.do(func() { w.effects = nil })
		w.at("01:00:00")
		same(t, "opening", w.effects, []string{
			"tunnel ", "firewall ", "journal window_opened/brown/night",
			"tunnel ", "firewall ", // the plan knows the grant, which is not open yet
			"tunnel acme/brown/night", "firewall acme/brown/night",
		})
		w.at("01:59:00")
		w.enter("acme/brown", "203.0.113.1:1000")
		w.do(func() { w.effects = nil })
		w.at("02:00:00")
		first := slices.IndexFunc(w.effects, func(e string) bool { return strings.HasPrefix(e, "journal") })
		same(t, "closing", w.effects[:min(2, len(w.effects))], []string{"tunnel ", "firewall "})
		if first < 1 {
			t.Errorf("effects of the closing: %q: the gate comes before the journal", w.effects)
		}
	})
}

func TestClosingWaitsForNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		hang func(*world, chan struct{})
	}{
		{"the journal hangs", func(w *world, c chan struct{}) { w.append.hang = c }},
		{"the firewall hangs", func(w *world, c chan struct{}) { w.firewall.set.hang = c }},
		{"the marker hangs and the journal fails", func(w *world, c chan struct{}) { w.save.hang, w.append.err = c, errFault }},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.start()
				w.at("01:30:00")
				w.enter("acme/brown", "203.0.113.1:1000")
				release := make(chan struct{})
				defer close(release)
				w.at("01:59:59")
				w.do(func() { c.hang(w, release) })
				w.at("01:59:59.999")
				same(t, "open before the end", w.open(), []string{"acme/brown/night"})
				w.at("02:00:00")
				same(t, "grants in the gate at the end", len(w.tunnel.plan.Grants), 0)
				same(t, "sessions", w.sessions(), []string{})
			})
		})
	}
}

func TestAHungJournalBecomesADoubtAndHeals(t *testing.T) {
	simulate(t, site(window{name: "acme/night", from: "01:00:00", until: "02:00:00"}, window{name: "medisys/late", from: "01:30:00", until: "03:00:00"}), func(t *testing.T, w *world) {
		w.start()
		w.at("01:29:00")
		release := make(chan struct{})
		w.do(func() { w.append.hang = release })
		w.at("01:29:50") // the lead of the second window asks the disk
		w.at("01:30:01")
		same(t, "open while the second opening is not on disk", w.open(), []string{"acme/brown/night"})
		w.at("01:30:25")
		if got := w.notReady(); !strings.Contains(got, "has not answered for 30s") {
			t.Errorf("not ready because %q: want the disk that does not answer", got)
		}
		w.do(func() { w.append.hang = nil })
		close(release)
		w.at("01:30:26")
		same(t, "not ready after it answered", w.notReady(), "")
		same(t, "open after it answered", w.open(), []string{"acme/brown/night", "medisys/sato/late", "medisys/suzuki/late"})
	})
}
