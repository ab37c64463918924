package requests

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/api"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// which is embedded in every command about one request.
type which struct {
	terminal.JSONFlag
	ID id `arg:"" help:"The request, as in 7k2m9x; the ~ before it may be left out."`
}

// order gives the command, with the request's id in its body.
func (c which) order(p *terminal.Program, path string, body map[string]any) (api.Recorded, bool, error) {
	body["id"] = string(c.ID)
	return order(p, c.JSONFlag, path, body)
}

// told prints the outcome of a command, and fails if not everything stands.
func (c which) told(p *terminal.Program, show bool, answer api.Recorded, done string) error {
	if show {
		fmt.Fprintln(p.Out, done)
		p.Stands(answer.Outcome)
	}
	return p.Problems(answer.Outcome)
}

// because is embedded in commands that close.
type because struct {
	Reason string `required:"" help:"Why; it is kept in the journal." placeholder:"R"`
	terminal.NeedlessYes
}

// refuse ends a request.
func (c which) refuse(p *terminal.Program, b because, path string, done view.Code) error {
	if err := terminal.Because(b.Reason); err != nil {
		return err
	}
	answer, show, err := c.order(p, path, map[string]any{"reason": b.Reason})
	if err != nil {
		return err
	}
	return c.told(p, show, answer, p.Say(done, view.Args{"id": string(c.ID)}))
}

type denyCommand struct {
	which
	because
}

func (c denyCommand) Run(p *terminal.Program) error {
	return c.refuse(p, c.because, "/v1/deny", "request_denied")
}

type withdrawCommand struct {
	which
	because
}

func (c withdrawCommand) Run(p *terminal.Program) error {
	return c.refuse(p, c.because, "/v1/withdraw", "request_withdrawn")
}

type revokeCommand struct {
	which
	because
}

func (c revokeCommand) Run(p *terminal.Program) error {
	return c.refuse(p, c.because, "/v1/revoke", "request_revoked")
}

type shortenCommand struct {
	which
	Until terminal.Given `required:"" help:"The earlier end." placeholder:"T"`
	because
}

func (c shortenCommand) Run(p *terminal.Program) error {
	if err := terminal.Because(c.Reason); err != nil {
		return err
	}
	until, err := instant(p, c.Until)
	if err != nil {
		return err
	}
	answer, show, err := c.order(p, "/v1/shorten", map[string]any{"until": until, "reason": c.Reason})
	if err != nil {
		return err
	}
	return c.told(p, show, answer, p.Say("request_shortened", view.Args{"id": string(c.ID), "until": p.Local(answer.Request.Until)}))
}

// signing is embedded in commands that send a digest of terms.
type signing struct {
	which
	terminal.YesFlag
	Digest digest `help:"The digest of what you saw, as 'kidoban requests ID' shows it. Without it the command shows the terms, and asks." placeholder:"HEX"`
}

// sign shows terms and asks, and gives the command with their digest. With --digest it
// sends that one.
func (c signing) sign(p *terminal.Program, r view.Request, t policy.Terms, question view.Code, path string, body map[string]any) (api.Recorded, bool, error) {
	if over(question, r.State) { // there is nothing to ask: the gateway says why not
		c.Digest = digest(t.Digest())
	}
	body["digest"] = string(c.Digest)
	if c.Digest == "" {
		show := func(p *terminal.Program) { before(p, r, t, question == "request_extend") }
		if err := p.Confirm(c.YesFlag, c.JSONFlag, show, question, view.Args{"id": r.ID}); err != nil {
			return api.Recorded{}, false, err
		}
		body["digest"] = t.Digest()
	}
	answer, show, err := c.order(p, path, body)
	if other := problem(err, "request_other"); other != nil {
		c.differences(p.Beside(), t, other)
	}
	return answer, show, err
}

// over reports whether what a question asks can never be done again with a request in a state.
func over(question view.Code, state policy.Stage) bool {
	final := []policy.Stage{policy.StageClosed, policy.StageDenied, policy.StageWithdrawn, policy.StageRevoked, policy.StageExpired}
	switch question {
	case "request_approve":
		return slices.Contains(append(final, policy.Scheduled, policy.StageOpen, policy.StageFrozen), state)
	case "request_extend":
		return slices.Contains(final, state)
	}
	return false
}

// differences says how a request differs from the terms that were shown. For a digest of
// the command line the gateway knows those terms.
func (c signing) differences(p *terminal.Program, shown policy.Terms, other *api.Problem) {
	all := other.Differences
	if c.Digest == "" {
		if _, now, err := one(p, c.ID); err == nil {
			all = local(p, shown).Differences(local(p, now.Terms))
		}
	}
	for _, d := range all {
		p.Indent(view.Say("field_changed", view.Args{"field": d.Field, "before": d.Was, "after": d.Is}))
	}
}

