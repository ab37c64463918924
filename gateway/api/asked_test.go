package api

import (
	"encoding/json"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// asking is the hospital with two operators, whose vendor may ask for another target and for a source of
// its own, at noon.
type asking struct {
	t     *testing.T
	state *policy.State
	now   time.Time
}

// onRequest is the hospital with two operators and what its vendor may ask for.
func onRequest() *policy.Policy {
	p := hospital()
	pacs := &policy.Target{Name: "pacs", Prefix: netip.MustParsePrefix("10.1.0.9/32"), Services: []policy.Service{{Protocol: policy.TCP, First: 104, Last: 104}}}
	p.Targets = append(p.Targets, pacs)
	ito := &policy.Operator{Name: "ito", User: "ito", Rights: policy.Rights()}
	tanaka := &policy.Operator{Name: "tanaka", User: "tanaka", Rights: policy.Rights()}
	p.Operators = []*policy.Operator{ito, tanaka}
	v := p.Vendor("medisys")
	v.OnRequest = &policy.OnRequest{Targets: p.Targets, Engineers: v.Engineers, Approvals: 1, Approvers: p.Operators, MaxDuration: 4 * time.Hour, MaxTotal: 8 * time.Hour,
		Ahead: 14 * 24 * time.Hour, Undecided: 2 * time.Hour, Grace: 15 * time.Minute, OneTimeSource: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
		Emergency: &policy.Emergency{MaxDuration: time.Hour, RatifyWithin: 72 * time.Hour, Ratifiers: []*policy.Operator{ito}}}
	return p
}

func askingHospital(t *testing.T) *asking {
	p := onRequest()
	a := &asking{t, policy.NewState(), time.Date(2030, 1, 1, 12, 0, 0, 0, p.Zone)}
	a.gives("", policy.PolicyLoaded{Digest: p.Digest, Policy: p})
	return a
}

func (a *asking) gives(actor string, events ...policy.Event) {
	a.t.Helper()
	for _, e := range events {
		if err := a.state.Apply(a.now, actor, e); err != nil {
			a.t.Fatal(err)
		}
	}
}

// ask records a request of an hour for mori, and approves it unless it waits.
func (a *asking) ask(id string, from time.Time, approved bool, change ...func(*policy.Ask)) policy.Terms {
	a.t.Helper()
	ask := policy.Ask{Vendor: "medisys", Engineers: []string{"mori"}, Targets: []string{"pacs"}, From: from, For: time.Hour, Purpose: "the images are late", Ticket: "T-7"}
	for _, c := range change {
		c(&ask)
	}
	terms, err := a.state.Policy().Resolve(ask, id, a.now)
	if err != nil {
		a.t.Fatal(err)
	}
	a.gives("tanaka", a.state.Needing(policy.Requested{Terms: terms, By: "tanaka"}))
	if approved {
		a.gives("ito", policy.Verdict{Verb: policy.Approve, ID: id, By: "ito", Digest: terms.Digest()})
	}
	return terms
}

func (a *asking) snapshot() *view.Snapshot {
	return &view.Snapshot{Plan: a.state.Plan(a.now), Base: a.state.Copy(), Synchronized: true}
}

// answers gives the answer to a question.
func answers[T any](a *asking, path string, query ...string) (answer T) {
	a.t.Helper()
	q := url.Values{}
	for i := 0; i < len(query); i += 2 {
		q.Set(query[i], query[i+1])
	}
	text, err := Offline(a.snapshot(), path, q, a.now)
	if err == nil {
		err = misfit("GET", path, nil, 200, "application/json", text)
	}
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	return answer
}

// TestCalendarHasRequests that are approved and not over.
func TestCalendarHasRequests(t *testing.T) {
	a := askingHospital(t)
	later := a.now.Add(3 * time.Hour)
	a.ask("~22222a", later, true, func(x *policy.Ask) { x.Source = "198.51.100.7" })
	a.ask("~22222b", later, false)
	a.ask("~22222c", a.now, true, func(x *policy.Ask) { x.Engineers = []string{"mori", "sato"} })
	find := func(query ...string) (all []Opening) {
		return slices.DeleteFunc(answers[[]Opening](a, "/v1/calendar", query...), func(o Opening) bool { return o.Request == "" })
	}
	all := find()
	if len(all) != 2 || all[0].Request != "~22222c" || all[1].Request != "~22222a" {
		t.Fatalf("the calendar has %+v", all)
	}
	if o := all[1]; o.Window != "~22222a" || o.Vendor != "medisys" || !o.From.Equal(later) || !o.Until.Equal(later.Add(time.Hour)) || o.ApprovedBy != "ito" || o.Ticket != "T-7" ||
		!slices.Equal(o.Engineers, []string{"mori"}) || !slices.Equal(o.Targets, []string{"pacs"}) {
		t.Errorf("the calendar has %+v", o)
	}
	if got := find("engineer", "medisys/mori"); len(got) != 2 || len(got[0].Engineers) != 1 {
		t.Errorf("of mori: %+v", got)
	}
	if got := find("engineer", "medisys/sato", "vendor", "medisys"); len(got) != 1 {
		t.Errorf("of sato: %+v", got)
	}
	start := a.now.Format(time.RFC3339)
	a.now = a.now.Add(90 * time.Minute)
	if got := find("from", start); len(got) != 1 || got[0].Request != "~22222a" {
		t.Errorf("once the first is over: %+v", got)
	}
	if text, err := json.Marshal(Opening{Window: "day"}); err != nil || strings.Contains(string(text), `"request"`) {
		t.Errorf("an opening of a window: %s, %v", text, err)
	}
}

// TestExplainKnowsRequests: whoever is refused hears of the request that would lead in, and of an
// admission which request it is by.
func TestExplainKnowsRequests(t *testing.T) {
	for name, x := range map[string]struct {
		make   func(a *asking)
		from   string // the source; empty: none is said
		reason string
		want   []string // texts, in English
		ja     string   // a part of the first one in Japanese
	}{
		"none": {func(*asking) {}, "", "outside_window", nil, ""},
		"undecided": {func(a *asking) { a.ask("~22222a", a.now.Add(time.Hour), false) }, "", "outside_window",
			[]string{"request ~22222a, from 2030-01-01 13:00:00 Asia/Tokyo until 2030-01-01 14:00:00 Asia/Tokyo, waits for a decision: `kidoban approve 22222a`, or `kidoban deny 22222a --reason R`; who may approve: ito"}, "承認待ちです"},
		"scheduled": {func(a *asking) { a.ask("~22222a", a.now.Add(time.Hour), true) }, "", "outside_window",
			[]string{"request ~22222a is approved: it opens at 2030-01-01 13:00:00 Asia/Tokyo, until 2030-01-01 14:00:00 Asia/Tokyo"}, "承認済み"},
		"open": {func(a *asking) { a.ask("~22222a", a.now, true) }, "203.0.113.10", "admitted", []string{"by request ~22222a, which ito approved: the images are late"}, "申請 ~22222a による許可"},
		"from a source of its own": {func(a *asking) { a.ask("~22222a", a.now, true, func(x *policy.Ask) { x.Source = "198.51.100.7" }) }, "198.51.100.7", "admitted",
			[]string{"by request ~22222a, which ito approved: the images are late", "request ~22222a is open for the address 198.51.100.7 only, in place of the engineer's own"}, "申請 ~22222a"},
		"from the engineer's own instead": {func(a *asking) { a.ask("~22222a", a.now, true, func(x *policy.Ask) { x.Source = "198.51.100.7" }) }, "203.0.113.10", "outside_window",
			[]string{"request ~22222a is open for the address 198.51.100.7 only, in place of the engineer's own"}, "198.51.100.7 からだけ"},
		"frozen": {func(a *asking) { a.ask("~22222a", a.now, true); a.now = a.now.Add(70 * time.Minute) }, "", "outside_window",
			[]string{"request ~22222a ended at 2030-01-01 13:00:00 Asia/Tokyo; until 2030-01-01 13:15:00 Asia/Tokyo it can be extended without a lost connection: `kidoban extend 22222a --for D`"}, "延長すれば"},
		"over":                   {func(a *asking) { a.ask("~22222a", a.now, true); a.now = a.now.Add(90 * time.Minute) }, "", "outside_window", nil, ""},
		"expired":                {func(a *asking) { a.ask("~22222a", a.now, false); a.now = a.now.Add(3 * time.Hour) }, "", "outside_window", []string{"request ~22222a expired, because too few approved it in time; ask again with `kidoban request medisys`"}, "期限切れ"},
		"expired the day before": {func(a *asking) { a.ask("~22222a", a.now, false); a.now = a.now.Add(30 * time.Hour) }, "", "outside_window", nil, ""},
		"denied": {func(a *asking) {
			a.ask("~22222a", a.now, false)
			a.gives("ito", policy.Verdict{Verb: policy.Deny, ID: "~22222a", By: "ito", Reason: "not tonight"})
		}, "", "outside_window", []string{"request ~22222a: denied, by ito at 2030-01-01 12:00:00 Asia/Tokyo: not tonight"}, "却下"},
		"revoked": {func(a *asking) {
			a.ask("~22222a", a.now, true)
			a.gives("ito", policy.Shut{Scope: "~22222a", Reason: "wrong server"})
		}, "", "outside_window", []string{"request ~22222a: revoked, by ito at 2030-01-01 12:00:00 Asia/Tokyo: wrong server"}, "取消し"},
		"void": {func(a *asking) {
			a.ask("~22222a", a.now, true)
			p := *a.state.Policy()
			v := *p.Vendors[0]
			on := *v.OnRequest
			on.Targets, v.OnRequest = on.Targets[:1], &on
			p.Vendors, p.Digest = []*policy.Vendor{&v}, "d2"
			v.Engineers = nil
			for _, e := range p.Vendors[0].OnRequest.Engineers {
				of := *e
				of.Vendor = &v
				v.Engineers = append(v.Engineers, &of)
			}
			on.Engineers, v.Windows = v.Engineers, nil
			a.gives("", policy.PolicyLoaded{Digest: "d2", Policy: &p})
		}, "", "outside_window", []string{"request ~22222a opens nothing: a target is not there any more, or has another address or other services; ask again with `kidoban request medisys`"}, "接続先"},
		"of another engineer": {func(a *asking) {
			a.ask("~22222a", a.now, true, func(x *policy.Ask) { x.Engineers = []string{"sato"} })
		}, "", "outside_window", nil, ""},
		"shut": {func(a *asking) {
			a.ask("~22222a", a.now, false)
			a.gives("ito", policy.Shut{Scope: "medisys", Reason: "a test"})
		}, "", "vendor_shut", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := askingHospital(t)
			x.make(a)
			got := answers[Explanation](a, "/v1/explain", "engineer", "medisys/mori", "from", x.from)
			var told []view.Message
			for _, m := range got.Details {
				if strings.HasPrefix(string(m.Code), "asked_") {
					told = append(told, m)
				}
			}
			if texts := view.Texts(told); got.Reason != x.reason || !slices.Equal(texts, x.want) && len(texts)+len(x.want) > 0 {
				t.Errorf("%s, %q, want %s, %q", got.Reason, texts, x.reason, x.want)
			}
			if len(told) > 0 && !strings.Contains(told[0].In(view.Japanese), x.ja) {
				t.Errorf("in Japanese: %s", told[0].In(view.Japanese))
			}
		})
	}
}

