package evidence

import (
	"fmt"
	"strings"
	"time"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/api"
	"kidoban/gateway/evidence"
	"kidoban/gateway/view"
)

type workCommand struct {
	terminal.JSONFlag
	Vendor       string         `arg:"" help:"The vendor, or vendor/engineer."`
	Sessions     []string       `help:"The sessions, if they are known; else those of the vendor at that time." placeholder:"S"`
	From         string         `required:"" help:"When the work began, as reported." placeholder:"TIME"`
	Until        string         `required:"" help:"When it ended." placeholder:"TIME"`
	Text         string         `required:"" help:"What was done." placeholder:"TEXT"`
	Targets      []string       `help:"What was worked on, by the policy's names." placeholder:"T"`
	PersonalData string         `enum:",yes,no" default:"" help:"Whether personal data was seen: yes or no; the text says whose, and what was done." placeholder:"yes|no"`
	Files        terminal.Given `help:"What was brought in or taken out, and how it was made harmless." placeholder:"TEXT"`
	Present      terminal.Given `help:"Who of the site was there." placeholder:"NAME"`
}

func (c workCommand) Run(p *terminal.Program) error {
	for name, text := range map[string]string{"--text:": c.Text, "--files:": string(c.Files), "--present:": string(c.Present)} {
		if err := api.Shows(name, text); err != nil {
			return err
		}
	}
	if err := siteZone(p); err != nil {
		return err
	}
	from, err := api.ParseTime(c.From, p.Zone, time.Time{})
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	until, err := api.ParseTime(c.Until, p.Zone, time.Time{})
	if err != nil {
		return fmt.Errorf("--until: %w", err)
	}
	vendor, engineer, _ := strings.Cut(c.Vendor, "/")
	w := evidence.WorkReport{Sessions: c.Sessions, Vendor: vendor, Engineer: engineer, From: from, Until: until, Targets: c.Targets,
		PersonalData: c.PersonalData, Files: string(c.Files), Present: string(c.Present), Text: c.Text}
	var noted api.Noted
	if err := p.Order("/v1/evidence/work-report", w, &noted); err != nil {
		return err
	}
	if c.JSON {
		p.PrintJSON(w)
	} else {
		p.Tell("work_noted", view.Args{"vendor": c.Vendor})
	}
	return nil
}
