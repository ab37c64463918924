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

	"kidoban/cmd/kidoban/terminal"
	"kidoban/config"
	"kidoban/gateway/admin"
	"kidoban/gateway/api"
	"kidoban/gateway/durable"
	"kidoban/gateway/firewall"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
	"kidoban/gateway/view"
)

// guard trusts the service's user, who owns the state folder.
func guard(p *terminal.Program) durable.Guard { return durable.GuardFor(p.Settings.StateDir) }

// keyFile is the file of the gateway's private key.
func keyFile(p *terminal.Program) config.KeyFile {
	return config.KeyFile{Path: p.Settings.PrivateKeyFile, Guard: guard(p)}
}

// loadPolicy reads a policy file as the gateway on this machine would. A file in
// another place than the gateway's is a draft.
func loadPolicy(p *terminal.Program, path string, opens func(string)) (*policy.Policy, []view.Message, error) {
	var err error
	host := config.Host{Guard: guard(p), Interface: p.Settings.Interface, Inside: p.Settings.InsideInterfaces, ForwardOthers: p.Settings.ForwardOthers, Opens: opens}
	host.Guard.Within = p.Settings.Readable()
	if host.Guard.Draft = path != p.Settings.PolicyFile; host.Guard.Draft {
		host.Guard.Within = nil
	}
	if _, key, err := keyFile(p).Load(); err == nil {
		host.Key = &key
	}
	if host.Addresses, err = firewall.HostAddresses(p.Settings.Interface); err != nil {
		return nil, nil, err
	}
	return config.LoadPolicy(path, host)
}

// ask gets an answer of the gateway, or of the policy file if no gateway runs: then a
// note says so. It does as terminal.JSONFlag.Ask does.
func ask(p *terminal.Program, j terminal.JSONFlag, path string, query url.Values, note view.Code, answer any) (show bool, err error) {
	show, err = j.Ask(p, path, query, answer)
	if !errors.Is(err, admin.ErrNoGateway) {
		return show, err
	}
	text, zone, err := offline(p, path, query, note)
	if err != nil {
		return false, err
	}
	return j.Answer(p, text, zone, answer)
}

// offline answers a question from the policy file. An empty note is not printed.
func offline(p *terminal.Program, path string, query url.Values, note view.Code) ([]byte, *time.Location, error) {
	_, key, err := keyFile(p).Load()
	if err != nil && path == "/v1/client-config" {
		return nil, nil, &view.Error{Message: view.Say("no_gateway_key", view.Args{"cause": err})}
	}
	loaded, _, err := loadPolicy(p, p.Settings.PolicyFile, nil)
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
		p.Note(note, nil)
	}
	text, err := api.Offline(s, path, query, now)
	return text, loaded.Zone, err
}

type checkCommand struct {
	terminal.JSONFlag
	File terminal.Given `arg:"" optional:"" help:"The policy file; KIDOBAN_POLICY_FILE if none is given."`
}

// checkWarning is a warning as `check --json` prints it.
type checkWarning struct {
	Line   any    `json:"line"`
	Column any    `json:"column"`
	Where  any    `json:"where"`
	What   string `json:"what"`
}

// checkCertificate is a certificate as `check --json` prints it.
type checkCertificate struct {
	Vendor string `json:"vendor"`
	Kind   string `json:"kind"`
	Number string `json:"number"`
	Until  string `json:"until"`
}

type checkAnswer struct {
	OK       bool            `json:"ok"`
	File     string          `json:"file"`
	Digest   string          `json:"digest,omitempty"`
	Errors   []*config.Error `json:"errors"`
	Warnings []checkWarning  `json:"warnings"`
	Openings []api.Opening   `json:"openings"`

	Certificates []checkCertificate `json:"certificates,omitempty"`

	Compared    *api.Comparison `json:"compared,omitempty"`
	NotCompared string          `json:"not_compared,omitempty"`
}

// compare asks the gateway for the policy in force, and compares another with it.
func compare(p *terminal.Program, loaded *policy.Policy) (*api.Comparison, error) {
	text, _, err := p.Client().Get("/v1/policy", nil)
	if err != nil {
		return nil, err
	}
	return api.Compare(text, time.Now(), func(text, digest string) (*policy.Policy, *policy.Policy, bool, error) {
		return config.Comparable(text, digest, filepath.Dir(p.Settings.PolicyFile), guard(p), loaded)
	})
}

