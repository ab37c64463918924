package gateway

import (
	"net/netip"
	"slices"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// RefusalSummary is what was refused for one reason, of one engineer, from
// one address.
type RefusalSummary struct {
	First    time.Time  `json:"first"`
	Last     time.Time  `json:"last"`
	Count    int        `json:"count"`
	Reason   string     `json:"reason"`
	Vendor   string     `json:"vendor"`
	Engineer string     `json:"engineer"`
	Source   netip.Addr `json:"source"`
	Target   string     `json:"target,omitempty"` // of a refused flow: where it wanted to go
}

type refusalKey struct {
	reason   policy.Reason
	engineer string
	source   netip.Addr
	target   string
}

// Bounds that keep a flood from filling memory or disk.
const (
	refusalsKept     = 512 // summaries kept for `refusals`; the oldest goes first
	refusalsRecorded = 64  // refused entries in the journal a minute; the rest is one summed entry
)

// freshRefusal counts since the last entry about its key.
type freshRefusal struct {
	RefusalSummary
	known bool // the journal had an entry about it within this minute
}

// refusals sums refused packets up, for people and for the journal.
type refusals struct {
	kept     map[refusalKey]*RefusalSummary
	fresh    map[refusalKey]*freshRefusal // what the journal does not have yet
	summed   RefusalSummary               // what found no place in fresh
	recorded int                          // entries in this minute
	minute   time.Time
}

func newRefusals() *refusals {
	return &refusals{kept: map[refusalKey]*RefusalSummary{}, fresh: map[refusalKey]*freshRefusal{}}
}

// add counts a refusal. Unlisted addresses are kept by address only up to the
// bound; the sum is always right.
func (r *refusals) add(f policy.Fact) {
	key := refusalKey{reason: f.Decision.Reason, source: f.Source.Addr()}
	s := RefusalSummary{First: f.At, Last: f.At, Count: max(f.Count, 1), Reason: f.Decision.Reason.String(), Source: f.Source.Addr()}
	if e := f.Engineer; e != nil {
		key.engineer, s.Vendor, s.Engineer = e.String(), e.Vendor.Name, e.Name
	}
	if f.To.IsValid() {
		s.Target = f.To.Addr().String() + ":" + policy.Service{Protocol: f.Proto, First: f.To.Port(), Last: f.To.Port()}.String()
		key.target = s.Target
	}
	if have, ok := r.kept[key]; ok {
		have.Count += s.Count
		have.Last = s.Last
	} else {
		if len(r.kept) >= refusalsKept {
			r.forgetOldest()
		}
		kept := s
		r.kept[key] = &kept
	}
	switch have, ok := r.fresh[key]; {
	case ok:
		if have.Count == 0 {
			have.First = s.First
		}
		have.Count += s.Count
		have.Last = s.Last
	case len(r.fresh) < refusalsRecorded:
		r.fresh[key] = &freshRefusal{RefusalSummary: s}
	default:
		if r.summed.Count == 0 {
			r.summed.First = s.First
		}
		r.summed.Count += s.Count
		r.summed.Last = s.Last
	}
}

func (r *refusals) forgetOldest() {
	var oldest refusalKey
	var at time.Time
	for k, s := range r.kept {
		if at.IsZero() || s.Last.Before(at) {
			oldest, at = k, s.Last
		}
	}
	delete(r.kept, oldest)
}

// entries gives what is due in the journal: a key at once when it is new, and
// then once a minute, at most refusalsRecorded of them a minute; the rest in
// one summed entry at the minute's end.
func (r *refusals) entries(now time.Time) []journal.Entry {
	ended := now.Sub(r.minute) >= time.Minute || now.Before(r.minute)
	if ended {
		r.minute, r.recorded = now, 0
	}
	var due []journal.Entry
	for key, f := range r.fresh {
		if f.Count == 0 && ended {
			delete(r.fresh, key) // silent for a minute: the next is news again
			continue
		}
		if f.Count == 0 || f.known && !ended || r.recorded >= refusalsRecorded {
			continue
		}
		r.recorded++
		due = append(due, refusedEntry(f.RefusalSummary))
		f.known, f.Count = true, 0
	}
	if ended && r.summed.Count > 0 {
		r.summed.Reason = "summed"
		due = append(due, refusedEntry(r.summed))
		r.summed = RefusalSummary{}
	}
	slices.SortFunc(due, func(a, b journal.Entry) int { return a.First.Compare(b.First) })
	return due
}

// list gives the summaries, the newest first.
func (r *refusals) list() []RefusalSummary {
	all := make([]RefusalSummary, 0, len(r.kept))
	for _, s := range r.kept {
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b RefusalSummary) int { return b.Last.Compare(a.Last) })
	return all
}

func refusedEntry(s RefusalSummary) journal.Entry {
	e := journal.Entry{Kind: journal.Refused, Actor: "gateway", Vendor: s.Vendor, Engineer: s.Engineer, Reason: s.Reason,
		Target: s.Target, Count: int64(s.Count), First: s.First, Last: s.Last}
	if s.Source.IsValid() {
		e.Source = s.Source.String()
	}
	return e
}
