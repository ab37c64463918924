package gateway

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"kidoban/gateway/policy"
)

// Snapshot is how things stood at the end of one turn of the loop. It is
// immutable; metrics and the admin socket read nothing else.
type Snapshot struct {
	Plan     *policy.Plan // in force: what is not recorded yet is not in it
	Sessions []SessionStatus
	Refusals []RefusalSummary // of engineers, then of strangers; the newest first of each
	Status   Status           // but for what depends on the moment: see StatusAt
	Journal  JournalStatus
	Traffic  map[policy.Key]Traffic // since the process began; who owns a key, the plan says
	At       time.Duration          // boot time of the turn

	state    *policy.State         // only to be copied
	attempts map[string]netip.Addr // by engineer
	doubts   [doubts]bool          // which of them keep the gateway shut
	ruleset  time.Duration         // how long setting or reading it has taken so far; 0: neither is under way
	late     bool                  // an admission waits too long for its record: the gate admits nobody new
	disk     string                // that it does not answer, as a hint; empty: it does
	excess   map[string]string     // by engineer: that flows are refused because of the share, as a hint
	host     []Hint
	hints    []string
}

// JournalStatus says how much is recorded.
type JournalStatus struct {
	Size       int64 // entries
	Checkpoint time.Time
	Waiting    time.Duration // for the disk, of the append under way; 0: none is
}

// Status is the answer of `kidoban status --json`.
type Status struct {
	Ready          bool            `json:"ready"`
	NotReadyReason string          `json:"not_ready_reason"`
	Site           string          `json:"site"`
	Policy         PolicyStatus    `json:"policy"`
	Now            time.Time       `json:"now"`
	NextChange     *time.Time      `json:"next_change"` // null: nothing opens or closes within 400 days
	Shut           ShutStatus      `json:"shut"`
	Hints          []string        `json:"hints"`
	Grants         []GrantStatus   `json:"grants"`
	Sessions       []SessionStatus `json:"sessions"`
	ClockOK        bool            `json:"clock_synchronized"`
	Version        string          `json:"version"`
}

// PolicyStatus says which policy is in force.
type PolicyStatus struct {
	Digest   string     `json:"digest"`
	LoadedAt *time.Time `json:"loaded_at"`
	FileOK   bool       `json:"file_ok"`              // the file on disk would survive a restart
	Error    string     `json:"file_error,omitempty"` // why it would not
}

// ShutStatus says what operators closed.
type ShutStatus struct {
	All       bool                `json:"all"`
	Vendors   []string            `json:"vendors"`
	Engineers []string            `json:"engineers"` // vendor/engineer
	Records   []policy.ShutRecord `json:"records"`   // without their keys
	// ByKey are engineers who are shut under a name that is not: only the
	// scope by which their keys were closed can be reopened.
	ByKey []policy.Held `json:"by_key,omitempty"`
}

// GrantStatus is an open grant.
type GrantStatus struct {
	ID       string         `json:"id"`
	Vendor   string         `json:"vendor"`
	Engineer string         `json:"engineer"`
	Window   string         `json:"window"`
	From     time.Time      `json:"from"`
	Until    time.Time      `json:"until"`
	Targets  []string       `json:"targets"`
	Sources  []netip.Prefix `json:"sources"`
}

// SessionStatus is an open session.
type SessionStatus struct {
	ID            string     `json:"id"`
	Vendor        string     `json:"vendor"`
	Engineer      string     `json:"engineer"`
	Source        netip.Addr `json:"source"`
	OpenedAt      time.Time  `json:"opened_at"`
	Until         time.Time  `json:"until"`
	Grants        []string   `json:"grants"`
	Received      uint64     `json:"received_bytes"`
	Transmitted   uint64     `json:"transmitted_bytes"`
	LastHandshake *time.Time `json:"last_handshake"`
}

// stuck is the snapshot of a loop that has not turned for too long.
func (s *Snapshot) stuck(age time.Duration) *Snapshot {
	why := fmt.Sprintf("the loop does not turn: nothing has been heard of it for %s; start the gateway anew, unless the service manager does so", age.Truncate(time.Second))
	if len(s.Sessions) > 0 {
		why += "; who is inside stays inside until then"
	}
	if s.Plan.Doubt != "" {
		why += "; before that: " + s.Plan.Doubt
	}
	x := *s
	x.Plan = s.Plan.Doubted(why)
	x.Status.Ready, x.Status.NotReadyReason = false, why
	return &x
}

// Local gives an instant as operators read it: in the site's zone, to the
// millisecond.
func (s *Snapshot) Local(t time.Time) time.Time {
	if p := s.Plan.Policy; p != nil {
		t = t.In(p.Zone)
	}
	return t.Round(0).Truncate(time.Millisecond)
}

// StatusAt is the status at an instant.
func (s *Snapshot) StatusAt(now time.Time) Status {
	st := s.Status
	st.Now = s.Local(now)
	if !s.Plan.NextChange.IsZero() {
		next := s.Local(s.Plan.NextChange)
		st.NextChange = &next
	}
	st.Hints = append([]string{}, s.hints...)
	st.Grants = s.GrantsAt(now)
	st.Sessions = s.Sessions
	return st
}

