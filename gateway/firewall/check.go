package firewall

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"kidoban/gateway/clock"
	"kidoban/gateway/policy"
)

// Everything is read back each minute without a reason. While other programs change
// their own rules all the time, the next sweep waits for sweepCost times as long as
// the last one took.
const (
	sweepInterval = time.Minute
	sweepCost     = 10
)

// check is Firewall.Check without paths and forwarding. It reads everything back
// if a ruleset in this network namespace changed, the machine slept, or a minute
// passed. Rules that differ are written anew; elements that should not be there or
// end too late are closed. It also retries facts that found no room.
func (f *ruleset) check() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errClosed
	}
	f.outbox.again()
	boot := clock.Boot()
	slept := clock.Suspended() - f.readBack.suspended
	g, err := f.link.generation()
	if err != nil {
		return err
	}
	since := boot - f.readBack.at
	if slept > time.Second || since > sweepInterval || g != f.readBack.generation && since > sweepCost*f.readBack.took {
		if err := f.sweep(); err != nil {
			return err
		}
	}
	if err := f.apply(); err != nil {
		return err
	}
	return f.copies.err()
}

// sweep reads everything back and mends it.
func (f *ruleset) sweep() error {
	if f.held == nil {
		return f.replace()
	}
	begin := clock.Boot()
	defer func() { f.readBack.took = clock.Boot() - begin }()
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

func (f *ruleset) report(d *driftError) {
	f.outbox.drift(policy.Fact{Kind: policy.Drift, At: time.Now(), Count: len(d.what), Err: d})
}

// verify reads everything back. If there are differences its error is a
// *driftError, and the kernel's elements are on record.
func (f *ruleset) verify() error {
	f.drawn = drawn{}
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
	f.readBack.generation, f.readBack.at, f.readBack.suspended = g, clock.Boot(), clock.Suspended()
	if len(d.what) > 0 {
		return d
	}
	return nil
}

// object is a table, a chain, a rule or a set, as it was written.
type object struct {
	text       string
	attributes []netlink.Attribute
}

// verifyStructure compares the table, its chains, rules and sets.
func (f *ruleset) verifyStructure(d *driftError) error {
	table := map[string]object{"inet " + tableName: {attributes: []netlink.Attribute{be32(unix.NFTA_TABLE_FLAGS, uint32(f.flags))}}}
	chains, rules, sets := map[string]object{}, map[string]object{}, map[string]object{}
	for _, c := range f.held.rules.chains {
		chains[c.name] = object{attributes: c.attributes()}
		for i, r := range c.rules {
			rules[ruleName(i, c.name)] = object{" (" + r.String() + ")", []netlink.Attribute{r.attribute()}}
		}
	}
	for _, s := range f.held.rules.sets {
		sets[s.name] = object{attributes: s.attributes()}
	}
	read := map[string]int{} // rules of a chain
	for _, k := range []struct {
		word    string
		kind    uint16
		name    func([]byte) string
		written map[string]object
		more    []uint16 // kinds of attributes that are compared also where they were not written
	}{
		{"table", unix.NFT_MSG_GETTABLE, func(b []byte) string { return "inet " + stringOf(find(b, unix.NFTA_TABLE_NAME)) }, table, nil},
		{"chain", unix.NFT_MSG_GETCHAIN, func(b []byte) string { return stringOf(find(b, unix.NFTA_CHAIN_NAME)) }, chains,
			[]uint16{unix.NFTA_CHAIN_HOOK, unix.NFTA_CHAIN_POLICY, unix.NFTA_CHAIN_TYPE}},
		{"rule", unix.NFT_MSG_GETRULE, func(b []byte) string {
			chain := stringOf(find(b, unix.NFTA_RULE_CHAIN))
			read[chain]++
			return ruleName(read[chain]-1, chain)
		}, rules, nil},
		{"set", unix.NFT_MSG_GETSET, func(b []byte) string { return stringOf(find(b, unix.NFTA_SET_NAME)) }, sets, nil},
	} {
		dumped, err := f.link.read(k.kind)
		if err != nil {
			return fmt.Errorf("reading each %s: %w", k.word, err)
		}
		for _, b := range dumped {
			name := k.name(b)
			o, ok := k.written[name]
			if !ok {
				d.add("%s %s was not written", k.word, name)
				continue
			}
			delete(k.written, name)
			have, _ := netlink.UnmarshalAttributes(b)
			have = slices.DeleteFunc(have, func(a netlink.Attribute) bool {
				kind := a.Type & kindMask
				return !slices.Contains(k.more, kind) && !slices.ContainsFunc(o.attributes, func(w netlink.Attribute) bool { return w.Type&kindMask == kind })
			})
			if x := differ(marshal(o.attributes...), marshal(have...)); x != "" {
				d.add("%s %s%s: %s", k.word, name, o.text, x)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(k.written)) {
			d.add("%s %s is gone", k.word, name)
		}
		if k.word == "table" && len(d.what) > 0 {
			return nil
		}
	}
	return nil
}

func ruleName(index int, chain string) string { return fmt.Sprintf("%d of chain %s", index+1, chain) }

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
		} else if written.boot <= now {
			ends[key] = written // that it ended is told by changes
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
		lists, err := f.link.read(unix.NFT_MSG_GETSETELEM, text(unix.NFTA_SET_ELEM_LIST_SET, s.name))
		before, after := f.link.asked, clock.Boot()
		if err != nil {
			return nil, fmt.Errorf("reading set %s: %w", s.name, err)
		}
		have := make(map[string]found, len(f.held.ends[s.name]))
		torn := false
		for _, list := range lists {
			for rest, ok := find(list, unix.NFTA_SET_ELEM_LIST_ELEMENTS), true; len(rest) > 0 && ok; {
				var e []byte
				_, e, rest, ok = cut(rest)
				key, one := foundElement(e, before, after)
				_, twice := have[key]
				torn = torn || twice
				have[key] = one
			}
		}
		if !torn {
			if torn, err = f.lacking(s, have); err != nil {
				return nil, err
			}
		}
		if !torn {
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
	replies, err := f.link.ask(elements(unix.NFT_MSG_GETSETELEM, 0, s.name, appendElement(nil, key, 0)))
	after := clock.Boot()
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading set %s: %w", s.name, err)
	}
	for _, m := range replies {
		if e := find(body(m), unix.NFTA_SET_ELEM_LIST_ELEMENTS, unix.NFTA_LIST_ELEM); e != nil {
			_, have := foundElement(e, before, after)
			return &have, nil
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

// foundElement reads an element and its key. The kernel tells the timeout of each
// element that has one, and the rest of it, which may be zero.
func foundElement(e []byte, before, after time.Duration) (string, found) {
	remaining := time.Duration(number(find(e, unix.NFTA_SET_ELEM_EXPIRATION))) * time.Millisecond
	permanent := remaining == 0 && number(find(e, unix.NFTA_SET_ELEM_TIMEOUT)) == 0
	return string(find(e, unix.NFTA_SET_ELEM_KEY, unix.NFTA_DATA_VALUE)), found{permanent, remaining, before, after}
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
	if len(c.structure) > 0 {
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
		if s := f.held.rules.set(e.set); s != nil {
			if err := f.confirmOne(s, e, d); err != nil {
				return err
			}
		}
	}
	if len(d.what) == 0 {
		return nil
	}
	f.uncertain = true
	f.report(d)
	return fmt.Errorf("reading back: %w", d)
}

func (f *ruleset) confirmOne(s *set, c change, d *driftError) error {
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
	all, err := f.link.dump(everywhere(unix.NFT_MSG_GETFLOWTABLE))
	if err != nil {
		return fmt.Errorf("reading flowtables: %w", err)
	}
	return obstacle(all)
}

// everywhere asks for objects of all tables, of this program or not.
func everywhere(kind uint16) netlink.Message {
	m := message(kind, 0)
	m.Data[0] = unix.NFPROTO_UNSPEC
	return m
}

// obstacle names the first flowtable.
func obstacle(flowtables []netlink.Message) error {
	for _, m := range flowtables {
		b := body(m)
		return fmt.Errorf("flowtable %s of table %s moves packets past all forward rules; allowed are none in this network namespace",
			stringOf(find(b, flowtableName)), stringOf(find(b, inTable)))
	}
	return nil
}

// rewriters lists the chains of other programs in which a packet may be given
// another destination before it is routed, as "chain pre of table ip other".
func (f *ruleset) rewriters() ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errClosed
	}
	chains, err := f.link.dump(everywhere(unix.NFT_MSG_GETCHAIN))
	if err != nil {
		return nil, fmt.Errorf("reading chains: %w", err)
	}
	var names []string
	for _, m := range chains {
		c := body(m)
		if hook := find(c, unix.NFTA_CHAIN_HOOK, unix.NFTA_HOOK_HOOKNUM); stringOf(find(c, unix.NFTA_CHAIN_TYPE)) == "nat" && number(hook) == unix.NF_INET_PRE_ROUTING {
			names = append(names, fmt.Sprintf("chain %s of table %s %s", stringOf(find(c, unix.NFTA_CHAIN_NAME)), familyNames[m.Data[0]], stringOf(find(c, inTable))))
		}
	}
	return names, nil
}

// familyNames are those of the families that have NAT, as nft writes them.
var familyNames = map[byte]string{unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_INET: "inet"}
