package firewall

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"kidoban/gateway/clock"
	"kidoban/gateway/policy"
)

// sweepInterval is how often everything is read back without a reason.
const sweepInterval = time.Minute

// sweepCost bounds the share of time that reading back may take while other
// programs change their own rules all the time: after a sweep of duration t the
// next one waits for sweepCost times t.
const sweepCost = 10

// check reads the ruleset back where there is reason to: a ruleset in this
// network namespace changed, the machine slept, or a minute passed. Differences
// are drift. They are reported and mended: rules are written anew, elements that
// should not be there or end too late are closed. check also renews elements,
// and retries facts that found no room.
//
// Its error is a fault that cannot be mended here. Then the gateway admits no
// engineer.
func (f *ruleset) check() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errClosed
	}
	f.outbox.again()
	boot := clock.Boot()
	slept := clock.Suspended() - f.suspended
	g, err := f.link.generation()
	if err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	since := boot - f.verified
	if slept > time.Second || since > sweepInterval || g != f.generation && since > sweepCost*f.sweepTook {
		if err := f.sweep(); err != nil {
			return fmt.Errorf("firewall: %w", err)
		}
	}
	if err := f.apply(); err != nil {
		return err
	}
	if err := f.copies.err(); err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	return nil
}

// sweep reads everything back and mends it.
func (f *ruleset) sweep() error {
	begin := clock.Boot()
	defer func() { f.sweepTook = clock.Boot() - begin }()
	if f.held == nil {
		return f.replace()
	}
	return f.mend(true)
}

// mend reads everything back. Changed rules are written anew; the kernel's
// elements are on record then, for apply to correct.
func (f *ruleset) mend(report bool) error {
	err := f.verify()
	var d *driftError
	if !errors.As(err, &d) {
		return err
	}
	if report {
		f.report(d)
	}
	if d.structure {
		return f.replace()
	}
	return nil
}

// driftError lists differences between the kernel's ruleset and ours.
type driftError struct {
	structure bool // rules, sets, chains or the table: nothing but writing them anew helps
	what      []string
}

func (e *driftError) Error() string {
	const most = 8
	if len(e.what) > most {
		return fmt.Sprintf("%s; and %d more", strings.Join(e.what[:most], "; "), len(e.what)-most)
	}
	return strings.Join(e.what, "; ")
}

func (e *driftError) add(format string, args ...any) {
	e.what = append(e.what, fmt.Sprintf(format, args...))
}

// report never blocks.
func (f *ruleset) report(d *driftError) {
	f.outbox.drift(policy.Fact{Kind: policy.Drift, At: time.Now(), Count: len(d.what), Err: d})
}

// verify reads everything back. If there are differences its error is a
// *driftError, and the kernel's elements are on record.
func (f *ruleset) verify() error {
	g, err := f.link.generation()
	if err != nil {
		return err
	}
	d := &driftError{}
	if err := f.verifyStructure(d); err != nil {
		return err
	}
	if len(d.what) > 0 {
		d.structure = true
		return d
	}
	for _, s := range f.held.rules.sets {
		if s.dynamic {
			continue // rules write its elements
		}
		if err := f.verifyElements(s, d); err != nil {
			return err
		}
	}
	f.generation = g
	f.verified = clock.Boot()
	f.suspended = clock.Suspended()
	if len(d.what) > 0 {
		return d
	}
	return nil
}

// verifyStructure compares the table, its chains, rules and sets.
func (f *ruleset) verifyStructure(d *driftError) error {
	there, err := f.compareTable(d)
	if err != nil || !there {
		return err
	}
	for _, compare := range []func(*driftError) error{f.compareChains, f.compareRules, f.compareSets} {
		if err := compare(d); err != nil {
			return err
		}
	}
	return nil
}

// compareTable also reports whether the table is there.
func (f *ruleset) compareTable(d *driftError) (there bool, err error) {
	have, err := f.link.nft.ListTableOfFamily(table.Name, table.Family)
	if errors.Is(err, unix.ENOENT) {
		d.add("table inet %s is gone", tableName)
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the table: %w", err)
	}
	if have.Flags != f.flags {
		d.add("the table has flags %#x, not %#x", have.Flags, f.flags)
	}
	return true, nil
}