func (c checkCommand) Run(p *terminal.Program) error {
	path := cmp.Or(string(c.File), p.Settings.PolicyFile)
	answer := checkAnswer{File: path, Errors: []*config.Error{}, Warnings: []checkWarning{}, Openings: []api.Opening{}}
	var files []string // that the service reads
	var opens func(string)
	if path == p.Settings.PolicyFile {
		files = []string{path}
		opens = func(file string) { files = append(files, file) }
	}
	loaded, warnings, err := loadPolicy(p, path, opens)
	warnings = slices.Concat(warnings, p.Settings.Warnings(), p.Settings.Doubtful(files), store.NewSwitch(p.Settings.ShutFile, store.LookAt).Warnings())
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
		return terminal.Denied(mistakes[0], filepath.Dir(path))
	}
	answer.Errors = append(answer.Errors, mistakes...)
	var uncompared error
	if err == nil {
		if answer.Compared, uncompared = compare(p, loaded); uncompared != nil {
			answer.NotCompared = uncompared.Error()
		}
		answer.OK, answer.Digest = true, loaded.Digest
		for _, v := range loaded.Vendors {
			for _, c := range v.Certificates {
				answer.Certificates = append(answer.Certificates, checkCertificate{v.Name, c.Kind, c.Number, c.Until.String()})
			}
		}
		if answer.Openings, err = api.Calendar(loaded, nil, time.Now()); err != nil {
			return err
		}
	}
	if c.JSON {
		p.PrintJSON(answer)
		return terminal.Unless(answer.OK, terminal.Failed)
	}
	for _, w := range view.Summed(warnings) {
		fmt.Fprintln(p.Err, p.Say("check_warning", view.Args{"text": w}))
	}
	if len(mistakes) > 0 {
		fmt.Fprintln(p.Err, mistakes)
		fmt.Fprintln(p.Err, p.Say("check_refused", view.Args{"file": path, "errors": len(mistakes), "warnings": len(warnings)}))
		return &terminal.Exit{Status: terminal.Failed}
	}
	c.show(p, answer, loaded, uncompared)
	return nil
}

// show prints an answer without mistakes. uncompared says why there is no comparison.
func (c checkCommand) show(p *terminal.Program, answer checkAnswer, loaded *policy.Policy, uncompared error) {
	engineers, hosts := 0, 0
	var asked []string // the vendors that can be opened on request
	for _, v := range loaded.Vendors {
		if v.Plain() {
			hosts += len(v.Engineers)
		} else {
			engineers += len(v.Engineers)
		}
		if v.OnRequest != nil {
			asked = append(asked, v.Name)
		}
	}
	p.Tell("check_taken", view.Args{"file": answer.File, "site": loaded.Site, "vendors": len(loaded.Vendors), "engineers": engineers, "warnings": len(answer.Warnings)})
	p.Tell("digest", view.Args{"digest": loaded.Digest})
	p.TellIf(hosts > 0, "check_hosts", view.Args{"count": hosts})
	p.TellIf(len(asked) > 0, "check_on_request", view.Args{"vendors": p.Some(asked)})
	for _, v := range loaded.Vendors {
		for _, c := range v.Certificates {
			p.Tell("check_certificate", view.Args{"vendor": v.Name, "certificate": c.String()})
		}
	}
	fmt.Fprintln(p.Out)
	p.TellIf(uncompared != nil, "compared_not", view.Args{"cause": uncompared})
	for i, m := range answer.Compared.Messages(loaded.Zone) {
		fmt.Fprintln(p.Out, strings.Repeat("  ", min(i, 1))+terminal.OneLine(m.In(p.Lang)))
	}
	fmt.Fprintln(p.Out)
	p.TellIf(len(answer.Openings) == 0, "opens_not", nil)
	p.TellIf(len(answer.Openings) > 0, "opens", nil)
	printCalendar(p, answer.Openings, calendarLines)
}

type explainCommand struct {
	terminal.JSONFlag
	Engineer string         `arg:"" help:"vendor/engineer"`
	From     terminal.Given `help:"The address to come from; the last attempt's if none is given." placeholder:"ADDR"`
	Line     terminal.Given `help:"The line to come by, or an interface of the gateway; the right one if none is given." placeholder:"NAME"`
	To       terminal.Given `help:"The destination, as 10.1.0.5:tcp/22 or 10.1.0.5:icmp." placeholder:"ADDR:SERVICE"`
	At       terminal.Given `help:"The time; now if none is given. Without an offset it is in the site's zone." placeholder:"TIME"`
}

