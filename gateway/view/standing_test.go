package view

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/policy"
)

// evening is a snapshot at eight, with one vendor and three operators: ito may ratify, suzuki may
// approve, tanaka records.
func evening(t *testing.T) (*policy.State, time.Time) {
	t.Helper()
	operator := func(name string, rights ...policy.Right) *policy.Operator {
		return &policy.Operator{Name: name, User: name, Rights: rights}
	}
	ito, suzuki, tanaka := operator("ito", policy.MayRatify), operator("suzuki", policy.MayApprove), operator("tanaka", policy.MayRecord, policy.MayApprove)
	v := &policy.Vendor{Name: "medisys"}
	e := &policy.Engineer{Vendor: v, Name: "sato", Key: policy.Key{1}}
	v.Engineers = []*policy.Engineer{e}
	target := &policy.Target{Name: "ehr"}
	v.OnRequest = &policy.OnRequest{Targets: []*policy.Target{target}, Engineers: v.Engineers, Approvals: 1, Approvers: []*policy.Operator{suzuki, tanaka}, SelfApproval: true,
		MaxDuration: 4 * time.Hour, MaxTotal: 8 * time.Hour, Ahead: 48 * time.Hour, Undecided: 24 * time.Hour, Grace: time.Hour,
		Emergency: &policy.Emergency{MaxDuration: time.Hour, RatifyWithin: 3 * time.Hour, Ratifiers: []*policy.Operator{ito}}}
	target.Prefix, e.Sources = prefix("10.1.0.5/32"), v.Sources
	e.Sources = append(e.Sources, prefix("203.0.113.0/24"))
	target.Services = []policy.Service{{Protocol: policy.TCP, First: 22, Last: 22}}
	p := &policy.Policy{Zone: time.UTC, Targets: []*policy.Target{target}, Vendors: []*policy.Vendor{v}, Operators: []*policy.Operator{ito, suzuki, tanaka}, Digest: "d"}
	s, now := policy.NewState(), time.Date(2030, 1, 1, 20, 0, 0, 0, time.UTC)
	give(t, s, now, policy.PolicyLoaded{Digest: "d", Policy: p})
	return s, now
}

func give(t *testing.T, s *policy.State, at time.Time, events ...policy.Event) {
	t.Helper()
	for _, e := range events {
		if err := s.Apply(at, "tanaka", e); err != nil {
			t.Fatal(err)
		}
	}
}

// asked records a request of tanaka for an hour.
func asked(t *testing.T, s *policy.State, now time.Time, id string, change func(*policy.Ask)) policy.Terms {
	t.Helper()
	a := policy.Ask{Vendor: "medisys", Engineers: []string{"sato"}, Targets: []string{"ehr"}, From: now, For: time.Hour, Purpose: "the server is slow"}
	if change != nil {
		change(&a)
	}
	terms, err := s.Policy().Resolve(a, id, now)
	if err != nil {
		t.Fatal(err)
	}
	give(t, s, now, s.Needing(policy.Requested{Terms: terms, By: "tanaka"}))
	return terms
}

func approves(terms policy.Terms, by string) policy.Verdict {
	return policy.Verdict{Verb: policy.Approve, ID: terms.ID, By: by, Digest: terms.Digest()}
}

