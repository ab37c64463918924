package catalogue

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/evidence"
	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// TestPersonNeverBeatsTheMachine: its no stands, beside what the person says.
func TestPersonNeverBeatsTheMachine(t *testing.T) {
	until := at("2027-05-01 00:00")
	for _, test := range []struct {
		name   string
		no     bool // the machine says no
		answer evidence.Answer
		want   Verdict
	}{
		{"nothing", false, evidence.Answer{}, Yes},
		{"yes", false, evidence.Answer{Answer: "yes"}, Yes},
		{"no", false, evidence.Answer{Answer: "no", TargetDate: "2027-03-31"}, No},
		{"na", false, evidence.Answer{Answer: "na", Text: "x", Until: until}, NA},
		{"na without a reason", false, evidence.Answer{Answer: "na", Until: until}, Yes},
		{"na without an end", false, evidence.Answer{Answer: "na", Text: "x"}, Yes},
		{"machine no, nothing", true, evidence.Answer{}, No},
		{"machine no, yes", true, evidence.Answer{Answer: "yes", Text: "it is fine"}, No},
		{"machine no, na", true, evidence.Answer{Answer: "na", Text: "x", Until: until}, No},
	} {
		f := good()
		if test.no {
			f.add(journal.Entry{Kind: journal.SessionOpened, Time: at("2026-11-28 22:30"), Vendor: "medisys", Engineer: "sato", Session: "S2", Source: "203.0.113.11"})
		}
		if test.answer.Answer != "" {
			test.answer.Control = "12"
			f.answer("2026-11-29 10:00", test.answer)
		}
		x := control(t, f.inspect(t), "12")
		if x.Answer != test.want {
			t.Errorf("%s: the answer is %s, want %s", test.name, x.Answer, test.want)
		}
		if test.answer.Answer != "" && (x.Person == nil || string(x.Person.Answer) != test.answer.Answer) {
			t.Errorf("%s: the person's answer is not shown: %+v", test.name, x.Person)
		}
		if test.no && len(x.Machine.Entries) == 0 {
			t.Errorf("%s: the no names no entries", test.name)
		}
	}
}

// TestAnswersExpire: after valid_for, and after their own end, they are not assessed.
func TestAnswersExpire(t *testing.T) {
	for _, test := range []struct {
		when  string
		until time.Time
		want  Verdict
	}{
		{"2025-12-01 10:00", time.Time{}, Yes},
		{"2025-11-29 10:00", time.Time{}, NotAssessed}, // a year in tier 1
		{"2026-11-01 10:00", at("2026-11-20 00:00"), NotAssessed},
		{"2026-11-01 10:00", at("2026-12-20 00:00"), Yes},
		{"2026-12-01 10:00", time.Time{}, NotAssessed}, // not given yet
	} {
		f := good()
		f.answer(test.when, evidence.Answer{Control: "10", Answer: "yes", For: "院長", Until: test.until})
		r := f.record(t)
		i, err := Inspect(r, f.live, f.options)
		if err != nil {
			t.Fatal(err)
		}
		x := control(t, i, "10")
		if x.Answer != test.want {
			t.Errorf("an answer of %s until %v: %s, want %s", test.when, test.until, x.Answer, test.want)
		}
	}
}

// TestAlwaysAsked: of 01 and 15 the machine's yes is not enough.
func TestAlwaysAsked(t *testing.T) {
	f := good()
	for _, id := range []string{"01", "15"} {
		if x := control(t, f.inspect(t), id); x.Machine.Answer != Yes || x.Answer != NotAssessed {
			t.Errorf("%s without an answer: %s, want not_assessed", id, x.Answer)
		}
		f.answer("2026-11-29 10:00", evidence.Answer{Control: id, Answer: "yes"})
		if x := control(t, f.inspect(t), id); x.Answer != Yes {
			t.Errorf("%s with a yes: %s", id, x.Answer)
		}
	}
}

// TestTierOfTheInspection: the policy's, or another one that is asked for.
func TestTierOfTheInspection(t *testing.T) {
	for _, test := range []struct {
		site         string
		tier         int
		want, needed int
		controls     int
	}{
		{"Town", 0, 2, 2, 34},
		{"Town", 1, 1, 2, 20},
		{"{name: Town, size: small, sensitivity: none}", 0, 1, 1, 20},
		{"{name: Town, tier: 1, reason: one ward}", 0, 1, 2, 20},
		{"{name: Town, size: large}", 0, 3, 3, 36},
	} {
		f := good()
		f.site, f.options.Tier = test.site, test.tier
		i := f.inspect(t)
		if i.Tier != test.want || i.Needed != test.needed || len(i.Controls) != test.controls {
			t.Errorf("%s, %d: tier %d of %d with %d controls, want %+v", test.site, test.tier, i.Tier, i.Needed, len(i.Controls), test)
		}
		sum := 0
		for _, n := range i.Counts {
			sum += n
		}
		counting := 0
		for _, x := range i.Controls {
			if x.Counts {
				counting++
			}
		}
		if sum != counting || test.want > 1 && counting == len(i.Controls) {
			t.Errorf("%s: %d controls are counted, want %d of %d", test.site, sum, counting, len(i.Controls))
		}
	}
	for _, o := range []Options{{Tier: 4}, {Tier: -1}, {Vendor: "nobody"}} {
		if _, err := Inspect(good().record(t), nil, o); err == nil {
			t.Errorf("%+v is inspected", o)
		}
	}
	r := evidence.NewRecord(nil)
	if _, err := Inspect(r, nil, Options{}); err == nil {
		t.Error("an empty journal is inspected")
	}
	r.Add(journal.Entry{Kind: journal.Start, Time: at("2026-11-30 09:00")})
	if i, err := Inspect(r, nil, Options{}); err != nil || i.Counts[Yes] != 0 || len(i.Controls) != 34 {
		t.Errorf("a journal that has just begun: %v, %v", i.Counts, err)
	}
}

