package policy

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestHolidays holds the days of rest as the governments publish them:
// Cabinet Office of Japan (including 2026-09-22, between two holidays, and
// substitutes), OPM of the United States (observed and actual).
func TestHolidays(t *testing.T) {
	for _, c := range []struct {
		country string
		year    int
		want    string
	}{
		{"JP", 2026, "01-01 01-12 02-11 02-23 03-20 04-29 05-03 05-04 05-05 05-06 07-20 08-11 09-21 09-22 09-23 10-12 11-03 11-23"},
		{"JP", 2027, "01-01 01-11 02-11 02-23 03-21 03-22 04-29 05-03 05-04 05-05 07-19 08-11 09-20 09-23 10-11 11-03 11-23"},
		{"JP", 2037, "01-01 01-12 02-11 02-23 03-20 04-29 05-03 05-04 05-05 05-06 07-20 08-11 09-21 09-22 09-23 10-12 11-03 11-23"},
		{"US", 2026, "01-01 01-19 02-16 05-25 06-19 07-03 07-04 09-07 10-12 11-11 11-26 12-25"},
		{"US", 2027, "01-01 01-18 02-15 05-31 06-18 06-19 07-04 07-05 09-06 10-11 11-11 11-25 12-24 12-25 12-31"},
		{"DE", 2026, "01-01 04-03 04-06 05-01 05-14 05-25 10-03 12-25 12-26"},
		{"FR", 2026, "01-01 04-06 05-01 05-08 05-14 05-25 07-14 08-15 11-01 11-11 12-25"},
	} {
		calendar, err := NewCalendar("holidays", c.country, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for d := (Date{c.year, time.January, 1}); d.Year == c.year; d = d.AddDays(1) {
			if calendar.Covers(d) {
				got = append(got, d.String()[5:])
			}
		}
		if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("holidays of %s in %d (-want +got):\n%s", c.country, c.year, diff)
		}
	}
}

// TestEveryCountryHasHolidays also lets the race detector see calendars asked
// by several goroutines at once.
func TestEveryCountryHasHolidays(t *testing.T) {
	var group sync.WaitGroup
	for _, country := range Countries() {
		for range 2 {
			group.Go(func() {
				calendar, err := NewCalendar("holidays", country, nil)
				if err != nil {
					t.Error(err)
					return
				}
				n := 0
				for d := (Date{2026, time.January, 1}); d.Year == 2026; d = d.AddDays(1) {
					if calendar.Covers(d) {
						n++
					}
				}
				if n < 5 || n > 30 {
					t.Errorf("%s has %d holidays in 2026", country, n)
				}
			})
		}
	}
	group.Wait()
}

func TestCalendarDates(t *testing.T) {
	c, err := NewCalendar("closed", "", []DateRange{
		{mustDate("2026-12-29"), mustDate("2027-01-03")},
		{mustDate("2026-05-01"), mustDate("2026-05-01")},
		{mustDate("2026-12-01"), mustDate("2027-02-01")}, // overlaps the first, and ends after it
	})
	if err != nil {
		t.Fatal(err)
	}
	for date, want := range map[string]bool{
		"2026-04-30": false, "2026-05-01": true, "2026-05-02": false, "2026-11-30": false, "2026-12-01": true,
		"2026-12-29": true, "2027-01-03": true, "2027-01-04": true, "2027-02-01": true, "2027-02-02": false,
	} {
		if got := c.Covers(mustDate(date)); got != want {
			t.Errorf("Covers(%s) = %v, want %v", date, got, want)
		}
	}
}

func TestNewCalendarErrors(t *testing.T) {
	_, err := NewCalendar("x", "XX", nil)
	want := `"XX" is not a country whose holidays are known: allowed is one of AR, AT, BE, BG, BR, CA, CZ, DE, DK, ES, FR, GB, GR, HR, IE, IT, JP, LT, LV, MW, NC, NL, NO, NZ, PL, RO, RU, SE, SI, SK, UA, US, ZA`
	if err == nil || err.Error() != want {
		t.Errorf("country XX:\n got %v\nwant %v", err, want)
	}
	_, err = NewCalendar("x", "", []DateRange{{mustDate("2027-01-03"), mustDate("2026-12-29")}})
	want = `the dates 2027-01-03..2026-12-29 end before they begin: allowed is a first date and a last date not before it`
	if err == nil || err.Error() != want {
		t.Errorf("dates that end before they begin:\n got %v\nwant %v", err, want)
	}
}