func (f *ruleset) compareChains(d *driftError) error {
	var chains []*nftables.Chain
	err := f.link.undisturbed(func() (err error) {
		chains, err = f.link.nft.ListChainsOfTableFamily(table.Family)
		return err
	})
	if err != nil {
		return fmt.Errorf("reading chains: %w", err)
	}
	seen := map[string]bool{}
	for _, k := range chains {
		if k.Table == nil || k.Table.Name != tableName {
			continue
		}
		c := f.held.rules.find(k.Name)
		if c == nil {
			d.add("chain %s was not written", k.Name)
			continue
		}
		seen[k.Name] = true
		if got, want := describe(k), describe(c.kernel()); got != want {
			d.add("chain %s is of %s, not of %s", k.Name, got, want)
		}
	}
	for _, c := range f.held.rules.chains {
		if !seen[c.name] {
			d.add("chain %s is missing", c.name)
		}
	}
	return nil
}

func (f *ruleset) compareRules(d *driftError) error {
	dumped, err := f.read(unix.NFT_MSG_GETRULE, unix.NFTA_RULE_TABLE)
	if err != nil {
		return fmt.Errorf("reading rules: %w", err)
	}
	next := map[string]int{}
	for _, a := range dumped {
		name := stringOf(find(a, unix.NFTA_RULE_CHAIN))
		c, i := f.held.rules.find(name), next[name]
		next[name]++
		if c == nil || i >= len(c.rules) {
			d.add("chain %s: a rule %d was not written", name, i+1)
			continue
		}
		if s := differ(c.rules[i].attribute().Data, find(a, unix.NFTA_RULE_EXPRESSIONS)); s != "" {
			d.add("chain %s: rule %d (%s): %s", name, i+1, c.rules[i], s)
		}
	}
	for _, c := range f.held.rules.chains {
		if next[c.name] < len(c.rules) {
			d.add("chain %s has %d rules, not %d", c.name, next[c.name], len(c.rules))
		}
	}
	return nil
}

func (f *ruleset) compareSets(d *driftError) error {
	dumped, err := f.read(unix.NFT_MSG_GETSET, unix.NFTA_SET_TABLE)
	if err != nil {
		return fmt.Errorf("reading sets: %w", err)
	}
	seen := map[string]bool{}
	for _, a := range dumped {
		name := stringOf(find(a, unix.NFTA_SET_NAME))
		s := f.held.rules.set(name)
		if s == nil {
			d.add("set %s was not written", name)
			continue
		}
		seen[name] = true
		want := s.attributes()
		a = slices.DeleteFunc(a, func(a netlink.Attribute) bool {
			return !slices.ContainsFunc(want, func(w netlink.Attribute) bool { return w.Type&kindMask == a.Type&kindMask })
		})
		if x := differ(marshal(want...), marshal(a...)); x != "" {
			d.add("set %s: %s", name, x)
		}
	}
	for _, s := range f.held.rules.sets {
		if !seen[s.name] {
			d.add("set %s is missing", s.name)
		}
	}
	return nil
}

// describe tells all of a chain that is not its name and its rules.
func describe(c *nftables.Chain) string {
	if c.Hooknum == nil || c.Priority == nil || c.Policy == nil {
		return "no hook"
	}
	return fmt.Sprintf("type %s, hook %d, priority %d, policy %d", c.Type, *c.Hooknum, *c.Priority, *c.Policy)
}

// read dumps our table's objects of a kind, as the kernel writes them; where
// is the attribute that names an object's table.
func (f *ruleset) read(kind, where uint16) ([][]netlink.Attribute, error) {
	replies, err := f.link.dump(message(kind, 0, text(where, tableName)))
	if err != nil {
		return nil, err
	}
	var list [][]netlink.Attribute
	for _, m := range replies {
		if len(m.Data) < 4 || m.Data[0] != unix.NFPROTO_INET {
			continue
		}
		if a := unmarshal(m.Data[4:]); stringOf(find(a, where)) == tableName {
			list = append(list, a)
		}
	}
	return list, nil
}

