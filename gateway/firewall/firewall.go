package firewall

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"kidoban/gateway/clock"
	"kidoban/gateway/policy"
)

// Timeouts of elements. The kernel counts in jiffies of up to 10 ms.
const (
	farthest    = 24 * time.Hour         // no element lives longer without being renewed
	renewBefore = farthest / 2           // what is left when an element with a later end is renewed
	shortest    = time.Millisecond       // the kernel takes less for "no timeout"; here it is closed
	tolerance   = 5 * time.Millisecond   // between two readings of two clocks
	tooLate     = 100 * time.Millisecond // by which the kernel's end may be later than ours, jiffies and rounding included
)

// Firewall holds the table. Its methods may be called from any goroutine;
// one at a time has an effect.
type Firewall struct {
	options Options
	reports *reports
	copies  *copies
	plan    atomic.Pointer[policy.Plan] // by which refused flows are judged

	mu         sync.Mutex
	link       *link
	flags      nftables.TableFlags // of the table
	held       *held               // what is in force, as far as we know
	current    *policy.Plan
	live       []netip.AddrPort
	paths      Paths
	deaf       []string
	generation uint32        // of the ruleset when we last knew all of it
	verified   time.Duration // boot time of the last full read-back
	suspended  time.Duration // how long the machine had slept by then
	sweepTook  time.Duration
	uncertain  bool // an answer was lost: the next change begins with a full read-back
	forwarding forwarding
	flows      *connections
	closed     bool
}

// held is the ruleset in force.
type held struct {
	rules *Rules // its elements are not looked at
	ends  map[string]map[string]end
}

// end is when an element ends. The kernel's timers run with the boot time,
// which nobody can set.
type end struct {
	wall time.Time     // as the plan has it
	boot time.Duration // CLOCK_BOOTTIME; never more than farthest ahead when it was written
	far  bool          // wall was farther ahead than that
}

// instant is one moment on both clocks.
type instant struct {
	wall time.Time
	boot time.Duration
}

// read reads both clocks without much time between.
func read() instant {
	wall, boot := clock.Source{Wall: time.Now, Boot: clock.Boot}.Read()
	return instant{wall, boot}
}

// New denies everything and returns when that stands: it replaces a table of
// the same name that a process before us left, in one transaction, so that no
// packet ever meets less than the old table or one that denies everything. It
// fails if a living process owns the table, and without CAP_NET_ADMIN.
//
// It belongs to the network namespace of the calling thread.
func New(o Options) (*Firewall, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("firewall: %w", err)
	}
	if o.LogGroup == 0 {
		o.LogGroup = defaultLogGroup
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l, err := dial()
	if err != nil {
		return nil, fmt.Errorf("firewall: %w", err)
	}
	f := &Firewall{options: o, link: l, reports: newReports(), flags: ownership, forwarding: forwarding{path: o.ForwardingFile, logger: o.Logger}}
	if f.forwarding.here, err = recordHere(); err != nil {
		l.close()
		return nil, fmt.Errorf("firewall: %w", err)
	}
	if f.flows, err = openConnections(); err != nil {
		l.close()
		return nil, fmt.Errorf("firewall: %w", err)
	}
	err = f.replace()
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		// Kernels before 6.9 know no persist. Owner alone would take the table
		// away with the process, so they get neither.
		o.Logger.Warn("this kernel cannot keep a table for its owner alone; anyone who may change nftables can empty it, and that is seen only afterwards", "err", err)
		f.flags = 0
		err = f.replace()
	}
	if err != nil {
		f.flows.close()
		l.close()
		return nil, fmt.Errorf("firewall: denying everything: %w", explained(err, release()))
	}
	// What the host was told before is not refused any more.
	if err := forgetPaths(); err != nil {
		o.Logger.Warn("what somebody may have told the host of narrow or better paths counts for up to ten minutes", "err", err)
	}
	// From here on a failure takes the table away, and before that what a
	// process before this one left forwarding behind its own.
	if err := f.forwarding.adopt(); err != nil {
		o.Logger.Warn("what a process before this one changed of the host's forwarding may stay changed", "err", err)
	}
	// Else every opening would fail.
	if err := f.destroyMissing(); err != nil {
		return nil, errors.Join(fmt.Errorf("firewall: destroying what is not there: %w", explained(err, release())), f.giveBack())
	}
	if f.copies, err = openCopies(o.LogGroup, f.refused, o.Logger); err != nil {
		return nil, errors.Join(fmt.Errorf("firewall: %w", err), f.giveBack())
	}
	return f, nil
}

