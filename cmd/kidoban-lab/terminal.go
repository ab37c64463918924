package main

import (
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
	w      io.Writer
	colour bool
	moving bool // lines may be overwritten
	step   int
}

// newTerminal detects escapes (a terminal; https://no-color.org).
func newTerminal(w io.Writer, getenv func(string) string) *terminal {
	f, ok := w.(*os.File)
	if ok {
		_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		ok = err == nil && getenv("TERM") != "dumb"
	}
	return &terminal{w: w, moving: ok, colour: ok && getenv("NO_COLOR") == ""}
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
	mark := t.style(green, "✓")
	if !good {
		mark = t.style(red, "✗")
	}
	fmt.Fprintf(t.w, "     %s %s\n", mark, wrap(text, 7))
}

// note tells something that is neither good nor bad.
func (t *terminal) note(text string) { fmt.Fprintf(t.w, "     %s\n", wrap(text, 5)) }

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

// wrap breaks text between words into lines, all but the first indented. Longer words stay whole.
func wrap(text string, indent int) string {
	var b strings.Builder
	column := indent
	for _, word := range strings.Fields(text) {
		switch length := utf8.RuneCountInString(word); {
		case column > indent && column+1+length > width:
			fmt.Fprintf(&b, "\n%*s", indent, "")
			column = indent
		case column > indent:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += utf8.RuneCountInString(word)
	}
	return b.String()
}
