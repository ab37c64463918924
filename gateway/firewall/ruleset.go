package firewall

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"iter"
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
	renewBefore = farthest / 2           // the rest of its time when an element with a later end is renewed
	shortest    = time.Millisecond       // the kernel takes less for "no timeout"; here it is closed
	tolerance   = 5 * time.Millisecond   // between two readings of two clocks
	tooLate     = 100 * time.Millisecond // by which the kernel's end may be later than ours, jiffies and rounding included
)

// ruleset holds the table. Its methods may be called from any goroutine; one at
// a time has an effect.
type ruleset struct {
	options Options
	outbox  *facts
	copies  *copies
	plan    atomic.Pointer[policy.Plan] // by which refused flows are judged

	mu         sync.Mutex
	link       *link
	flags      nftables.TableFlags // of the table
	held       *held               // the rules in force, as far as this is known
	current    *policy.Plan
	live       []netip.AddrPort
	paths      Paths
	deaf       []string
	readBack   readBack
	drawn      drawn
	uncertain  bool // an answer was lost: the next change begins with a full read-back
	forwarding forwarding
	flows      *connections
	accounts   *accounts
	closed     bool
}

// readBack is the last full reading of the ruleset.
type readBack struct {
	generation uint32        // of the ruleset when all of it was known
	at         time.Duration // boot time
	suspended  time.Duration // how long the machine had slept by then
	took       time.Duration
}

// held is the ruleset in force.
type held struct {
	rules *Rules // its elements are not looked at
	ends  map[string]map[string]end
}

// drawn is the plan of which the kernel holds every element that had begun at an instant. The elements of
// an engineer whose grants stay the same stay too, so hold works out those of the others. After any error,
// and once everything was read back, it works out all.
type drawn struct {
	plan *policy.Plan // nil: it is unknown what the kernel holds
	at   instant
}

// among gives the engineers of whom a plan may have other elements; nil: all. If the wall clock was set, the
// kernel's timers and the plan differ about all.
func (d drawn) among(plan *policy.Plan, now instant) some {
	if d.plan == nil || plan == nil || plan.Policy == nil || plan.Policy != d.plan.Policy {
		return nil
	}
	if step := now.wall.Round(0).Sub(d.at.wall.Round(0)) - (now.boot - d.at.boot); step.Abs() > tolerance {
		return nil
	}
	among := some{}
	for _, e := range plan.Changed(d.plan) {
		among[e.Key] = true
	}
	for _, g := range plan.Grants {
		if g.From.After(d.at.wall) || !g.Until.After(now.wall) { // begun since perhaps, or over
			among[g.Engineer.Key] = true
		}
	}
	for _, f := range slices.Concat(plan.Frozen, d.plan.Frozen) {
		among[f.Grant.Engineer.Key] = true
	}
	return among
}

// end is when an element ends. The kernel's timers run with the boot time, which
// cannot be set.
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

// newRuleset is New without paths and forwarding.
func newRuleset(o Options) (*ruleset, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.LogGroup == 0 {
		o.LogGroup = defaultLogGroup
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l, err := dial()
	if err != nil {
		return nil, err
	}
	f := &ruleset{options: o, link: l, outbox: newFacts(), flags: ownership, forwarding: forwarding{path: o.ForwardingFile, logger: o.Logger}}
	if f.forwarding.here, err = recordHere(); err == nil {
		f.flows, err = openConnections()
	}
	if err != nil {
		l.close()
		return nil, err
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
		return nil, fmt.Errorf("denying everything: %w", explained(err, release()))
	}
	// The host may have learned paths before it refused to.
	if err := forgetPaths(); err != nil {
		o.Logger.Warn("what somebody may have told the host of narrow or better paths counts for up to ten minutes", "err", err)
	}
	// From here on a failure removes the table; forwarding of an earlier process
	// has to be restored before.
	if err := f.forwarding.adopt(); err != nil {
		o.Logger.Warn("what a process before this one changed of the host's forwarding may stay changed", "err", err)
	}
	if f.copies, err = openCopies(o.LogGroup, o.Inspect, f.refused, o.Logger); err != nil {
		return nil, errors.Join(err, f.giveBack())
	}
	f.reserve()
	f.accounts = openAccounts(cmp.Or(o.eventsRoom, eventsRoom), o.Logger)
	f.count()
	return f, nil
}

// forgetPaths has the kernel forget the paths to single addresses that it
// learned from ICMP errors and redirects. Of IPv6 it keeps narrow ones.
func forgetPaths() (err error) {
	for _, family := range []string{"ipv4", "ipv6"} {
		// In a user namespace there is no such file, and without IPv6 no such folder.
		if one := os.WriteFile(sysctls+family+"/route/flush", []byte("1"), 0); !errors.Is(one, fs.ErrNotExist) {
			err = errors.Join(err, one)
		}
	}
	return err
}

// release is the kernel's, such as 6.12-rc1.
func release() string {
	var u unix.Utsname
	_ = unix.Uname(&u) // cannot fail
	return unix.ByteSliceToString(u.Release[:])
}

// oldest is the first kernel that serves. Before 6.3 destroy commands are
// unknown (EINVAL), and up to 6.6.2 one for a missing element failed (ENOENT;
// mended by a7d5a955bfa8 of 6.7).
var oldest = []int{6, 6, 3}

// explained adds the likely cause to an error of the first transaction.
func explained(err error, release string) error {
	is := make([]int, len(oldest))
	_, _ = fmt.Sscanf(release, "%d.%d.%d", &is[0], &is[1], &is[2]) // numbers that are not there are 0
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: another process owns table inet %s, or CAP_NET_ADMIN is missing", err, tableName)
	case (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT)) && slices.Compare(is, oldest) < 0:
		return fmt.Errorf("%w: this kernel is %s; Kidoban needs Linux 6.6.3 or later (destroy commands of nf_tables)", err, release)
	}
	return err
}

