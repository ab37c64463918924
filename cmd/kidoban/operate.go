package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"kidoban/gateway"
	"kidoban/gateway/api"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// who is embedded in close and reopen, for their arguments.
type who struct {
	jsonFlag
	Who    given  `arg:"" optional:"" help:"vendor/engineer, or vendor; or --all"`
	All    bool   `help:"Every vendor there is, and will be."`
	Reason string `required:"" help:"Why; it is kept in the journal." placeholder:"R"`
}

// order gives the command to the gateway.
func (w who) order(p *program, path string) (gateway.Outcome, error) {
	scope, err := policy.Scope(w.Who), because(w.Reason)
	switch {
	case err != nil:
	case w.All && scope != "":
		err = wrong("who_twice", nil)
	case w.All:
		scope = policy.All
	case scope == policy.All: // no vendor has this name, and it is easily typed
		err = wrong("who_all", nil)
	case scope == "":
		err = wrong("who_missing", nil)
	default:
		err = api.Shows("WHO", string(scope))
	}
	if err != nil {
		return gateway.Outcome{}, err
	}
	out, err := p.order(path, map[string]any{"scope": scope, "reason": w.Reason})
	out.Scope = scope
	return out, err
}

// because refuses a reason that is empty or does not show, also where no gateway
// runs.
func because(reason string) error {
	if strings.TrimSpace(reason) == "" {
		return wrong("reason_empty", nil)
	}
	return api.Shows("--reason:", reason)
}

// order gives a command to the gateway.
func (p *program) order(path string, body any) (gateway.Outcome, error) {
	var out gateway.Outcome
	text, zone, err := p.client().Post(path, body)
	if err == nil {
		p.zone = zone
		err = json.Unmarshal(text, &out)
	}
	return out, err
}

// outcome prints an outcome, and fails if not everything stands.
func (p *program) outcome(asJSON bool, out gateway.Outcome, done string) error {
	if asJSON {
		p.json(out)
	} else {
		fmt.Fprintln(p.out, done)
		p.tellIf(out.Sessions > 0, "cut", view.Args{"count": out.Sessions})
		for _, m := range out.ChangeMessages {
			p.indent(m)
		}
		for _, m := range view.Summed(out.WarningMessages) {
			p.indent(view.Say("warning", view.Args{"text": m}))
		}
		p.tellIf(len(out.Shut) > 0, "shut_now", view.Args{"scopes": out.Shut})
		p.tellIf(out.Journal != "", "journal_aside", view.Args{"path": out.Journal})
		p.tellIf(!out.Recorded, "unrecorded", nil)
		p.tellIf(!out.Recorded && out.Kept, "restart_keeps", nil)
		p.tellIf(!out.Recorded && out.UntilBoot, "boot_forgets", nil)
	}
	var problems []string
	for _, m := range out.Problems {
		problems = append(problems, m.In(p.lang))
	}
	if problems == nil {
		return nil
	}
	return errors.New(strings.Join(problems, "\n"))
}

// before lists, beneath a heading, the closes that a scope had before an order.
func (p *program) before(heading view.Code, was *policy.ShutRecord) string {
	if was == nil {
		return ""
	}
	return strings.Join(append([]string{"\n" + p.say(heading, nil)}, p.closes(*was)...), "\n  ")
}

type closeCommand struct{ who }

func (c closeCommand) Run(p *program) error {
	out, err := c.order(p, "/v1/close")
	if err != nil {
		return err
	}
	done := p.say("closed", view.Args{"scope": string(out.Scope)})
	if !out.Recorded && !out.Kept {
		done = p.say("closed_for_now", view.Args{"scope": string(out.Scope)})
	}
	done += p.before("shut_already", out.Was)
	// A missing record is no failure if a restart honours the close.
	err = p.outcome(c.JSON, out, done)
	if err != nil && out.Applied && out.Kept {
		fmt.Fprintln(p.err, "kidoban:", err)
		return nil
	}
	return err
}

type reopenCommand struct{ who }

func (c reopenCommand) Run(p *program) error {
	out, err := c.order(p, "/v1/reopen")
	if err != nil {
		return err
	}
	return p.outcome(c.JSON, out, p.say("reopened", view.Args{"scope": string(out.Scope)})+p.before("taken_back", out.Was))
}

type reloadCommand struct{ jsonFlag }

func (c reloadCommand) Run(p *program) error {
	out, err := p.order("/v1/reload", nil)
	var problem *api.Problem
	if errors.As(err, &problem) && len(problem.Errors) > 0 {
		if c.JSON {
			p.json(problem)
		}
		fmt.Fprintln(p.err, strings.Join(problem.Errors, "\n"))
		return &view.Error{Message: view.Say("file_refused", nil)}
	}
	if err != nil {
		return err
	}
	done := p.say("in_force", view.Args{"digest": fmt.Sprintf("%.12s", out.Digest)})
	if len(out.Changes) == 0 {
		done = p.say("in_force_unchanged", view.Args{"digest": fmt.Sprintf("%.12s", out.Digest)})
	}
	return p.outcome(c.JSON, out, done)
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
	return p.outcome(c.JSON, out, p.say("recovered", nil))
}
