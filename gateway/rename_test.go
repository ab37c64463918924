package gateway

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// TestFault104NamesCutNobody: other names for windows and targets leave the access
// as it is. It goes on under the entry of the earlier name until the entry of the later
// one is on disk; only then the journal closes the earlier one.
func TestFault104NamesCutNobody(t *testing.T) {
	named := func(name, until, targets string) window {
		return window{name: "acme/" + name, from: "01:00:00", until: until, targets: targets}
	}
	of := func(windows ...window) func() *policy.Policy {
		return func() *policy.Policy { return site(windows...) }
	}
	target := func(change func(ehr *policy.Target), windows ...window) func() *policy.Policy {
		return func() *policy.Policy { p := site(windows...); change(p.Targets[0]); return p }
	}
	for _, c := range []struct {
		name             string
		before, then     func() *policy.Policy
		atOnce, end      string // targets within reach, and the end of the session, while the disk has not answered yet
		reach, endThen   string // and when it has
		opens            []string
		opened, recorded []string // entries while the disk has not answered, and then
	}{
		{"a window gets another name", of(named("night", "02:00:00", "ehr pacs")), of(named("evening", "02:00:00", "ehr pacs")),
			"ehr pacs", "02:00:00", "ehr pacs", "02:00:00", []string{"acme/brown/night"},
			[]string{"acme/brown/evening"}, []string{"window_opened brown evening", "window_closed brown night policy_changed"}},
		{"and more time and targets", of(named("night", "02:00:00", "ehr")), of(named("evening", "03:00:00", "ehr pacs")),
			"ehr", "02:00:00", "ehr pacs", "03:00:00", []string{"acme/brown/night"},
			[]string{"acme/brown/evening"}, []string{"window_opened brown evening", "window_closed brown night policy_changed"}},
		{"and less", of(named("night", "02:00:00", "ehr pacs")), of(named("evening", "01:59:00", "pacs")),
			"pacs", "01:59:00", "pacs", "01:59:00", []string{"acme/brown/night"},
			[]string{"acme/brown/evening"}, []string{"window_opened brown evening", "window_closed brown night policy_changed"}},
		{"one becomes two", of(named("night", "02:00:00", "ehr pacs")), of(named("db", "02:00:00", "ehr"), named("images", "02:00:00", "pacs")),
			"ehr pacs", "02:00:00", "ehr pacs", "02:00:00", []string{"acme/brown/night"},
			[]string{"acme/brown/db", "acme/brown/images"}, []string{"window_opened brown db", "window_opened brown images", "window_closed brown night policy_changed"}},
		{"one becomes two of other ends", of(named("night", "02:00:00", "ehr pacs")), of(named("db", "01:59:00", "ehr"), named("images", "02:00:00", "pacs")),
			"pacs ehr", "01:59:00", "ehr pacs", "02:00:00", []string{"acme/brown/night"},
			[]string{"acme/brown/db", "acme/brown/images"}, []string{"window_opened brown db", "window_opened brown images", "window_closed brown night policy_changed"}},
		{"two become one", of(named("db", "02:00:00", "ehr"), named("images", "02:00:00", "pacs")), of(named("night", "02:00:00", "ehr pacs")),
			"ehr pacs", "02:00:00", "ehr pacs", "02:00:00", []string{"acme/brown/db", "acme/brown/images"},
			[]string{"acme/brown/night"}, []string{"window_opened brown night", "window_closed brown db policy_changed", "window_closed brown images policy_changed"}},
		{"a target goes over to another window", of(named("db", "02:00:00", "ehr"), named("images", "02:00:00", "pacs")), of(named("db", "02:00:00", "ehr pacs")),
			"ehr pacs", "02:00:00", "ehr pacs", "02:00:00", []string{"acme/brown/db", "acme/brown/images"},
			[]string{"acme/brown/db"}, []string{"window_opened brown db", "window_closed brown images policy_changed"}},
		{"a target gets another name", of(named("night", "02:00:00", "ehr pacs")), target(func(ehr *policy.Target) { ehr.Name = "ehr-db" }, named("night", "02:00:00", "ehr pacs")),
			"ehr pacs", "02:00:00", "ehr-db pacs", "02:00:00", []string{"acme/brown/night"}, []string{"acme/brown/night"}, []string{"window_opened brown night"}},
		{"a target is another one by the same name", of(named("night", "02:00:00", "ehr pacs")), target(func(ehr *policy.Target) { ehr.Prefix = prefixes("10.9.0.1/32")[0] }, named("evening", "02:00:00", "ehr pacs")),
			"pacs", "02:00:00", "ehr pacs", "02:00:00", []string{"acme/brown/night"},
			[]string{"acme/brown/evening"}, []string{"window_opened brown evening", "window_closed brown night policy_changed"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, c.before(), func(t *testing.T, w *world) {
				w.at("01:57:00")
				w.start()
				w.enter("acme/brown", address)
				session := w.gateway.Snapshot().Sessions[0].ID
				same(t, "open before", w.open(), c.opens)
				began := len(w.told(journal.WindowOpened, journal.WindowClosed))
				w.do(func() { w.append.slow = time.Second })
				w.reloads(c.then())
				end := func() string {
					if s := w.gateway.Snapshot().Sessions; len(s) == 1 && s[0].ID == session {
						return s[0].Until.Format(time.TimeOnly)
					}
					return "another session, or none"
				}
				same(t, "within reach at once", w.reach("acme/brown"), c.atOnce)
				same(t, "open at once", w.open(), c.opens)
				same(t, "end of the session at once", end(), c.end)
				same(t, "recorded at once", w.told(journal.WindowOpened, journal.WindowClosed)[began:], []string{})
				same(t, "the kernel has what the gate has", w.kernel(), w.open())
				time.Sleep(5 * time.Second)
				synctest.Wait()
				same(t, "within reach when it is on disk", w.reach("acme/brown"), c.reach)
				same(t, "open when it is on disk", w.open(), c.opened)
				same(t, "end of the session when it is on disk", end(), c.endThen)
				same(t, "recorded when it is on disk", w.told(journal.WindowOpened, journal.WindowClosed)[began:], c.recorded)
				same(t, "sessions ended", w.told(journal.SessionClosed), []string{})
			})
		})
	}
}

