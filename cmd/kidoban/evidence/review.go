package evidence

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/api"
	"kidoban/gateway/evidence"
	"kidoban/gateway/view"
)

type reviewCommand struct {
	terminal.JSONFlag
	terminal.YesFlag
	Sessions []string       `arg:"" optional:"" help:"The sessions, as the report names them."`
	Month    terminal.Given `help:"In place of sessions: a month, with --vendor." placeholder:"YYYY-MM"`
	Vendor   terminal.Given `help:"The vendor of the month." placeholder:"V"`
	As       evidence.Stage `required:"" enum:"checked,confirmed" help:"checked: an operator compared log and plan. confirmed: the officer in charge confirms that." placeholder:"STAGE"`
	For      terminal.Given `help:"Who signed on paper, if it was another." placeholder:"NAME"`
	Note     terminal.Given `help:"What there is to say. It explains the open mismatches, or those of --explain alone." placeholder:"TEXT"`
	Explain  []string       `help:"A mismatch that the note explains, as m02:1204." placeholder:"M"`
}

func (c reviewCommand) Run(p *terminal.Program) error {
	if (len(c.Sessions) > 0) == (c.Month != "" || c.Vendor != "") || (c.Month == "") != (c.Vendor == "") {
		return terminal.Wrong("review_what", nil)
	}
	for name, text := range map[string]string{"--for:": string(c.For), "--note:": string(c.Note)} {
		if err := api.Shows(name, text); err != nil {
			return err
		}
	}
	reviews, shown, err := c.reviews(p)
	if err != nil {
		return err
	}
	show := func(p *terminal.Program) { fmt.Fprint(p.Out, shown) }
	if err := p.Confirm(c.YesFlag, c.JSONFlag, show, "review_question", view.Args{"stage": stageName(c.As)}); err != nil {
		return err
	}
	for _, v := range reviews {
		var noted api.Noted
		if err := p.Order("/v1/evidence/review", v, &noted); err != nil {
			return err
		}
	}
	if c.JSON {
		p.PrintJSON(reviews)
	} else {
		p.Tell("review_done", view.Args{"count": len(reviews), "stage": stageName(c.As)})
	}
	return nil
}

func stageName(s evidence.Stage) view.Message {
	if s == evidence.Confirmed {
		return view.Say("stage_confirmed", nil)
	}
	return view.Say("stage_checked", nil)
}

// reviews gives the reviews to sign, each with the digest of the facts on the screen.
func (c reviewCommand) reviews(p *terminal.Program) (reviews []evidence.Review, shown string, err error) {
	frame := evidence.Review{As: c.As, For: string(c.For), Note: string(c.Note)}
	if c.Month != "" {
		r, err := monthOf(p, string(c.Month), string(c.Vendor))
		if err != nil {
			return nil, "", err
		}
		frame.Month, frame.Vendor, frame.Digest, frame.Explained = r.Month, r.Vendor, r.Digest, c.Explain
		return []evidence.Review{frame}, summary(p, r), nil
	}
	for _, id := range c.Sessions {
		r, s, err := find(p, id)
		if err != nil {
			return nil, "", err
		}
		one := frame
		one.Sessions, one.Digest = []string{id}, s.Digest
		open := mismatches(r, func(m evidence.Mismatch) bool { return m.Session == id })
		for _, ref := range c.Explain { // a review explains the mismatches of its session
			if len(c.Sessions) == 1 || slices.ContainsFunc(open, func(m evidence.Mismatch) bool { return m.Ref() == ref }) {
				one.Explained = append(one.Explained, ref)
			}
		}
		reviews = append(reviews, one)
		shown += session(p, s) + list(p, open)
	}
	return reviews, shown, nil
}

// monthOf asks for the report of a month.
func monthOf(p *terminal.Program, month, vendor string) (r evidence.Report, err error) {
	query := url.Values{"month": {month}}
	if vendor != "" {
		query.Set("vendor", vendor)
	}
	text, zone, err := p.Client().Get("/v1/evidence/month", query)
	if err != nil {
		return r, err
	}
	p.Zone = zone
	if err := json.Unmarshal(text, &r); err != nil {
		return r, &view.Error{Message: view.Say("answer_unknown", view.Args{"cause": err})}
	}
	return r, nil
}

// monthsBack is how many months a session is looked for.
const monthsBack = 24

// find looks for a session, in the newest month first.
func find(p *terminal.Program, id string) (evidence.Report, evidence.ReportSession, error) {
	for i := range monthsBack {
		month := time.Now().AddDate(0, 0, 1) // the site's month may be ahead
		month = time.Date(month.Year(), month.Month()-time.Month(i), 1, 0, 0, 0, 0, time.UTC)
		r, err := monthOf(p, month.Format("2006-01"), "")
		if err != nil {
			if api.CodeOf(err) == "evidence_month_outside" {
				continue
			}
			return r, evidence.ReportSession{}, err
		}
		if n := slices.IndexFunc(r.Sessions, func(s evidence.ReportSession) bool { return s.ID == id }); n >= 0 {
			return r, r.Sessions[n], nil
		}
	}
	return evidence.Report{}, evidence.ReportSession{}, &terminal.Exit{Message: view.Say("review_sessions_unknown", view.Args{"sessions": id}), Status: terminal.No}
}

// mismatches are the open ones of a report.
func mismatches(r evidence.Report, of func(evidence.Mismatch) bool) (all []evidence.Mismatch) {
	for _, m := range r.Mismatches {
		if m.State == evidence.Open && of(m) {
			all = append(all, m)
		}
	}
	return all
}

// summary shows a vendor's month.
func summary(p *terminal.Program, r evidence.Report) string {
	text := ""
	for _, s := range r.Sessions {
		text += session(p, s)
	}
	text += list(p, mismatches(r, func(evidence.Mismatch) bool { return true }))
	return text + p.Say("review_month", view.Args{"month": r.Month, "vendor": r.Vendor, "sessions": len(r.Sessions), "unused": len(r.Unused), "digest": r.Digest}) + "\n"
}

// who names the engineer of a session, or says that it is a host and no person.
func who(p *terminal.Program, s evidence.ReportSession) string {
	if s.Plain {
		return p.Say("month_host", view.Args{"host": s.Vendor + "/" + s.Engineer})
	}
	return s.Vendor + "/" + s.Engineer
}

// session shows one session: who, when, from where, and what was used.
func session(p *terminal.Program, s evidence.ReportSession) string {
	until := p.Say("month_unknown", nil)
	if s.ClosedAt != nil {
		until = s.ClosedAt.Format(view.Moment)
	}
	name := s.EngineerName
	if s.Plain {
		name = "" // the address, which follows
	}
	text := fmt.Sprintf("%s  %s  %s .. %s  %s\n", s.ID, terminal.Named(who(p, s), name), s.OpenedAt.Format(view.Moment), until, s.Source)
	for _, u := range s.Used {
		to := strings.TrimSpace(u.Target + " " + u.Address)
		text += "    " + p.Say("review_use", view.Args{"target": terminal.OneLine(to), "service": u.Service, "received": view.Bytes(uint64(u.ReceivedBytes)), "transmitted": view.Bytes(uint64(u.TransmittedBytes))}) + "\n"
	}
	if !s.Complete {
		text += "    " + p.Say("review_incomplete", nil) + "\n"
	}
	return text
}

// list shows open mismatches, as --explain names them.
func list(p *terminal.Program, all []evidence.Mismatch) (text string) {
	for _, m := range all {
		text += fmt.Sprintf("  %s  %s\n", m.Ref(), terminal.OneLine(m.Message().In(p.Lang)))
	}
	return text
}
