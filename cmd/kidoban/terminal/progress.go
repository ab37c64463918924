package terminal

import (
	"fmt"
	"time"

	"kidoban/gateway/view"
)

// Progress tells on a terminal how far long work has come, once it has taken a second. The zero value
// tells nothing.
type Progress struct {
	p    *Program
	next time.Time // when it tells again
	told bool
}

// Progress begins to watch work. Where errors do not go to a terminal it stays silent.
func (p *Program) Progress() *Progress {
	if !isTerminal(p.Err) {
		return &Progress{}
	}
	return &Progress{p: p, next: time.Now().Add(time.Second)}
}

// At says how many of the parts are done.
func (g *Progress) At(n, of int64) {
	const pause = 200 * time.Millisecond
	if g.p == nil || n%256 != 0 || time.Now().Before(g.next) {
		return
	}
	g.next, g.told = time.Now().Add(pause), true
	fmt.Fprintf(g.p.Err, "\r\x1b[K%s", g.p.Say("progress", view.Args{"n": n, "of": of}))
}

// End takes the line away.
func (g *Progress) End() {
	if g.told {
		fmt.Fprint(g.p.Err, "\r\x1b[K")
	}
}
