package gateway

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// onRequest is oneHour with three operators, who may open acme's targets on request: tanaka records,
// suzuki and ito approve.
func onRequest() *policy.Policy {
	p := oneHour()
	operator := func(name string, may ...policy.Right) *policy.Operator {
		return &policy.Operator{Name: name, User: name, Rights: may}
	}
	ito, suzuki := operator("ito", policy.MayApprove, policy.MayRatify), operator("suzuki", policy.MayApprove, policy.MayReview)
	tanaka := operator("tanaka", policy.MayRecord, policy.MayApprove, policy.MayRatify)
	p.Operators = []*policy.Operator{ito, suzuki, tanaka}
	v := p.Vendor("acme")
	v.OnRequest = &policy.OnRequest{Targets: p.Targets, Engineers: v.Engineers, Approvals: 1, Approvers: p.Operators,
		MaxDuration: 4 * time.Hour, MaxTotal: 8 * time.Hour, Ahead: 14 * 24 * time.Hour, Undecided: 24 * time.Hour,
		Emergency: &policy.Emergency{MaxDuration: time.Hour, RatifyWithin: 72 * time.Hour, Ratifiers: []*policy.Operator{ito, tanaka}}}
	return p
}

// by is the actor who is an operator.
func by(operator string) policy.Actor {
	return policy.Actor{ID: operator, Via: "socket", Text: operator}
}

// request records a request for acme/brown to ehr, for an hour from now on, and returns it.
func (w *world) request(operator, id string, change ...func(*policy.Ask)) *policy.Request {
	w.t.Helper()
	a := policy.Ask{Vendor: "acme", Engineers: []string{"brown"}, Targets: []string{"ehr"}, From: w.wall(), For: time.Hour, Purpose: "the server is slow"}
	for _, c := range change {
		c(&a)
	}
	terms, err := w.gateway.Snapshot().Plan.Policy.Resolve(a, id, w.wall())
	if err != nil {
		w.t.Fatal(err)
	}
	w.gives(operator, policy.Requested{Terms: terms})
	return w.gateway.Snapshot().Base.Request(id)
}

// gives gives an event that must be taken.
func (w *world) gives(operator string, event policy.Event) Outcome {
	w.t.Helper()
	out, err := w.gateway.Do(w.t.Context(), by(operator), event)
	if err != nil {
		w.t.Fatalf("%s gives %#v: %v", operator, event, err)
	}
	synctest.Wait()
	return out
}

// refusedOf gives an event that must not be taken, and returns the code.
func (w *world) refusedOf(operator string, event policy.Event) string {
	w.t.Helper()
	_, err := w.gateway.Do(w.t.Context(), by(operator), event)
	synctest.Wait()
	var refused *policy.RefusedError
	if !errors.As(err, &refused) {
		w.t.Fatalf("%s gives %#v: %v", operator, event, err)
	}
	return refused.Code
}

// stage is where a request stands.
func (w *world) stage(id string) policy.Stage {
	w.t.Helper()
	s := w.gateway.Snapshot()
	r := s.Base.Request(id)
	if r == nil {
		w.t.Fatalf("there is no %s", id)
	}
	return s.Base.Stands(r, w.wall()).Stage
}

func approve(r *policy.Request) policy.Verdict {
	return policy.Verdict{Verb: policy.Approve, ID: r.ID, Digest: r.Terms.Digest()}
}

func TestARequestOpensAndEnds(t *testing.T) {
	simulate(t, onRequest(), func(t *testing.T, w *world) {
		w.at("12:00:00")
		w.start()
		r := w.request("tanaka", "~7k2m9x")
		same(t, "recorded", w.stage(r.ID), policy.Undecided)
		same(t, "the recorder", w.refusedOf("tanaka", approve(r)), "own_request")
		same(t, "nobody", w.refusedOf("", approve(r)), "no_operator")
		other := approve(r)
		other.Digest = "00"
		same(t, "another digest", w.refusedOf("suzuki", other), "request_other")
		same(t, "so far", len(w.open()), 0)
		w.gives("suzuki", approve(r))
		same(t, "approved", w.stage(r.ID), policy.StageOpen)
		if !slices.Equal(w.open(), []string{"acme/brown/~7k2m9x"}) {
			t.Errorf("open is %q", w.open())
		}
		w.enter("acme/brown", address)
		same(t, "inside", len(w.sessions()), 1)
		w.at("12:30:00")
		until := w.wall().Add(time.Hour)
		w.gives("suzuki", policy.Verdict{Verb: policy.Extend, ID: r.ID, Until: until, Digest: r.Next(until).Digest()})
		w.at("13:10:00")
		same(t, "extended", len(w.open()), 1)
		w.at("13:30:01")
		same(t, "over", w.stage(r.ID), policy.StageClosed)
		same(t, "sessions then", len(w.sessions()), 0)
		for i, line := range w.told(journal.Requested, journal.Approved, journal.Extended, journal.WindowOpened, journal.WindowClosed) {
			want := []string{"requested the server is slow", "approved", "window_opened brown ~7k2m9x", "extended", "window_opened brown ~7k2m9x", "window_closed brown ~7k2m9x window_closed"}
			if i >= len(want) || line != want[i] {
				t.Errorf("entry %d is %q", i, line)
			}
		}
	})
}

func TestARevokedRequestStaysClosed(t *testing.T) {
	simulate(t, onRequest(), func(t *testing.T, w *world) {
		w.at("12:00:00")
		w.start()
		r := w.request("tanaka", "~7k2m9x")
		w.gives("suzuki", approve(r))
		w.enter("acme/brown", address)
		w.gives("", policy.Shut{Scope: r.Scope(), Reason: "wrong server"}) // closing needs no right
		same(t, "revoked", w.stage(r.ID), policy.StageRevoked)
		same(t, "open", len(w.open())+len(w.sessions()), 0)
		same(t, "in the journal", w.told(journal.Revoked, journal.SessionClosed)[0], "revoked ~7k2m9x wrong server")
		same(t, "the session", w.told(journal.SessionClosed)[0], "session_closed brown revoked")
		same(t, "reopened", w.refusedOf("tanaka", policy.Reopened{Scope: r.Scope(), Reason: "a test"}), "request_final")
		w.crash()
		w.start()
		same(t, "after a restart", w.stage(r.ID), policy.StageRevoked)
		same(t, "open then", len(w.open()), 0)
	})
}

// same, and then counts; in a new journal no request stands.
func TestARecoveryTakesTheRequestsOfItsJournal(t *testing.T) {
	simulate(t, onRequest(), func(t *testing.T, w *world) {
		w.at("12:00:00")
		w.start()
		r := w.request("tanaka", "~7k2m9x")
		w.do(func() { w.append = fault{err: errors.New("fsync: input/output error"), after: true} })
		_, _ = w.gateway.Do(t.Context(), by("suzuki"), approve(r))
		synctest.Wait()
		same(t, "open", len(w.open()), 0)
		w.do(func() { w.append = fault{} })
		w.recover()
		live := w.stage(r.ID)
		w.crash()
		w.start()
		same(t, "after a restart", w.stage(r.ID), live)
		same(t, "live", live, policy.StageOpen)
	})
}
