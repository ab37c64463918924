package gateway

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"kidoban/gateway/clock"
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	sessions "kidoban/gateway/session"
	"kidoban/gateway/store"
)

var simulated = flag.Duration("simulated", 3*time.Hour, "how long each seed of TestSimulation lasts, in simulated time")

// TestSimulation lets operators, engineers, a failing host and a clock that is
// set act at random, and holds after every action:
//
//   - no plan in the gate has a grant that the reference does not open: the
//     policy by plain arithmetic, less what operators shut and the keys that
//     were of it meanwhile, no longer than the
//     boot clock allows (but for steps too small to be seen), nothing after the clock went back by more than 5 s;
//   - no plan in the gate has a grant whose opening is not on disk, with every
//     source, and every target as the policy then in force meant it;
//   - no plan in the gate has more of a request than the events on disk and the
//     policy open together, and nothing of one that is denied, withdrawn, revoked or
//     shortened, from the moment at which an operator was told so;
//   - when the gateway has nothing left to do, nothing that is over or shut is
//     in the gate, no session is without a grant, and a replay of the journal has the same
//     requests as the gateway;
//
// and in the end, that every session in the journal was closed exactly once,
// every window at least once after its opening, and that a replay of the
// journal knows what is shut.
func TestSimulation(t *testing.T) {
	entered, held, narrowed, requested := 0, 0, map[string]int{}, map[string]int{}
	for seed := range uint64(8) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &simulation{world: newWorld(t, nil), random: rand.New(rand.NewPCG(seed, 7)), done: map[string]int{}, narrowed: map[string]int{}}
				s.run(*simulated)
				entered += s.enters
				held += s.done["held by key"]
				for what, n := range s.done {
					requested[what] += n
				}
				s.do(func() { requested["request open"] += s.requests.open })
				for what, n := range s.narrowed {
					narrowed[what] += n
				}
			})
		})
	}
	if entered == 0 || held == 0 || len(narrowed) < 4 {
		t.Errorf("%d entered, %d times somebody was held by key, and grants were narrowed only so: %v: the simulation shows nothing", entered, held, narrowed)
	}
	for _, what := range []string{"request open", "approved", "extended", "shortened", "revoked", "inside by a request", "flows of one source", "requests compared"} {
		if requested[what] == 0 {
			t.Errorf("there was no %q: the simulation shows nothing", what)
		}
	}
}

// TestSimulationOfAForgetfulDisk is TestSimulation where the journal loses
// entries at some crashes.
func TestSimulationOfAForgetfulDisk(t *testing.T) {
	forgot, known, reopened := 0, 0, 0
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &simulation{world: newWorld(t, nil), random: rand.New(rand.NewPCG(seed, 7)), done: map[string]int{}, narrowed: map[string]int{}, forgetful: 2}
				s.run(*simulated)
				forgot += s.done["crash, and the disk forgets"]
				known += s.done["known from the copy"]
				reopened += s.done["reopened"]
			})
		})
	}
	if forgot == 0 || known == 0 || reopened == 0 {
		t.Errorf("%d times the disk forgot, %d times what was shut was known all the same, %d times something was reopened: the simulation shows nothing", forgot, known, reopened)
	}
}

// shutting is a scope that is shut.
type shutting struct {
	kept bool                // over a restart
	keys map[policy.Key]bool // that were of it meanwhile: true, kept over a restart
}

// comes notes the keys that a policy has in the scope.
func (x *shutting) comes(scope policy.Scope, p *policy.Policy, kept bool) {
	for _, v := range p.Vendors {
		for _, e := range v.Engineers {
			if string(scope) == v.Name || string(scope) == e.String() {
				x.keys[e.Key] = x.keys[e.Key] || kept
			}
		}
	}
}

