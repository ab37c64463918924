package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

type statusCommand struct{ terminal.JSONFlag }

func (c statusCommand) Run(p *terminal.Program) error {
	var s view.Status
	show, err := c.Ask(p, "/v1/status", nil, &s)
	if err != nil {
		return err
	}
	if show {
		printStatus(p, s)
	}
	return terminal.Unless(s.Ready, terminal.No)
}

func printStatus(p *terminal.Program, s view.Status) {
	head := p.Say("ready", nil)
	switch {
	case !s.Ready:
		head = p.Say("not_ready", nil)
	case s.Shut.All && slices.ContainsFunc(s.Shut.Records, func(r policy.ShutRecord) bool { return r.Actor == policy.SwitchActor }):
		head = p.Say("shut_file", nil)
	case s.Shut.All:
		head = p.Say("shut", nil)
	}
	fmt.Fprintln(p.Out, strings.TrimSpace(head+"  "+terminal.OneLine(s.Site)))
	told := false // the errors of the policy file
	for _, d := range s.Doubts {
		told = told || d.Message.Code == view.NoPolicy && d.Message.Args["cause"] == s.Policy.Error
		p.Indent(d.Message)
	}
	rows := terminal.List{Program: p}
	rows.Instant("label_now", &s.Now)
	rows.Instant("label_next_change", s.NextChange)
	if s.Policy.LoadedAt != nil {
		file := view.Say("file_good", nil)
		if !s.Policy.FileOK {
			file = view.Say("file_bad", nil)
		}
		rows.Row("label_policy", p.Say("policy", view.Args{
			"digest": fmt.Sprintf("%.12s", s.Policy.Digest), "at": p.Local(*s.Policy.LoadedAt), "file": file}))
	}
	if s.Policy.Error != "" && !told {
		for _, line := range strings.Split(s.Policy.Error, "\n") {
			rows.Rows = append(rows.Rows, []string{"", terminal.OneLine(line)})
		}
	}
	for _, r := range s.Shut.Records {
		for _, line := range closes(p, r) {
			rows.Row("label_shut", line)
		}
	}
	for _, h := range s.Shut.ByKey {
		rows.Row("label_shut", p.Say("shut_by_key", view.Args{"engineer": h.Engineer, "scope": string(h.Scope)}))
	}
	if r := s.Requests; r != (view.RequestCounts{}) {
		rows.Row("label_requests", p.Say("requests_stand", view.Args{"undecided": r.Undecided, "scheduled": r.Scheduled, "open": r.Open, "frozen": r.Frozen, "unsigned": r.Unratified + r.SelfApproved}))
	}
	p.Columns(rows.Rows)
	for _, h := range s.HintMessages {
		p.Indent(view.Say("hint", view.Args{"text": h}))
	}
	// At night people look for other things than the policy's warnings.
	const warnings = 5
	summed := view.Summed(s.Warnings)
	for _, w := range summed[:min(len(summed), warnings)] {
		p.Indent(view.Say("warning", view.Args{"text": w}))
	}
	if more := len(summed) - warnings; more > 0 {
		p.Indent(view.Say("more_warnings", view.Args{"count": more}))
	}
	fmt.Fprintln(p.Out)
	p.Tell("grants", view.Args{"count": len(s.Grants)})
	printGrants(p, s.Grants, s.Now)
	fmt.Fprintln(p.Out)
	p.Tell("sessions", view.Args{"count": len(s.Sessions)})
	printSessions(p, s.Sessions, s.Now)
}

// closes has a line for each close of a scope.
func closes(p *terminal.Program, r policy.ShutRecord) (lines []string) {
	for _, c := range r.Closes() {
		lines = append(lines, terminal.OneLine(p.Say("shut_line", view.Args{"scope": string(r.Scope), "actor": c.Actor, "at": p.Local(c.At), "reason": c.Reason})))
	}
	return lines
}

// table prints the answer of the gateway, or a text if that is empty.
func table[T any](p *terminal.Program, j terminal.JSONFlag, path string, none view.Code, print func(*terminal.Program, []T, time.Time)) error {
	var all []T
	show, err := j.Ask(p, path, nil, &all)
	if show {
		p.TellIf(len(all) == 0, none, nil)
		print(p, all, time.Now())
	}
	return err
}

type sessionsCommand struct{ terminal.JSONFlag }

func (c sessionsCommand) Run(p *terminal.Program) error {
	return table(p, c.JSONFlag, "/v1/sessions", "nobody_inside", printSessions)
}

