package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"kidoban/gateway"
	"kidoban/gateway/api"
	"kidoban/gateway/policy"
)

// who is what close and reopen are about.
type who struct {
	jsonFlag
	Who    given  `arg:"" optional:"" help:"vendor/engineer, or vendor; or --all"`
	All    bool   `help:"Every vendor there is, and will be."`
	Reason string `required:"" help:"Why; it is kept in the journal." placeholder:"R"`
}

func (w who) scope() (policy.Scope, error) {
	if err := because(w.Reason); err != nil {
		return "", err
	}
	switch {
	case w.All && w.Who != "":
		return "", &api.InputError{Text: "either WHO or --all, not both"}
	case w.All:
		return policy.All, nil
	case policy.Scope(w.Who) == policy.All:
		// Nobody is called so, and it is a word that is easily typed.
		return "", &api.InputError{Text: "everything is --all: allowed is vendor/engineer, vendor, or --all"}
	case w.Who == "":
		return "", &api.InputError{Text: "who? allowed is vendor/engineer, vendor, or --all"}
	}
	return policy.Scope(w.Who), api.Shows("WHO", string(w.Who))
}

// because refuses a reason that says nothing, or not what was typed, also where
// no gateway runs.
func because(reason string) error {
	if strings.TrimSpace(reason) == "" {
		return &api.InputError{Text: "--reason: is empty: say why, it is kept in the journal"}
	}
	return api.Shows("--reason:", reason)
}

// order gives a command to the gateway.
func (p *program) order(path string, body any) (gateway.Outcome, error) {
	var out gateway.Outcome
	text, err := p.client().Post(path, body)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	return out, err
}

// tell prints an outcome, and fails if not everything stands.
func (p *program) tell(asJSON bool, out gateway.Outcome, done string) error {
	if asJSON {
		if err := printJSON(p.out, out); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(p.out, done)
		if out.Sessions > 0 {
			fmt.Fprintf(p.out, "Cut: %s.\n", counted(out.Sessions, "session"))
		}
		for _, line := range out.Changes {
			fmt.Fprintf(p.out, "  %s\n", line)
		}
		for _, line := range out.Warnings {
			fmt.Fprintf(p.out, "  warning: %s\n", oneLine(line))
		}
		if len(out.Shut) > 0 {
			fmt.Fprintf(p.out, "Shut now: %s\n", strings.Join(out.Shut, ", "))
		}
		if out.Journal != "" {
			fmt.Fprintf(p.out, "The broken journal is kept at %s: copy it to a safe place.\n", out.Journal)
		}
		if !out.Recorded {
			fmt.Fprintln(p.out, "NOT RECORDED in the journal.")
			if out.Kept {
				fmt.Fprintln(p.out, "A restart honours it all the same.")
			}
			if out.UntilBoot {
				fmt.Fprintln(p.out, "A restart of the gateway honours it, the machine's NEXT BOOT FORGETS IT: mend the disk, then `kidoban recover` records it.")
			}
		}
	}
	if out.Problem != "" {
		return errors.New(out.Problem)
	}
	return nil
}

type closeCommand struct{ who }

func (c closeCommand) Run(p *program) error {
	scope, err := c.scope()
	if err != nil {
		return err
	}
	out, err := p.order("/v1/close", map[string]any{"scope": scope, "reason": c.Reason})
	if err != nil {
		return err
	}
	done := fmt.Sprintf("Shut: %s. It stays shut over restarts until `kidoban reopen`.", scope)
	if !out.Recorded && !out.Kept {
		done = fmt.Sprintf("Shut: %s, while the gateway runs.", scope)
	}
	if err := p.tell(c.JSON, out, done); err != nil {
		// It is closed: that the record is missing is told, and is no failure
		// where a restart honours it.
		if out.Applied && out.Kept {
			fmt.Fprintln(p.err, "kidoban:", err)
			return nil
		}
		return err
	}
	return nil
}

type reopenCommand struct{ who }

func (c reopenCommand) Run(p *program) error {
	scope, err := c.scope()
	if err != nil {
		return err
	}
	out, err := p.order("/v1/reopen", map[string]any{"scope": scope, "reason": c.Reason})
	if err != nil {
		return err
	}
	return p.tell(c.JSON, out, fmt.Sprintf("Reopened: %s.", scope))
}

type reloadCommand struct{ jsonFlag }

func (c reloadCommand) Run(p *program) error {
	out, err := p.order("/v1/reload", nil)
	if err != nil {
		var problem *api.Problem
		if errors.As(err, &problem) && len(problem.Errors) > 0 {
			if c.JSON {
				_ = printJSON(p.out, problem)
			}
			fmt.Fprintln(p.err, strings.Join(problem.Errors, "\n"))
			fmt.Fprintln(p.err, "kidoban: the policy file has errors; the policy in force stays, and the file would not survive a restart")
			return &exitError{exitFailed}
		}
		return err
	}
	done := fmt.Sprintf("Policy %.12s is in force.", out.Digest)
	if len(out.Changes) == 0 {
		done = fmt.Sprintf("Policy %.12s is in force; nothing changed.", out.Digest)
	}
	return p.tell(c.JSON, out, done)
}

type recoverCommand struct {
	jsonFlag
	Reason string `required:"" help:"Why; it is kept in the journal." placeholder:"R"`
}

func (c recoverCommand) Run(p *program) error {
	if err := because(c.Reason); err != nil {
		return err
	}
	out, err := p.order("/v1/recover", map[string]any{"reason": c.Reason})
	if err != nil {
		return err
	}
	return p.tell(c.JSON, out, "Recovered: the clock is accepted, handshake timestamps are forgotten.")
}
