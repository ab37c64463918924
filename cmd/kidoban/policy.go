package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"kidoban/config"
	"kidoban/gateway/admin"
	"kidoban/gateway/api"
	"kidoban/gateway/firewall"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// loadPolicy reads a policy file as the gateway on this machine would.
func (p *program) loadPolicy(path string) (*policy.Policy, []view.Message, error) {
	var own *policy.Key
	if private, err := config.LoadPrivateKey(p.settings.PrivateKeyFile, false); err == nil {
		key := config.PublicKey(private)
		own = &key
	}
	return readPolicy(path, own, p.settings.Interface)
}

// readPolicy reads a policy file for this machine.
func readPolicy(path string, gatewayKey *policy.Key, tunnel string) (*policy.Policy, []view.Message, error) {
	addresses, err := firewall.HostAddresses(tunnel)
	if err != nil {
		return nil, nil, err
	}
	return config.LoadPolicy(path, config.Host{Key: gatewayKey, Addresses: addresses})
}

type checkCommand struct {
	jsonFlag
	File given `arg:"" optional:"" help:"The policy file; KIDOBAN_POLICY_FILE if none is given."`
}

// checkWarning is a warning as `check --json` prints it.
type checkWarning struct {
	Line   any    `json:"line"`
	Column any    `json:"column"`
	Where  any    `json:"where"`
	What   string `json:"what"`
}

type checkAnswer struct {
	OK       bool            `json:"ok"`
	File     string          `json:"file"`
	Digest   string          `json:"digest,omitempty"`
	Errors   []*config.Error `json:"errors"`
	Warnings []checkWarning  `json:"warnings"`
	Openings []api.Opening   `json:"openings"`
}

func (c checkCommand) Run(p *program) error {
	path := string(c.File)
	if path == "" {
		path = p.settings.PolicyFile
	}
	answer := checkAnswer{File: path, Errors: []*config.Error{}, Warnings: []checkWarning{}, Openings: []api.Opening{}}
	loaded, warnings, err := p.loadPolicy(path)
	for _, w := range warnings {
		at := w.Args
		what := strings.TrimPrefix(w.String(), fmt.Sprintf("%v:%v:%v: %v: ", at["file"], at["line"], at["column"], at["where"]))
		answer.Warnings = append(answer.Warnings, checkWarning{at["line"], at["column"], at["where"], what})
	}
	var mistakes config.Errors
	if err != nil && !errors.As(err, &mistakes) {
		return err
	}
	answer.Errors = append(answer.Errors, mistakes...)
	if err == nil {
		answer.OK, answer.Digest = true, loaded.Digest
		if answer.Openings, err = api.Calendar(loaded, "", "", time.Now()); err != nil {
			return err
		}
	}
	if c.JSON {
		if err := printJSON(p.out, answer); err != nil || answer.OK {
			return err
		}
		return &exitError{exitFailed}
	}
	for _, w := range warnings {
		fmt.Fprintf(p.err, "%s (warning)\n", w)
	}
	if len(mistakes) > 0 {
		fmt.Fprintln(p.err, mistakes)
		fmt.Fprintf(p.err, "%s: %s, %s: a gateway would not take it\n", path, counted(len(mistakes), "error"), counted(len(warnings), "warning"))
		return &exitError{exitFailed}
	}
	engineers := 0
	for _, v := range loaded.Vendors {
		engineers += len(v.Engineers)
	}
	fmt.Fprintf(p.out, "%s: %s, %s, %s, no errors, %s\ndigest %s\n\n", path, loaded.Site, counted(len(loaded.Vendors), "vendor"), counted(engineers, "engineer"), counted(len(warnings), "warning"), loaded.Digest)
	if len(answer.Openings) == 0 {
		fmt.Fprintln(p.out, "Nothing opens in the next 30 days.")
		return nil
	}
	fmt.Fprintln(p.out, "Opens in the next 30 days:")
	return printCalendar(p, answer.Openings)
}

// exitError ends with a status where everything has been said already.
type exitError struct{ status int }

func (e *exitError) Error() string { return fmt.Sprint("exit status ", e.status) }

