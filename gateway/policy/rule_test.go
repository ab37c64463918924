package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestNewRuleErrors holds the exact words of every refusal.
func TestNewRuleErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", `rule "": "" is not a part of a rule: allowed is NAME=VALUE, separated by semicolons`},
		{"FREQ", `rule "FREQ": "FREQ" is not a part of a rule: allowed is NAME=VALUE, separated by semicolons`},
		{"FREQ=", `rule "FREQ=": "FREQ=" is not a part of a rule: allowed is NAME=VALUE, separated by semicolons`},
		{"BYDAY=MO", `rule "BYDAY=MO": FREQ is missing: allowed is DAILY, WEEKLY, MONTHLY or YEARLY`},
		{"FREQ=HOURLY", `rule "FREQ=HOURLY": FREQ=HOURLY: allowed is DAILY, WEEKLY, MONTHLY or YEARLY`},
		{"FREQ=MINUTELY", `rule "FREQ=MINUTELY": FREQ=MINUTELY: allowed is DAILY, WEEKLY, MONTHLY or YEARLY`},
		{"FREQ=SECONDLY", `rule "FREQ=SECONDLY": FREQ=SECONDLY: allowed is DAILY, WEEKLY, MONTHLY or YEARLY`},
		{"FREQ=DAILY;COUNT=3", `rule "FREQ=DAILY;COUNT=3": COUNT is not allowed: the last date is what the window's valid or the contract says`},
		{"FREQ=DAILY;UNTIL=20270101", `rule "FREQ=DAILY;UNTIL=20270101": UNTIL is not allowed: the last date is what the window's valid or the contract says`},
		{"FREQ=DAILY;DTSTART=20270101", `rule "FREQ=DAILY;DTSTART=20270101": DTSTART is not allowed: the first date is what the window's valid says`},
		{"FREQ=DAILY;BYHOUR=2", `rule "FREQ=DAILY;BYHOUR=2": BYHOUR is not allowed: the time of day is what the window's at says`},
		{"FREQ=DAILY;BYMINUTE=2", `rule "FREQ=DAILY;BYMINUTE=2": BYMINUTE is not allowed: the time of day is what the window's at says`},
		{"FREQ=DAILY;BYSECOND=2", `rule "FREQ=DAILY;BYSECOND=2": BYSECOND is not allowed: the time of day is what the window's at says`},
		{"FREQ=YEARLY;BYWEEKNO=53", `rule "FREQ=YEARLY;BYWEEKNO=53": BYWEEKNO is not allowed: programs disagree on it; say it with BYMONTH and BYDAY`},
		{"FREQ=DAILY;FREQ=DAILY", `rule "FREQ=DAILY;FREQ=DAILY": FREQ is there twice: allowed is once`},
		{"FREQ=DAILY;BYEASTER=1", `rule "FREQ=DAILY;BYEASTER=1": "BYEASTER" is not known: allowed is FREQ, INTERVAL, WKST, BYMONTH, BYYEARDAY, BYMONTHDAY, BYDAY and BYSETPOS`},
		{"FREQ=DAILY;INTERVAL=0", `rule "FREQ=DAILY;INTERVAL=0": INTERVAL=0: allowed is 1 to 1000`},
		{"FREQ=DAILY;INTERVAL=2", `rule "FREQ=DAILY;INTERVAL=2": INTERVAL=2 counts from a date: allowed is a window whose valid has a from`},
		{"FREQ=MONTHLY", `rule "FREQ=MONTHLY": it names no day: allowed is a BY part that names days, or a window whose valid has a from`},
		{"FREQ=YEARLY;BYMONTH=3", `rule "FREQ=YEARLY;BYMONTH=3": it names no day: allowed is a BY part that names days, or a window whose valid has a from`},
		{"FREQ=DAILY;WKST=XX", `rule "FREQ=DAILY;WKST=XX": WKST=XX: allowed is MO, TU, WE, TH, FR, SA or SU`},
		{"FREQ=MONTHLY;BYDAY=XX", `rule "FREQ=MONTHLY;BYDAY=XX": BYDAY=XX: "XX" is not a day: allowed is MO, TU, WE, TH, FR, SA or SU`},
		{"FREQ=MONTHLY;BYDAY=6MO", `rule "FREQ=MONTHLY;BYDAY=6MO": BYDAY=6MO: "6MO" is not allowed: allowed is 1 to 5 and -5 to -1`},
		{"FREQ=MONTHLY;BYDAY=0MO", `rule "FREQ=MONTHLY;BYDAY=0MO": BYDAY=0MO: "0MO" is not allowed: allowed is 1 to 5 and -5 to -1`},
		{"FREQ=YEARLY;BYDAY=-54MO", `rule "FREQ=YEARLY;BYDAY=-54MO": BYDAY=-54MO: "-54MO" is not allowed: allowed is 1 to 53 and -53 to -1`},
		{"FREQ=WEEKLY;BYDAY=1MO", `rule "FREQ=WEEKLY;BYDAY=1MO": BYDAY=1MO: "1MO" has a number: allowed are numbers with FREQ=MONTHLY and FREQ=YEARLY`},
		{"FREQ=MONTHLY;BYDAY=MO,2TU", `rule "FREQ=MONTHLY;BYDAY=MO,2TU": BYDAY=MO,2TU: some days have a number: allowed is all or none`},
		{"FREQ=WEEKLY;BYMONTHDAY=3", `rule "FREQ=WEEKLY;BYMONTHDAY=3": BYMONTHDAY is not allowed with FREQ=WEEKLY: allowed with it is [DAILY MONTHLY YEARLY]`},
		{"FREQ=MONTHLY;BYMONTHDAY=32", `rule "FREQ=MONTHLY;BYMONTHDAY=32": BYMONTHDAY=32: "32" is not allowed: allowed is 1 to 31 and -31 to -1`},
		{"FREQ=YEARLY;BYMONTH=1,-1;BYMONTHDAY=1", `rule "FREQ=YEARLY;BYMONTH=1,-1;BYMONTHDAY=1": BYMONTH=1,-1: "-1" is not allowed: allowed is 1 to 12`},
		{"FREQ=MONTHLY;BYSETPOS=1", `rule "FREQ=MONTHLY;BYSETPOS=1": BYSETPOS is alone: allowed is BYSETPOS with another BY part`},
		{"FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", `rule "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30": it matches no date: allowed is what occurs at least once in 100 years`},
	} {
		if _, err := NewRule(c.text, 0, time.Hour, Date{}); err == nil || err.Error() != c.want {
			t.Errorf("NewRule(%q)\n got %v\nwant %v", c.text, err, c.want)
		}
	}
	for _, c := range []struct {
		at       TimeOfDay
		duration time.Duration
		want     string
	}{
		{-1, time.Hour, "a rule begins at -1 s of the day: allowed is 0 to 86399"},
		{86400, time.Hour, "a rule begins at 86400 s of the day: allowed is 0 to 86399"},
		{0, 0, "a duration of 0s: allowed is whole seconds from 1s to 8784h0m0s"},
		{0, -time.Hour, "a duration of -1h0m0s: allowed is whole seconds from 1s to 8784h0m0s"},
		{0, time.Second / 2 * 3, "a duration of 1.5s: allowed is whole seconds from 1s to 8784h0m0s"},
		{0, 8785 * time.Hour, "a duration of 8785h0m0s: allowed is whole seconds from 1s to 8784h0m0s"},
	} {
		if _, err := NewRule("FREQ=DAILY", c.at, c.duration, Date{}); err == nil || err.Error() != c.want {
			t.Errorf("NewRule at %d for %v\n got %v\nwant %v", c.at, c.duration, err, c.want)
		}
	}
}

