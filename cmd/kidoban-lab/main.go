// Kidoban-lab is the demo. It puts an engineer, an outsider with a copy of the engineer's key, the
// gateway and a hospital on one machine, in network namespaces, and tests the gateway's promises
// with real traffic. It runs the installed kidoban executable. It is not part of the appliance.
//
// Exit codes: 0 all promises hold, 1 not all, 2 usage.
//
// main.go and stay.go deal with the machine outside, stage.go has hosts and processes, policy.go
// the policy file, story.go the steps, terminal.go the output.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
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
	var files []*os.File
	if d.stay && !lab.Inside() {
		f, err := listenOutside()
		if err != nil {
			fmt.Fprintf(os.Stderr, "kidoban-lab: a port for the metrics: %v\n", err)
			os.Exit(1)
		}
		files = append(files, f)
	}
	lab.Main(d, files...)
}

// demo is the command line.
type demo struct {
	gateway string // path of the kidoban executable
	stay    bool
}

// parse reads the command line, and STAY=1 from the environment.
func parse(args []string, getenv func(string) string) (*demo, error) {
	d := &demo{stay: getenv("STAY") == "1"}
	flags := flag.NewFlagSet("kidoban-lab", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: kidoban-lab [--stay] [--gateway PATH]\n\n"+
			"Shows on one machine, with real traffic, what the gateway promises.\n\n")
		flags.PrintDefaults()
	}
	flags.BoolVar(&d.stay, "stay", d.stay, "keep everything up afterwards, until Ctrl-C; so does STAY=1 in the environment")
	flags.StringVar(&d.gateway, "gateway", "", "`path` of the kidoban executable (default: beside this one)")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: allowed are --stay and --gateway PATH", flags.Arg(0))
	}
	if d.gateway == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		d.gateway = filepath.Join(filepath.Dir(self), "kidoban")
	}
	path, err := filepath.Abs(d.gateway)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("the gateway's executable: %w (build both with `go build -o bin/ ./cmd/...`, or name it with --gateway PATH)", err)
	}
	d.gateway = path
	return d, nil
}

// Run tells the story and returns the exit code.
func (d *demo) Run() (code int) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	out := newTerminal(os.Stdout, os.Getenv)
	if err := lab.Available(); err != nil {
		out.failure(err.Error())
		return 1
	}
	var outside net.Listener
	if d.stay {
		outside = inherited() // now, before a command could inherit it in turn
	}
	s := &stage{ctx: ctx, executable: d.gateway}
	defer s.strike()
	defer func() {
		switch end := recover().(type) {
		case nil:
		case abort:
			if ctx.Err() != nil {
				out.note("Interrupted.")
			} else {
				out.failure(string(end))
				out.lines("The gateway's last words", s.lastWords())
			}
			code = 1
		default:
			panic(end)
		}
	}()
	story := &story{stage: s, out: out}
	story.tell()
	if d.stay {
		stay(s, out, outside)
	}
	s.stopGateway()
	if story.failures > 0 {
		out.lines("The gateway's last words", s.lastWords())
	}
	code = story.verdict()
	if code == 0 && !d.stay {
		out.note("To look around in it: make demo STAY=1. A real one: README.md.")
	}
	return code
}

// abort ends the demo with a reason, by panic, from wherever it can go no further.
type abort string

// metricsAddress is where Prometheus finds a gateway that runs on this machine.
const metricsAddress = "127.0.0.1:9586"

// listenOutside opens the metrics port in the machine's network namespace, or another port if that
// is taken.
func listenOutside() (*os.File, error) {
	l, err := net.Listen("tcp", metricsAddress)
	if err != nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, err
		}
	}
	defer l.Close() // the file is a duplicate
	return l.(*net.TCPListener).File()
}

// inherited gives the listener of listenOutside, passed on by Main as descriptor 3, or nil.
func inherited() net.Listener {
	f := os.NewFile(3, "metrics")
	if f == nil {
		return nil
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil
	}
	return l
}
