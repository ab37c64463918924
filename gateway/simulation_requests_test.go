package gateway

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
)

// toldRequests is what a simulation knows of requests: from the journal's entries on disk, and from
// the answers to operators.
type toldRequests struct {
	state  *policy.State // of the entries on disk
	read   int           // how many of them
	with   *policy.State // state with a policy
	policy *policy.Policy
	number int
	ended  map[string]bool // denied, withdrawn, revoked; true: kept over a restart
	cut    map[string]cutAt
	open   int // how often a grant of one was in the gate; the world's lock guards it
}

// cutAt is the end to which an operator shortened a request.
type cutAt struct {
	until time.Time
	kept  bool
}

var simulatedOperators = []string{"ito", "suzuki", "tanaka"}

// requestable adds operators and what may be requested to a policy.
func (s *simulation) requestable(p *policy.Policy) {
	for _, name := range simulatedOperators {
		if s.random.IntN(12) > 0 {
			p.Operators = append(p.Operators, &policy.Operator{Name: name, User: name, Rights: []policy.Right{policy.MayRecord, policy.MayApprove, policy.MayRatify}})
		}
	}
	for _, v := range p.Vendors {
		if s.random.IntN(12) == 0 {
			continue
		}
		o := &policy.OnRequest{Targets: p.Targets, Engineers: v.Engineers, Approvals: 1 + s.random.IntN(4)/3, SelfApproval: s.random.IntN(3) == 0,
			MaxDuration: time.Duration(10+s.random.IntN(30)) * time.Minute, Ahead: 24 * time.Hour, Undecided: time.Hour}
		o.MaxTotal = 2 * o.MaxDuration
		for _, operator := range p.Operators {
			if s.random.IntN(12) > 0 {
				o.Approvers = append(o.Approvers, operator)
			}
		}
		if s.random.IntN(6) == 0 {
			o.Targets = p.Targets[1:]
		}
		if s.random.IntN(4) > 0 {
			o.OneTimeSource = prefixes("203.0.113.0/29")
		}
		if s.random.IntN(4) > 0 {
			o.Emergency = &policy.Emergency{MaxDuration: 20 * time.Minute, RatifyWithin: time.Hour, Ratifiers: p.Operators}
		}
		v.OnRequest = o
	}
}

func (s *simulation) asksFor() {
	p := s.gateway.Snapshot().Plan.Policy
	if p == nil {
		return
	}
	v := p.Vendors[s.random.IntN(2)]
	a := policy.Ask{Vendor: v.Name, Targets: [][]string{{"ehr"}, {"pacs"}, {"ehr", "pacs"}}[s.random.IntN(3)], Purpose: "a test",
		For: time.Duration(5+s.random.IntN(30)) * time.Minute, Emergency: s.random.IntN(5) == 0}
	for _, e := range v.Engineers[s.random.IntN(len(v.Engineers)):] {
		a.Engineers = append(a.Engineers, e.Name)
	}
	if s.random.IntN(3) == 0 && !a.Emergency {
		a.From = s.wall().Add(time.Duration(s.random.IntN(600)) * time.Second)
	}
	if s.random.IntN(2) == 0 {
		a.Source = fmt.Sprintf("203.0.113.%d", 1+s.random.IntN(2))
	}
	s.requests.number++
	terms, err := p.Resolve(a, fmt.Sprintf("~%d", s.requests.number), s.wall())
	if err == nil {
		_, _ = s.somebodyGives(policy.Requested{Terms: terms})
	}
}

// somebodyGives gives an event by the operators in any order, until one may.
func (s *simulation) somebodyGives(event policy.Event) (out Outcome, err error) {
	for _, i := range s.random.Perm(len(simulatedOperators)) {
		if out, err = s.gateway.Do(s.t.Context(), by(simulatedOperators[i]), event); err == nil {
			break
		}
	}
	return out, err
}

// newRequest is one of the newest requests, or nil.
func (s *simulation) newRequest() *policy.Request {
	all := s.gateway.Snapshot().Base.Requests()
	if len(all) == 0 {
		return nil
	}
	return all[max(len(all)-1-s.random.IntN(3), 0)]
}

func (s *simulation) decides() {
	r := s.newRequest()
	if r == nil {
		return
	}
	x := s.gateway.Snapshot().Base.Stands(r, s.wall())
	until := []time.Time{s.wall(), x.Until, x.MaxUntil}[s.random.IntN(3)].Add(time.Duration(s.random.IntN(20)-5) * time.Minute).UTC().Truncate(time.Second)
	d := policy.Verdict{ID: r.ID, Reason: "a test", Verb: []policy.Verb{policy.Approve, policy.Extend, policy.AskExtension, policy.Shorten, policy.Ratify, policy.Deny, policy.Withdraw}[s.random.IntN(7)]}
	switch {
	case x.Stage == policy.Undecided && s.random.IntN(8) > 0:
		d.Verb, d.Digest = policy.Approve, r.Terms.Digest()
	case x.Stage == policy.StageOpen && s.random.IntN(8) == 0:
		d.Verb, d.Until = policy.Shorten, s.wall().Add(x.Until.Sub(s.wall())/2).UTC().Truncate(time.Second)
	case x.Stage == policy.StageOpen && s.random.IntN(3) == 0:
		d.Verb, d.Until = policy.Extend, x.Until.Add(5*time.Minute)
		d.Digest = r.Next(d.Until).Digest()
	case d.Verb == policy.Extend:
		if e := r.Extending(); e != nil && s.random.IntN(2) == 0 {
			until = e.Until
		}
		d.Until, d.Digest = until, r.Next(until).Digest()
	case d.Verb == policy.Ratify:
		d.Digest = r.Current().Digest()
	case d.Verb == policy.AskExtension || d.Verb == policy.Shorten:
		d.Until = until
	}
	s.do(func() {
		if d.Verb == policy.Extend {
			delete(s.requests.cut, r.ID) // it may take effect from here on
		}
	})
	if out, err := s.somebodyGives(d); err == nil {
		s.do(func() {
			switch {
			case d.Verb == policy.Shorten:
				s.requests.cut[r.ID] = cutAt{d.Until, out.Recorded}
			case d.Verb.Closes():
				s.requests.ended[r.ID] = out.Recorded
			}
			if out.Recorded {
				s.done[string(d.Verb)]++
			}
		})
	}
}

