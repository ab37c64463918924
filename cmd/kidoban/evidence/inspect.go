package evidence

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/api"
	"kidoban/gateway/durable"
	"kidoban/gateway/evidence"
	"kidoban/gateway/evidence/catalogue"
	"kidoban/gateway/evidence/oscal"
	"kidoban/gateway/evidence/page"
	"kidoban/gateway/evidence/sheet"
	"kidoban/gateway/view"
)

// inspection is `kidoban inspect`.
type inspection struct {
	Show   inspectCommand `cmd:"" default:"withargs" help:"Answer the controls that guidelines ask for: here, as forms, as OSCAL. The word show may be left out."`
	Answer answerCommand  `cmd:"" help:"Record the answer of a person to a control."`
}

type inspectCommand struct {
	terminal.JSONFlag
	source
	Order  string         `enum:"cl-r7,mic,nist,catalogue" default:"catalogue" help:"The order of the rows: cl-r7, mic or nist, by the clauses of that guideline; or catalogue." placeholder:"ORDER"`
	Vendor terminal.Given `help:"The form for this vendor: what vendors are asked, with facts filled in." placeholder:"V"`
	Tier   int            `help:"The tier, 1 to 3; the policy's if none is given." placeholder:"N"`
	Out    terminal.Given `help:"The folder for inspection.html, .csv, .xlsx and .json; it is made if it is not there." placeholder:"DIR"`
	Oscal  terminal.Given `help:"A file for OSCAL assessment results." placeholder:"FILE"`
}

// Validate is for kong.
func (c inspectCommand) Validate() error {
	var wrong error
	if c.Tier < 0 || c.Tier > 3 {
		wrong = fmt.Errorf("--tier: %d is no tier: allowed is 1 to 3", c.Tier)
	}
	return errors.Join(wrong, c.check())
}

// Run prints an inspection. A control that is not met is no failure of the command.
func (c inspectCommand) Run(p *terminal.Program) error {
	i, err := c.inspection(p)
	if err != nil {
		return err
	}
	if p.Zone, err = time.LoadLocation(i.Timezone); err != nil {
		p.Zone = time.UTC
	}
	written, err := c.write(p, i)
	if err != nil {
		return err
	}
	if c.JSON {
		text, err := asJSON(i)
		if err == nil {
			_, err = p.Out.Write(text)
		}
		return err
	}
	c.show(p, i)
	p.TellIf(len(written) > 0, "report_files", view.Args{"files": strings.Join(written, " ")})
	return nil
}

// inspection gives the inspection, by the gateway or of a copy.
func (c inspectCommand) inspection(p *terminal.Program) (i catalogue.Inspection, err error) {
	if c.Journal == "" {
		query := url.Values{"vendor": {string(c.Vendor)}}
		if c.Tier > 0 {
			query.Set("tier", strconv.Itoa(c.Tier))
		}
		text, zone, err := p.Client().Get("/v1/evidence/inspection", query)
		if err == nil {
			_, err = terminal.JSONFlag{}.Answer(p, text, zone, &i)
		}
		return i, judged(err)
	}
	record, verified, err := c.read(p)
	if err != nil {
		return i, err
	}
	i, err = catalogue.Inspect(record, nil, catalogue.Options{Tier: c.Tier, Vendor: string(c.Vendor), Origin: verified.Origin, Checkpoint: verified.Checkpoint, Verified: true})
	return i, judged(err)
}

// write writes the files that were asked for, and names them.
func (c inspectCommand) write(p *terminal.Program, i catalogue.Inspection) (written []string, err error) {
	if c.Out != "" {
		html, err := page.Inspection(i, c.Order, p.Lang)
		if err != nil {
			return nil, err
		}
		text, err := asJSON(i)
		if err != nil {
			return nil, err
		}
		sheets := page.InspectionSheets(i, c.Order, p.Lang)
		files := []file{{"inspection.html", html}, {"inspection.csv", sheets[0].CSV()}, {"inspection.xlsx", sheet.XLSX(sheets...)}, {"inspection.json", text}}
		if err := write(string(c.Out), files); err != nil {
			return nil, err
		}
		for _, f := range files {
			written = append(written, filepath.Join(string(c.Out), f.name))
		}
	}
	if c.Oscal != "" {
		text, err := oscal.AssessmentResults(i, p.Lang)
		if err != nil {
			return nil, err
		}
		if err := durable.Replace(string(c.Oscal), text, fileMode); err != nil {
			return nil, err
		}
		written = append(written, string(c.Oscal))
	}
	return written, nil
}

