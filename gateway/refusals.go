package gateway

import (
	"cmp"
	"encoding/hex"
	"maps"
	"net/netip"
	"slices"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

type refusalKey struct {
	reason   policy.Reason
	engineer string
	source   netip.Addr
	target   string
}

// room is where a refusal finds its place: those of handshakes and of flows
// of each engineer in rooms of their own, all others in that of strangers. So
// nobody pushes anybody else out: not a stranger who sends in many names an
// engineer whose key was stolen, not the scan of one engineer another, and
// not an engineer's own flows a stranger who has the same key.
type room struct {
	engineer string // vendor/engineer, proven; empty: strangers
	flow     bool
}

func (k refusalKey) room() room { return room{k.engineer, k.engineer != "" && k.target != ""} }

// Bounds that keep a flood from filling memory or disk.
const (
	strangersKept = 512  // summaries kept for `refusals` of strangers; in every room the oldest goes first
	roomKept      = 16   // of one room of an engineer
	engineersKept = 2048 // of all engineers' rooms; the fullest gives up first, of equals the one with the oldest

	// Entries about refusals in the journal a minute; the rest is one summed
	// entry. What strangers and flows leave is at least a quarter, for
	// handshakes that engineers' keys were used for.
	refusalsRecorded  = 64
	strangersRecorded = 24
	flowsRecorded     = 24
)

// freshRefusal counts since the last entry about its key.
type freshRefusal struct {
	view.Refusal
	known bool      // the journal had an entry about it since it was last silent for a minute
	told  time.Time // when the last of these was due
	times int       // how many these are
	// key and timestamp are kept for a replay, so that nothing of what came
	// can be played again after a restart either; zero: nothing to keep.
	key       policy.Key
	timestamp [12]byte
}

// refusals sums refused packets up, for people and for the journal.
type refusals struct {
	kept      map[room]map[refusalKey]*view.Refusal
	engineers int                          // summaries in engineers' rooms
	fresh     map[refusalKey]*freshRefusal // what the journal does not have yet
	summed    view.Refusal                 // what found no place in fresh
	minute    time.Time
}

func newRefusals() *refusals {
	return &refusals{kept: map[room]map[refusalKey]*view.Refusal{}, fresh: map[refusalKey]*freshRefusal{}}
}

// add counts a refusal. Addresses and targets are kept only up to the bounds;
// the sum is always right.
func (r *refusals) add(f policy.Fact) {
	key := refusalKey{reason: f.Decision.Reason, source: f.Source.Addr()}
	s := view.Refusal{First: f.At, Last: f.At, Count: max(f.Count, 1), Reason: f.Decision.Reason.String(), Source: f.Source.Addr()}
	if e := f.Engineer; e != nil {
		key.engineer, s.Vendor, s.Engineer = e.String(), e.Vendor.Name, e.Name
	}
	if f.To.IsValid() {
		s.Target = f.To.Addr().String() + ":" + policy.Service{Protocol: f.Proto, First: f.To.Port(), Last: f.To.Port()}.String()
		key.target = s.Target
	}
	r.keep(key, s)
	switch have, ok := r.fresh[key]; {
	case ok:
		if have.Count == 0 {
			have.First = s.First
		}
		have.Count += s.Count
		have.Last = s.Last
	case r.mayRecord(key):
		r.fresh[key] = &freshRefusal{Refusal: s}
	default:
		if r.summed.Count == 0 {
			r.summed.First = s.First
		}
		r.summed.Count += s.Count
		r.summed.Last = s.Last
	}
	if have := r.fresh[key]; have != nil && f.Engineer != nil && string(f.Timestamp[:]) > string(have.timestamp[:]) {
		have.key, have.timestamp = f.Engineer.Key, f.Timestamp
	}
}

// keep adds to what `refusals` lists.
func (r *refusals) keep(key refusalKey, s view.Refusal) {
	in := key.room()
	if have, ok := r.kept[in][key]; ok {
		have.Count += s.Count
		have.Last = s.Last
		return
	}
	if r.kept[in] == nil {
		r.kept[in] = map[refusalKey]*view.Refusal{}
	}
	r.kept[in][key] = &s
	if in == (room{}) {
		if len(r.kept[in]) > strangersKept {
			forgetOldest(r.kept[in])
		}
		return
	}
	r.engineers++
	switch {
	case len(r.kept[in]) > roomKept:
	case r.engineers > engineersKept:
		in = r.fullest()
	default:
		return
	}
	forgetOldest(r.kept[in])
	r.engineers--
	if len(r.kept[in]) == 0 {
		delete(r.kept, in)
	}
}

// fullest finds the engineer's room with the most summaries, and of several
// the one with the oldest.
func (r *refusals) fullest() room {
	var in room
	var most int
	var at time.Time
	for other, all := range r.kept {
		if other == (room{}) || len(all) < most {
			continue
		}
		if _, last := oldest(all); len(all) > most || last.Before(at) {
			in, most, at = other, len(all), last
		}
	}
	return in
}

func forgetOldest(all map[refusalKey]*view.Refusal) {
	key, _ := oldest(all)
	delete(all, key)
}

func oldest(all map[refusalKey]*view.Refusal) (key refusalKey, last time.Time) {
	for k, s := range all {
		if last.IsZero() || s.Last.Before(last) {
			key, last = k, s.Last
		}
	}
	return key, last
}

// mayRecord reports whether there is a place in fresh for another key. A key
// has at most one entry a minute, and one whose place is given away has had
// none in this minute, so that the places bound the entries.
func (r *refusals) mayRecord(key refusalKey) bool {
	in := key.room()
	var strangers, flows, same int
	for k := range r.fresh {
		switch other := k.room(); {
		case other == (room{}):
			strangers++
		case other.flow:
			flows++
			fallthrough
		default:
			if other == in {
				same++
			}
		}
	}
	left := refusalsRecorded - len(r.fresh)
	switch {
	case in == (room{}):
		return left > 0 && strangers < strangersRecorded
	case in.flow:
		left = min(left, flowsRecorded-flows)
	}
	// An engineer who has some already leaves as many to the others, so that
	// there are places for the next.
	return left > 0 && (same == 0 || 2*same < left)
}

// A client that is left switched on knocks for months. After so many entries
// about it, it has one each quarter of an hour, or the journal would consist
// of it, and a start that reads the journal take ever longer.
const refusedOften, refusedRarely = 10, 15 * time.Minute

// entries gives what is due in the journal: a key at once when it is new, and
// then once a minute, and more rarely if that goes on, at most
// refusalsRecorded of them a minute; the rest in one summed entry at the
// minute's end.
func (r *refusals) entries(now time.Time) []journal.Entry {
	ended := now.Sub(r.minute) >= time.Minute || now.Before(r.minute)
	if ended {
		r.minute = now
	}
	var due []journal.Entry
	for key, f := range r.fresh {
		if f.Count == 0 && ended {
			delete(r.fresh, key) // silent for a minute: the next is news again
			continue
		}
		if f.Count == 0 || f.known && !ended {
			continue
		}
		if since := now.Sub(f.told); f.times >= refusedOften && since >= 0 && since < refusedRarely {
			continue
		}
		e := refusedEntry(f.Refusal)
		if f.timestamp != [12]byte{} {
			e.Key, e.Timestamp = f.key.String(), hex.EncodeToString(f.timestamp[:])
		}
		due = append(due, e)
		f.known, f.Count, f.timestamp = true, 0, [12]byte{}
		f.told = now
		f.times++
	}
	if ended && r.summed.Count > 0 {
		r.summed.Reason = "summed"
		due = append(due, refusedEntry(r.summed))
		r.summed = view.Refusal{}
	}
	slices.SortFunc(due, func(a, b journal.Entry) int { return a.First.Compare(b.First) })
	return due
}

// list gives the summaries: first those of engineers, then those of strangers,
// the newest first of each.
func (r *refusals) list() []view.Refusal {
	all := make([]view.Refusal, 0, r.engineers+len(r.kept[room{}]))
	for _, in := range r.kept {
		for _, s := range in {
			all = append(all, *s)
		}
	}
	slices.SortFunc(all, func(a, b view.Refusal) int {
		if (a.Engineer == "") != (b.Engineer == "") {
			return cmp.Compare(b.Engineer, a.Engineer) // strangers have none
		}
		return b.Last.Compare(a.Last)
	})
	return all
}

func refusedEntry(s view.Refusal) journal.Entry {
	e := journal.Entry{Kind: journal.Refused, Actor: "gateway", Vendor: s.Vendor, Engineer: s.Engineer, Reason: s.Reason,
		Target: s.Target, Count: int64(s.Count), First: s.First, Last: s.Last}
	if s.Source.IsValid() {
		e.Source = s.Source.String()
	}
	return e
}

func (l *loop) refused(f policy.Fact) {
	if f.At.IsZero() {
		f.At = l.now
	}
	if f.Engineer == nil {
		f.Engineer = f.Decision.Engineer
	}
	if e := f.Engineer; e != nil {
		if !f.To.IsValid() {
			l.attempted(e, f.Source.Addr())
		} else {
			f.Source = l.outside(e) // a flow's own is inside the tunnel
		}
	}
	l.refusals.add(f)
	l.refusalsChanged = true
	l.cfg.Metrics.refused(f)
}

// attempted notes where an engineer came from.
func (l *loop) attempted(e *policy.Engineer, source netip.Addr) {
	if l.attempts[e.String()] == source {
		return
	}
	all := make(map[string]netip.Addr, len(l.attempts)+1) // snapshots hold the old one
	maps.Copy(all, l.attempts)
	all[e.String()] = source
	l.attempts = all
}