// obviousRule is a rule as RFC 5545 describes it: of each period that counts,
// the dates that every BY part lets through, and of those the positions.
type obviousRule struct {
	freq                             string
	interval                         int
	weekStart                        time.Weekday
	months, yearDays, monthDays, set []int
	days                             []numberedDay
	anchor                           Date
}

type numberedDay struct {
	n   int // 0: every one
	day time.Weekday
}

var weekdayNames = []string{"SU", "MO", "TU", "WE", "TH", "FR", "SA"}

// text writes the rule in RFC 5545's words.
func (r *obviousRule) text() string {
	b := "FREQ=" + r.freq
	if r.interval > 1 {
		b += fmt.Sprintf(";INTERVAL=%d", r.interval)
	}
	if r.weekStart != time.Monday {
		b += ";WKST=" + weekdayNames[r.weekStart]
	}
	list := func(name string, numbers []int) {
		if len(numbers) > 0 {
			b += ";" + name + "=" + strings.Trim(strings.ReplaceAll(fmt.Sprint(numbers), " ", ","), "[]")
		}
	}
	list("BYMONTH", r.months)
	list("BYYEARDAY", r.yearDays)
	list("BYMONTHDAY", r.monthDays)
	for i, d := range r.days {
		b += map[bool]string{true: ";BYDAY=", false: ","}[i == 0]
		if d.n != 0 {
			b += fmt.Sprint(d.n)
		}
		b += weekdayNames[d.day]
	}
	list("BYSETPOS", r.set)
	return b
}