// forgetPaths has the kernel forget what ICMP errors and redirects told it of
// the way to single addresses. Of IPv6 it keeps narrow ways.
func forgetPaths() error {
	var failures []error
	for _, family := range []string{"ipv4", "ipv6"} {
		// In a user namespace there is no such file, and without IPv6 no such folder.
		if err := os.WriteFile(sysctls+family+"/route/flush", []byte("1"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

// destroyMissing destroys an element that is not there, as every change of
// elements does.
func (f *Firewall) destroyMissing() error {
	missing := nftables.SetElement{Key: make([]byte, 8)} // 0.0.0.0:0
	if err := f.link.nft.SetDestroyElements(f.held.rules.set(name("live", 4)).kernel(), []nftables.SetElement{missing}); err != nil {
		return err
	}
	return f.link.flush()
}

// release is that of the kernel.
func release() string {
	var u unix.Utsname
	_ = unix.Uname(&u) // fails only if it were not told where to
	return unix.ByteSliceToString(u.Release[:])
}

// oldest is the first kernel that has what is needed. Before 6.3 destroy
// commands are messages that it does not know (EINVAL), and up to 6.6.2 one for
// an element that is not there failed (ENOENT; mended by a7d5a955bfa8 of 6.7).
var oldest = []int{6, 6, 3}

// explained says what may keep a kernel of this release from taking the table.
func explained(err error, release string) error {
	is := make([]int, len(oldest))
	_, _ = fmt.Sscanf(release, "%d.%d.%d", &is[0], &is[1], &is[2]) // of 6.12-rc1 what there is
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: another process owns table inet %s, or CAP_NET_ADMIN is missing", err, tableName)
	case (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT)) && slices.Compare(is, oldest) < 0:
		return fmt.Errorf("%w: this kernel is %s; Kidoban needs Linux 6.6.3 or later (destroy commands of nf_tables)", err, release)
	}
	return err
}

// Facts reports refused flows, with the reason that the plan gives, and drift.
// Nothing waits for who reads them: what finds no room is told later, drift
// piece by piece, and refusals in the Count of the next of their kind.
func (f *Firewall) Facts() <-chan policy.Fact { return f.reports.facts }

// Initiations are the WireGuard handshake initiations among what the kernel
// refused at the WireGuard port, at most 50 a second. One whose source the
// plan lists came faster than the source's rate.
func (f *Firewall) Initiations() <-chan Initiation { return f.copies.initiations }

// replace puts a table without any element in place of whatever there is: in
// one transaction a foundation that denies everything, then the rest of the
// rules, which open nothing.
func (f *Firewall) replace() error {
	f.held = nil
	f.flows.stale = true // flows may have begun while these rules did not stand
	rules, _ := Ruleset(f.options, nil, nil, nil, f.deaf, time.Time{})
	foundation := rules.foundation()
	nft := f.link.nft
	nft.DestroyTable(table)
	nft.AddTable(&nftables.Table{Name: table.Name, Family: table.Family, Flags: f.flags})
	for _, c := range counterNames {
		nft.AddObject(&nftables.CounterObj{Table: table, Name: c})
	}
	for _, c := range foundation.chains {
		nft.AddChain(c.kernel())
	}
	for _, c := range foundation.chains {
		for _, r := range c.rules {
			nft.AddRule(r.kernel(c))
		}
	}
	if err := f.link.flush(); err != nil {
		return err
	}
	f.held = &held{rules: foundation}
	if err := f.restructure(rules); err != nil {
		f.held = nil
		return fmt.Errorf("completing the rules: %w", err)
	}
	if err := f.verify(); err != nil {
		f.held = nil
		return fmt.Errorf("reading back: %w", err)
	}
	return nil
}

// Set makes the kernel hold a plan: what it closes first, then what it opens.
// Live are the outer endpoints of sessions. It may be called again with the
// same plan, and must be called when a grant of the plan begins: nothing
// opens before its time. What changed is read back before Set returns.
//
// After an error what is in force is what could be closed and opened; asking
// again may help. Elements end on time in any case.
func (f *Firewall) Set(p *policy.Plan, live []netip.AddrPort) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errClosed
	}
	f.current, f.live = p, slices.Clone(live)
	f.plan.Store(p)
	return f.apply()
}

