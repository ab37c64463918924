package policy

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// Written is a time as people write it, in a policy or a command.
type Written struct {
	Local    LocalTime     // where Offset is, or in the site's zone
	Fraction time.Duration // of a second
	DateOnly bool          // no time of day: 00:00
	Offset   *time.Location
}

var written = regexp.MustCompile(`^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d)?(\.\d{1,9})?(Z|[+-]\d\d:\d\d)?)?$`)

// ParseTime reads a date, with a time of day after a T or a blank, to the minute or finer, with an
// offset or without one.
func ParseTime(text string) (Written, bool) {
	m := written.FindStringSubmatch(text)
	if m == nil || m[4] != "" && m[3] == "" {
		return Written{}, false
	}
	w := Written{DateOnly: m[2] == ""}
	date, err := ParseDate(m[1])
	if err != nil {
		return Written{}, false
	}
	w.Local.Date = date
	if !w.DateOnly {
		t, err := time.Parse("15:04:05", m[2]+(m[3] + ":00")[:3]+m[4])
		if err != nil {
			return Written{}, false
		}
		w.Local.Time, w.Fraction = TimeOfDay(t.Hour()*3600+t.Minute()*60+t.Second()), time.Duration(t.Nanosecond())
	}
	if m[5] != "" {
		t, err := time.Parse("Z07:00", m[5])
		if err != nil {
			return Written{}, false
		}
		_, offset := t.Zone()
		w.Offset = time.FixedZone("", offset)
	}
	return w, true
}

// At is the instant of a time at a site. A local time that the site's clocks skip or repeat is one of
// its two readings.
func (w Written) At(site *time.Location) time.Time {
	if w.Offset != nil {
		site = w.Offset
	}
	d := w.Local.Date
	return time.Date(d.Year, d.Month, d.Day, 0, 0, int(w.Local.Time), int(w.Fraction), site)
}

// In is the time as the site's clocks show it, without the fraction.
func (w Written) In(site *time.Location) LocalTime {
	if w.Offset == nil {
		return w.Local
	}
	t := w.At(site).In(site)
	return LocalTime{DateOf(t), TimeOfDay(t.Hour()*3600 + t.Minute()*60 + t.Second())}
}

// NotATime is the error about a text that ParseTime does not take.
func NotATime(text string, site *time.Location) error {
	return fmt.Errorf("%.200q is not a time: allowed is 2026-12-01T20:00 (in %s), with a blank in place of the T or seconds if you like, or with an offset as 2026-12-01T20:00:00+09:00", text, site)
}

var elapsedForm = regexp.MustCompile(`^(?:(\d{1,4})d)?((?:\d+h)?(?:\d+m)?(?:\d+s)?)$`)

// ParseElapsed reads a duration as people write it, in whole seconds: "90m", "2h", "1h30m", "14d",
// "1d12h". A day has 24 hours. Zero is no duration.
func ParseElapsed(text string) (time.Duration, bool) {
	m := elapsedForm.FindStringSubmatch(text)
	if m == nil || text == "" {
		return 0, false
	}
	days, _ := strconv.Atoi(m[1])
	elapsed, err := time.ParseDuration(cmp.Or(m[2], "0s"))
	elapsed += time.Duration(days) * 24 * time.Hour
	return elapsed, err == nil && elapsed > 0
}
