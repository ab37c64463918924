package evidence

import (
	"fmt"
	"slices"
	"time"

	"kidoban/gateway/journal"
)

// Backlog counts the sessions of a vendor that wait for a review.
type Backlog struct {
	Unreviewed int // nobody has checked them, or something changed since
	Overdue    int // not checked, or not confirmed, in the time that the policy gives
}

// backlog has the sessions that wait, by month and vendor. What an entry may have changed is looked at
// again when somebody asks.
type backlog struct {
	groups  map[group]*waiting
	of      map[string]*waiting // by session
	fresh   []*Session          // in no group yet
	touched map[string]bool     // vendors with new entries
	policy  string              // digest: another one may have another time zone
}

type group struct{ month, vendor string }

// waiting is the sessions of one vendor in one month.
type waiting struct {
	sessions []*Session
	rows     []waitingRow // of those that are over and not confirmed
	old      bool         // rows are to be made anew
}

type waitingRow struct {
	end     time.Time
	checked bool
}

func newBacklog() backlog {
	return backlog{groups: map[group]*waiting{}, of: map[string]*waiting{}, touched: map[string]bool{}}
}

// touch notes what an entry may have changed.
func (r *Record) touch(e journal.Entry) {
	w := &r.is.waits
	if e.Vendor != "" {
		w.touched[e.Vendor] = true
	}
	if g := w.of[e.Session]; g != nil {
		g.old = true
	}
	if n := len(r.Reviews); e.Kind == journal.Review && n > 0 && r.Reviews[n-1].Entry == e.Index {
		is := r.Reviews[n-1].Is
		if g := w.groups[group{is.Month, is.Vendor}]; g != nil {
			g.old = true
		}
		for _, id := range is.Sessions {
			if g := w.of[id]; g != nil {
				g.old = true
			}
		}
	}
}

// Unreviewed counts the sessions that wait for a review, by vendor, of all vendors that had a session.
// It costs little when asked again.
func (r *Record) Unreviewed(now time.Time) map[string]Backlog {
	w := &r.is.waits
	if n := len(r.Policies); n > 0 && w.policy != r.Policies[n-1].Digest {
		*w = newBacklog()
		w.policy, w.fresh = r.Policies[n-1].Digest, slices.Clone(r.Sessions)
	}
	for _, s := range w.fresh {
		key := group{r.monthAt(s.OpenedAt), s.Vendor}
		g := w.groups[key]
		if g == nil {
			g = &waiting{}
			w.groups[key] = g
		}
		g.sessions, g.old = append(g.sessions, s), true
		w.of[s.ID] = g
	}
	w.fresh = nil
	recent := r.Now.AddDate(0, -1, -1).UTC().Format(monthLayout) // an entry changes no month before
	all := map[string]Backlog{}
	rules := r.At(r.Now).Reviewing()
	for key, g := range w.groups {
		if g.old || w.touched[key.vendor] && key.month >= recent {
			g.rows, g.old = r.waiting(key, g.sessions), false
		}
		sum := all[key.vendor]
		for _, row := range g.rows {
			if !row.checked {
				sum.Unreviewed++
			}
			if !row.checked && now.After(row.end.Add(rules.Within)) || now.After(row.end.Add(rules.ConfirmWithin)) {
				sum.Overdue++
			}
		}
		all[key.vendor] = sum
	}
	clear(w.touched)
	return all
}

// waiting are the rows of sessions of one vendor in one month.
func (r *Record) waiting(key group, sessions []*Session) (rows []waitingRow) {
	if m, err := r.monthOf(key.month); err == nil && r.torn(m) {
		return nil
	}
	signed := slices.ContainsFunc(r.Reviews, func(v Signed[Review]) bool {
		return v.Is.Month == key.month && v.Is.Vendor == key.vendor ||
			slices.ContainsFunc(sessions, func(s *Session) bool { return slices.Contains(v.Is.Sessions, s.ID) })
	})
	var b *monthly
	if signed {
		var err error
		if b, err = r.monthly(key.month, key.vendor); err != nil {
			signed = false
		} else {
			b.rows()
		}
	}
	for _, s := range sessions {
		var both signatures
		if signed {
			both = b.signaturesOf(s, s.Vendor)
		}
		if s.Last >= 0 && !both.done() {
			rows = append(rows, waitingRow{r.end(s), both.checked.is()})
		}
	}
	return rows
}

// torn reports whether the beginning of a month was pruned. Then nothing can be compared with what was
// signed, and nobody is reminded of it.
func (r *Record) torn(m month) bool { return r.Entries.From > 0 && m.from.Before(r.Begins) }

// MismatchesOpen counts the open mismatches of months, by kind; of most kinds 0. Months of which the journal has nothing
// have none.
func (r *Record) MismatchesOpen(months ...string) map[string]int {
	all := map[string]int{}
	for kind := range MismatchKinds {
		all[fmt.Sprintf("m%02d", kind+1)] = 0
	}
	for _, name := range months {
		report, err := r.Month(name, "")
		if err != nil {
			continue
		}
		for _, m := range report.Mismatches {
			if m.State == Open {
				all[m.Kind]++
			}
		}
	}
	return all
}