func printSessions(p *terminal.Program, all []view.SessionStatus, now time.Time) {
	rows := [][]string{p.Heading("label_engineer", "label_source", "label_since", "label_until", "label_received", "label_sent", "label_handshake", "label_session")}
	var times []time.Time
	for _, s := range all {
		times = append(times, s.OpenedAt, s.Until)
		handshake := "-"
		if s.LastHandshake != nil {
			handshake = p.Say("ago", view.Args{"age": now.Sub(*s.LastHandshake).Round(time.Second)})
		}
		rows = append(rows, []string{terminal.Named(s.Vendor+"/"+s.Engineer, s.Names.String()), s.Source.String(), p.Short(s.OpenedAt, now), p.Short(s.Until, now),
			view.Bytes(s.Received), view.Bytes(s.Transmitted), handshake, s.ID})
	}
	p.Table(rows, 2, times)
}

type grantsCommand struct{ terminal.JSONFlag }

func (c grantsCommand) Run(p *terminal.Program) error {
	return table(p, c.JSONFlag, "/v1/grants", "nothing_open", printGrants)
}

func printGrants(p *terminal.Program, all []view.GrantStatus, now time.Time) {
	rows := [][]string{p.Heading("label_engineer", "label_window", "label_begin", "label_until", "label_targets", "label_sources")}
	var times []time.Time
	for len(all) > 0 {
		g, n := all[0], alike(all)
		who := g.Vendor + "/" + g.Engineer
		if n > 1 {
			who = p.Say("hosts_of", view.Args{"vendor": g.Vendor, "count": n})
		}
		times = append(times, g.From, g.Until)
		var sources []string
		for _, host := range all[:n] {
			for _, s := range host.Sources {
				sources = append(sources, policy.Short(s))
			}
		}
		all = all[n:]
		rows = append(rows, []string{terminal.Named(who, g.Names.String()), g.Window, p.Short(g.From, now), p.Short(g.Until, now),
			p.Some(g.Targets), p.Some(sources)})
	}
	p.Table(rows, 2, times)
}

// alike counts the grants at the beginning that differ in nothing but the host behind a plain line.
func alike(all []view.GrantStatus) int {
	first := all[0]
	n := 1
	for first.Plain && n < len(all) && all[n].Vendor == first.Vendor && all[n].Window == first.Window && all[n].From.Equal(first.From) && all[n].Until.Equal(first.Until) {
		n++
	}
	return n
}

type refusalsCommand struct{ terminal.JSONFlag }

func (c refusalsCommand) Run(p *terminal.Program) error {
	return table(p, c.JSONFlag, "/v1/refusals", "no_refusals", printRefusals)
}

func printRefusals(p *terminal.Program, all []view.Refusal, now time.Time) {
	if len(all) == 0 {
		return
	}
	rows := [][]string{p.Heading("label_last", "label_first", "label_count", "label_reason", "label_who", "label_source", "label_to")}
	var times []time.Time
	met := map[string]bool{}
	for _, r := range all {
		times = append(times, r.First, r.Last)
		met[r.Reason] = true
		engineer, source := "-", "-"
		if r.Vendor != "" {
			engineer = terminal.Named(r.Vendor+"/"+r.Engineer, r.Names.String())
		}
		if r.Source.IsValid() {
			source = r.Source.String()
		}
		rows = append(rows, []string{p.Short(r.Last, now), p.Short(r.First, now), strconv.Itoa(r.Count), r.Reason, engineer, source, cmp.Or(r.Target, "-")})
	}
	p.Table(rows, 0, times)
	fmt.Fprintln(p.Out)
	var meanings [][]string
	for _, reason := range policy.Reasons() {
		if met[reason.String()] {
			meanings = append(meanings, []string{reason.String(), view.Meaning(reason).In(p.Lang)})
		}
	}
	if met["summed"] {
		meanings = append(meanings, []string{"summed", p.Say("summed", nil)})
	}
	p.Columns(meanings)
}

// healthCommand asks /livez, for container engines, which have no watchdog. It
// succeeds while the loop turns, also in doubt: a restart would not end a doubt.
type healthCommand struct{}

func (healthCommand) Run(p *terminal.Program) error {
	client := http.Client{Timeout: 4 * time.Second, Transport: &http.Transport{}} // no proxy
	answer, err := client.Get("http://" + p.Settings.MetricsAddress + "/livez")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	if err != nil {
		return err
	}
	said := strings.TrimSpace(string(text))
	if answer.StatusCode != http.StatusOK {
		return &view.Error{Message: view.Say("not_live", view.Args{"cause": said})}
	}
	fmt.Fprintln(p.Out, said)
	return nil
}
