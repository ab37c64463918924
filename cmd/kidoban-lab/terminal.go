package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
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

func (t *terminal) title(name, what string) {
	fmt.Fprintf(t.w, "\n  %s  %s\n", t.style(bold, name), what)
}

// picture shows lines as they are.
func (t *terminal) picture(lines string) {
	fmt.Fprintln(t.w)
	for line := range strings.Lines(lines) {
		fmt.Fprintf(t.w, "    %s\n", t.style(faint, strings.TrimRight(line, "\n")))
	}
}

// heading begins a step.
func (t *terminal) heading(format string, args ...any) {
	t.step++
	fmt.Fprintf(t.w, "\n  %s  %s\n", t.style(bold, fmt.Sprint(t.step)), t.style(bold, fmt.Sprintf(format, args...)))
}

// result prints an observation, good or bad.
func (t *terminal) result(good bool, text string) {
	mark := t.style(green, t.yes)
	if !good {
		mark = t.style(red, t.no)
	}
	indent := 5 + utf8.RuneCountInString(t.yes) + 1
	lines := wrap(text, width-indent)
	fmt.Fprintf(t.w, "     %s %s\n", mark, lines[0])
	for _, line := range lines[1:] {
		fmt.Fprintf(t.w, "%*s%s\n", indent, "", line)
	}
}

// note tells something that is neither good nor bad.
func (t *terminal) note(format string, args ...any) {
	for _, line := range wrap(fmt.Sprintf(format, args...), width-5) {
		fmt.Fprintf(t.w, "     %s\n", line)
	}
}

// lines shows text of others below a heading, if there is any.
func (t *terminal) lines(heading string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(t.w, "\n  %s:\n", heading)
	for _, line := range lines {
		fmt.Fprintf(t.w, "    %s\n", t.style(faint, line))
	}
}

// failure tells why the demo cannot go on.
func (t *terminal) failure(text string) {
	fmt.Fprintln(t.w)
	for i, line := range wrap(text, width-5) {
		mark := strings.Repeat(" ", utf8.RuneCountInString(t.no))
		if i == 0 {
			mark = t.style(red, t.no)
		}
		fmt.Fprintf(t.w, "  %s %s\n", mark, line)
	}
}

// countdown shows how long a wait still takes, where lines may be overwritten.
func (t *terminal) countdown(what string, left time.Duration) {
	if t.moving {
		fmt.Fprintf(t.w, "\r     %s", t.style(faint, fmt.Sprintf("%s in %d s ", what, int(left.Seconds()+0.999))))
	}
}

// countdownOver removes it.
func (t *terminal) countdownOver() {
	if t.moving {
		fmt.Fprint(t.w, "\r\x1b[K")
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