type explainCommand struct {
	jsonFlag
	Engineer string `arg:"" help:"vendor/engineer"`
	From     given  `help:"The address to come from; the last attempt's if none is given." placeholder:"ADDR"`
	To       given  `help:"The destination, as 10.1.0.5:tcp/22 or 10.1.0.5:icmp." placeholder:"ADDR:SERVICE"`
	At       given  `help:"The time; now if none is given. Without an offset it is in the site's zone." placeholder:"TIME"`
}

func (c explainCommand) Run(p *program) error {
	var x api.Explanation
	query := url.Values{"engineer": {c.Engineer}, "from": {string(c.From)}, "to": {string(c.To)}, "at": {string(c.At)}}
	show, err := c.ask(p, "/v1/explain", query, &x)
	if errors.Is(err, admin.ErrNoGateway) {
		x, err = c.offline(p)
		show = err == nil && !c.JSON
		if err == nil && c.JSON {
			err = printJSON(p.out, x)
		}
	}
	// 3 is an answer, whose JSON can be read. This is a question about nobody.
	var missing *policy.NoMatchError
	var problem *api.Problem
	if errors.As(err, &missing) || errors.As(err, &problem) && problem.Status == 404 {
		return &api.InputError{Text: err.Error()}
	}
	if err != nil {
		return err
	}
	if show {
		if err := c.show(p, x); err != nil {
			return err
		}
	}
	if x.Decision != "admit" {
		return &exitError{exitNo}
	}
	return nil
}

func (c explainCommand) offline(p *program) (api.Explanation, error) {
	loaded, _, err := p.loadPolicy(p.settings.PolicyFile)
	if err != nil {
		return api.Explanation{}, err
	}
	now := time.Now()
	s, err := view.Offline(loaded, now)
	if err != nil {
		return api.Explanation{}, err
	}
	fmt.Fprintln(p.err, "kidoban: no gateway runs here; this is what the policy file says, whatever may be shut")
	return api.Explain(s, api.Question{Engineer: c.Engineer, From: string(c.From), To: string(c.To), At: string(c.At)}, now)
}

func (c explainCommand) show(p *program, x api.Explanation) error {
	verdict := view.SayRefuse
	if x.Decision == "admit" {
		verdict = view.SayAdmit
	}
	var reason policy.Reason
	_ = reason.UnmarshalText([]byte(x.Reason))
	fmt.Fprintf(p.out, "%s  %s: %s\n", p.say(verdict, nil), x.Reason, view.Meaning(reason).In(p.lang))
	for _, d := range x.Details {
		for line := range strings.Lines(d.In(p.lang)) {
			fmt.Fprintf(p.out, "  %s\n", oneLine(strings.TrimSuffix(line, "\n")))
		}
	}
	source, to := cmp.Or(x.Source, p.say(view.SayAnySource, nil)), cmp.Or(string(c.To), p.say(view.SayTunnel, nil))
	rows := [][]string{{p.label(view.LabelOf), named(x.Engineer, x.Names.String())}, {p.label(view.LabelFrom), source}, {p.label(view.LabelToward), to}, {p.label(view.LabelAt), local(p.in(x.At))}}
	if x.Until != nil {
		rows = append(rows, []string{p.label(view.LabelGrant), x.Grant}, []string{p.label(view.LabelEnd), local(p.in(*x.Until))})
	}
	switch {
	case x.NextOpening != nil:
		rows = append(rows, []string{p.label(view.LabelNextOpening), local(p.in(*x.NextOpening))})
	case reason == policy.OutsideWindow:
		rows = append(rows, []string{p.label(view.LabelNextOpening), p.say(view.SayNoOpening, nil)})
	}
	return table(p.out, rows)
}

type calendarCommand struct {
	jsonFlag
	From  given `help:"The beginning; now if none is given." placeholder:"T"`
	Until given `help:"The end; 30 days after the beginning if none is given." placeholder:"T"`
}

