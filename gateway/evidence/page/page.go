// Package page prints evidence for people: HTML documents of one file each, without scripts and
// without the network, that a browser prints on A4. The month's tables for spreadsheet programs are
// here too, so that they say the same. The same facts give the same bytes.
//
//	page.go    a document: head, style, and the functions of its template
//	month.go   the month of maintenance, as both forms show it
//	cells.go   what a row of the month says
//	sheets.go  the month as tables
package page

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"regexp"
	"time"
	"unicode"

	go_qr "github.com/piglig/go-qr"

	"kidoban/gateway/view"
)

//go:embed *.html *.css
var files embed.FS

// base has the templates that documents share: "head", "foot", "stamps" and "checkpoint".
var base = template.Must(template.New("").Funcs(functions(view.English)).ParseFS(files, "base.html", "style.css"))

// Document is the frame of a document: the parts around its body.
type Document struct {
	Lang   view.Language
	Title  string
	Footer string // at the foot of each printed page, before its number
}

// Print fills a template, which becomes the document's body. The template has the templates of
// base.html and these functions:
//
//	say CODE NAME VALUE...   the text of a code with its arguments
//	prose CODE NAME VALUE... the same, with commands between backquotes as <code>
//	qr TEXT                  a QR code as inline SVG; nothing if TEXT is too long for one
func (d Document) Print(body string, data any) ([]byte, error) {
	t := template.Must(base.Clone()).Funcs(functions(d.Lang))
	if _, err := t.New("body").Parse(body); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, part := range []struct {
		name string
		data any
	}{{"head", d}, {"body", data}, {"foot", d}} {
		if err := t.ExecuteTemplate(&b, part.name, part.data); err != nil {
			return nil, err
		}
	}
	return bytes.Map(shown, b.Bytes()), nil
}

// shown replaces characters that change how other text shows.
func shown(r rune) rune {
	if r != '\n' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
		return '·'
	}
	return r
}

// quoted is a command in a text, between backquotes.
var quoted = regexp.MustCompile("`([^`]*)`")

func functions(lang view.Language) template.FuncMap {
	say := func(code view.Code, pairs ...any) string {
		args := view.Args{}
		for i := 0; i+1 < len(pairs); i += 2 {
			args[fmt.Sprint(pairs[i])] = pairs[i+1]
		}
		return view.Say(code, args).In(lang)
	}
	return template.FuncMap{
		"say": say,
		"prose": func(code view.Code, pairs ...any) template.HTML {
			return template.HTML(quoted.ReplaceAllString(template.HTMLEscapeString(say(code, pairs...)), "<code>$1</code>"))
		},
		"qr": qr,
	}
}

// qr gives a text as a QR code (ISO/IEC 18004), a square of 36 mm with its quiet zone.
func qr(text string) template.HTML {
	code, err := go_qr.EncodeBinary([]byte(text), go_qr.Medium)
	if text == "" || err != nil { // it holds 2,331 bytes at most
		return ""
	}
	const quiet = 4
	var path bytes.Buffer
	for y := range code.Size() {
		for x := range code.Size() {
			if code.Module(x, y) {
				fmt.Fprintf(&path, "M%d %dh1v1h-1z", x+quiet, y+quiet)
			}
		}
	}
	side := code.Size() + 2*quiet
	return template.HTML(fmt.Sprintf(`<svg class="qr" viewBox="0 0 %d %d" shape-rendering="crispEdges" role="img"><path d="%s"/></svg>`, side, side, path.Bytes()))
}

// Zone is the zone of a name of the IANA database, or UTC.
func Zone(name string) *time.Location {
	if zone, err := time.LoadLocation(name); err == nil {
		return zone
	}
	return time.UTC
}
