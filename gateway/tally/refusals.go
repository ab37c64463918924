package tally

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// Bounds that keep a flood from filling memory or disk.
const (
	StrangersKept = 512  // summaries of strangers that List gives
	RoomKept      = 16   // in each of an engineer's two rooms
	engineersKept = 2048 // in the rooms of all engineers

	// Recorded bounds the journal entries a minute; one entry more sums up the
	// rest. At least a quarter is left for the handshakes of engineers.
	Recorded          = 64
	strangersRecorded = 24
	flowsRecorded     = 24

	// A client that is left switched on knocks for months. After so many
	// entries about one key, a quarter of an hour lies between two.
	often, rarely = 10, 15 * time.Minute
)

// Refusals is the loop's sum of all refusals since the start.
type Refusals struct {
	kept      map[room][]view.Refusal // the newest last
	engineers int                     // summaries in the rooms of engineers
	list      []view.Refusal          // the sorted summaries of kept; nil: kept has changed

	fresh  map[key]*fresh
	summed view.Refusal // the sum of refusals without a place in fresh
	minute time.Time

	attempts map[string]netip.Addr // by engineer; never changed, but replaced
}

// fresh counts since the last journal entry about its key.
type fresh struct {
	Due
	times    int       // entries so far
	recorded time.Time // at the last entry
}

// Due is a summary that the journal should record. Key and Timestamp are those
// of the newest initiation, which must not be played again after a restart;
// zero: there is none.
type Due struct {
	view.Refusal
	Key       policy.Key
	Timestamp [12]byte
}

// New gives an empty sum.
func New() *Refusals {
	return &Refusals{kept: map[room][]view.Refusal{}, fresh: map[key]*fresh{}}
}

// Add counts a refusal. At the bounds it counts without the address and the target.
func (r *Refusals) Add(f policy.Fact) {
	k := keyOf(f)
	if f.Engineer != nil && k.target == "" {
		r.Attempted(f.Engineer, k.source)
	}
	r.keep(k, f)
	news := r.fresh[k]
	if news == nil {
		if !r.place(k.room()) {
			count(&r.summed, f)
			return
		}
		news = &fresh{Due: Due{Refusal: k.refusal()}}
		r.fresh[k] = news
	}
	count(&news.Refusal, f)
	if f.Engineer != nil && string(f.Timestamp[:]) > string(news.Timestamp[:]) {
		news.Key, news.Timestamp = f.Engineer.Key, f.Timestamp
	}
}

// keep counts a refusal for List. A room that is full loses its oldest
// summary. Where all engineers together have too many, the fullest room does.
func (r *Refusals) keep(k key, f policy.Fact) {
	r.list = nil
	in, s := k.room(), k.refusal()
	if i := slices.IndexFunc(r.kept[in], func(s view.Refusal) bool { return k.counts(s) }); i >= 0 {
		s = r.kept[in][i]
		r.kept[in] = slices.Delete(r.kept[in], i, i+1)
	} else if in != strangers {
		r.engineers++
	}
	count(&s, f)
	r.kept[in] = append(r.kept[in], s)
	full := len(r.kept[in]) > RoomKept
	if in == strangers {
		full = len(r.kept[in]) > StrangersKept
	} else if !full && r.engineers > engineersKept {
		in, full = r.fullest(), true
	}
	if !full {
		return
	}
	if in != strangers {
		r.engineers--
	}
	if r.kept[in] = slices.Delete(r.kept[in], 0, 1); len(r.kept[in]) == 0 {
		delete(r.kept, in)
	}
}

// fullest gives the engineers' room with the most summaries. Among equal rooms
// it is the room with the oldest summary.
func (r *Refusals) fullest() (in room) {
	var most []view.Refusal
	for other, all := range r.kept {
		if other != strangers && (len(all) > len(most) || len(all) == len(most) && all[0].Last.Before(most[0].Last)) {
			in, most = other, all
		}
	}
	return in
}

// place reports whether fresh has a place for a new key of the room. A key has
// at most one entry a minute, so the places bound the entries.
func (r *Refusals) place(in room) bool {
	same, flows, left := 0, 0, Recorded-len(r.fresh)
	for k := range r.fresh {
		if k.room() == in {
			same++
		}
		if k.room().flow {
			flows++
		}
	}
	if in == strangers {
		return left > 0 && same < strangersRecorded
	}
	if in.flow {
		left = min(left, flowsRecorded-flows)
	}
	// An engineer gets more places only while twice as many are left.
	return left > 0 && (same == 0 || 2*same < left)
}

// Due gives the summaries to record now. A new key is due at once, later once
// a minute, in the end rarely.
func (r *Refusals) Due(now time.Time) []Due {
	ended := now.Sub(r.minute) >= time.Minute || now.Before(r.minute)
	if ended {
		r.minute = now
	}
	var due []Due
	for k, f := range r.fresh {
		switch since := now.Sub(f.recorded); {
		case f.Count == 0:
			if ended { // silent for a minute: the next refusal is news
				delete(r.fresh, k)
			}
		case f.times > 0 && !ended, f.times >= often && since >= 0 && since < rarely:
		default:
			due = append(due, f.Due)
			*f = fresh{Due: Due{Refusal: k.refusal()}, times: f.times + 1, recorded: now}
		}
	}
	if ended && r.summed.Count > 0 {
		r.summed.Reason = "summed"
		due = append(due, Due{Refusal: r.summed})
		r.summed = view.Refusal{}
	}
	slices.SortFunc(due, func(a, b Due) int { return a.First.Compare(b.First) })
	return due
}

// Rest gives everything that is not recorded yet.
func (r *Refusals) Rest(now time.Time) []Due { return r.Due(now.Add(rarely)) }

// AcceptClock takes the times later than now back to it: an operator accepted
// the clock.
func (r *Refusals) AcceptClock(now time.Time) {
	back := func(s *view.Refusal) {
		for _, at := range []*time.Time{&s.First, &s.Last} {
			if at.After(now) {
				*at = now
			}
		}
	}
	r.list = nil
	for _, all := range r.kept {
		for i := range all {
			back(&all[i])
		}
	}
	for _, f := range r.fresh {
		back(&f.Refusal)
	}
	back(&r.summed)
}

// List gives the summaries of engineers, then those of strangers, the newest
// first. The caller must not change it.
func (r *Refusals) List() []view.Refusal {
	if r.list != nil {
		return r.list
	}
	r.list = make([]view.Refusal, 0, r.engineers+len(r.kept[strangers]))
	for _, all := range r.kept {
		r.list = append(r.list, all...)
	}
	slices.SortFunc(r.list, func(a, b view.Refusal) int {
		if (a.Engineer == "") != (b.Engineer == "") {
			return cmp.Compare(b.Engineer, a.Engineer)
		}
		return b.Last.Compare(a.Last)
	})
	return r.list
}

// Attempted notes the source of an engineer's newest attempt to enter.
func (r *Refusals) Attempted(e *policy.Engineer, source netip.Addr) {
	if name := e.String(); source.IsValid() && r.attempts[name] != source {
		all := make(map[string]netip.Addr, len(r.attempts)+1)
		maps.Copy(all, r.attempts)
		all[name] = source
		r.attempts = all
	}
}

// Attempts gives the sources of the newest attempts, by vendor/engineer. The
// caller must not change it.
func (r *Refusals) Attempts() map[string]netip.Addr { return r.attempts }

// SetAttempts takes over the sources that the journal has.
func (r *Refusals) SetAttempts(all map[string]netip.Addr) { r.attempts = all }
