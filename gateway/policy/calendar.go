package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rickar/cal/v2"
	"github.com/rickar/cal/v2/ar"
	"github.com/rickar/cal/v2/at"
	"github.com/rickar/cal/v2/be"
	"github.com/rickar/cal/v2/bg"
	"github.com/rickar/cal/v2/br"
	"github.com/rickar/cal/v2/ca"
	"github.com/rickar/cal/v2/cz"
	"github.com/rickar/cal/v2/de"
	"github.com/rickar/cal/v2/dk"
	"github.com/rickar/cal/v2/es"
	"github.com/rickar/cal/v2/fr"
	"github.com/rickar/cal/v2/gb"
	"github.com/rickar/cal/v2/gr"
	"github.com/rickar/cal/v2/hr"
	"github.com/rickar/cal/v2/ie"
	"github.com/rickar/cal/v2/it"
	"github.com/rickar/cal/v2/jp"
	"github.com/rickar/cal/v2/lt"
	"github.com/rickar/cal/v2/lv"
	"github.com/rickar/cal/v2/mw"
	"github.com/rickar/cal/v2/nc"
	"github.com/rickar/cal/v2/nl"
	"github.com/rickar/cal/v2/no"
	"github.com/rickar/cal/v2/nz"
	"github.com/rickar/cal/v2/pl"
	"github.com/rickar/cal/v2/ro"
	"github.com/rickar/cal/v2/ru"
	"github.com/rickar/cal/v2/se"
	"github.com/rickar/cal/v2/si"
	"github.com/rickar/cal/v2/sk"
	"github.com/rickar/cal/v2/ua"
	"github.com/rickar/cal/v2/us"
	"github.com/rickar/cal/v2/za"
)

// Calendar is a named set of local dates. It is immutable.
type Calendar struct {
	Name    string
	Country string      // ISO 3166-1 alpha-2: national holidays, actual or observed; empty: none
	Dates   []DateRange // sorted by First; may overlap
}

// DateRange is the dates First to Last, inclusive.
type DateRange struct{ First, Last Date }

// String is the notation of the policy file: "2026-12-31" or "2026-12-29..2027-01-03".
func (r DateRange) String() string {
	if r.First == r.Last {
		return r.First.String()
	}
	return r.First.String() + ".." + r.Last.String()
}

// nationalHolidays has no Australia and no Switzerland: states and cantons have their own. GB is
// England and Wales.
var nationalHolidays = map[string][]*cal.Holiday{
	"AR": ar.Holidays, "AT": at.Holidays, "BE": be.Holidays, "BG": bg.Holidays,
	"BR": br.Holidays, "CA": ca.Holidays, "CZ": cz.Holidays, "DE": de.Holidays,
	"DK": dk.Holidays, "ES": es.Holidays, "FR": fr.Holidays, "GB": gb.Holidays,
	"GR": gr.Holidays, "HR": hr.Holidays, "IE": ie.Holidays, "IT": it.Holidays,
	"JP": jp.Holidays, "LT": lt.Holidays, "LV": lv.Holidays, "MW": mw.Holidays,
	"NC": nc.Holidays, "NL": nl.Holidays, "NO": no.Holidays, "NZ": nz.Holidays,
	"PL": pl.Holidays, "RO": ro.Holidays, "RU": ru.Holidays, "SE": se.Holidays,
	"SI": si.Holidays, "SK": sk.Holidays, "UA": ua.Holidays, "US": us.Holidays,
	"ZA": za.Holidays,
}

// Countries lists the country codes that NewCalendar takes, sorted.
func Countries() []string { return slices.Sorted(maps.Keys(nationalHolidays)) }

// NewCalendar makes a calendar of a country's national holidays (empty: none) and of date ranges.
func NewCalendar(name, country string, dates []DateRange) (*Calendar, error) {
	if _, ok := nationalHolidays[country]; country != "" && !ok {
		return nil, fmt.Errorf("%q is not a country whose holidays are known: allowed is one of %s", country, strings.Join(Countries(), ", "))
	}
	for _, r := range dates {
		if r.First.IsZero() || r.Last.Compare(r.First) < 0 {
			return nil, fmt.Errorf("the dates %s..%s end before they begin: allowed is a first date and a last date not before it", r.First, r.Last)
		}
	}
	c := &Calendar{Name: name, Country: country, Dates: slices.Clone(dates)}
	slices.SortFunc(c.Dates, func(a, b DateRange) int { return cmp.Or(a.First.Compare(b.First), a.Last.Compare(b.Last)) })
	return c, nil
}

// Covers reports whether the date is in the calendar.
func (c *Calendar) Covers(d Date) bool {
	for _, r := range c.Dates {
		if d.Compare(r.First) < 0 {
			break
		}
		if d.Compare(r.Last) <= 0 {
			return true
		}
	}
	return c.Country != "" && holidaysIn(c.Country, d.Year).has(d)
}

// dateSet is dates of one year, a bit for each.
type dateSet [13]uint32

func (s *dateSet) has(d Date) bool { return s[d.Month]&(1<<d.Day) != 0 }
func (s *dateSet) add(d Date)      { s[d.Month] |= 1 << d.Day }

// holidays caches the dates. The computation needs the lock too: package cal writes to its own
// definitions.
var holidays = struct {
	sync.Mutex
	years map[countryYear]*dateSet
}{years: map[countryYear]*dateSet{}}

type countryYear struct {
	country string
	year    int
}

func holidaysIn(country string, year int) *dateSet {
	key := countryYear{country, year}
	holidays.Lock()
	defer holidays.Unlock()
	s := holidays.years[key]
	if s == nil {
		s = computeHolidays(country, year)
		holidays.years[key] = s
	}
	return s
}

// computeHolidays gives the dates of a year that are a holiday, actual or observed.
func computeHolidays(country string, year int) *dateSet {
	// The default is the machine's zone. It could move a holiday to the day before, where clocks go
	// forward at midnight.
	cal.DefaultLoc = time.UTC
	s := new(dateSet)
	actual := map[Date]bool{}
	for _, h := range nationalHolidays[country] {
		// Observed days may lie in the year before or after.
		for y := year - 1; y <= year+1; y++ {
			a, o := h.Calc(y)
			if !a.IsZero() {
				actual[DateOf(a)] = true
			}
			for _, t := range []time.Time{a, o} {
				if !t.IsZero() && t.Year() == year {
					s.add(DateOf(t))
				}
			}
		}
	}
	if country == "JP" && year >= 2007 {
		// Act on National Holidays (1948, as amended 2005), article 3(3): the day between two
		// holidays is a holiday. Package cal has these up to 2032.
		for d := range actual {
			between := d.AddDays(1)
			if between.Year == year && actual[d.AddDays(2)] {
				s.add(between)
			}
		}
	}
	return s
}
