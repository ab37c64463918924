package main

import (
	"fmt"
	"slices"
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
		if err := printStatus(p, s); err != nil {
			return err
		}
	}
	if !s.Ready {
		return &exitError{exitNo}
	}
	return nil
}

func printStatus(p *program, s view.Status) error {
	head := view.SayReady
	switch {
	case !s.Ready:
		head = view.SayNotReady
	case s.Shut.All:
		head = view.SayShut
	}
	fmt.Fprintln(p.out, strings.TrimSpace(p.say(head, nil)+"  "+oneLine(s.Site)))
	told := false // what is wrong with the policy file
	for _, d := range s.Doubts {
		told = told || d.Message.Code == view.NoPolicy && d.Message.Args["cause"] == s.Policy.Error
		for line := range strings.Lines(d.Message.In(p.lang)) {
			fmt.Fprintf(p.out, "  %s\n", oneLine(strings.TrimSuffix(line, "\n")))
		}
	}
	rows := [][]string{{p.label(view.LabelNow), local(p.in(s.Now))}}
	if s.NextChange != nil {
		rows = append(rows, []string{p.label(view.LabelNextChange), local(p.in(*s.NextChange))})
	}
	if s.Policy.LoadedAt != nil {
		file := view.SayFileOK
		if !s.Policy.FileOK {
			file = view.SayFileWrong
		}
		rows = append(rows, []string{p.label(view.LabelPolicy), p.say(view.SayPolicy, view.Args{
			"digest": fmt.Sprintf("%.12s", s.Policy.Digest), "at": local(p.in(*s.Policy.LoadedAt)), "file": view.Say(file, nil)})})
	}
	if s.Policy.Error != "" && !told {
		for _, line := range strings.Split(s.Policy.Error, "\n") {
			rows = append(rows, []string{"", oneLine(line)})
		}
	}
	for _, r := range s.Shut.Records {
		rows = append(rows, []string{p.label(view.LabelShut),
			p.say(view.SayShutBy, view.Args{"scope": string(r.Scope), "actor": r.Actor, "at": local(p.in(r.At)), "reason": r.Reason})})
	}
	for _, h := range s.Shut.ByKey {
		rows = append(rows, []string{p.label(view.LabelShut), p.say(view.SayShutByKey, view.Args{"engineer": h.Engineer, "scope": string(h.Scope)})})
	}
	if err := table(p.out, rows); err != nil {
		return err
	}
	for _, h := range s.HintMessages {
		fmt.Fprintf(p.out, "  %s\n", p.say(view.SayHint, view.Args{"text": h}))
	}
	for i, w := range s.Warnings {
		if i == warningLines {
			more := len(s.Warnings) - warningLines
			fmt.Fprintf(p.out, "  %s\n", p.say(view.SayMoreWarnings, view.Args{"count": more}))
			break
		}
		fmt.Fprintf(p.out, "  %s\n", p.say(view.SayWarning, view.Args{"text": w}))
	}
	fmt.Fprintf(p.out, "\n%s\n", p.count(len(s.Grants), view.SayNoGrants, view.SayGrant, view.SayGrants))
	if err := printGrants(p, s.Grants, s.Now); err != nil {
		return err
	}
	fmt.Fprintf(p.out, "\n%s\n", p.count(len(s.Sessions), view.SayNoSessions, view.SaySession, view.SaySessions))
	return printSessions(p, s.Sessions, s.Now)
}

// warningLines bounds the policy's warnings in a status: at night people look
// for something else.
const warningLines = 5

type sessionsCommand struct{ jsonFlag }

func (c sessionsCommand) Run(p *program) error {
	var all []view.SessionStatus
	show, err := c.ask(p, "/v1/sessions", nil, &all)
	if err != nil || !show {
		return err
	}
	if len(all) == 0 {
		fmt.Fprintln(p.out, p.say(view.SayNobodyInside, nil))
	}
	return printSessions(p, all, time.Now())
}

func printSessions(p *program, all []view.SessionStatus, now time.Time) error {
	if len(all) == 0 {
		return nil
	}
	var times []time.Time
	for _, s := range all {
		times = append(times, p.in(s.OpenedAt), p.in(s.Until))
	}
	rows := [][]string{p.heading(view.LabelEngineer, view.LabelSource, view.LabelSince, view.LabelUntil, view.LabelReceived, view.LabelSent, view.LabelHandshake, view.LabelSession)}
	rows[0][2] = inZone(rows[0][2], times...)
	for _, s := range all {
		handshake := "-"
		if s.LastHandshake != nil {
			handshake = p.say(view.SayAgo, view.Args{"time": now.Sub(*s.LastHandshake).Round(time.Second)})
		}
		rows = append(rows, []string{named(s.Vendor+"/"+s.Engineer, s.Names.String()), s.Source.String(), short(p.in(s.OpenedAt), now), short(p.in(s.Until), now),
			bytesText(s.Received), bytesText(s.Transmitted), handshake, s.ID})
	}
	return table(p.out, rows)
}