// shutFor reports which scope shuts an engineer, if one does. The world is locked.
func (s *simulation) shutFor(e *policy.Engineer) (policy.Scope, bool) {
	for scope, x := range s.shuts {
		_, key := x.keys[e.Key]
		if scope == policy.All || string(scope) == e.Vendor.Name || string(scope) == e.String() || key {
			return scope, true
		}
	}
	return "", false
}

// zero is by how much the wall clock was off when a grant opened, and the
// latest end that it has had.
type zero struct {
	offset time.Duration
	until  time.Time
}

type simulation struct {
	*world
	random   *rand.Rand
	windows  []window       // of the newest policy
	done     map[string]int // how often each action was done
	narrowed map[string]int // grants in the gate that were less than the policy's, by what

	// The reference.
	policies []*policy.Policy           // that may be in force
	known    map[string]*policy.Policy  // all there ever were, by digest
	shuts    map[policy.Scope]*shutting // that an operator was told stand
	newest   time.Time                  // what the wall clock has shown since the start or the last recovery
	zeros    map[string]zero            // of each open grant
	release  chan struct{}              // ends what hangs
	enters   int

	requests toldRequests

	forgetful int // the weight of crashes at which the journal loses entries
}

func (s *simulation) run(length time.Duration) {
	s.shuts, s.release, s.known = map[policy.Scope]*shutting{}, make(chan struct{}), map[string]*policy.Policy{}
	s.requests.ended, s.requests.cut = map[string]bool{}, map[string]cutAt{}
	s.file = s.anyPolicy()
	s.policies = []*policy.Policy{s.file}
	s.watch = s.planned
	s.restarted()
	s.start()
	actions := []struct {
		name   string
		weight int
		do     func()
	}{
		{"nothing", 30, func() {}},
		{"enter", 60, s.someoneEnters},
		{"traffic", 20, func() { s.hear(s.someone(), uint64(s.random.IntN(9000)), uint64(s.random.IntN(9000))) }},
		{"refusal", 10, func() { s.refuse(s.random) }},
		{"close", 5, s.closes},
		{"reopen", 12, s.reopens},
		{"request", 12, s.asksFor},
		{"decide", 24, s.decides},
		{"revoke", 1, s.revokes},
		{"reload", 12, s.reloads},
		{"recover", 10, s.recovers},
		{"small step", 4, func() { s.steps(time.Duration(s.random.IntN(8000)-4000) * time.Millisecond) }},
		{"large step", 1, func() { s.steps(time.Duration(s.random.IntN(1200)-600) * time.Second) }},
		{"journal fault", 4, func() { f := s.anyFault(); s.do(func() { s.append = f }) }},
		{"firewall fault", 4, func() {
			f := s.anyFault()
			f.opening = s.random.IntN(2) == 0
			s.do(func() { s.firewall.set = f })
		}},
		{"marker fault", 2, func() { f := s.anyFault(); s.do(func() { s.save = f }) }},
		{"copy fault", s.forgetful, func() { f := s.anyFault(); s.do(func() { s.save = f }) }},
		{"tunnel fault", 1, func() {
			s.tunnel.facts <- policy.Fact{Kind: policy.Failure, Err: errFault}
		}},
		{"drift", 1, func() {
			s.firewall.facts <- policy.Fact{Kind: policy.Drift, Err: errFault}
		}},
		{"heal", 24, s.heal},
		{"crash", 2, func() { s.heal(); s.unkept(); s.crash(); s.restarted(); s.start() }},
		{"crash, and the disk forgets", s.forgetful, func() {
			s.heal()
			time.Sleep(2 * heartbeat) // the copy is written
			s.unkept()
			s.crash()
			s.forgets()
			s.restarted()
			s.start()
		}},
		{"restart", 2, func() { s.heal(); s.unkept(); _ = s.stop(); s.restarted(); s.start() }},
	}
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	for end := time.Now().Add(length); time.Now().Before(end) && !s.t.Failed(); {
		n := s.random.IntN(total)
		for _, a := range actions {
			if n -= a.weight; n < 0 {
				s.done[a.name]++
				a.do()
				break
			}
		}
		synctest.Wait()
		s.rests()
		// Mostly to a random moment, sometimes to a whole minute, where windows change.
		pause := time.Duration(s.random.IntN(40000)) * time.Millisecond
		if s.random.IntN(3) == 0 {
			pause = s.wall().Truncate(time.Minute).Add(time.Minute).Sub(s.wall())
		}
		time.Sleep(pause)
		synctest.Wait()
		s.rests()
	}
	s.heal()
	time.Sleep(time.Minute)
	s.do(func() { s.newest, s.zeros = time.Time{}, nil }) // it accepts the clock
	if out, err := s.gateway.Recover(s.t.Context(), yamada, "the end"); err != nil || out.Problem != "" {
		s.t.Errorf("recovery at the end: %v, %q", err, out.Problem)
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	s.remembers()
	if err := s.stop(); err != nil {
		s.t.Errorf("stop: %v", err)
	}
	s.accounts()
	s.t.Logf("%d entries, %d sessions, %v, %v", len(s.disk), s.enters, s.done, s.narrowed)
}

// restarted forgets what only the old process knew.
func (s *simulation) restarted() {
	s.do(func() {
		s.newest, s.zeros = time.Time{}, map[string]zero{}
		s.policies = []*policy.Policy{s.file}
		for scope, x := range s.shuts {
			x.comes(scope, s.file, false)
		}
	})
}

// anyPolicy has windows at random whole minutes of every day, and sources and
// targets that lie in one another.
func (s *simulation) anyPolicy() *policy.Policy {
	// Mostly only some windows are other than before.
	few := len(s.windows) > 0 && s.random.IntN(4) > 0
	if !few {
		s.windows = make([]window, 30)
	}
	for i := range s.windows {
		if few && s.random.IntN(4) > 0 {
			continue
		}
		from := s.random.IntN(24*60 - 1)
		until := min(from+1+s.random.IntN(120), 24*60-1)
		if few && s.random.IntN(3) > 0 { // about when it was
			minute := func(clock string) int {
				return int(moment(clock).Sub(moment("00:00:00"))/time.Minute) + s.random.IntN(60) - 30
			}
			from = min(max(minute(s.windows[i].from), 0), 24*60-2)
			until = min(max(minute(s.windows[i].until), from+1), 24*60-1)
		}
		clock := func(m int) string { return fmt.Sprintf("%02d:%02d:00", m/60, m%60) }
		w := window{name: []string{"acme", "medisys"}[i%2] + fmt.Sprintf("/w%d", i), from: clock(from), until: clock(until),
			targets: []string{"ehr", "pacs", "ehr pacs"}[s.random.IntN(3)]}
		if strings.HasPrefix(w.name, "medisys") && s.random.IntN(2) == 0 {
			w.engineers = "sato"
		}
		s.windows[i] = w
	}
	if s.random.IntN(3) == 0 {
		for i, w := range s.windows {
			s.windows[i].name = strings.NewReplacer("/w", "/v", "/v", "/w").Replace(w.name)
		}
	}
	p := site(s.windows...)
	for _, v := range p.Vendors {
		for _, w := range v.Windows {
			once := w.Schedule.(*policy.Once)
			w.Schedule = &policy.Days{Weekdays: [7]bool{true, true, true, true, true, true, true}, From: once.From.Time, To: once.Until.Time}
			w.Ticket = fmt.Sprintf("CHG-%d", s.random.IntN(2))
		}
		v.Sources = prefixes([]string{"203.0.113.0/28", "203.0.113.1/32", "203.0.113.2/32 203.0.113.1/32", "203.0.113.0/30"}[s.random.IntN(4)])
		for _, e := range v.Engineers {
			e.Sources = v.Sources
			if s.random.IntN(4) == 0 {
				e.Sources = v.Sources[:1]
			}
		}
	}
	// Now and then somebody is called otherwise, or two have each other's keys.
	acme, medisys := p.Vendors[0], p.Vendors[1]
	if s.random.IntN(4) == 0 {
		acme.Name = "acme2"
	}
	if s.random.IntN(4) == 0 {
		medisys.Engineers[0].Name = "sato2"
	}
	if s.random.IntN(4) == 0 {
		brown, suzuki := acme.Engineers[0], medisys.Engineers[1]
		brown.Key, suzuki.Key = suzuki.Key, brown.Key
	}
	for _, t := range p.Targets {
		t.Prefix = netip.PrefixFrom(t.Prefix.Addr(), []int{28, 30}[s.random.IntN(2)])
		t.Services[0].Last += uint16(s.random.IntN(2))
		t.Masquerade = s.random.IntN(2) == 0
	}
	s.requestable(p)
	p.Digest = fmt.Sprintf("%x", s.random.Uint64())
	s.do(func() { s.known[p.Digest] = p })
	return p
}

func (s *simulation) someone() string { return s.anyEngineer().String() }

func (s *simulation) anyEngineer() *policy.Engineer {
	i := s.random.IntN(3)
	if i == 2 {
		return s.file.Vendors[0].Engineers[0]
	}
	return s.file.Vendors[1].Engineers[i]
}

func (s *simulation) anyScope() policy.Scope {
	e := s.anyEngineer()
	return []policy.Scope{policy.All, policy.Scope(e.Vendor.Name), policy.Scope(e.String())}[s.random.IntN(3)]
}

func (s *simulation) someoneEnters() {
	name, source := s.someone(), fmt.Sprintf("203.0.113.%d:%d", 1+s.random.IntN(2), 1000+s.random.IntN(2))
	n := s.knock(name, source)
	if n == 0 {
		return
	}
	if s.random.IntN(4) == 0 {
		time.Sleep(time.Duration(s.random.IntN(2000)) * time.Millisecond)
	}
	if s.random.IntN(8) > 0 {
		s.confirm(n, name, source)
		s.enters++
	}
}

func (s *simulation) anyFault() fault {
	f := []fault{
		{slow: time.Duration(s.random.IntN(5000)) * time.Millisecond},
		{err: errFault},
		{err: errFault, after: true},
		{err: errFault, after: true, partial: 1},
		{hang: s.release},
	}[s.random.IntN(5)]
	if f.err != nil && s.random.IntN(2) == 0 {
		f.slow = time.Duration(s.random.IntN(3000)) * time.Millisecond
	}
	return f
}

func (s *simulation) heal() {
	s.do(func() {
		s.append, s.save, s.firewall.set = fault{}, fault{}, fault{}
		close(s.release)
		s.release = make(chan struct{})
	})
	synctest.Wait()
}

// forgets loses some of the journal's entries. Where the copy of what is shut
// is lost as well, nobody can know of some shuts any more: instead everything
// stays shut until it is reopened.
func (s *simulation) forgets() {
	s.do(func() {
		s.damage, s.lost, s.gone = errFault, errFault, map[int]bool{}
		for i := range s.disk {
			s.gone[i] = s.random.IntN(2) == 0
		}
		if s.random.IntN(2) == 0 {
			s.latch = nil
		}
		if s.latch == nil || s.partial {
			s.shuts = map[policy.Scope]*shutting{policy.All: {kept: true, keys: map[policy.Key]bool{}}}
		} else if len(s.shuts) > 0 {
			s.done["known from the copy"]++
		}
	})
}

func (s *simulation) closes() {
	scope := s.anyScope()
	out, err := s.gateway.Do(s.t.Context(), yamada, policy.Shut{Scope: scope, Reason: "a test"})
	if err != nil {
		s.t.Errorf("close %s: %v", scope, err)
	}
	if !out.Recorded && !out.Kept {
		if out.Problem == "" {
			s.t.Errorf("close %s: neither recorded nor kept, and no problem told", scope)
		}
		s.done["shut, and nowhere kept"]++
	}
	s.do(func() {
		kept := out.Recorded || out.Kept
		x := s.shuts[scope]
		if x == nil {
			x = &shutting{keys: map[policy.Key]bool{}}
			s.shuts[scope] = x
		}
		x.kept = kept
		x.comes(scope, s.file, kept)
	})
}

// unkept forgets what a restart may forget.
func (s *simulation) unkept() {
	s.do(func() {
		for scope, x := range s.shuts {
			if !x.kept {
				delete(s.shuts, scope)
			}
			maps.DeleteFunc(x.keys, func(_ policy.Key, kept bool) bool { return !kept })
		}
		maps.DeleteFunc(s.requests.ended, func(_ string, kept bool) bool { return !kept })
		maps.DeleteFunc(s.requests.cut, func(_ string, c cutAt) bool { return !c.kept })
	})
}

func (s *simulation) reopens() {
	scope := s.anyScope()
	if shut := s.gateway.Snapshot().Base.Shuts(); len(shut) > 0 && s.random.IntN(4) > 0 {
		scope = shut[s.random.IntN(len(shut))].Scope
	}
	s.do(func() { delete(s.shuts, scope) }) // it may take effect from here on
	var none *policy.NoMatchError
	out, err := s.gateway.Do(s.t.Context(), yamada, policy.Reopened{Scope: scope, Reason: "a test"})
	if errors.As(err, &none) {
		return
	}
	if err == nil && out.Recorded {
		s.done["reopened"]++
	}
}

func (s *simulation) reloads() {
	if s.random.IntN(5) == 0 {
		s.do(func() { s.fileError = errors.New("a bad file") })
		if _, err := s.gateway.Reload(s.t.Context(), yamada); err == nil {
			s.t.Error("a bad file was taken")
		}
		s.do(func() { s.fileError = nil })
		return
	}
	next := s.file
	if s.random.IntN(4) > 0 {
		next = s.anyPolicy()
	}
	s.do(func() { s.file = next; s.policies = append(s.policies, next) })
	out, err := s.gateway.Reload(s.t.Context(), yamada)
	if err != nil {
		s.t.Errorf("reload: %v", err)
	}
	s.do(func() {
		s.policies = []*policy.Policy{next}
		for scope, x := range s.shuts {
			x.comes(scope, next, out.Recorded)
		}
	})
	s.done["held by key"] += len(s.gateway.Snapshot().Shut().ByKey)
}

func (s *simulation) recovers() {
	newest, zeros := s.newest, s.zeros
	s.do(func() { s.newest, s.zeros = time.Time{}, nil }) // it may take effect from here on
	_, err := s.gateway.Recover(s.t.Context(), yamada, "a test")
	s.do(func() {
		if err == nil {
			s.newest, s.zeros = s.wall(), map[string]zero{}
			for _, g := range s.tunnel.plan.Grants {
				if g.Contains(s.newest) {
					s.zeros[g.ID] = zero{s.wallOffset, g.Until} // since some moment of the recovery
				}
			}
			return
		}
		s.done["recovery failed"]++
		s.newest, s.zeros = newest, zeros
	})
}

func (s *simulation) steps(by time.Duration) {
	s.do(func() { s.shown() })
	s.step(by)
}

// shown notes what the wall clock shows. The world is locked.
func (s *simulation) shown() {
	if now := s.wall(); now.After(s.newest) {
		s.newest = now
	}
}

// planned checks a plan as the gate gets it. The world is locked.
func (s *simulation) planned(p *policy.Plan) {
	now, offset := s.wall(), s.wallOffset
	if len(p.Grants) > 0 && s.newest.Sub(now) > clock.StepBack+time.Millisecond {
		s.t.Errorf("%s: grants in the gate, though the clock has shown %s", now, s.newest)
	}
	s.shown()
	if len(p.Grants) > 0 && !slices.Contains(s.policies, p.Policy) {
		s.t.Errorf("%s: a plan of a policy that is not in force", now)
	}
	for _, g := range p.Grants {
		// An open grant is of windows of the policy that are open, and may have the
		// name of another.
		windows := s.windowsOf(p.Policy, g, now)
		until, its := time.Time{}, policy.Span{}
		for _, w := range windows {
			if w.Until.After(until) {
				until = w.Until
			}
			if strings.HasPrefix(g.ID, g.Engineer.String()+"/"+w.Window.Name+"@") {
				its = w.Span
			}
		}
		switch e := p.Policy.Engineer(g.Engineer.String()); {
		case e == nil || e.Key != g.Engineer.Key || len(windows) == 0:
			s.t.Errorf("%s: %s is not in the policy", now, g.ID)
		case g.Until.After(until):
			s.t.Errorf("%s: %s opens %s to %s, the policy until %s", now, g.ID, g.From, g.Until, until)
		case !opens(g, p.Policy, windows):
			s.t.Errorf("%s: %s opens %v to %v, and the policy does not", now, g.ID, g.Engineer.Sources, g.Window.Targets)
		case g.From.Sub(now) > policy.Lead || !g.Until.After(now):
			s.t.Errorf("%s: %s is in the gate, from %s to %s", now, g.ID, g.From, g.Until)
		default:
			for what, happened := range map[string]bool{"narrower sources": len(g.Engineer.Sources) > 0 && fmt.Sprint(g.Engineer.Sources) != fmt.Sprint(e.Sources),
				"another window": its.IsZero(), "another beginning": !its.IsZero() && !g.From.Equal(its.From),
				"narrower targets": slices.ContainsFunc(windows, func(w windowSpan) bool {
					return w.Window.Name == g.Window.Name && fmt.Sprint(names(g.Window.Targets)) != fmt.Sprint(names(w.Window.Targets))
				})} {
				if happened {
					s.narrowed[what]++
				}
			}
		}
		if scope, shut := s.shutFor(g.Engineer); shut {
			s.t.Errorf("%s: %s is in the gate, and %s is shut", now, g.ID, scope)
		}
		s.endedRequest(g, now)
		// One that ended, and opens again by a later policy, opens anew.
		if z, ok := s.zeros[g.ID]; ok && s.newest.Sub(z.until) <= clock.StepBack {
			if latest := until.Add(min(offset-z.offset+2*10*time.Millisecond, 0)); g.Until.After(latest) {
				s.t.Errorf("%s: %s is open until %s, by the boot clock it ends at %s", now, g.ID, g.Until, latest)
			}
			if g.Until.After(z.until) {
				s.zeros[g.ID] = zero{z.offset, g.Until}
			}
		} else if s.zeros != nil && g.Contains(now) {
			s.zeros[g.ID] = zero{offset, g.Until}
		}
		if !s.recorded(g) {
			s.t.Errorf("%s: %s is in the gate until %s, and its opening is not on disk", now, g.ID, g.Until)
		}
	}
}

// windowsOf gives the windows of the grant's engineer that are open now, or of a grant
// that is not open yet its own.
func (s *simulation) windowsOf(p *policy.Policy, g *policy.Grant, now time.Time) (all []windowSpan) {
	for _, w := range p.Vendor(g.Engineer.Vendor.Name).Windows {
		days := w.Schedule.(*policy.Days)
		midnight := time.Unix(max(now.Unix(), g.From.Unix()), 0).UTC().Truncate(24 * time.Hour)
		span := policy.Span{From: midnight.Add(time.Duration(days.From) * time.Second), Until: midnight.Add(time.Duration(days.To) * time.Second)}
		member := slices.ContainsFunc(w.Engineers, func(e *policy.Engineer) bool { return e.String() == g.Engineer.String() && e.Key == g.Engineer.Key })
		if member && (span.Contains(now) && !g.From.After(now) || g.From.After(now) && g.From.Equal(span.From) && w.Name == g.Window.Name) {
			all = append(all, windowSpan{span, w, p.Engineer(g.Engineer.String())})
		}
	}
	return append(all, s.requestsOf(p, g, now)...)
}

type windowSpan struct {
	policy.Span
	Window   *policy.Window
	Engineer *policy.Engineer // as the window has the grant's
}

// names gives each target with all that it opens.
func names(targets []*policy.Target) (all []string) {
	for _, t := range targets {
		all = append(all, fmt.Sprint(t.Name, t.Prefix, t.Services))
	}
	return all
}

// within reports whether every target is one of the policy's of the same
// name, or a part of it.
func within(targets []*policy.Target, p *policy.Policy) bool {
	return !slices.ContainsFunc(targets, func(t *policy.Target) bool {
		i := slices.IndexFunc(p.Targets, func(of *policy.Target) bool { return of.Name == t.Name })
		of := p.Targets[i]
		return !of.Prefix.Contains(t.Prefix.Addr()) || of.Prefix.Bits() > t.Prefix.Bits() || slices.ContainsFunc(t.Services, func(s policy.Service) bool {
			return !of.Services[0].Allows(s.Protocol, s.First) || !of.Services[0].Allows(s.Protocol, s.Last)
		})
	})
}

// from reports whether every source lies in one of some prefixes.
func from(sources, prefixes []netip.Prefix) bool {
	return !slices.ContainsFunc(sources, func(s netip.Prefix) bool {
		return !slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(s.Addr()) && p.Bits() <= s.Bits() })
	})
}