// show prints the sections of the order as tables.
func (c inspectCommand) show(p *terminal.Program, i catalogue.Inspection) {
	p.Tell("inspection_head", view.Args{"site": i.Site, "tier": i.Tier, "at": p.Local(i.AsOf)})
	p.TellIf(i.Tier < i.Needed, "inspection_lower", view.Args{"needed": i.Needed, "reason": i.Reason})
	p.TellIf(!i.Live, "inspection_copy", nil)
	for _, s := range i.In(c.Order) {
		if s.Guideline != nil {
			fmt.Fprintln(p.Out)
			name := s.Guideline.Title
			if s.Rest {
				name = s.Guideline.Short
			}
			code := map[bool]view.Code{false: "inspection_section", true: "inspection_rest"}[s.Rest]
			p.Tell(code, view.Args{"guideline": name.In(p.Lang)})
		}
		rows := [][]string{p.Heading("inspection_number", "inspection_answer", "inspection_requirement", "inspection_why")}
		for _, r := range s.Rows {
			rows = append(rows, c.row(p, i, s, r))
		}
		p.Columns(rows)
	}
	p.Tell("inspection_sums", view.Args{"yes": i.Counts[catalogue.Yes], "no": i.Counts[catalogue.No], "na": i.Counts[catalogue.NA], "open": i.Counts[catalogue.NotAssessed]})
}

// row is a control on the terminal.
func (c inspectCommand) row(p *terminal.Program, i catalogue.Inspection, s catalogue.Section, r catalogue.Row) []string {
	answer := r.Answer.Message().In(p.Lang)
	if (s.Form || i.Vendor != "") && r.Answer != catalogue.Yes && r.Answer != catalogue.No {
		answer = ""
	}
	number := r.ID
	if r.Clause != nil {
		number = r.Clause.Clause + r.Clause.Mark() + " " + r.ID
		if r.Clause.Ours {
			number += p.Say("inspection_ours", nil)
		}
	}
	return []string{number, answer, r.Requirement.In(p.Lang), terminal.OneLine(strings.Join(r.Why(p.Lang), " / "))}
}

type answerCommand struct {
	terminal.JSONFlag
	Control    string         `arg:"" help:"The number of the control, as 10."`
	Answer     string         `arg:"" enum:"yes,no,na" help:"yes, no, or na: not applicable."`
	Text       terminal.Given `help:"The reason; na needs one." placeholder:"TEXT"`
	TargetDate terminal.Given `help:"Of no: the day until when it will be yes." placeholder:"DATE"`
	Until      terminal.Given `help:"When the answer holds no more, at most a year ahead; na needs it." placeholder:"TIME"`
	For        terminal.Given `help:"Whose answer it is, if another's." placeholder:"NAME"`
	Vendor     terminal.Given `help:"Of a vendor's own answer: the vendor." placeholder:"V"`
}

// Run records the answer.
func (c answerCommand) Run(p *terminal.Program) error {
	for _, x := range [][2]string{{"--text:", string(c.Text)}, {"--for:", string(c.For)}} {
		if err := api.Shows(x[0], x[1]); err != nil {
			return err
		}
	}
	if err := siteZone(p); err != nil {
		return err
	}
	until, err := api.ParseTime(string(c.Until), p.Zone, time.Time{})
	if err != nil {
		return fmt.Errorf("--until: %w", err)
	}
	a := evidence.Answer{Control: c.Control, Vendor: string(c.Vendor), Answer: c.Answer, Text: string(c.Text), TargetDate: string(c.TargetDate), Until: until, For: string(c.For)}
	var noted api.Noted
	if err := p.Order("/v1/evidence/answer", a, &noted); err != nil {
		return err
	}
	if c.JSON {
		p.PrintJSON(a)
	} else {
		p.Tell("answer_recorded", view.Args{"control": c.Control, "answer": catalogue.Verdict(c.Answer).Message()})
	}
	return nil
}