// GrantsAt lists the grants that are open at an instant.
func (s *Snapshot) GrantsAt(now time.Time) []GrantStatus {
	open := []GrantStatus{}
	for _, g := range s.Plan.Grants {
		if !g.Contains(now) {
			continue
		}
		o := GrantStatus{ID: g.ID, Vendor: g.Engineer.Vendor.Name, Engineer: g.Engineer.Name, Window: g.Window.Name,
			From: s.Local(g.From), Until: s.Local(g.Until), Targets: []string{}, Sources: g.Engineer.Sources}
		for _, t := range g.Window.Targets {
			o.Targets = append(o.Targets, t.Name)
		}
		open = append(open, o)
	}
	return open
}

// RefusalsLocal lists the refusals with times as operators read them.
func (s *Snapshot) RefusalsLocal() []RefusalSummary {
	all := make([]RefusalSummary, len(s.Refusals))
	for i, r := range s.Refusals {
		r.First, r.Last = s.Local(r.First), s.Local(r.Last)
		all[i] = r
	}
	return all
}

// State gives a copy of the state, for questions about other instants.
func (s *Snapshot) State() *policy.State { return s.state.Copy() }

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
	if s.late && aboutNow(at, now) && s.enters(q, d) {
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
	if s.disk != "" && (d.Reason == policy.NotReady || s.enters(q, d)) {
		all = append(all, s.disk)
	}
	if d.Reason == policy.Admitted && q.To.IsValid() {
		if hint := s.excess[d.Engineer.String()]; hint != "" {
			all = append(all, hint)
		}
		for _, h := range s.host {
			if slices.ContainsFunc(d.Grant.Window.Targets, func(t *policy.Target) bool {
				return t.Allows(q.To, q.Proto) && slices.Contains(h.Targets, t.Name)
			}) {
				all = append(all, h.Text)
			}
		}
	}
	return strings.Join(all, "\n")
}

// LastAttempt is where an engineer's last attempt to enter came from, renewals
// of a session among them; the zero Addr: there has been none, as far as the
// journal goes back.
func (s *Snapshot) LastAttempt(e *policy.Engineer) netip.Addr { return s.attempts[e.String()] }

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

func (l *loop) publish() {
	s := &Snapshot{Plan: l.plan, state: l.state.Copy(), attempts: l.attempts, Journal: l.journalStatus(), Traffic: l.totals, At: l.boot}
	for _, sess := range l.sessions {
		s.Sessions = append(s.Sessions, s.session(sess))
	}
	slices.SortFunc(s.Sessions, func(a, b SessionStatus) int { return cmp.Or(a.OpenedAt.Compare(b.OpenedAt), cmp.Compare(a.ID, b.ID)) })
	if s.Sessions == nil {
		s.Sessions = []SessionStatus{}
	}
	for d, why := range l.doubts {
		s.doubts[d] = why != ""
	}
	if l.refusalsChanged {
		l.refusalsChanged = false
		l.refusalList = l.refusals.list()
	}
	s.Refusals = l.refusalList
	st := Status{Ready: l.plan.Doubt == "", NotReadyReason: l.plan.Doubt, Version: l.cfg.Version, ClockOK: l.synchronized,
		Shut: ShutStatus{Vendors: []string{}, Engineers: []string{}, Records: []policy.ShutRecord{}}}
	if p := l.state.Policy(); p != nil {
		at := s.Local(l.loadedAt)
		st.Site = p.Site
		st.Policy = PolicyStatus{Digest: p.Digest, LoadedAt: &at}
	}
	st.Policy.FileOK, st.Policy.Error = l.fileError == "", l.fileError
	st.Shut.ByKey = l.state.Held()
	for _, r := range l.state.Shuts() {
		r.At, r.Keys = s.Local(r.At), nil
		st.Shut.Records = append(st.Shut.Records, r)
		switch scope := string(r.Scope); {
		case r.Scope == policy.All:
			st.Shut.All = true
		case strings.Contains(scope, "/"):
			st.Shut.Engineers = append(st.Shut.Engineers, scope)
		default:
			st.Shut.Vendors = append(st.Shut.Vendors, scope)
		}
	}
	s.Status = st
	s.ruleset = l.applier.busy()
	s.late, s.disk = len(l.late) > 0, l.diskHint()
	if l.cfg.Hints != nil {
		s.host = l.cfg.Hints()
	}
	s.excess = l.excess()
	s.hints = l.hints(s.excess, s.host)
	l.g.snapshot.Store(s)
}

func (s *Snapshot) session(sess *session) SessionStatus {
	st := SessionStatus{ID: sess.id, Vendor: sess.engineer.Vendor.Name, Engineer: sess.engineer.Name, Source: sess.source.Addr(),
		OpenedAt: s.Local(sess.openedAt), Until: s.Local(sess.until), Grants: sess.grants,
		Received: sess.received, Transmitted: sess.transmitted}
	if st.Grants == nil {
		st.Grants = []string{}
	}
	if t := sess.last.LastHandshake; !t.IsZero() {
		t = s.Local(t)
		st.LastHandshake = &t
	}
	return st
}