// forever stands for the end of an element that has none.
const forever = time.Duration(math.MaxInt64)

// verifyElements compares the elements of a set, and puts those of the kernel on
// record.
func (f *ruleset) verifyElements(s *set, d *driftError) error {
	old := f.held.ends[s.name]
	ends := make(map[string]end, len(old))
	have, err := f.readElements(s)
	if err != nil {
		return err
	}
	for key, e := range have {
		written, known := old[key]
		ends[key] = written
		if !known {
			d.add("set %s: %s was not written", s.name, s.kind.text(key))
		} else if word := e.drift(written); word != "" {
			d.add("set %s: %s %s", s.name, s.kind.text(key), word)
		} else {
			continue
		}
		// The origin of this end is unknown, so the plan's end replaces it.
		learned := end{boot: forever}
		if !e.permanent {
			learned.boot = e.after + e.remaining
		}
		ends[key] = learned
	}
	now := clock.Boot()
	for key, written := range old {
		if _, ok := ends[key]; ok {
			continue
		}
		// An element at its end may be there or not.
		if written.boot > now+time.Second {
			d.add("set %s: %s is missing", s.name, s.kind.text(key))
		}
		f.flows.stale = f.flows.stale || s.holdsFlows()
	}
	f.held.ends[s.name] = ends
	return nil
}

// readElements gives the elements of a set by key.
//
// The kernel remembers how far a dump went by counting, so while it resizes
// the hash table of a set that just grew, a dump leaves elements out and
// repeats others. Such a dump is known by elements that it lacks and that are
// there when asked for by name.
func (f *ruleset) readElements(s *set) (map[string]found, error) {
	for range readAttempts {
		var elements []nftables.SetElement
		var before, after time.Duration
		err := f.link.undisturbed(func() (err error) {
			before = clock.Boot()
			elements, err = f.link.nft.GetSetElements(s.kernel())
			after = clock.Boot()
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("reading set %s: %w", s.name, err)
		}
		have := make(map[string]found, len(elements))
		repeated := false
		for _, e := range elements {
			_, twice := have[string(e.Key)]
			repeated = repeated || twice
			have[string(e.Key)] = foundElement(e, before, after)
		}
		if !repeated {
			if repeated, err = f.lacking(s, have); err != nil {
				return nil, err
			}
		}
		if !repeated {
			return have, nil
		}
		// Resizing takes milliseconds.
		time.Sleep(20 * time.Millisecond)
	}
	return nil, fmt.Errorf("reading set %s: each of %d dumps was torn", s.name, readAttempts)
}

// lacking reports whether a dump left out an element that is there.
func (f *ruleset) lacking(s *set, have map[string]found) (bool, error) {
	asked := 0
	for key := range f.held.ends[s.name] {
		if _, ok := have[key]; ok {
			continue
		}
		switch e, err := f.readElement(s, key); {
		case err != nil:
			return false, err
		case e != nil:
			return true, nil
		}
		// A torn dump lacks many, all of them there.
		if asked++; asked == 16 {
			break
		}
	}
	return false, nil
}

// readElement gives one element, nil if it is not there.
func (f *ruleset) readElement(s *set, key string) (*found, error) {
	before := clock.Boot()
	elements, err := f.link.nft.FindSetElements(s.kernel(), []nftables.SetElement{{Key: []byte(key)}})
	after := clock.Boot()
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading set %s: %w", s.name, err)
	}
	for _, e := range elements {
		if string(e.Key) == key {
			found := foundElement(e, before, after)
			return &found, nil
		}
	}
	return nil, nil
}

// found is an element as the kernel has it.
type found struct {
	permanent     bool          // it has no end
	remaining     time.Duration // from some instant between before and after
	before, after time.Duration // boot times of asking and of the answer
}

// foundElement reads an element. The kernel tells the timeout of each element
// that has one, and the rest of it, which may be zero.
func foundElement(e nftables.SetElement, before, after time.Duration) found {
	return found{permanent: e.Timeout == 0 && e.Expires == 0, remaining: e.Expires, before: before, after: after}
}

