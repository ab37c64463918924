package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// Bounds of one opening.
const (
	maxDuration = 7 * 24 * time.Hour // of a rule, and of a request
	maxGrace    = 24 * time.Hour
	maxOnceDays = 31 // of a window that opens once
	// onceTold is for how long after its end a window that opened once has a warning. One that is
	// in the file for longer is meant to stay.
	onceTold = 28 * 24 * time.Hour
)

// Bounds of all windows of a policy.
const (
	// maxReach bounds the sum of engineers times targets over all windows: the work at each
	// opening.
	maxReach = 2_000_000
	// maxAhead bounds the sum of days before the first dates of all rules. The search takes about
	// 10 us a day.
	maxAhead = 400_000
	// neverAhead are the days that are searched for a rule that matches none.
	neverAhead = 100 * 366
)

func (r *reader) window(v *policy.Vendor, engineers map[string]*policy.Engineer, e entry) *policy.Window {
	w := &policy.Window{Vendor: v, Name: e.name}
	f := r.mapping(e.value, "rrule?", "at?", "duration?", "days?", "from?", "to?", "once?",
		"valid?", "except?", "targets", "engineers?", "approved_by", "ticket?", "section?", "grace?")
	if f == nil {
		return w
	}
	strange := r.strange
	var anchor policy.Date
	w.ValidFrom, w.ValidUntil, anchor = r.valid(e.value, f)
	r.schedule(w, e, f, anchor)
	w.Except = references(&r.decoder, f["except"], "calendar", r.calendars)
	w.Targets = references(&r.decoder, f["targets"], "target", r.targets)
	r.oneZone(f["targets"], w)
	r.windowAt[w] = e.named()
	before := r.told()
	w.Engineers = r.engineersOf(v, engineers, f["engineers"])
	all := r.told() == before && !strange // all engineers of the window are known
	w.ApprovedBy = r.display(f["approved_by"])
	w.Ticket = r.display(f["ticket"])
	w.Section = r.display(f["section"])
	w.Grace, _ = read(&r.decoder, f["grace"], parseDuration(maxGrace))
	r.reaches(e.value, f["targets"], w.Engineers, w.Targets, all)
	return w
}

// engineersOf reads the engineers of a window or of requests, sorted by name: all of the vendor if
// there is no list.
func (r *reader) engineersOf(v *policy.Vendor, engineers map[string]*policy.Engineer, at value) []*policy.Engineer {
	if !at.present() {
		return v.Engineers
	}
	if v.Plain() {
		if at.readable() {
			r.errorf(at.named(), "nobody is identified on the plain line %s: the window is for each source of the vendor; make another vendor of those that it is not for", shown(v.Line.Name))
		}
		return v.Engineers
	}
	some := references(&r.decoder, at, "engineer of this vendor", engineers)
	slices.SortFunc(some, func(a, b *policy.Engineer) int { return strings.Compare(a.Name, b.Name) })
	return some
}

// reaches counts what a window or a request at v opens, and warns of targets that engineers cannot
// reach. known: all of the engineers could be read.
func (r *reader) reaches(v, at value, engineers []*policy.Engineer, targets []*policy.Target, known bool) {
	reach := r.reach
	if r.reach += len(engineers) * max(len(targets), 1); r.reach <= maxReach {
		if known {
			r.warnUnreachable(at, engineers, targets)
		}
	} else if reach <= maxReach {
		r.errorf(v.named(), "up to here windows and on_request open more than %d times a target for an engineer: allowed are %d; list fewer", maxReach, maxReach)
	}
}

// valid reads the dates of an approval at v with the fields f. The anchor is that of a rule: zero if
// the policy has none; some date if it is unreadable, so that the rule gets no further error.
func (r *reader) valid(at value, f map[string]value) (first, last, anchor policy.Date) {
	v := f["valid"]
	if !v.present() {
		if !f["once"].present() && !r.strange {
			r.warn(at.named(), "policy_valid_missing", nil)
		}
		return first, last, anchor
	}
	someDate := policy.Date{Year: 2000, Month: time.January, Day: 1}
	before := r.told()
	g := r.mapping(v, "from?", "until?")
	if g == nil || len(g) == 0 && r.told() > before {
		return first, last, someDate
	}
	if len(g) == 0 {
		r.errorf(v.named(), "is empty: allowed is from, until or both")
		return first, last, someDate
	}
	var from, until bool
	first, from = read(&r.decoder, g["from"], parseDate)
	last, until = read(&r.decoder, g["until"], parseDate)
	switch {
	case from && until && last.Compare(first) < 0:
		r.errorf(g["until"], "%v is before the start %v", last, first)
	case until && last.Compare(policy.DateOf(r.now.In(r.policy.Zone))) < 0:
		r.warn(g["until"], "policy_valid_over", view.Args{"date": last.String()})
	case !g["until"].present() && !f["once"].present() && !r.strange:
		r.warn(v.named(), "policy_valid_open", nil)
	}
	if g["from"].present() && !from {
		return first, last, someDate
	}
	return first, last, first
}

