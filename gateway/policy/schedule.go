package policy

import "time"

// TimeOfDay is seconds since local midnight, 0 to 86400.
type TimeOfDay int

// LocalTime is a date and a time of day without a zone.
type LocalTime struct {
	Date Date
	Time TimeOfDay
}

// Schedule is when a window is approved, before validity, exceptions and the
// contract cut it. It is a *Rule, a *Days or a *Once.
type Schedule interface {
	// spans gives every span that overlaps [from, until), whole, sorted by
	// From, not overlapping each other.
	spans(zone *time.Location, from, until time.Time) []Span
}

// Spans gives every span in which the window is approved that overlaps
// [from, until), whole, sorted by From, after validity, exceptions and the
// contract have cut it.
func (w *Window) Spans(zone *time.Location, from, until time.Time) []Span { panic("soon") }

// around gives the span that contains an instant and the first that begins
// after it, at most 400 days ahead; zero where there is none.
func (w *Window) around(zone *time.Location, at time.Time) (current, next Span) { panic("soon") }

// contractOver reports whether the vendor's contract has ended.
func contractOver(v *Vendor, zone *time.Location, now time.Time) bool {
	return !v.ContractUntil.IsZero() && DateOf(now.In(zone)).Compare(v.ContractUntil) > 0
}

// Rule is a recurrence rule (RFC 5545, section 3.3.10) with a local time and
// an elapsed duration.
type Rule struct {
	Text     string
	At       TimeOfDay
	Duration time.Duration
}

// NewRule compiles a rule: FREQ DAILY to YEARLY; COUNT and UNTIL are errors.
// anchor is the date from which INTERVAL counts and which gives the day where
// the rule names none; a rule that needs one and has the zero Date is an error.
func NewRule(text string, at TimeOfDay, duration time.Duration, anchor Date) (*Rule, error) {
	panic("soon")
}

func (r *Rule) spans(zone *time.Location, from, until time.Time) []Span { panic("soon") }

// Days is a local time range on weekdays and calendar days. To at or before
// From lies on the next day.
type Days struct {
	Weekdays  [7]bool     // by time.Weekday
	Calendars []*Calendar // days on which it begins as well
	From, To  TimeOfDay
}

func (d *Days) spans(zone *time.Location, from, until time.Time) []Span { panic("soon") }

// Once is one local time range.
type Once struct{ From, Until LocalTime }

func (o *Once) spans(zone *time.Location, from, until time.Time) []Span { panic("soon") }

// Calendar is a named set of local dates.
type Calendar struct {
	Name    string
	Country string      // ISO 3166-1 alpha-2: national holidays, actual or observed; empty: none
	Dates   []DateRange // sorted
}

// DateRange is the dates First to Last, inclusive.
type DateRange struct{ First, Last Date }

// Countries lists the country codes that NewCalendar takes.
func Countries() []string { panic("soon") }

// NewCalendar makes a calendar of a country's national holidays (empty: none)
// and of date ranges. A country that is not known is an error that lists those that are.
func NewCalendar(name, country string, dates []DateRange) (*Calendar, error) { panic("soon") }

// Covers reports whether the date is in the calendar.
func (c *Calendar) Covers(d Date) bool { panic("soon") }