func (s *simulation) revokes() {
	if r := s.newRequest(); r != nil {
		out, err := s.somebodyGives(policy.Shut{Scope: r.Scope(), Reason: "a test"})
		if err != nil {
			return
		}
		s.done["revoked"]++
		s.do(func() { s.requests.ended[r.ID] = s.requests.ended[r.ID] || out.Recorded || out.Kept })
	}
}

// requestsOf gives what requests open to the grant's engineer by the journal on disk and a policy. The
// world is locked.
func (s *simulation) requestsOf(p *policy.Policy, g *policy.Grant, now time.Time) (all []windowSpan) {
	t := &s.requests
	if t.state == nil || len(s.disk) < t.read {
		t.state, t.read, t.with = policy.NewState(), 0, nil
	}
	for _, e := range s.disk[t.read:] {
		if e.Request != "" && len(e.Event) > 0 {
			event, err := policy.DecodeEvent(string(e.Kind), e.Event)
			if err != nil {
				s.t.Errorf("%s: %v", e.Kind, err)
			} else {
				_ = t.state.Apply(e.Time, e.Actor, event)
			}
			t.with = nil
		}
	}
	t.read = len(s.disk)
	if t.with == nil || t.policy != p {
		t.with, t.policy = t.state.Copy(), p
		_ = t.with.Apply(now, "test", policy.PolicyLoaded{Digest: p.Digest, Policy: p})
	}
	for _, r := range t.with.Requests() {
		x := t.with.Stands(r, now)
		if x.Stage != policy.StageOpen && (x.Stage != policy.Scheduled || r.ID != g.Window.Name) {
			continue
		}
		for _, e := range x.Window.Engineers {
			if e.String() == g.Engineer.String() && e.Key == g.Engineer.Key && (x.Stage == policy.StageOpen && !g.From.After(now) || g.From.Equal(x.From)) {
				all = append(all, windowSpan{x.Span, x.Window, e})
			}
		}
	}
	return all
}

// endedRequest checks a grant against what operators were told. The world is locked.
func (s *simulation) endedRequest(g *policy.Grant, now time.Time) {
	id := string(policy.RequestOf(g.ID))
	if id == "" {
		return
	}
	s.requests.open++
	if _, ended := s.requests.ended[id]; ended {
		s.t.Errorf("%s: %s is in the gate, and the request has ended", now, g.ID)
	}
	if cut, ok := s.requests.cut[id]; ok && g.Until.After(cut.until) {
		s.t.Errorf("%s: %s is in the gate until %s, and was shortened to %s", now, g.ID, g.Until, cut.until)
	}
}

// flowsOfOneSource checks that the kernel opens no flow to a session from a source that its grant
// does not list. The world is locked.
func (s *simulation) flowsOfOneSource(now time.Time) {
	if s.firewall.set != (fault{}) || s.firewall.plan == nil {
		return
	}
	snapshot := s.gateway.Snapshot()
	for _, x := range snapshot.Sessions {
		if strings.Contains(strings.Join(x.Grants, " "), policy.RequestMark) {
			s.done["inside by a request"]++
		}
		e := snapshot.Plan.Policy.Engineer(x.Vendor + "/" + x.Engineer)
		for _, g := range s.firewall.plan.GrantsOf(e) {
			if !g.Engineer.MayComeFrom(x.Source) {
				s.done["flows of one source"]++
				if len(g.Window.Targets) > 0 && g.Contains(now) {
					s.t.Errorf("%s: the kernel opens %s to a session from %s", now, g.ID, x.Source)
				}
			}
		}
	}
}

// requestsAsInTheJournal compares the requests with those of a replay, if all is on disk.
func (s *simulation) requestsAsInTheJournal() {
	snapshot := s.gateway.Snapshot()
	var journalFault bool
	s.do(func() { journalFault = s.append != (fault{}) })
	if journalFault || snapshot.Plan.Doubt != "" || snapshot.Journal.Waiting > 0 || s.random.IntN(8) > 0 {
		return
	}
	past, err := store.Read(func(yield func(journal.Entry, error) bool) {
		for _, e := range s.durable() {
			if !yield(e, nil) {
				return
			}
		}
	})
	if err != nil {
		s.t.Errorf("replay: %v", err)
		return
	}
	if len(snapshot.Base.Requests()) > 0 {
		s.done["requests compared"]++
	}
	same(s.t, "requests, by the journal", requestTexts(past.State), requestTexts(snapshot.Base))
}

// requestTexts has all that a state knows of requests.
func requestTexts(state *policy.State) (all []string) {
	for _, r := range state.Requests() {
		text, err := json.Marshal(r)
		if err != nil {
			panic(err)
		}
		all = append(all, string(text))
	}
	for _, r := range state.Shuts() {
		if r.Scope.IsRequest() {
			all = append(all, "revoked: "+string(r.Scope))
		}
	}
	return slices.Clip(all)
}