// form is one kind of a thing: the field that says so, and the fields that only this kind has.
type form struct {
	name  string
	needs []string
	may   []string
}

// schedules are the three kinds of windows.
var schedules = []form{
	{name: "rrule", needs: []string{"at", "duration"}},
	{name: "days", needs: []string{"from", "to"}},
	{name: "once"},
}

// formOf finds which form the thing at v with the fields f has, or reports without as a mistake.
func (r *reader) formOf(thing, without string, forms []form, v value, f map[string]value) (is string) {
	var names []string
	for _, other := range forms {
		names = append(names, other.name)
	}
	for _, other := range forms {
		switch here := f[other.name].present(); {
		case here && is != "":
			r.errorf(f[other.name].named(), "a %s has one of %s: this one has %s already", thing, oneOf(names), is)
		case here:
			is = other.name
		}
	}
	if is == "" {
		r.errorf(v.named(), "does not say %s: allowed is one of %s", without, oneOf(names))
		return ""
	}
	for _, other := range forms {
		for i, companion := range slices.Concat(other.needs, other.may) {
			switch here := f[companion].present(); {
			case here && !f[other.name].present():
				r.errorf(f[companion].named(), "belongs to %s: this %s has %s", other.name, thing, is)
			case !here && other.name == is && i < len(other.needs):
				r.errorf(v.named(), "the field %s is missing: %s needs %s", companion, is, strings.Join(other.needs, " and "))
			}
		}
	}
	return is
}

func (r *reader) schedule(w *policy.Window, e entry, f map[string]value, anchor policy.Date) {
	switch r.formOf("window", "when it opens", schedules, e.value, f) {
	case "rrule":
		r.rule(w, f, anchor)
	case "days":
		r.days(w, f)
	case "once":
		r.once(w, f["once"])
	}
}

