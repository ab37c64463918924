package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// width is the widest line, in columns.
const width = 78

// terminal prints numbered steps and their results, each with a mark. Without a terminal, or with
// NO_COLOR, it prints plain text.
type terminal struct {
	w       io.Writer
	colour  bool
	moving  bool   // lines may be overwritten
	yes, no string // marks
	step    int
}

// newTerminal detects escapes (a terminal; https://no-color.org) and UTF-8 (the locale).
func newTerminal(w io.Writer, getenv func(string) string) *terminal {
	t := &terminal{w: w, yes: "ok ", no: "NO "}
	if f, ok := w.(*os.File); ok {
		_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		t.moving = err == nil && getenv("TERM") != "dumb"
	}
	t.colour = t.moving && getenv("NO_COLOR") == ""
	locale := strings.ToLower(cmp.Or(getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")))
	if strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8") {
		t.yes, t.no = "✓", "✗"
	}
	return t
}

const (
	bold  = "1"
	faint = "2"
	red   = "1;31"
	green = "32"
)

func (t *terminal) style(code, text string) string {
	if !t.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// heading begins a step.
func (t *terminal) heading(text string) {
	t.step++
	fmt.Fprintf(t.w, "\n  %s  %s\n", t.style(bold, fmt.Sprint(t.step)), t.style(bold, text))
}

// result prints an observation, good or bad.
func (t *terminal) result(good bool, text string) {
	mark, colour := t.yes, green
	if !good {
		mark, colour = t.no, red
	}
	indent := 6 + utf8.RuneCountInString(mark)
	lines := strings.Join(wrap(text, width-indent), "\n"+strings.Repeat(" ", indent))
	fmt.Fprintf(t.w, "     %s %s\n", t.style(colour, mark), lines)
}

// note tells something that is neither good nor bad.
func (t *terminal) note(text string) {
	fmt.Fprintf(t.w, "     %s\n", strings.Join(wrap(text, width-5), "\n     "))
}

// lines shows lines as they are below a heading, if there are any.
func (t *terminal) lines(heading string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(t.w, "\n  %s\n", heading)
	for _, line := range lines {
		fmt.Fprintf(t.w, "    %s\n", t.style(faint, line))
	}
}

// overwrite shows a line that the next one replaces, where lines may be overwritten.
func (t *terminal) overwrite(text string) {
	if t.moving {
		fmt.Fprintf(t.w, "\r\x1b[K%s", t.style(faint, text))
	}
}

// wrap breaks text between words into lines of at most so many columns. Longer words stay whole.
// There is at least one line.
func wrap(text string, columns int) []string {
	lines := []string{""}
	for _, word := range strings.Fields(text) {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = word
		case utf8.RuneCountInString(*last)+1+utf8.RuneCountInString(word) <= columns:
			*last += " " + word
		default:
			lines = append(lines, word)
		}
	}
	return lines
}
