package catalogue

import (
	"slices"
	"strings"
	"time"

	"kidoban/gateway/view"
)

// ByID is the order of the catalogue itself.
const ByID = "catalogue"

// Orders are the words for the orders in which an inspection can be printed.
func Orders() []string {
	all := []string{}
	for _, g := range data().guidelines {
		if g.Order != "" {
			all = append(all, g.Order)
		}
	}
	return append(all, ByID)
}

// Section is a part of an inspection in print.
type Section struct {
	Guideline *Guideline // whose clauses order it; nil: the catalogue's numbers do
	Rest      bool       // controls for which no clause of the guideline was read
	Form      bool       // the guideline's own form: it knows yes and no alone
	Rows      []Row
}

// Row is a control in print, with the clause under which it stands.
type Row struct {
	Clause *Map // nil: it stands by its own number
	Result
}

// In gives the sections of an order, one of Orders: first the controls by the guideline's clauses, a
// control once for each of them, then the rest.
func (i Inspection) In(order string) []Section {
	var of *Guideline
	for _, g := range data().guidelines {
		if g.Order == order {
			of = g
		}
	}
	rest := Section{Guideline: of, Rest: of != nil}
	first := Section{Guideline: of}
	for _, x := range i.Controls {
		stands := false
		for _, m := range x.Maps {
			if of != nil && m.Guideline == of.ID && m.Edition == of.Edition {
				first.Rows, stands = append(first.Rows, Row{&m, x}), true
			}
		}
		if !stands {
			rest.Rows = append(rest.Rows, Row{nil, x})
		}
	}
	if of == nil {
		return []Section{rest}
	}
	first.Form = of.Form
	slices.SortStableFunc(first.Rows, func(a, b Row) int { return natural(a.Clause.Clause, b.Clause.Clause) })
	return slices.DeleteFunc([]Section{first, rest}, func(s Section) bool { return len(s.Rows) == 0 })
}

// natural orders clauses as people do: AC-2(3) before AC-2(11).
func natural(a, b string) int {
	for a != "" && b != "" {
		x, y := leading(a), leading(b)
		a, b = a[len(x):], b[len(y):]
		if isDigit(x[0]) && isDigit(y[0]) && len(x) != len(y) {
			return len(x) - len(y)
		}
		if order := strings.Compare(x, y); order != 0 {
			return order
		}
	}
	return len(a) - len(b)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// leading is the number, or the text without digits, that a text begins with.
func leading(text string) string {
	n := 1
	for n < len(text) && isDigit(text[n]) == isDigit(text[0]) {
		n++
	}
	return text[:n]
}

// Ours reports whether the row's clause means this by our reading alone.
func (r Row) Ours() bool { return r.Clause != nil && r.Clause.Ours }

// Answered is when the answer was found or given; nil: there is no yes or no.
func (i Inspection) Answered(x Result) *time.Time {
	switch {
	case x.Answer != Yes && x.Answer != No:
		return nil
	case x.Machine != nil && (x.Machine.Answer == No || x.Person == nil || x.Person.verdict() != x.Answer):
		return &i.AsOf
	}
	return &x.Person.At
}

// Due is the target date of a no; empty: nobody gave one.
func (x Result) Due() string {
	if x.Answer == No && x.Person != nil && !x.Person.Expired {
		return x.Person.TargetDate
	}
	return ""
}

// BeyondYear reports whether a date lies after the fiscal year of an instant, which ends on 31 March.
func BeyondYear(date string, at time.Time) bool {
	year, month, _ := at.Date()
	if month > time.March {
		year++
	}
	return date > time.Date(year, time.March, 31, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
}

// Mark marks a clause whose own text was not read.
func (m Map) Mark() string {
	if m.Status == Secondary {
		return " ※"
	}
	return ""
}

// Why gives the reasons of the answer: the person's words, then the findings in the record.
func (x Result) Why(l view.Language) (texts []string) {
	if g := x.Person; g != nil {
		said := g.Answer.Message().In(l)
		if g.Text != "" {
			said += ": " + g.Text
		}
		texts = append(texts, said)
		if due := x.Due(); due != "" {
			texts = append(texts, view.Say("inspection_target_is", view.Args{"date": due}).In(l))
		}
	}
	if x.Machine != nil {
		for _, f := range x.Machine.Findings {
			texts = append(texts, f.In(l))
		}
	}
	for _, f := range x.Facts {
		texts = append(texts, f.In(l))
	}
	if x.Question != nil && x.Person == nil {
		texts = append(texts, view.Say("inspection_ask", nil).In(l))
	}
	return texts
}