// period gives the first date of the period that holds a date, its length in
// days, and its number.
func (r *obviousRule) period(d Date) (first Date, length, number int) {
	switch r.freq {
	case "DAILY":
		return d, 1, d.days()
	case "WEEKLY":
		for d.Weekday() != r.weekStart {
			d = d.AddDays(-1)
		}
		return d, 7, (d.days() + 70000) / 7
	case "MONTHLY":
		return Date{d.Year, d.Month, 1}, daysInMonth(d), d.Year*12 + int(d.Month)
	}
	return Date{d.Year, time.January, 1}, daysInYear(d), d.Year
}

func (r *obviousRule) occurs(d Date) bool {
	first, length, number := r.period(d)
	if d.Compare(r.anchor) < 0 {
		return false
	}
	if r.interval > 1 {
		if _, _, from := r.period(r.anchor); (number-from)%r.interval != 0 {
			return false
		}
	}
	if len(r.set) == 0 {
		return r.lets(d)
	}
	var through []Date
	for i := range length {
		if day := first.AddDays(i); r.lets(day) {
			through = append(through, day)
		}
	}
	for _, n := range r.set {
		if n < 0 {
			n += len(through) + 1
		}
		if 1 <= n && n <= len(through) && through[n-1] == d {
			return true
		}
	}
	return false
}

// lets reports whether every BY part that is there lets a date through.
func (r *obviousRule) lets(d Date) bool {
	yearDay := d.days() - Date{d.Year, time.January, 1}.days() + 1
	in := func(numbers []int, n, last int) bool {
		return len(numbers) == 0 || slices.Contains(numbers, n) || slices.Contains(numbers, n-last-1)
	}
	if !in(r.months, int(d.Month), 99) || !in(r.monthDays, d.Day, daysInMonth(d)) || !in(r.yearDays, yearDay, daysInYear(d)) {
		return false
	}
	if len(r.monthDays)+len(r.yearDays)+len(r.days) == 0 { // the anchor says which day
		switch r.freq {
		case "WEEKLY":
			return d.Weekday() == r.anchor.Weekday()
		case "MONTHLY":
			return d.Day == r.anchor.Day
		case "YEARLY":
			return d.Day == r.anchor.Day && (len(r.months) > 0 || d.Month == r.anchor.Month)
		}
		return true
	}
	if len(r.days) == 0 {
		return true
	}
	for _, w := range r.days {
		if w.day != d.Weekday() {
			continue
		}
		place, length := d.Day, daysInMonth(d)
		if r.freq == "YEARLY" && len(r.months) == 0 {
			place, length = yearDay, daysInYear(d)
		}
		if w.n == 0 || w.n == (place-1)/7+1 || -w.n == (length-place)/7+1 {
			return true
		}
	}
	return false
}

