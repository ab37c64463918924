package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway"
	"kidoban/gateway/api"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// who is embedded in close and reopen, for their arguments.
type who struct {
	terminal.JSONFlag
	Who    terminal.Given `arg:"" optional:"" help:"vendor/engineer, or vendor; or --all"`
	All    bool           `help:"Every vendor there is, and will be."`
	Reason string         `required:"" help:"Why; it is kept in the journal." placeholder:"R"`
}

// order gives the command to the gateway.
func (w who) order(p *terminal.Program, path string) (gateway.Outcome, error) {
	scope, err := policy.Scope(w.Who), terminal.Because(w.Reason)
	switch {
	case err != nil:
	case w.All && scope != "":
		err = terminal.Wrong("who_twice", nil)
	case w.All:
		scope = policy.All
	case scope == policy.All: // no vendor has this name, and it is easily typed
		err = terminal.Wrong("who_all", nil)
	case scope == "":
		err = terminal.Wrong("who_missing", nil)
	default:
		err = api.Shows("WHO", string(scope))
	}
	if err != nil {
		return gateway.Outcome{}, err
	}
	var out gateway.Outcome
	err = p.Order(path, map[string]any{"scope": scope, "reason": w.Reason}, &out)
	out.Scope = scope
	return out, err
}

// before lists, beneath a heading, the closes that a scope had before an order.
func before(p *terminal.Program, heading view.Code, was *policy.ShutRecord) string {
	if was == nil {
		return ""
	}
	return strings.Join(append([]string{"\n" + p.Say(heading, nil)}, closes(p, *was)...), "\n  ")
}

type closeCommand struct {
	who
	terminal.NeedlessYes
}

func (c closeCommand) Run(p *terminal.Program) error {
	out, err := c.order(p, "/v1/close")
	if err != nil {
		return err
	}
	done := p.Say("closed", view.Args{"scope": string(out.Scope)})
	if !out.Recorded && !out.Kept {
		done = p.Say("closed_for_now", view.Args{"scope": string(out.Scope)})
	}
	done += before(p, "shut_already", out.Was)
	// A missing record is no failure if a restart honours the close.
	err = p.Outcome(c.JSON, out, done)
	if err != nil && out.Applied && out.Kept {
		fmt.Fprintln(p.Err, "kidoban:", err)
		return nil
	}
	return err
}

type reopenCommand struct{ who }

func (c reopenCommand) Run(p *terminal.Program) error {
	out, err := c.order(p, "/v1/reopen")
	if err != nil {
		return err
	}
	done := p.Say("reopened", view.Args{"scope": string(out.Scope)}) + before(p, "taken_back", out.Was)
	if slices.Contains(out.Shut, string(out.Scope)) { // it takes several operators
		done = p.Say("reopen_approved", view.Args{"scope": string(out.Scope)})
	}
	return p.Outcome(c.JSON, out, done)
}

type reloadCommand struct{ terminal.JSONFlag }

func (c reloadCommand) Run(p *terminal.Program) error {
	var out gateway.Outcome
	err := p.Order("/v1/reload", nil, &out)
	var problem *api.Problem
	if errors.As(err, &problem) && len(problem.Errors) > 0 {
		if c.JSON {
			p.PrintJSON(problem)
		}
		fmt.Fprintln(p.Err, strings.Join(problem.Errors, "\n"))
		return &view.Error{Message: view.Say("file_refused", nil)}
	}
	if err != nil {
		return err
	}
	done := p.Say("in_force", view.Args{"digest": fmt.Sprintf("%.12s", out.Digest)})
	if len(out.Changes) == 0 {
		done = p.Say("in_force_unchanged", view.Args{"digest": fmt.Sprintf("%.12s", out.Digest)})
	}
	return p.Outcome(c.JSON, out, done)
}

type recoverCommand struct {
	terminal.JSONFlag
	Reason string `required:"" help:"Why; it is kept in the journal." placeholder:"R"`
}

func (c recoverCommand) Run(p *terminal.Program) error {
	if err := terminal.Because(c.Reason); err != nil {
		return err
	}
	var out gateway.Outcome
	if err := p.Order("/v1/recover", map[string]any{"reason": c.Reason}, &out); err != nil {
		return err
	}
	return p.Outcome(c.JSON, out, p.Say("recovered", nil))
}
