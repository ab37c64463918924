package evidence

import (
	"cmp"
	"slices"
	"time"

	"kidoban/gateway/journal"
)

// vendors sums up each vendor that the month's newest policy has, or that did something.
func (b *monthly) vendors() {
	names := map[string]string{}
	if b.policy != nil {
		for _, v := range b.policy.Vendors {
			names[v.Name] = v.DisplayName
		}
	}
	for _, o := range b.openings {
		names[o.Vendor] = cmp.Or(names[o.Vendor], o.VendorName)
	}
	for _, s := range b.sessions {
		names[s.Vendor] = cmp.Or(names[s.Vendor], s.VendorName)
	}
	for _, x := range b.report.Refused {
		names[x.Vendor] = cmp.Or(names[x.Vendor], "")
	}
	for _, q := range b.r.Requests {
		if b.m.has(q.Recorded.At) {
			names[q.Vendor] = cmp.Or(names[q.Vendor], "")
		}
	}
	delete(names, "")
	if b.vendor != "" {
		names = map[string]string{b.vendor: names[b.vendor]}
	}
	for vendor, name := range names {
		b.report.Vendors = append(b.report.Vendors, b.summary(vendor, name))
	}
	slices.SortFunc(b.report.Vendors, func(x, y VendorSummary) int { return slices.Compare(b.primes(x.Vendor), b.primes(y.Vendor)) })
	b.report.NoRequests = !slices.ContainsFunc(b.r.Requests, func(q *Request) bool { return b.of(q.Vendor) && b.m.has(q.Recorded.At) })
}

// primes are the names of a vendor and those that it works under, the first prime first.
func (b *monthly) primes(vendor string) []string {
	if b.policy == nil || b.policy.Vendor(vendor) == nil {
		return []string{vendor}
	}
	names := append([]string{vendor}, b.policy.Vendor(vendor).Primes()...)
	slices.Reverse(names)
	return names
}

func (b *monthly) summary(vendor, name string) VendorSummary {
	v := VendorSummary{Vendor: vendor, Name: name, Digest: b.digestOf(vendor)}
	if all := b.primes(vendor); len(all) > 1 {
		v.Under = all[len(all)-2]
	}
	for _, q := range b.r.Requests {
		if q.Vendor == vendor {
			b.countRequest(&v, q)
		}
	}
	var open, used []span
	for _, g := range b.grants {
		if g.first().Vendor != vendor {
			continue
		}
		v.Opened++
		switch {
		case g.used():
			v.Used++
		case g.unused():
			v.Unused++
		}
		for _, o := range g {
			open = append(open, span{o.OpenedAt, b.r.closed(o)})
		}
	}
	for _, s := range b.sessions {
		if s.Vendor == vendor {
			v.Sessions++
			used = append(used, span{s.OpenedAt, b.r.end(s)})
		}
	}
	for _, x := range b.report.Refused {
		if x.Vendor == vendor {
			v.Refused += x.Count
		}
	}
	v.OpenSeconds, v.UsedSeconds = covered(open), covered(used)
	v.Plain = b.r.Plain(vendor, b.m.until.Add(-1)) || slices.ContainsFunc(b.openings, func(o *Opening) bool { return o.Vendor == vendor && b.r.Plain(vendor, o.OpenedAt) }) ||
		slices.ContainsFunc(b.sessions, func(s *Session) bool { return s.Vendor == vendor && b.r.plain(s) })
	return v
}

func (b *monthly) countRequest(v *VendorSummary, q *Request) {
	if b.m.has(q.Recorded.At) {
		v.Requested++
	}
	had := func(kind journal.Kind) int {
		if slices.ContainsFunc(q.Decisions, func(d Decision) bool { return d.Kind == kind && b.m.has(d.At) }) {
			return 1
		}
		return 0
	}
	v.Approved += had(journal.Approved)
	v.Denied += had(journal.Denied)
}

// closed is the end of an opening: of one that is open, the newest entry's time.
func (r *Record) closed(o *Opening) time.Time {
	if o.Last < 0 {
		return r.Now
	}
	return o.ClosedAt
}

// span is a time.
type span struct{ from, until time.Time }

// covered is how many seconds lie in any of the times.
func covered(all []span) int64 {
	slices.SortFunc(all, func(a, b span) int { return a.from.Compare(b.from) })
	var sum time.Duration
	var until time.Time
	for _, s := range all {
		if s.from.Before(until) {
			s.from = until
		}
		if s.until.After(s.from) {
			sum += s.until.Sub(s.from)
			until = s.until
		}
	}
	return int64(sum / time.Second)
}