// TestStatusKnowsRequests counts them, and says who has to do what about which.
func TestStatusKnowsRequests(t *testing.T) {
	emergency := func(a *policy.Ask) { a.Emergency, a.From = true, time.Time{} }
	for name, x := range map[string]struct {
		make  func(t *testing.T, s *policy.State, now time.Time)
		later time.Duration
		want  RequestCounts
		hints []string
		ja    string
	}{
		"none": {make: func(*testing.T, *policy.State, time.Time) {}},
		"undecided, for tomorrow": {make: func(t *testing.T, s *policy.State, now time.Time) {
			asked(t, s, now, "~a", func(a *policy.Ask) { a.From = now.Add(25 * time.Hour) })
		}, want: RequestCounts{Undecided: 1}},
		"undecided, soon": {make: func(t *testing.T, s *policy.State, now time.Time) {
			asked(t, s, now, "~a", func(a *policy.Ask) { a.From = now.Add(50 * time.Minute) })
		}, want: RequestCounts{Undecided: 1}, hints: []string{"request ~a of medisys waits for approvals (1 more) and begins at 2030-01-01 20:50:00 UTC: `kidoban approve a`, or `kidoban deny a --reason R`; who may approve: suzuki, tanaka"}, ja: "承認待ち"},
		"undecided, its time has begun": {make: func(t *testing.T, s *policy.State, now time.Time) {
			s.Policy().Vendor("medisys").OnRequest.SelfApproval = false
			asked(t, s, now, "~a", nil)
		}, want: RequestCounts{Undecided: 1}, hints: []string{"request ~a of medisys waits for approvals (1 more), and was to begin at 2030-01-01 20:00:00 UTC: `kidoban approve a`, or `kidoban deny a --reason R`; who may approve: suzuki"}, ja: "過ぎています"},
		"undecided, from its approval on": {make: func(t *testing.T, s *policy.State, now time.Time) {
			asked(t, s, now, "~a", func(a *policy.Ask) { a.From, a.Until, a.For = time.Time{}, time.Time{}, time.Hour })
		}, want: RequestCounts{Undecided: 1}, hints: []string{"request ~a of medisys waits for approvals (1 more) since 2030-01-01 20:00:00 UTC, and opens when it has them: `kidoban approve a`, or `kidoban deny a --reason R`; who may approve: suzuki, tanaka"}, ja: "承認されるとすぐに開きます"},
		"undecided, and too few may approve": {make: func(t *testing.T, s *policy.State, now time.Time) {
			on := s.Policy().Vendor("medisys").OnRequest
			on.SelfApproval, on.Approvals = false, 2
			asked(t, s, now, "~a", nil)
		}, want: RequestCounts{Undecided: 1}, hints: []string{"request ~a of medisys needs 2 more approvals, and too few operators may still approve it: whoever recorded it, or has approved it, does not count again; `kidoban withdraw a --reason R`, and let somebody else record it"}, ja: "承認できる人が足りません"},
		"scheduled and open": {make: func(t *testing.T, s *policy.State, now time.Time) {
			give(t, s, now, approves(asked(t, s, now, "~a", nil), "suzuki"))
			give(t, s, now, approves(asked(t, s, now, "~b", func(a *policy.Ask) { a.From = now.Add(time.Hour) }), "suzuki"))
		}, want: RequestCounts{Open: 1, Scheduled: 1}},
		"self-approved": {make: func(t *testing.T, s *policy.State, now time.Time) {
			give(t, s, now, approves(asked(t, s, now, "~a", nil), "tanaka"))
		}, later: 5 * time.Hour, want: RequestCounts{SelfApproved: 1},
			hints: []string{"tanaka recorded and approved request ~a of medisys, and nobody else has signed it: `kidoban ratify a --finding F`; who may: ito"}, ja: "ほかの人の確認がまだありません"},
		"self-approved, and signed": {make: func(t *testing.T, s *policy.State, now time.Time) {
			terms := asked(t, s, now, "~a", nil)
			give(t, s, now, approves(terms, "tanaka"), policy.Verdict{Verb: policy.Ratify, ID: "~a", By: "ito", Digest: terms.Digest(), Reason: "in order"})
		}, want: RequestCounts{Open: 1}},
		"emergency": {make: func(t *testing.T, s *policy.State, now time.Time) { asked(t, s, now, "~a", emergency) },
			want:  RequestCounts{Open: 1, Unratified: 1},
			hints: []string{"tanaka declared the emergency ~a of medisys, and nobody has ratified it: `kidoban ratify a --finding F` by 2030-01-01 23:00:00 UTC; who may: ito"}, ja: "事後承認を待っています"},
		"emergency, frozen": {make: func(t *testing.T, s *policy.State, now time.Time) {
			terms := asked(t, s, now, "~a", emergency)
			give(t, s, now, policy.Verdict{Verb: policy.Ratify, ID: "~a", By: "ito", Digest: terms.Digest(), Reason: "in order"})
		}, later: 90 * time.Minute, want: RequestCounts{Frozen: 1}},
		"emergency, overdue": {make: func(t *testing.T, s *policy.State, now time.Time) { asked(t, s, now, "~a", emergency) },
			later: 4 * time.Hour, want: RequestCounts{Unratified: 1, Overdue: 1},
			hints: []string{"tanaka declared the emergency ~a of medisys, which was to be ratified by 2030-01-01 23:00:00 UTC: until `kidoban ratify a --finding F` no other emergency of medisys can be declared; who may: ito"}, ja: "期限"},
		"an extension waits": {make: func(t *testing.T, s *policy.State, now time.Time) {
			give(t, s, now, approves(asked(t, s, now, "~a", nil), "suzuki"), policy.Verdict{Verb: policy.AskExtension, ID: "~a", By: "tanaka", Until: now.Add(2 * time.Hour), Reason: "it takes longer"})
		}, want: RequestCounts{Open: 1}, hints: []string{"request ~a of medisys ends at 2030-01-01 21:00:00 UTC, and an extension until 2030-01-01 22:00:00 UTC waits for approvals: `kidoban extend a`; who may approve: suzuki, tanaka"}, ja: "延長が承認待ち"},
		"void": {make: func(t *testing.T, s *policy.State, now time.Time) {
			give(t, s, now, approves(asked(t, s, now, "~a", nil), "suzuki"))
			lesser(t, s, now, func(on *policy.OnRequest) { on.Targets = nil })
		}, hints: []string{"request ~a of medisys was approved, and opens nothing: a target is not there any more, or has another address or other services; `kidoban requests a` shows it, and another needs `kidoban request medisys`"}, ja: "何も開きません"},
		"stale": {make: func(t *testing.T, s *policy.State, now time.Time) {
			give(t, s, now, approves(asked(t, s, now, "~a", nil), "suzuki"))
			lesser(t, s, now, func(on *policy.OnRequest) { on.MaxDuration = 30 * time.Minute })
		}, want: RequestCounts{Open: 1}, hints: []string{"request ~a of medisys opens less than was approved: a part of the time is outside `valid`, the contract or max_duration; `kidoban requests a` shows what"}, ja: "一部しか開きません"},
	} {
		t.Run(name, func(t *testing.T) {
			s, now := evening(t)
			x.make(t, s, now)
			now = now.Add(x.later)
			snap := &Snapshot{Plan: s.Plan(now), Base: s, Synchronized: true}
			st := snap.StatusAt(now)
			if st.Requests != x.want {
				t.Errorf("%+v, want %+v", st.Requests, x.want)
			}
			if got := Texts(st.HintMessages); !slices.Equal(got, append([]string{}, x.hints...)) {
				t.Errorf("hints %q, want %q", got, x.hints)
			}
			for _, h := range st.HintMessages {
				if !strings.Contains(h.In(Japanese), x.ja) {
					t.Errorf("in Japanese: %s", h.In(Japanese))
				}
			}
		})
	}
}

