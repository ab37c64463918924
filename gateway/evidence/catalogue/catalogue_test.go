package catalogue

import (
	"fmt"
	"regexp"
	"testing"
	"testing/fstest"
	"time"

	"kidoban/gateway/view"
)

func TestCatalogue(t *testing.T) {
	b, err := load(files)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.controls) != 36 {
		t.Errorf("%d controls, want 36", len(b.controls))
	}
	japanese := regexp.MustCompile(`\p{Hiragana}|\p{Katakana}|\p{Han}`)
	for n, c := range b.controls {
		if want := fmt.Sprintf("%02d", n+1); c.ID != want {
			t.Errorf("control %s is where %s belongs", c.ID, want)
		}
		for _, text := range []*Text{&c.Requirement, &c.Evidence, c.Question, c.Vendor} {
			if text != nil && (!japanese.MatchString(text.Japanese) || text.English == "" || japanese.MatchString(text.English)) {
				t.Errorf("%s: %+v needs both languages", c.ID, *text)
			}
		}
		if len(c.Maps) == 0 {
			t.Errorf("%s: no guideline asks for it", c.ID)
		}
		for _, m := range c.Maps {
			if _, err := time.Parse(time.DateOnly, m.ReadOn); err != nil || m.Source == "" || m.Clause == "" {
				t.Errorf("%s: %+v lacks source, clause or read_on", c.ID, m)
			}
			if m.Guideline == "cl" && m.Clause == "2-⑬" && !m.Ours {
				t.Errorf("%s: 2-⑬ is our reading", c.ID)
			}
		}
	}
	for id, question := range map[string]bool{"01": true, "15": true, "02": false} {
		if (b.control(id).Question != nil) != question || b.control(id).Check == "" {
			t.Errorf("%s: a check, and a question: want %v", id, question)
		}
	}
}

// TestTiers: the number of controls that a machine checks, and of those that only a person answers.
func TestTiers(t *testing.T) {
	for tier, want := range map[int][2]int{1: {14, 6}, 2: {24, 10}, 3: {25, 11}} {
		var got [2]int
		for _, c := range data().controls {
			switch {
			case !c.in(tier):
			case c.Check != "":
				got[0]++
			default:
				got[1]++
			}
			if c.in(tier) && tier < 3 && !c.in(tier+1) {
				t.Errorf("%s is in tier %d and not in the next", c.ID, tier)
			}
		}
		if got != want {
			t.Errorf("tier %d has %d by machine and %d asked, want %d and %d", tier, got[0], got[1], want[0], want[1])
		}
	}
	if r := data().rhythm(3); r.Every != (Period{Days: 7}) || r.ValidFor != (Period{Months: 3}) {
		t.Errorf("tier 3 has the rhythm %+v", r)
	}
}

// TestBadCatalogues are refused.
func TestBadCatalogues(t *testing.T) {
	const guidelines = "- {id: x, edition: '1', short: {ja: あ, en: a}, title: {ja: あ, en: a}}"
	const good = "- {id: '01', requirement: {ja: あ, en: a}, check: windows, evidence: {ja: あ, en: a}, tiers: [1], maps: [{guideline: x, edition: '1', clause: c, status: text, source: s, read_on: 2026-11-29}]}"
	for name, part := range map[string]string{
		"":                            good,
		"check":                       `- {id: '01', check: nothing}`,
		"fact":                        `- {id: '01', check: windows, fact: nothing}`,
		"neither check nor question":  `- {id: '01'}`,
		"unknown field":               `- {id: '01', checks: windows}`,
		"needs a known guideline":     `- {id: '01', check: windows, maps: [{guideline: y, edition: '1', status: text, source: s, read_on: 2026-11-29}]}`,
		"status, source and read_on":  `- {id: '01', check: windows, maps: [{guideline: x, edition: '1', status: text, source: s, read_on: "2026"}]}`,
		"1 c needs a known guideline": `- {id: '01', check: windows, maps: [{guideline: x, edition: '1', clause: c, status: seen, source: s, read_on: 2026-11-29}]}`,
		"no period":                   `- {id: '01', check: windows, valid_for: 1y}`,
	} {
		_, err := load(fstest.MapFS{"guidelines.yaml": {Data: []byte(guidelines)}, "tiers.yaml": {Data: []byte("- {tier: 1, every: 1mo, valid_for: 1mo}")},
			"gate.yaml": {Data: []byte(part)}, "record.yaml": {Data: []byte("[]")}})
		if (err == nil) != (name == "") || err != nil && !regexp.MustCompile(regexp.QuoteMeta(name)).MatchString(err.Error()) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

// TestNothingUnverifiedIsPrinted: such maps are in the data, and in no inspection.
func TestNothingUnverifiedIsPrinted(t *testing.T) {
	all, printed := 0, 0
	for _, c := range data().controls {
		for _, m := range c.Maps {
			if m.Status == Unverified {
				all++
			}
		}
		for _, m := range c.Printed() {
			if m.Status != Read && m.Status != Secondary {
				printed++
			}
		}
	}
	if all == 0 || printed != 0 {
		t.Errorf("%d unverified maps in the data, %d in print: want some and none", all, printed)
	}
	if (Text{"あ", "a"}).In(view.Japanese) != "あ" || (Text{"あ", "a"}).In(view.English) != "a" {
		t.Error("a text has the wrong language")
	}
}
