package e2e

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// language is one in which dashboards are written: the folder of its files.
type language string

const (
	english  language = ""
	japanese language = "ja"
)

// dashboard has what the tests need of a file that Grafana reads.
type dashboard struct {
	UID, Title, Description string
	Annotations             struct{ List []annotation }
	Panels                  []*panel
}

type annotation struct {
	Name, TitleFormat string
	UseValueForTime   bool
	Target            target
}

type target struct {
	RefID, Expr, LegendFormat, Format string
	Instant                           bool
}

type panel struct {
	Type, Title, Description string
	TimeFrom                 string // another period than the dashboard's: "+24h" is ahead
	Targets                  []target
	FieldConfig              struct {
		Defaults struct {
			Unit, NoValue string
			Mappings      mappings
		}
		Overrides []override
	}
	Transformations []struct {
		Options struct {
			IndexByName  map[string]int
			RenameByName map[string]string
		}
	}
	MayBeEmpty string `json:"-"` // why the panel may rightly show nothing; empty: it may not
}

// override sets options of the fields whose names it matches.
type override struct {
	Matcher    struct{ ID, Options string }
	Properties []struct {
		ID    string
		Value json.RawMessage
	}
}

// get reads an option; without it the value stays.
func (o override) get(id string, value any) {
	for _, p := range o.Properties {
		if p.ID == id {
			if err := json.Unmarshal(p.Value, value); err != nil {
				panic(err) // the tests of package dashboards hold the file against Grafana's types
			}
		}
	}
}

// mappings say words instead of values.
type mappings []struct {
	Options map[string]struct{ Text string }
}

func (m mappings) words(value string) (string, bool) {
	for _, one := range m {
		if r, ok := one.Options[value]; ok {
			return r.Text, true
		}
	}
	return "", false
}

// tableColumn is a column of a table: a label, or the value of a query ("Value" of the only query,
// "Value #A" of several).
type tableColumn struct {
	field, title, unit string
	mappings           mappings
}

// columns gives the columns of a table in their order.
func (p *panel) columns() (all []tableColumn) {
	for _, t := range p.Transformations {
		place := t.Options.IndexByName
		for field, title := range t.Options.RenameByName {
			c := tableColumn{field: field, title: title}
			for _, o := range p.FieldConfig.Overrides {
				if o.Matcher.ID == "byName" && o.Matcher.Options == title {
					o.get("unit", &c.unit)
					o.get("mappings", &c.mappings)
				}
			}
			all = append(all, c)
		}
		slices.SortFunc(all, func(a, b tableColumn) int { return cmp.Compare(place[a.field], place[b.field]) })
	}
	return all
}

// bucketName gives a histogram's bucket its name; "" where it has none.
func (p *panel) bucketName(bound string) (name string) {
	for _, o := range p.FieldConfig.Overrides {
		if o.Matcher.ID == "byRegexp" && regexp.MustCompile(strings.Trim(o.Matcher.Options, "/")).MatchString(bound) {
			o.get("displayName", &name)
		}
	}
	return name
}

// mayBeEmpty says of panels, by their English titles, why they may rightly show nothing.
var mayBeEmpty = map[string]string{
	"Age of the copy elsewhere":     "no witness has cosigned, and nobody has copied",
	"Why it is shut":                "it shows only what is wrong, and nothing is",
	"Alerts":                        "no alert is firing",
	"Who is inside, and until when": "nobody is inside",
	"Refused: who, and why":         "nobody was refused",
	"Refused: which engineer, when": "no engineer was refused",
	"Time left of the next end":     "nobody is inside",
	"Contract ends in":              "the policy names no end of the contract",
	"Duration of sessions":          "it shows a value only around a session's end",
	"Refused, and why":              "nobody was refused",
	"Closing lag":                   "it shows a value only around a closing",
	"Time to set the ruleset":       "it shows a value only when the rules change",
}

// dashboardNames are the files' names.
var dashboardNames = []string{"gate", "vendor", "appliance"}

// dashboard reads a dashboard. Its panels are in the same order in both languages.
func (g *ground) dashboard(name string, l language) *dashboard {
	g.t.Helper()
	read := func(l language) (d *dashboard) {
		text, err := os.ReadFile(filepath.Join("../../dashboards", string(l), name+".json"))
		g.check(err)
		g.check(json.Unmarshal(text, &d))
		return d
	}
	d, in := read(l), read(english)
	for i, p := range d.Panels {
		p.MayBeEmpty = mayBeEmpty[in.Panels[i].Title]
		if p.MayBeEmpty != "" && p.FieldConfig.Defaults.NoValue == "" && p.Type != "timeseries" {
			g.t.Errorf("%s, %s: may be empty, and does not say what that means", d.UID, p.Title)
		}
	}
	return d
}
