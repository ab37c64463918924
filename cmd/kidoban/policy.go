package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"kidoban/config"
	"kidoban/gateway/api"
	"kidoban/gateway/durable"
	"kidoban/gateway/firewall"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// guard trusts the service's user, who owns the state folder.
func (p *program) guard() durable.Guard { return durable.GuardFor(p.settings.StateDir) }

// keyFile is the file of the gateway's private key.
func (p *program) keyFile() config.KeyFile {
	return config.KeyFile{Path: p.settings.PrivateKeyFile, Guard: p.guard()}
}

// loadPolicy reads a policy file as the gateway on this machine would. A file in
// another place than the gateway's is a draft.
func (p *program) loadPolicy(path string, opens func(string)) (*policy.Policy, []view.Message, error) {
	var err error
	host := config.Host{Guard: p.guard(), Opens: opens}
	host.Guard.Draft = path != p.settings.PolicyFile
	if _, key, err := p.keyFile().Load(); err == nil {
		host.Key = &key
	}
	if host.Addresses, err = firewall.HostAddresses(p.settings.Interface); err != nil {
		return nil, nil, err
	}
	return config.LoadPolicy(path, host)
}

// offlineNotes has the questions that the policy file answers where no gateway runs,
// with the note that says so.
var offlineNotes = map[string]view.Code{"/v1/explain": "from_file_shut", "/v1/calendar": "from_file", "/v1/client-config": ""}

// offline answers a question from the policy file.
func (p *program) offline(path string, query url.Values, note view.Code) ([]byte, *time.Location, error) {
	_, key, err := p.keyFile().Load()
	if err != nil && path == "/v1/client-config" {
		return nil, nil, &view.Error{Message: view.Say("no_gateway_key", view.Args{"cause": err})}
	}
	loaded, _, err := p.loadPolicy(p.settings.PolicyFile, nil)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	s, err := view.Offline(loaded, now)
	if err != nil {
		return nil, nil, err
	}
	s.Key = key
	if note != "" {
		p.note(note, nil)
	}
	text, err := api.Offline(s, path, query, now)
	return text, loaded.Zone, err
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

	Compared    *api.Comparison `json:"compared,omitempty"`
	NotCompared string          `json:"not_compared,omitempty"`
}

// compare asks the gateway for the policy in force, and compares another with it.
func (p *program) compare(loaded *policy.Policy) (*api.Comparison, error) {
	text, _, err := p.client().Get("/v1/policy", nil)
	if err != nil {
		return nil, err
	}
	return api.Compare(text, time.Now(), func(text, digest string) (*policy.Policy, *policy.Policy, bool, error) {
		return config.Comparable(text, digest, filepath.Dir(p.settings.PolicyFile), p.guard(), loaded)
	})
}

func (c checkCommand) Run(p *program) error {
	path := cmp.Or(string(c.File), p.settings.PolicyFile)
	answer := checkAnswer{File: path, Errors: []*config.Error{}, Warnings: []checkWarning{}, Openings: []api.Opening{}}
	var files []string // that the service reads
	var opens func(string)
	if path == p.settings.PolicyFile {
		files = []string{path}
		opens = func(file string) { files = append(files, file) }
	}
	loaded, warnings, err := p.loadPolicy(path, opens)
	warnings = slices.Concat(warnings, p.settings.Warnings(), p.settings.Doubtful(files))
	for _, w := range warnings {
		what := maps.Clone(w.Args)
		delete(what, "where") // without it the text does not begin with the place
		answer.Warnings = append(answer.Warnings, checkWarning{w.Args["line"], w.Args["column"], w.Args["where"], view.Say(w.Code, what).String()})
	}
	var mistakes config.Errors
	if err != nil && !errors.As(err, &mistakes) {
		return err
	}
	if len(mistakes) == 1 && mistakes[0].Line == 0 && errors.Is(mistakes[0], fs.ErrPermission) { // it tells nothing about the policy
		return denied(mistakes[0], filepath.Dir(path))
	}
	answer.Errors = append(answer.Errors, mistakes...)
	var uncompared error
	if err == nil {
		if answer.Compared, uncompared = p.compare(loaded); uncompared != nil {
			answer.NotCompared = uncompared.Error()
		}
		answer.OK, answer.Digest = true, loaded.Digest
		if answer.Openings, err = api.Calendar(loaded, nil, time.Now()); err != nil {
			return err
		}
	}
	if c.JSON {
		p.json(answer)
		return unless(answer.OK, exitFailed)
	}
	for _, w := range view.Summed(warnings) {
		fmt.Fprintln(p.err, p.say("check_warning", view.Args{"text": w}))
	}
	if len(mistakes) > 0 {
		fmt.Fprintln(p.err, mistakes)
		fmt.Fprintln(p.err, p.say("check_refused", view.Args{"file": path, "errors": len(mistakes), "warnings": len(warnings)}))
		return &exitError{status: exitFailed}
	}
	c.show(p, answer, loaded, uncompared)
	return nil
}

