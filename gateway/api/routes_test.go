package api

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/evidence"
	"kidoban/gateway/view"
)

// TestEveryRouteAnswers: each route is asked once as it is meant, and its body and answer fit the
// OpenAPI document.
func TestEveryRouteAnswers(t *testing.T) {
	s := beginWith(t, onRequest(), nil)
	s.eventually("the gateway is ready", func() bool { return get[view.Status](s, "/v1/status", nil).Ready })
	answered := map[string]bool{}
	as := func(actor, method, path string, body any) (answer Recorded) {
		t.Helper()
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		if body == nil {
			text = nil
		}
		r, err := http.NewRequest(method, s.server.URL+path, bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Test-Actor", actor)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		got, err := io.ReadAll(response.Body)
		if err == nil {
			err = misfit(method, path, text, response.StatusCode, response.Header.Get("Content-Type"), got)
		}
		if err != nil || response.StatusCode/100 != 2 {
			t.Fatalf("%s %s: %d %s, %v", method, path, response.StatusCode, got, err)
		}
		path, _, _ = strings.Cut(path, "?")
		answered[path] = true
		if strings.Contains(string(got), `"request":`) {
			_ = json.Unmarshal(got, &answer) // other answers have a request too
		}
		return answer
	}
	in := func(d time.Duration) string { return time.Now().Add(d).Format(time.RFC3339) }
	work := ask{Vendor: "medisys", Engineers: []string{"mori"}, Targets: []string{"pacs"}, For: "1h", Purpose: "the images are late", Ticket: "T-7"}

	x := as("tanaka", "POST", "/v1/request", work).Request
	as("ito", "POST", "/v1/approve", approval{x.ID, x.Digest})
	y := as("tanaka", "POST", "/v1/ask-extension", ending{x.ID, in(2 * time.Hour), "not done"}).Request
	as("tanaka", "GET", "/v1/requests?id="+x.ID, nil)
	as("ito", "POST", "/v1/extend", extension{x.ID, y.Extension.Until.Format(time.RFC3339), y.Extension.Digest})
	as("tanaka", "POST", "/v1/shorten", ending{x.ID, in(30 * time.Minute), "nearly done"})
	as("tanaka", "POST", "/v1/report", report{ID: x.ID, Text: "indices built anew", Result: "works"})
	s.enter("medisys/mori")
	as("tanaka", "POST", "/v1/revoke", refusal{x.ID, "over"})
	as("ito", "POST", "/v1/review", verdict{ID: x.ID, Verdict: "as asked"})
	as("ito", "POST", "/v1/deny", refusal{as("tanaka", "POST", "/v1/request", work).Request.ID, "not today"})
	as("tanaka", "POST", "/v1/withdraw", refusal{as("tanaka", "POST", "/v1/request", work).Request.ID, "not needed"})
	work.Emergency = true
	z := as("tanaka", "POST", "/v1/request", work).Request
	as("ito", "POST", "/v1/ratify", finding{z.ID, z.Digest, "it was one"})
	as("tanaka", "GET", "/v1/requests?limit=3", nil)

	for _, path := range []string{"/v1/close", "/v1/reopen"} {
		as("tanaka", "POST", path, order{Scope: "medisys/sato", Reason: "drill"})
	}
	month := time.Now().In(s.policy.Zone).Format("2006-01")
	s.eventually("the record is read", func() bool { return s.handler.Evidence.Ask(func(*evidence.Record) error { return nil }) == nil })
	as("tanaka", "POST", "/v1/evidence/work-report", evidence.WorkReport{Vendor: "medisys", From: time.Now().Add(-time.Hour), Until: time.Now(), Text: "indices"})
	as("tanaka", "GET", "/v1/evidence/month?month="+month, nil)
	s.eventually("the session is over", func() bool {
		all := get[evidence.Report](s, "/v1/evidence/month", url.Values{"month": {month}}).Sessions
		return len(all) == 1 && all[0].Ended == "revoked"
	})
	over := get[evidence.Report](s, "/v1/evidence/month", url.Values{"month": {month}}).Sessions[0]
	as("ito", "POST", "/v1/evidence/review", evidence.Review{As: evidence.Checked, Sessions: []string{over.ID}, Digest: over.Digest, Note: "as asked for"})
	as("tanaka", "POST", "/v1/evidence/reported", evidence.Reported{Month: month, Digest: get[evidence.Report](s, "/v1/evidence/month", url.Values{"month": {month}}).Digest})
	as("tanaka", "GET", "/v1/evidence/inspection?tier=1", nil)
	as("tanaka", "POST", "/v1/evidence/answer", evidence.Answer{Control: "10", Answer: "yes", Text: "one entry, this one", For: "jimucho"})
	as("tanaka", "POST", "/v1/evidence/mirrored", evidence.Mirrored{To: "/mnt/copy", Size: 1})
	as("tanaka", "POST", "/v1/evidence/probe", tried())
	as("tanaka", "POST", "/v1/evidence/incident", IncidentEvent{Verb: "opened", Kind: "intrusion", Reason: "drill", Exercise: true})
	s.eventually("the incident is known", func() bool { return len(get[[]*evidence.Incident](s, "/v1/evidence/incidents", nil)) == 1 })
	as("tanaka", "GET", "/v1/evidence/incidents", nil)
	id := get[[]*evidence.Incident](s, "/v1/evidence/incidents", nil)[0].Is.ID
	as("tanaka", "POST", "/v1/evidence/sent", evidence.Sent{ID: id, Recipient: "police", At: time.Now(), How: "by hand"})
	as("tanaka", "POST", "/v1/evidence/incident", IncidentEvent{Verb: "closed", ID: id, Reason: "a drill"})
	as("tanaka", "POST", "/v1/reload", nil)
	as("tanaka", "POST", "/v1/recover", order{Reason: "drill"})
	for _, path := range []string{"/v1/status", "/v1/sessions", "/v1/grants", "/v1/refusals", "/v1/explain?engineer=medisys/sato", "/v1/calendar", "/v1/policy",
		"/v1/client-config?engineer=medisys/sato", "/v1/journal?limit=500", "/v1/notify", "/v1/openapi.json"} {
		as("tanaka", "GET", path, nil)
	}
	answered["/v1/events"] = true // TestWhatAStreamIs asks for it
	for _, path := range slices.Sorted(maps.Keys(routes)) {
		if !answered[path] {
			t.Errorf("%s was not asked: ask it here", path)
		}
	}
}

// TestWhoMayState: only operators, where the policy has some, and root; and nobody speaks for a witness.
func TestWhoMayState(t *testing.T) {
	s := beginWith(t, onRequest(), nil)
	s.eventually("the record is read", func() bool { return s.handler.Evidence.Ask(func(*evidence.Record) error { return nil }) == nil })
	s.eventually("entries are on disk", func() bool { return s.handler.Gateway.Snapshot().Journal.Size > 0 })
	post := func(actor, path string, body any) int {
		text, _ := json.Marshal(body)
		r, err := http.NewRequest("POST", s.server.URL+path, bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Test-Actor", actor)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	for path, body := range map[string]any{
		"/v1/evidence/answer":      evidence.Answer{Control: "10", Answer: "yes"},
		"/v1/evidence/mirrored":    evidence.Mirrored{To: "/mnt/copy", Size: 1},
		"/v1/evidence/probe":       tried(),
		"/v1/evidence/incident":    IncidentEvent{Verb: "opened", Kind: "leak", Reason: "drill"},
		"/v1/evidence/work-report": evidence.WorkReport{Vendor: "medisys", From: time.Now().Add(-time.Hour), Until: time.Now(), Text: "indices"},
	} {
		for actor, want := range map[string]int{"tanaka": 200, "stranger": 403} {
			if got := post(actor, path, body); got != want {
				t.Errorf("%s by %s: %d, want %d", path, actor, got, want)
			}
		}
	}
	if got := post("tanaka", "/v1/evidence/mirrored", evidence.Mirrored{To: "witness.example", Size: 1, Witness: true}); got != 400 {
		t.Errorf("for a witness: %d", got)
	}
}

// TestIncidentsAtOnce each have an id of their own, which is known once it is answered.
func TestIncidentsAtOnce(t *testing.T) {
	s := beginWith(t, onRequest(), nil)
	s.eventually("the record is read", func() bool { return s.handler.Evidence.Ask(func(*evidence.Record) error { return nil }) == nil })
	ids := make(chan string)
	for range 4 {
		go func() {
			var noted Noted
			r, err := http.NewRequest("POST", s.server.URL+"/v1/evidence/incident", strings.NewReader(`{"verb": "opened", "kind": "leak", "reason": "drill"}`))
			if err == nil {
				r.Header.Set("Test-Actor", "tanaka")
				var response *http.Response
				if response, err = http.DefaultClient.Do(r); err == nil {
					err = json.NewDecoder(response.Body).Decode(&noted)
					response.Body.Close()
				}
			}
			if err != nil {
				t.Error(err)
			}
			ids <- noted.ID
		}()
	}
	all := map[string]bool{}
	for range 4 {
		all[<-ids] = true
	}
	if known := get[[]*evidence.Incident](s, "/v1/evidence/incidents", nil); len(all) != 4 || len(known) != 4 {
		t.Errorf("%d ids, %d incidents: %v", len(all), len(known), all)
	}
}
