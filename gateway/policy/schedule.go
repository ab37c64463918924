package policy

import (
	"fmt"
	"slices"
	"time"
)

// TimeOfDay is the time that a clock shows, in seconds since 00:00, 0 to 86400: 7200 is 02:00 also
// on a day with a clock change at 01:00.
type TimeOfDay int

// String is HH:MM, or HH:MM:SS where there are seconds.
func (t TimeOfDay) String() string {
	if t%60 != 0 {
		return fmt.Sprintf("%02d:%02d:%02d", t/3600, t/60%60, t%60)
	}
	return fmt.Sprintf("%02d:%02d", t/3600, t/60%60)
}

// LocalTime is a date and a time of day without a zone.
type LocalTime struct {
	Date Date
	Time TimeOfDay
}

// String is as in 2026-12-01T20:00.
func (t LocalTime) String() string { return t.Date.String() + "T" + t.Time.String() }

// Horizon is how far ahead a plan looks for a window's next opening.
const Horizon = 400 * 24 * time.Hour

// Schedule is when a window is approved, before validity, exceptions and the contract are applied:
// a *Rule, a *Days or a *Once.
//
// Local times become instants by the narrower reading. A time that is shown twice opens at the
// later and closes at the earlier instant. A time that is never shown is the first instant after
// the gap. Empty spans are dropped.
type Schedule interface {
	// spans gives the spans that overlap [from, until), in full length, sorted by From, not
	// overlapping each other.
	spans(zone *time.Location, from, until time.Time) []Span
}

// Spans gives the spans of the window that overlap [from, until), in full length, sorted by From,
// after validity, exceptions and the contract. Spans do not overlap; one may begin where another
// ends.
func (w *Window) Spans(zone *time.Location, from, until time.Time) []Span {
	// Two days cover any offset.
	if !w.ValidFrom.IsZero() {
		if first := w.ValidFrom.AddDays(-2).utc(); first.After(from) {
			from = first
		}
	}
	for _, last := range []Date{w.ValidUntil, w.Vendor.LastDay()} {
		if !last.IsZero() {
			until = earlier(until, last.AddDays(2).utc())
		}
	}
	if !from.Before(until) {
		return nil
	}
	approved := w.Schedule.spans(zone, from, until)
	if w.ValidFrom.IsZero() && w.ValidUntil.IsZero() && w.Vendor.LastDay().IsZero() && len(w.Except) == 0 {
		return approved
	}
	var all []Span
	for _, s := range approved {
		open := false
		for d, part := range dates(zone, s) {
			switch {
			case w.cuts(d):
				open = false
			case open:
				all[len(all)-1].Until = part.Until
			default:
				all = append(all, part)
				open = true
			}
		}
	}
	return overlapping(all, from, until)
}

// cuts reports whether every minute of a local date is cut out of the window.
func (w *Window) cuts(d Date) bool {
	after := func(last Date) bool { return !last.IsZero() && d.Compare(last) > 0 }
	if d.Compare(w.ValidFrom) < 0 || after(w.ValidUntil) || after(w.Vendor.LastDay()) {
		return true
	}
	return slices.ContainsFunc(w.Except, func(c *Calendar) bool { return c.Covers(d) })
}

// around gives the span that contains an instant, and the first one that begins later and before
// the horizon. It searches in growing steps, since most windows open within days.
func (w *Window) around(zone *time.Location, at, horizon time.Time) (current, next Span) {
	from := at
	for step := 48 * time.Hour; from.Before(horizon); step *= 6 {
		until := earlier(from.Add(step), horizon)
		for _, s := range w.Spans(zone, from, until) {
			switch {
			case s.Contains(at):
				current = s
			case s.From.After(at):
				return current, s
			}
		}
		from = until
	}
	return current, next
}

// contractOver reports whether the vendor's contract or consent has ended, or that of one it works under.
func contractOver(v *Vendor, zone *time.Location, now time.Time) bool {
	last := v.LastDay()
	return !last.IsZero() && DateOf(now.In(zone)).Compare(last) > 0
}

// Days is a local time range on weekdays and calendar days. If To is not after From, it is on the
// next day. A span belongs to the date on which it begins.
type Days struct {
	Weekdays  [7]bool     // by time.Weekday
	Calendars []*Calendar // days on which it begins as well
	From, To  TimeOfDay   // From 0 to 86399, To 0 to 86400
}

func (d *Days) spans(zone *time.Location, from, until time.Time) []Span {
	to := d.To
	if to <= d.From {
		to += 86400
	}
	// A span lasts up to a day, and two more cover any offset.
	last := DateOf(until.UTC()).AddDays(2)
	var all []Span
	for date := DateOf(from.UTC()).AddDays(-3); date.Compare(last) <= 0; date = date.AddDays(1) {
		if !d.on(date) {
			continue
		}
		if f, ok := begins(zone, date, d.From); ok {
			all = append(all, Span{f, closing(zone, date, to)})
		}
	}
	return overlapping(all, from, until)
}

// on reports whether a span begins on the date.
func (d *Days) on(date Date) bool {
	return d.Weekdays[date.Weekday()] || slices.ContainsFunc(d.Calendars, func(c *Calendar) bool { return c.Covers(date) })
}

// Once is one local time range.
type Once struct{ From, Until LocalTime }

func (o *Once) spans(zone *time.Location, from, until time.Time) []Span {
	return overlapping([]Span{{opening(zone, o.From.Date, o.From.Time), closing(zone, o.Until.Date, o.Until.Time)}}, from, until)
}

// overlapping keeps, in place, the spans that are not empty and overlap [from, until).
func overlapping(spans []Span, from, until time.Time) []Span {
	return slices.DeleteFunc(spans, func(s Span) bool {
		return !s.From.Before(s.Until) || !s.From.Before(until) || !s.Until.After(from)
	})
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
