package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/teambition/rrule-go"
)

// MaxDuration is the longest that one occurrence of a Rule may last.
const MaxDuration = 366 * 24 * time.Hour

// Rule is a recurrence rule (RFC 5545, section 3.3.10) with a local time and an elapsed duration.
//
// The rule gives dates. Where an occurrence begins before the previous one has ended, the previous
// one ends there: the union is the same, and stays bounded if the duration is longer than the
// interval.
type Rule struct {
	Text     string
	At       TimeOfDay
	Duration time.Duration

	// Ahead is the number of days from the anchor, or else from 2000-01-01, to the first date. It
	// measures the cost of the search.
	Ahead int

	option rrule.ROption // without Dtstart and Until; names its days itself
	anchor Date
}

// parts of a rule that are lists of numbers.
var numberParts = []struct {
	name        string
	last        int  // allowed is 1 to last
	negative    bool // and -last to -1
	frequencies []rrule.Frequency
	field       func(*rrule.ROption) *[]int
}{
	{"BYMONTH", 12, false, []rrule.Frequency{rrule.DAILY, rrule.WEEKLY, rrule.MONTHLY, rrule.YEARLY}, func(o *rrule.ROption) *[]int { return &o.Bymonth }},
	{"BYYEARDAY", 366, true, []rrule.Frequency{rrule.YEARLY}, func(o *rrule.ROption) *[]int { return &o.Byyearday }},
	{"BYMONTHDAY", 31, true, []rrule.Frequency{rrule.DAILY, rrule.MONTHLY, rrule.YEARLY}, func(o *rrule.ROption) *[]int { return &o.Bymonthday }},
	{"BYSETPOS", 366, true, []rrule.Frequency{rrule.WEEKLY, rrule.MONTHLY, rrule.YEARLY}, func(o *rrule.ROption) *[]int { return &o.Bysetpos }},
}

// refusedParts are parts that RFC 5545 knows and a policy says elsewhere.
var refusedParts = map[string]string{
	"COUNT":    "the last date is what the window's valid or the contract says",
	"UNTIL":    "the last date is what the window's valid or the contract says",
	"DTSTART":  "the first date is what the window's valid says",
	"BYHOUR":   "the time of day is what the window's at says",
	"BYMINUTE": "the time of day is what the window's at says",
	"BYSECOND": "the time of day is what the window's at says",
	"BYWEEKNO": "programs disagree on it; say it with BYMONTH and BYDAY", // rrule-go, as dateutil, takes a 52nd week for a 53rd
}

var ruleFrequencies = map[string]rrule.Frequency{"DAILY": rrule.DAILY, "WEEKLY": rrule.WEEKLY, "MONTHLY": rrule.MONTHLY, "YEARLY": rrule.YEARLY}

var ruleWeekdays = map[string]rrule.Weekday{
	"MO": rrule.MO, "TU": rrule.TU, "WE": rrule.WE, "TH": rrule.TH, "FR": rrule.FR, "SA": rrule.SA, "SU": rrule.SU,
}

// ErrNever is the cause of the error about a rule that matches no date.
var ErrNever = errors.New("it matches no date")

// NewRule compiles a rule: FREQ DAILY, WEEKLY, MONTHLY or YEARLY, with INTERVAL, WKST and the BY
// parts that RFC 5545 allows with it. A rule that matches no date is an error.
//
// anchor is the date from which INTERVAL counts. It gives the day where the rule names none.
// Nothing occurs before it. A rule that needs an anchor and has the zero Date is an error.
func NewRule(text string, at TimeOfDay, duration time.Duration, anchor Date) (*Rule, error) {
	if at < 0 || at >= 86400 {
		return nil, fmt.Errorf("a rule begins at %d s of the day: allowed is 0 to 86399", at)
	}
	if duration < time.Second || duration > MaxDuration || duration%time.Second != 0 {
		return nil, fmt.Errorf("a duration of %v: allowed is whole seconds from 1s to %v", duration, MaxDuration)
	}
	r := &Rule{Text: text, At: at, Duration: duration, anchor: anchor}
	err := r.parse()
	if err == nil {
		err = r.complete()
	}
	if err != nil {
		return nil, fmt.Errorf("rule %q: %w", text, err)
	}
	first := anchor
	if first.IsZero() {
		first = Date{2000, time.January, 1}
	}
	next, ok := r.iterate(first)()
	if !ok || next.Year() > first.Year+100 {
		return nil, fmt.Errorf("rule %q: %w: allowed is what occurs at least once in 100 years", text, ErrNever)
	}
	r.Ahead = DateOf(next).days() - first.days()
	return r, nil
}

