// Package selftest has `kidoban probe`, which tries on the real machine whether the gate keeps its promises.
package selftest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/config"
	"kidoban/gateway/api"
	"kidoban/gateway/durable"
	"kidoban/gateway/evidence"
	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
	"kidoban/gateway/probe"
	"kidoban/gateway/view"
)

// Version is the program's.
var Version string

// limit bounds the time of a probe.
const limit = 2 * time.Minute

// Command is `kidoban probe`.
type Command struct {
	terminal.JSONFlag
	Policy terminal.Given `help:"Try this policy file, and not the one in force; the gateway is told nothing." placeholder:"FILE"`
	Inside bool           `hidden:"" help:"Try the policy on standard input, in the namespaces of this process."`
}

// order is the standard input of the process in the namespaces.
type order struct {
	Text     string // of the policy
	Digest   string
	Settings probe.Config
}

// answer is the standard output of that process.
type answer struct {
	Result probe.Result
	Error  string // why it could not try; empty: it did
}

// Run tries, and tells the gateway how it went.
func (c Command) Run(p *terminal.Program) error {
	if c.Inside {
		return inside(p)
	}
	text, digest, err := c.policy(p)
	if err != nil {
		return err
	}
	s := p.Settings
	result, err := outside(order{text, digest, probe.Config{Interface: s.Interface, ListenPort: s.ListenPort, MTU: api.MTU, Masquerade: s.Masquerade, ForwardOthers: s.ForwardOthers}})
	if err != nil {
		return &view.Error{Message: view.Say("probe_failed", view.Args{"cause": err}), Cause: err}
	}
	result.Version = Version
	if c.JSON {
		p.PrintJSON(result)
	} else {
		print(p, result)
	}
	kept := len(result.Failed()) == 0
	if c.Policy == "" {
		var noted api.Noted
		if err := p.Order("/v1/evidence/probe", event(result), &noted); err != nil && kept {
			return &view.Error{Message: view.Say("probe_untold", view.Args{"cause": err}), Cause: err}
		} else if err != nil {
			p.Note("probe_untold", view.Args{"cause": err})
		}
	}
	return terminal.Unless(kept, terminal.No)
}

// policy gives the text and the digest of the policy to try.
func (c Command) policy(p *terminal.Program) (text, digest string, err error) {
	if c.Policy != "" {
		file, err := filepath.Abs(string(c.Policy))
		if err != nil {
			return "", "", err
		}
		guard := durable.GuardFor(p.Settings.StateDir)
		guard.Draft = file != p.Settings.PolicyFile
		loaded, _, err := config.LoadPolicy(file, config.Host{Guard: guard, Interface: p.Settings.Interface, ForwardOthers: p.Settings.ForwardOthers, Sealed: true})
		if err != nil {
			return "", "", err
		}
		p.Zone = loaded.Zone
		return loaded.Text, loaded.Digest, nil
	}
	var f api.InForce
	answer, zone, err := p.Client().Get("/v1/policy", nil)
	if err == nil {
		p.Zone = zone
		err = json.Unmarshal(answer, &f)
	}
	return f.Text, f.Digest, err
}

// outside runs this program again in a network namespace of its own.
func outside(o order) (result probe.Result, err error) {
	input, err := json.Marshal(o)
	if err != nil {
		return result, err
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), limit, errors.New("it took more than "+limit.String()))
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	runtime.LockOSThread() // see lab.Isolate
	defer runtime.UnlockOSThread()
	var output, complaint *bytes.Buffer
	child, err := lab.Isolate(unix.CLONE_NEWNET, func() *exec.Cmd {
		output, complaint = &bytes.Buffer{}, &bytes.Buffer{}
		child := exec.CommandContext(ctx, "/proc/self/exe", "probe", "--inside")
		child.Args[0] = os.Args[0]
		child.Stdin, child.Stdout, child.Stderr = bytes.NewReader(input), output, complaint
		return child
	})
	if err != nil {
		return result, err
	}
	err = child.Wait()
	var a answer
	switch {
	case ctx.Err() != nil:
		return result, context.Cause(ctx)
	case err != nil:
		return result, fmt.Errorf("the process in the namespaces ended with %w: %s", err, bytes.TrimSpace(complaint.Bytes()))
	}
	if err = json.Unmarshal(output.Bytes(), &a); err == nil && a.Error != "" {
		err = errors.New(a.Error)
	}
	return a.Result, err
}

