package e2e

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// series is one of the answers to a query.
type series struct {
	Labels map[string]string
	Times  []time.Time // of the values
	Values []float64   // over the period; of an instant query one
}

// Last is the newest value.
func (s series) Last() float64 { return s.Values[len(s.Values)-1] }

// printed writes a dashboard as text: title and question of every panel, and the answers in words.
// Values are rounded so that two runs of one story give the same text: times to ten minutes,
// numbers from 10 on to a power of ten. ask runs a query of a panel, with its variables.
func printed(d *dashboard, l language, now time.Time, ask func(*panel, target) ([]series, error)) (string, error) {
	w := printer{l, now}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n", d.Title, d.Description)
	for _, p := range d.Panels {
		if p.Type == "row" {
			fmt.Fprintf(&b, "\n== %s\n", p.Title)
			continue
		}
		fmt.Fprintf(&b, "\n-- %s\n   %s\n", p.Title, p.Description)
		answers := make([][]series, len(p.Targets))
		for i, t := range p.Targets {
			var err error
			if answers[i], err = ask(p, t); err != nil {
				return "", fmt.Errorf("%s, %s: %w", d.UID, p.Title, err)
			}
		}
		var lines []string
		if p.Type == "table" {
			lines = w.rows(p, answers)
		} else {
			lines = w.lines(p, answers)
		}
		if len(lines) == 0 {
			lines = []string{"(" + p.FieldConfig.Defaults.NoValue + ")"}
		}
		for _, l := range lines {
			fmt.Fprintf(&b, "   > %s\n", l)
		}
	}
	return b.String(), nil
}

// printer says answers in a language, at a time.
type printer struct {
	language language
	now      time.Time
}

func (w printer) say(en, ja string) string {
	if w.language == japanese {
		return ja
	}
	return en
}

// lines gives one line for each series.
func (w printer) lines(p *panel, answers [][]series) []string {
	var lines []string
	for i, all := range answers {
		if p.Targets[i].Format == "heatmap" {
			all = apart(all)
		}
		for _, s := range all {
			text := w.value(p, s.Last())
			switch p.Type {
			case "timeseries":
				text = w.course(p, s.Values)
			case "state-timeline":
				text = w.states(p, s)
			}
			name := legend(p.Targets[i].LegendFormat, s.Labels)
			if bucket := p.bucketName(s.Labels["le"]); bucket != "" {
				name = bucket
			}
			if name != "" {
				text = name + ": " + text
			}
			lines = append(lines, text)
		}
	}
	if p.Type != "bargauge" {
		slices.Sort(lines)
	}
	return lines
}

// states lists consecutive states, with the time that each lasted if it was long.
func (w printer) states(p *panel, s series) string {
	var states []string
	for i := 0; i < len(s.Values); {
		state, from := w.value(p, s.Values[i]), s.Times[i]
		for i < len(s.Values) && w.value(p, s.Values[i]) == state {
			i++
		}
		if i < len(s.Values) && s.Times[i].Sub(from) >= 10*time.Minute {
			state += w.say(" for ", "：") + w.period(s.Times[i].Sub(from).Seconds())
		}
		states = append(states, state)
	}
	return strings.Join(states, w.say(", then ", " → "))
}

// course describes a value over time: the maximum of a count, otherwise whether it was above 0.
func (w printer) course(p *panel, values []float64) string {
	highest, whole := 0.0, p.FieldConfig.Defaults.Unit == "none"
	for _, v := range values {
		if !math.IsNaN(v) {
			highest = max(highest, v)
			whole = whole && v == math.Trunc(v)
		}
	}
	switch {
	case highest == 0:
		return w.say("0 throughout", "期間中 0")
	case whole:
		return w.say("up to ", "最大 ") + w.size("none", highest)
	}
	return w.say("above 0 at times", "0 を超えた時あり")
}

// apart turns cumulative buckets into such that follow each other.
func apart(buckets []series) []series {
	bound := func(s series) float64 {
		v, err := strconv.ParseFloat(s.Labels["le"], 64)
		if err != nil {
			return math.Inf(1)
		}
		return v
	}
	all := slices.SortedFunc(slices.Values(buckets), func(a, b series) int { return cmp.Compare(bound(a), bound(b)) })
	before := 0.0
	for i, s := range all {
		all[i].Values = []float64{s.Last() - before}
		before = s.Last()
	}
	return all
}