// opens reports whether the policy opens every source and every target of a
// grant, and the targets in windows that do not end before it.
func opens(g *policy.Grant, p *policy.Policy, windows []windowSpan) bool {
	return within(g.Window.Targets, p) && slices.ContainsFunc(windows, func(w windowSpan) bool { return from(g.Engineer.Sources, w.Engineer.Sources) }) &&
		!slices.ContainsFunc(g.Window.Targets, func(t *policy.Target) bool {
			return !slices.ContainsFunc(windows, func(w windowSpan) bool {
				return !w.Until.Before(g.Until) && from(g.Engineer.Sources, w.Engineer.Sources) &&
					slices.ContainsFunc(w.Window.Targets, func(of *policy.Target) bool { return of.Name == t.Name })
			})
		})
}

// recorded reports whether an entry on disk covers the grant, since it was
// last closed there: sources by what the entry says, targets as the policy
// meant their names that was then in force.
func (s *simulation) recorded(g *policy.Grant) bool {
	for i, e := range slices.Backward(s.disk) {
		if e.Grant != g.ID || e.Kind != journal.WindowOpened && e.Kind != journal.WindowClosed {
			continue
		}
		if e.Kind == journal.WindowClosed {
			return false
		}
		all := !e.Until.Before(g.Until) && from(g.Engineer.Sources, prefixes(strings.Join(e.Sources, " ")))
		for _, t := range g.Window.Targets {
			all = all && slices.Contains(e.Targets, t.Name)
		}
		for _, loaded := range slices.Backward(s.disk[:i]) {
			if loaded.Kind == journal.PolicyLoaded {
				all = all && within(g.Window.Targets, s.known[loaded.Digest])
				break
			}
		}
		if all {
			return true
		}
	}
	return false
}

