// Command kidoban keeps the gate of a hospital's or a municipality's network:
// it admits vendors' maintenance sessions only from listed addresses, only in
// approved windows, only to listed targets.
//
// Exit status: 0 yes, 1 failed, 2 wrong usage, 3 a well-formed "no".
package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"time"
	_ "time/tzdata" // an appliance may have no zone files

	"github.com/alecthomas/kong"

	"kidoban/config"
	"kidoban/gateway/admin"
	"kidoban/gateway/api"
	"kidoban/gateway/view"
)

// Exit statuses.
const (
	exitYes    = 0
	exitFailed = 1
	exitUsage  = 2
	exitNo     = 3
)

// version is set by `go build -ldflags "-X main.version=..."`.
var version string

type commands struct {
	Lang view.Language `help:"Language of the output: en, ja, or auto: that of the locale." enum:"auto,en,ja" default:"auto"`

	Run          runCommand          `cmd:"" help:"Run the gateway; SIGHUP reads the policy file again, SIGTERM and SIGINT end it."`
	Check        checkCommand        `cmd:"" help:"Check a policy file: errors, warnings, what it opens in the next 30 days."`
	Explain      explainCommand      `cmd:"" help:"Say whether an engineer may enter, and why or why not."`
	Calendar     calendarCommand     `cmd:"" help:"Show who can enter when, to what."`
	Status       statusCommand       `cmd:"" help:"Show how the gateway stands."`
	Sessions     sessionsCommand     `cmd:"" help:"Show who is inside."`
	Grants       grantsCommand       `cmd:"" help:"Show what is open."`
	Refusals     refusalsCommand     `cmd:"" help:"Show who was refused, and why."`
	Close        closeCommand        `cmd:"" help:"Cut an engineer, a vendor or everything now, and keep it shut over restarts."`
	Reopen       reopenCommand       `cmd:"" help:"Take a close back."`
	Reload       reloadCommand       `cmd:"" help:"Read the policy file again."`
	Recover      recoverCommand      `cmd:"" help:"Lead out of doubt: accept the clock, begin a broken journal anew, rebuild the tunnel. Every session ends."`
	ClientConfig clientConfigCommand `cmd:"" help:"Print what an engineer pastes into a WireGuard client."`
	Journal      journalCommand      `cmd:"" help:"Verify or list the journal, or print its verifier key."`
	Version      versionCommand      `cmd:"" help:"Print the version."`
	Live         healthCommand       `cmd:"" hidden:"" help:"Ask whether the gateway's loop turns: a container's health check."`
}

// program is the argument of every command.
type program struct {
	settings config.Settings
	out, err io.Writer
	lang     view.Language
	zone     *time.Location // the site's, of the gateway that was asked; nil: not known
}

func (p *program) client() admin.Client { return admin.Client{Socket: p.settings.AdminSocket} }

// exitError ends the program with a status, and with a message if there is one.
type exitError struct {
	view.Message
	status int
}

func (e *exitError) Error() string { return e.String() }

// unless ends the program with a status, unless the answer is yes.
func unless(yes bool, status int) error {
	if yes {
		return nil
	}
	return &exitError{status: status}
}

// wrong is wrong usage.
func wrong(code view.Code, args view.Args) error { return &exitError{view.Say(code, args), exitUsage} }

func main() { os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr)) }

// run is main, for tests.
func run(args, environ []string, out, failures io.Writer) int {
	var c commands
	exited := -1
	parser, err := kong.New(&c, kong.Name("kidoban"), kong.Writers(out, failures), kong.Exit(func(code int) { exited = code }),
		kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		fmt.Fprintln(failures, "kidoban:", err)
		return exitFailed
	}
	command, err := parser.Parse(args)
	if exited >= 0 { // --help
		return exited
	}
	if err != nil {
		return complain(err, args, func() { run([]string{"--help"}, environ, failures, failures) }, failures)
	}
	settings, err := config.FromEnvironment(environ)
	if err != nil {
		fmt.Fprintln(failures, err)
		return exitUsage
	}
	if c.Lang == "auto" {
		c.Lang = view.LanguageOf(environ)
	}
	printed := &output{Writer: out}
	p := &program{settings: settings, lang: c.Lang, out: printed, err: failures}
	if err = command.Run(p); err == nil {
		err = printed.err
	}
	return p.fail(err)
}

// fail tells an error and turns it into an exit status.
func (p *program) fail(err error) int {
	if err == nil {
		return exitYes
	}
	var said *exitError
	var message *view.Error
	var problem *api.Problem
	var mistakes config.Errors
	text, status := err.Error(), exitFailed
	switch {
	case errors.As(err, &said):
		if said.Empty() {
			return said.status
		}
		text, status = said.In(p.lang), said.status
	case errors.As(err, &problem):
		text = problem.In(p.lang)
		switch problem.Status {
		case http.StatusNotFound:
			text, status = view.Say("no_match", view.Args{"cause": text}).In(p.lang), exitNo
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
			text, status = view.Say("input_wrong", view.Args{"cause": text}).In(p.lang), exitUsage
		}
	case errors.As(err, &mistakes):
		fmt.Fprintln(p.err, mistakes) // each begins with its file
		return exitFailed
	case errors.As(err, &message):
		text = message.In(p.lang)
	}
	fmt.Fprintln(p.err, "kidoban:", text)
	return status
}

type versionCommand struct{ jsonFlag }

func (c versionCommand) Run(p *program) error {
	if c.JSON {
		p.json(map[string]string{"version": versionText()})
	} else {
		fmt.Fprintln(p.out, "kidoban", versionText())
	}
	return nil
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