// SetPaths tells by which interfaces targets are reached now: what is sent
// from the tunnel to a target leaves by no other, and what comes of its flows
// is taken from no other. Until the first call nothing passes. What is no path
// any more closes first, and is read back as with Set. By the interfaces in
// deaf the host hears no router advertisements. The caller leaves both as they
// are from then on.
//
// After an error Set or Check, which do it again, may help.
func (f *Firewall) SetPaths(paths Paths, deaf []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return errClosed
	case maps.EqualFunc(f.paths, paths, slices.Equal) && slices.Equal(f.deaf, deaf):
		return nil
	}
	f.paths, f.deaf = paths, deaf
	return f.apply()
}

var errClosed = errors.New("firewall: closed")

// apply makes the kernel hold the current plan.
func (f *Firewall) apply() error {
	if f.held == nil {
		if err := f.replace(); err != nil {
			return fmt.Errorf("firewall: denying everything: %w", err)
		}
	}
	if f.uncertain {
		if err := f.learn(); err != nil {
			return fmt.Errorf("firewall: %w", err)
		}
		f.uncertain = false
	}
	plan, refused := f.current, f.findFlowtables()
	if refused != nil {
		plan = nil
	}
	if plan != nil {
		// Nothing opens for who has a tunnel address now before the kernel has
		// forgotten the flows of who had it before.
		if moved := f.flows.moved(plan.Policy); len(moved) > 0 {
			if err := f.hold(without(plan, moved), refused, moved); err != nil {
				return err
			}
			f.flows.took(moved)
		}
	}
	return f.hold(plan, refused, nil)
}

// hold makes the kernel hold a plan, and forget the flows that it closes, and
// those of the tunnel addresses that are coming to others. What was refused
// before is told as well.
func (f *Firewall) hold(plan *policy.Plan, refused error, coming map[netip.Addr]policy.Key) error {
	if plan != nil && plan.Policy != nil && f.options.masquerades(plan.Policy) {
		f.options.translated = true
	}
	rules, left := Ruleset(f.options, plan, f.live, f.paths, f.deaf, time.Now())
	refused = errors.Join(refused, left)
	changes := f.held.changes(rules, read())
	f.flows.stale = f.flows.stale || changes.ended || len(coming) > 0
	commits := f.link.commits
	if err := f.carryOut(rules, changes, coming); err != nil {
		// Nobody knows which chunk took effect.
		f.uncertain = true
		return fmt.Errorf("firewall: %w", errors.Join(err, refused))
	}
	// If somebody else changed a ruleset as well, the generation on record
	// stays behind, and the next Check reads everything.
	f.generation += f.link.commits - commits
	if err := errors.Join(f.confirm(changes), refused); err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	return nil
}

// change is what happens to one element.
type change struct {
	set string
	key string
	end end // zero: it closes
}

// changes is the way from what is held to rules, in the order in which it is
// gone: shut, moved, structure, opened.
type changes struct {
	shut, moved, opened []change
	structure           bool
	ended               bool // a flow is open no longer, or has been closed meanwhile
}

// changes finds what must be done to hold rules.
func (h *held) changes(rules *Rules, now instant) *changes {
	c := &changes{structure: h.structureDiffers(rules)}
	for _, s := range h.rules.sets {
		next := rules.set(s.name)
		for key, old := range h.ends[s.name] {
			if old.boot <= now.boot {
				// The kernel let it go by itself.
				delete(h.ends[s.name], key)
				c.ended = c.ended || s.holdsFlows()
				continue
			}
			if next == nil {
				continue // it goes with its set
			}
			wall, ok := next.elements[key]
			left := wall.Sub(now.wall)
			switch {
			case !ok || left < shortest:
				c.shut = append(c.shut, change{set: s.name, key: key})
				c.ended = c.ended || s.holdsFlows()
			case old.renewed(wall, left, now):
				c.moved = append(c.moved, change{s.name, key, ending(wall, left, now)})
			}
		}
	}
	for _, s := range rules.sets {
		for key, wall := range s.elements {
			if _, ok := h.ends[s.name][key]; ok {
				continue
			}
			if left := wall.Sub(now.wall); left >= shortest {
				c.opened = append(c.opened, change{s.name, key, ending(wall, left, now)})
			}
		}
	}
	for _, list := range [][]change{c.shut, c.moved, c.opened} {
		slices.SortFunc(list, func(a, b change) int {
			if d := strings.Compare(a.set, b.set); d != 0 {
				return d
			}
			return strings.Compare(a.key, b.key)
		})
	}
	return c
}

func ending(wall time.Time, left time.Duration, now instant) end {
	return end{wall, now.boot + min(left, farthest), left > farthest}
}

