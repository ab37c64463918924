package view

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"kidoban/gateway/policy"
)

// Snapshot is the state of the gateway at the end of one turn of the loop. It
// is immutable; metrics and the admin socket read nothing else.
type Snapshot struct {
	At       time.Duration // boot time of the turn
	Plan     *policy.Plan  // in force: what is not recorded yet is not in it
	Base     *policy.State // see State
	Doubts   []Doubt       // why nobody is admitted; empty: the gateway is ready
	Sessions []SessionStatus
	Refusals []Refusal             // of engineers, then of strangers; the newest first of each
	Attempts map[string]netip.Addr // by engineer: the source of the last one
	Traffic  map[policy.Key]Traffic
	Journal  JournalStatus
	Version  string

	LoadedAt     time.Time     // of the policy in force
	FileError    string        // why the policy file would not survive a restart
	Synchronized bool          // the clock
	Ruleset      time.Duration // age of the setting or reading that is under way; 0: none is

	Late   bool               // an admission waits too long for its record: the gate admits nobody new
	Disk   Message            // it does not answer; empty: it does
	Excess map[string]Message // by engineer: flows are refused because of the share
	Host   []Hint
	Hints  []Message // all of them
}

// Offline is the snapshot of a gateway that does not run, with a policy and
// nothing shut.
func Offline(p *policy.Policy, now time.Time) (*Snapshot, error) {
	s := policy.NewState()
	if err := s.Apply(now, "", policy.PolicyLoaded{Digest: p.Digest, Policy: p}); err != nil {
		return nil, err
	}
	return &Snapshot{Plan: s.Plan(now), Base: s}, nil
}

// Stuck is the snapshot of a loop that has not turned for too long.
func (s *Snapshot) Stuck(age time.Duration) *Snapshot {
	why := fmt.Sprintf("the loop does not turn: nothing has been heard of it for %s; start the gateway anew, unless the service manager does so", age.Truncate(time.Second))
	if len(s.Sessions) > 0 {
		why += "; who is inside stays inside until then"
	}
	x := *s
	x.Doubts = append([]Doubt{{Loop, Say(Plain, Args{"text": why})}}, s.Doubts...)
	if s.Plan.Doubt != "" {
		why += "; before that: " + s.Plan.Doubt
	}
	x.Plan = s.Plan.Doubted(why)
	return &x
}

// Ready reports whether the gateway admits whom the policy admits.
func (s *Snapshot) Ready() bool { return s.Plan.Doubt == "" }

// InDoubt reports whether there is a doubt about a subject.
func (s *Snapshot) InDoubt(about string) bool {
	return slices.ContainsFunc(s.Doubts, func(d Doubt) bool { return d.About == about })
}

// Local gives an instant as operators read it: in the site's zone, to the
// millisecond.
func (s *Snapshot) Local(t time.Time) time.Time {
	if p := s.Plan.Policy; p != nil {
		t = t.In(p.Zone)
	}
	return t.Round(0).Truncate(time.Millisecond)
}

// State gives a copy of the state, for questions about other instants.
func (s *Snapshot) State() *policy.State { return s.Base.Copy() }

// Explain answers for an engineer at an instant: from the snapshot's plan
// where that is about now, else from a plan of that instant. Nobody new enters
// now while an admission waits too long for its record, but who is inside may
// reach what the plan opens.
func (s *Snapshot) Explain(q policy.Query, at, now time.Time) policy.Decision {
	p := s.Plan
	if !aboutNow(at, now) {
		doubt := p.Doubt
		if p = s.State().Plan(at); doubt != "" {
			p = p.Doubted(doubt)
		}
	}
	d := p.Decide(q, at)
	if s.Late && aboutNow(at, now) && s.enters(q, d) {
		return policy.Decision{Reason: policy.NotReady, Engineer: d.Engineer}
	}
	return d
}

// enters reports whether an admitted query is one about a new admission: a
// flow of a session is not.
func (s *Snapshot) enters(q policy.Query, d policy.Decision) bool {
	return d.Reason == policy.Admitted && !(q.To.IsValid() && s.SessionSource(d.Engineer).IsValid())
}

// aboutNow reports whether a question about an instant is one about now.
func aboutNow(at, now time.Time) bool {
	d := at.Sub(now)
	return -time.Second <= d && d <= time.Second
}

// Obstacle says, a line each, what else stands in the way of what the answer
// to a query admits or, with not_ready, does not: the disk, the engineer's share
// of connections, or that the host has no way to the target. Empty: nothing that
// is known.
func (s *Snapshot) Obstacle(q policy.Query, d policy.Decision, at, now time.Time) string {
	if !aboutNow(at, now) {
		return ""
	}
	var all []string
	if !s.Disk.Empty() && (d.Reason == policy.NotReady || s.enters(q, d)) {
		all = append(all, s.Disk.String())
	}
	if d.Reason == policy.Admitted && q.To.IsValid() {
		if hint := s.Excess[d.Engineer.String()]; !hint.Empty() {
			all = append(all, hint.String())
		}
		for _, h := range s.Host {
			if slices.ContainsFunc(d.Grant.Window.Targets, func(t *policy.Target) bool {
				return t.Allows(q.To, q.Proto) && slices.Contains(h.Targets, t.Name)
			}) {
				all = append(all, h.Message.String())
			}
		}
	}
	return strings.Join(all, "\n")
}

// LastAttempt is where an engineer's last attempt to enter came from, renewals
// of a session among them; the zero Addr: there has been none, as far as the
// journal goes back.
func (s *Snapshot) LastAttempt(e *policy.Engineer) netip.Addr { return s.Attempts[e.String()] }

// SessionSource is where the engineer's open session comes from; the zero
// Addr: there is none.
func (s *Snapshot) SessionSource(e *policy.Engineer) netip.Addr {
	for _, sess := range s.Sessions {
		if sess.Vendor == e.Vendor.Name && sess.Engineer == e.Name {
			return sess.Source
		}
	}
	return netip.Addr{}
}
