package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"
)

// requestSite is a state in which acme may have ehr and pacs opened on request. tanaka records.
type requestSite struct {
	t      *testing.T
	state  *State
	now    time.Time
	digest int
	always []func(*Policy) // changes that a test makes to each policy
}

var (
	fromVendor  = netip.MustParseAddr("203.0.113.1")
	fromOneTime = netip.MustParseAddr("198.51.100.7")
	toEHR       = netip.MustParseAddrPort("10.1.0.5:22")
	toPACS      = netip.MustParseAddrPort("10.1.2.7:104")
)

func newRequestSite(t *testing.T, change ...func(*Policy)) *requestSite {
	s := &requestSite{t: t, state: NewState(), now: time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)}
	s.loads(change...)
	return s
}

// acmePolicy is made anew each time, so that tests may change it.
func acmePolicy() *Policy {
	p := &Policy{Site: "site", Zone: time.UTC, Targets: []*Target{
		{Name: "ehr", Prefix: netip.MustParsePrefix("10.1.0.5/32"), Services: []Service{{TCP, 22, 22}}},
		{Name: "pacs", Prefix: netip.MustParsePrefix("10.1.2.7/32"), Services: []Service{{TCP, 104, 104}}}}}
	for _, name := range []string{"ito", "suzuki", "tanaka"} {
		p.Operators = append(p.Operators, &Operator{Name: name, User: name, Rights: Rights()})
	}
	v := &Vendor{Name: "acme", Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/28")}}
	for i, name := range []string{"brown", "green"} {
		v.Engineers = append(v.Engineers, &Engineer{Vendor: v, Name: name, Key: Key{byte(i + 1)}, Sources: v.Sources, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 99, 0, byte(i + 2)})}})
	}
	v.OnRequest = &OnRequest{Targets: p.Targets, Engineers: v.Engineers, Approvals: 1, Approvers: p.Operators, MaxDuration: 4 * time.Hour, MaxTotal: 8 * time.Hour,
		Ahead: 14 * 24 * time.Hour, Undecided: 24 * time.Hour, OneTimeSource: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
		Emergency: &Emergency{MaxDuration: time.Hour, RatifyWithin: 72 * time.Hour, Ratifiers: p.Operators[:1]}}
	p.Vendors = []*Vendor{v}
	return p
}

func onRequestOf(p *Policy) *OnRequest { return p.Vendors[0].OnRequest }

// loads puts a policy in force.
func (s *requestSite) loads(change ...func(*Policy)) {
	p := acmePolicy()
	for _, c := range change {
		c(p)
	}
	s.digest++
	if err := s.state.Apply(s.now, "test", PolicyLoaded{Digest: fmt.Sprint(s.digest), Policy: p}); err != nil {
		s.t.Fatal(err)
	}
}

// asks records a request of tanaka for brown to ehr, for an hour from now on.
func (s *requestSite) asks(change ...func(*Ask)) *Request {
	s.t.Helper()
	a := Ask{Vendor: "acme", Engineers: []string{"brown"}, Targets: []string{"ehr"}, From: s.now, For: time.Hour, Purpose: "work"}
	for _, c := range change {
		c(&a)
	}
	id := fmt.Sprintf("~%d", len(s.state.Requests())+1)
	terms, err := s.state.Policy().Resolve(a, id, s.now)
	if err != nil {
		s.t.Fatal(err)
	}
	if code := s.gives(Actor{ID: "tanaka"}, Requested{Terms: terms}); code != "" {
		s.t.Fatal(code)
	}
	return s.state.Request(id)
}

