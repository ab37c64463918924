package evidence

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"kidoban/gateway/journal"
)

// Refusal sums refusals of one source, engineer, target and reason in a time of one month.
type Refusal struct {
	Vendor, Engineer string // empty: a stranger
	Source, Target   string
	Reason           string
}

// refusals are the sums of a time.
type refusals map[Refusal]*refused

// refused is one sum.
type refused struct {
	count       int64
	first, last time.Time
	entries     []int64 // the first refusedEntries
}

// Bounds of the sums: rows of a month in UTC about strangers and about engineers, and entries of a row.
// Further rows become one of their engineer and reason, without a source and a target.
const (
	strangersMost  = 100
	engineersMost  = 1000
	refusedEntries = 20
)

// slot begins the time in which an instant is summed up. It is the month in UTC, but a quarter of an
// hour near its ends: so the months of every time zone are whole times.
func slot(at time.Time) time.Time {
	at = at.UTC()
	month := time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
	const border = 15 * time.Hour // no zone is further from UTC
	if at.Sub(month) >= border && month.AddDate(0, 1, 0).Sub(at) > border {
		return month.Add(border)
	}
	return at.Truncate(15 * time.Minute)
}

// refuse adds a refused entry.
func (r *Record) refuse(e journal.Entry) {
	first, last := e.First, e.Last
	if first.IsZero() || first.After(e.Time) {
		first = e.Time
	}
	if last.Before(first) {
		last = first
	}
	sums := r.is.refused[slot(first)]
	if sums == nil {
		sums = refusals{}
		r.is.refused[slot(first)] = sums
	}
	key := Refusal{Vendor: r.one(e.Vendor), Engineer: r.one(e.Engineer), Source: e.Source, Target: e.Target, Reason: r.one(e.Reason)}
	if sums[key] == nil && !r.room(key, first) {
		key.Source, key.Target = "", ""
	}
	if sums[key] == nil {
		sums[key] = &refused{first: first, last: last}
	}
	count := max(e.Count, 1)
	sums[key].add(refused{count, first, last, []int64{e.Index}})
	if s := r.is.newest[key.Vendor+"/"+key.Engineer]; s != nil && key.Engineer != "" && !first.Before(s.OpenedAt) && (s.Last < 0 || !first.After(s.ClosedAt)) {
		s.Refused += count
	}
}

// room takes a row of the month, and reports whether there was one.
func (r *Record) room(key Refusal, at time.Time) bool {
	of := rowsOf{at.UTC().Format("2006-01"), key.Engineer == ""}
	most := engineersMost
	if of.strangers {
		most = strangersMost
	}
	r.is.rows[of]++
	return r.is.rows[of] <= most
}

// rowsOf counts the rows of a month in UTC.
type rowsOf struct {
	month     string
	strangers bool
}

// add adds another sum.
func (s *refused) add(o refused) {
	s.count += o.count
	if o.first.Before(s.first) {
		s.first = o.first
	}
	if o.last.After(s.last) {
		s.last = o.last
	}
	for _, e := range o.entries {
		if len(s.entries) < refusedEntries {
			s.entries = append(s.entries, e)
		}
	}
}

// refusedIn are the refusals of a month, by vendor, engineer, source, target and reason.
func (r *Record) refusedIn(m month) []ReportRefused {
	rows := []ReportRefused{}
	sums := refusals{}
	for _, at := range slices.SortedFunc(maps.Keys(r.is.refused), time.Time.Compare) {
		if !m.has(at) {
			continue
		}
		for key, s := range r.is.refused[at] {
			if sums[key] == nil {
				sums[key] = &refused{first: s.first, last: s.last}
			}
			sums[key].add(*s)
		}
	}
	for key, s := range sums {
		rows = append(rows, ReportRefused{Vendor: key.Vendor, Engineer: key.Engineer, Plain: key.Engineer != "" && r.Plain(key.Vendor, s.first), Source: key.Source, Target: key.Target, Reason: key.Reason,
			Count: s.count, First: m.local(s.first), Last: m.local(s.last), Entries: s.entries})
	}
	slices.SortFunc(rows, func(a, b ReportRefused) int {
		return cmp.Or(strings.Compare(a.Vendor, b.Vendor), strings.Compare(a.Engineer, b.Engineer), strings.Compare(a.Reason, b.Reason),
			strings.Compare(a.Source, b.Source), strings.Compare(a.Target, b.Target))
	})
	return rows
}