func (c explainCommand) Run(p *terminal.Program) error {
	var x api.Explanation
	query := url.Values{"engineer": {c.Engineer}, "from": {string(c.From)}, "line": {string(c.Line)}, "to": {string(c.To)}, "at": {string(c.At)}}
	show, err := ask(p, c.JSONFlag, "/v1/explain", query, "from_file_shut", &x)
	if err != nil {
		return nobody(err)
	}
	if show {
		c.show(p, x)
	}
	return terminal.Unless(x.Decision == "admit", terminal.No)
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

func (c explainCommand) show(p *terminal.Program, x api.Explanation) {
	verdict := p.Say("refuse", nil)
	if x.Decision == "admit" {
		verdict = p.Say("admit", nil)
	}
	fmt.Fprintf(p.Out, "%s  %s: %s\n", verdict, x.Reason, p.Say(view.ReasonCode(x.Reason, x.Plain), nil))
	for _, d := range x.Details {
		p.Indent(d)
	}
	of, inside := view.Code("label_of"), view.Code("tunnel")
	if x.Plain {
		of, inside = "label_host", "any_target"
	}
	source, to := cmp.Or(x.Source, p.Say("any_source", nil)), cmp.Or(string(c.To), p.Say(inside, nil))
	rows := terminal.List{Program: p}
	rows.Row(of, terminal.Named(x.Engineer, x.Names.String()))
	rows.Row("label_from", source)
	rows.Row("label_line", x.Line)
	rows.Row("label_toward", to)
	rows.Instant("label_at", &x.At)
	rows.Row("label_grant", x.Grant)
	rows.Instant("label_end", x.Until)
	rows.Instant("label_next_opening", x.NextOpening)
	if x.NextOpening == nil && x.Reason == policy.OutsideWindow.String() {
		rows.Row("label_next_opening", p.Say("no_opening", nil))
	}
	p.Columns(rows.Rows)
}

type calendarCommand struct {
	terminal.JSONFlag
	From     terminal.Given `help:"The beginning; now if none is given." placeholder:"T"`
	Until    terminal.Given `help:"The end; 30 days after the beginning if none is given." placeholder:"T"`
	Vendor   terminal.Given `help:"Only windows of this vendor." placeholder:"V"`
	Engineer terminal.Given `help:"Only windows of this engineer." placeholder:"V/E"`
}

func (c calendarCommand) Run(p *terminal.Program) error {
	var openings []api.Opening
	query := url.Values{"from": {string(c.From)}, "until": {string(c.Until)}}
	most := calendarLines
	for name, value := range map[string]terminal.Given{"vendor": c.Vendor, "engineer": c.Engineer} {
		if value != "" { // an older gateway does not know the parameter
			query.Set(name, string(value))
			most = calendarLinesOfOne
		}
	}
	show, err := ask(p, c.JSONFlag, "/v1/calendar", query, "from_file", &openings)
	if show {
		p.TellIf(len(openings) == 0, "calendar_empty", nil)
		printCalendar(p, openings, most)
	}
	return nobody(err)
}

// The lines of a calendar for people are bounded: of all vendors, and of one.
const calendarLines, calendarLinesOfOne = 50, 400

func printCalendar(p *terminal.Program, openings []api.Opening, most int) {
	shown := openings[:min(len(openings), most)]
	var times []time.Time
	for _, o := range shown {
		times = append(times, o.From, o.Until)
	}
	zone := ""
	if len(p.Zones(times)) > 1 { // over a change of daylight saving each time has its own
		zone = " MST"
	}
	weekdays := strings.Fields(p.Say("weekdays", nil))
	day := func(t time.Time) string { return weekdays[t.Weekday()] + t.Format(" 2006-01-02 ") }
	clock := func(t time.Time) string {
		if t.Second() != 0 {
			return t.Format(time.TimeOnly + zone)
		}
		return t.Format("15:04" + zone)
	}
	rows := [][]string{p.Heading("label_begin", "label_until", "label_window", "label_engineers", "label_targets", "label_approved")}
	for _, o := range shown {
		from, until := p.In(o.From), p.In(o.Until)
		end := clock(until)
		if until.Format(time.DateOnly) != from.Format(time.DateOnly) {
			end = day(until) + end
		}
		engineers := slices.Clone(o.Engineers)
		for i, name := range o.Names {
			if o.Plain {
				engineers[i] = name // the address of a host
				continue
			}
			engineers[i] = terminal.Named(engineers[i], name)
		}
		rows = append(rows, []string{day(from) + clock(from), end, terminal.Named(o.Vendor+"/"+o.Window, o.VendorName),
			p.Some(engineers), p.Some(o.Targets), strings.TrimSpace(terminal.OneLine(o.ApprovedBy) + " " + terminal.OneLine(o.Ticket))})
	}
	p.Table(rows, 0, times)
	more := len(openings) - most
	p.TellIf(more > 0, "calendar_more", view.Args{"count": more})
}

type clientConfigCommand struct {
	terminal.JSONFlag
	Engineer string         `arg:"" help:"vendor/engineer"`
	MTU      terminal.Given `name:"mtu" help:"The engineer's MTU, 1280 to 1420; 1340 if none is given. 1280 where the path is narrow." placeholder:"N"`
}

func (c clientConfigCommand) Run(p *terminal.Program) error {
	var answer struct {
		Config string `json:"config"`
	}
	query := url.Values{"engineer": {c.Engineer}, "mtu": {string(c.MTU)}}
	show, err := ask(p, c.JSONFlag, "/v1/client-config", query, "", &answer)
	if show {
		fmt.Fprint(p.Out, answer.Config)
	}
	return nobody(err)
}
