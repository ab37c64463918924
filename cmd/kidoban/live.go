package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

type statusCommand struct{ jsonFlag }

func (c statusCommand) Run(p *program) error {
	var s view.Status
	show, err := c.ask(p, "/v1/status", nil, &s)
	if err != nil {
		return err
	}
	if show {
		printStatus(p, s)
	}
	return unless(s.Ready, exitNo)
}

func printStatus(p *program, s view.Status) {
	head := p.say("ready", nil)
	switch {
	case !s.Ready:
		head = p.say("not_ready", nil)
	case s.Shut.All:
		head = p.say("shut", nil)
	}
	fmt.Fprintln(p.out, strings.TrimSpace(head+"  "+oneLine(s.Site)))
	told := false // the errors of the policy file
	for _, d := range s.Doubts {
		told = told || d.Message.Code == view.NoPolicy && d.Message.Args["cause"] == s.Policy.Error
		p.indent(d.Message)
	}
	rows := list{program: p}
	rows.time("label_now", &s.Now)
	rows.time("label_next_change", s.NextChange)
	if s.Policy.LoadedAt != nil {
		file := view.Say("file_good", nil)
		if !s.Policy.FileOK {
			file = view.Say("file_bad", nil)
		}
		rows.row("label_policy", p.say("policy", view.Args{
			"digest": fmt.Sprintf("%.12s", s.Policy.Digest), "at": p.local(*s.Policy.LoadedAt), "file": file}))
	}
	if s.Policy.Error != "" && !told {
		for _, line := range strings.Split(s.Policy.Error, "\n") {
			rows.rows = append(rows.rows, []string{"", oneLine(line)})
		}
	}
	for _, r := range s.Shut.Records {
		for _, line := range p.closes(r) {
			rows.row("label_shut", line)
		}
	}
	for _, h := range s.Shut.ByKey {
		rows.row("label_shut", p.say("shut_by_key", view.Args{"engineer": h.Engineer, "scope": string(h.Scope)}))
	}
	p.columns(rows.rows)
	for _, h := range s.HintMessages {
		p.indent(view.Say("hint", view.Args{"text": h}))
	}
	// At night people look for other things than the policy's warnings.
	const warnings = 5
	summed := view.Summed(s.Warnings)
	for _, w := range summed[:min(len(summed), warnings)] {
		p.indent(view.Say("warning", view.Args{"text": w}))
	}
	if more := len(summed) - warnings; more > 0 {
		p.indent(view.Say("more_warnings", view.Args{"count": more}))
	}
	fmt.Fprintln(p.out)
	p.tell("grants", view.Args{"count": len(s.Grants)})
	printGrants(p, s.Grants, s.Now)
	fmt.Fprintln(p.out)
	p.tell("sessions", view.Args{"count": len(s.Sessions)})
	printSessions(p, s.Sessions, s.Now)
}

// closes has a line for each close of a scope.
func (p *program) closes(r policy.ShutRecord) (lines []string) {
	for _, c := range r.Closes() {
		lines = append(lines, oneLine(p.say("shut_line", view.Args{"scope": string(r.Scope), "actor": c.Actor, "at": p.local(c.At), "reason": c.Reason})))
	}
	return lines
}

// table prints the answer of the gateway, or a text if that is empty.
func table[T any](p *program, j jsonFlag, path string, none view.Code, print func(*program, []T, time.Time)) error {
	var all []T
	show, err := j.ask(p, path, nil, &all)
	if show {
		p.tellIf(len(all) == 0, none, nil)
		print(p, all, time.Now())
	}
	return err
}

type sessionsCommand struct{ jsonFlag }

func (c sessionsCommand) Run(p *program) error {
	return table(p, c.jsonFlag, "/v1/sessions", "nobody_inside", printSessions)
}

func printSessions(p *program, all []view.SessionStatus, now time.Time) {
	rows := [][]string{p.heading("label_engineer", "label_source", "label_since", "label_until", "label_received", "label_sent", "label_handshake", "label_session")}
	var times []time.Time
	for _, s := range all {
		times = append(times, s.OpenedAt, s.Until)
		handshake := "-"
		if s.LastHandshake != nil {
			handshake = p.say("ago", view.Args{"age": now.Sub(*s.LastHandshake).Round(time.Second)})
		}
		rows = append(rows, []string{named(s.Vendor+"/"+s.Engineer, s.Names.String()), s.Source.String(), p.short(s.OpenedAt, now), p.short(s.Until, now),
			view.Bytes(s.Received), view.Bytes(s.Transmitted), handshake, s.ID})
	}
	p.table(rows, 2, times)
}

type grantsCommand struct{ jsonFlag }

func (c grantsCommand) Run(p *program) error {
	return table(p, c.jsonFlag, "/v1/grants", "nothing_open", printGrants)
}

func printGrants(p *program, all []view.GrantStatus, now time.Time) {
	rows := [][]string{p.heading("label_engineer", "label_window", "label_begin", "label_until", "label_targets", "label_sources")}
	var times []time.Time
	for _, g := range all {
		times = append(times, g.From, g.Until)
		var sources []string
		for _, s := range g.Sources {
			sources = append(sources, policy.Short(s))
		}
		rows = append(rows, []string{named(g.Vendor+"/"+g.Engineer, g.Names.String()), g.Window, p.short(g.From, now), p.short(g.Until, now),
			p.some(g.Targets), p.some(sources)})
	}
	p.table(rows, 2, times)
}

type refusalsCommand struct{ jsonFlag }

func (c refusalsCommand) Run(p *program) error {
	return table(p, c.jsonFlag, "/v1/refusals", "no_refusals", printRefusals)
}

func printRefusals(p *program, all []view.Refusal, now time.Time) {
	if len(all) == 0 {
		return
	}
	rows := [][]string{p.heading("label_last", "label_first", "label_count", "label_reason", "label_who", "label_source", "label_to")}
	var times []time.Time
	met := map[string]bool{}
	for _, r := range all {
		times = append(times, r.First, r.Last)
		met[r.Reason] = true
		engineer, source := "-", "-"
		if r.Vendor != "" {
			engineer = named(r.Vendor+"/"+r.Engineer, r.Names.String())
		}
		if r.Source.IsValid() {
			source = r.Source.String()
		}
		rows = append(rows, []string{p.short(r.Last, now), p.short(r.First, now), strconv.Itoa(r.Count), r.Reason, engineer, source, cmp.Or(r.Target, "-")})
	}
	p.table(rows, 0, times)
	fmt.Fprintln(p.out)
	var meanings [][]string
	for _, reason := range policy.Reasons() {
		if met[reason.String()] {
			meanings = append(meanings, []string{reason.String(), view.Meaning(reason).In(p.lang)})
		}
	}
	if met["summed"] {
		meanings = append(meanings, []string{"summed", p.say("summed", nil)})
	}
	p.columns(meanings)
}

// healthCommand asks /livez, for container engines, which have no watchdog. It
// succeeds while the loop turns, also in doubt: a restart would not end a doubt.
type healthCommand struct{}

func (healthCommand) Run(p *program) error {
	client := http.Client{Timeout: 4 * time.Second, Transport: &http.Transport{}} // no proxy
	answer, err := client.Get("http://" + p.settings.MetricsAddress + "/livez")
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
	fmt.Fprintln(p.out, said)
	return nil
}
