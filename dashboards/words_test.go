package dashboards

import (
	_ "embed"

	"github.com/goccy/go-yaml"
)

//go:embed words.yaml
var wordsFile []byte

// words has the texts of words.yaml.
var words = func() (w struct {
	Panels                                                map[string]map[string][3]string
	Columns, Reasons, Endings, Causes, Doubts, Severities map[string][2]string
	Alerts                                                map[string][3]string
	Durations                                             [][3]string
}) {
	if err := yaml.UnmarshalWithOptions(wordsFile, &w, yaml.Strict()); err != nil {
		panic(err)
	}
	return w
}()

// said gives texts in the language.
func (b builder) said(texts map[string][2]string) map[string]string {
	all := map[string]string{}
	for value, text := range texts {
		all[value] = text[b.language]
	}
	return all
}

// alerts gives for each alert its meaning and its runbook.
func (b builder) alerts() (meanings, runbooks map[string]string) {
	meanings, runbooks = map[string]string{}, map[string]string{}
	for alert, a := range words.Alerts {
		meanings[alert], runbooks[alert] = a[1+b.language], "docs/runbooks/"+b.language.folder()+a[0]+".md"
	}
	return meanings, runbooks
}

// durations names the buckets in which sessions' durations are counted.
func (b builder) durations() (all []Naming) {
	for _, d := range words.Durations {
		all = append(all, Naming{d[0], d[1+b.language]})
	}
	return all
}