// show prints an answer without mistakes. uncompared says why there is no comparison.
func (c checkCommand) show(p *program, answer checkAnswer, loaded *policy.Policy, uncompared error) {
	engineers := 0
	for _, v := range loaded.Vendors {
		engineers += len(v.Engineers)
	}
	p.tell("check_taken", view.Args{"file": answer.File, "site": loaded.Site, "vendors": len(loaded.Vendors), "engineers": engineers, "warnings": len(answer.Warnings)})
	p.tell("digest", view.Args{"digest": loaded.Digest})
	fmt.Fprintln(p.out)
	p.tellIf(uncompared != nil, "compared_not", view.Args{"cause": uncompared})
	for i, m := range answer.Compared.Messages(loaded.Zone) {
		fmt.Fprintln(p.out, strings.Repeat("  ", min(i, 1))+oneLine(m.In(p.lang)))
	}
	fmt.Fprintln(p.out)
	p.tellIf(len(answer.Openings) == 0, "opens_not", nil)
	p.tellIf(len(answer.Openings) > 0, "opens", nil)
	printCalendar(p, answer.Openings, calendarLines)
}

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
	if err != nil {
		return nobody(err)
	}
	if show {
		c.show(p, x)
	}
	return unless(x.Decision == "admit", exitNo)
}

// nobody turns the error of a name that the policy does not have into wrong usage:
// exit 3 comes with an answer, and here there is none.
func nobody(err error) error {
	var problem *api.Problem
	if errors.As(err, &problem) && problem.Status == http.StatusNotFound && problem.Code != "opens_nothing" {
		problem.Status = http.StatusBadRequest
	}
	return err
}

func (c explainCommand) show(p *program, x api.Explanation) {
	verdict := p.say("refuse", nil)
	if x.Decision == "admit" {
		verdict = p.say("admit", nil)
	}
	var reason policy.Reason
	_ = reason.UnmarshalText([]byte(x.Reason))
	fmt.Fprintf(p.out, "%s  %s: %s\n", verdict, x.Reason, view.Meaning(reason).In(p.lang))
	for _, d := range x.Details {
		p.indent(d)
	}
	source, to := cmp.Or(x.Source, p.say("any_source", nil)), cmp.Or(string(c.To), p.say("tunnel", nil))
	rows := list{program: p}
	rows.row("label_of", named(x.Engineer, x.Names.String()))
	rows.row("label_from", source)
	rows.row("label_toward", to)
	rows.time("label_at", &x.At)
	rows.row("label_grant", x.Grant)
	rows.time("label_end", x.Until)
	rows.time("label_next_opening", x.NextOpening)
	if x.NextOpening == nil && reason == policy.OutsideWindow {
		rows.row("label_next_opening", p.say("no_opening", nil))
	}
	p.columns(rows.rows)
}

type calendarCommand struct {
	jsonFlag
	From     given `help:"The beginning; now if none is given." placeholder:"T"`
	Until    given `help:"The end; 30 days after the beginning if none is given." placeholder:"T"`
	Vendor   given `help:"Only windows of this vendor." placeholder:"V"`
	Engineer given `help:"Only windows of this engineer." placeholder:"V/E"`
}

func (c calendarCommand) Run(p *program) error {
	var openings []api.Opening
	query := url.Values{"from": {string(c.From)}, "until": {string(c.Until)}}
	most := calendarLines
	for name, value := range map[string]given{"vendor": c.Vendor, "engineer": c.Engineer} {
		if value != "" { // an older gateway does not know the parameter
			query.Set(name, string(value))
			most = calendarLinesOfOne
		}
	}
	show, err := c.ask(p, "/v1/calendar", query, &openings)
	if show {
		p.tellIf(len(openings) == 0, "calendar_empty", nil)
		printCalendar(p, openings, most)
	}
	return nobody(err)
}

// The lines of a calendar for people are bounded: of all vendors, and of one.
const calendarLines, calendarLinesOfOne = 50, 400

func printCalendar(p *program, openings []api.Opening, most int) {
	shown := openings[:min(len(openings), most)]
	var times []time.Time
	for _, o := range shown {
		times = append(times, o.From, o.Until)
	}
	zone := ""
	if len(p.zones(times)) > 1 { // over a change of daylight saving each time has its own
		zone = " MST"
	}
	weekdays := strings.Fields(p.say("weekdays", nil))
	day := func(t time.Time) string { return weekdays[t.Weekday()] + t.Format(" 2006-01-02 ") }
	clock := func(t time.Time) string {
		if t.Second() != 0 {
			return t.Format(time.TimeOnly + zone)
		}
		return t.Format("15:04" + zone)
	}
	rows := [][]string{p.heading("label_begin", "label_until", "label_window", "label_engineers", "label_targets", "label_approved")}
	for _, o := range shown {
		from, until := p.in(o.From), p.in(o.Until)
		end := clock(until)
		if until.Format(time.DateOnly) != from.Format(time.DateOnly) {
			end = day(until) + end
		}
		engineers := slices.Clone(o.Engineers)
		for i, name := range o.Names {
			engineers[i] = named(engineers[i], name)
		}
		rows = append(rows, []string{day(from) + clock(from), end, named(o.Vendor+"/"+o.Window, o.VendorName),
			p.some(engineers), p.some(o.Targets), strings.TrimSpace(oneLine(o.ApprovedBy) + " " + oneLine(o.Ticket))})
	}
	p.table(rows, 0, times)
	more := len(openings) - most
	p.tellIf(more > 0, "calendar_more", view.Args{"count": more})
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
	query := url.Values{"engineer": {c.Engineer}, "mtu": {string(c.MTU)}}
	show, err := c.ask(p, "/v1/client-config", query, &answer)
	if show {
		fmt.Fprint(p.out, answer.Config)
	}
	return nobody(err)
}
