package view

import (
	"net/netip"
	"slices"
	"time"

	"kidoban/gateway/policy"
)

// Snapshot is the state of the gateway at the end of one turn of the loop. It
// is immutable; metrics and the admin socket read nothing else.
type Snapshot struct {
	At       time.Duration // boot time of the turn
	Plan     *policy.Plan  // in force; grants that are not recorded yet are missing
	Base     *policy.State // copy it for questions about other instants
	Doubts   []Doubt       // empty: the gateway is ready
	Sessions []SessionStatus
	Refusals []Refusal             // of engineers, then of strangers; the newest first of each
	Attempts map[string]netip.Addr // by engineer: the source of the last one
	Traffic  map[policy.Key]Traffic
	// Handshakes has the odd handshakes of engineers, by vendor/engineer.
	Handshakes map[string]Handshakes
	Journal    JournalStatus
	Version    string
	Key        policy.Key // the gateway's public key; zero: it has none

	File         PolicyFile
	Synchronized bool          // the clock
	Overdue      time.Duration // age of the oldest admission that was cut without its record; until that is on disk, nobody new enters; 0: none
	Ruleset      time.Duration // age of the setting or reading that is under way; 0: none is
	KeptOut      int           // engineers who are out until the kernel has taken away the access that they lost
	Host         []Hint
}

// PolicyFile says how the policy was read, and how its file is now.
type PolicyFile struct {
	LoadedAt time.Time // of the policy in force
	Warnings []Message // about the policy in force, in the order of the file
	Error    string    // why a restart would refuse the file; empty: it would not
	Changed  bool      // the file is not the policy in force
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
	code := Code("loop_stuck")
	if len(s.Sessions) > 0 {
		code = "loop_stuck_inside"
	}
	x := *s
	x.Doubts = append([]Doubt{{Loop, Say(code, Args{"age": age.Truncate(time.Second)})}}, s.Doubts...)
	x.Plan = s.Plan.Doubted(Joined(x.Doubts))
	return &x
}

// Ready reports whether there is no doubt.
func (s *Snapshot) Ready() bool { return s.Plan.Doubt == "" }

// InDoubt reports whether there is a doubt about a subject.
func (s *Snapshot) InDoubt(about string) bool {
	return slices.ContainsFunc(s.Doubts, func(d Doubt) bool { return d.About == about })
}

// Has reports whether one of the doubts has a code.
func (s *Snapshot) Has(code Code) bool {
	return slices.ContainsFunc(s.Doubts, func(d Doubt) bool { return d.Message.Code == code })
}

// Moment is the layout of an instant for people.
const Moment = "2006-01-02 15:04:05 MST"

// Local gives an instant as operators read it: in the site's zone, to the
// millisecond.
func (s *Snapshot) Local(t time.Time) time.Time {
	if p := s.Plan.Policy; p != nil {
		t = t.In(p.Zone)
	}
	return t.Round(0).Truncate(time.Millisecond)
}

// Explain answers for an engineer at an instant: from the snapshot's plan for
// the present, else from a plan of that instant. While an admission is overdue,
// new admissions are refused, and flows of open sessions are not.
func (s *Snapshot) Explain(q policy.Query, at, now time.Time) policy.Decision {
	p := s.Plan
	if !aboutNow(at, now) {
		doubt := p.Doubt
		if p = s.Base.Copy().Plan(at); doubt != "" {
			p = p.Doubted(doubt)
		}
	}
	d := p.Decide(q, at)
	if s.Overdue > 0 && aboutNow(at, now) && s.enters(q, d) {
		return policy.Decision{Reason: policy.NotReady, Engineer: d.Engineer}
	}
	return d
}

// enters reports whether an admitted query is one about a new admission: a
// flow of a session is not, nor one of a host behind a plain line.
func (s *Snapshot) enters(q policy.Query, d policy.Decision) bool {
	return d.Reason == policy.Admitted && !d.Engineer.Plain() && !(q.To.IsValid() && s.SessionSource(d.Engineer).IsValid())
}

// aboutNow reports whether a question about an instant is one about now.
func aboutNow(at, now time.Time) bool {
	d := at.Sub(now)
	return -time.Second <= d && d <= time.Second
}

// Obstacles are the other reasons why an engineer does not get in, or is not alone: the
// disk, odd handshakes, routes that lead elsewhere, or the share of connections.
func (s *Snapshot) Obstacles(q policy.Query, d policy.Decision, at, now time.Time) []Message {
	if !aboutNow(at, now) {
		return nil
	}
	var all []Message
	if disk := s.disk(); !disk.Empty() && (d.Reason == policy.NotReady || s.enters(q, d)) {
		all = append(all, disk)
	}
	if e := d.Engineer; e != nil {
		all = append(all, s.Handshakes[e.String()].hints(e.String())...)
		if !s.SessionSource(e).IsValid() {
			all = append(all, s.wrongKeys(now, func(other *policy.Engineer) bool { return other.Key == e.Key })...)
		}
	}
	if d.Reason == policy.Admitted {
		for _, h := range s.Host {
			if slices.Contains(h.Engineers, d.Engineer.String()) {
				all = append(all, h.Message)
			}
		}
	}
	if d.Reason == policy.Admitted && q.To.IsValid() {
		if hint, ok := s.excess(now)[d.Engineer.String()]; ok {
			all = append(all, hint)
		}
		for _, h := range s.Host {
			if slices.ContainsFunc(d.Grant.Window.Targets, func(t *policy.Target) bool {
				return t.Allows(q.To, q.Proto) && slices.Contains(h.Targets, t.Name)
			}) {
				all = append(all, h.Message)
			}
		}
	}
	return all
}

// LastAttempt is the source of an engineer's last attempt to enter or to renew a
// session; the zero Addr: the journal has none.
func (s *Snapshot) LastAttempt(e *policy.Engineer) netip.Addr { return s.Attempts[e.String()] }

// SessionSource is the source of the engineer's open session; the zero Addr: there
// is none.
func (s *Snapshot) SessionSource(e *policy.Engineer) netip.Addr {
	for _, sess := range s.Sessions {
		if sess.Vendor == e.Vendor.Name && sess.Engineer == e.Name {
			return sess.Source
		}
	}
	return netip.Addr{}
}
