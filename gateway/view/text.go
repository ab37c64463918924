package view

import (
	"fmt"
	"strings"
	"unicode"
)

// LanguageOf gives the language of the locale. The first variable with a value decides.
func LanguageOf(environ []string) Language {
	for _, name := range []string{"LC_ALL=", "LC_MESSAGES=", "LANG="} {
		for _, variable := range environ {
			if locale, ok := strings.CutPrefix(variable, name); ok && locale != "" {
				if strings.HasPrefix(locale, "ja") {
					return Japanese
				}
				return English
			}
		}
	}
	return English
}

// Columns puts rows into columns, with a line for each. The last cells may be of any
// length.
func Columns(rows [][]string) string {
	var text strings.Builder
	widths := map[int]int{}
	for _, r := range rows {
		for i, cell := range r {
			widths[i] = max(widths[i], width(cell))
		}
	}
	for _, r := range rows {
		for i, cell := range r[:len(r)-1] {
			text.WriteString(cell + strings.Repeat(" ", widths[i]+2-width(cell)))
		}
		text.WriteString(r[len(r)-1] + "\n")
	}
	return text.String()
}

// wide has the characters of two columns: Japanese text and its punctuation, and
// full-width forms.
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

// Bytes writes a number of bytes, as in 1.5 MiB.
func Bytes(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, suffix := float64(n)/unit, 0
	for ; value >= unit && suffix < 3; suffix++ {
		value /= unit
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGT"[suffix])
}
