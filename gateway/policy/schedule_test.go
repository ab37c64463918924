package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the tests' zones must not depend on the machine

	"github.com/google/go-cmp/cmp"
)

// TestFault46WindowSpans is the table of what a window's words mean on the calendar:
// clocks set forward and back, ends of months, leap days, dates cut out. Each
// wanted line is one span: weekday, from, until, and how long it lasts.
func TestFault46WindowSpans(t *testing.T) {
	for _, c := range []struct {
		name        string
		zone        string
		window      *Window
		from, until string // local dates; until is exclusive
		want        string
	}{
		// Rules.
		{"second Sunday night of each month", "Asia/Tokyo", rule("FREQ=MONTHLY;BYDAY=2SU", "22:00", 4*time.Hour), "2026-12-01", "2027-03-31", `
			Sun 2026-12-13 22:00+09 - Mon 2026-12-14 02:00+09 4h
			Sun 2027-01-10 22:00+09 - Mon 2027-01-11 02:00+09 4h
			Sun 2027-02-14 22:00+09 - Mon 2027-02-15 02:00+09 4h
			Sun 2027-03-14 22:00+09 - Mon 2027-03-15 02:00+09 4h`},
		{"the 31st is only where there is one", "Asia/Tokyo", rule("FREQ=MONTHLY;BYMONTHDAY=31", "01:00", time.Hour), "2026-01-01", "2026-07-01", `
			Sat 2026-01-31 01:00+09 - Sat 2026-01-31 02:00+09 1h
			Tue 2026-03-31 01:00+09 - Tue 2026-03-31 02:00+09 1h
			Sun 2026-05-31 01:00+09 - Sun 2026-05-31 02:00+09 1h`},
		{"the 29th, 30th and 31st around a February", "Asia/Tokyo", rule("FREQ=MONTHLY;BYMONTHDAY=29,30,31", "01:00", time.Hour), "2027-01-28", "2027-03-30", `
			Fri 2027-01-29 01:00+09 - Fri 2027-01-29 02:00+09 1h
			Sat 2027-01-30 01:00+09 - Sat 2027-01-30 02:00+09 1h
			Sun 2027-01-31 01:00+09 - Sun 2027-01-31 02:00+09 1h
			Mon 2027-03-29 01:00+09 - Mon 2027-03-29 02:00+09 1h`},
		{"the last day of each month", "Asia/Tokyo", rule("FREQ=MONTHLY;BYMONTHDAY=-1", "23:30", time.Hour), "2028-01-01", "2028-04-01", `
			Fri 2027-12-31 23:30+09 - Sat 2028-01-01 00:30+09 1h
			Mon 2028-01-31 23:30+09 - Tue 2028-02-01 00:30+09 1h
			Tue 2028-02-29 23:30+09 - Wed 2028-03-01 00:30+09 1h
			Fri 2028-03-31 23:30+09 - Sat 2028-04-01 00:30+09 1h`},
		{"the last working day of each month", "Asia/Tokyo", rule("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", "18:00", time.Hour), "2026-01-01", "2026-04-01", `
			Fri 2026-01-30 18:00+09 - Fri 2026-01-30 19:00+09 1h
			Fri 2026-02-27 18:00+09 - Fri 2026-02-27 19:00+09 1h
			Tue 2026-03-31 18:00+09 - Tue 2026-03-31 19:00+09 1h`},
		{"a leap day comes every fourth year", "Asia/Tokyo", anchored("FREQ=YEARLY", "2024-02-29", "12:00", time.Hour), "2024-01-01", "2033-01-01", `
			Thu 2024-02-29 12:00+09 - Thu 2024-02-29 13:00+09 1h
			Tue 2028-02-29 12:00+09 - Tue 2028-02-29 13:00+09 1h
			Sun 2032-02-29 12:00+09 - Sun 2032-02-29 13:00+09 1h`},
		{"every second week counts from the anchor's week", "Asia/Tokyo", anchored("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,FR", "2026-12-03", "12:00", time.Hour), "2026-11-01", "2027-01-02", `
			Fri 2026-12-04 12:00+09 - Fri 2026-12-04 13:00+09 1h
			Mon 2026-12-14 12:00+09 - Mon 2026-12-14 13:00+09 1h
			Fri 2026-12-18 12:00+09 - Fri 2026-12-18 13:00+09 1h
			Mon 2026-12-28 12:00+09 - Mon 2026-12-28 13:00+09 1h
			Fri 2027-01-01 12:00+09 - Fri 2027-01-01 13:00+09 1h`},
		{"an occurrence that begins in another one ends it", "Asia/Tokyo", rule("FREQ=DAILY", "12:00", 25*time.Hour), "2026-01-02", "2026-01-03", `
			Thu 2026-01-01 12:00+09 - Fri 2026-01-02 12:00+09 24h
			Fri 2026-01-02 12:00+09 - Sat 2026-01-03 12:00+09 24h`},

		{"a long occurrence is found from its middle", "Asia/Tokyo", rule("FREQ=MONTHLY;BYMONTHDAY=1", "12:00", 240*time.Hour), "2026-01-08", "2026-01-09", `
			Thu 2026-01-01 12:00+09 - Sun 2026-01-11 12:00+09 240h`},

		// Clocks set forward: 2026-03-08 02:00 to 03:00 in New York.
		{"gap: a rule's 02:30 opens after the gap, and lasts", "America/New_York", rule("FREQ=DAILY", "02:30", 4*time.Hour), "2026-03-07", "2026-03-10", `
			Sat 2026-03-07 02:30-05 - Sat 2026-03-07 06:30-05 4h
			Sun 2026-03-08 03:00-04 - Sun 2026-03-08 07:00-04 4h
			Mon 2026-03-09 02:30-04 - Mon 2026-03-09 06:30-04 4h`},
		{"gap: a rule's duration is elapsed time", "America/New_York", rule("FREQ=WEEKLY;BYDAY=SA", "22:00", 8*time.Hour), "2026-03-07", "2026-03-09", `
			Sat 2026-03-07 22:00-05 - Sun 2026-03-08 07:00-04 8h`},
		{"gap: a night's end on the clock comes an hour sooner", "America/New_York", days("sat", "22:00", "06:00"), "2026-03-07", "2026-03-09", `
			Sat 2026-03-07 22:00-05 - Sun 2026-03-08 06:00-04 7h`},
		{"gap: what lies within it does not exist", "America/New_York", days("sun", "02:10", "02:50"), "2026-03-01", "2026-03-16", `
			Sun 2026-03-01 02:10-05 - Sun 2026-03-01 02:50-05 40m
			Sun 2026-03-15 02:10-04 - Sun 2026-03-15 02:50-04 40m`},
		{"gap: an end within it is its end", "America/New_York", days("sun", "01:00", "02:30"), "2026-03-08", "2026-03-09", `
			Sun 2026-03-08 01:00-05 - Sun 2026-03-08 03:00-04 1h`},
		{"gap: once, from within it", "America/New_York", once("2026-03-08T02:30:15", "2026-03-08T04:00:30"), "2026-03-08", "2026-03-09", `
			Sun 2026-03-08 03:00-04 - Sun 2026-03-08 04:00:30-04 1h0m30s`},
		// Clocks set back: 2026-11-01 02:00 to 01:00 in New York.
		{"fold: 01:30 opens the second time", "America/New_York", rule("FREQ=DAILY", "01:30", time.Hour), "2026-11-01", "2026-11-02", `
			Sun 2026-11-01 01:30-05 - Sun 2026-11-01 02:30-05 1h`},
		{"fold: 01:30 closes the first time", "America/New_York", days("sat", "22:00", "01:30"), "2026-10-31", "2026-11-02", `
			Sat 2026-10-31 22:00-04 - Sun 2026-11-01 01:30-04 3h30m`},
		{"fold: what begins and ends within it does not exist", "America/New_York", days("sun", "01:10", "01:50"), "2026-10-25", "2026-11-09", `
			Sun 2026-10-25 01:10-04 - Sun 2026-10-25 01:50-04 40m
			Sun 2026-11-08 01:10-05 - Sun 2026-11-08 01:50-05 40m`},
		{"fold: a working day around it lasts longer", "America/New_York", days("sun", "00:30", "02:00"), "2026-11-01", "2026-11-02", `
			Sun 2026-11-01 00:30-04 - Sun 2026-11-01 02:00-05 2h30m`},
		{"fold: round the clock stops for the hour that is shown twice", "America/New_York", days("sun,mon,tue,wed,thu,fri,sat", "01:30", "01:30"), "2026-10-31", "2026-11-02", `
			Fri 2026-10-30 01:30-04 - Sat 2026-10-31 01:30-04 24h
			Sat 2026-10-31 01:30-04 - Sun 2026-11-01 01:30-04 24h
			Sun 2026-11-01 01:30-05 - Mon 2026-11-02 01:30-05 24h`},
		{"half an hour: Lord Howe forward at 02:00", "Australia/Lord_Howe", rule("FREQ=DAILY", "02:15", time.Hour), "2026-10-04", "2026-10-05", `
			Sun 2026-10-04 02:30+11 - Sun 2026-10-04 03:30+11 1h`},
		{"half an hour: Lord Howe back at 02:00", "Australia/Lord_Howe", days("sun", "01:45", "02:15"), "2026-04-05", "2026-04-06", `
			Sun 2026-04-05 01:45+1030 - Sun 2026-04-05 02:15+1030 30m`},
		// Midnight itself is missing: 2018-11-04 00:00 to 01:00 in Sao Paulo,
		// 2026-04-24 in Cairo.
		{"no midnight: a day begins at 01:00", "America/Sao_Paulo", days("sun", "00:00", "06:00"), "2018-11-04", "2018-11-05", `
			Sun 2018-11-04 01:00-02 - Sun 2018-11-04 06:00-02 5h`},
		{"no midnight: 24:00 is the first instant of the next day", "America/Sao_Paulo", days("sat", "20:00", "24:00"), "2018-11-03", "2018-11-05", `
			Sat 2018-11-03 20:00-03 - Sun 2018-11-04 01:00-02 4h`},
		{"no midnight: an excepted date ends where it ends", "Africa/Cairo", except(days("wed,thu,fri", "22:00", "02:00"), "2026-04-23"), "2026-04-22", "2026-04-26", `
			Wed 2026-04-22 22:00+02 - Thu 2026-04-23 00:00+02 2h
			Fri 2026-04-24 01:00+03 - Fri 2026-04-24 02:00+03 1h
			Fri 2026-04-24 22:00+03 - Sat 2026-04-25 02:00+03 4h`},
		{"two midnights: back from 00:00 to 23:00, the later evening opens", "Africa/Cairo", days("thu", "23:30", "00:30"), "2026-10-29", "2026-10-31", `
			Thu 2026-10-29 23:30+02 - Fri 2026-10-30 00:30+02 1h`},
		{"two midnights: back from 00:01 to 23:01, a date is cut wherever it is shown", "America/St_Johns", except(once("2010-11-06T22:00", "2010-11-07T02:00"), "2010-11-07"), "2010-11-06", "2010-11-08", `
			Sat 2010-11-06 22:00-0230 - Sun 2010-11-07 00:00-0230 2h
			Sat 2010-11-06 23:01-0330 - Sun 2010-11-07 00:00-0330 59m`},
		// Samoa went over the date line and had no 2011-12-30.
		{"no such date: it begins nothing", "Pacific/Apia", days("thu,fri,sat", "09:00", "17:00"), "2011-12-29", "2012-01-01", `
			Thu 2011-12-29 09:00-10 - Thu 2011-12-29 17:00-10 8h
			Sat 2011-12-31 09:00+14 - Sat 2011-12-31 17:00+14 8h`},
		{"no such date: a rule neither", "Pacific/Apia", rule("FREQ=DAILY", "09:00", time.Hour), "2011-12-29", "2012-01-01", `
			Thu 2011-12-29 09:00-10 - Thu 2011-12-29 10:00-10 1h
			Sat 2011-12-31 09:00+14 - Sat 2011-12-31 10:00+14 1h`},
		{"no such date: a night into it ends where it would begin", "Pacific/Apia", days("thu", "22:00", "06:00"), "2011-12-29", "2012-01-01", `
			Thu 2011-12-29 22:00-10 - Sat 2011-12-31 00:00+14 2h`},
		{"no such date: once, across it", "Pacific/Apia", once("2011-12-29T22:00", "2011-12-31T02:00"), "2011-12-29", "2012-01-01", `
			Thu 2011-12-29 22:00-10 - Sat 2011-12-31 02:00+14 4h`},

		// Days.
		{"days: a whole day", "Asia/Tokyo", days("mon", "00:00", "24:00"), "2026-12-07", "2026-12-08", `
			Mon 2026-12-07 00:00+09 - Tue 2026-12-08 00:00+09 24h`},
		{"days: to equal to from is the next day's", "Asia/Tokyo", days("mon", "09:00", "09:00"), "2026-12-08", "2026-12-09", `
			Mon 2026-12-07 09:00+09 - Tue 2026-12-08 09:00+09 24h`},
		{"days: Saturdays and holidays, nights", "Asia/Tokyo", onHolidays(days("sat", "22:00", "02:00"), "JP"), "2026-09-18", "2026-09-27", `
			Sat 2026-09-19 22:00+09 - Sun 2026-09-20 02:00+09 4h
			Mon 2026-09-21 22:00+09 - Tue 2026-09-22 02:00+09 4h
			Tue 2026-09-22 22:00+09 - Wed 2026-09-23 02:00+09 4h
			Wed 2026-09-23 22:00+09 - Thu 2026-09-24 02:00+09 4h
			Sat 2026-09-26 22:00+09 - Sun 2026-09-27 02:00+09 4h`},

		// What cuts.
		{"except: a night loses the excepted morning, and the excepted evening", "Asia/Tokyo", except(days("tue,wed,thu", "22:00", "02:00"), "2026-12-30"), "2026-12-28", "2027-01-01", `
			Tue 2026-12-29 22:00+09 - Wed 2026-12-30 00:00+09 2h
			Thu 2026-12-31 00:00+09 - Thu 2026-12-31 02:00+09 2h
			Thu 2026-12-31 22:00+09 - Fri 2027-01-01 02:00+09 4h`},
		{"except: a long span falls into two", "Asia/Tokyo", except(once("2026-12-28T12:00", "2027-01-05T12:00"), "2026-12-30", "2026-12-31"), "2026-12-28", "2027-01-06", `
			Mon 2026-12-28 12:00+09 - Wed 2026-12-30 00:00+09 36h
			Fri 2027-01-01 00:00+09 - Tue 2027-01-05 12:00+09 108h`},
		{"valid: both dates are inclusive", "Asia/Tokyo", valid(days("mon,tue,wed,thu", "22:00", "02:00"), "2026-12-08", "2026-12-09"), "2026-12-01", "2026-12-31", `
			Tue 2026-12-08 00:00+09 - Tue 2026-12-08 02:00+09 2h
			Tue 2026-12-08 22:00+09 - Wed 2026-12-09 02:00+09 4h
			Wed 2026-12-09 22:00+09 - Thu 2026-12-10 00:00+09 2h`},
		{"contract: ends with its last date", "Asia/Tokyo", contract(days("mon,tue,wed,thu", "22:00", "02:00"), "2026-12-09"), "2026-12-08", "2026-12-31", `
			Mon 2026-12-07 22:00+09 - Tue 2026-12-08 02:00+09 4h
			Tue 2026-12-08 22:00+09 - Wed 2026-12-09 02:00+09 4h
			Wed 2026-12-09 22:00+09 - Thu 2026-12-10 00:00+09 2h`},
	} {
		t.Run(c.name, func(t *testing.T) {
			zone := mustZone(t, c.zone)
			from, until := midnight(zone, mustDate(c.from)), midnight(zone, mustDate(c.until))
			got := ""
			for _, s := range c.window.Spans(zone, from, until) {
				got += "\n\t\t\t" + describe(zone, s)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("spans of %s to %s in %s (-want +got):\n%s", c.from, c.until, c.zone, diff)
			}
		})
	}
}

