package gateway

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/journal"
)

// Whatever a policy says, what is recorded about it fits into entries.
func TestEntriesAreBounded(t *testing.T) {
	var many []window
	for i := range 1000 {
		many = append(many, window{name: fmt.Sprintf("acme/work-%d-%s", i, strings.Repeat("x", 50)), from: "01:00:00", until: "02:00:00"})
	}
	long := oneHour()
	long.Vendors[0].Windows[0].ApprovedBy = strings.Repeat("院長\"", 20000)
	for _, c := range []struct {
		name string
		do   func(*world)
		file func(*world)
		open int
	}{
		{"a session that stands on a thousand grants", func(w *world) { w.file = site(many...) }, nil, 1000},
		{"an approval of many words", func(w *world) { w.file = long }, nil, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("01:30:00")
				c.do(w)
				w.start()
				w.enter("acme/brown", address)
				w.at("01:30:10")
				same(t, "not ready", w.notReady(), "")
				same(t, "open", len(w.open()), c.open)
				same(t, "sessions", len(w.sessions()), 1)
				w.shut("acme")
				same(t, "recorded", w.told(journal.SessionOpened, journal.SessionClosed), []string{"session_opened brown", "session_closed brown vendor_shut"})
				for _, e := range w.durable() {
					if e.Kind != journal.SessionOpened || c.open == 1 {
						continue
					}
					if len(e.Grants) != grantsMax || e.Text != "and 800 more grants, each with an entry of its own" {
						t.Errorf("the session's entry names %d grants and says %q", len(e.Grants), e.Text)
					}
				}
			})
		})
	}
}

// An entry that the journal does not take is no dead disk: it alone is lost,
// and whoever waits for it hears why.
func TestARefusedEntryIsNotAFailedJournal(t *testing.T) {
	simulate(t, oneHour(), func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		drift := func(text string) journal.Entry {
			return journal.Entry{Kind: journal.Drift, Actor: "gateway", Reason: text}
		}
		huge := drift(strings.Repeat("x", journal.MaxEntry))
		answers := map[string]error{}
		add := func(l *loop, name string, entries ...journal.Entry) {
			answers[name] = errFault
			l.add(record{entries: entries, done: func(_ *loop, err error) { answers[name] = err }})
		}
		if err := w.gateway.send(t.Context(), func(l *loop) {
			l.record(drift("before"))
			l.record(drift("beside"), huge, drift("behind"))
			add(l, "whole", drift("never"), huge)
			add(l, "good", drift("after"))
		}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		same(t, "recorded", w.told(journal.Drift), []string{"drift before", "drift beside", "drift behind", "drift after"})
		same(t, "what the good one's waiter hears", answers["good"], nil)
		if !errors.Is(answers["whole"], errRefused) {
			t.Errorf("the waiter of a record with a huge entry hears %v, want %v", answers["whole"], errRefused)
		}
		same(t, "not ready", w.notReady(), "")
		same(t, "open", w.open(), []string{"acme/brown/night"})
	})
}

// A grant whose opening the journal does not take stays shut, keeps no other
// shut, and does not drive the loop.
func TestAGrantThatCannotBeRecordedStaysShutAlone(t *testing.T) {
	endless := site(window{name: "acme/" + strings.Repeat("x", journal.MaxEntry), from: "01:00:00", until: "02:00:00"}, window{name: "medisys/night", from: "01:00:00", until: "02:00:00", engineers: "sato"})
	simulate(t, endless, func(t *testing.T, w *world) {
		w.at("01:30:00")
		w.start()
		same(t, "open", w.open(), []string{"medisys/sato/night"})
		same(t, "not ready", w.notReady(), "")
		sets := 0
		w.do(func() { sets = w.tunnel.sets })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		w.do(func() { same(t, "plans since", w.tunnel.sets-sets, 0) })
	})
}
