package page

import (
	"cmp"
	_ "embed"
	"fmt"
	"strings"
	"time"

	"kidoban/gateway/evidence/catalogue"
	"kidoban/gateway/evidence/sheet"
	"kidoban/gateway/view"
)

//go:embed inspection.html
var inspectionBody string

// Inspection gives a self-inspection as a document, in an order of catalogue.Orders.
func Inspection(i catalogue.Inspection, order string, lang view.Language) ([]byte, error) {
	p := inspectionOf(i, order, lang)
	footer := p.say("inspection_footer", view.Args{"site": i.Site, "at": p.At(i.AsOf), "origin": i.Origin})
	return Document{lang, p.Title() + " " + i.Site, footer}.Print(inspectionBody, p)
}

// InspectionSheets gives a self-inspection as a table.
func InspectionSheets(i catalogue.Inspection, order string, lang view.Language) []sheet.Sheet {
	p := inspectionOf(i, order, lang)
	s := sheet.Sheet{Name: p.say("inspection_sheet", nil), Footer: p.say("inspection_footer", view.Args{"site": i.Site, "at": p.At(i.AsOf), "origin": i.Origin})}
	if runes := []rune(s.Footer); len(runes) > 200 {
		s.Footer = string(runes[:200])
	}
	for _, c := range []struct {
		code  view.Code
		width int
	}{{"inspection_clause", 16}, {"inspection_number", 6}, {"inspection_requirement", 36}, {"inspection_question", 40}, {"inspection_answer", 10}, {"inspection_date", 12}, {"inspection_target", 12},
		{"inspection_machine", 50}, {"inspection_entry_numbers", 16}, {"inspection_person", 40}, {"inspection_signed", 30}, {"inspection_guidelines", 40}, {"inspection_evidence", 30}} {
		s.Columns = append(s.Columns, sheet.Column{Title: p.say(c.code, nil), Width: c.width})
	}
	for _, section := range p.Sections {
		for _, r := range section.Rows {
			answer := r.AnswerText()
			if r.Blank() && (section.Form || i.Vendor != "") {
				answer = ""
			}
			s.Rows = append(s.Rows, []any{r.ClauseText(), r.ID, r.RequirementText(), r.QuestionText(), answer, r.AnsweredOn(), r.Due(), strings.Join(r.MachineLines(), " / "), r.EntriesText(),
				strings.Join(r.PersonLines(), " / "), r.SignedText(), strings.Join(r.MapLines(), " / "), p.Text(r.Evidence)})
		}
	}
	return []sheet.Sheet{s}
}

// inspection is a self-inspection in a language and an order.
type inspection struct {
	catalogue.Inspection
	lang     view.Language
	zone     *time.Location
	Sections []section
}

type section struct {
	catalogue.Section
	Heading, Note string
	Clauses       bool // the rows stand by the guideline's clauses
	Rows          []answer
}

// answer is a row.
type answer struct {
	catalogue.Row
	page *inspection
}

func inspectionOf(i catalogue.Inspection, order string, lang view.Language) *inspection {
	p := &inspection{Inspection: i, lang: lang, zone: Zone(i.Timezone)}
	for _, s := range i.In(order) {
		x := section{Section: s, Heading: p.say("inspection_by_number", nil), Clauses: s.Guideline != nil && !s.Rest}
		switch {
		case s.Rest:
			x.Heading = p.say("inspection_rest", view.Args{"guideline": p.Text(s.Guideline.Short)})
		case s.Guideline != nil:
			x.Heading = p.Text(s.Guideline.Title)
		}
		if s.Form {
			x.Note = p.say("inspection_form", nil)
		}
		for _, r := range s.Rows {
			x.Rows = append(x.Rows, answer{r, p})
		}
		p.Sections = append(p.Sections, x)
	}
	return p
}

func (p *inspection) say(code view.Code, args view.Args) string {
	return view.Say(code, args).In(p.lang)
}

// Text gives a text of the catalogue in the reader's language.
func (p *inspection) Text(t catalogue.Text) string { return t.In(p.lang) }

// At shows an instant.
func (p *inspection) At(t time.Time) string { return t.In(p.zone).Format("2006-01-02 15:04") }

// Title names the inspection.
func (p *inspection) Title() string {
	if p.Vendor != "" {
		return p.say("inspection_title_vendor", nil)
	}
	return p.say("inspection_title", nil)
}

// VendorText is the vendor's name.
func (p *inspection) VendorText() string { return cmp.Or(p.VendorName, p.Vendor) }

// TierText says which tier was inspected, and why.
func (p *inspection) TierText() string {
	args := view.Args{"tier": p.Tier, "needed": p.Needed, "reason": cmp.Or(p.Reason, "–")}
	switch {
	case p.Tier < p.Needed && p.Reason != "":
		return p.say("inspection_tier_reason", args)
	case p.Tier != p.Needed:
		return p.say("inspection_tier_other", view.Args{"tier": p.Tier, "needed": p.Needed})
	}
	return p.say("inspection_tier_is", view.Args{"tier": p.Tier})
}

