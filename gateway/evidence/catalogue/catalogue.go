// Package catalogue has the controls that guidelines ask of remote maintenance, as data, and
// answers them from the record of a journal. It is pure: the same record gives the same answers.
//
//	*.yaml         the controls, guidelines and tiers
//	catalogue.go   reads them
//	inspect.go     the answers of an inspection
//	check*.go      the checks by machine
//	facts.go       what the record says to persons who are asked
//	answer.go      the answers of persons
//	order.go       the order in which they are printed
package catalogue

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml"

	"kidoban/gateway/view"
)

//go:embed *.yaml
var files embed.FS

// Text is a text in both languages.
type Text struct {
	Japanese string `yaml:"ja" json:"ja"`
	English  string `yaml:"en" json:"en"`
}

// In gives the text in a language.
func (t Text) In(l view.Language) string {
	if l == view.Japanese {
		return t.Japanese
	}
	return t.English
}

// Control is an entry of the catalogue: one thing that guidelines ask for, in our own words.
type Control struct {
	ID          string `yaml:"id"` // 01 to 36
	Requirement Text   `yaml:"requirement"`
	Check       string `yaml:"check"`    // the check by machine; empty: a person is asked
	Fact        string `yaml:"fact"`     // the record's facts for the person; may be empty
	Question    *Text  `yaml:"question"` // for the site; nil: the check is enough
	Vendor      *Text  `yaml:"vendor"`   // for each vendor; nil: vendors are not asked
	Evidence    Text   `yaml:"evidence"`
	Tiers       []int  `yaml:"tiers"`
	ValidFor    Period `yaml:"valid_for"` // instead of the tier's rhythm; zero: that of the tier
	Counts      *bool  `yaml:"counts"`    // false: it is shown, and is no evidence of anything else
	Maps        []Map  `yaml:"maps"`
}

// Status says how a clause became known.
type Status string

// The statuses. What is Unverified is never printed.
const (
	Read       Status = "text"      // the clause's text was read
	Secondary  Status = "secondary" // a draft, a table or a quotation was read
	Unverified Status = "unverified"
)

// Map says that a clause of a guideline asks for the control.
type Map struct {
	Guideline string `yaml:"guideline" json:"guideline"` // an id of guidelines.yaml
	Edition   string `yaml:"edition" json:"edition"`
	Clause    string `yaml:"clause" json:"clause"`
	Status    Status `yaml:"status" json:"status"`
	Source    string `yaml:"source" json:"source"`   // where it was read
	ReadOn    string `yaml:"read_on" json:"read_on"` // YYYY-MM-DD
	Ours      bool   `yaml:"ours" json:"our_reading,omitempty"`
	Note      string `yaml:"note" json:"note,omitempty"`
}

// Guideline is an edition of a guideline.
type Guideline struct {
	ID      string `yaml:"id" json:"id"`
	Edition string `yaml:"edition" json:"edition"`
	Order   string `yaml:"order" json:"-"` // the word of an order; empty: none prints in its order
	Form    bool   `yaml:"form" json:"-"`  // its printed form knows yes and no alone
	Short   Text   `yaml:"short" json:"short"`
	Title   Text   `yaml:"title" json:"title"`
}

// rhythm is how often a tier inspects.
type rhythm struct {
	Tier     int    `yaml:"tier"`
	Every    Period `yaml:"every"`     // checks by machine; they look as far back
	ValidFor Period `yaml:"valid_for"` // answers of persons
}

// Period is a time of whole days or months, written as in 7d or 6mo.
type Period struct{ Months, Days int }

// String is the notation of the catalogue.
func (p Period) String() string {
	if p.Months > 0 {
		return strconv.Itoa(p.Months) + "mo"
	}
	return strconv.Itoa(p.Days) + "d"
}

// UnmarshalText reads String.
func (p *Period) UnmarshalText(text []byte) error {
	unit, number := &p.Days, strings.TrimSuffix(string(text), "d")
	if months, ok := strings.CutSuffix(string(text), "mo"); ok {
		unit, number = &p.Months, months
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || number == string(text) {
		return fmt.Errorf("%q is no period: allowed is as in 7d or 6mo", text)
	}
	*unit = n
	return nil
}

// MarshalText is String.
func (p Period) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// After is the instant at the end of a period that begins with t.
func (p Period) After(t time.Time) time.Time { return t.AddDate(0, p.Months, p.Days) }

// before is the beginning of a period that ends with t.
func (p Period) before(t time.Time) time.Time { return t.AddDate(0, -p.Months, -p.Days) }

// counts reports whether the control counts in the sums.
func (c *Control) counts() bool { return c.Counts == nil || *c.Counts }

// in reports whether a tier has the control.
func (c *Control) in(tier int) bool { return slices.Contains(c.Tiers, tier) }

// Printed are the maps that may be printed, in the catalogue's order.
func (c *Control) Printed() []Map {
	return slices.DeleteFunc(slices.Clone(c.Maps), func(m Map) bool { return m.Status != Read && m.Status != Secondary })
}

// book is all data of the catalogue.
type book struct {
	controls   []*Control
	guidelines []*Guideline
	rhythms    []rhythm
}

// data reads the files once. Their test keeps them free of mistakes.
var data = sync.OnceValue(func() *book {
	b, err := load(files)
	if err != nil {
		panic(err)
	}
	return b
})

// load reads and checks the catalogue.
func load(from fs.FS) (*book, error) {
	b := &book{}
	for name, into := range map[string]any{"guidelines.yaml": &b.guidelines, "tiers.yaml": &b.rhythms} {
		if err := decode(from, name, into); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"gate.yaml", "record.yaml"} {
		var part []*Control
		if err := decode(from, name, &part); err != nil {
			return nil, err
		}
		b.controls = append(b.controls, part...)
	}
	for _, c := range b.controls {
		if err := b.check(c); err != nil {
			return nil, fmt.Errorf("control %s: %w", c.ID, err)
		}
	}
	return b, nil
}

func decode(from fs.FS, name string, into any) error {
	text, err := fs.ReadFile(from, name)
	if err == nil {
		err = yaml.UnmarshalWithOptions(text, into, yaml.Strict())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// check refuses a control that cannot be inspected, or a map that does not say where it comes from.
func (b *book) check(c *Control) error {
	if c.Check != "" && checks[c.Check] == nil {
		return fmt.Errorf("there is no check %q", c.Check)
	}
	if c.Fact != "" && facts[c.Fact] == nil {
		return fmt.Errorf("there is no fact %q", c.Fact)
	}
	if c.Check == "" && c.Question == nil {
		return fmt.Errorf("has neither check nor question")
	}
	for _, m := range c.Maps {
		if _, err := time.Parse(time.DateOnly, m.ReadOn); err != nil || m.Source == "" || b.guideline(m) == nil ||
			!slices.Contains([]Status{Read, Secondary, Unverified}, m.Status) {
			return fmt.Errorf("%s %s %s needs a known guideline and edition, a status, source and read_on", m.Guideline, m.Edition, m.Clause)
		}
	}
	return nil
}

// guideline is the edition that a map names, or nil.
func (b *book) guideline(m Map) *Guideline {
	for _, g := range b.guidelines {
		if g.ID == m.Guideline && g.Edition == m.Edition {
			return g
		}
	}
	return nil
}

// control is the control with an id, or nil.
func (b *book) control(id string) *Control {
	for _, c := range b.controls {
		if c.ID == id {
			return c
		}
	}
	return nil
}

// rhythm returns the rhythm of a tier.
func (b *book) rhythm(tier int) rhythm { return b.rhythms[tier-1] }