// TestVendorForm: it has what vendors are asked, with facts of this vendor alone; the rest is blank.
func TestVendorForm(t *testing.T) {
	f := good()
	f.options.Vendor = "medisys"
	f.answer("2026-11-29 10:00", evidence.Answer{Control: "12", Answer: "yes"}) // the site's
	f.answer("2026-11-29 10:00", evidence.Answer{Control: "24", Vendor: "medisys", Answer: "yes"})
	f.answer("2026-11-29 10:00", evidence.Answer{Control: "14", Vendor: "other", Answer: "yes"})
	i := f.inspect(t)
	if i.VendorName != "株式会社メディシス" {
		t.Errorf("the vendor's name is %q", i.VendorName)
	}
	for _, x := range i.Controls {
		want := NotAssessed
		if x.ID == "24" {
			want = Yes
		}
		if x.Question == nil || x.Answer != want || x.Question != data().control(x.ID).Vendor {
			t.Errorf("%s: %s, want %s, with the vendor's question", x.ID, x.Answer, want)
		}
	}
	if x := control(t, i, "11"); !strings.Contains(x.Facts[0].In(view.Japanese), "ehr-db (10.1.0.5)") {
		t.Errorf("the facts of 11 are %v", x.Facts)
	}
	if x := control(t, i, "12"); !strings.Contains(x.Machine.Findings[0].In(view.Japanese), "佐藤") {
		t.Errorf("the findings of 12 are %v", x.Machine.Findings)
	}
}

// TestNoUnverifiedMapInAnInspection, whatever is asked.
func TestNoUnverifiedMapInAnInspection(t *testing.T) {
	for tier := 1; tier <= 3; tier++ {
		for _, vendor := range []string{"", "medisys"} {
			f := good()
			f.options.Tier, f.options.Vendor = tier, vendor
			text, err := json.Marshal(f.inspect(t))
			if err != nil {
				t.Fatal(err)
			}
			for _, word := range []string{string(Unverified), "§14⑤", "RE 2", "CISA", "7.0"} {
				if strings.Contains(string(text), word) {
					t.Errorf("tier %d, vendor %q: the inspection has %q", tier, vendor, word)
				}
			}
		}
	}
}

func TestSameRecordSameInspection(t *testing.T) {
	f := good()
	r := f.record(t)
	var texts []string
	for range 3 {
		i, err := Inspect(r, nil, f.options)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(i)
		texts = append(texts, string(text))
	}
	if slices.Sort(texts); texts[0] != texts[2] {
		t.Error("the same record gives different inspections")
	}
}

func TestCheckAnswer(t *testing.T) {
	now := at("2026-11-30 09:00")
	p := &policy.Policy{Zone: now.Location(), Vendors: []*policy.Vendor{{Name: "medisys"}}}
	year := at("2027-11-30 00:00")
	for _, a := range []evidence.Answer{
		{Control: "10", Answer: "yes"},
		{Control: "10", Answer: "no", TargetDate: "2026-11-30"},
		{Control: "02", Answer: "na", Text: "no such thing", Until: year},
		{Control: "12", Answer: "yes", Vendor: "medisys", For: "社長"},
	} {
		if err := CheckAnswer(a, p, now); err != nil {
			t.Errorf("%+v: %v", a, err)
		}
	}
	for _, test := range []struct {
		answer evidence.Answer
		want   []view.Code
	}{
		{evidence.Answer{Control: "37", Answer: "maybe"}, []view.Code{"answer_control", "answer_word"}},
		{evidence.Answer{Control: "10", Answer: "no"}, []view.Code{"answer_target_date"}},
		{evidence.Answer{Control: "10", Answer: "no", TargetDate: "2026-11-29"}, []view.Code{"answer_target_date"}},
		{evidence.Answer{Control: "10", Answer: "no", TargetDate: "soon"}, []view.Code{"answer_target_date"}},
		{evidence.Answer{Control: "10", Answer: "yes", TargetDate: "2027-01-01"}, []view.Code{"answer_no_target_date"}},
		{evidence.Answer{Control: "10", Answer: "na"}, []view.Code{"answer_justify", "answer_until_needed"}},
		{evidence.Answer{Control: "10", Answer: "na", Text: "x", Until: now}, []view.Code{"answer_until"}},
		{evidence.Answer{Control: "10", Answer: "na", Text: "x", Until: at("2028-11-30 00:00")}, []view.Code{"answer_until"}},
		{evidence.Answer{Control: "02", Answer: "yes", Vendor: "x"}, []view.Code{"answer_vendor", "answer_not_asked"}},
		{evidence.Answer{Control: "10", Answer: "yes", Text: strings.Repeat("あ", 2001), For: strings.Repeat("あ", 201)}, []view.Code{"answer_long", "answer_long"}},
	} {
		err, _ := CheckAnswer(test.answer, p, now).(*view.Error)
		if err == nil {
			t.Errorf("%+v is taken", test.answer)
			continue
		}
		var got []view.Code
		for _, m := range err.Args["mistakes"].([]view.Message) {
			got = append(got, m.Code)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%+v: %v, want %v", test.answer, got, test.want)
		}
	}
}
