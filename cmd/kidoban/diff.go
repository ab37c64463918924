package main

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

type diffCommand struct {
	terminal.JSONFlag
	Files []terminal.Given `arg:"" help:"[OLD] NEW: two policy files. Without OLD, NEW is compared with the policy in force."`
}

// diffDays is how far ahead openings are compared.
const diffDays = 30

type diffAnswer struct {
	Old string `json:"old"` // a file; empty: the policy in force
	New string `json:"new"`
	*api.Comparison
	Digest string        `json:"digest"`       // of the new one
	Closes []policy.Move `json:"closes_later"` // of the next 30 days
	Opens  []policy.Move `json:"opens_later"`  // of the next 30 days
}

func (c diffCommand) Run(p *terminal.Program) error {
	if len(c.Files) > 2 {
		return terminal.Wrong("diff_files", nil)
	}
	files := []string{string(c.Files[0])}
	if len(c.Files) == 2 {
		files = append(files, string(c.Files[1]))
	}
	var loaded []*policy.Policy
	for _, file := range files {
		one, _, err := loadPolicy(p, file, nil)
		if err != nil {
			return err
		}
		loaded = append(loaded, one)
	}
	now := time.Now()
	answer := diffAnswer{New: files[len(files)-1]}
	newer := loaded[len(loaded)-1]
	var err error
	if answer.Digest, p.Zone = newer.Digest, newer.Zone; len(files) == 2 {
		answer.Old = files[0]
		answer.Comparison, err = api.CompareFiles(loaded[0], newer, now)
	} else {
		answer.Comparison, err = compare(p, newer)
	}
	if err != nil {
		return err
	}
	answer.Closes, answer.Opens = answer.Within(policy.Span{From: now.Truncate(time.Second), Until: now.AddDate(0, 0, diffDays)})
	if c.JSON {
		p.PrintJSON(answer)
		return nil
	}
	messages := answer.Messages(newer.Zone)
	if answer.Old != "" { // not in force, so a reload would not bring it
		messages[0] = view.Say("diff_same", view.Args{"old": answer.Old, "new": answer.New})
		if len(answer.Differences) > 0 {
			messages[0] = view.Say("diff", view.Args{"old": answer.Old, "new": answer.New})
		}
	}
	for i, m := range messages {
		fmt.Fprintln(p.Out, strings.Repeat("  ", min(i, 1))+terminal.OneLine(m.In(p.Lang)))
	}
	printMoves(p, "diff_opens", answer.Opens)
	printMoves(p, "diff_closes", answer.Closes)
	return nil
}

// reached is access as a cell of a table.
func reached(p *terminal.Program, r policy.Reach) string {
	var parts []string
	if len(r.Targets) > 0 {
		parts = append(parts, p.Some(r.Targets))
	}
	if len(r.Sources) > 0 {
		parts = append(parts, p.Say("access_sources", view.Args{"sources": p.Some(r.Sources)}))
	}
	return strings.Join(parts, " ")
}

// printMoves prints moves, with a line for all engineers with the same ones.
func printMoves(p *terminal.Program, heading view.Code, moves []policy.Move) {
	if len(moves) == 0 {
		return
	}
	type row struct {
		policy.Move
		engineers []string
	}
	var lines []row
	for _, m := range moves {
		i := slices.IndexFunc(lines, func(l row) bool {
			return l.From.Equal(m.From) && l.Until.Equal(m.Until) && slices.Equal(l.Targets, m.Targets) && slices.Equal(l.Sources, m.Sources)
		})
		if i < 0 {
			lines, i = append(lines, row{Move: m}), len(lines)
		}
		lines[i].engineers = append(lines[i].engineers, m.Engineer)
	}
	fmt.Fprintln(p.Out)
	p.Tell(heading, view.Args{"days": diffDays})
	rows := [][]string{p.Heading("label_begin", "label_until", "label_engineers", "label_targets")}
	var times []time.Time
	weekdays := strings.Fields(p.Say("weekdays", nil))
	for _, l := range lines[:min(len(lines), calendarLines)] {
		times = append(times, l.From, l.Until)
		from, until := p.In(l.From), p.In(l.Until)
		end := until.Format("15:04")
		if until.Format(time.DateOnly) != from.Format(time.DateOnly) {
			end = until.Format("2006-01-02 15:04")
		}
		rows = append(rows, []string{weekdays[from.Weekday()] + from.Format(" 2006-01-02 15:04"), end, p.Some(l.engineers), reached(p, l.Reach)})
	}
	p.Table(rows, 0, times)
	p.TellIf(len(lines) > calendarLines, "diff_more", view.Args{"count": len(lines) - calendarLines})
}
