// Command kidoban keeps the gate of a hospital's or a municipality's network:
// it admits vendors' maintenance sessions only from listed addresses, only in
// approved windows, only to listed targets.
//
// Exit status: 0 yes, 1 failed, 2 wrong usage, 3 a well-formed "no".
package main

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	_ "time/tzdata" // an appliance may have no zone files

	"github.com/alecthomas/kong"

	"kidoban/cmd/kidoban/audit"
	"kidoban/cmd/kidoban/backup"
	"kidoban/cmd/kidoban/evidence"
	"kidoban/cmd/kidoban/notices"
	"kidoban/cmd/kidoban/requests"
	"kidoban/cmd/kidoban/selftest"
	"kidoban/cmd/kidoban/terminal"
	"kidoban/config"
	"kidoban/gateway/api"
	"kidoban/gateway/view"
)

// version is set by `go build -ldflags "-X main.version=..."`.
var version string

type commands struct {
	Lang view.Language `help:"Language of the output: en, ja, or auto: that of the locale." enum:"auto,en,ja" default:"auto"`

	Run      runCommand      `cmd:"" help:"Run the gateway; SIGHUP reads the policy file again, SIGTERM and SIGINT end it."`
	Check    checkCommand    `cmd:"" help:"Check a policy file: errors, warnings, what it opens in the next 30 days."`
	Diff     diffCommand     `cmd:"" help:"Compare two policy files, or one with the policy in force: what changes, opens and closes."`
	Explain  explainCommand  `cmd:"" help:"Say whether an engineer may enter, and why or why not."`
	Calendar calendarCommand `cmd:"" help:"Show who can enter when, to what."`
	Status   statusCommand   `cmd:"" help:"Show how the gateway stands."`
	Sessions sessionsCommand `cmd:"" help:"Show who is inside."`
	Grants   grantsCommand   `cmd:"" help:"Show what is open."`
	Refusals refusalsCommand `cmd:"" help:"Show who was refused, and why."`
	requests.Commands
	Evidence evidence.Commands `embed:""`

	Close        closeCommand          `cmd:"" help:"Cut an engineer, a vendor or everything now, and keep it shut over restarts."`
	Reopen       reopenCommand         `cmd:"" help:"Take a close back."`
	Reload       reloadCommand         `cmd:"" help:"Read the policy file again."`
	Recover      recoverCommand        `cmd:"" help:"Lead out of doubt: accept the clock, begin a broken journal anew, rebuild the tunnel. Every session ends."`
	ClientConfig clientConfigCommand   `cmd:"" help:"Print what an engineer pastes into a WireGuard client."`
	Watch        audit.Watch           `cmd:"" help:"Follow what the gateway does: one line for each entry of the journal, until Ctrl-C."`
	Backup       backup.Backup         `cmd:"" help:"Write policy, keys, journal and closes into one encrypted file; the gateway may run."`
	Restore      backup.Restore        `cmd:"" help:"Put a backup back, while the gateway is stopped."`
	Journal      audit.Command         `cmd:"" help:"Verify or list the journal, or print its verifier key."`
	Probe        selftest.Command      `cmd:"" help:"Try on this machine, in networks of its own, whether the gate keeps its promises with the policy in force."`
	Openapi      openAPICommand        `cmd:"" help:"Print the OpenAPI document of the admin socket."`
	Office       notices.OfficeCommand `cmd:"" help:"Deliver notices to the sinks of the policy: a process beside run."`
	NotifyTest   notices.TestCommand   `cmd:"" help:"Send a test notice to a sink of the policy, now and from here."`
	Version      versionCommand        `cmd:"" help:"Print the version."`
	Live         healthCommand         `cmd:"" hidden:"" help:"Ask whether the gateway's loop turns: a container's health check."`
}

// output keeps the error of the first write that failed.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(text []byte) (int, error) {
	n, err := o.Writer.Write(text)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

func init() {
	evidence.Version, backup.Version, selftest.Version = versionText(), versionText(), versionText()
}

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
		return terminal.Failed
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
		return terminal.Usage
	}
	if c.Lang == "auto" {
		c.Lang = view.LanguageOf(environ)
	}
	printed := &output{Writer: out}
	p := &terminal.Program{Settings: settings, Lang: c.Lang, Input: os.Stdin, Out: printed, Err: failures}
	if err = command.Run(p); err == nil {
		err = printed.err
	}
	return p.Fail(err)
}

// openAPICommand prints what GET /v1/openapi.json answers.
type openAPICommand struct{}

func (openAPICommand) Run(p *terminal.Program) error {
	_, err := p.Out.Write(api.OpenAPI)
	return err
}

type versionCommand struct{ terminal.JSONFlag }

func (c versionCommand) Run(p *terminal.Program) error {
	if c.JSON {
		p.PrintJSON(map[string]string{"version": versionText()})
	} else {
		fmt.Fprintln(p.Out, "kidoban", versionText())
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