// gives does what the gateway does with an event. It returns the code of a refusal.
func (s *requestSite) gives(a Actor, e RequestEvent) string {
	s.t.Helper()
	by := ""
	if o := s.state.Policy().OperatorOf(a); o != nil {
		by = o.Name
	}
	e = Signed(s.state.Needing(e), by, a, s.now)
	err := s.state.May(s.now, by, e)
	if err == nil {
		err = s.state.Apply(s.now, a.Text, e)
	}
	var refused *RefusedError
	if errors.As(err, &refused) {
		return refused.Code
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return ""
}

func (s *requestSite) approves(by string, r *Request) string {
	s.t.Helper()
	return s.gives(Actor{ID: by}, Verdict{Verb: Approve, ID: r.ID, Digest: r.Terms.Digest()})
}

// reaches reports whether brown reaches a destination now.
func (s *requestSite) reaches(from netip.Addr, to netip.AddrPort) bool {
	return s.state.Plan(s.now).Decide(Query{Key: Key{1}, Proven: true, Fault: Admitted, Source: from, To: to, Proto: TCP}, s.now).Reason == Admitted
}

func (s *requestSite) stage(r *Request) Stage {
	return s.state.Stands(s.state.Request(r.ID), s.now).Stage
}

// TestNothingOpensWithout tells stories at whose end brown must not reach what is asked about. Each
// runs once more without the one thing that is wrong: then brown reaches it, so nothing else keeps
// brown out.
func TestNothingOpensWithout(t *testing.T) {
	two := func(p *Policy) { onRequestOf(p).Approvals = 2 }
	type story struct {
		name string
		tell func(s *requestSite, wrong bool) bool
	}
	ehr := func(s *requestSite) bool { return s.reaches(fromVendor, toEHR) }
	stories := []story{
		{"two distinct names", func(s *requestSite, wrong bool) bool {
			s.loads(two)
			r := s.asks()
			s.approves("suzuki", r)
			s.approves(pick(wrong, "suzuki", "ito"), r)
			return ehr(s)
		}},
		{"two distinct names, though nobody is asked whether they may", func(s *requestSite, wrong bool) bool {
			s.loads(two)
			r := s.asks()
			for _, by := range []string{"suzuki", pick(wrong, "tanaka", "ito")} {
				_ = s.state.Apply(s.now, by, Verdict{Verb: Approve, ID: r.ID, By: by, Digest: r.Terms.Digest()})
			}
			return ehr(s)
		}},
		{"somebody else than the recorder", func(s *requestSite, wrong bool) bool {
			r := s.asks()
			s.approves(pick(wrong, "tanaka", "ito"), r)
			return ehr(s)
		}},
		{"two persons, not one by two ways", func(s *requestSite, wrong bool) bool {
			s.loads(two)
			r := s.asks()
			for _, a := range []Actor{{ID: "suzuki", Via: "socket", Text: "suzuki"}, {ID: pick(wrong, "suzuki", "ito"), Via: "office", Text: "root (login ito)"}} {
				s.gives(a, Verdict{Verb: Approve, ID: r.ID, Digest: r.Terms.Digest()})
			}
			return ehr(s)
		}},
		{"a login: root is no operator", func(s *requestSite, wrong bool) bool {
			r := s.asks()
			s.gives(Actor{ID: pick(wrong, "", "ito"), Via: "socket", Text: "root"}, Verdict{Verb: Approve, ID: r.ID, Digest: r.Terms.Digest()})
			return ehr(s)
		}},
		{"an operator with no login either", func(s *requestSite, wrong bool) bool {
			s.loads(func(p *Policy) { p.Operators[0].User = pick(wrong, "", "ito") })
			r := s.asks()
			s.gives(Actor{ID: pick(wrong, "", "ito"), Text: "root"}, Verdict{Verb: Approve, ID: r.ID, Digest: r.Terms.Digest()})
			return ehr(s)
		}},
		{"two persons, not one whose operator has another name now", func(s *requestSite, wrong bool) bool {
			s.loads(two)
			r := s.asks()
			s.approves("suzuki", r)
			s.loads(two, func(p *Policy) {
				if wrong {
					p.Operators[0].User, p.Operators[1].User = "suzuki", "ito"
				}
			})
			s.gives(Actor{ID: pick(wrong, "suzuki", "ito")}, Verdict{Verb: Approve, ID: r.ID, Digest: r.Terms.Digest()})
			return ehr(s)
		}},
		{"two persons, though nobody is asked, and one's operator has another name now", func(s *requestSite, wrong bool) bool {
			s.loads(two)
			r := s.asks()
			for _, by := range []string{"suzuki", "ito"} {
				_ = s.state.Apply(s.now, by, Verdict{Verb: Approve, ID: r.ID, By: by, Login: pick(wrong, "suzuki", by), Digest: r.Terms.Digest()})
			}
			return ehr(s)
		}},
		{"somebody else than the recorder, whose operator has another name now", func(s *requestSite, wrong bool) bool {
			r := s.asks()
			s.loads(func(p *Policy) {
				if wrong {
					p.Operators[0].User, p.Operators[2].User = "tanaka", "ito"
				}
			})
			s.gives(Actor{ID: pick(wrong, "tanaka", "ito")}, Verdict{Verb: Approve, ID: r.ID, Digest: r.Terms.Digest()})
			return ehr(s)
		}},
		{"an approver who is in the policy still", func(s *requestSite, wrong bool) bool {
			s.loads(two)
			r := s.asks()
			s.approves("suzuki", r)
			s.loads(two, func(p *Policy) {
				if wrong {
					onRequestOf(p).Approvers = p.Operators[:1]
				}
			})
			s.approves("ito", r)
			return ehr(s)
		}},
		{"an approver, while it is open", func(s *requestSite, wrong bool) bool {
			r := s.asks()
			s.approves("suzuki", r)
			s.loads(func(p *Policy) {
				if wrong {
					onRequestOf(p).Approvers = p.Operators[:1]
				}
			})
			return ehr(s)
		}},
		{"the right to approve", func(s *requestSite, wrong bool) bool {
			s.loads(func(p *Policy) {
				if wrong {
					onRequestOf(p).Approvers = p.Operators[:1]
				}
			})
			s.approves("suzuki", s.asks())
			return ehr(s)
		}},
		{"the digest", func(s *requestSite, wrong bool) bool {
			r := s.asks()
			d := r.Terms
			if wrong {
				d.Purpose = "other work"
			}
			s.gives(Actor{ID: "ito"}, Verdict{Verb: Approve, ID: r.ID, Digest: d.Digest()})
			return ehr(s)
		}},
		{"the digest of its own", func(s *requestSite, wrong bool) bool {
			r, other := s.asks(), s.asks()
			if !wrong {
				other = r
			}
			s.gives(Actor{ID: "ito"}, Verdict{Verb: Approve, ID: r.ID, Digest: other.Terms.Digest()})
			return ehr(s)
		}},
		{"the version that was approved", func(s *requestSite, wrong bool) bool {
			r := s.asks()
			s.approves("ito", r)
			until := r.Until.Add(time.Hour)
			s.gives(Actor{ID: "suzuki"}, Verdict{Verb: AskExtension, ID: r.ID, Until: until})
			if wrong {
				s.gives(Actor{ID: "suzuki"}, Verdict{Verb: AskExtension, ID: r.ID, Until: until.Add(time.Minute)})
			}
			s.gives(Actor{ID: "ito"}, Verdict{Verb: Extend, ID: r.ID, Until: until, Digest: r.version(End{Version: 2, Until: until}).Digest()})
			s.now = r.Until.Add(time.Minute)
			return ehr(s)
		}},
		{"on_request when it is approved", func(s *requestSite, wrong bool) bool {
			r := s.asks()
			if wrong {
				s.loads(func(p *Policy) { p.Vendors[0].OnRequest = nil })
			}
			refused := s.approves("ito", r)
			s.loads() // and back again
			return refused == "" && ehr(s)
		}},
		{"approvals in time: undecided", func(s *requestSite, wrong bool) bool {
			s.loads(func(p *Policy) { onRequestOf(p).Undecided = 30 * time.Minute })
			r := s.asks()
			s.now = s.now.Add(pick(wrong, 30*time.Minute, 30*time.Minute-1))
			s.approves("ito", r)
			return ehr(s)
		}},
		{"approvals in time: until", func(s *requestSite, wrong bool) bool {
			r := s.asks()
			s.now = r.Until.Add(pick(wrong, time.Duration(0), -1))
			if code := s.approves("ito", r); wrong && code != "request_stage" {
				s.t.Errorf("refused by %q", code)
			}
			return ehr(s)
		}},
		{"an address of the one-time source", func(s *requestSite, wrong bool) bool {
			r := s.asks(func(a *Ask) { a.Source = fromOneTime.String() })
			s.approves("ito", r)
			return s.reaches(map[bool]netip.Addr{true: fromVendor, false: fromOneTime}[wrong], toEHR)
		}},
		{"a target of the one-time source", func(s *requestSite, wrong bool) bool {
			s.approves("ito", s.asks())
			s.approves("ito", s.asks(func(a *Ask) { a.Source, a.Targets = fromOneTime.String(), []string{"pacs"} }))
			return s.reaches(fromOneTime, map[bool]netip.AddrPort{true: toEHR, false: toPACS}[wrong])
		}},
		{"the engineer of the one-time source", func(s *requestSite, wrong bool) bool {
			s.approves("ito", s.asks(func(a *Ask) { a.Source, a.Engineers = fromOneTime.String(), []string{pick(wrong, "green", "brown")} }))
			s.approves("ito", s.asks())
			return s.reaches(fromOneTime, toEHR)
		}},
		{"a one-time source that the policy still has", func(s *requestSite, wrong bool) bool {
			s.approves("ito", s.asks(func(a *Ask) { a.Source = fromOneTime.String() }))
			s.loads(func(p *Policy) {
				if wrong {
					onRequestOf(p).OneTimeSource = []netip.Prefix{netip.MustParsePrefix("198.51.100.8/29")}
				}
			})
			return s.reaches(fromOneTime, toEHR)
		}},
		{"two approvers beyond max_duration", func(s *requestSite, wrong bool) bool {
			s.loads(two)
			r := s.asks()
			s.approves("suzuki", r)
			s.approves("ito", r)
			until := r.From.Add(5 * time.Hour)
			for _, by := range []string{"suzuki", pick(wrong, "suzuki", "ito")} {
				s.gives(Actor{ID: by}, Verdict{Verb: Extend, ID: r.ID, Until: until, Digest: s.state.Request(r.ID).Next(until).Digest()})
			}
			s.now = until.Add(-time.Minute)
			return ehr(s)
		}},
		{"an end within max_total", func(s *requestSite, wrong bool) bool {
			r := s.asks()
			s.approves("suzuki", r)
			until := r.From.Add(8 * time.Hour)
			asked := until.Add(pick(wrong, time.Second, 0))
			s.gives(Actor{ID: "ito"}, Verdict{Verb: Extend, ID: r.ID, Until: asked, Digest: r.Next(asked).Digest()})
			s.now = until.Add(-1)
			return ehr(s)
		}},
	}
	// What was shown, or the policy, changes: between asking and approving, before it begins, and
	// while it is open.
	for _, change := range []struct {
		name  string
		wrong func(*Policy)
	}{
		{"the target's address", func(p *Policy) { p.Targets[0].Prefix = netip.MustParsePrefix("10.1.0.9/32") }},
		{"the target's ports", func(p *Policy) { p.Targets[0].Services = []Service{{TCP, 23, 23}} }},
		{"the engineer's key", func(p *Policy) { p.Vendors[0].Engineers[0].Key = Key{9} }},
		{"the engineer's name", func(p *Policy) { p.Vendors[0].Engineers[0].Name = "brown2" }},
		{"the vendor's sources", func(p *Policy) {
			p.Vendors[0].Engineers[0].Sources = []netip.Prefix{netip.MustParsePrefix("203.0.113.8/29")}
		}},
		{"the target in on_request", func(p *Policy) { onRequestOf(p).Targets = p.Targets[1:] }},
		{"the engineer in on_request", func(p *Policy) { onRequestOf(p).Engineers = p.Vendors[0].Engineers[1:] }},
		{"on_request", func(p *Policy) { p.Vendors[0].OnRequest = nil }},
		{"the contract", func(p *Policy) { p.Vendors[0].ContractUntil = Date{2026, 11, 30} }},
		{"valid", func(p *Policy) { onRequestOf(p).ValidUntil = Date{2026, 11, 30} }},
		{"valid, from", func(p *Policy) { onRequestOf(p).ValidFrom = Date{2026, 12, 2} }},
		{"max_duration", func(p *Policy) { onRequestOf(p).MaxDuration = 10 * time.Minute }},
		{"the vendor", func(p *Policy) { p.Vendors[0].Name = "acme2" }},
	} {
		for when, at := range []string{"before the approval", "before it begins", "while it is open"} {
			stories = append(stories, story{change.name + " " + at, func(s *requestSite, wrong bool) bool {
				r := s.asks(func(a *Ask) { a.From = s.now.Add(time.Hour) })
				for i := range 3 {
					if i == when && wrong {
						s.loads(change.wrong)
					}
					switch i {
					case 0:
						s.approves("ito", r)
						s.now = s.now.Add(30 * time.Minute)
					case 1:
						s.now = r.From.Add(30 * time.Minute)
					}
				}
				open := ehr(s)
				if wrong { // once it is as it was shown, it opens again, if it was approved
					s.loads()
					if again := ehr(s); again != (s.state.Stands(s.state.Request(r.ID), s.now).Stage == StageOpen) {
						s.t.Errorf("as it was shown again: open is %t", again)
					}
				}
				return open
			}})
		}
	}
	for _, x := range stories {
		t.Run(x.name, func(t *testing.T) {
			if x.tell(newRequestSite(t), true) {
				t.Error("it is open")
			}
			if !x.tell(newRequestSite(t), false) {
				t.Error("it is closed without the fault too: the story shows nothing")
			}
		})
	}
}

func pick[T any](wrong bool, bad, good T) T {
	if wrong {
		return bad
	}
	return good
}

// TestARenamedTarget: a request opens addresses that were shown, whatever their names are now.
func TestARenamedTarget(t *testing.T) {
	s := newRequestSite(t)
	s.approves("ito", s.asks())
	s.loads(func(p *Policy) { // each has the other's address
		p.Targets[0].Prefix, p.Targets[1].Prefix = p.Targets[1].Prefix, p.Targets[0].Prefix
		p.Targets[0].Services, p.Targets[1].Services = p.Targets[1].Services, p.Targets[0].Services
	})
	if s.reaches(fromVendor, toPACS) || !s.reaches(fromVendor, toEHR) {
		t.Error("the name counts, and not the address that was shown")
	}
	s.loads(func(p *Policy) { // the name means a whole network now
		p.Targets[0].Prefix, p.Targets[0].Services = netip.MustParsePrefix("10.1.0.0/16"), []Service{{TCP, 1, 65535}}
	})
	for _, to := range []string{"10.1.0.6:22", "10.1.0.5:23", "10.1.2.7:104"} {
		if s.reaches(fromVendor, netip.MustParseAddrPort(to)) {
			t.Errorf("%s is open, which was not shown", to)
		}
	}
	if !s.reaches(fromVendor, toEHR) {
		t.Error("what was shown is closed")
	}
}

// TestForCountsFromTheLastApproval: also if that comes after the time that was asked for.
func TestForCountsFromTheLastApproval(t *testing.T) {
	s := newRequestSite(t, func(p *Policy) { onRequestOf(p).Approvals = 2 })
	r := s.asks(func(a *Ask) { a.From = time.Time{} })
	s.now = s.now.Add(50 * time.Minute)
	s.approves("suzuki", r)
	s.now = s.now.Add(90 * time.Minute)
	if got := s.stage(r); got != Undecided {
		t.Fatalf("it is %s, want %s until undecided ends", got, Undecided)
	}
	if code := s.approves("ito", r); code != "" {
		t.Fatal(code)
	}
	last := s.now
	for _, x := range []struct {
		after time.Duration
		want  Stage
	}{{0, StageOpen}, {time.Hour - 1, StageOpen}, {time.Hour, StageClosed}} {
		if s.now = last.Add(x.after); s.stage(r) != x.want || s.reaches(fromVendor, toEHR) != (x.want == StageOpen) {
			t.Errorf("%s after the approval it is %s, want %s", x.after, s.stage(r), x.want)
		}
	}
}

// TestBackToBack: the end of one grant ends no other one, in whatever order they end.
func TestBackToBack(t *testing.T) {
	s := newRequestSite(t)
	from := s.now
	first := s.asks()
	second := s.asks(func(a *Ask) { a.From = from.Add(time.Hour) })
	around := s.asks(func(a *Ask) { a.From, a.For = from.Add(30*time.Minute), time.Hour })
	for _, r := range []*Request{second, around, first} {
		s.approves("ito", r)
	}
	open := func(minutes int) bool {
		s.now = from.Add(time.Duration(minutes) * time.Minute)
		return s.reaches(fromVendor, toEHR)
	}
	for _, x := range []struct {
		revoke *Request
		closed [2]int // minutes
	}{{nil, [2]int{120, 180}}, {around, [2]int{120, 180}}, {second, [2]int{60, 180}}, {first, [2]int{0, 180}}} {
		if x.revoke != nil {
			if err := s.state.Apply(s.now, "test", Shut{Scope: x.revoke.Scope(), Reason: "a test"}); err != nil {
				t.Fatal(err)
			}
		}
		for m := range 180 {
			if want := m < x.closed[0]; open(m) != want {
				t.Fatalf("after %d minutes it is open: %t, want %t", m, !want, want)
			}
		}
	}
}

// TestOneWhoApprovesOwnRequests is flagged until somebody else signs.
func TestOneWhoApprovesOwnRequests(t *testing.T) {
	s := newRequestSite(t, func(p *Policy) { onRequestOf(p).SelfApproval = true })
	flagged := func(r *Request) bool { return s.state.Stands(s.state.Request(r.ID), s.now).Self }
	ratify := func(by string, r *Request) string {
		return s.gives(Actor{ID: by}, Verdict{Verb: Ratify, ID: r.ID, Digest: s.state.Request(r.ID).Current().Digest(), Reason: "in order"})
	}
	r := s.asks()
	if code := s.approves("tanaka", r); code != "" || !flagged(r) || !s.reaches(fromVendor, toEHR) {
		t.Fatalf("%s, flagged: %t", code, flagged(r))
	}
	if code := ratify("tanaka", r); code != "own_request" || !flagged(r) {
		t.Errorf("own signature: %q, flagged: %t", code, flagged(r))
	}
	if code := ratify("ito", r); code != "" || flagged(r) {
		t.Errorf("another's signature: %q, flagged: %t", code, flagged(r))
	}
	other := s.asks()
	s.approves("ito", other)
	if flagged(other) {
		t.Error("flagged, though another approved")
	}
	until := other.Until.Add(time.Hour)
	s.gives(Actor{ID: "tanaka"}, Verdict{Verb: Extend, ID: other.ID, Until: until, Digest: other.Next(until).Digest()})
	if !flagged(other) {
		t.Error("the recorder extended it alone, and it is not flagged")
	}
	s.now = other.Until.Add(time.Minute)
	if !s.reaches(fromVendor, toEHR) {
		t.Error("the extension shows nothing")
	}
	// A signature is for what was there, and not for what the recorder adds later.
	emergency := s.asks(func(a *Ask) { a.From, a.For, a.Emergency = time.Time{}, 10*time.Minute, true })
	for _, r := range []*Request{other, emergency} {
		s.now = s.now.Add(time.Second)
		if code := ratify("ito", r); code != "" || flagged(r) {
			t.Errorf("%q, flagged: %t", code, flagged(r))
		}
		s.now = s.now.Add(time.Second)
		now := s.state.Request(r.ID)
		later := now.Current().Until.Add(30 * time.Minute)
		if code := s.gives(Actor{ID: "tanaka"}, Verdict{Verb: Extend, ID: r.ID, Until: later, Digest: now.Next(later).Digest()}); code != "" || !flagged(r) {
			t.Errorf("signed, then extended by the recorder alone: %q, flagged: %t", code, flagged(r))
		}
		s.now = s.now.Add(time.Second)
		if code := ratify("ito", r); code != "" || flagged(r) {
			t.Errorf("signed again: %q, flagged: %t", code, flagged(r))
		}
		if code := ratify("ito", r); code != "ratified_already" {
			t.Errorf("and again: %q", code)
		}
	}
}

// TestEmergencies: who declares one does not sign it, and one that is not signed in time is the last.
func TestEmergencies(t *testing.T) {
	s := newRequestSite(t)
	emergency := func(a *Ask) { a.From, a.Emergency = time.Time{}, true }
	if _, err := s.state.Policy().Resolve(Ask{Vendor: "acme", Engineers: []string{"brown"}, Targets: []string{"ehr"}, For: time.Minute, Purpose: "　 ", Emergency: true}, "~1", s.now); err == nil {
		t.Error("an emergency without a purpose")
	}
	r := s.asks(emergency)
	if !s.reaches(fromVendor, toEHR) {
		t.Fatal("it does not open at once")
	}
	sign := func(a Actor, verb Verb) string {
		return s.gives(a, Verdict{Verb: verb, ID: r.ID, Digest: r.Terms.Digest(), Until: r.Until.Add(time.Minute), Reason: "in order"})
	}
	for _, a := range []Actor{{ID: "tanaka", Via: "socket"}, {ID: "tanaka", Via: "office", Text: "root (login ito)"}, {Text: "ito"}} {
		for _, verb := range []Verb{Ratify, Approve} {
			if code := sign(a, verb); code == "" {
				t.Errorf("%+v gives %s", a, verb)
			}
		}
	}
	s.loads(func(p *Policy) { p.Operators[0].User, p.Operators[2].User = "tanaka", "ito" })
	if code := sign(Actor{ID: "tanaka"}, Ratify); code != "own_request" {
		t.Errorf("who declared it has another operator's name now: %q", code)
	}
	s.loads()
	if code := sign(Actor{ID: "suzuki"}, Ratify); code != "operator_may_not" {
		t.Errorf("no ratifier: %q", code)
	}
	until := r.From.Add(2 * time.Hour) // beyond its max_duration
	if code := s.gives(Actor{ID: "ito"}, Verdict{Verb: Extend, ID: r.ID, Until: until, Digest: r.Next(until).Digest()}); code != "extend_when" {
		t.Errorf("extended beyond max_duration: %q", code)
	}
	s.now = r.From.Add(time.Hour)
	if s.stage(r) != StageClosed || s.reaches(fromVendor, toEHR) {
		t.Errorf("after max_duration it is %s", s.stage(r))
	}
	if code := sign(Actor{ID: "tanaka"}, Review); code != "own_request" {
		t.Errorf("own review: %q", code)
	}
	terms := func(emergency bool) Requested {
		a := Ask{Vendor: "acme", Engineers: []string{"brown"}, Targets: []string{"ehr"}, For: time.Hour, Purpose: "work", Emergency: emergency}
		t, err := s.state.Policy().Resolve(a, "~9", s.now)
		if err != nil {
			s.t.Fatal(err)
		}
		return Requested{Terms: t}
	}
	may := func(emergency bool) (code string) {
		var refused *RefusedError
		if errors.As(s.state.May(s.now, "tanaka", terms(emergency)), &refused) {
			code = refused.Code
		}
		return code
	}
	s.now = r.From.Add(72*time.Hour - 1)
	if code := may(true); code != "" {
		t.Errorf("before the deadline: %q", code)
	}
	s.now = r.From.Add(72 * time.Hour)
	if code := may(true); code != "emergency_overdue" {
		t.Errorf("after the deadline: %q", code)
	}
	if code := may(false); code != "" {
		t.Errorf("a request then: %q", code)
	}
	s.loads(func(p *Policy) { onRequestOf(p).Emergency = nil })
	if x := s.state.Stands(s.state.Request(r.ID), s.now); !x.Overdue {
		t.Error("a policy without emergencies hides that one is overdue")
	}
	s.loads()
	_ = s.state.Apply(s.now, "test", Shut{Scope: r.Scope(), Reason: "out of sight"})
	if code := may(true); code != "emergency_overdue" {
		t.Errorf("a revocation takes the place of a signature: %q", code)
	}
	if code := sign(Actor{ID: "ito"}, Ratify); code != "" {
		t.Errorf("a ratifier: %q", code)
	}
	if code := may(true); code != "" {
		t.Errorf("after it was ratified: %q", code)
	}
}

// TestFrozenEndsWithThePolicy: a policy that allows less ends the grace too.
func TestFrozenEndsWithThePolicy(t *testing.T) {
	grace := func(p *Policy) { onRequestOf(p).Grace = 15 * time.Minute }
	for name, change := range map[string]func(*Policy){
		"on_request":   func(p *Policy) { p.Vendors[0].OnRequest = nil },
		"the contract": func(p *Policy) { p.Vendors[0].ContractUntil = Date{2026, 11, 30} },
		"valid":        func(p *Policy) { onRequestOf(p).ValidUntil = Date{2026, 11, 30} },
		"max_duration": func(p *Policy) { onRequestOf(p).MaxDuration = 10 * time.Minute },
		"grace":        func(p *Policy) { onRequestOf(p).Grace = 0 },
		"nothing":      func(*Policy) {},
	} {
		s := newRequestSite(t, grace)
		r := s.asks()
		s.approves("ito", r)
		s.now = r.Until.Add(time.Minute)
		if s.stage(r) != StageFrozen || s.reaches(fromVendor, toEHR) {
			t.Fatalf("%s after its end", s.stage(r))
		}
		s.loads(grace, change)
		if frozen := s.stage(r) == StageFrozen; frozen != (name == "nothing") || s.reaches(fromVendor, toEHR) {
			t.Errorf("%s ended: it is %s", name, s.stage(r))
		}
		until := r.Until.Add(time.Hour)
		code := s.gives(Actor{ID: "ito"}, Verdict{Verb: Extend, ID: r.ID, Until: until, Digest: r.Next(until).Digest()})
		if open := s.reaches(fromVendor, toEHR); (code == "") != (name == "nothing") || open != (name == "nothing") {
			t.Errorf("%s ended: extended with %q, open: %t", name, code, open)
		}
	}
}

// TestUndecidedIsBounded: 20 a vendor, 200 in all.
func TestUndecidedIsBounded(t *testing.T) {
	s := newRequestSite(t, func(p *Policy) {
		v := p.Vendors[0]
		for i := range 12 {
			c := *v
			c.Name = fmt.Sprintf("acme%02d", i)
			p.Vendors = append(p.Vendors, &c)
		}
	})
	ask := func(vendor string, n int, emergency bool) string {
		terms, err := s.state.Policy().Resolve(Ask{Vendor: vendor, Engineers: []string{"brown"}, Targets: []string{"ehr"}, For: time.Hour, Purpose: "work", Emergency: emergency}, fmt.Sprintf("~%s%d", vendor, n), s.now)
		if err != nil {
			t.Fatal(err)
		}
		return s.gives(Actor{ID: "tanaka"}, Requested{Terms: terms})
	}
	total := 0
	for i := range 12 {
		vendor := fmt.Sprintf("acme%02d", i)
		for n := range 21 {
			want := ""
			if n == 20 || total == 200 {
				want = "requests_many"
			}
			if code := ask(vendor, n, false); code != want {
				t.Fatalf("%d of %s, %d in all: %q, want %q", n, vendor, total, code, want)
			} else if code == "" {
				total++
			}
		}
	}
	if total != 200 {
		t.Errorf("%d in all", total)
	}
	for n := range 21 {
		want := ""
		if n == 20 {
			want = "requests_many" // who declares without end stops here
		}
		if code := ask("acme", n, true); code != want {
			t.Errorf("emergency %d: %q, want %q", n, code, want)
		}
	}
	if code := ask("acme00", 40, true); code != "" {
		t.Errorf("an emergency of another vendor: %q", code)
	}
	declared := s.state.Request("~acme0")
	s.gives(Actor{ID: "ito"}, Verdict{Verb: Ratify, ID: declared.ID, Digest: declared.Terms.Digest(), Reason: "in order"})
	if code := ask("acme", 30, true); code != "" {
		t.Errorf("after one was ratified: %q", code)
	}
	first := s.state.Request("~acme000")
	s.gives(Actor{ID: "ito"}, Verdict{Verb: Deny, ID: first.ID, Reason: "no"})
	if code := ask("acme00", 30, false); code != "" {
		t.Errorf("after one was denied: %q", code)
	}
	s.now = s.now.Add(24 * time.Hour)
	if i := slices.IndexFunc(s.state.Requests(), func(r *Request) bool { return s.state.Stands(r, s.now).Stage == Undecided }); i >= 0 {
		t.Error("a request is undecided after undecided")
	}
	if code := ask("acme01", 30, false); code != "" {
		t.Errorf("after the others expired: %q", code)
	}
}

// TestOldRevocations: the latch, and a journal that is begun anew, need no revocations of requests that
// ended long ago. A request is revoked all the same.
func TestOldRevocations(t *testing.T) {
	s := newRequestSite(t, func(p *Policy) { onRequestOf(p).Undecided = 10 * 24 * time.Hour })
	r := s.asks(func(a *Ask) { a.From, a.For = time.Time{}, 4*time.Hour })
	s.now = s.now.Add(9 * 24 * time.Hour)
	s.approves("ito", r)
	if err := s.state.Apply(s.now, "test", Shut{Scope: r.Scope(), Reason: "a test"}); err != nil {
		t.Fatal(err)
	}
	s.now = s.now.Add(4*time.Hour + stays)
	if s.asks(); len(s.state.Shuts()) != 1 {
		t.Error("forgotten too early")
	}
	s.now = s.now.Add(time.Second)
	if s.asks(); len(s.state.Shuts()) != 0 {
		t.Errorf("%v is kept", s.state.Shuts())
	}
	if s.stage(r) != StageRevoked {
		t.Errorf("it is %s", s.stage(r))
	}
	shared := s.state.Plan(s.now)
	s.now = s.now.Add(keptFor)
	s.asks()
	if _, kept := s.state.Shut(r.Scope()); kept || s.state.Request(r.ID) != nil {
		t.Error("it is never forgotten")
	}
	if _, kept := shared.Shut(r.Scope()); !kept {
		t.Error("a plan forgets it too")
	}
}

// TestMovedToAnotherSource: access that opens or closes from a request's own source is told.
func TestMovedToAnotherSource(t *testing.T) {
	s := newRequestSite(t)
	s.approves("ito", s.asks())
	before := s.state.Plan(s.now)
	r := s.asks(func(a *Ask) { a.Source = fromOneTime.String() })
	s.approves("ito", r)
	after := s.state.Plan(s.now)
	for _, x := range []struct {
		before, after *Plan
		closes, opens int
	}{{before, after, 0, 1}, {after, before, 1, 0}} {
		closes, opens := Moved(x.before, x.after, s.now)
		if len(closes) != x.closes || len(opens) != x.opens || len(opens) == 1 && fmt.Sprint(opens[0].Sources) != "[198.51.100.7]" {
			t.Errorf("closes %+v, opens %+v", closes, opens)
		}
	}
}

// TestOneRequestIsBounded: so that a list of requests stays readable, and fits into memory. It can
// always be closed.
func TestOneRequestIsBounded(t *testing.T) {
	s := newRequestSite(t)
	r := s.asks()
	s.approves("ito", r)
	asks := func(n int) string {
		return s.gives(Actor{ID: "tanaka"}, Verdict{Verb: AskExtension, ID: r.ID, Until: r.Until.Add(time.Duration(n+1) * time.Minute)})
	}
	for n := range saidMost - 1 {
		if code := asks(n); code != "" {
			t.Fatalf("extension %d: %q", n, code)
		}
	}
	report := Verdict{Verb: Report, ID: r.ID, Reason: "done"}
	if code := s.gives(Actor{ID: "ito"}, report); code != "" {
		t.Errorf("a report: %q", code)
	}
	if code := s.gives(Actor{ID: "ito"}, report); code != "request_full" {
		t.Errorf("a report beyond the bound: %q", code)
	}
	if code := asks(saidMost); code != "request_full" {
		t.Errorf("an extension beyond the bound: %q", code)
	}
	if code := s.gives(Actor{ID: "ito"}, Verdict{Verb: Shorten, ID: r.ID, Until: s.now.Add(time.Minute)}); code != "" {
		t.Errorf("a shortening: %q", code)
	}
}

// TestApprovedBy names those whose approvals count, as entries and grants show them: nobody who
// signed an extension that still waits.
func TestApprovedBy(t *testing.T) {
	two := func(p *Policy) { onRequestOf(p).Approvals = 2 }
	s := newRequestSite(t, two, func(p *Policy) {
		p.Operators = append(p.Operators, &Operator{Name: "yamada", User: "yamada", Rights: Rights()})
		onRequestOf(p).Approvers = p.Operators
	})
	r := s.asks()
	s.approves("ito", r)
	s.approves("suzuki", r)
	until := r.From.Add(5 * time.Hour) // beyond max_duration
	by := func() string { return s.state.Stands(s.state.Request(r.ID), s.now).Window.ApprovedBy }
	for _, x := range []struct{ signs, want string }{{"yamada", "ito, suzuki"}, {"ito", "ito, suzuki, yamada"}} {
		if code := s.gives(Actor{ID: x.signs}, Verdict{Verb: Extend, ID: r.ID, Until: until, Digest: s.state.Request(r.ID).Next(until).Digest()}); code != "" {
			t.Fatal(code)
		}
		if by() != x.want {
			t.Errorf("after %s signed, approved by %s, want %s", x.signs, by(), x.want)
		}
	}
}

// TestNothingComesBack: what expired, or was closed at its end, opens by no later policy. Each also
// runs without what ended it.
func TestNothingComesBack(t *testing.T) {
	type change = func(*Policy)
	two := func(p *Policy) { onRequestOf(p).Approvals = 2 }
	longest := func(d time.Duration) change { return func(p *Policy) { onRequestOf(p).MaxDuration = d } }
	fourHours := func(a *Ask) { a.For = 4 * time.Hour }
	for _, x := range []struct {
		name   string
		before []change // the policy when it was asked for
		ask    func(*Ask)
		by     []string      // who approves
		extend time.Duration // from its beginning on, by one of them
		ends   []change      // the policy at its end
		at     time.Duration // its end, and a minute
		after  []change      // the policy then
	}{
		{"half approved and expired, and fewer approvals are needed", []change{two}, func(a *Ask) {}, []string{"ito"}, 0, []change{two, func(p *Policy) { onRequestOf(p).Undecided = time.Minute }}, 2 * time.Minute, nil},
		{"max_duration", nil, fourHours, []string{"ito"}, 0, []change{longest(time.Hour)}, 61 * time.Minute, nil},
		{"an extension that one of two approved, and max_duration", []change{two}, fourHours, []string{"ito", "suzuki"}, 6 * time.Hour, []change{two}, 241 * time.Minute, []change{two, longest(8 * time.Hour)}},
		{"an extension that one of two approved, and fewer approvals are needed", []change{two}, fourHours, []string{"ito", "suzuki"}, 6 * time.Hour, []change{two}, 241 * time.Minute, nil},
		{"the contract", nil, fourHours, []string{"ito"}, 0, []change{func(p *Policy) {
			p.Vendors[0].ContractUntil = Date{2026, 12, 1}
			p.Zone = time.FixedZone("", 11*3600) // its midnight is at 13:00
		}}, 61 * time.Minute, []change{func(p *Policy) { p.Zone = time.FixedZone("", 11*3600) }}},
	} {
		t.Run(x.name, func(t *testing.T) {
			for _, ended := range []bool{true, false} {
				s := newRequestSite(t, x.before...)
				r := s.asks(x.ask)
				for _, by := range x.by {
					s.approves(by, r)
				}
				if x.extend > 0 {
					until := r.From.Add(x.extend)
					s.gives(Actor{ID: "ito"}, Verdict{Verb: Extend, ID: r.ID, Until: until, Digest: r.Next(until).Digest()})
					if !ended {
						s.gives(Actor{ID: "suzuki"}, Verdict{Verb: Extend, ID: r.ID, Until: until, Digest: r.Next(until).Digest()})
					}
				}
				s.loads(x.ends...)
				open := s.state.Plan(s.now).Grants
				if len(open) > 0 {
					s.state.NoteGrant(r.ID, time.Time{})
				}
				s.now = s.now.Add(x.at)
				if x.extend == 0 && s.reaches(fromVendor, toEHR) {
					t.Fatal("it has not ended")
				}
				if len(open) > 0 && ended {
					s.state.NoteGrant(r.ID, open[0].Until)
				}
				if !ended && len(x.by) == 1 && x.before != nil {
					s.approves("suzuki", r)
					_ = s.state.Apply(s.now, "test", Verdict{Verb: Approve, ID: r.ID, By: "suzuki", Digest: r.Terms.Digest()})
				}
				s.loads(x.after...)
				if got := s.reaches(fromVendor, toEHR); got == ended {
					t.Errorf("ended: %t, and it is open: %t", ended, got)
				}
			}
		})
	}
}

// TestARequestInJSON: `kidoban diff` has requests from their JSON, and must see the same in them.
func TestARequestInJSON(t *testing.T) {
	at := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	var fill func(v reflect.Value)
	fill = func(v reflect.Value) {
		switch v.Interface().(type) {
		case time.Time:
			v.Set(reflect.ValueOf(at))
			return
		case netip.Prefix:
			v.Set(reflect.ValueOf(netip.MustParsePrefix("10.0.0.0/8")))
			return
		case netip.Addr:
			v.Set(reflect.ValueOf(fromVendor))
			return
		}
		switch v.Kind() {
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem())
		case reflect.Struct:
			for i := range v.NumField() {
				fill(v.Field(i))
			}
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0))
		case reflect.Array:
			v.Index(0).SetUint(1)
		case reflect.String:
			v.SetString("x")
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Int, reflect.Int64:
			v.SetInt(1)
		default:
			t.Fatalf("a %s", v.Type())
		}
	}
	var r, again Request
	fill(reflect.ValueOf(&r).Elem())
	text, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(text, &again)
	}
	if err != nil || !reflect.DeepEqual(r, again) {
		t.Errorf("%v: %+v is %+v after JSON", err, r, again)
	}
}