// TestExplainNamesTheNextRequest as the engineer's next opening.
func TestExplainNamesTheNextRequest(t *testing.T) {
	a := askingHospital(t)
	from := a.now.Add(30 * time.Minute)
	a.ask("~22222a", from, true)
	if x := answers[Explanation](a, "/v1/explain", "engineer", "medisys/mori"); x.NextOpening == nil || !x.NextOpening.Equal(from) {
		t.Errorf("the next opening is %v", x.NextOpening)
	}
	if x := answers[Explanation](a, "/v1/explain", "engineer", "medisys/mori", "at", from.Format(time.RFC3339), "to", "10.1.0.9:tcp/104"); x.Decision != "admit" || !strings.HasPrefix(x.Grant, "medisys/mori/~22222a@") {
		t.Errorf("then: %+v", x)
	}
	if x := answers[Explanation](a, "/v1/explain", "engineer", "medisys/mori", "at", from.Format(time.RFC3339), "to", "10.1.0.5:tcp/22"); x.Detail != "open to this engineer then: pacs" {
		t.Errorf("another target then: %+v", x)
	}
}

// TestClientConfigOfRequests routes what may be opened on request, also where no window opens anything.
func TestClientConfigOfRequests(t *testing.T) {
	p := askingHospital(t).state.Policy()
	for _, windows := range []bool{true, false} {
		if !windows {
			p.Vendors[0].Windows = nil
		}
		for engineer, want := range map[string]string{"medisys/sato": "AllowedIPs = 10.1.0.5/32, 10.1.0.9/32\n", "medisys/mori": "AllowedIPs = 10.1.0.5/32, 10.1.0.9/32\n"} {
			if text, err := clientConfig(p, url.Values{"engineer": {engineer}}, policy.Key{9}); err != nil || !strings.Contains(text, want) {
				t.Errorf("%s, windows %t: %v\n%s", engineer, windows, err, text)
			}
		}
	}
	p.Vendors[0].OnRequest.Engineers = p.Vendors[0].Engineers[:1]
	if text, err := clientConfig(p, url.Values{"engineer": {"medisys/sato"}}, policy.Key{9}); err == nil {
		t.Errorf("sato, who can enter by nothing: %s", text)
	}
}

