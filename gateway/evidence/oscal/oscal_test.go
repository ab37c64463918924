package oscal

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/go-oscal/src/pkg/validation"

	"kidoban/gateway/evidence"
	"kidoban/gateway/evidence/catalogue"
	"kidoban/gateway/journal"
	"kidoban/gateway/view"
)

var jst = time.FixedZone("JST", 9*3600)

// sample is an inspection with one control of each answer, and with each mix of machine and person.
func sample() catalogue.Inspection {
	at := time.Date(2026, 11, 30, 9, 0, 0, 0, jst)
	until := at.AddDate(1, 0, 0)
	text := catalogue.Text{Japanese: "要件", English: "requirement"}
	machine := func(v catalogue.Verdict) *catalogue.Machine {
		return &catalogue.Machine{Answer: v, Findings: []view.Message{view.Say("inspect_synchronized", nil)}, Entries: []int64{3, 7}, From: at.AddDate(0, -1, 0)}
	}
	given := func(v catalogue.Verdict) *catalogue.Given {
		return &catalogue.Given{Entry: 9, Answer: v, Text: "院長が確認", Until: &until, At: at.AddDate(0, 0, -3), By: "tanaka", For: "田中 誠"}
	}
	no := given(catalogue.No)
	no.TargetDate = "2027-03-31"
	void := given(catalogue.Yes)
	void.Expired = true
	i := catalogue.Inspection{Version: 1, Site: "木戸市民病院", Origin: "kidoban/kido/1", Entries: evidence.Range{From: 0, To: 40}, Checkpoint: "kidoban/kido/1\n41\n", Verified: true, AsOf: at, Tier: 1, Needed: 2, Reason: "一病棟"}
	for n, x := range []catalogue.Result{
		{Answer: catalogue.Yes, Machine: machine(catalogue.Yes), Counts: true, Maps: []catalogue.Map{{Guideline: "cl", Edition: "R7", Clause: "2-⑬", Status: catalogue.Secondary, Ours: true}}},
		{Answer: catalogue.No, Machine: machine(catalogue.No), Person: given(catalogue.Yes), Counts: true},
		{Answer: catalogue.No, Question: &text, Person: no, Counts: true},
		{Answer: catalogue.NA, Machine: machine(catalogue.NotAssessed), Person: given(catalogue.NA), Counts: true},
		{Answer: catalogue.NotAssessed, Question: &text, Counts: true},
		{Answer: catalogue.NotAssessed, Question: &text, Person: void},
		{Answer: catalogue.Yes, Question: &text, Machine: machine(catalogue.Yes), Person: given(catalogue.Yes)},
	} {
		x.ID, x.Requirement, x.Every, x.ValidFor = string(rune('1'+n)), text, catalogue.Period{Months: 1}, catalogue.Period{Months: 12}
		i.Controls = append(i.Controls, x)
	}
	return i
}

// valid fails unless the document follows the schema of OSCAL.
func valid(t *testing.T, text []byte) {
	t.Helper()
	if problem := misfit(text); problem != "" {
		t.Errorf("%s\n%s", problem, text)
	}
}

func misfit(text []byte) string {
	v, err := validation.NewValidator(text)
	if err == nil {
		err = v.Validate()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func TestAssessmentResults(t *testing.T) {
	for _, lang := range []view.Language{view.Japanese, view.English} {
		text, err := AssessmentResults(sample(), lang)
		if err != nil {
			t.Fatal(err)
		}
		if lang == view.Japanese {
			valid(t, text)
		}
		if again, _ := AssessmentResults(sample(), lang); !bytes.Equal(again, text) {
			t.Error("the same inspection gives other bytes")
		}
		var doc document
		if err := json.Unmarshal(text, &doc); err != nil {
			t.Fatal(err)
		}
		r := doc.Results.Results[0]
		var findings, excluded, included []string
		for _, f := range r.Findings {
			findings = append(findings, f.Target.ID+" "+f.Target.Status.State)
			if len(f.Related) == 0 {
				t.Errorf("%s has no observation", f.Target.ID)
			}
		}
		for _, c := range r.ReviewedControls.Selections[0].Exclude {
			excluded = append(excluded, c.ID)
		}
		for _, c := range r.ReviewedControls.Selections[0].Include {
			included = append(included, c.ID)
		}
		if want := []string{"kidoban-1 satisfied", "kidoban-2 not-satisfied", "kidoban-3 not-satisfied", "kidoban-7 satisfied"}; !slices.Equal(findings, want) {
			t.Errorf("findings %v, want %v", findings, want)
		}
		if !slices.Equal(excluded, []string{"kidoban-4"}) || len(included) != 6 {
			t.Errorf("excluded %v, included %v", excluded, included)
		}
		methods := map[string][]string{}
		for _, o := range r.Observations {
			methods[o.Props[0].Value] = append(methods[o.Props[0].Value], o.Methods[0])
			if o.Expires == nil && o.Props[1].Value != string(catalogue.NotAssessed) {
				t.Errorf("%s does not expire", o.UUID)
			}
		}
		if got := methods["kidoban-7"]; !slices.Equal(got, []string{"TEST", "INTERVIEW"}) {
			t.Errorf("7 was observed by %v", got)
		}
		for n := range sample().Controls {
			if id := controlName(string(rune('1' + n))); len(methods[id]) == 0 {
				t.Errorf("%s has no observation", id)
			}
		}
		if len(r.Attestations) != 1 || len(r.Attestations[0].Parts) != 4 || len(doc.Results.Metadata.Parties) != 2 {
			t.Errorf("attestations %+v of %+v", r.Attestations, doc.Results.Metadata.Parties)
		}
		if !strings.HasPrefix(doc.Results.ImportAP.Href, "#"+doc.Results.BackMatter.Resources[0].UUID) {
			t.Errorf("import-ap is %s", doc.Results.ImportAP.Href)
		}
	}
}

// TestOneKindAlone follows the schema: where nothing is included, and where nothing is known.
func TestOneKindAlone(t *testing.T) {
	i := sample()
	i.Controls = i.Controls[3:4]
	text, err := AssessmentResults(i, view.Japanese)
	if err != nil {
		t.Fatal(err)
	}
	valid(t, text)
	r := evidence.NewRecord(nil)
	r.Add(journal.Entry{Kind: journal.Start, Time: i.AsOf})
	i, err = catalogue.Inspect(r, nil, catalogue.Options{Tier: 3})
	if err != nil {
		t.Fatal(err)
	}
	text, err = AssessmentResults(i, view.English)
	if err != nil {
		t.Fatal(err)
	}
	valid(t, text)
	if misfit(bytes.ReplaceAll(text, []byte(`"reviewed-controls"`), []byte(`"controls"`))) == "" {
		t.Error("a document without reviewed-controls is taken")
	}
}