// TestFault104OtherAccessIsNotCovered: the entry of one window lets nothing open that it
// does not have, whatever the name of the other window is.
func TestFault104OtherAccessIsNotCovered(t *testing.T) {
	moved := site(window{name: "acme/evening", from: "01:00:00", until: "02:00:00"})
	moved.Vendors[0].Engineers[0].Sources = prefixes("198.51.100.1/32")
	rekeyed := site(window{name: "acme/evening", from: "01:00:00", until: "02:00:00"})
	rekeyed.Vendors[0].Engineers[0].Key = policy.Key{200}
	shared := site(window{name: "acme/evening", from: "01:00:00", until: "02:00:00"})
	shared.Vendors[0].Engineers[0].PresharedKey[0] = 1
	for _, c := range []struct {
		name string
		then *policy.Policy
		cut  bool
	}{
		{"other targets", site(window{name: "acme/evening", from: "01:00:00", until: "02:00:00", targets: "pacs"}), false},
		{"a later beginning", site(window{name: "acme/evening", from: "01:30:01", until: "02:00:00"}), true},
		{"nothing", site(), true},
		{"another vendor", site(window{name: "medisys/night", from: "01:00:00", until: "02:00:00"}), true},
		{"other sources", moved, true},
		{"another key", rekeyed, true},
		{"another preshared key", shared, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, oneHour(), func(t *testing.T, w *world) {
				w.at("01:30:00")
				w.start()
				w.enter("acme/brown", address)
				w.do(func() { w.append.slow = time.Second })
				w.reloads(c.then)
				same(t, "within reach", w.reach("acme/brown"), "")
				same(t, "cut", len(w.sessions()) == 0, c.cut)
				same(t, "open to another", slices.ContainsFunc(w.open(), func(id string) bool { return id == "medisys/sato/night" }), false)
			})
		})
	}
}