// renewed reports whether an element must be written anew to end in left.
func (e end) renewed(wall time.Time, left time.Duration, now instant) bool {
	due := now.boot + left
	switch {
	case due < e.boot-tolerance:
		return true
	case due <= e.boot+tolerance:
		return false
	case wall.After(e.wall):
		// A later end: at once if we can tell the kernel, else with the renewal.
		return left <= farthest || e.boot-now.boot < renewBefore
	default:
		// The same end seems farther away than it was. Either it was beyond
		// what an element may live, or the clock was set back, and that
		// prolongs nothing.
		return e.far && e.boot-now.boot < renewBefore
	}
}

func (h *held) structureDiffers(rules *Rules) bool {
	if !slices.EqualFunc(h.rules.sets, rules.sets, func(a, b *set) bool { return a.name == b.name }) {
		return true
	}
	return len(h.rules.chains) != len(rules.chains) ||
		slices.ContainsFunc(rules.chains, func(c *chain) bool { return c.differsFrom(h.rules.find(c.name)) })
}

func (r *Rules) find(chainName string) *chain {
	for _, c := range r.chains {
		if c.name == chainName {
			return c
		}
	}
	return nil
}

// carryOut tells the kernel, in chunks that fit.
func (f *Firewall) carryOut(rules *Rules, c *changes, coming map[netip.Addr]policy.Key) error {
	if err := f.write(c.shut); err != nil {
		return fmt.Errorf("closing: %w", err)
	}
	if f.flows.stale {
		if err := f.flows.forget(coming, f.held.ends); err != nil {
			return err
		}
	}
	if c.structure {
		if err := f.restructure(rules); err != nil {
			return fmt.Errorf("changing rules: %w", err)
		}
	}
	if err := f.write(c.moved); err != nil {
		return fmt.Errorf("moving ends: %w", err)
	}
	if err := f.write(c.opened); err != nil {
		return fmt.Errorf("opening: %w", err)
	}
	return nil
}

// elementSize is the most that one element takes in a batch that destroys
// and adds it, in bytes: twice two headers and a key of 40 bytes, and a
// timeout.
const elementSize = 128

// chunkElements is how many elements change in one transaction at first.
// Their ends are as much too late as the transaction takes, which is some
// milliseconds unless the machine is busy.
const chunkElements = 1 << 11

// rewrites bounds how many chunks are written anew because they took long.
const rewrites = 16

// write makes elements end as the changes say. Each is destroyed first:
// before kernel 6.12 adding what is there leaves the old end, and deleting
// what just ended would fail the batch. Timeouts count from when the kernel
// gets to them, so each chunk works them out right before it is sent, and is
// written anew, in smaller chunks, if that took so long that they are late.
func (f *Firewall) write(list []change) error {
	size, left := min(f.link.limit/elementSize, chunkElements), rewrites
	for len(list) > 0 {
		chunk := list[:min(size, len(list))]
		now := clock.Boot()
		for rest := chunk; len(rest) > 0; {
			n := 1
			for n < len(rest) && rest[n].set == rest[0].set {
				n++
			}
			if err := f.queue(rest[:n], now); err != nil {
				return err
			}
			rest = rest[n:]
		}
		if err := f.link.flush(); err != nil {
			return err
		}
		for _, c := range chunk {
			f.note(c)
		}
		opens := chunk[0].end.boot > 0
		if took := clock.Boot() - now; opens && took > tooLate/2 && left > 0 {
			size, left = max(size/2, 1), left-1
			continue
		}
		list = list[len(chunk):]
	}
	return nil
}

// queue prepares changes to one set. nft takes a timeout of nothing for none,
// and one of less than a millisecond for nothing.
func (f *Firewall) queue(list []change, now time.Duration) error {
	var destroyed, added []nftables.SetElement
	for _, c := range list {
		destroyed = append(destroyed, nftables.SetElement{Key: []byte(c.key)})
		if left := c.end.boot - now; left >= shortest {
			added = append(added, nftables.SetElement{Key: []byte(c.key), Timeout: left})
		}
	}
	s := f.held.rules.set(list[0].set).kernel()
	if err := f.link.nft.SetDestroyElements(s, destroyed); err != nil {
		return err
	}
	return f.link.nft.SetAddElements(s, added)
}

func (f *Firewall) note(c change) {
	ends := f.held.ends[c.set]
	if c.end.boot == 0 {
		delete(ends, c.key)
	} else {
		ends[c.key] = c.end
	}
}