// replace replaces the table by one without any element, in one transaction.
func (f *ruleset) replace() error {
	f.held, f.drawn = nil, drawn{}
	f.flows.stale, f.flows.frozen = true, nil // flows may have begun while these rules did not stand
	rules, _ := Ruleset(f.options, nil, nil, nil, f.deaf, time.Time{})
	// Every change of elements destroys some that may be missing. A kernel that
	// cannot do that has to be found now.
	missing := appendElement(nil, string(make([]byte, 8)), 0) // 0.0.0.0:0
	batch := append(changing(&Rules{}, rules), elements(msgDestroyElement, 0, name("live", 4), missing))
	if err := f.link.commit(append(newTable(f.flags), batch...)...); err != nil {
		return err
	}
	f.hasRules(rules)
	if err := f.verify(); err != nil {
		f.held = nil
		return fmt.Errorf("reading back: %w", err)
	}
	return nil
}

// set is Firewall.Set without paths and forwarding.
func (f *ruleset) set(p *policy.Plan, live []netip.AddrPort) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errClosed
	}
	f.current, f.live = p, slices.Clone(live)
	f.accounts.inside(len(live) > 0 || hostsMayEnter(p, time.Now()))
	f.plan.Store(p)
	return f.apply()
}

// setPaths sets the interfaces by which targets are reached, and those in deaf,
// which take no router advertisements. Before the first call nothing passes. Lost
// paths close first. The caller must not change either argument afterwards. After
// an error set and check repeat it.
func (f *ruleset) setPaths(paths Paths, deaf []string) error {
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

var errClosed = errors.New("closed")

// apply makes the kernel hold the current plan.
func (f *ruleset) apply() error {
	if f.held == nil {
		if err := f.replace(); err != nil {
			return fmt.Errorf("denying everything: %w", err)
		}
	}
	if f.uncertain {
		if err := f.mend(false); err != nil { // after a lost answer
			return err
		}
		f.uncertain = false
	}
	plan, refused := f.current, f.findFlowtables()
	if refused != nil {
		plan = nil
	}
	if plan != nil {
		if plan.Policy != nil {
			// Flows to what was no target until now may be there already.
			f.flows.stale = f.accounts.knows(plan.Policy) || f.flows.stale
			f.flows.hosts = f.accounts.hosts.Load()
		}
		// The kernel must forget the flows of an address's last owner before
		// anything opens for the next one.
		if moved := f.flows.moved(plan.Policy); len(moved) > 0 {
			if err := f.hold(without(plan, moved), refused, moved); err != nil {
				return err
			}
			f.flows.took(moved)
			owners := maps.Clone(f.flows.owners)
			f.accounts.engineers.Store(&owners)
		}
	}
	return f.hold(plan, refused, nil)
}

// hold makes the kernel hold a plan, and forget the flows that it closes and
// those of the addresses in coming. refused is an earlier error to return as
// well.
func (f *ruleset) hold(plan *policy.Plan, refused error, coming map[netip.Addr]policy.Key) error {
	if plan != nil && plan.Policy != nil && f.options.masquerades(plan.Policy) {
		f.options.translated = true
	}
	now := read()
	among := f.drawn.among(plan, now)
	var before *Rules
	if among != nil {
		before = ever(f.options, f.drawn.plan, among)
	}
	f.drawn = drawn{}
	rules, left := partly(f.options, plan, f.live, f.paths, f.deaf, now.wall, among)
	refused = errors.Join(refused, left)
	frozen, resumed := f.freeze(plan, rules, coming, now)
	changes := f.held.changes(rules, now, before)
	f.flows.stale = f.flows.stale || changes.ended || len(coming) > 0 || f.flows.thawed(frozen)
	commits := f.link.commits
	f.flows.frozen = nil
	if err := f.carryOut(rules, changes, coming, frozen.and(resumed)); err != nil {
		// It is unknown which chunk took effect.
		f.uncertain = true
		f.flows.stale = true
		return errors.Join(err, refused)
	}
	f.flows.frozen = frozen
	// If another program changed a ruleset too, the generation on record is too
	// low, and the next check reads everything.
	f.readBack.generation += f.link.commits - commits
	err := errors.Join(f.confirm(changes), refused)
	if err == nil {
		f.drawn = drawn{plan, now}
	}
	return err
}

// change is the new end of one element.
type change struct {
	set string
	key string
	end end // zero: it closes
}

// changes lead from the held rules to others. They are carried out in this
// order: shut, moved, structure, opened.
type changes struct {
	shut, moved, opened []change
	structure           []netlink.Message
	ended               bool // a flow is open no longer, or has been closed meanwhile
}

// of gives the elements of a set that are on record: those that before has, if it is a set of engineers and
// before is not nil, else all.
func (h *held) of(s *set, before *Rules) iter.Seq2[string, end] {
	if before == nil || !s.ofEngineers {
		return maps.All(h.ends[s.name])
	}
	return func(yield func(string, end) bool) {
		if had := before.set(s.name); had != nil {
			for key := range had.elements {
				if e, ok := h.ends[s.name][key]; ok && !yield(key, e) {
					return
				}
			}
		}
	}
}

// changes finds the changes that lead to rules. If before is not nil, the rules are about the engineers of
// whom before has all elements that may be on record. Elements of others end as they did.
func (h *held) changes(rules *Rules, now instant, before *Rules) *changes {
	c := &changes{structure: changing(h.rules, rules)}
	for _, s := range h.rules.sets {
		next := rules.set(s.name)
		for key, old := range h.of(s, before) {
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
		slices.SortFunc(list, func(a, b change) int { return cmp.Or(strings.Compare(a.set, b.set), strings.Compare(a.key, b.key)) })
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
		// The same end seems farther away than before. Either it was too far for
		// an element, or the clock was set back, which prolongs nothing.
		return e.far && e.boot-now.boot < renewBefore
	}
}

func (r *Rules) find(chainName string) *chain {
	for _, c := range r.chains {
		if c.name == chainName {
			return c
		}
	}
	return nil
}

// carryOut tells the kernel, in chunks that fit. Conntrack does not forget the flows
// that are kept.
func (f *ruleset) carryOut(rules *Rules, c *changes, coming map[netip.Addr]policy.Key, kept flowEnds) error {
	if err := f.write(c.shut); err != nil {
		return fmt.Errorf("closing: %w", err)
	}
	if f.flows.stale {
		if err := f.flows.forget(coming, f.held.ends, kept); err != nil {
			return err
		}
	}
	if len(c.structure) > 0 {
		if err := f.link.commit(c.structure...); err != nil {
			return fmt.Errorf("changing rules: %w", err)
		}
		f.hasRules(rules)
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

// messageElements is how many elements one message names: an attribute has less
// than 64 kB.
const messageElements = 1 << 9

// rewrites bounds how many chunks are written anew because they took long.
const rewrites = 16

// write sets the ends of elements. Each is destroyed first: before kernel 6.12
// adding an existing element keeps the old end, and deleting one that just ended
// would fail the batch. Timeouts count from the moment of the transaction, so
// each chunk computes them right before it is sent, and is repeated in smaller
// chunks if that made them late.
func (f *ruleset) write(list []change) error {
	size, left := min(f.link.limit/elementSize, chunkElements), rewrites
	for len(list) > 0 {
		chunk := list[:min(size, len(list))]
		now := clock.Boot()
		var batch []netlink.Message
		for rest := chunk; len(rest) > 0; {
			n := 1
			for n < min(len(rest), messageElements) && rest[n].set == rest[0].set {
				n++
			}
			batch = append(batch, setEnds(rest[:n], now)...)
			rest = rest[n:]
		}
		if err := f.link.commit(batch...); err != nil {
			return err
		}
		for _, c := range chunk {
			if c.end.boot == 0 {
				delete(f.held.ends[c.set], c.key)
			} else {
				f.held.ends[c.set][c.key] = c.end
			}
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

// setEnds destroys elements of one set, and adds those that are to stay open.
func setEnds(list []change, now time.Duration) []netlink.Message {
	var destroyed, added []byte
	for _, c := range list {
		destroyed = appendElement(destroyed, c.key, 0)
		if left := c.end.boot - now; left >= shortest {
			added = appendElement(added, c.key, left)
		}
	}
	batch := []netlink.Message{elements(msgDestroyElement, 0, list[0].set, destroyed)}
	if added != nil {
		batch = append(batch, elements(unix.NFT_MSG_NEWSETELEM, netlink.Create, list[0].set, added))
	}
	return batch
}

// changing gives the messages that lead from rules and sets to others. Removed
// sets take their elements with them. The kernel refuses to remove a chain or a set
// to which a rule still leads.
func changing(old, rules *Rules) (batch []netlink.Message) {
	for i, s := range rules.sets {
		if old.set(s.name) == nil {
			batch = append(batch, newSet(s, uint32(i+1)))
		}
	}
	for _, c := range rules.chains {
		if old.find(c.name) == nil {
			batch = append(batch, newChain(c))
		}
	}
	for _, c := range rules.chains {
		if c.differsFrom(old.find(c.name)) {
			batch = append(batch, rewrite(c)...)
		}
	}
	// No chain that stays leads to these any more.
	for _, c := range old.chains {
		if rules.find(c.name) == nil {
			batch = append(batch, clearChain(c.name), deleteChain(c.name))
		}
	}
	for _, s := range old.sets {
		if rules.set(s.name) == nil {
			batch = append(batch, deleteSet(s.name))
		}
	}
	return batch
}

// hasRules notes that the kernel has these rules and sets now.
func (f *ruleset) hasRules(rules *Rules) {
	ends := map[string]map[string]end{}
	for _, s := range rules.sets {
		ends[s.name] = map[string]end{}
		if f.held != nil && f.held.ends[s.name] != nil {
			ends[s.name] = f.held.ends[s.name]
		}
	}
	for _, s := range rules.sets {
		s.elements = nil // they take much room, and ends has them
	}
	f.held = &held{rules, ends}
}

// close is Firewall.Close.
func (f *ruleset) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	err := f.replace() // closes everything at once
	f.accounts.close()
	return errors.Join(err, f.giveBack(), f.copies.close())
}

// giveBack restores the host as it was found, once everything is denied.
func (f *ruleset) giveBack() error {
	err := f.forwarding.restore(func(string) bool { return false })
	if err == nil {
		err = f.link.commit(ours(msgDestroyTable, 0))
	} else {
		err = fmt.Errorf("table inet %s stays and denies what the host would forward: %w; "+
			"start the gateway again and stop it, or turn that back (sysctl -w) and then `nft delete table inet %s`", tableName, err, tableName)
	}
	f.forwarding.unreserve()
	f.forwarding.release()
	f.flows.close()
	return errors.Join(err, f.link.close())
}

// counters gives how many packets were dropped since the table was made, by
// cause. The causes are the same in every answer.
func (f *ruleset) counters() (map[string]uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errClosed
	}
	objects, err := f.link.read(unix.NFT_MSG_GETOBJ)
	if err != nil {
		return nil, fmt.Errorf("counters: %w", err)
	}
	packets := make(map[string]uint64, len(counterNames))
	for _, name := range counterNames {
		packets[cause(name)] = 0
	}
	for _, o := range objects {
		packets[cause(stringOf(find(o, unix.NFTA_OBJ_NAME)))] = number(find(o, unix.NFTA_OBJ_DATA, unix.NFTA_COUNTER_PACKETS))
	}
	return packets, nil
}

// cause is the name of a counter without its beginning.
func cause(counter string) string { return strings.TrimPrefix(counter, "refused_") }
