package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// stage is the lab.T of a probe. Where a test would fail, Run returns an error.
type stage struct {
	cleanups []func()
}

type aborted struct{ error }

func (s *stage) Helper()                        {}
func (s *stage) Cleanup(f func())               { s.cleanups = append(s.cleanups, f) }
func (s *stage) Fatalf(format string, a ...any) { panic(aborted{fmt.Errorf(format, a...)}) }
func (s *stage) Skipf(format string, a ...any)  { s.Fatalf(format, a...) }

// Run probes a gate with a policy, in a process that has called lab.Inside, or lab.Main. An error says that it could not: broken promises are in the result.
func Run(ctx context.Context, p *policy.Policy, c Config) (result Result, err error) {
	s := &stage{}
	defer func() {
		if r := recover(); r != nil {
			end, ok := r.(aborted)
			if !ok {
				panic(r)
			}
			err = end.error
		}
	}()
	defer func() {
		for _, f := range slices.Backward(s.cleanups) {
			f()
		}
	}()
	began := time.Now()
	state, subjects, err := derive(p, began)
	if err != nil {
		return result, err
	}
	if len(subjects) == 0 {
		return result, errors.New("the policy has no engineer: there is nothing to try")
	}
	t, err := newTrials(lab.New(s), state, subjects, c)
	if err != nil {
		return result, err
	}
	defer t.gate.close()
	for _, h := range hours(state, subjects, began) {
		if err := t.hour(ctx, h); err != nil {
			return result, err
		}
	}
	t.leftOut()
	result = Result{Digest: p.Digest, Began: began, Took: time.Since(began).Milliseconds(), Checks: t.checks}
	result.sort()
	return result, nil
}

// trials has the state of one probe.
type trials struct {
	*ground
	gate    *gate
	config  Config
	callers []*caller
	inside  []*inner                   // the callers inside at this hour
	clients map[*caller]*lab.Client    // that are running
	tried   map[*caller]map[Trial]bool // at the hours so far

	plan *policy.Plan // in force

	mu     sync.Mutex
	checks []Check
}

func newTrials(l *lab.Lab, state *policy.State, subjects []*subject, c Config) (*trials, error) {
	p := state.Policy()
	t := &trials{ground: newGround(l, p, c.Interface), config: c, clients: map[*caller]*lab.Client{}, tried: map[*caller]map[Trial]bool{}}
	for _, s := range subjects {
		x := &caller{subject: s, place: len(t.callers), sources: [2]netip.Addr{t.free.source(s.Engineer, false), t.free.source(s.Engineer, true)}}
		t.tried[x] = map[Trial]bool{}
		if both(x.sources) == nil { // its only address is that of another caller
			t.add(x, Check{Trial: Reaches, LeftOut: NoOther})
			continue
		}
		for i, from := range x.sources {
			if from.IsValid() {
				x.outsider[i] = t.free.free(i == 1)
			}
		}
		t.join(x, t.ingress(x))
		t.callers = append(t.callers, x)
	}
	if err := t.awaitNetwork(); err != nil {
		return nil, err
	}
	var err error
	t.gate, err = openGate(t.gateway, t.lan, c)
	return t, err
}

// awaitNetwork waits until packets pass. A new network loses packets of IPv6 for a while.
func (t *trials) awaitNetwork() error {
	ctx, cancel := within(eventually)
	defer cancel()
	hosts := []*lab.Host{t.site}
	to := [][2]netip.Addr{t.near}
	for _, x := range t.callers {
		reached := t.outside
		for i, from := range x.sources {
			if !from.IsValid() {
				reached[i] = netip.Addr{}
			}
		}
		hosts, to = append(hosts, x.host), append(to, reached)
	}
	for i, h := range hosts {
		for _, a := range both(to[i]) {
			err := lab.Wait(ctx, func() error {
				once, end := within(patience)
				defer end()
				_, err := h.Ping(once, a.Addr())
				return err
			})
			if err != nil {
				return fmt.Errorf("the network of the probe does not come up: %w", err)
			}
		}
	}
	return nil
}

// ingress is the interface of the gateway by which a caller comes.
func (t *trials) ingress(x *caller) string {
	if x.Line != nil {
		return x.Line.Interface
	}
	return t.wan
}

// of returns those callers of some subjects that have not tried a trial yet.
func (t *trials) of(subjects []*subject, what Trial) (all []*caller) {
	for _, x := range t.callers {
		if slices.Contains(subjects, x.subject) && !t.tried[x][what] {
			all = append(all, x)
		}
	}
	return all
}

// add adds a check of a caller to the result.
func (t *trials) add(x *caller, c Check) {
	c.Engineer = x.String()
	c.Kept = c.LeftOut != "" || c.Seen == c.Expected
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tried[x][c.Trial] = true
	t.checks = append(t.checks, c)
}

// hour does all trials at an hour of the policy that were not done at an earlier one.
func (t *trials) hour(ctx context.Context, h hour) error {
	t.plan = h.plan.Shifted(time.Since(h.plan.At))
	if err := t.gate.set(t.plan); err != nil {
		return err
	}
	t.gate.forget()
	open, shut := t.of(h.open, Reaches), t.of(h.shut, WrongHour)
	t.together(shut, t.wrongHour)
	t.wrongHourPlain(shut)
	t.together(open, t.strangers)
	if err := ctx.Err(); err != nil {
		return err
	}
	t.together(open, t.enter)
	open = slices.DeleteFunc(open, t.stayedOut)
	if len(open) == 0 {
		return nil
	}
	t.flows(open)
	defer t.leave()
	return errors.Join(t.ends(), ctx.Err())
}

// stayedOut reports whether a caller was not let in. Then no flow can be tried.
func (t *trials) stayedOut(x *caller) bool {
	out := slices.ContainsFunc(t.checks, func(c Check) bool { return c.Engineer == x.String() && c.Trial == Enters && c.Seen != Entry })
	t.tried[x][Reaches] = t.tried[x][Reaches] || out
	return out
}

// together runs a trial for these callers, at once.
func (t *trials) together(all []*caller, trial func(*caller)) {
	var group sync.WaitGroup
	for _, x := range all {
		group.Go(func() { trial(x) })
	}
	group.Wait()
}

// leftOut adds a check for each trial that was left out at all hours.
func (t *trials) leftOut() {
	for _, x := range t.callers {
		switch {
		case len(x.spans) == 0:
			t.add(x, Check{Trial: Reaches, LeftOut: NeverOpen})
		case t.tried[x][Enters] && !t.tried[x][Reaches]:
			t.add(x, Check{Trial: Reaches, LeftOut: NoOther})
		case !t.tried[x][Reaches]:
			t.add(x, Check{Trial: Reaches, LeftOut: OtherTime})
		}
		if !t.tried[x][WrongHour] {
			t.add(x, Check{Trial: WrongHour, LeftOut: AlwaysOpen})
		}
	}
}