// restructure changes rules and sets, in one transaction but for what nft
// cannot write: before it come new sets with limits, which are empty; after
// it, rules that only rewrite. Sets that are gone take their elements with
// them.
func (f *Firewall) restructure(rules *Rules) error {
	old, nft := f.held.rules, f.link.nft
	var plain []*set
	var before, after []netlink.Message
	for _, s := range rules.sets {
		switch {
		case old.set(s.name) != nil:
		case s.limited():
			before = append(before, newSet(s, uint32(len(before)+1)))
		default:
			plain = append(plain, s)
		}
	}
	if err := f.link.commit(before...); err != nil {
		return err
	}
	queued := false
	for _, s := range plain {
		nft.AddSet(s.kernel(), nil) // its error is Flush's as well
		queued = true
	}
	for _, c := range old.chains {
		if rules.find(c.name) == nil {
			nft.FlushChain(c.kernel())
			nft.DelChain(c.kernel())
			queued = true
		}
	}
	for _, c := range rules.chains {
		if old.find(c.name) == nil {
			nft.AddChain(c.kernel())
			queued = true
		}
		switch {
		case !c.differsFrom(old.find(c.name)):
		case c.byHand():
			after = append(after, clearChain(c.name))
			for _, r := range c.rules {
				after = append(after, newRule(c, r))
			}
		default:
			nft.FlushChain(c.kernel())
			for _, r := range c.rules {
				nft.AddRule(r.kernel(c))
			}
			queued = true
		}
	}
	for _, s := range old.sets {
		if rules.set(s.name) == nil {
			nft.DelSet(s.kernel())
			queued = true
		}
	}
	if queued {
		if err := f.link.flush(); err != nil {
			return err
		}
	}
	if err := f.link.commit(after...); err != nil {
		return err
	}
	ends := map[string]map[string]end{}
	for _, s := range rules.sets {
		if ends[s.name] = f.held.ends[s.name]; ends[s.name] == nil {
			ends[s.name] = map[string]end{}
		}
	}
	f.held = &held{rules, ends}
	return nil
}

// CloseAll closes everything at once, in one transaction, and forgets the
// plan: nothing opens before the next Set.
func (f *Firewall) CloseAll() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errClosed
	}
	f.current, f.live = nil, nil
	f.plan.Store(nil)
	return f.closeAll()
}

func (f *Firewall) closeAll() error {
	f.flows.stale = true
	if f.held != nil {
		for _, s := range f.held.rules.sets {
			f.link.nft.FlushSet(s.kernel())
		}
		if f.link.flush() == nil {
			for _, s := range f.held.rules.sets {
				clear(f.held.ends[s.name])
			}
			return f.verify()
		}
	}
	if err := f.replace(); err != nil {
		f.uncertain = true
		return fmt.Errorf("firewall: closing everything: %w", err)
	}
	return nil
}

// Close denies everything, restores the host's forwarding, and removes the
// table last. If something stays forwarded, so does the table, empty: the host
// would forward for everybody else.
func (f *Firewall) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	err := f.closeAll()
	return errors.Join(err, f.giveBack(), f.copies.close())
}

// giveBack restores the host as it was found, once everything is denied.
func (f *Firewall) giveBack() error {
	err := f.forwarding.restore(func(string) bool { return false })
	if err == nil {
		f.link.nft.DestroyTable(table)
		err = f.link.flush()
	} else {
		err = fmt.Errorf("firewall: table inet %s stays and denies what the host would forward: %w; "+
			"start the gateway again and stop it, or turn that back (sysctl -w) and then `nft delete table inet %s`", tableName, err, tableName)
	}
	f.forwarding.release()
	return errors.Join(err, f.flows.close(), f.link.close())
}

// Counter is what a rule counted since the table was made.
type Counter struct{ Packets, Bytes uint64 }

// Counters gives what was dropped, by cause. The causes are the same in
// every answer.
func (f *Firewall) Counters() (map[string]Counter, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errClosed
	}
	counters := make(map[string]Counter, len(counterNames))
	err := f.link.undisturbed(func() error {
		for _, name := range counterNames {
			counters[name] = Counter{}
		}
		objects, err := f.link.nft.GetObjects(table)
		for _, o := range objects {
			if c, ok := o.(*nftables.CounterObj); ok {
				counters[c.Name] = Counter{c.Packets, c.Bytes}
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("firewall: counters: %w", err)
	}
	return counters, nil
}