// drift says how an element ends otherwise than was written, or nothing.
func (e found) drift(written end) string {
	switch {
	case e.permanent:
		return "has no end"
	case e.before+e.remaining > written.boot+tooLate:
		return fmt.Sprintf("ends %v too late", (e.before + e.remaining - written.boot).Round(time.Millisecond))
	case e.after+e.remaining < written.boot-time.Second:
		return fmt.Sprintf("ends %v too early", (written.boot - e.after - e.remaining).Round(time.Millisecond))
	}
	return ""
}

// confirmOneByOne is how many changes are read back one by one; of more,
// whole sets are.
const confirmOneByOne = 1024

// confirm reads the changes back.
func (f *ruleset) confirm(c *changes) error {
	d := &driftError{}
	if c.structure {
		if err := f.verifyStructure(d); err != nil {
			return err
		}
	}
	all := slices.Concat(c.shut, c.moved, c.opened)
	if len(all) > confirmOneByOne {
		touched := map[string]bool{}
		for _, e := range all {
			touched[e.set] = true
		}
		for _, s := range f.held.rules.sets {
			if touched[s.name] {
				if err := f.verifyElements(s, d); err != nil {
					return err
				}
			}
		}
		all = nil
	}
	for _, e := range all {
		if err := f.confirmOne(e, d); err != nil {
			return err
		}
	}
	if len(d.what) == 0 {
		return nil
	}
	f.uncertain = true
	f.report(d)
	return fmt.Errorf("reading back: %w", d)
}

func (f *ruleset) confirmOne(c change, d *driftError) error {
	s := f.held.rules.set(c.set)
	if s == nil {
		return nil
	}
	e, err := f.readElement(s, c.key)
	switch {
	case err != nil:
		return err
	case e == nil && c.end.boot > clock.Boot()+time.Second:
		d.add("set %s: %s is missing", c.set, s.kind.text(c.key))
	case e == nil:
	case c.end.boot == 0:
		d.add("set %s: %s is still there", c.set, s.kind.text(c.key))
	default:
		if word := e.drift(c.end); word != "" {
			d.add("set %s: %s %s", c.set, s.kind.text(c.key), word)
		}
	}
	return nil
}

// findFlowtables refuses hosts that move packets past the forward chain: a
// flow that any table offloads outlives its element.
func (f *ruleset) findFlowtables() error {
	var all []*nftables.Flowtable
	err := f.link.undisturbed(func() error {
		all = nil
		tables, err := f.link.nft.ListTables()
		if err != nil {
			return err
		}
		for _, t := range tables {
			flowtables, err := f.link.nft.ListFlowtables(t)
			if err != nil {
				return fmt.Errorf("of table %s: %w", t.Name, err)
			}
			all = append(all, flowtables...)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading flowtables: %w", err)
	}
	return obstacle(all)
}

// obstacle names the first flowtable.
func obstacle(flowtables []*nftables.Flowtable) error {
	if len(flowtables) == 0 {
		return nil
	}
	return fmt.Errorf("flowtable %s of table %s moves packets past all forward rules; allowed are none in this network namespace",
		flowtables[0].Name, flowtables[0].Table.Name)
}

// rewriters lists the chains of other programs in which a packet may be given
// another destination before it is routed, as "chain pre of table ip other".
func (f *ruleset) rewriters() ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errClosed
	}
	var names []string
	err := f.link.undisturbed(func() error {
		names = nil
		chains, err := f.link.nft.ListChains()
		for _, c := range chains {
			if c.Type == nftables.ChainTypeNAT && c.Table != nil && c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookPrerouting {
				names = append(names, fmt.Sprintf("chain %s of table %s %s", c.Name, familyNames[c.Table.Family], c.Table.Name))
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("firewall: reading chains: %w", err)
	}
	return names, nil
}

// familyNames are those of the families that have NAT, as nft writes them.
var familyNames = map[nftables.TableFamily]string{nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet"}
