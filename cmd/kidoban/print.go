package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"kidoban/gateway/admin"
	"kidoban/gateway/view"
)

// output keeps the error of the first write that failed.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(text []byte) (int, error) {
	n, err := o.Writer.Write(text)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// jsonFlag is on every command that answers.
type jsonFlag struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// ask gets an answer of the gateway, or of the policy file if no gateway runs. It
// prints JSON with --json, else it reports that the caller must show the answer.
func (j jsonFlag) ask(p *program, path string, query url.Values, answer any) (show bool, err error) {
	text, zone, err := p.client().Get(path, query)
	if note, ok := offlineNotes[path]; ok && errors.Is(err, admin.ErrNoGateway) {
		text, zone, err = p.offline(path, query, note)
	}
	if err != nil {
		return false, err
	}
	p.zone = zone
	if err := json.Unmarshal(text, answer); err != nil {
		return false, &view.Error{Message: view.Say("answer_unknown", view.Args{"cause": err})}
	}
	if j.JSON {
		fmt.Fprintf(p.out, "%s\n", bytes.TrimSpace(text))
	}
	return !j.JSON, nil
}

// say gives a message in the user's language, on one line.
func (p *program) say(code view.Code, args view.Args) string {
	return oneLine(view.Say(code, args).In(p.lang))
}

// tell prints a message.
func (p *program) tell(code view.Code, args view.Args) { fmt.Fprintln(p.out, p.say(code, args)) }

// tellIf prints a message under a condition.
func (p *program) tellIf(when bool, code view.Code, args view.Args) {
	if when {
		p.tell(code, args)
	}
}

// note prints a message beside the output.
func (p *program) note(code view.Code, args view.Args) {
	fmt.Fprintln(p.err, "kidoban:", p.say(code, args))
}

// indent prints a message, which may have more than one line.
func (p *program) indent(m view.Message) {
	for line := range strings.Lines(m.In(p.lang)) {
		fmt.Fprintf(p.out, "  %s\n", oneLine(strings.TrimSuffix(line, "\n")))
	}
}

// list is rows of a label and a text.
type list struct {
	*program
	rows [][]string
}

// row adds a row, unless the text is empty.
func (l *list) row(label view.Code, text string) {
	if text != "" {
		l.rows = append(l.rows, []string{"  " + l.say(label, nil), text})
	}
}

// time adds the row of an instant, unless it is nil.
func (l *list) time(label view.Code, at *time.Time) {
	if at != nil {
		l.row(label, l.local(*at))
	}
}

func (p *program) heading(codes ...view.Code) (row []string) {
	for _, c := range codes {
		row = append(row, p.say(c, nil))
	}
	return row
}

// some lists names in a cell of a table: all of a few, else the first ones.
func (p *program) some(names []string) string {
	const most = 5
	if len(names) > most {
		return p.say("say_names_more", view.Args{"names": strings.Join(names[:most-1], ","), "count": len(names) - most + 1})
	}
	return strings.Join(names, ",")
}

// named puts the name for people behind a short name.
func named(short, name string) string {
	if name == "" {
		return short
	}
	return fmt.Sprintf("%s (%s)", short, oneLine(name))
}

// table prints rows beneath a heading, to one cell of which it adds the zone of the
// times, so that no time stands without one. A heading alone is not printed.
func (p *program) table(rows [][]string, cell int, times []time.Time) {
	if len(rows) > 1 {
		rows[0][cell] += fmt.Sprintf(" (%s)", strings.Join(p.zones(times), ", "))
		p.columns(rows)
	}
}

// zones names the zone of times: two, over a change of the clock.
func (p *program) zones(times []time.Time) (zones []string) {
	for _, t := range times {
		if zone := p.in(t).Format("MST"); !slices.Contains(zones, zone) {
			zones = append(zones, zone)
		}
	}
	return zones
}

// json prints an answer, which is always JSON.
func (p *program) json(v any) {
	e := json.NewEncoder(p.out)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
}

// columns prints rows in columns.
func (p *program) columns(rows [][]string) { fmt.Fprint(p.out, view.Columns(rows)) }

// in gives a time of an answer in the site's zone. It has the zone's offset, and
// not its name.
func (p *program) in(t time.Time) time.Time {
	if p.zone == nil {
		return t
	}
	return t.In(p.zone)
}

// local shows an instant as people read it.
func (p *program) local(t time.Time) string { return p.in(t).Format(view.Moment) }

// short shows only the time of day if the date is today's.
func (p *program) short(t, now time.Time) string {
	if t = p.in(t); t.Format(time.DateOnly) == now.In(t.Location()).Format(time.DateOnly) {
		return t.Format("15:04:05")
	}
	return t.Format("2006-01-02 15:04")
}

// oneLine gives text from outside on one line, without control characters and
// characters that change how other text shows.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return '·'
		}
		return r
	}, text)
}