// lesser puts a policy in force that allows less on request.
func lesser(t *testing.T, s *policy.State, now time.Time, change func(*policy.OnRequest)) {
	t.Helper()
	p := *s.Policy()
	v := *p.Vendors[0]
	on := *v.OnRequest
	change(&on)
	v.OnRequest, p.Vendors = &on, []*policy.Vendor{&v}
	give(t, s, now, policy.PolicyLoaded{Digest: "d2", Policy: &p})
}

// TestHintsAboutRequestsAreFew, however many requests there are.
func TestHintsAboutRequestsAreFew(t *testing.T) {
	s, now := evening(t)
	for i := range 12 {
		asked(t, s, now, "~"+string(rune('a'+i)), nil)
	}
	hints := (&Snapshot{Plan: s.Plan(now), Base: s, Synchronized: true}).Hints(now)
	if len(hints) != requestsNamed+1 || !slices.Contains(Texts(hints), "there are more such requests: 7; `kidoban requests` lists all") {
		t.Errorf("hints: %q", Texts(hints))
	}
}

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

// TestAPolicyThatForgotTheVendor: what nobody has signed is told all the same, with whom the policy has.
func TestAPolicyThatForgotTheVendor(t *testing.T) {
	change := func(f func(*policy.Policy)) func(*policy.State) *policy.State {
		return func(s *policy.State) *policy.State {
			p, v := *s.Policy(), *s.Policy().Vendors[0]
			on := *v.OnRequest
			v.OnRequest = &on
			p.Vendors, p.Digest = []*policy.Vendor{&v}, "other"
			f(&p)
			give(t, s, time.Date(2030, 1, 1, 20, 30, 0, 0, time.UTC), policy.PolicyLoaded{Digest: p.Digest, Policy: &p})
			return s
		}
	}
	for name, x := range map[string]struct {
		then  func(*policy.State) *policy.State
		names string
	}{
		"the same policy": {change(func(*policy.Policy) {}), "ito"},
		"no emergency":    {change(func(p *policy.Policy) { p.Vendors[0].OnRequest.Emergency = nil }), "ito"},
		"no on_request":   {change(func(p *policy.Policy) { p.Vendors[0].OnRequest = nil }), "ito"},
		"no vendor":       {change(func(p *policy.Policy) { p.Vendors = nil }), "ito"},
		"no policy": {func(s *policy.State) *policy.State {
			again := policy.NewState()
			again.Take(s.Requests())
			return again
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, now := evening(t)
			asked(t, s, now, "~1", func(a *policy.Ask) { a.Emergency, a.From = true, time.Time{} })
			terms := asked(t, s, now, "~2", nil)
			give(t, s, now, approves(terms, "tanaka"))
			s.NoteGrant("~2", time.Time{})
			s = x.then(s)
			snap := &Snapshot{Base: s, Plan: s.Plan(now.Add(time.Hour))}
			told := map[Code]string{}
			for _, m := range snap.requestHints(now.Add(time.Hour)) {
				told[m.Code] = fmt.Sprint(m.Args["names"])
			}
			for _, code := range []Code{"hint_emergency", "hint_self_approved"} {
				if names, ok := told[code]; !strings.Contains(names, x.names) || !ok && (x.names != "" || code == "hint_emergency") {
					t.Errorf("%s: %q, want %q", code, names, x.names)
				}
			}
			snap.RequestAt(s.Request("~1"), now)
		})
	}
}

// TestEmergencyHasADeadline: what is ratified still tells its deadline, and what tells none is overdue.
func TestEmergencyHasADeadline(t *testing.T) {
	s, now := evening(t)
	terms := asked(t, s, now, "~a", func(a *policy.Ask) { a.Emergency, a.From = true, time.Time{} })
	give(t, s, now, policy.Verdict{Verb: policy.Ratify, ID: "~a", By: "ito", Digest: terms.Digest(), Reason: "in order"})
	bare := terms
	bare.ID = "~b"
	give(t, s, now, policy.Requested{Terms: bare, By: "tanaka"})
	snap := &Snapshot{Plan: s.Plan(now), Base: s}
	for id, want := range map[string]Emergency{"~a": {RatifyBy: now.Add(3 * time.Hour), Ratified: true}, "~b": {RatifyBy: now, Overdue: true}} {
		if got := snap.RequestAt(s.Request(id), now.Add(time.Minute)).Emergency; got == nil || *got != want {
			t.Errorf("%s: got %+v, want %+v", id, got, want)
		}
	}
}