// describe writes a span as the tables of this file do.
func describe(zone *time.Location, s Span) string {
	show := func(t time.Time) string {
		t = t.In(zone)
		text := t.Format("Mon 2006-01-02 15:04:05-0700")
		text = strings.Replace(text, ":00-", "-", 1)
		text = strings.Replace(text, ":00+", "+", 1)
		return strings.TrimSuffix(text, "00")
	}
	lasts := s.Until.Sub(s.From).String()
	if strings.HasSuffix(lasts, "m0s") {
		lasts = strings.TrimSuffix(lasts, "0s")
	}
	if strings.HasSuffix(lasts, "h0m") {
		lasts = strings.TrimSuffix(lasts, "0m")
	}
	return fmt.Sprintf("%s - %s %s", show(s.From), show(s.Until), lasts)
}

func midnight(zone *time.Location, d Date) time.Time {
	first, _ := localise(zone, d, 0)
	return first
}

func mustZone(t testing.TB, name string) *time.Location {
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func mustDate(text string) Date {
	d, err := ParseDate(text)
	if err != nil {
		panic(err)
	}
	return d
}

// clock reads "22:00" and "24:00:00".
func clock(text string) TimeOfDay {
	var h, m, s int
	if n, _ := fmt.Sscanf(text, "%d:%d:%d", &h, &m, &s); n < 2 {
		panic("not a time of day: " + text)
	}
	return TimeOfDay(h*3600 + m*60 + s)
}

func local(text string) LocalTime {
	date, at, _ := strings.Cut(text, "T")
	return LocalTime{mustDate(date), clock(at)}
}

// The builders make windows of a vendor without a name, for tests of spans.

func anchored(text, anchor, at string, duration time.Duration) *Window {
	var from Date
	if anchor != "" {
		from = mustDate(anchor)
	}
	r, err := NewRule(text, clock(at), duration, from)
	if err != nil {
		panic(err)
	}
	return &Window{Vendor: &Vendor{}, Schedule: r}
}

func rule(text, at string, duration time.Duration) *Window { return anchored(text, "", at, duration) }

func days(names, from, to string) *Window {
	d := &Days{From: clock(from), To: clock(to)}
	for i, name := range []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} {
		d.Weekdays[i] = strings.Contains(names, name)
	}
	return &Window{Vendor: &Vendor{}, Schedule: d}
}

func once(from, until string) *Window {
	return &Window{Vendor: &Vendor{}, Schedule: &Once{local(from), local(until)}}
}

func onHolidays(w *Window, country string) *Window {
	c, err := NewCalendar("holidays", country, nil)
	if err != nil {
		panic(err)
	}
	w.Schedule.(*Days).Calendars = []*Calendar{c}
	return w
}

func except(w *Window, dates ...string) *Window {
	c := &Calendar{Name: "except"}
	for _, d := range dates {
		c.Dates = append(c.Dates, DateRange{mustDate(d), mustDate(d)})
	}
	w.Except = append(w.Except, c)
	return w
}

func valid(w *Window, from, until string) *Window {
	w.ValidFrom, w.ValidUntil = mustDate(from), mustDate(until)
	return w
}

func contract(w *Window, until string) *Window {
	w.Vendor.ContractUntil = mustDate(until)
	return w
}
