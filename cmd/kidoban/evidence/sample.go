package evidence

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/evidence"
	"kidoban/gateway/evidence/page"
	"kidoban/gateway/view"
)

// sampleCommand is `kidoban sample`.
type sampleCommand struct {
	terminal.JSONFlag
	monthly
	N    int    `short:"n" default:"10" help:"How many sessions: usual are 3 of a small site, 10, 25 of a large one." placeholder:"N"`
	Seed uint64 `required:"" help:"A number that the auditor names after the site has handed over the month's checkpoint." placeholder:"NUMBER"`
}

// Validate is for kong.
func (c sampleCommand) Validate() error {
	if c.N < 1 {
		return fmt.Errorf("-n: %d: allowed is 1 or more", c.N)
	}
	return c.monthly.Validate()
}

// drawn is the answer of `kidoban sample`.
type drawn struct {
	Month      string                   `json:"month"`
	Vendor     string                   `json:"vendor,omitempty"`
	Seed       string                   `json:"seed"`
	Of         int                      `json:"of"`     // from so many sessions
	Digest     string                   `json:"digest"` // of the month
	Checkpoint string                   `json:"checkpoint"`
	Verified   bool                     `json:"verified"`
	Sessions   []evidence.ReportSession `json:"sessions"` // in the order of the draw
}

// Run draws, and prints a list to be ticked off.
func (c sampleCommand) Run(p *terminal.Program) error {
	r, err := c.report(p)
	if err != nil {
		return err
	}
	seed := strconv.FormatUint(c.Seed, 10)
	d := drawn{r.Month, r.Vendor, seed, len(r.Sessions), r.Digest, r.Checkpoint, r.Verified, evidence.Sample(*r, c.N, seed)}
	if c.JSON {
		p.PrintJSON(d)
		return nil
	}
	p.Zone = page.Zone(r.Timezone)
	p.Tell("sample_head", view.Args{"month": d.Month, "count": len(d.Sessions), "of": d.Of, "seed": seed})
	for i, s := range d.Sessions {
		fmt.Fprintln(p.Out)
		c.session(p, i+1, s)
	}
	if len(d.Sessions) > 0 {
		fmt.Fprintln(p.Out)
		p.Tell("sample_check", nil)
	}
	p.Tell("report_digest", view.Args{"digest": d.Digest})
	p.Tell("sample_again", nil)
	fmt.Fprintf(p.Out, "  printf '%%s %%s %%s' %s %s %s | sha256sum\n", d.Digest, seed, p.Say("sample_session", nil))
	p.TellIf(!d.Verified, "month_verified_no", nil)
	if d.Checkpoint != "" {
		fmt.Fprintf(p.Out, "\n%s", d.Checkpoint)
	}
	return nil
}

// session prints the parts of a session that an auditor compares.
func (c sampleCommand) session(p *terminal.Program, number int, s evidence.ReportSession) {
	until := p.Say("month_unknown", nil)
	if s.ClosedAt != nil {
		until = p.Local(*s.ClosedAt)
	} else if s.Ended == "" {
		until = p.Say("month_inside", nil)
	}
	fmt.Fprintf(p.Out, "[ ] %2d  %s  %s\n", number, terminal.OneLine(s.ID), terminal.OneLine(who(p, s)))
	list := terminal.List{Program: p}
	list.Row("month_actual", p.Local(s.OpenedAt)+" – "+until)
	if s.PlannedFrom != nil && s.PlannedUntil != nil {
		list.Row("month_planned", p.Local(*s.PlannedFrom)+" – "+p.Local(*s.PlannedUntil))
	}
	list.Row("month_source", terminal.OneLine(s.Source))
	list.Row("month_request", terminal.OneLine(strings.TrimSpace(s.Request+" "+s.Ticket)))
	list.Row("month_approved_name", terminal.OneLine(s.ApprovedBy))
	list.Row("month_targets", c.targets(p, s))
	list.Row("month_work", c.work(p, s))
	list.Row("month_entry_numbers", fmt.Sprintf("%d – %d", s.Entries.From, s.Entries.To))
	for _, row := range list.Rows {
		row[0] = "    " + row[0]
	}
	p.Columns(list.Rows)
}

func (c sampleCommand) targets(p *terminal.Program, s evidence.ReportSession) string {
	var all []string
	for _, u := range s.Used {
		text := fmt.Sprintf("%s %s %s", u.Target, u.Address, u.Service)
		if u.Others > 0 {
			text = p.Say("month_others", view.Args{"count": u.Others})
		}
		all = append(all, terminal.OneLine(strings.TrimSpace(text)))
	}
	switch {
	case !s.Counted:
		all = append(all, p.Say("month_uncounted", nil))
	case !s.Complete:
		all = append(all, p.Say("month_partly", nil))
	case len(all) == 0:
		all = append(all, p.Say("month_none_used", nil))
	}
	return strings.Join(all, ", ")
}

func (c sampleCommand) work(p *terminal.Program, s evidence.ReportSession) string {
	if s.Work == nil {
		return p.Say("month_unreported", nil)
	}
	return fmt.Sprintf("%s (%s)", terminal.OneLine(s.Work.Text), s.Work.At.In(p.Zone).Format(time.DateOnly))
}
