package evidence

import (
	"slices"
	"strings"
	"time"

	"kidoban/gateway/view"
)

// A session is unusual if it received more than usualMost times the median of the vendor's sessions of
// the usualDays before. With fewer than usualOf of those, it is not compared.
const (
	usualDays = 90 * 24 * time.Hour
	usualMost = 10 // times the median
	usualOf   = 5  // sessions at least
)

// unusual compares sessions with earlier ones: m15.
func (b *monthly) unusual() {
	known := map[string]map[string]bool{} // by engineer: the targets of counted sessions
	var earlier []*Session                // sessions with known byte counts
	for _, s := range b.r.Sessions {
		if !b.of(s.Vendor) {
			continue
		}
		if b.m.has(s.OpenedAt) {
			b.compare(s, known[s.name()], earlier)
		}
		if b.r.Known(s) {
			earlier = append(earlier, s)
		}
		if !s.Count.Counted {
			continue
		}
		if known[s.name()] == nil {
			known[s.name()] = map[string]bool{}
		}
		for _, name := range b.targets(s) {
			known[s.name()][name] = true
		}
	}
}

// targets are the targets that a session used.
func (b *monthly) targets(s *Session) (all []string) {
	allowed := b.r.allowed(s)
	for _, u := range s.Count.Used {
		if name := b.r.named(s, allowed, u); u.Others == 0 && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// compare compares a session with the targets that its engineer, or host, used before; nil: no session was
// counted, so nothing is known to be the first time.
func (b *monthly) compare(s *Session, used map[string]bool, earlier []*Session) {
	first := slices.DeleteFunc(b.targets(s), func(name string) bool { return used == nil || used[name] })
	if len(first) > 0 {
		b.found(view.Say("mismatch_m15", view.Args{"session": s.ID, "engineer": s.name(), "targets": strings.Join(first, ", ")}), of(s, s.Count.At, s.Count.Entry, s.First))
	}
	var before []int64
	for _, o := range earlier {
		if o.Vendor == s.Vendor && o.Last >= 0 && !o.OpenedAt.Before(s.OpenedAt.Add(-usualDays)) {
			before = append(before, o.Count.Received)
		}
	}
	if slices.Sort(before); len(before) < usualOf || !b.r.Known(s) {
		return
	}
	median := before[len(before)/2]
	if len(before)%2 == 0 {
		median = (median + before[len(before)/2-1]) / 2
	}
	if s.Count.Received/usualMost > median {
		b.found(view.Say("mismatch_m15_bytes", view.Args{"session": s.ID, "engineer": s.name(), "received": view.Bytes(uint64(s.Count.Received)), "median": view.Bytes(uint64(median))}),
			of(s, s.Count.At, s.First, s.Count.last(s)))
	}
}

// last is the entry that has the count.
func (c Count) last(s *Session) int64 { return max(c.Entry, s.Last) }
