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
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/alecthomas/kong"

	"kidoban/gateway/lab"
)

func main() {
	d, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "kidoban-lab: %v\n", err)
		os.Exit(2)
	}
	lab.Main(d)
}

// demo is the command line.
type demo struct {
	Stay    bool   `help:"Keep everything up afterwards, until Ctrl-C; so does STAY=1 in the environment."`
	Gateway string `help:"The kidoban executable; the default is beside this one."`
}

func parse(args []string) (*demo, error) {
	d := &demo{}
	parser, err := kong.New(d, kong.Name("kidoban-lab"), kong.Description("Shows on one machine, with real traffic, what the gateway promises."))
	if err == nil {
		_, err = parser.Parse(args)
	}
	if err != nil {
		return nil, err
	}
	d.Stay = d.Stay || os.Getenv("STAY") == "1"
	self, err := os.Executable()
	if err == nil {
		d.Gateway, err = filepath.Abs(cmp.Or(d.Gateway, filepath.Join(filepath.Dir(self), "kidoban")))
	}
	if err == nil {
		_, err = os.Stat(d.Gateway)
	}
	if err != nil {
		return nil, fmt.Errorf("the gateway's executable: %w (build both with `go build -o bin/ ./cmd/...`, or name it with --gateway)", err)
	}
	return d, nil
}

// Run tells the story and returns the exit code.
func (d *demo) Run() (code int) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	s := &story{stage: &stage{ctx: ctx, executable: d.Gateway}, out: newTerminal(os.Stdout, os.Getenv)}
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
	if d.Stay {
		s.stay()
	}
	s.stopGateway()
	if s.failures > 0 {
		s.out.lines("The gateway's last words:", s.lastWords())
	}
	code = s.verdict()
	if code == 0 && !d.Stay {
		s.out.note("To look around in it: make demo STAY=1. A real one: README.md.")
	}
	return code
}

// abort ends the demo with a reason, by panic, from wherever it can go no further.
type abort string

// metricsAddress is where Prometheus finds a gateway that runs on this machine.
const metricsAddress = "127.0.0.1:9586"