// parse reads Text into option.
func (r *Rule) parse() error {
	o := &r.option
	parts := map[string]string{}
	for part := range strings.SplitSeq(strings.ToUpper(r.Text), ";") {
		name, value, ok := strings.Cut(part, "=")
		if !ok || value == "" {
			return fmt.Errorf("%q is not a part of a rule: allowed is NAME=VALUE, separated by semicolons", part)
		}
		if _, twice := parts[name]; twice {
			return fmt.Errorf("%s is there twice: allowed is once", name)
		}
		if why, refused := refusedParts[name]; refused {
			return fmt.Errorf("%s is not allowed: %s", name, why)
		}
		parts[name] = value
	}
	take := func(name, otherwise string) string {
		value := cmp.Or(parts[name], otherwise)
		delete(parts, name)
		return value
	}
	var known bool
	value := take("FREQ", "")
	if o.Freq, known = ruleFrequencies[value]; value == "" {
		return errors.New("FREQ is missing: allowed is DAILY, WEEKLY, MONTHLY or YEARLY")
	} else if !known {
		return fmt.Errorf("FREQ=%s: allowed is DAILY, WEEKLY, MONTHLY or YEARLY", value)
	}
	var err error
	value = take("INTERVAL", "1")
	if o.Interval, err = strconv.Atoi(value); err != nil || o.Interval < 1 || o.Interval > 1000 {
		return fmt.Errorf("INTERVAL=%s: allowed is 1 to 1000", value)
	}
	value = take("WKST", "MO")
	if o.Wkst, known = ruleWeekdays[value]; !known {
		return fmt.Errorf("WKST=%s: allowed is MO, TU, WE, TH, FR, SA or SU", value)
	}
	for _, p := range numberParts {
		value := take(p.name, "")
		if value == "" {
			continue
		}
		if !slices.Contains(p.frequencies, o.Freq) {
			return fmt.Errorf("%s is not allowed with FREQ=%s: allowed with it is %v", p.name, o.Freq, p.frequencies)
		}
		for text := range strings.SplitSeq(value, ",") {
			n, err := strconv.Atoi(text)
			positive := 1 <= n && n <= p.last
			if err != nil || !positive && (!p.negative || n < -p.last || n > -1) {
				return fmt.Errorf("%s=%s: %q is not allowed: allowed is 1 to %d%s", p.name, value, text, p.last,
					map[bool]string{true: fmt.Sprintf(" and -%d to -1", p.last)}[p.negative])
			}
			*p.field(o) = append(*p.field(o), n)
		}
	}
	if value := take("BYDAY", ""); value != "" {
		if err := r.parseDays(value); err != nil {
			return err
		}
	}
	for name := range parts {
		return fmt.Errorf("%q is not known: allowed is FREQ, INTERVAL, WKST, BYMONTH, BYYEARDAY, BYMONTHDAY, BYDAY and BYSETPOS", name)
	}
	if len(o.Bysetpos) > 0 && len(o.Byweekday)+len(o.Bymonth)+len(o.Bymonthday)+len(o.Byyearday) == 0 {
		return errors.New("BYSETPOS is alone: allowed is BYSETPOS with another BY part")
	}
	return nil
}

// parseDays reads BYDAY after the other parts, because these limit the numbers of days. It refuses
// numbers that rrule-go ignores, intersects or panics on.
func (r *Rule) parseDays(value string) error {
	o := &r.option
	last := 0 // the greatest number allowed
	switch {
	case o.Freq == rrule.YEARLY && len(o.Bymonth) == 0:
		last = 53
	case o.Freq == rrule.YEARLY || o.Freq == rrule.MONTHLY:
		last = 5
	}
	for text := range strings.SplitSeq(value, ",") {
		number := strings.TrimRight(text, "MOTUWEHFRSA")
		day, known := ruleWeekdays[text[len(number):]]
		if !known {
			return fmt.Errorf("BYDAY=%s: %q is not a day: allowed is MO, TU, WE, TH, FR, SA or SU", value, text)
		}
		if number != "" {
			n, err := strconv.Atoi(number)
			if err != nil || n == 0 || n < -last || n > last {
				if last == 0 {
					return fmt.Errorf("BYDAY=%s: %q has a number: allowed are numbers with FREQ=MONTHLY and FREQ=YEARLY", value, text)
				}
				return fmt.Errorf("BYDAY=%s: %q is not allowed: allowed is 1 to %d and -%d to -1", value, text, last, last)
			}
			day = day.Nth(n)
		}
		if len(o.Byweekday) > 0 && (o.Byweekday[0].N() == 0) != (day.N() == 0) {
			return fmt.Errorf("BYDAY=%s: some days have a number: allowed is all or none", value)
		}
		o.Byweekday = append(o.Byweekday, day)
	}
	return nil
}