// inside is the process in the namespaces.
func inside(p *terminal.Program) error {
	var a answer
	if err := try(p, &a.Result); err != nil {
		a.Error = err.Error()
	}
	p.PrintJSON(a)
	return nil
}

func try(p *terminal.Program, result *probe.Result) error {
	var o order
	if err := json.NewDecoder(p.Input).Decode(&o); err != nil {
		return err
	}
	var loaded *policy.Policy
	err := lab.Inside()
	if err == nil {
		loaded, err = config.ReadPast(o.Text)
	}
	if err != nil {
		return err
	}
	loaded.Digest = o.Digest
	*result, err = probe.Run(context.Background(), loaded, o.Settings)
	return err
}

// event turns a result into the event for the journal.
func event(r probe.Result) evidence.Probed {
	e := evidence.Probed{Digest: r.Digest, Version: r.Version, Took: r.Took}
	for _, trial := range probe.Trials() {
		counts := evidence.ProbeTrial{Trial: string(trial)}
		for _, c := range r.Checks {
			switch {
			case c.Trial != trial:
			case c.LeftOut != "":
				counts.LeftOut++
			case c.Kept:
				counts.Kept++
			default:
				counts.Broken++
			}
		}
		e.Trials = append(e.Trials, counts)
	}
	failed := r.Failed()
	for _, c := range failed[:min(len(failed), evidence.ProbeFailuresMost)] {
		e.Failed = append(e.Failed, evidence.ProbeFailure{Trial: string(c.Trial), Engineer: c.Engineer, From: c.From, To: c.To,
			Expected: string(c.Expected), Seen: string(c.Seen), Reason: strings.ToValidUTF8(c.Reason[:min(len(c.Reason), evidence.ProbeTextMost)], "")})
	}
	return e
}

// print prints a result as a table.
func print(p *terminal.Program, r probe.Result) {
	rows := [][]string{p.Heading("label_kept", "label_tried", "label_engineer", "label_from_address", "label_to", "label_expected", "label_seen")}
	leftOut := 0
	for _, c := range r.Checks {
		if c.LeftOut != "" {
			leftOut++
			continue
		}
		kept, seen := p.Say("probe_yes", nil), p.Say(sights[c.Seen], nil)
		if !c.Kept {
			kept = p.Say("probe_no", nil)
		}
		if c.Reason != "" {
			seen += " (" + terminal.OneLine(c.Reason) + ")"
		}
		rows = append(rows, []string{kept, p.Say(trials[c.Trial], nil), c.Engineer, c.From, c.To, p.Say(sights[c.Expected], nil), seen})
	}
	p.Columns(rows)
	for _, c := range r.Checks {
		if c.LeftOut != "" {
			p.Tell("probe_left_out", view.Args{"trial": view.Say(trials[c.Trial], nil), "engineer": c.Engineer, "why": view.Say(omissions[c.LeftOut], nil)})
		}
	}
	fmt.Fprintln(p.Out)
	count, digest, seconds := len(r.Checks)-leftOut, fmt.Sprintf("%.12s", r.Digest), strconv.FormatFloat(float64(r.Took)/1000, 'f', 1, 64)
	failed := len(r.Failed())
	p.TellIf(failed > 0, "probe_broken", view.Args{"failed": failed, "count": count, "digest": digest})
	p.TellIf(failed == 0, "probe_kept", view.Args{"count": count, "digest": digest, "seconds": seconds})
}

// The words for codes.
var (
	trials = map[probe.Trial]view.Code{
		probe.Outsider: "probe_outsider", probe.ForeignKey: "probe_foreign_key", probe.WrongHour: "probe_wrong_hour", probe.Enters: "probe_enters", probe.Reaches: "probe_reaches",
		probe.OtherPort: "probe_other_port", probe.OtherHost: "probe_other_host", probe.Inward: "probe_inward", probe.WindowEnds: "probe_window_ends",
	}
	sights = map[probe.Sight]view.Code{
		probe.Silence: "probe_silence", probe.Answer: "probe_answer", probe.Entry: "probe_entry", probe.Nothing: "probe_nothing", probe.Passed: "probe_passed",
		probe.Unheard: "probe_unheard", probe.Mistaken: "probe_mistaken",
	}
	omissions = map[string]view.Code{probe.AlwaysOpen: "probe_always_open", probe.NeverOpen: "probe_never_open", probe.OtherTime: "probe_other_time", probe.NoOther: "probe_no_other"}
)