type grantsCommand struct{ jsonFlag }

func (c grantsCommand) Run(p *program) error {
	var all []view.GrantStatus
	show, err := c.ask(p, "/v1/grants", nil, &all)
	if err != nil || !show {
		return err
	}
	if len(all) == 0 {
		fmt.Fprintln(p.out, p.say(view.SayNothingOpen, nil))
	}
	return printGrants(p, all, time.Now())
}

func printGrants(p *program, all []view.GrantStatus, now time.Time) error {
	if len(all) == 0 {
		return nil
	}
	var times []time.Time
	for _, g := range all {
		times = append(times, p.in(g.From), p.in(g.Until))
	}
	rows := [][]string{p.heading(view.LabelEngineer, view.LabelWindow, view.LabelBegin, view.LabelUntil, view.LabelTargets, view.LabelSources)}
	rows[0][2] = inZone(rows[0][2], times...)
	for _, g := range all {
		var sources []string
		for _, s := range g.Sources {
			if s.IsSingleIP() {
				sources = append(sources, s.Addr().String())
			} else {
				sources = append(sources, s.String())
			}
		}
		rows = append(rows, []string{named(g.Vendor+"/"+g.Engineer, g.Names.String()), g.Window, short(p.in(g.From), now), short(p.in(g.Until), now),
			p.some(g.Targets), p.some(sources)})
	}
	return table(p.out, rows)
}

type refusalsCommand struct{ jsonFlag }

func (c refusalsCommand) Run(p *program) error {
	var all []view.Refusal
	show, err := c.ask(p, "/v1/refusals", nil, &all)
	if err != nil || !show {
		return err
	}
	if len(all) == 0 {
		fmt.Fprintln(p.out, p.say(view.SayNoRefusals, nil))
		return nil
	}
	now := time.Now()
	var times []time.Time
	met := map[string]bool{}
	for _, r := range all {
		times = append(times, p.in(r.First), p.in(r.Last))
		met[r.Reason] = true
	}
	rows := [][]string{p.heading(view.LabelLast, view.LabelFirst, view.LabelCount, view.LabelReason, view.LabelWho, view.LabelSource, view.LabelTo)}
	rows[0][0] = inZone(rows[0][0], times...)
	for _, r := range all {
		engineer, source, to := "-", "-", "-"
		if r.Vendor != "" {
			engineer = named(r.Vendor+"/"+r.Engineer, r.Names.String())
		}
		if r.Source.IsValid() {
			source = r.Source.String()
		}
		if r.Target != "" {
			to = r.Target
		}
		rows = append(rows, []string{short(p.in(r.Last), now), short(p.in(r.First), now), strconv.Itoa(r.Count), r.Reason, engineer, source, to})
	}
	if err := table(p.out, rows); err != nil {
		return err
	}
	fmt.Fprintln(p.out)
	var meanings [][]string
	for _, reason := range policy.Reasons() {
		if met[reason.String()] {
			meanings = append(meanings, []string{reason.String(), view.Meaning(reason).In(p.lang)})
		}
	}
	if met["summed"] {
		meanings = append(meanings, []string{"summed", p.say(view.SaySummed, nil)})
	}
	return table(p.out, meanings)
}

// named puts what people say behind a short name.
func named(short, name string) string {
	if name == "" {
		return short
	}
	return fmt.Sprintf("%s (%s)", short, oneLine(name))
}

// say gives a message in the user's language, on one line.
func (p *program) say(code view.Code, args view.Args) string {
	return oneLine(view.Say(code, args).In(p.lang))
}

// label begins a line of a list.
func (p *program) label(code view.Code) string { return "  " + p.say(code, nil) }

func (p *program) heading(codes ...view.Code) (row []string) {
	for _, c := range codes {
		row = append(row, p.say(c, nil))
	}
	return row
}

// count says how many there are.
func (p *program) count(n int, none, one, many view.Code) string {
	switch n {
	case 0:
		return p.say(none, nil)
	case 1:
		return p.say(one, nil)
	}
	return p.say(many, view.Args{"count": n})
}

// some lists names in a cell of a table: all of a few, else the first ones.
func (p *program) some(names []string) string {
	const most = 5
	if len(names) > most {
		return p.say(view.SayNamesMore, view.Args{"names": strings.Join(names[:most-1], ","), "count": len(names) - most + 1})
	}
	return strings.Join(names, ",")
}

// language is that of the locale: the first of its variables that is set decides.
func language(environ []string) view.Language {
	for _, name := range []string{"LC_ALL=", "LC_MESSAGES=", "LANG="} {
		i := slices.IndexFunc(environ, func(v string) bool { return strings.HasPrefix(v, name) && len(v) > len(name) })
		if i >= 0 {
			if strings.HasPrefix(environ[i], name+"ja") {
				return view.Japanese
			}
			break
		}
	}
	return view.English
}
