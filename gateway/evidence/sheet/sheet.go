// Package sheet writes tables for spreadsheet programs: CSV (RFC 4180) and XLSX (ECMA-376).
// No cell is ever a formula, and the same tables give the same bytes.
package sheet

import (
	"cmp"
	"fmt"
	"strings"
	"unicode"
)

// Sheet is a table.
type Sheet struct {
	// Name is at most 31 characters, none of them of []:*?/\ or an apostrophe. CSV has no names.
	Name    string
	Columns []Column
	// Rows have a cell for each column or fewer. A cell is a text, an int or int64, or nil: it stays
	// empty.
	Rows [][]any
	// Footer is at the foot of each printed page of XLSX, at most 200 characters.
	Footer string
}

// Column is the head of a column.
type Column struct {
	Title string
	Width int // in characters, about; 0: 12
}

func (c Column) width() int { return cmp.Or(c.Width, 12) }

// longest is how many characters a cell of Excel holds.
const longest = 32767

// plain is a text on one line, without control characters and marks that change how other text
// shows.
func plain(text string) string {
	runes := []rune(strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return '·'
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD")))
	if len(runes) > longest {
		runes = append(runes[:longest-1], '…')
	}
	return string(runes)
}

// formulas begin a formula in a spreadsheet program, also with full-width signs. Tab and CR, which
// do so too, never get here: plain replaces them.
const formulas = "=+-@＝＋－＠"

// CSV gives a table as UTF-8 with a byte order mark, by which Excel knows it, and lines that end
// with CRLF. Every text is in quotes. An apostrophe goes before a text that would be a formula.
func (s Sheet) CSV() []byte {
	var b strings.Builder
	b.WriteString("\uFEFF")
	var heads []any
	for _, c := range s.Columns {
		heads = append(heads, c.Title)
	}
	for _, row := range append([][]any{heads}, s.Rows...) {
		for i := range s.Columns {
			if i > 0 {
				b.WriteByte(',')
			}
			if i < len(row) {
				b.WriteString(field(row[i]))
			}
		}
		b.WriteString("\r\n")
	}
	return []byte(b.String())
}

func field(cell any) string {
	switch v := cell.(type) {
	case nil:
		return ""
	case string:
		text := plain(v)
		if strings.IndexAny(strings.TrimLeftFunc(text, hidden), formulas) == 0 {
			text = "'" + text
		}
		return `"` + strings.ReplaceAll(text, `"`, `""`) + `"`
	}
	return fmt.Sprint(cell)
}

// hidden reports whether a program might skip a character before a formula.
func hidden(r rune) bool { return unicode.IsSpace(r) || r == '·' }