// legend fills a series' labels in.
func legend(format string, labels map[string]string) string {
	for name, value := range labels {
		format = strings.ReplaceAll(format, "{{"+name+"}}", value)
	}
	return format
}

// rows joins series with the same labels and gives the columns that are shown.
func (w printer) rows(p *panel, answers [][]series) []string {
	columns := p.columns()
	type record map[string]string
	joined := map[string]record{}
	var order []string
	for i, all := range answers {
		field := "Value"
		if len(answers) > 1 {
			field += " #" + p.Targets[i].RefID
		}
		for _, s := range all {
			labels := maps.Clone(s.Labels)
			delete(labels, "__name__")
			key := fmt.Sprint(labels)
			if joined[key] == nil {
				joined[key] = record{}
				order = append(order, key)
				maps.Copy(joined[key], labels)
			}
			for _, c := range columns {
				if c.field != field {
					continue
				}
				text := w.size(c.unit, s.Last())
				if words, ok := c.mappings.words(fmt.Sprint(s.Last())); ok {
					text = words
				} else if c.unit == "none" {
					text = w.decade(s.Last()) // a count of events differs between runs
				}
				joined[key][field] = text
			}
		}
	}
	var lines []string
	for _, key := range order {
		var cells []string
		for _, c := range columns {
			text := joined[key][c.field]
			if words, ok := c.mappings.words(text); ok {
				text = words
			}
			if text != "" && c.field != "instance" {
				cells = append(cells, c.title+": "+text)
			}
		}
		lines = append(lines, strings.Join(cells, " | "))
	}
	slices.Sort(lines)
	return lines
}

// value says a value in the panel's words, or by its size.
func (w printer) value(p *panel, v float64) string {
	if words, ok := p.FieldConfig.Defaults.Mappings.words(fmt.Sprint(v)); ok {
		return words
	}
	return w.size(p.FieldConfig.Defaults.Unit, v)
}

// size says how much a value is.
func (w printer) size(unit string, v float64) string {
	switch unit {
	case "s":
		return w.period(v)
	case "dateTimeAsLocal":
		d := v/1000 - float64(w.now.UnixMilli())/1000
		switch {
		case d > 60: // less: since the text was begun
			return w.say("in ", "") + w.period(d) + w.say("", "後")
		case d > -600:
			return w.say("less than ten minutes ago", "10分以内")
		}
		return w.period(-d) + w.say(" ago", "前")
	case "none":
		if v == math.Trunc(v) && v < 10 {
			return fmt.Sprint(v)
		}
		return w.decade(v)
	case "percentunit":
		return w.decade(v*100) + " %"
	case "bytes":
		return w.decade(v/1e6) + " MB"
	}
	return w.decade(v)
}

// period rounds a duration to ten minutes, from two days on to days, from two weeks on to weeks.
func (w printer) period(seconds float64) string {
	switch {
	case seconds < 0:
		return w.say("minus ", "マイナス") + w.period(-seconds)
	case seconds == 0:
		return "0"
	}
	tens := math.Round(seconds / 600)
	switch {
	case seconds < 600:
		return w.say("less than ten minutes", "10分未満")
	case tens < 6:
		return fmt.Sprintf(w.say("%g min", "%g分"), tens*10)
	case seconds < 2*86400:
		text := fmt.Sprintf(w.say("%g h", "%g時間"), math.Floor(tens/6))
		if rest := math.Mod(tens, 6); rest > 0 {
			text += fmt.Sprintf(w.say(" %g min", "%g分"), rest*10)
		}
		return text
	case seconds < 14*86400:
		return fmt.Sprintf(w.say("%g days", "%g日"), math.Round(seconds/86400))
	}
	return fmt.Sprintf(w.say("%g weeks", "%g週間"), math.Round(seconds/(7*86400)))
}

// decade says between which powers of ten a value lies.
func (w printer) decade(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 1:
		return w.say("less than 1", "1未満")
	}
	return fmt.Sprintf(w.say("%g or more", "%g以上"), math.Pow(10, math.Floor(math.Log10(v))))
}
