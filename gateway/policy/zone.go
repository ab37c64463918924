package policy

import (
	"iter"
	"time"
)

// farthestOffset bounds the offset from UTC, in seconds: Manila kept -15:56 until 1844, Metlakatla
// +15:13 until 1867 (tz database).
const farthestOffset = 16 * 60 * 60

// localise gives the first and the last instant at which clocks in the zone show a date and time of
// day. They differ where clocks were set back. Where clocks were set forward, the time is never
// shown, and both are the first instant after the gap. 86400 is the next midnight.
//
// time.Date gives either of two instants, and in a gap perhaps one before it.
func localise(zone *time.Location, d Date, at TimeOfDay) (first, last time.Time) {
	shown := d.utc().Unix() + int64(at)
	limit := time.Unix(shown+farthestOffset, 0)
	var gap time.Time
	for t := time.Unix(shown-farthestOffset, 0).In(zone); ; {
		start, stop := t.ZoneBounds()
		_, offset := t.Zone()
		c := time.Unix(shown-int64(offset), 0).In(zone)
		if (start.IsZero() || !c.Before(start)) && (stop.IsZero() || c.Before(stop)) {
			if first.IsZero() {
				first = c
			}
			last = c
		}
		if stop.IsZero() || stop.After(limit) {
			break
		}
		_, next := stop.Zone()
		if stop.Unix()+int64(offset) <= shown && shown < stop.Unix()+int64(next) {
			gap = stop
		}
		t = stop
	}
	if first.IsZero() {
		return gap, gap
	}
	return first, last
}

// opening is the instant at which an opening at a local time counts: the later of two.
func opening(zone *time.Location, d Date, at TimeOfDay) time.Time {
	_, last := localise(zone, d, at)
	return last
}

// closing is the instant at which a closing at a local time counts: the earlier of two.
func closing(zone *time.Location, d Date, at TimeOfDay) time.Time {
	first, _ := localise(zone, d, at)
	return first
}

// begins is opening for a recurring date. A date that the zone skipped, as Samoa 2011-12-30, begins
// nothing.
func begins(zone *time.Location, d Date, at TimeOfDay) (from time.Time, ok bool) {
	from = opening(zone, d, at)
	if DateOf(from) == d {
		return from, true
	}
	// The gap ends on another date. Did this date exist at all?
	first, _ := localise(zone, d, 0)
	return from, DateOf(first) == d
}

// dates splits a span by local date. A date may come twice where clocks go back over midnight.
func dates(zone *time.Location, s Span) iter.Seq2[Date, Span] {
	return func(yield func(Date, Span) bool) {
		for t := s.From.In(zone); t.Before(s.Until); {
			_, offset := t.Zone()
			local := t.Unix() + int64(offset)
			midnight := local - mod(local, 86400) + 86400 - int64(offset)
			end := time.Unix(midnight, 0).In(zone)
			if _, stop := t.ZoneBounds(); !stop.IsZero() && stop.Before(end) {
				end = stop
			}
			if s.Until.Before(end) {
				end = s.Until
			}
			if !yield(DateOf(t), Span{t, end}) {
				return
			}
			t = end
		}
	}
}

// mod is the remainder of floored division, never negative for n > 0.
func mod(a, n int64) int64 { return (a%n + n) % n }