func daysInMonth(d Date) int { return Date{d.Year, d.Month + 1, 0}.AddDays(0).Day }

func daysInYear(d Date) int {
	return Date{d.Year + 1, time.January, 1}.days() - Date{d.Year, time.January, 1}.days()
}

// randomRule makes a rule that RFC 5545 allows.
func randomRule(pick func(int) int) *obviousRule {
	r := &obviousRule{
		freq:      []string{"DAILY", "WEEKLY", "MONTHLY", "YEARLY"}[pick(4)],
		interval:  []int{1, 1, 1, 2, 3, 5}[pick(6)],
		weekStart: []time.Weekday{time.Monday, time.Monday, time.Sunday, time.Thursday}[pick(4)],
		anchor:    Date{2020 + pick(7), time.Month(1 + pick(12)), 1 + pick(28)},
	}
	if pick(8) == 0 {
		r.anchor = Date{2024, time.February, 29}
	}
	numbers := func(last int, negative bool) (list []int) {
		for range 1 + pick(4) {
			n := 1 + pick(last)
			if negative && pick(3) == 0 {
				n = -n
			}
			list = append(list, n)
		}
		return list
	}
	if pick(3) == 0 {
		r.months = numbers(12, false)
	}
	last := 0
	switch r.freq {
	case "DAILY":
		if pick(3) == 0 {
			r.monthDays = numbers(31, true)
		}
	case "MONTHLY":
		last = 5
		if pick(2) == 0 {
			r.monthDays = numbers(31, true)
		}
	case "YEARLY":
		switch pick(3) {
		case 0:
			r.monthDays = numbers(31, true)
		case 1:
			r.yearDays = numbers(366, true)
		}
		if last = 53; len(r.months) > 0 {
			last = 5
		}
	}
	if pick(2) == 0 {
		numbered := last > 0 && pick(2) == 0
		for range 1 + pick(4) {
			d := numberedDay{0, time.Weekday(pick(7))}
			if numbered {
				if d.n = 1 + pick(last); pick(3) == 0 {
					d.n = -d.n
				}
			}
			r.days = append(r.days, d)
		}
	}
	if r.freq != "DAILY" && len(r.months)+len(r.yearDays)+len(r.monthDays)+len(r.days) > 0 && pick(4) == 0 {
		r.set = numbers(4, true)
	}
	return r
}

// TestRuleOccurrences holds random rules against the obvious reading of RFC
// 5545, date by date, and that it does not matter where one begins to look.
func TestRuleOccurrences(t *testing.T) {
	random := rand.New(rand.NewPCG(5545, 3))
	compiled, dates := 0, 0
	for range 400 {
		o := randomRule(random.IntN)
		r, err := NewRule(o.text(), 0, time.Hour, o.anchor)
		first := Date{2019 + random.IntN(12), time.Month(1 + random.IntN(12)), 1 + random.IntN(31)}.AddDays(0)
		last := first.AddDays(random.IntN(1200))
		var want []Date
		for d := first; d.Compare(last) <= 0; d = d.AddDays(1) {
			if o.occurs(d) {
				want = append(want, d)
			}
		}
		if err != nil {
			if len(want) > 0 || !strings.Contains(err.Error(), "matches no date") {
				t.Errorf("NewRule(%q) with anchor %s: %v, but it occurs on %v", o.text(), o.anchor, err, want)
			}
			continue
		}
		compiled++
		dates += len(want)
		if diff := cmp.Diff(want, r.occurrences(first, last)); diff != "" {
			t.Errorf("%s with anchor %s, from %s to %s (-want +got):\n%s", o.text(), o.anchor, first, last, diff)
		}
	}
	if compiled < 300 || dates < 10000 {
		t.Errorf("%d rules with %d occurrences were compared: too few to say anything", compiled, dates)
	}
}
