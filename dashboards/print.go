package dashboards

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

// Series is one of the answers to a query.
type Series struct {
	Labels map[string]string
	Values []float64 // over the period; of an instant query one
}

// Last is the newest value.
func (s Series) Last() float64 { return s.Values[len(s.Values)-1] }

// Print writes what the dashboard shows as text: every panel's title and
// question, and the answers as a person would say them. Numbers are told by
// their size, so that two runs of one story read alike. ask runs a panel's
// query; its variables are ask's to fill in.
func Print(d *Dashboard, now time.Time, ask func(*Panel, Target) ([]Series, error)) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n", d.Title, d.Description)
	for _, p := range d.Panels {
		if p.Type == "row" {
			fmt.Fprintf(&b, "\n== %s\n", p.Title)
			continue
		}
		fmt.Fprintf(&b, "\n-- %s\n   %s\n", p.Title, p.Description)
		answers := make([][]Series, len(p.Targets))
		for i, t := range p.Targets {
			var err error
			if answers[i], err = ask(p, t); err != nil {
				return "", fmt.Errorf("%s, %s: %w", d.UID, p.Title, err)
			}
		}
		var lines []string
		if p.Type == "table" {
			lines = p.rows(answers, now)
		} else {
			lines = p.lines(answers, now)
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

// lines gives one line for each series.
func (p *Panel) lines(answers [][]Series, now time.Time) []string {
	var lines []string
	for i, all := range answers {
		if p.Targets[i].Format == "heatmap" {
			all = apart(all)
		}
		for _, s := range all {
			text := p.value(s.Last(), now)
			switch p.Type {
			case "timeseries":
				text = p.course(s.Values)
			case "state-timeline":
				var states []string
				for _, v := range s.Values {
					if state := p.value(v, now); len(states) == 0 || states[len(states)-1] != state {
						states = append(states, state)
					}
				}
				text = strings.Join(states, ", then ")
			}
			if name := legend(p.Targets[i].LegendFormat, s.Labels); name != "" {
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

// course says what became of a value over time: how high a number of things
// went, and of everything else whether it was there.
func (p *Panel) course(values []float64) string {
	highest, whole := 0.0, p.FieldConfig.Defaults.Unit == "none"
	for _, v := range values {
		if !math.IsNaN(v) {
			highest = max(highest, v)
			whole = whole && v == math.Trunc(v)
		}
	}
	switch {
	case highest == 0:
		return "0 throughout"
	case whole:
		return "up to " + decade(highest)
	}
	return "above 0 at times"
}

// apart turns cumulative buckets into such that follow each other.
func apart(buckets []Series) []Series {
	bound := func(s Series) float64 {
		v, err := strconv.ParseFloat(s.Labels["le"], 64)
		if err != nil {
			return math.Inf(1)
		}
		return v
	}
	all := slices.SortedFunc(slices.Values(buckets), func(a, b Series) int { return cmp.Compare(bound(a), bound(b)) })
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
func (p *Panel) rows(answers [][]Series, now time.Time) []string {
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
			unit := ""
			for _, c := range p.columns {
				if c.field == field && c.unit != "" {
					unit = c.unit
				}
			}
			joined[key][field] = size(unit, s.Last(), now)
			if unit == "none" {
				joined[key][field] = decade(s.Last())
			}
		}
	}
	var lines []string
	for _, key := range order {
		var cells []string
		for _, c := range p.columns {
			text := joined[key][c.field]
			if words, ok := c.mappings[text]; ok {
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
func (p *Panel) value(v float64, now time.Time) string {
	for _, m := range p.FieldConfig.Defaults.Mappings {
		if r, ok := m.Options[fmt.Sprint(v)]; ok {
			return r.Text
		}
	}
	return size(p.FieldConfig.Defaults.Unit, v, now)
}

// size says how much a value is.
func size(unit string, v float64, now time.Time) string {
	switch unit {
	case "s":
		return period(v)
	case "dateTimeAsLocal":
		if d := v/1000 - float64(now.UnixMilli())/1000; d > 0 {
			return period(d) + " from now"
		} else {
			return period(-d) + " ago"
		}
	case "none":
		if v == math.Trunc(v) && v < 10 {
			return fmt.Sprint(v)
		}
		return decade(v)
	case "percentunit":
		return decade(v*100) + " %"
	case "bytes":
		return decade(v/1e6) + " MB"
	}
	return decade(v)
}

func period(seconds float64) string {
	for _, u := range []struct {
		name string
		size float64
	}{{"day", 86400}, {"hour", 3600}, {"ten minutes", 600}} {
		if n := math.Floor(seconds / u.size); n >= 1 {
			return fmt.Sprintf("%g %s or more", n, u.name)
		}
	}
	return "less than ten minutes"
}

// decade says between which powers of ten a value lies.
func decade(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 1:
		return "less than 1"
	}
	return fmt.Sprintf("%g or more", math.Pow(10, math.Floor(math.Log10(v))))
}