func (c calendarCommand) Run(p *program) error {
	var openings []api.Opening
	show, err := c.ask(p, "/v1/calendar", url.Values{"from": {string(c.From)}, "until": {string(c.Until)}}, &openings)
	if errors.Is(err, admin.ErrNoGateway) {
		var loaded *policy.Policy
		if loaded, _, err = p.loadPolicy(p.settings.PolicyFile); err != nil {
			return err
		}
		fmt.Fprintln(p.err, "kidoban: no gateway runs here; this is what the policy file says")
		if openings, err = api.Calendar(loaded, string(c.From), string(c.Until), time.Now()); err == nil {
			if show = !c.JSON; c.JSON {
				err = printJSON(p.out, openings)
			}
		}
	}
	if err != nil || !show {
		return err
	}
	if len(openings) == 0 {
		fmt.Fprintln(p.out, "Nothing opens.")
		return nil
	}
	return printCalendar(p, openings)
}

// calendarLines bounds what a person is shown.
const calendarLines = 200

func printCalendar(p *program, openings []api.Opening) error {
	shown := slices.Clone(openings[:min(len(openings), calendarLines)])
	for i := range shown {
		shown[i].From, shown[i].Until = p.in(shown[i].From), p.in(shown[i].Until)
	}
	zone := inZone("", times(shown)...)
	minute, day := "15:04", "Mon 2006-01-02 "
	if strings.Contains(zone, ",") { // over a change of the clock each time has its own
		minute += " MST"
	}
	rows := [][]string{{"FROM" + zone, "UNTIL", "WINDOW", "ENGINEERS", "TARGETS", "APPROVED BY"}}
	for _, o := range shown {
		clock := func(t time.Time) string {
			if t.Second() != 0 {
				return t.Format(strings.Replace(minute, "15:04", time.TimeOnly, 1))
			}
			return t.Format(minute)
		}
		until := clock(o.Until)
		if o.Until.Format(time.DateOnly) != o.From.Format(time.DateOnly) {
			until = o.Until.Format(day) + until
		}
		engineers := slices.Clone(o.Engineers)
		for i, name := range o.Names {
			engineers[i] = named(engineers[i], name)
		}
		rows = append(rows, []string{o.From.Format(day) + clock(o.From), until, named(o.Vendor+"/"+o.Window, o.VendorName),
			p.some(engineers), p.some(o.Targets), strings.TrimSpace(oneLine(o.ApprovedBy) + " " + oneLine(o.Ticket))})
	}
	if err := table(p.out, rows); err != nil {
		return err
	}
	if more := len(openings) - calendarLines; more > 0 {
		fmt.Fprintf(p.out, "and %d more (--json shows all)\n", more)
	}
	return nil
}

func times(openings []api.Opening) []time.Time {
	var all []time.Time
	for _, o := range openings {
		all = append(all, o.From, o.Until)
	}
	return all
}

type clientConfigCommand struct {
	jsonFlag
	Engineer string `arg:"" help:"vendor/engineer"`
	MTU      given  `name:"mtu" help:"The engineer's MTU, 1280 to 1420; 1340 if none is given. 1280 where the path is narrow." placeholder:"N"`
}

func (c clientConfigCommand) Run(p *program) error {
	var answer struct {
		Config string `json:"config"`
	}
	show, err := c.ask(p, "/v1/client-config", url.Values{"engineer": {c.Engineer}, "mtu": {string(c.MTU)}}, &answer)
	if errors.Is(err, admin.ErrNoGateway) {
		private, keyErr := config.LoadPrivateKey(p.settings.PrivateKeyFile, false)
		if keyErr != nil {
			return fmt.Errorf("no gateway runs, and its key cannot be read: %w", keyErr)
		}
		loaded, _, loadErr := p.loadPolicy(p.settings.PolicyFile)
		if loadErr != nil {
			return loadErr
		}
		if answer.Config, err = api.ClientConfig(loaded, c.Engineer, config.PublicKey(private), string(c.MTU)); err == nil {
			if show = !c.JSON; c.JSON {
				err = printJSON(p.out, answer)
			}
		}
	}
	if err != nil || !show {
		return err
	}
	_, err = fmt.Fprint(p.out, answer.Config)
	return err
}
