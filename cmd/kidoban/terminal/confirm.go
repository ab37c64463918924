package terminal

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"kidoban/gateway/view"
)

// YesFlag is on every command that asks before it does something.
type YesFlag struct {
	Yes bool `help:"Do not ask: for scripts."`
}

// NeedlessYes takes the --yes of a script, so that no close fails for it: what closes never asks.
type NeedlessYes struct {
	Yes bool `hidden:"" help:"Taken, and not needed: what closes never asks."`
}

// Asks reports whether a person sits at the terminal: both the input and the place of
// errors and questions are one.
func (p *Program) Asks() bool { return isTerminal(p.Input) && isTerminal(p.Err) }

func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	if !ok || file == nil {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// Confirm shows what would be done, and asks. The error is nil after a yes, and with --yes,
// where only what is shown is printed. Without a terminal it is wrong usage.
func (p *Program) Confirm(y YesFlag, j JSONFlag, show func(*Program), question view.Code, args view.Args) error {
	if y.Yes {
		if !j.JSON {
			show(p)
		}
		return nil
	}
	show(p.Beside())
	if !p.Asks() {
		return Wrong("confirm_where", nil)
	}
	fmt.Fprintf(p.Err, "%s [y/N] ", p.Say(question, args))
	line, _ := bufio.NewReader(p.Input).ReadString('\n') // the end of the input is no
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes", "はい":
		return nil
	}
	return &Exit{view.Say("confirm_no", nil), No}
}

// Beside is the program with its output where questions and errors go, so that JSON
// stays alone in the output.
func (p *Program) Beside() *Program {
	beside := *p
	beside.Out = p.Err
	return &beside
}
