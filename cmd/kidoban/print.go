package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
)

// jsonFlag is on everything that reads.
type jsonFlag struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// ask gets an answer of the gateway, prints it as JSON if that is wanted, and
// else decodes it into answer and reports that it is to be shown.
func (j jsonFlag) ask(p *program, path string, query url.Values, answer any) (show bool, err error) {
	text, zone, err := p.client().Get(path, query)
	if err != nil {
		return false, err
	}
	p.zone = zone
	if err := json.Unmarshal(text, answer); err != nil {
		return false, fmt.Errorf("the gateway answered what this command does not know: %w", err)
	}
	if j.JSON {
		_, err = p.out.Write(append([]byte(strings.TrimSpace(string(text))), '\n'))
		return false, err
	}
	return true, nil
}

func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// table prints rows in columns; the first row is the heading.
func table(out io.Writer, rows [][]string) error {
	widths := map[int]int{}
	for _, r := range rows {
		for i, cell := range r {
			widths[i] = max(widths[i], width(cell))
		}
	}
	var b strings.Builder
	for _, r := range rows {
		for i, cell := range r {
			b.WriteString(cell)
			if i < len(r)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]+2-width(cell)))
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// wide has what takes two columns of a terminal: Japanese text and its
// punctuation, and full-width forms.
var wide = []*unicode.RangeTable{unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul,
	{R16: []unicode.Range16{{Lo: 0x3000, Hi: 0x303F, Stride: 1}, {Lo: 0x30FB, Hi: 0x30FC, Stride: 1}, {Lo: 0xFF01, Hi: 0xFF60, Stride: 1}}}}

// width is the number of columns that a text takes.
func width(text string) (n int) {
	for _, r := range text {
		n++
		if unicode.In(r, wide...) {
			n++
		}
	}
	return n
}

// in gives an instant of an answer in the site's zone. It has the zone's
// offset already, and no name.
func (p *program) in(t time.Time) time.Time {
	if p.zone == nil {
		return t
	}
	return t.In(p.zone)
}

// local shows an instant as people read it.
func local(t time.Time) string { return t.Format("2006-01-02 15:04:05 MST") }

// short shows the time of day alone where the date is that of now.
func short(t, now time.Time) string {
	if t.Format(time.DateOnly) == now.In(t.Location()).Format(time.DateOnly) {
		return t.Format("15:04:05")
	}
	return t.Format("2006-01-02 15:04")
}

// inZone adds to a heading the zone of the times beneath it, so that no time
// stands without one. Over a change of the clock they have two.
func inZone(heading string, times ...time.Time) string {
	var zones []string
	for _, t := range times {
		if zone := t.Format("MST"); !slices.Contains(zones, zone) {
			zones = append(zones, zone)
		}
	}
	return fmt.Sprintf("%s (%s)", heading, strings.Join(zones, ", "))
}

// counted says how many there are.
func counted(n int, thing string) string {
	switch n {
	case 0:
		return "no " + thing + "s"
	case 1:
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func bytesText(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, suffix := float64(n)/unit, 0
	for value >= unit && suffix < 3 {
		value /= unit
		suffix++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGT"[suffix])
}

// oneLine shows text from outside on one line, without what a terminal would
// obey, and without what changes how other text shows.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return '·'
		}
		return r
	}, text)
}