// rests checks the gate when the gateway has nothing left to do.
func (s *simulation) rests() {
	s.do(func() {
		now := s.wall()
		for _, g := range s.tunnel.plan.Grants {
			if !g.Until.After(now) {
				s.t.Errorf("%s: %s has ended at %s, and is in the gate", now, g.ID, g.Until)
			}
			if scope, shut := s.shutFor(g.Engineer); shut {
				s.t.Errorf("%s: %s is in the gate, and %s is shut", now, g.ID, scope)
			}
		}
		for _, sess := range s.gateway.Snapshot().Sessions {
			key := s.tunnel.plan.Policy.Engineer(sess.Vendor + "/" + sess.Engineer).Key
			if end := s.tunnel.plan.Decide(policy.Query{Key: key, Proven: true, Fault: policy.Admitted, Source: sess.Source}, now).Until; !end.Equal(sess.Until) {
				s.t.Errorf("%s: a session of %s until %s, the gate says %s", now, sess.Engineer, sess.Until, end)
			}
		}
		s.flowsOfOneSource(now)
		if s.t.Failed() {
			s.t.Log(s.effects)
		}
		s.effects = nil
	})
	s.requestsAsInTheJournal()
}

// remembers checks that a replay of the journal knows what the gateway knows.
func (s *simulation) remembers() {
	past, err := store.Read(func(yield func(journal.Entry, error) bool) {
		for _, e := range s.durable() {
			if !yield(e, nil) {
				return
			}
		}
	})
	if err != nil {
		s.t.Errorf("replay: %v", err)
	}
	scopes := func(all []policy.ShutRecord) []string {
		names := []string{}
		for _, r := range all {
			names = append(names, fmt.Sprint(r.Scope, r.Keys))
		}
		return names
	}
	snapshot := s.gateway.Snapshot()
	same(s.t, "shut, by the journal", scopes(past.State.Shuts()), scopes(snapshot.Base.Shuts()))
	same(s.t, "policy, by the journal", past.State.Digest(), snapshot.Base.Digest())
	same(s.t, "requests, by the journal", requestTexts(past.State), requestTexts(snapshot.Base))
	s.do(func() {
		for scope := range s.shuts {
			if _, ok := snapshot.Plan.Shut(scope); !ok {
				s.t.Errorf("%s was shut, and is forgotten", scope)
			}
		}
		same(s.t, "shut, by the latch", scopes(s.latch), scopes(snapshot.Base.Shuts()))
	})
	var open []string
	for _, e := range past.Closings(nil) {
		if e.Session != "" {
			open = append(open, "session "+e.Session)
		} else {
			open = append(open, "grant "+e.Grant)
		}
	}
	var held []string
	for _, g := range snapshot.Plan.Grants {
		held = append(held, "grant "+g.ID)
	}
	for _, sess := range snapshot.Sessions {
		held = append(held, "session "+sess.ID)
	}
	slices.Sort(open)
	slices.Sort(held)
	if diff := cmp.Diff(held, open); diff != "" {
		s.t.Errorf("open by the journal (-gateway +journal):\n%s", diff)
	}
}

// accounts checks that what opened in the journal was closed there.
func (s *simulation) accounts() {
	s.shows()
	opened, closed, windows := map[string]int{}, map[string]int{}, map[string]bool{}
	var last time.Time
	for _, e := range s.durable() {
		if e.Time.Before(last) && e.Kind != journal.Recovery {
			s.t.Errorf("the journal's time went back from %s to %s", last, e.Time)
		}
		last = e.Time
		switch e.Kind {
		case journal.SessionOpened:
			opened[e.Session]++
		case journal.SessionClosed:
			closed[e.Session]++
			if !slices.Contains(sessions.Endings(), sessions.Ended(e.Reason)) {
				s.t.Errorf("a session ended by %q", e.Reason)
			}
		case journal.WindowOpened:
			windows[e.Grant] = true
		case journal.WindowClosed:
			delete(windows, e.Grant)
		}
		if len(e.Event) > 0 && !json.Valid(e.Event) {
			s.t.Errorf("an event that is not JSON: %s", e.Event)
		}
	}
	if diff := cmp.Diff(opened, closed); diff != "" {
		s.t.Errorf("sessions in the journal (-opened +closed):\n%s", diff)
	}
	same(s.t, "windows left open in the journal", len(windows), 0)
}
