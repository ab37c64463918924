package main

import (
	"cmp"
	"fmt"
	"regexp"
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
	head := "READY"
	switch {
	case !s.Ready:
		head = "NOT READY: nobody may enter"
	case s.Shut.All:
		head = "SHUT by an operator: nobody may enter"
	}
	fmt.Fprintln(p.out, strings.TrimSpace(head+"  "+oneLine(s.Site)))
	if !s.Ready {
		for line := range strings.Lines(s.NotReadyReason) {
			fmt.Fprintf(p.out, "  %s\n", oneLine(strings.TrimSuffix(line, "\n")))
		}
	}
	rows := [][]string{{"  now", local(p.in(s.Now))}}
	if s.NextChange != nil {
		rows = append(rows, []string{"  next change", local(p.in(*s.NextChange))})
	}
	if s.Policy.LoadedAt != nil {
		file := "the file on disk would survive a restart"
		if !s.Policy.FileOK {
			file = "THE FILE ON DISK WOULD NOT SURVIVE A RESTART"
		}
		rows = append(rows, []string{"  policy", fmt.Sprintf("%.12s of %s; %s", s.Policy.Digest, local(p.in(*s.Policy.LoadedAt)), file)})
	}
	if s.Policy.Error != "" && !strings.Contains(s.NotReadyReason, s.Policy.Error) {
		for _, line := range strings.Split(s.Policy.Error, "\n") {
			rows = append(rows, []string{"", oneLine(line)})
		}
	}
	for _, r := range s.Shut.Records {
		rows = append(rows, []string{"  SHUT", fmt.Sprintf("%s by %s at %s: %s", r.Scope, oneLine(r.Actor), local(p.in(r.At)), oneLine(r.Reason))})
	}
	for _, h := range s.Shut.ByKey {
		rows = append(rows, []string{"  SHUT", fmt.Sprintf("%s by its key: it was closed as %s", h.Engineer, h.Scope)})
	}
	if err := table(p.out, rows); err != nil {
		return err
	}
	printHints(p, s.Hints)
	fmt.Fprintf(p.out, "\n%s open\n", counted(len(s.Grants), "grant"))
	if err := printGrants(p, s.Grants, s.Now); err != nil {
		return err
	}
	fmt.Fprintf(p.out, "\n%s inside\n", counted(len(s.Sessions), "session"))
	return printSessions(p, s.Sessions, s.Now)
}

// warningLines bounds how many warnings of the policy stand in a status: who
// looks at night looks for something else.
const warningLines = 5

// policyPlace is how a warning of the policy begins: file:line:column.
var policyPlace = regexp.MustCompile(`^.*?:([0-9]{1,9}):([0-9]{1,9}): `)

// printHints shows what the gateway noticed before what the policy warns of,
// and that in the order of the file.
func printHints(p *program, hints []string) {
	place := func(hint string) (line, column int) {
		if m := policyPlace.FindStringSubmatch(hint); m != nil {
			line, _ = strconv.Atoi(m[1])
			column, _ = strconv.Atoi(m[2])
		}
		return line, column
	}
	ordered := slices.Clone(hints)
	slices.SortStableFunc(ordered, func(a, b string) int {
		lineA, columnA := place(a)
		lineB, columnB := place(b)
		return cmp.Or(cmp.Compare(lineA, lineB), cmp.Compare(columnA, columnB))
	})
	warnings := 0
	for _, h := range ordered {
		if line, _ := place(h); line == 0 {
			fmt.Fprintf(p.out, "  hint: %s\n", oneLine(h))
			continue
		}
		if warnings++; warnings <= warningLines {
			fmt.Fprintf(p.out, "  warning: %s\n", oneLine(h))
		}
	}
	if more := warnings - warningLines; more > 0 {
		fmt.Fprintf(p.out, "  and %s of the policy more: `kidoban check` shows them\n", counted(more, "warning"))
	}
}

type sessionsCommand struct{ jsonFlag }

func (c sessionsCommand) Run(p *program) error {
	var all []view.SessionStatus
	show, err := c.ask(p, "/v1/sessions", nil, &all)
	if err != nil || !show {
		return err
	}
	if len(all) == 0 {
		fmt.Fprintln(p.out, "Nobody is inside.")
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
	rows := [][]string{{"ENGINEER", "FROM", inZone("SINCE", times...), "UNTIL", "RECEIVED", "SENT", "HANDSHAKE", "SESSION"}}
	for _, s := range all {
		handshake := "-"
		if s.LastHandshake != nil {
			handshake = now.Sub(*s.LastHandshake).Round(time.Second).String() + " ago"
		}
		rows = append(rows, []string{s.Vendor + "/" + s.Engineer, s.Source.String(), short(p.in(s.OpenedAt), now), short(p.in(s.Until), now),
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
		fmt.Fprintln(p.out, "Nothing is open.")
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
	rows := [][]string{{"ENGINEER", "WINDOW", inZone("FROM", times...), "UNTIL", "TARGETS", "SOURCES"}}
	for _, g := range all {
		var sources []string
		for _, s := range g.Sources {
			if s.IsSingleIP() {
				sources = append(sources, s.Addr().String())
			} else {
				sources = append(sources, s.String())
			}
		}
		rows = append(rows, []string{g.Vendor + "/" + g.Engineer, g.Window, short(p.in(g.From), now), short(p.in(g.Until), now),
			some(g.Targets), some(sources)})
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
		fmt.Fprintln(p.out, "Nobody was refused since the gateway started.")
		return nil
	}
	now := time.Now()
	var times []time.Time
	met := map[string]bool{}
	for _, r := range all {
		times = append(times, p.in(r.First), p.in(r.Last))
		met[r.Reason] = true
	}
	rows := [][]string{{inZone("LAST", times...), "FIRST", "COUNT", "REASON", "WHO", "FROM", "TO"}}
	for _, r := range all {
		who, source, to := "-", "-", "-"
		if r.Vendor != "" {
			who = r.Vendor + "/" + r.Engineer
		}
		if r.Source.IsValid() {
			source = r.Source.String()
		}
		if r.Target != "" {
			to = r.Target
		}
		rows = append(rows, []string{short(p.in(r.Last), now), short(p.in(r.First), now), strconv.Itoa(r.Count), r.Reason, who, source, to})
	}
	if err := table(p.out, rows); err != nil {
		return err
	}
	fmt.Fprintln(p.out)
	var meanings [][]string
	for _, reason := range policy.Reasons() {
		if met[reason.String()] {
			meanings = append(meanings, []string{reason.String(), reasonTexts[reason]})
		}
	}
	if met["summed"] {
		meanings = append(meanings, []string{"summed", "more than are kept one by one, counted together"})
	}
	return table(p.out, meanings)
}
