package api

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// TestOfficeRoutes: the office reads, and reports. It can decide about nothing.
func TestOfficeRoutes(t *testing.T) {
	s := serve(t)
	s.policy.Sinks = []*policy.Sink{{Name: "siem", Webhook: "https://siem.example.jp/k", SecretFile: "/etc/kidoban/siem.secret", Kinds: []string{"shut"}, Language: "ja"}}
	admin := s.handler
	office := Office(admin.Gateway, admin.Entries, admin.Reports, admin.Who)
	s.server.Config.Handler = office
	for path, r := range routes {
		_, there := officeRoutes()[path]
		if path == "/v1/events" {
			continue // it does not end
		}
		if _, _, err := s.send(r.method, path, nil); !there && (err == nil || !strings.Contains(err.Error(), "is not there: allowed is /v1/events, /v1/office/notified, /v1/office/notify")) {
			t.Errorf("%s %s: %v", r.method, path, err)
		}
		if there && r.method != "GET" {
			t.Errorf("%s changes something", path)
		}
	}
	n := get[view.Notify](s, "/v1/office/notify", nil)
	if len(n.Sinks) != 1 || n.Site != "Kido Hospital" || n.Timezone != site.String() || n.Size == 0 {
		t.Fatalf("got %+v", n)
	}
	if x := n.Sinks[0]; x.Name != "siem" || x.SecretFile != "/etc/kidoban/siem.secret" || x.Since == 0 || x.Language != "ja" {
		t.Errorf("got %+v", x)
	}
	since := n.Sinks[0].Since
	s.server.Config.Handler = admin
	post(s, "/v1/close", map[string]string{"scope": "medisys/sato", "reason": "drill"})
	s.eventually("the close is in the journal", func() bool { return get[view.Notify](s, "/v1/notify", nil).Size > n.Size })
	if x := get[view.Notify](s, "/v1/notify", nil).Sinks[0]; x.Since != since {
		t.Errorf("a sink that is new begins with entry %d, and then with %d", since, x.Since)
	}
	s.server.Config.Handler = office
	if text, err := s.command("/v1/office/notified", view.Notified{Sinks: map[string]view.SinkReport{"siem": {Cursor: 3, Delivered: 2}, "unknown": {Cursor: 9}}}); err != nil || strings.TrimSpace(string(text)) != "{}" {
		t.Errorf("a report: %s, %v", text, err)
	}
	all := admin.Reports.Sinks()
	if len(all) != 1 || all[0].Name != "siem" || all[0].Delivered != 2 || all[0].Cursor != 3 {
		t.Errorf("got %+v", all)
	}
	many := map[string]view.SinkReport{}
	for i := range sinksMost + 1 {
		many[strings.Repeat("x", i%63+1)+string(rune('a'+i/63))] = view.SinkReport{}
	}
	for name, body := range map[string]any{
		"no sinks":          object{},
		"another field":     object{"sinks": object{}, "more": 1},
		"a field of a sink": object{"sinks": object{"siem": object{"cursors": 1}}},
		"below zero":        view.Notified{Sinks: map[string]view.SinkReport{"siem": {Failed: -1}}},
		"a long error":      view.Notified{Sinks: map[string]view.SinkReport{"siem": {LastError: strings.Repeat("x", causeMost+1)}}},
		"an odd error":      view.Notified{Sinks: map[string]view.SinkReport{"siem": {LastError: "\u202e"}}},
		"a long name":       view.Notified{Sinks: map[string]view.SinkReport{strings.Repeat("x", 64): {}}},
		"many sinks":        view.Notified{Sinks: many},
		"no name":           view.Notified{Sinks: map[string]view.SinkReport{"": {}}},
	} {
		if _, err := s.command("/v1/office/notified", body); err == nil {
			text, _ := json.Marshal(body)
			t.Errorf("%s is taken: %.100s", name, text)
		}
	}
	if got := admin.Reports.Sinks(); !slices.Equal(got, all) {
		t.Errorf("reports that are refused changed something: %+v", got)
	}
}

// TestReports: hints and lag follow the newest report, and show that none comes.
func TestReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := hospital()
		p.Sinks = []*policy.Sink{{Name: "mail"}, {Name: "siem"}}
		snap := &view.Snapshot{Plan: &policy.Plan{}}
		r := &Reports{Snapshot: func() *view.Snapshot { return snap }}
		expect := func(what string, lags map[string]int64, hints ...view.Code) {
			t.Helper()
			got, codes := map[string]int64{}, []view.Code(nil)
			for _, s := range r.Sinks() {
				got[s.Name] = s.Lag
			}
			for _, h := range r.Hints() {
				codes = append(codes, h.Message.Code)
			}
			if !maps.Equal(got, lags) || !slices.Equal(codes, hints) {
				t.Errorf("%s: lags %v, hints %v; want %v, %v", what, got, codes, lags, hints)
			}
		}
		expect("no policy", nil)
		snap = &view.Snapshot{Plan: &policy.Plan{Policy: p}, Journal: view.JournalStatus{Size: 100}}
		expect("a policy with sinks", map[string]int64{"mail": 0, "siem": 0})
		snap = &view.Snapshot{Plan: snap.Plan, Journal: view.JournalStatus{Size: 130}}
		expect("entries", map[string]int64{"mail": 30, "siem": 30})
		time.Sleep(silentFor + time.Second)
		expect("nobody reports", map[string]int64{"mail": 30, "siem": 30}, "notices_silent")
		began := time.Now()
		r.take(view.Notified{Sinks: map[string]view.SinkReport{"siem": {Cursor: 130}, "mail": {Cursor: 110, Failed: 1, LastError: "the mail server answers 451", Since: began}}})
		snap = &view.Snapshot{Plan: snap.Plan, Journal: view.JournalStatus{Size: 140}}
		expect("a report", map[string]int64{"mail": 20, "siem": 0})
		time.Sleep(freshWithin)
		expect("an old report", map[string]int64{"mail": 30, "siem": 10})
		time.Sleep(failingFor)
		r.take(view.Notified{Sinks: map[string]view.SinkReport{"siem": {Cursor: 140}, "mail": {Cursor: 110, Failed: 5, LastError: "the mail server answers 451", Since: began}}})
		expect("one fails for long", map[string]int64{"mail": 30, "siem": 0}, "notices_failing")
		other := hospital()
		other.Sinks = []*policy.Sink{{Name: "siem"}}
		snap = &view.Snapshot{Plan: &policy.Plan{Policy: other}, Journal: snap.Journal}
		expect("a policy without the other", map[string]int64{"siem": 0})
		snap = &view.Snapshot{Plan: &policy.Plan{Policy: hospital()}, Journal: snap.Journal}
		time.Sleep(time.Hour)
		expect("a policy without sinks", nil)
	})
}