// sum is how many controls have an answer.
type sum struct {
	Name, Class string
	Count       int
}

// classes are the styles of answers.
var classes = map[catalogue.Verdict]string{catalogue.Yes: "good", catalogue.No: "bad", catalogue.NA: "dim", catalogue.NotAssessed: "open"}

// Sums counts the answers.
func (p *inspection) Sums() (all []sum) {
	for _, v := range []catalogue.Verdict{catalogue.Yes, catalogue.No, catalogue.NA, catalogue.NotAssessed} {
		all = append(all, sum{v.Message().In(p.lang), classes[v], p.Counts[v]})
	}
	return all
}

// RequirementText says what the control asks for.
func (a answer) RequirementText() string { return a.page.Text(a.Requirement) }

// QuestionText is the question to a person; empty: nobody is asked.
func (a answer) QuestionText() string {
	if a.Question == nil {
		return ""
	}
	return a.page.Text(*a.Question)
}

// AnswerText is the answer in a word.
func (a answer) AnswerText() string { return a.Answer.Message().In(a.page.lang) }

// Class is the style of the answer.
func (a answer) Class() string { return classes[a.Answer] }

// Blank reports whether a form of yes and no has nothing to show.
func (a answer) Blank() bool { return a.Answer != catalogue.Yes && a.Answer != catalogue.No }

// AnsweredOn is the date of a yes or a no.
func (a answer) AnsweredOn() string {
	at := a.page.Answered(a.Result)
	if at == nil {
		return ""
	}
	return at.In(a.page.zone).Format(time.DateOnly)
}

// DueText says until when a no becomes a yes, and whether the form takes that date.
func (a answer) DueText() string {
	due := a.Due()
	switch {
	case a.Answer != catalogue.No:
		return ""
	case due == "":
		return a.page.say("inspection_no_target", nil)
	case catalogue.BeyondYear(due, a.page.AsOf.In(a.page.zone)):
		return a.page.say("inspection_target_late", view.Args{"date": due})
	}
	return a.page.say("inspection_target_is", view.Args{"date": due})
}

// ClauseText is the clause under which the row stands, with a mark if its text was not read.
func (a answer) ClauseText() string {
	if a.Clause == nil {
		return ""
	}
	return a.Clause.Clause + a.Clause.Mark()
}

// MapLines are the clauses that ask for the control, a line for each guideline.
func (a answer) MapLines() (lines []string) {
	for _, g := range a.page.Guidelines {
		var clauses []string
		for _, m := range a.Maps {
			if m.Guideline == g.ID && m.Edition == g.Edition {
				text := m.Clause + m.Mark()
				if m.Ours {
					text += a.page.say("inspection_ours", nil)
				}
				clauses = append(clauses, text)
			}
		}
		if clauses != nil {
			lines = append(lines, a.page.Text(g.Short)+" "+strings.Join(clauses, ", "))
		}
	}
	return lines
}

// MachineLines are the findings of the check, or the record's facts for the question.
func (a answer) MachineLines() (lines []string) {
	if m := a.Machine; m != nil {
		if a.page.Vendor == "" {
			lines = append(lines, m.Answer.Message().In(a.page.lang))
		}
		for _, f := range m.Findings {
			lines = append(lines, f.In(a.page.lang))
		}
	}
	for _, f := range a.Facts {
		lines = append(lines, f.In(a.page.lang))
	}
	return lines
}

// EntriesText names the entries that show it.
func (a answer) EntriesText() string {
	if a.Machine == nil || len(a.Machine.Entries) == 0 {
		return ""
	}
	return a.page.say("inspection_shown_by", view.Args{"entries": strings.Trim(strings.ReplaceAll(fmt.Sprint(a.Machine.Entries), " ", ", "), "[]")})
}

// PersonLines are a person's answer.
func (a answer) PersonLines() (lines []string) {
	g := a.Person
	switch {
	case g == nil && a.Question != nil && a.page.Vendor == "":
		return []string{a.page.say("inspection_ask", nil)}
	case g == nil:
		return nil
	}
	lines = []string{g.Answer.Message().In(a.page.lang)}
	if g.Text != "" {
		lines = append(lines, g.Text)
	}
	if g.TargetDate != "" {
		lines = append(lines, a.page.say("inspection_target_is", view.Args{"date": g.TargetDate}))
	}
	if g.Expired || g.Unjustified {
		lines = append(lines, a.page.say("inspect_void", nil))
	}
	return lines
}

// SignedText says who answered, when, and until when that holds.
func (a answer) SignedText() string {
	g := a.Person
	if g == nil {
		return ""
	}
	return a.page.say("inspection_signed_by", view.Args{"who": cmp.Or(g.For, g.By), "at": g.At.In(a.page.zone).Format(time.DateOnly), "until": g.Until.In(a.page.zone).Format(time.DateOnly), "entry": g.Entry})
}
