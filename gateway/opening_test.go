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
		w.at("00:59:00")
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
		same(t, "grants in the gate at the window's end", len(w.plan().Grants), 0)
		same(t, "grants in the kernel at the window's end", len(w.ruleset().Grants), 0)
		same(t, "recorded", w.told(journal.WindowOpened, journal.WindowClosed), []string{"window_opened brown night", "window_closed brown night window_closed"})
	})
}

func TestOpeningWaitsForTheDisk(t *testing.T) {
	for _, c := range []struct {
		name   string
		slow   time.Duration // every append
		starts string        // the gateway
		shut   string        // the last moment at which it cannot be open
		opens  string        // the first at which it must
	}{
		{"a fast disk", 0, "00:59:00", "00:59:59.999", "01:00:00"},
		{"slower than the lead", 15 * time.Second, "00:59:00", "01:00:04.999", "01:00:05"},
		// The entry may be appended behind those of the start, or with them.
		{"started inside the window", 2 * time.Second, "01:30:00", "01:30:01.999", "01:30:04"},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at(c.starts)
				w.append.slow = c.slow
				w.start()
				w.at(c.shut)
				same(t, "open before its entry is on disk", w.open(), []string{})
				same(t, "open in the kernel before that", w.kernel(), []string{})
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
				w.at("00:59:00")
				w.start()
				w.do(func() { w.append = c.fault })
				w.at("01:01:00")
				same(t, "open", w.open(), []string{})
				same(t, "grants in the kernel", len(w.ruleset().Grants), 0)
				if got := w.notReady(); !strings.Contains(got, "the journal cannot be written: ") || !strings.Contains(got, "provoked") || !strings.Contains(got, "kidoban recover") {
					t.Errorf("not ready because %q: want what is wrong and what leads out", got)
				}
				if w.gateway.Snapshot().Ready() {
					t.Error("ready without a journal")
				}
			})
		})
	}
}

func TestEffectsComeInOrder(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("00:59:00")
		w.start()
		w.did()
		w.at("01:00:00")
		did := w.did()
		journal := slices.Index(did, "journal window_opened/brown/night")
		gate := slices.Index(did, "tunnel acme/brown/night")
		kernel := slices.Index(did, "firewall acme/brown/night")
		if journal < 0 || gate < journal || kernel < gate {
			t.Errorf("effects of the opening: %q: journal, gate, firewall, in this order", did)
		}
		w.at("01:59:00")
		w.enter("acme/brown", "203.0.113.1:1000")
		w.did()
		w.at("02:00:00")
		did = w.did()
		if len(did) == 0 || did[0] != "tunnel " {
			t.Errorf("effects of the closing: %q: the gate comes first", did)
		}
		slices.Sort(did) // kernel and disk are told at once, and neither waits for the other
		same(t, "closing", did, []string{"firewall ", "journal session_closed/brown", "journal window_closed/brown/night", "tunnel "})
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
				w.at("01:58:00")
				w.start()
				w.enter("acme/brown", "203.0.113.1:1000")
				release := make(chan struct{})
				defer close(release)
				w.at("01:59:59")
				w.do(func() { c.hang(w, release) })
				w.at("01:59:59.999")
				same(t, "open before the end", w.open(), []string{"acme/brown/night"})
				w.at("02:00:00")
				same(t, "grants in the gate at the end", len(w.plan().Grants), 0)
				same(t, "sessions", w.sessions(), []string{})
			})
		})
	}
}

func TestAHungJournalBecomesADoubtAndHeals(t *testing.T) {
	simulate(t, site(window{name: "acme/night", from: "01:00:00", until: "02:00:00"}, window{name: "medisys/late", from: "01:30:00", until: "03:00:00"}), func(t *testing.T, w *world) {
		w.at("01:29:00")
		w.start()
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
