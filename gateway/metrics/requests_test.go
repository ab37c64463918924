package metrics

import (
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// office is a state with two vendors, of which one may ask, and its metrics.
type office struct {
	t     *testing.T
	m     *Metrics
	state *policy.State
	now   time.Time
}

func newOffice(t *testing.T) *office {
	operators := []*policy.Operator{{Name: "ito", Rights: policy.Rights()}, {Name: "suzuki", Rights: policy.Rights()}, {Name: "tanaka", Rights: policy.Rights()}}
	v, never := &policy.Vendor{Name: "acme"}, &policy.Vendor{Name: "never"}
	source := []netip.Prefix{netip.MustParsePrefix("203.0.113.1/32")}
	v.Engineers = []*policy.Engineer{{Vendor: v, Name: "brown", Key: policy.Key{2}, Sources: source}}
	target := &policy.Target{Name: "ehr", Prefix: netip.MustParsePrefix("10.1.0.5/32"), Services: []policy.Service{{Protocol: policy.TCP, First: 22, Last: 22}}}
	v.Windows = []*policy.Window{{Vendor: v, Name: "night", Engineers: v.Engineers, Targets: []*policy.Target{target}, Schedule: &policy.Days{Weekdays: [7]bool{true, true, true, true, true, true, true}, To: 3600}}}
	v.OnRequest = &policy.OnRequest{Targets: []*policy.Target{target}, Engineers: v.Engineers, Approvals: 2, Approvers: operators, SelfApproval: true,
		MaxDuration: 4 * time.Hour, MaxTotal: 8 * time.Hour, Ahead: 48 * time.Hour, Undecided: 24 * time.Hour,
		Emergency: &policy.Emergency{MaxDuration: time.Hour, RatifyWithin: 3 * time.Hour, Ratifiers: operators}}
	p := &policy.Policy{Zone: time.UTC, Digest: "d", Targets: []*policy.Target{target}, Vendors: []*policy.Vendor{v, never}, Operators: operators}
	o := &office{t, New("test"), policy.NewState(), time.Date(2030, 1, 1, 20, 0, 0, 0, time.UTC)}
	o.m.Reloaded(p, o.now)
	if err := o.state.Apply(o.now, "", policy.PolicyLoaded{Digest: "d", Policy: p}); err != nil {
		t.Fatal(err)
	}
	return o
}

// gives gives an event, and has its entry recorded.
func (o *office) gives(e policy.Event) {
	o.t.Helper()
	if err := o.state.Apply(o.now, "ito", e); err != nil {
		o.t.Fatal(err)
	}
	entry := journal.Entry{Kind: journal.Requested, Vendor: "acme"}
	switch e := e.(type) {
	case policy.Shut:
		entry.Kind, entry.Request = journal.Revoked, string(e.Scope)
	case policy.Verdict:
		entry.Kind, entry.Request = journal.Kind(e.Verb), e.ID
	case policy.Requested:
		entry.Request = e.ID
	}
	o.m.Recorded([]journal.Entry{{Kind: journal.WindowOpened, Request: entry.Request}, entry})
}

func (o *office) ask(id string, emergency bool) policy.Terms {
	o.t.Helper()
	a := policy.Ask{Vendor: "acme", Engineers: []string{"brown"}, Targets: []string{"ehr"}, For: time.Hour, Purpose: "the server is slow", Emergency: emergency}
	terms, err := o.state.Policy().Resolve(a, id, o.now)
	if err != nil {
		o.t.Fatal(err)
	}
	o.gives(o.state.Needing(policy.Requested{Terms: terms, By: "tanaka"}))
	return terms
}

// shows compares the page's series of requests.
func (o *office) shows(want ...string) {
	o.t.Helper()
	plan := o.state.Plan(o.now)
	source := live{still{&view.Snapshot{Plan: plan, Base: o.state.Copy()}, o.now}}
	o.m.Usage(time.Second, plan, plan.Policy.Vendors[0].Engineers, o.now)
	w := httptest.NewRecorder()
	o.m.Pages(source, "kido0", "127.0.0.1:9586", slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1/metrics", nil))
	page := w.Body.String()
	for _, line := range want {
		if !strings.Contains(page, "\n"+line+"\n") {
			o.t.Errorf("there is no %s", line)
		}
	}
	if strings.Contains(page, "~") {
		o.t.Errorf("a series names a request:\n%s", page)
	}
	if o.t.Failed() {
		for line := range strings.Lines(page) {
			if strings.Contains(line, "request") || strings.Contains(line, "emerg") {
				o.t.Log(strings.TrimSpace(line))
			}
		}
	}
}

// TestSeriesOfRequests: they begin at 0, follow each request, and no request has series of its own.
func TestSeriesOfRequests(t *testing.T) {
	o := newOffice(t)
	o.shows(`kidoban_requests{state="requested"} 0`, `kidoban_requests{state="void"} 0`, `kidoban_requests_total{outcome="requested",vendor="acme"} 0`,
		`kidoban_requests_total{outcome="revoked",vendor="acme"} 0`, `kidoban_emergencies_unratified{vendor="acme"} 0`, `kidoban_emergencies_overdue{vendor="acme"} 0`,
		`kidoban_reviews_pending 0`, `kidoban_request_decision_seconds_count 0`)
	terms := o.ask("~a", false)
	o.shows(`kidoban_requests{state="requested"} 1`, `kidoban_requests_total{outcome="requested",vendor="acme"} 1`,
		`kidoban_request_undecided_start_timestamp_seconds{vendor="acme"} 1.893528e+09`)
	approve := policy.Verdict{Verb: policy.Approve, ID: "~a", By: "suzuki", Digest: terms.Digest()}
	o.now = o.now.Add(5 * time.Minute)
	o.gives(approve)
	o.shows(`kidoban_requests_total{outcome="approved",vendor="acme"} 1`, `kidoban_request_decision_seconds_count 0`)
	o.now = o.now.Add(5 * time.Minute)
	approve.By = "tanaka"
	o.gives(approve)
	o.shows(`kidoban_requests{state="open"} 1`, `kidoban_requests{state="requested"} 0`, `kidoban_requests_total{outcome="approved",vendor="acme"} 2`,
		`kidoban_request_decision_seconds_count 1`, `kidoban_request_decision_seconds_sum 600`, `kidoban_reviews_pending 1`, `kidoban_grant_active{vendor="acme"} 1`, `kidoban_window_open{vendor="acme",window="night"} 0`)
	o.gives(policy.Shut{Scope: "~a", Reason: "wrong server"})
	o.shows(`kidoban_requests{state="revoked"} 1`, `kidoban_requests_total{outcome="revoked",vendor="acme"} 1`, `kidoban_shut{scope="vendors"} 0`, `kidoban_shut{scope="engineers"} 0`, `kidoban_request_decision_seconds_count 1`)

	o.ask("~b", false)
	o.now = o.now.Add(time.Minute)
	o.gives(policy.Verdict{Verb: policy.Deny, ID: "~b", By: "suzuki", Reason: "not tonight"})
	o.shows(`kidoban_requests{state="denied"} 1`, `kidoban_request_decision_seconds_count 2`, `kidoban_request_decision_seconds_sum 660`)

	terms = o.ask("~c", true)
	o.shows(`kidoban_emergencies_unratified{vendor="acme"} 1`, `kidoban_emergencies_overdue{vendor="acme"} 0`, `kidoban_reviews_pending 0`)
	o.now = o.now.Add(4 * time.Hour)
	o.shows(`kidoban_emergencies_unratified{vendor="acme"} 1`, `kidoban_emergencies_overdue{vendor="acme"} 1`, `kidoban_reviews_pending 1`)
	o.gives(policy.Verdict{Verb: policy.Ratify, ID: "~c", By: "ito", Digest: terms.Digest(), Reason: "in order"})
	o.shows(`kidoban_emergencies_unratified{vendor="acme"} 0`, `kidoban_emergencies_overdue{vendor="acme"} 0`, `kidoban_reviews_pending 0`, `kidoban_requests_total{outcome="ratified",vendor="acme"} 1`)
}

// TestDecisionsThatNobodyMakes are not waited for without end.
func TestDecisionsThatNobodyMakes(t *testing.T) {
	o := newOffice(t)
	terms := o.ask("~a", false)
	o.gives(policy.Verdict{Verb: policy.Approve, ID: "~a", By: "suzuki", Digest: terms.Digest()})
	o.shows(`kidoban_request_decision_seconds_count 0`)
	o.now = o.now.Add(25 * time.Hour)
	o.shows(`kidoban_requests{state="expired"} 1`, `kidoban_request_decision_seconds_count 0`)
	if len(o.m.requests.pending) != 0 {
		t.Errorf("%d requests are waited for", len(o.m.requests.pending))
	}
}