// local are terms with their times in the site's zone.
func local(p *terminal.Program, t policy.Terms) policy.Terms {
	t.From, t.Until = p.In(t.From), p.In(t.Until)
	return t
}

type approveCommand struct{ signing }

func (c approveCommand) Run(p *terminal.Program) error {
	_, r, err := one(p, c.ID)
	if err != nil {
		return err
	}
	answer, show, err := c.sign(p, r, r.Terms, "request_approve", "/v1/approve", map[string]any{})
	if err != nil {
		return err
	}
	r = answer.Request
	done := p.Say("request_approved", view.Args{"id": r.ID, "from": p.Local(r.From), "until": p.Local(r.Until)})
	if len(r.Approvals) < r.Needed {
		done = p.Say("request_approved_partly", view.Args{"id": r.ID, "count": len(r.Approvals), "needed": r.Needed})
	}
	return c.told(p, show, answer, done)
}

type extendCommand struct {
	signing
	end
	Reason string `help:"Why. With it, who may not extend asks an approver for the extension." placeholder:"R"`
}

func (c extendCommand) Run(p *terminal.Program) error {
	_, r, err := one(p, c.ID)
	if err != nil {
		return err
	}
	until, err := c.until(p, r)
	if err != nil {
		return err
	}
	answer, show, err := c.sign(p, r, next(r, until), "request_extend", "/v1/extend", map[string]any{"until": until})
	if (problem(err, "operator_may_not") != nil || problem(err, "own_request") != nil) && c.Reason != "" {
		return c.ask(p, until)
	}
	if err != nil {
		return err
	}
	done := p.Say("request_extended", view.Args{"id": r.ID, "until": p.Local(answer.Request.Until)})
	if e := answer.Request.Extension; e != nil {
		done = p.Say("request_extended_partly", view.Args{"id": r.ID, "until": p.Local(answer.Request.Until), "count": len(e.Approvals), "needed": e.Needed})
	}
	return c.told(p, show, answer, done)
}

// until is the later end. Without one on the command line it is that of the extension that
// waits for approvals.
func (c extendCommand) until(p *terminal.Program, r view.Request) (time.Time, error) {
	switch {
	case c.Until != "":
		return instant(p, c.Until)
	case c.For != 0:
		return r.Until.Add(time.Duration(c.For)).UTC(), nil
	case r.Extension != nil:
		return r.Extension.Until.UTC(), nil
	}
	return time.Time{}, terminal.Wrong("request_end_missing", nil)
}

// ask asks an approver for the extension.
func (c extendCommand) ask(p *terminal.Program, until time.Time) error {
	if err := terminal.Because(c.Reason); err != nil {
		return err
	}
	answer, show, err := c.order(p, "/v1/ask-extension", map[string]any{"until": until, "reason": c.Reason})
	if err != nil {
		return err
	}
	return c.told(p, show, answer, p.Say("request_extension_asked", view.Args{"id": string(c.ID), "until": p.Local(until)}))
}

// next are the terms of an extension until an instant: those that wait for an approval,
// or those of the next version.
func next(r view.Request, until time.Time) policy.Terms {
	t := r.Terms
	waits := r.Extension != nil && r.Extension.Version == t.Version && t.Until.Equal(until)
	for _, s := range r.Shortened {
		waits = waits && (r.Extension.Asked == nil || s.Asked.At.Before(r.Extension.Asked.At))
	}
	if !waits {
		t.Version, t.Until, t.For = t.Version+1, until.UTC(), 0
	}
	return t
}

type ratifyCommand struct {
	signing
	Finding string `required:"" help:"What you found, as why it was needed and what was done; it is kept in the journal." placeholder:"F"`
}

func (c ratifyCommand) Run(p *terminal.Program) error {
	if strings.TrimSpace(c.Finding) == "" {
		return terminal.Wrong("finding_empty", nil)
	}
	if err := api.Shows("--finding:", c.Finding); err != nil {
		return err
	}
	_, r, err := one(p, c.ID)
	if err != nil {
		return err
	}
	answer, show, err := c.sign(p, r, r.Terms, "request_ratify", "/v1/ratify", map[string]any{"finding": c.Finding})
	if err != nil {
		return err
	}
	return c.told(p, show, answer, p.Say("request_ratified", view.Args{"id": r.ID}))
}
