// Package requests has the commands about requests: to record one, to show them, and
// to decide.
package requests

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/config"
	"kidoban/gateway/api"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// Commands are the commands of this package.
type Commands struct {
	Request  requestCommand  `cmd:"" help:"Record what a vendor asks for. It opens nothing until it is approved, but for an --emergency."`
	Requests listCommand     `cmd:"" help:"Show the requests, or one of them in full."`
	Approve  approveCommand  `cmd:"" help:"Approve a request, after a look at what it would open."`
	Deny     denyCommand     `cmd:"" help:"Refuse a request for good."`
	Withdraw withdrawCommand `cmd:"" help:"Take a request back before it is approved."`
	Extend   extendCommand   `cmd:"" help:"Give an approved request a later end: the one that was asked for, if none is given."`
	Shorten  shortenCommand  `cmd:"" help:"Give an approved request an earlier end."`
	Revoke   revokeCommand   `cmd:"" help:"End an approved request now, for good."`
	Ratify   ratifyCommand   `cmd:"" help:"Sign an emergency afterwards, or what its recorder approved."`
}

type requestCommand struct {
	terminal.JSONFlag
	terminal.YesFlag
	Vendor    string         `arg:"" help:"The vendor."`
	Engineers []string       `required:"" help:"Who is to enter." placeholder:"A,B"`
	Targets   []string       `required:"" help:"What to reach." placeholder:"X,Y"`
	For       elapsed        `required:"" xor:"end" help:"How long, as in 90m, 2h, 1h30m or 1d: from --from on, or from the last approval on." placeholder:"D"`
	Until     terminal.Given `required:"" xor:"end" help:"The end." placeholder:"T"`
	From      terminal.Given `help:"The beginning; if there is none, it opens when it is approved." placeholder:"T"`
	Purpose   string         `required:"" help:"What the work is; it is kept in the journal." placeholder:"P"`
	Ticket    terminal.Given `help:"The number of the work in another system." placeholder:"T"`
	Source    terminal.Given `help:"The only address to come from, in place of the engineers' own." placeholder:"ADDR"`
	Emergency bool           `help:"Open at once. Another operator must sign it afterwards."`
}

func (c requestCommand) Run(p *terminal.Program) error {
	for name, text := range map[string]string{"--purpose:": c.Purpose, "--ticket:": string(c.Ticket)} {
		if err := api.Shows(name, text); err != nil {
			return err
		}
	}
	inForce, err := policyInForce(p)
	if err != nil {
		return err
	}
	asked, err := c.resolve(p, inForce)
	if err != nil {
		return err
	}
	if c.Emergency || p.Asks() { // the record of a request opens nothing, so a script need not say --yes
		question := view.Code("request_record")
		if c.Emergency {
			question = "request_declare"
		}
		if err := p.Confirm(c.YesFlag, c.JSONFlag, func(p *terminal.Program) { c.show(p, inForce, asked) }, question, nil); err != nil {
			return err
		}
	}
	body := map[string]any{"vendor": c.Vendor, "engineers": c.Engineers, "targets": c.Targets, "purpose": c.Purpose}
	for name, text := range map[string]terminal.Given{"from": c.From, "until": c.Until, "ticket": c.Ticket, "source": c.Source} {
		if text != "" {
			body[name] = text
		}
	}
	if c.For != 0 {
		body["for"] = time.Duration(c.For).String()
	}
	if c.Emergency {
		body["emergency"] = true
	}
	answer, show, err := order(p, c.JSONFlag, "/v1/request", body)
	if err != nil {
		return err
	}
	return c.told(p, show, answer)
}

func (c requestCommand) told(p *terminal.Program, show bool, answer api.Recorded) error {
	r := answer.Request
	if show {
		if r.Emergency != nil {
			p.Tell("request_declared", view.Args{"id": r.ID, "until": p.Local(r.Until), "by": p.Local(r.Emergency.RatifyBy)})
		} else {
			p.Tell("request_recorded", view.Args{"id": r.ID})
			advice(p, r)
		}
		p.Stands(answer.Outcome)
	}
	return p.Problems(answer.Outcome)
}

// resolve gives the terms of what is asked for, by the policy in force. The mistakes are
// those that the gateway would name.
func (c requestCommand) resolve(p *terminal.Program, inForce *policy.Policy) (policy.Terms, error) {
	a := policy.Ask{Vendor: c.Vendor, Targets: c.Targets, For: time.Duration(c.For), Purpose: c.Purpose, Ticket: string(c.Ticket), Source: string(c.Source), Emergency: c.Emergency}
	for _, name := range c.Engineers {
		a.Engineers = append(a.Engineers, strings.TrimPrefix(name, c.Vendor+"/"))
	}
	p.Zone = inForce.Zone
	for _, t := range []struct {
		text terminal.Given
		to   *time.Time
	}{{c.From, &a.From}, {c.Until, &a.Until}} {
		if t.text == "" {
			continue
		}
		var err error
		if *t.to, err = instant(p, t.text); err != nil {
			return policy.Terms{}, err
		}
	}
	asked, err := inForce.Resolve(a, "", time.Now())
	if refused := (*policy.RefusedError)(nil); errors.As(err, &refused) {
		return asked, api.Refused(refused)
	}
	if err != nil {
		return asked, terminal.Wrong("request_wrong", view.Args{"cause": err})
	}
	return asked, nil
}

// show prints the terms of a request before it is recorded.
func (c requestCommand) show(p *terminal.Program, inForce *policy.Policy, asked policy.Terms) {
	vendor := inForce.Vendor(asked.Vendor)
	var names []string
	for _, e := range asked.Engineers {
		names = append(names, inForce.Engineer(vendor.Name+"/"+e.Name).DisplayName)
	}
	rows := terminal.List{Program: p}
	terms(&rows, asked, vendor.DisplayName, names)
	span(&rows, asked.From, asked.Until, asked.For > 0)
	why(&rows, asked, vendor.Phone)
	p.Columns(rows.Rows)
}

// policyInForce is the policy that the gateway has.
func policyInForce(p *terminal.Program) (*policy.Policy, error) {
	text, _, err := p.Client().Get("/v1/policy", nil)
	if err != nil {
		return nil, err
	}
	var f api.InForce
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, unknown(err)
	}
	inForce, _, err := config.ParsePolicy("the policy in force", []byte(f.Text), filepath.Dir(p.Settings.PolicyFile), config.Host{Sealed: true}, time.Now())
	return inForce, err
}
