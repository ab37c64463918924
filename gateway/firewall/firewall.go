package firewall

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// Firewall is the ruleset, and the host around it: it finds the interfaces that
// lead to the policy's targets, and forwards on these as long as the policy
// needs them. Set, Check and Dropped must be called by one goroutine at a time.
type Firewall struct {
	kernel *ruleset
	hints  atomic.Pointer[[]view.Hint]

	plan   *policy.Plan // in force
	dnat   refusing     // since another program rewrites destinations
	astray refusing     // since the host's routes lead elsewhere
	paths  paths        // to the targets of its policy
	back   []view.Hint  // on the way back to its engineers
	looked time.Time    // when they were looked up
	asked  time.Time    // when the way back was asked for; zero: not since the policy came
	sights sights       // the most that the host has had of them at once, or ever
}

// How often routes are looked up anew: the gateway may be up before the
// network is, and routes move.
const (
	routesAgain     = 10 * time.Second
	incompleteAgain = 2 * time.Second
)

// New denies everything and returns when that stands: it replaces a table of
// the same name that a process before us left, in one transaction, so that no
// packet ever meets less than the old table or one that denies everything. It
// fails if a living process owns the table, and without CAP_NET_ADMIN.
//
// It belongs to the network namespace of the calling thread.
func New(o Options) (*Firewall, error) {
	kernel, err := newRuleset(o)
	if err != nil {
		return nil, named(err)
	}
	return &Firewall{kernel: kernel, astray: refusing{lasting: true}}, nil
}

func named(err error) error {
	if err != nil {
		err = fmt.Errorf("firewall: %w", err)
	}
	return err
}

// Set makes the kernel hold a plan: it closes first, then opens, and reads the
// changes back. Live are the outer endpoints of sessions. It must be called
// again when a grant of the plan begins: nothing opens before its time.
//
// After an error the kernel holds as much of it as could be closed and opened;
// Set may be repeated. Elements end on time in any case.
func (f *Firewall) Set(p *policy.Plan, live []netip.AddrPort) error {
	f.plan = nil
	if err := f.kernel.set(p, live); err != nil {
		return named(err)
	}
	f.plan = p
	return named(f.forward())
}

// Check reads the ruleset back where there is reason to. Drift is mended and
// reported. It also renews elements, looks routes up and turns forwarding on
// again. Its error is a fault that cannot be mended here: the gateway then admits
// no engineer.
func (f *Firewall) Check() error {
	if err := f.kernel.check(); err != nil {
		return named(err)
	}
	if err := f.forward(); err != nil {
		return named(err)
	}
	// Nothing opens or closes by it, so that no plan waits for it.
	if f.plan != nil && f.plan.Policy != nil && time.Since(f.asked) >= routesAgain {
		f.asked = time.Now()
		f.back, _ = strayed(f.plan, f.paths.to, f.kernel.options.Interface) // routes that cannot be read are told above
	}
	return nil
}

// Facts reports refused flows, with the reason that the plan gives, and drift.
// Nothing waits for the reader: a fact that finds no room is told later, drift
// piece by piece, and refusals in the Count of the next of their kind.
func (f *Firewall) Facts() <-chan policy.Fact { return f.kernel.outbox.facts }

// forward lets the kernel forward for the plan in force, by the paths to its
// targets. The ruleset knows a path before the kernel forwards by it, and loses it
// before forwarding ends.
func (f *Firewall) forward() error {
	p := f.plan
	if p == nil || p.Policy == nil {
		return nil
	}
	again := routesAgain
	if !f.paths.complete {
		again = incompleteAgain
	}
	if f.paths.policy != p.Policy {
		f.back, f.asked = nil, time.Time{}
	}
	if f.paths.policy != p.Policy || time.Since(f.looked) >= again {
		f.looked = time.Now()
		before := f.paths.to
		f.paths = f.look(p.Policy)
		f.paths.hints = append(f.paths.hints, f.kernel.reserve()...)
		if !maps.EqualFunc(before, f.paths.to, slices.Equal) {
			f.astray.forget() // a few packets go astray until new routes are looked up
		}
	}
	hints := slices.Concat(f.paths.hints, f.kernel.accounts.hints(), f.back, f.dnat.hints(), f.astray.hints())
	defer func() { f.tell(hints) }()
	if err := f.kernel.setPaths(f.paths.to, f.paths.deaf); err != nil {
		return err
	}
	// A plan without grants needs no forwarding yet; its interface may not be
	// there either.
	if len(p.Grants) > 0 {
		err := f.kernel.setForwarding(f.paths.ipv4, f.paths.ipv6)
		if errors.Is(err, errRouterAdvertisements) {
			six := targetNames(p.Policy, func(t *policy.Target) bool { return t.Prefix.Addr().Is6() })
			hints = append(hints, view.Hint{Message: view.Say("no_ipv6", view.Args{"cause": err}), Targets: six})
		} else if err != nil {
			return err
		}
	}
	return nil
}

// look looks the paths to a policy's targets up. Targets have none if the routes
// cannot be read.
func (f *Firewall) look(p *policy.Policy) paths {
	o := f.kernel.options
	r, err := readRouting(p, o.Interface, o.Inside)
	// The default route goes with its interface, or because a host on the wire
	// takes it back.
	f.sights = f.sights.and(r.sights)
	r.sights = f.sights
	if err != nil {
		every := targetNames(p, func(*policy.Target) bool { return true })
		return paths{policy: p, deaf: f.sights.deaf, hints: []view.Hint{{Message: view.Say("routes_unread", view.Args{"cause": err}), Targets: every}}}
	}
	w := pathsTo(p, o.Interface, r)
	f.sights.deaf = w.deaf
	return w
}

// targetNames gives the names of those of a policy's targets.
func targetNames(p *policy.Policy, of func(*policy.Target) bool) (names []string) {
	for _, t := range p.Targets {
		if of(t) {
			names = append(names, t.Name)
		}
	}
	return names
}

// tell keeps the hints, and logs those that are new.
func (f *Firewall) tell(hints []view.Hint) {
	old := f.Hints()
	for _, h := range hints {
		if !slices.ContainsFunc(old, func(o view.Hint) bool { return o.Message.Equal(h.Message) }) {
			f.kernel.options.Logger.Warn(h.Message.String())
		}
	}
	f.hints.Store(&hints)
}

// Hints gives hints about the host for operators. It does not wait.
func (f *Firewall) Hints() []view.Hint {
	if h := f.hints.Load(); h != nil {
		return *h
	}
	return nil
}

// Dropped gives how many packets the ruleset dropped since it was made, by cause.
func (f *Firewall) Dropped() (map[string]uint64, error) {
	packets, err := f.kernel.counters()
	if err != nil {
		return nil, named(err)
	}
	f.dnat.counted(packets["dnat"], func() view.Message { return rewritten(f.kernel.rewriters) })
	f.astray.counted(packets["path"], func() view.Message { return view.Say("sidetracked", nil) })
	return packets, nil
}

// Close denies everything, restores the host's forwarding, and removes the table
// last. If a forwarding switch cannot be restored, the table stays, empty.
func (f *Firewall) Close() error { return named(f.kernel.close()) }