// TestRevokedRequestsAreNotShut: a revocation is a close, and no list of closes has it. A policy can
// still be compared.
func TestRevokedRequestsAreNotShut(t *testing.T) {
	a := askingHospital(t)
	a.ask("~22222a", a.now, true)
	a.gives("ito", policy.Shut{Scope: "~22222a", Reason: "wrong server"}, policy.Shut{Scope: "medisys/sato", Reason: "a test"})
	shut := answers[view.Status](a, "/v1/status").Shut
	if len(shut.Records) != 1 || len(shut.Vendors) != 0 || !slices.Equal(shut.Engineers, []string{"medisys/sato"}) {
		t.Errorf("status has %+v", shut)
	}
	text, err := Offline(a.snapshot(), "/v1/policy", nil, a.now)
	if err != nil {
		t.Fatal(err)
	}
	p := a.state.Policy()
	if _, err := Compare(text, a.now, func(string, string) (*policy.Policy, *policy.Policy, bool, error) { return p, p, true, nil }); err != nil {
		t.Errorf("a policy cannot be compared: %v", err)
	}
}

// TestExplainTellsOfThePrime: a subcontractor is closed with its prime, and explain says whom to reopen.
func TestExplainTellsOfThePrime(t *testing.T) {
	a := askingHospital(t)
	p := *a.state.Policy()
	v := &policy.Vendor{Name: "kizuna", Under: p.Vendor("medisys"), Consent: &policy.Consent{}}
	v.Engineers = []*policy.Engineer{{Vendor: v, Name: "ueda", Key: policy.Key{77}}}
	p.Vendors, p.Digest = append([]*policy.Vendor{v}, p.Vendors...), "d2"
	a.gives("", policy.PolicyLoaded{Digest: "d2", Policy: &p})
	a.gives("ito", policy.Shut{Scope: "medisys", Reason: "a test"})
	got := answers[Explanation](a, "/v1/explain", "engineer", "kizuna/ueda")
	want := "closed with medisys, under which kizuna works, by ito at 2030-01-01 12:00:00 Asia/Tokyo: a test; `kidoban reopen medisys --reason R` takes it back"
	if got.Reason != "vendor_shut" || got.Detail != want {
		t.Errorf("%s: %s", got.Reason, got.Detail)
	}
}
