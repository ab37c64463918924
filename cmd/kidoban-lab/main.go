// Kidoban-lab is the demo. It puts an engineer, an outsider with a copy of the engineer's key, the
// gateway and a hospital on one machine, in network namespaces, and tests the gateway's promises
// with real traffic. It runs the installed kidoban executable. It is not part of the appliance.
//
// Exit codes: 0 all promises hold, 1 not all, 2 usage.
//
// stage.go has hosts and processes, policy.go the policy file, story.go the scenes, terminal.go the
// output, stay.go the time after the story.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"kidoban/gateway/lab"
)

func main() {
	d, err := parse(os.Args[1:], os.Getenv)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case err != nil:
		fmt.Fprintf(os.Stderr, "kidoban-lab: %v\n", err)
		os.Exit(2)
	}
	lab.Main(d)
}

// demo is the command line.
type demo struct {
	gateway string // path of the kidoban executable
	stay    bool
}

// parse reads the command line, and STAY=1 from the environment.
func parse(args []string, getenv func(string) string) (*demo, error) {
	d := &demo{}
	beside, err := os.Executable()
	if err != nil {
		return nil, err
	}
	flags := flag.NewFlagSet("kidoban-lab", flag.ContinueOnError)
	flags.BoolVar(&d.stay, "stay", getenv("STAY") == "1", "keep everything up afterwards, until Ctrl-C; so does STAY=1 in the environment")
	flags.StringVar(&d.gateway, "gateway", filepath.Join(filepath.Dir(beside), "kidoban"), "`path` of the kidoban executable")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: allowed are --stay and --gateway PATH", flags.Arg(0))
	}
	if d.gateway, err = filepath.Abs(d.gateway); err == nil {
		_, err = os.Stat(d.gateway)
	}
	if err != nil {
		return nil, fmt.Errorf("the gateway's executable: %w (build both with `go build -o bin/ ./cmd/...`, or name it with --gateway PATH)", err)
	}
	return d, nil
}

// Run tells the story and returns the exit code.
func (d *demo) Run() (code int) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	s := &story{stage: &stage{ctx: ctx, executable: d.gateway}, out: newTerminal(os.Stdout, os.Getenv)}
	defer s.strike()
	defer func() {
		switch end := recover().(type) {
		case nil:
		case abort:
			if ctx.Err() != nil {
				s.out.note("Interrupted.")
			} else {
				s.out.result(false, string(end))
				s.out.lines("The gateway's last words:", s.lastWords())
			}
			code = 1
		default:
			panic(end)
		}
	}()
	lab.Require(s)
	s.tell()
	if d.stay {
		s.stay()
	}
	s.stopGateway()
	if s.failures > 0 {
		s.out.lines("The gateway's last words:", s.lastWords())
	}
	code = s.verdict()
	if code == 0 && !d.stay {
		s.out.note("To look around in it: make demo STAY=1. A real one: README.md.")
	}
	return code
}

// abort ends the demo with a reason, by panic, from wherever it can go no further.
type abort string

// metricsAddress is where Prometheus finds a gateway that runs on this machine.
const metricsAddress = "127.0.0.1:9586"