// rule reads a recurrence rule. Stand-ins for bad fields let it check the rule itself.
func (r *reader) rule(w *policy.Window, f map[string]value, anchor policy.Date) {
	at, _ := read(&r.decoder, f["at"], parseBegin)
	duration, ok := read(&r.decoder, f["duration"], parseDuration(maxDuration))
	if !ok {
		duration = time.Hour
	}
	text, ok := r.visible(f["rrule"])
	if !ok {
		return
	}
	if r.ahead > maxAhead {
		r.errorf(f["rrule"], "is not looked at: the rules up to here have their first dates more than %d days ahead in sum, or match no date; allowed are %d", maxAhead, maxAhead)
		return
	}
	rule, err := policy.NewRule(text, at, duration, anchor)
	if errors.Is(err, policy.ErrNever) {
		r.ahead += neverAhead
	} else if err == nil {
		r.ahead += rule.Ahead
	}
	if err != nil {
		r.errorf(f["rrule"], "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
		return
	}
	w.Schedule = rule
	switch daily := strings.Contains(strings.ToUpper(text), "FREQ=DAILY"); {
	case duration > 24*time.Hour:
		r.warn(f["duration"], "policy_rule_long", nil)
	case duration == 24*time.Hour && daily:
		r.warn(f["duration"], "policy_rule_always", nil)
	}
}

// parseDuration reads elapsed time, up to most, in the notation of Go with days of 24 hours before
// it: "4h", "90m", "1h30m", "2d", "1d12h".
func parseDuration(most time.Duration) func(text string) (time.Duration, error) {
	return func(text string) (time.Duration, error) {
		days, rest, whole := strings.Cut(text, "d")
		if !whole {
			days, rest = "0", text
		} else if rest == "" {
			rest = "0"
		}
		n, err := strconv.ParseUint(days, 10, 8)
		elapsed, err2 := time.ParseDuration(rest)
		elapsed += time.Duration(n) * 24 * time.Hour
		if err != nil || err2 != nil || strings.ContainsAny(rest, "+-") || elapsed < time.Second || elapsed > most || elapsed%time.Second != 0 {
			return 0, fmt.Errorf("%s is no duration: allowed is as in 90m, 4h, 1h30m or 1d12h, from 1s to %s, in whole seconds", quote(text), policy.Elapsed(most))
		}
		return elapsed, nil
	}
}

// parseBegin reads "HH:MM" or "HH:MM:SS".
func parseBegin(text string) (policy.TimeOfDay, error) {
	for _, layout := range []string{"15:04", "15:04:05"} {
		// The length excludes "9:30" and fractions of a second, which time.Parse takes.
		if t, err := time.Parse(layout, text); err == nil && len(text) == len(layout) {
			return policy.TimeOfDay(t.Hour()*3600 + t.Minute()*60 + t.Second()), nil
		}
	}
	return 0, fmt.Errorf("%s is no time of day: allowed is HH:MM or HH:MM:SS, from 00:00 to 23:59:59", quote(text))
}

// parseEnd is parseBegin and "24:00".
func parseEnd(text string) (policy.TimeOfDay, error) {
	if text == "24:00" || text == "24:00:00" {
		return 24 * 60 * 60, nil
	}
	t, err := parseBegin(text)
	if err != nil {
		err = fmt.Errorf("%s is no time of day: allowed is HH:MM or HH:MM:SS, from 00:00 to 23:59:59 and 24:00", quote(text))
	}
	return t, err
}

func (r *reader) days(w *policy.Window, f map[string]value) {
	days := &policy.Days{}
	seen := map[string]bool{}
	for _, item := range r.list(f["days"]) {
		name, ok := r.text(item)
		if !ok {
			continue
		}
		weekday, isWeekday := weekdays[name]
		calendar, isCalendar := r.calendars[name]
		switch {
		case seen[name]:
			r.errorf(item, "%s is there twice", quote(name))
		case isWeekday:
			days.Weekdays[weekday] = true
		case isCalendar:
			days.Calendars = append(days.Calendars, calendar)
		case !r.full() && mayBe(r.calendars, name):
		default:
			r.unknown(item, name, quote(name)+" is neither a weekday nor a calendar", func() []string {
				return append([]string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}, namesOf(r.calendars)...)
			})
		}
		seen[name] = true
	}
	from, ok1 := read(&r.decoder, f["from"], parseBegin)
	to, ok2 := read(&r.decoder, f["to"], parseEnd)
	if !ok1 || !ok2 {
		return
	}
	if from == to {
		r.errorf(f["to"], "is the same time as from: for the whole day write from: \"00:00\" and to: \"24:00\"")
		return
	}
	days.From, days.To = from, to
	w.Schedule = days
	r.warnWholeDays(f["days"], days)
}

func (r *reader) once(w *policy.Window, v value) {
	f := r.mapping(v, "from", "until")
	from, ok1 := read(&r.decoder, f["from"], r.parseMoment)
	until, ok2 := read(&r.decoder, f["until"], r.parseMoment)
	if !ok1 || !ok2 {
		return
	}
	begin, end := instant(from, r.policy.Zone), instant(until, r.policy.Zone)
	switch {
	case instant(until, time.UTC).Compare(instant(from, time.UTC)) <= 0:
		r.errorf(f["until"], "is not after the start")
		return
	case end.Sub(begin) > maxOnceDays*24*time.Hour:
		r.errorf(f["until"], "is more than %d days after the start, which is no window any more: allowed are %d days", maxOnceDays, maxOnceDays)
		return
	case end.Before(r.now):
		if r.now.Sub(end) <= onceTold {
			r.warn(f["until"], "policy_once_over", nil)
		}
	case end.Sub(begin) > 24*time.Hour:
		r.warn(f["until"], "policy_once_long", nil)
	}
	w.Schedule = &policy.Once{From: from, Until: until}
}

// parseMoment reads a date and a time of day as the site's clocks show it, in whole seconds.
func (r *reader) parseMoment(text string) (policy.LocalTime, error) {
	w, ok := policy.ParseTime(text)
	local := w.In(r.policy.Zone)
	if !ok || w.DateOnly || w.Fraction != 0 || local.Date.Year < 2000 || local.Date.Year > 2199 {
		return policy.LocalTime{}, policy.NotATime(text, r.policy.Zone)
	}
	return local, nil
}

func instant(t policy.LocalTime, zone *time.Location) time.Time {
	return time.Date(t.Date.Year, t.Date.Month, t.Date.Day, 0, 0, int(t.Time), 0, zone)
}
