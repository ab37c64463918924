package catalogue

import (
	"slices"
	"time"
	"unicode/utf8"

	"kidoban/gateway/evidence"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// Verdict answers a control.
type Verdict string

// The verdicts.
const (
	Yes         Verdict = "yes"
	No          Verdict = "no"
	NA          Verdict = "na"           // not applicable
	NotAssessed Verdict = "not_assessed" // nobody answered, or there is no data
)

// verdicts are the words for verdicts.
var verdicts = map[Verdict]view.Code{Yes: "inspect_yes", No: "inspect_answer_no", NA: "inspect_na", NotAssessed: "inspect_not_assessed"}

// Message is the word for the verdict.
func (v Verdict) Message() view.Message { return view.Say(verdicts[v], nil) }

// Bounds of answers, in characters, and of how long one may hold.
const (
	maxAnswer = 2000
	maxPerson = 200
	maxHold   = 366 * 24 * time.Hour
)

// CheckAnswer says all that is wrong with the answer of a person, or nil. p is the policy in force:
// it has the vendors' names and the zone of dates; nil: there is none.
func CheckAnswer(a evidence.Answer, p *policy.Policy, now time.Time) error {
	var wrong []view.Message
	say := func(when bool, code view.Code, args view.Args) {
		if when {
			wrong = append(wrong, view.Say(code, args))
		}
	}
	c := data().control(a.Control)
	say(c == nil, "answer_control", view.Args{"control": a.Control})
	say(!slices.Contains([]Verdict{Yes, No, NA}, Verdict(a.Answer)), "answer_word", view.Args{"answer": a.Answer})
	if a.Vendor != "" {
		say(p == nil || p.Vendor(a.Vendor) == nil, "answer_vendor", view.Args{"vendor": a.Vendor})
		say(c != nil && c.Vendor == nil, "answer_not_asked", view.Args{"control": a.Control, "asked": askedOfVendors()})
	}
	say(utf8.RuneCountInString(a.Text) > maxAnswer, "answer_long", view.Args{"field": "text", "most": maxAnswer})
	say(utf8.RuneCountInString(a.For) > maxPerson, "answer_long", view.Args{"field": "for", "most": maxPerson})
	wrong = append(wrong, wrongDates(a, p, now)...)
	if len(wrong) == 0 {
		return nil
	}
	return &view.Error{Message: view.Say("answer_wrong", view.Args{"mistakes": wrong})}
}

// wrongDates says what is wrong with the dates of an answer, and with its reason.
func wrongDates(a evidence.Answer, p *policy.Policy, now time.Time) (wrong []view.Message) {
	say := func(when bool, code view.Code) {
		if when {
			wrong = append(wrong, view.Say(code, nil))
		}
	}
	zone := time.UTC
	if p != nil {
		zone = p.Zone
	}
	_, err := time.Parse(time.DateOnly, a.TargetDate)
	past := a.TargetDate < now.In(zone).Format(time.DateOnly)
	verdict := Verdict(a.Answer)
	say(verdict == No && (err != nil || past), "answer_target_date")
	say(verdict != No && a.TargetDate != "", "answer_no_target_date")
	say(verdict == NA && a.Text == "", "answer_justify")
	say(verdict == NA && a.Until.IsZero(), "answer_until_needed")
	say(!a.Until.IsZero() && (!a.Until.After(now) || a.Until.Sub(now) > maxHold), "answer_until")
	return wrong
}

// askedOfVendors are the ids of the controls of which vendors are asked.
func askedOfVendors() (all []string) {
	for _, c := range data().controls {
		if c.Vendor != nil {
			all = append(all, c.ID)
		}
	}
	return all
}

// Given is the newest answer of a person.
type Given struct {
	Entry      int64      `json:"entry"`
	Answer     Verdict    `json:"answer"`
	Text       string     `json:"text,omitempty"`
	TargetDate string     `json:"target_date,omitempty"`
	Until      *time.Time `json:"until"` // after which it counts no more
	At         time.Time  `json:"at"`
	By         string     `json:"by"` // the login
	For        string     `json:"for,omitempty"`
	Expired    bool       `json:"expired,omitempty"`
	// Unjustified says that it does not count: it is not applicable without a reason or an expiry.
	Unjustified bool `json:"unjustified,omitempty"`
}

// verdict is what the answer counts as.
func (g *Given) verdict() Verdict {
	if g == nil || g.Expired || g.Unjustified {
		return NotAssessed
	}
	return g.Answer
}

// given finds the newest answer to a control: of a vendor, or of the site (empty).
func given(r *evidence.Record, control, vendor string, holds Period, at time.Time, zone *time.Location) *Given {
	for _, s := range slices.Backward(r.Answers) {
		if s.Is.Control != control || s.Is.Vendor != vendor || s.At.After(at) {
			continue
		}
		until := holds.After(s.At)
		if !s.Is.Until.IsZero() && s.Is.Until.Before(until) {
			until = s.Is.Until
		}
		until = until.In(zone)
		g := &Given{Entry: s.Entry, Answer: Verdict(s.Is.Answer), Text: s.Is.Text, TargetDate: s.Is.TargetDate, Until: &until, At: s.At.In(zone), By: s.Actor, For: s.Is.For,
			Expired: !at.Before(until)}
		switch g.Answer {
		case Yes, No:
		case NA:
			g.Unjustified = g.Text == "" || s.Is.Until.IsZero()
		default:
			g.Unjustified = true
		}
		return g
	}
	return nil
}

// merged is the answer of machine and person together. A machine's no stands, whatever a person says.
func merged(machine *Machine, asked bool, person *Given) Verdict {
	said := person.verdict()
	switch {
	case machine == nil:
		return said
	case machine.Answer == No || said == No:
		return No
	case said == NA:
		return NA
	case machine.Answer == Yes && (!asked || said == Yes):
		return Yes
	}
	return NotAssessed
}
