package terminal

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"kidoban/gateway/view"
)

// Say gives a message in the user's language, on one line.
func (p *Program) Say(code view.Code, args view.Args) string {
	return OneLine(view.Say(code, args).In(p.Lang))
}

// Tell prints a message.
func (p *Program) Tell(code view.Code, args view.Args) { fmt.Fprintln(p.Out, p.Say(code, args)) }

// TellIf prints a message under a condition.
func (p *Program) TellIf(when bool, code view.Code, args view.Args) {
	if when {
		p.Tell(code, args)
	}
}

// Note prints a message beside the output.
func (p *Program) Note(code view.Code, args view.Args) {
	fmt.Fprintln(p.Err, "kidoban:", p.Say(code, args))
}

// Indent prints a message, which may have more than one line.
func (p *Program) Indent(m view.Message) {
	for line := range strings.Lines(m.In(p.Lang)) {
		fmt.Fprintf(p.Out, "  %s\n", OneLine(strings.TrimSuffix(line, "\n")))
	}
}

// List is rows of a label and a text.
type List struct {
	*Program
	Rows [][]string
}

// Row adds a row, unless the text is empty.
func (l *List) Row(label view.Code, text string) {
	if text != "" {
		l.Rows = append(l.Rows, []string{"  " + l.Say(label, nil), text})
	}
}

// Instant adds the row of an instant, unless it is nil.
func (l *List) Instant(label view.Code, at *time.Time) {
	if at != nil {
		l.Row(label, l.Local(*at))
	}
}

// Heading is the first row of a table.
func (p *Program) Heading(codes ...view.Code) (row []string) {
	for _, c := range codes {
		row = append(row, p.Say(c, nil))
	}
	return row
}

// Some lists names in a cell of a table: all of a few, else the first ones.
func (p *Program) Some(names []string) string {
	const most = 5
	if len(names) > most {
		return p.Say("say_names_more", view.Args{"names": strings.Join(names[:most-1], ","), "count": len(names) - most + 1})
	}
	return strings.Join(names, ",")
}

// Named puts the name for people behind a short name.
func Named(short, name string) string {
	if name == "" {
		return short
	}
	return fmt.Sprintf("%s (%s)", short, OneLine(name))
}

// Table prints rows beneath a heading, to one cell of which it adds the zone of the
// times, so that no time stands without one. A heading alone is not printed.
func (p *Program) Table(rows [][]string, cell int, times []time.Time) {
	if len(rows) > 1 {
		rows[0][cell] += fmt.Sprintf(" (%s)", strings.Join(p.Zones(times), ", "))
		p.Columns(rows)
	}
}

// Zones names the zone of times: two, over a change of the clock.
func (p *Program) Zones(times []time.Time) (zones []string) {
	for _, t := range times {
		if zone := p.In(t).Format("MST"); !slices.Contains(zones, zone) {
			zones = append(zones, zone)
		}
	}
	return zones
}

// PrintJSON prints an answer, which is always JSON.
func (p *Program) PrintJSON(v any) {
	e := json.NewEncoder(p.Out)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
}

// Columns prints rows in columns.
func (p *Program) Columns(rows [][]string) { fmt.Fprint(p.Out, view.Columns(rows)) }

// In gives a time of an answer in the site's zone. It has the zone's offset, and
// not its name.
func (p *Program) In(t time.Time) time.Time {
	if p.Zone == nil {
		return t
	}
	return t.In(p.Zone)
}

// Local shows an instant as people read it.
func (p *Program) Local(t time.Time) string { return p.In(t).Format(view.Moment) }

// Short shows only the time of day if the date is today's.
func (p *Program) Short(t, now time.Time) string {
	if t = p.In(t); t.Format(time.DateOnly) == now.In(t.Location()).Format(time.DateOnly) {
		return t.Format("15:04:05")
	}
	return t.Format("2006-01-02 15:04")
}

// OneLine gives text from outside on one line, without control characters and
// characters that change how other text shows.
func OneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return '·'
		}
		return r
	}, text)
}