// complete adds the days that RFC 5545 takes from DTSTART, so that iterate may begin anywhere.
func (r *Rule) complete() error {
	o := &r.option
	if o.Interval > 1 && r.anchor.IsZero() {
		return fmt.Errorf("INTERVAL=%d counts from a date: allowed is a window whose valid has a from", o.Interval)
	}
	if o.Freq == rrule.DAILY || len(o.Byyearday)+len(o.Bymonthday)+len(o.Byweekday) > 0 {
		return nil
	}
	if r.anchor.IsZero() {
		return errors.New("it names no day: allowed is a BY part that names days, or a window whose valid has a from")
	}
	switch o.Freq {
	case rrule.WEEKLY:
		o.Byweekday = []rrule.Weekday{[...]rrule.Weekday{rrule.SU, rrule.MO, rrule.TU, rrule.WE, rrule.TH, rrule.FR, rrule.SA}[r.anchor.Weekday()]}
		return nil
	case rrule.YEARLY:
		if len(o.Bymonth) == 0 {
			o.Bymonth = []int{int(r.anchor.Month)}
		}
	}
	o.Bymonthday = []int{r.anchor.Day}
	return nil
}

// iterate gives the rule's dates, at midnight UTC. It begins with the period (day, week, month,
// year) that counts and holds or precedes near. A start near the date makes far years as fast as
// near ones.
func (r *Rule) iterate(near Date) rrule.Next {
	o := r.option
	anchor := r.anchor
	if anchor.IsZero() {
		anchor = near // the interval is 1
	}
	back := func(distance int) int { return int(mod(int64(distance), int64(o.Interval))) }
	switch o.Freq {
	case rrule.DAILY:
		near = near.AddDays(-back(near.days() - anchor.days()))
	case rrule.WEEKLY:
		week := func(d Date) Date { return d.AddDays(-int(mod(int64(d.Weekday())-1-int64(o.Wkst.Day()), 7))) }
		near = week(near)
		near = near.AddDays(-7 * back((near.days()-week(anchor).days())/7))
	case rrule.MONTHLY:
		month := near.Year*12 + int(near.Month) - 1
		month -= back(month - (anchor.Year*12 + int(anchor.Month) - 1))
		near = Date{month / 12, time.Month(month%12 + 1), 1}
	case rrule.YEARLY:
		near = Date{near.Year - back(near.Year-anchor.Year), time.January, 1}
	}
	o.Dtstart = near.utc()
	rule, err := rrule.NewRRule(o)
	if err != nil { // parse checks more than NewRRule does
		return func() (time.Time, bool) { return time.Time{}, false }
	}
	return rule.Iterator()
}

// occurrences gives the dates from first to last, inclusive, on which the rule occurs.
func (r *Rule) occurrences(first, last Date) []Date {
	if first.Compare(r.anchor) < 0 {
		first = r.anchor
	}
	if last.Compare(first) < 0 {
		return nil
	}
	var all []Date
	for next := r.iterate(first); ; {
		t, ok := next()
		d := DateOf(t)
		if !ok || d.Compare(last) > 0 {
			return all
		}
		if d.Compare(first) >= 0 {
			all = append(all, d)
		}
	}
}

func (r *Rule) spans(zone *time.Location, from, until time.Time) []Span {
	// Two days cover any offset. A later occurrence may shorten the last one.
	first := DateOf(from.Add(-r.Duration).UTC()).AddDays(-2)
	last := DateOf(until.Add(r.Duration).UTC()).AddDays(2)
	var all []Span
	for _, d := range r.occurrences(first, last) {
		f, ok := begins(zone, d, r.At)
		if !ok {
			continue
		}
		if n := len(all); n > 0 && all[n-1].Until.After(f) {
			all[n-1].Until = f
		}
		all = append(all, Span{f, f.Add(r.Duration)})
	}
	return overlapping(all, from, until)
}
