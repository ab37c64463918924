package gateway

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// TestEndsAreWarnedOf: 15 and 5 minutes before everything of an engineer ends, who is inside, the
// journal says so.
func TestEndsAreWarnedOf(t *testing.T) {
	night := window{name: "acme/night", from: "01:00:00", until: "02:00:00"}
	for _, c := range []struct {
		name string
		p    *policy.Policy
		from string // the gateway starts
		do   func(w *world)
		told []string
	}{
		{"inside", site(night), "01:30:00", func(w *world) { w.enter("acme/brown", address) }, []string{"01:45:00 brown night 15 02:00:00", "01:55:00 brown night 5 02:00:00"}},
		{"nobody inside", site(night), "01:30:00", func(*world) {}, nil},
		{"started between", site(night), "01:50:00", func(w *world) { w.enter("acme/brown", address) }, []string{"01:55:00 brown night 5 02:00:00"}},
		{"shut", site(night), "01:30:00", func(w *world) { w.enter("acme/brown", address); w.shut("acme") }, nil},
		{"another window follows", site(night, window{name: "acme/later", from: "02:00:00", until: "02:30:00"}), "01:30:00",
			func(w *world) { w.enter("acme/brown", address) }, []string{"02:15:00 brown later 15 02:30:00", "02:25:00 brown later 5 02:30:00"}},
		{"another window, after a gap", site(night, window{name: "acme/later", from: "02:00:01", until: "02:10:00"}), "01:30:00",
			func(w *world) { w.enter("acme/brown", address) }, []string{"01:45:00 brown night 15 02:00:00", "01:55:00 brown night 5 02:00:00"}},
		{"extended after the first", site(night), "01:30:00", func(w *world) {
			w.enter("acme/brown", address)
			w.stays("01:50:00")
			w.reload(site(window{name: "acme/night", from: "01:00:00", until: "02:30:00"}))
		}, []string{"01:45:00 brown night 15 02:00:00", "02:15:00 brown night 15 02:30:00", "02:25:00 brown night 5 02:30:00"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, c.p, func(t *testing.T, w *world) {
				w.at(c.from)
				w.start()
				c.do(w)
				w.stays("02:40:00")
				same(t, "warned", w.warned(), c.told)
			})
		})
	}
}

// stays lets the time pass. A session without traffic would be idle.
func (w *world) stays(until string) {
	for w.wall().Before(moment(until)) {
		time.Sleep(min(time.Minute, moment(until).Sub(w.wall())))
		w.hear("acme/brown", 1, 1)
	}
	synctest.Wait()
}

// warned lists the warnings in the journal.
func (w *world) warned() (told []string) {
	for _, e := range w.durable() {
		if e.Kind == journal.Warned {
			told = append(told, fmt.Sprintf("%s %s %s %d %s", e.Time.UTC().Format("15:04:05"), e.Engineer, e.Window+e.Request, e.Count, e.Until.UTC().Format("15:04:05")))
		}
	}
	return told
}

// TestRequestsAreWarnedOf: a request's end is warned of once for the request, with nobody inside
// too.
func TestRequestsAreWarnedOf(t *testing.T) {
	simulate(t, onRequest(), func(t *testing.T, w *world) {
		w.at("03:00:00")
		w.start()
		r := w.request("tanaka", "~234567")
		w.gives("suzuki", policy.Verdict{Verb: policy.Approve, ID: r.ID, Digest: r.Digest()})
		w.at("04:10:00")
		want := []string{"03:45:00  ~234567~234567 15 04:00:00", "03:55:00  ~234567~234567 5 04:00:00"}
		same(t, "warned", w.warned(), want)
		for _, e := range w.durable() {
			if e.Kind == journal.Warned {
				same(t, "vendor", e.Vendor, "acme")
				same(t, "grant", e.Grant, "")
			}
		}
	})
}
