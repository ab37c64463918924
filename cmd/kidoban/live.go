package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"kidoban/gateway"
)

type statusCommand struct{ jsonFlag }

func (c statusCommand) Run(p *program) error {
	var s gateway.Status
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

func printStatus(p *program, s gateway.Status) error {
	if s.Ready {
		fmt.Fprintf(p.out, "READY  %s\n", s.Site)
	} else {
		fmt.Fprintf(p.out, "NOT READY: nobody may enter  %s\n  %s\n", s.Site, oneLine(s.NotReadyReason))
	}
	rows := [][]string{{"  now", local(s.Now)}}
	if s.NextChange != nil {
		rows = append(rows, []string{"  next change", local(*s.NextChange)})
	}
	if s.Policy.LoadedAt != nil {
		file := "the file on disk would survive a restart"
		if !s.Policy.FileOK {
			file = "THE FILE ON DISK WOULD NOT SURVIVE A RESTART"
		}
		rows = append(rows, []string{"  policy", fmt.Sprintf("%.12s of %s; %s", s.Policy.Digest, local(*s.Policy.LoadedAt), file)})
	}
	if s.Policy.Error != "" {
		for _, line := range strings.Split(s.Policy.Error, "\n") {
			rows = append(rows, []string{"", oneLine(line)})
		}
	}
	for _, r := range s.Shut.Records {
		rows = append(rows, []string{"  SHUT", fmt.Sprintf("%s by %s at %s: %s", r.Scope, oneLine(r.Actor), local(r.At), oneLine(r.Reason))})
	}
	if err := table(p.out, rows); err != nil {
		return err
	}
	for _, h := range s.Hints {
		fmt.Fprintf(p.out, "  hint: %s\n", oneLine(h))
	}
	fmt.Fprintf(p.out, "\n%d grant(s) open\n", len(s.Grants))
	if err := printGrants(p, s.Grants, s.Now); err != nil {
		return err
	}
	fmt.Fprintf(p.out, "\n%d session(s)\n", len(s.Sessions))
	return printSessions(p, s.Sessions, s.Now)
}

type sessionsCommand struct{ jsonFlag }

func (c sessionsCommand) Run(p *program) error {
	var all []gateway.SessionStatus
	show, err := c.ask(p, "/v1/sessions", nil, &all)
	if err != nil || !show {
		return err
	}
	if len(all) == 0 {
		fmt.Fprintln(p.out, "Nobody is inside.")
	}
	return printSessions(p, all, time.Now())
}

func printSessions(p *program, all []gateway.SessionStatus, now time.Time) error {
	if len(all) == 0 {
		return nil
	}
	rows := [][]string{{"ENGINEER", "FROM", "SINCE", "UNTIL", "RECEIVED", "SENT", "HANDSHAKE", "SESSION"}}
	for _, s := range all {
		handshake := "-"
		if s.LastHandshake != nil {
			handshake = now.Sub(*s.LastHandshake).Round(time.Second).String() + " ago"
		}
		rows = append(rows, []string{s.Vendor + "/" + s.Engineer, s.Source.String(), short(s.OpenedAt, now), short(s.Until, now),
			bytesText(s.Received), bytesText(s.Transmitted), handshake, s.ID})
	}
	return table(p.out, rows)
}

type grantsCommand struct{ jsonFlag }

func (c grantsCommand) Run(p *program) error {
	var all []gateway.GrantStatus
	show, err := c.ask(p, "/v1/grants", nil, &all)
	if err != nil || !show {
		return err
	}
	if len(all) == 0 {
		fmt.Fprintln(p.out, "Nothing is open.")
	}
	return printGrants(p, all, time.Now())
}

func printGrants(p *program, all []gateway.GrantStatus, now time.Time) error {
	if len(all) == 0 {
		return nil
	}
	rows := [][]string{{"ENGINEER", "WINDOW", "FROM", "UNTIL", "TARGETS", "SOURCES"}}
	for _, g := range all {
		var sources []string
		for _, s := range g.Sources {
			if s.IsSingleIP() {
				sources = append(sources, s.Addr().String())
			} else {
				sources = append(sources, s.String())
			}
		}
		rows = append(rows, []string{g.Vendor + "/" + g.Engineer, g.Window, short(g.From, now), short(g.Until, now),
			strings.Join(g.Targets, ","), strings.Join(sources, ",")})
	}
	return table(p.out, rows)
}

type refusalsCommand struct{ jsonFlag }

func (c refusalsCommand) Run(p *program) error {
	var all []gateway.RefusalSummary
	show, err := c.ask(p, "/v1/refusals", nil, &all)
	if err != nil || !show {
		return err
	}
	if len(all) == 0 {
		fmt.Fprintln(p.out, "Nobody was refused since the gateway started.")
		return nil
	}
	now := time.Now()
	rows := [][]string{{"LAST", "FIRST", "COUNT", "REASON", "WHO", "FROM", "TO"}}
	for _, r := range all {
		who, source := "-", "-"
		if r.Vendor != "" {
			who = r.Vendor + "/" + r.Engineer
		}
		if r.Source.IsValid() {
			source = r.Source.String()
		}
		rows = append(rows, []string{short(r.Last, now), short(r.First, now), strconv.Itoa(r.Count), r.Reason, who, source, r.Target})
	}
	return table(p.out, rows)
}
