package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/policy"
)

func TestReporting(t *testing.T) {
	with := func(text string) []byte { return []byte("reporting: " + text + "\n" + string(exampleYAML)) }
	p, _, err := parseTest(t, "p", with("[{name: 総務省, for: [municipality], kind: report, within: 3d, contact: 03-0000-0000}, {name: NCO, kind: copy, consent: required}]"))
	if err != nil {
		t.Fatal(err)
	}
	want := []policy.Recipient{{Name: "総務省", For: []string{"municipality"}, Kind: "report", Within: 72 * time.Hour, Contact: "03-0000-0000"},
		{Name: "NCO", For: []string{}, Kind: "copy", Consent: true}}
	if !reflect.DeepEqual(p.Reporting, want) {
		t.Errorf("read as %+v, want %+v", p.Reporting, want)
	}
	for text, want := range map[string]string{
		"[]":                                     "p:1:12: reporting: is an empty list",
		"[{name: NCO}]":                          "p:1:13: reporting: the field kind is missing",
		"[{name: NCO, kind: mail}]":              `"mail" is not allowed: allowed is report or copy`,
		"[{name: NCO, kind: copy, for: [bank]}]": `"bank" is not allowed`,
		"[{name: NCO, kind: copy, for: [hospital, hospital]}]": "is there already: allowed is each once",
		"[{name: NCO, kind: copy, within: soon}]":              "soon",
		"[{name: NCO, kind: copy, consent: no}]":               "required",
		"[{name: NCO, kind: copy, mail: x}]":                   "mail",
		"[{name: NCO, kind: copy}, {name: NCO, kind: report}]": "is a recipient already: allowed is each once",
	} {
		if _, _, err := parseTest(t, "p", with(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
